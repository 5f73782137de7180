//! Nodes, edges and objects.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Path, Result, ext::IdentExt, meta::ParseNestedMeta};

use crate::{case::is_name, faults::Faults, serde::Serde};

/// What a type becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Node,
    Edge,
    Object,
}

impl Sort {
    fn attribute(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Edge => "edge",
            Self::Object => "object",
        }
    }
}

/// What every sort of archetype may say of itself.
pub(crate) struct Common {
    pub(crate) name: LitStr,
    pub(crate) aliases: Vec<LitStr>,
    /// The function that says what others may do.
    access: Option<syn::Expr>,
    pub(crate) library: Path,
}

impl Common {
    pub(crate) fn new(name: &str, span: Span) -> Self {
        Self {
            name: LitStr::new(name, span),
            aliases: Vec::new(),
            access: None,
            library: Path { leading_colon: Some(syn::token::PathSep::default()), segments: library() },
        }
    }

    /// Takes a key that all sorts have; false for another.
    pub(crate) fn take(&mut self, key: &str, meta: &ParseNestedMeta<'_>) -> Result<bool> {
        match key {
            "name" => self.name = named(meta)?,
            "alias" => self.aliases.push(named(meta)?),
            "access" => self.access = Some(meta.value()?.parse()?),
            "crate" => self.library = meta.value()?.parse::<LitStr>()?.parse()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The method of `Archetype` that gives the access rule, when there is one.
    pub(crate) fn access(&self) -> Option<TokenStream> {
        let (rule, library) = (self.access.as_ref()?, &self.library);
        Some(quote! {
            fn access() -> ::core::option::Option<#library::walker::AccessRule<Self>> {
                ::core::option::Option::Some(#rule)
            }
        })
    }

    /// Refuses the name of a type that cannot be one in ids, unless the attribute gives another.
    pub(crate) fn check_name(&self, attribute: &str) -> Result<()> {
        let name = self.name.value();
        if is_name(&name) {
            return Ok(());
        }
        let text = format!(
            "`{name}` cannot stand in ids: give another name, of ASCII letters, digits and _, \
             with #[{attribute}(name = \"…\")]"
        );
        Err(Error::new(self.name.span(), text))
    }
}

fn library() -> syn::punctuated::Punctuated<syn::PathSegment, syn::token::PathSep> {
    std::iter::once(syn::PathSegment::from(syn::Ident::new("walkabout", Span::call_site()))).collect()
}

fn named(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let name: LitStr = meta.value()?.parse()?;
    if is_name(&name.value()) {
        Ok(name)
    } else {
        Err(Error::new(
            name.span(),
            "not a name: use an ASCII letter or _ first, then ASCII letters, digits or _",
        ))
    }
}

/// A key of an attribute; `r#async` and `async` are the same.
pub(crate) fn key(meta: &ParseNestedMeta<'_>) -> String {
    meta.path.get_ident().map(|ident| ident.unraw().to_string()).unwrap_or_default()
}

/// Refuses what cannot be stored under one name: enums, unions, tuples, generics.
pub(crate) fn fields_of<'a>(input: &'a DeriveInput, what: &str) -> Result<&'a Fields> {
    if let Some(parameter) = input.generics.params.first() {
        let text = format!("{what} cannot be generic: write one concrete type per name");
        return Err(Error::new_spanned(parameter, text));
    }
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Unnamed(fields) => Err(Error::new_spanned(
                fields,
                format!("{what} needs named fields: write `struct {} {{ … }}`", input.ident),
            )),
            fields => Ok(fields),
        },
        Data::Enum(_) | Data::Union(_) => Err(Error::new_spanned(
            &input.ident,
            format!("{what} is a struct: put the enum into a field of one"),
        )),
    }
}

pub(crate) fn derive(input: &DeriveInput, sort: Sort) -> Result<TokenStream> {
    let what = match sort {
        Sort::Node => "a node",
        Sort::Edge => "an edge",
        Sort::Object => "an object",
    };
    let mut faults = Faults::default();
    for field in fields_of(input, what)? {
        faults.sort(Serde::of(&field.attrs).and_then(|serde| serde.refuse_flatten(what)));
    }
    let ident = &input.ident;
    let mut common = Common::new(&ident.unraw().to_string(), ident.span());
    let mut has_abilities = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident(sort.attribute())) {
        attribute.parse_nested_meta(|meta| {
            let key = key(&meta);
            match key.as_str() {
                "abilities" if sort != Sort::Object => has_abilities = true,
                key if common.take(key, &meta)? => {}
                _ => return Err(meta.error("unknown: use name, alias, access, abilities or crate")),
            }
            Ok(())
        })?;
    }
    faults.sort(common.check_name(sort.attribute()));
    let access = common.access();
    let Common { name, aliases, library, .. } = common;
    // The kind and the trait of a sort have the same name.
    let kind = match sort {
        Sort::Node => quote!(Node),
        Sort::Edge => quote!(Edge),
        Sort::Object => quote!(Object),
    };
    let abilities = has_abilities.then(|| {
        quote! {
            const HAS_ABILITIES: bool = true;
            fn abilities(on: &mut #library::walker::NodeAbilities<Self>) {
                <Self as #library::walker::HasNodeAbilities>::register(on)
            }
        }
    });
    let enroll = match sort {
        Sort::Node => Some(quote!(types.node::<Self>();)),
        Sort::Edge => Some(quote!(types.edge::<Self>();)),
        Sort::Object => None,
    };
    let enroll = enroll.map(|call| {
        quote! {
            fn enroll(types: &mut #library::registry::Registry) {
                #call
            }
        }
    });
    Ok(quote! {
        #[automatically_derived]
        impl #library::walker::Archetype for #ident {
            const KIND: #library::schema::Kind = #library::schema::Kind::#kind;
            const NAME: &'static str = #name;
            const ALIASES: &'static [&'static str] = &[#(#aliases),*];
            #access
            #enroll
        }
        #[automatically_derived]
        impl #library::walker::#kind for #ident {
            #abilities
        }
        #faults
    })
}
