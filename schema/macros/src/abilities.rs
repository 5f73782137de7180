//! The block in which abilities are written.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Error, ImplItem, ImplItemFn, ItemImpl, LitStr, Meta, Path, Result, Signature, Type,
    ext::IdentExt, parse::Parser, spanned::Spanned,
};

use crate::{
    archetype::{Common, key},
    faults::Faults,
    signature::{self, On},
};

/// The error of a marker that no block has taken away.
pub(crate) fn outside(marker: &str) -> Error {
    Error::new(
        Span::call_site(),
        format!(
            "#[{marker}] means something only inside an impl block marked #[abilities]: add #[abilities] above the impl, \
             or, where it is, write #[{marker}] without a path"
        ),
    )
}

/// A function with a marker.
struct Marked {
    marker: String,
    /// Whether it is compiled: its `#[cfg(…)]`s.
    conditions: Vec<Attribute>,
    signature: Signature,
}

/// The block without its markers, and the impl that registers what was marked.
///
/// All faults are reported at once, beside all that is right: code that relies on the block then brings no errors of its own.
pub(crate) fn expand(arguments: TokenStream, mut block: ItemImpl) -> TokenStream {
    let mut faults = Faults::default();
    let mut common = Common::new("_", Span::call_site());
    let on = faults.sort(parse(arguments, &mut common));
    let library = common.library;
    let marked = take_marked(&mut block, &library, &mut faults);
    let plain = faults.sort(refuse_trait(&block));
    let role = plain.and(on).map(|on| implement(&block.self_ty, &marked, on, &library, &mut faults));
    quote!(#block #role #faults)
}

fn refuse_trait(block: &ItemImpl) -> Result<()> {
    let Some((_, path, _)) = &block.trait_ else { return Ok(()) };
    let text = "#[abilities] goes on a plain `impl Type { … }`, not on the impl of a trait";
    Err(Error::new_spanned(path, text))
}

/// Whose the abilities are; where the library is goes into `common`.
fn parse(arguments: TokenStream, common: &mut Common) -> Result<On> {
    let mut on = On::Walker;
    let parser = syn::meta::parser(|meta| match key(&meta).as_str() {
        "node" => {
            on = On::Node;
            Ok(())
        }
        "edge" => {
            on = On::Edge;
            Ok(())
        }
        "crate" => common.take("crate", &meta).map(drop),
        _ => Err(meta.error("unknown: write #[abilities], #[abilities(node)] or #[abilities(edge)]")),
    });
    parser.parse2(arguments)?;
    Ok(on)
}

fn implement(this: &Type, marked: &[Marked], on: On, library: &Path, faults: &mut Faults) -> TokenStream {
    if marked.is_empty() && faults.is_empty() {
        faults.add(Error::new_spanned(this, "no ability here: mark one with #[entry], #[exit] or #[step]"));
    }
    let registered: Vec<_> = marked.iter().filter_map(|marked| faults.sort(register(marked, on))).collect();
    let (role, set) = match on {
        On::Walker => (quote!(HasAbilities), quote!(Abilities)),
        On::Node | On::Edge => (quote!(HasNodeAbilities), quote!(NodeAbilities)),
    };
    let announced = announced(this, on, library);
    quote! {
        #announced
        #[automatically_derived]
        impl #library::walker::#role for #this {
            fn register(on: &mut #library::walker::#set<Self>) {
                #(#registered)*
            }
        }
    }
}

/// Refuses a block of which the node or edge does not know: it would never run.
fn announced(this: &Type, on: On, library: &Path) -> Option<TokenStream> {
    let (role, attribute) = match on {
        On::Walker => return None,
        On::Node => (quote!(Node), "node"),
        On::Edge => (quote!(Edge), "edge"),
    };
    let text = format!(
        "write #[{attribute}(abilities)] on `{}`: without it the abilities of this block never run",
        quote!(#this)
    );
    Some(quote_spanned! {this.span()=>
        const _: () = ::core::assert!(<#this as #library::walker::#role>::HAS_ABILITIES, #text);
    })
}

/// Takes the markers off the functions that have one.
fn take_marked(block: &mut ItemImpl, library: &Path, faults: &mut Faults) -> Vec<Marked> {
    let mut marked = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(function) = item else { continue };
        let Some(Some(marker)) = faults.sort(take_marker(function, library)) else { continue };
        let mut conditions = function.attrs.clone();
        conditions.retain(|attribute| attribute.path().is_ident("cfg"));
        marked.push(Marked { marker, conditions, signature: function.sig.clone() });
        // Where `async` is missing, the `.await`s in the body are no faults of their own.
        function.sig.asyncness.get_or_insert_default();
    }
    marked
}

/// Takes the marker off a function; an error for two of them.
fn take_marker(function: &mut ImplItemFn, library: &Path) -> Result<Option<String>> {
    let (markers, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut function.attrs)
        .into_iter()
        .partition(|attribute| marker(attribute.path(), library).is_some());
    function.attrs = rest;
    if let Some(second) = markers.get(1) {
        return Err(Error::new_spanned(
            second,
            "an ability has one marker: write a second function for the other",
        ));
    }
    let Some(first) = markers.first() else { return Ok(None) };
    if !matches!(first.meta, Meta::Path(_)) {
        return Err(Error::new_spanned(
            first,
            "a marker takes no arguments: the place is the type in `here: Here<…>`",
        ));
    }
    Ok(marker(first.path(), library))
}

/// The marker that a path names: by its name alone, or under the path of the library.
fn marker(path: &Path, library: &Path) -> Option<String> {
    let is_ours = path.segments.len() == 1
        || library.segments.iter().zip(&path.segments).all(|(its, this)| its.ident == this.ident);
    let name = path.segments.last()?.ident.to_string();
    (is_ours && matches!(name.as_str(), "entry" | "exit" | "step")).then_some(name)
}

fn register(Marked { marker, conditions, signature }: &Marked, on: On) -> Result<TokenStream> {
    let method = signature::method(signature, marker, on)?;
    let ident = &signature.ident;
    let name = LitStr::new(&ident.unraw().to_string(), ident.span());
    // What the form does not show, such as a future that is not `Send`, is reported at the function.
    let function = quote_spanned!(ident.span()=> Self::#ident);
    Ok(quote!(#(#conditions)* on.#method(#name, #function);))
}
