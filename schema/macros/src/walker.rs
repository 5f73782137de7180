//! Walkers.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    DeriveInput, Error, Field, GenericArgument, Ident, LitInt, LitStr, PathArguments, PathSegment, Result,
    Type, ext::IdentExt, meta::ParseNestedMeta,
};

use crate::{
    archetype::{Common, fields_of, key},
    case,
    docs::{self, Docs},
    faults::Faults,
    policy::{self, Checkpoints, Retry},
    serde::Serde,
};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let fields = fields_of(input, "a walker")?;
    let ident = &input.ident;
    let mut common = Common::new(&case::snake(&ident.unraw().to_string()), ident.span());
    let mut calls = Vec::new();
    let (mut entry, mut retry, mut checkpoints) = (None, None, None);
    let (mut methods, mut keyed, mut login) = (None, None, None);
    let mut all = FieldSays::default();
    let mut docs = Docs::default();
    let mut faults = Faults::default();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("walker")) {
        attribute.parse_nested_meta(|meta| {
            let key = key(&meta);
            match key.as_str() {
                "async" => calls.push(quote!(.asynchronous())),
                "public" | "auth" => {
                    let asks = key == "auth";
                    if login.replace(asks).is_some_and(|said| said != asks) {
                        faults.sort(Err::<(), _>(meta.error("a walker is either `public` or asks for `auth`")));
                    }
                }
                "websocket" => calls.push(quote!(.websocket())),
                "private" => calls.push(quote!(.private())),
                "rerun" => {
                    let value: LitStr = meta.value()?.parse()?;
                    if value.value() != "never" {
                        return Err(Error::new(value.span(), "the only choice is rerun = \"never\""));
                    }
                    calls.push(quote!(.rerun_never()));
                }
                "as_query" => all.as_query = true,
                "excluded" => all.excluded = true,
                "path" => {
                    let path: LitStr = meta.value()?.parse()?;
                    calls.push(quote!(.path(#path)));
                }
                "webhook" => keyed = Some(key_place(&meta)?),
                "methods" => methods = Some(parse_methods(&meta.value()?.parse()?)?),
                "entry" => entry = Some(Entry::parse(&meta.value()?.parse()?)?),
                "retry" => retry = Some(Retry::parse(&meta)?),
                "timeout" => {
                    let span = policy::span(&meta)?;
                    calls.push(quote!(.timeout(#span)));
                }
                "visit_timeout" => {
                    let span = policy::span(&meta)?;
                    calls.push(quote!(.visit_timeout(#span)));
                }
                "checkpoint" => checkpoints = Some(Checkpoints::parse(&meta.value()?.parse()?)?),
                "version" => {
                    let version: u32 = meta.value()?.parse::<LitInt>()?.base10_parse()?;
                    calls.push(quote!(.version(#version)));
                }
                "resumes" => {
                    let versions = policy::versions(&meta.value()?.parse()?)?;
                    calls.push(quote!(.resumes(&[#(#versions),*])));
                }
                key if common.take(key, &meta)? || docs.take(key, &meta)? => {}
                _ => {
                    return Err(meta.error(
                        "unknown: use async, public, auth, websocket, private, entry, path, methods, webhook, as_query, excluded, rerun, retry, timeout, visit_timeout, checkpoint, version, resumes, status_code, tags, summary, description, response_description, responses, response_model, response_class, deprecated, include_in_schema, name, alias, access or crate",
                    ));
                }
            }
            Ok(())
        })?;
    }
    faults.sort(common.check_name("walker"));
    let access = common.access();
    let Common { name, aliases, library, .. } = common;
    calls.extend(entry.map(|entry| entry.call(&library)));
    calls.extend(login.map(|login| if login { quote!(.auth()) } else { quote!(.public()) }));
    calls.extend(methods.map(|methods| quote!(.methods(&[#(#library::walker::Method::#methods),*]))));
    calls.extend(keyed.map(|place: KeyPlace| place.call(&library)));
    calls.extend(retry.map(|retry: Retry| retry.call(&library)));
    calls.extend(checkpoints.map(|checkpoints: Checkpoints| checkpoints.call(&library)));
    let docs = docs.calls(&input.attrs, &library);
    let of_struct = Serde::of(&input.attrs)?;
    let declared: Vec<_> = fields
        .iter()
        .filter_map(|field| faults.sort(declare(field, &of_struct, all, &library)).flatten())
        .collect();
    Ok(quote! {
        #[automatically_derived]
        impl #library::walker::Archetype for #ident {
            const KIND: #library::schema::Kind = #library::schema::Kind::Walker;
            const NAME: &'static str = #name;
            const ALIASES: &'static [&'static str] = &[#(#aliases),*];
            #access
        }
        #[automatically_derived]
        impl #library::walker::Walker for #ident {
            fn spec() -> #library::walker::Spec {
                #library::walker::Spec::new() #(#calls)* #docs #(#declared)*
            }
            fn abilities(on: &mut #library::walker::Abilities<Self>) {
                <Self as #library::walker::HasAbilities>::register(on)
            }
        }
        #faults
    })
}

#[derive(Clone, Copy)]
enum Entry {
    Root,
    Node,
    Both,
}

impl Entry {
    fn parse(text: &LitStr) -> Result<Self> {
        match text.value().as_str() {
            "root" => Ok(Self::Root),
            "node" => Ok(Self::Node),
            "both" => Ok(Self::Both),
            _ => Err(Error::new(text.span(), "use \"root\", \"node\" or \"both\"")),
        }
    }

    fn call(self, library: &syn::Path) -> TokenStream {
        match self {
            Self::Root => quote!(.entry(#library::walker::EntryType::Root)),
            Self::Node => quote!(.entry(#library::walker::EntryType::Node)),
            Self::Both => quote!(.entry(#library::walker::EntryType::Both)),
        }
    }
}

/// Where a webhook key stands: the kind of place and its name, or the usual one.
struct KeyPlace(Option<(&'static str, LitStr)>);

/// `webhook`, or `webhook(header = "X-API-KEY")` and its like.
fn key_place(meta: &ParseNestedMeta<'_>) -> Result<KeyPlace> {
    let mut place = None;
    if meta.input.peek(syn::token::Paren) {
        meta.parse_nested_meta(|meta| {
            let kind = match key(&meta).as_str() {
                "header" => "Header",
                "query" => "Query",
                "path" => "Path",
                "body" => "Body",
                _ => {
                    return Err(meta.error("use header, query, path or body, as in webhook(query = \"key\")"));
                }
            };
            if place.replace((kind, meta.value()?.parse()?)).is_some() {
                return Err(meta.error("a key stands in one place"));
            }
            Ok(())
        })?;
    }
    Ok(KeyPlace(place))
}

impl KeyPlace {
    fn call(self, library: &syn::Path) -> TokenStream {
        match self.0 {
            None => quote!(.webhook(#library::walker::KeyPlace::default())),
            Some((kind, name)) => {
                let kind = Ident::new(kind, name.span());
                quote!(.webhook(#library::walker::KeyPlace::#kind(#name)))
            }
        }
    }
}

/// What the attribute says of a field, or the type's of all of them.
#[derive(Clone, Copy, Default)]
struct FieldSays {
    excluded: bool,
    as_query: bool,
}

/// `"get, post"`.
fn parse_methods(text: &LitStr) -> Result<Vec<Ident>> {
    let value = text.value();
    let words = value.split(',').map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let variant = match word.as_str() {
                "get" => "Get",
                "post" => "Post",
                "put" => "Put",
                "patch" => "Patch",
                "delete" => "Delete",
                "head" => "Head",
                "trace" => "Trace",
                "options" => "Options",
                _ => {
                    let expected = "use get, post, put, patch, delete, head, trace or options, as in \"get, post\"; \
                                    `websocket` is a word of its own";
                    return Err(Error::new(text.span(), expected));
                }
            };
            Ok(Ident::new(variant, text.span()))
        })
        .collect()
}

fn declare(
    field: &Field,
    of_struct: &Serde,
    all: FieldSays,
    library: &syn::Path,
) -> Result<Option<TokenStream>> {
    let Some(ident) = &field.ident else { return Ok(None) };
    let own = Serde::of(&field.attrs)?;
    own.refuse_flatten("a walker")?;
    let mut says = all;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("walker")) {
        attribute.parse_nested_meta(|meta| {
            match key(&meta).as_str() {
                "excluded" => says.excluded = true,
                "as_query" => says.as_query = true,
                _ => {
                    return Err(meta
                        .error("unknown: a field has #[walker(excluded)], #[walker(as_query)] or nothing"));
                }
            }
            Ok(())
        })?;
    }
    // serde gives it its default, so the caller cannot set it, excluded or not.
    if own.is_skipped {
        return Ok(None);
    }
    let has_default = own.has_default || of_struct.has_default;
    if says.excluded && !has_default {
        return Err(Error::new_spanned(
            ident,
            format!(
                "`{ident}` is excluded from the caller's input, so it needs a default: add #[serde(default)]"
            ),
        ));
    }
    let plain = ident.unraw().to_string();
    let name = own.rename.or_else(|| case::rename(of_struct.rename_all.as_deref()?, &plain)).unwrap_or(plain);
    let kind = if says.excluded {
        quote!(Excluded)
    } else if has_default || (is_option(&field.ty) && !own.is_read_by_hand) {
        quote!(Optional)
    } else {
        quote!(Required)
    };
    let kind = quote!(#library::walker::FieldKind::#kind);
    let docs = docs::of_field(&field.attrs);
    if let Some(part) = file_part(&field.ty) {
        if says.as_query && !all.as_query {
            return Err(Error::new_spanned(ident, format!("`{ident}` is a file: a query has none")));
        }
        return Ok(Some(quote!(.field_in(#name, #kind, #library::walker::Part::#part) #docs)));
    }
    Ok(Some(if says.as_query {
        quote!(.field_in(#name, #kind, #library::walker::Part::Query) #docs)
    } else {
        quote!(.field(#name, #kind) #docs)
    }))
}

/// The part of a request that a field of this type comes in when it is a file: `Upload`, as it is, in an `Option`, a `Vec` or both.
fn file_part(of: &Type) -> Option<Ident> {
    let last = last_segment(of)?;
    let of_inner = || match &last.arguments {
        PathArguments::AngleBracketed(inner) => inner.args.iter().find_map(|argument| match argument {
            GenericArgument::Type(of) => file_part(of),
            _ => None,
        }),
        _ => None,
    };
    match last.ident.to_string().as_str() {
        "Upload" => Some(Ident::new("File", last.ident.span())),
        "Option" => of_inner(),
        "Vec" => of_inner().map(|inner| Ident::new("Files", inner.span())),
        _ => None,
    }
}

/// The last word of a type's path, also of one that another macro has passed on.
fn last_segment(of: &Type) -> Option<&PathSegment> {
    match of {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// serde takes an absent `Option` as `None`, unless a function of the user's reads it.
fn is_option(of: &Type) -> bool {
    last_segment(of).is_some_and(|last| last.ident == "Option")
}
