//! The form of an ability: of a walker `async fn name(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome`, of a node
//! `async fn name(here: Here<Self>, by: &mut TheWalker, cx: &mut Context) -> Outcome`.
//!
//! What is not of the form is refused here, where the fault is, since the registration would fail far from it. Types are
//! known by their names.

use proc_macro2::Ident;
use quote::{ToTokens, format_ident};
use syn::{
    Error, FnArg, GenericArgument, PathArguments, PathSegment, Receiver, Result, ReturnType, Signature, Type,
    TypeReference, spanned::Spanned,
};

use crate::faults::Faults;

/// Whose abilities a block holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Walker,
    Node,
    Edge,
}

/// The method that registers an ability of this form; an error for each part that has another one.
pub(crate) fn method(signature: &Signature, marker: &str, on: On) -> Result<Ident> {
    let mut faults = Faults::default();
    faults.sort(asynchronous(signature));
    faults.sort(concrete(signature));
    faults.sort(outcome(signature));
    let inputs: Vec<_> = signature.inputs.iter().collect();
    let mut method = format_ident!("{marker}");
    match (on, inputs.as_slice()) {
        (On::Walker, [FnArg::Receiver(this), FnArg::Typed(here), FnArg::Typed(cx)]) => {
            faults.sort(receiver(this));
            faults.sort(place(&here.ty, on));
            faults.sort(context(&cx.ty));
        }
        (On::Node | On::Edge, [FnArg::Typed(here), FnArg::Typed(by), FnArg::Typed(cx)]) => {
            faults.sort(place(&here.ty, on));
            if faults.sort(visitor(&by.ty)) == Some(By::Any) {
                method = format_ident!("{marker}_any");
            }
            faults.sort(context(&cx.ty));
        }
        (On::Node | On::Edge, [FnArg::Receiver(this), ..]) => {
            let text = "the place is a handle, not `self`: write `here: Here<Self>`";
            faults.add(Error::new_spanned(this, text));
        }
        _ => faults.add(Error::new(signature.ident.span(), form(&signature.ident, on))),
    }
    if marker == "step" && on != On::Walker {
        let text = "only walkers have steps: mark this #[entry] or #[exit]";
        faults.add(Error::new_spanned(&signature.ident, text));
    }
    faults.finish(method)
}

fn form(name: &Ident, on: On) -> String {
    let of_place = |what| {
        format!(
            "an ability of {what} is `async fn {name}(here: Here<Self>, by: &mut TheWalker, cx: &mut Context) -> Outcome`"
        )
    };
    match on {
        On::Walker => format!(
            "an ability of a walker is `async fn {name}(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome`, \
             with the type to stand on in place of `Root`"
        ),
        On::Node => of_place("a node"),
        On::Edge => of_place("an edge"),
    }
}

fn asynchronous(signature: &Signature) -> Result<()> {
    if signature.asyncness.is_some() {
        return Ok(());
    }
    let text = format!("an ability must be an `async fn`: add `async` before `fn {}`", signature.ident);
    Err(Error::new(signature.fn_token.span(), text))
}

fn concrete(signature: &Signature) -> Result<()> {
    signature.generics.params.first().map_or(Ok(()), |parameter| Err(generic(parameter)))
}

fn generic(parameter: impl ToTokens) -> Error {
    Error::new_spanned(parameter, "an ability cannot be generic: write one function per type")
}

fn outcome(signature: &Signature) -> Result<()> {
    let text = "an ability returns `Outcome`: write `-> Outcome`";
    match &signature.output {
        ReturnType::Default => Err(Error::new_spanned(&signature.ident, text)),
        ReturnType::Type(_, of) if is_named(of, "Outcome") || is_named(of, "Result") => Ok(()),
        ReturnType::Type(_, of) => Err(Error::new_spanned(of, text)),
    }
}

fn receiver(this: &Receiver) -> Result<()> {
    match mutable(&this.ty) {
        Some(_) => Ok(()),
        None => Err(Error::new_spanned(this, "an ability may change the walker: write `&mut self`")),
    }
}

fn place(of: &Type, on: On) -> Result<()> {
    let Some(here) = last_segment(of).filter(|last| last.ident == "Here") else {
        let text = match on {
            On::Walker => {
                "the place is a handle: write `Here<Root>`, with the type to stand on in place of `Root`"
            }
            On::Node | On::Edge => "the place is a handle: write `Here<Self>`",
        };
        return Err(Error::new_spanned(of, text));
    };
    let PathArguments::AngleBracketed(arguments) = &here.arguments else { return Ok(()) };
    match arguments.args.first() {
        Some(GenericArgument::Type(any @ Type::ImplTrait(_))) => Err(generic(any)),
        _ => Ok(()),
    }
}

fn context(of: &Type) -> Result<()> {
    if mutable(of).is_some_and(|context| is_named(context, "Context")) {
        return Ok(());
    }
    Err(Error::new_spanned(of, "an ability writes through the context: write `&mut Context`"))
}

/// For which walkers an ability of a node is.
#[derive(PartialEq, Eq)]
enum By {
    Type,
    Any,
}

fn visitor(of: &Type) -> Result<By> {
    if is_named(of, "Visitor") {
        return Ok(By::Any);
    }
    match mutable(of).and_then(last_segment) {
        Some(walker) if walker.ident != "Visitor" => Ok(By::Type),
        _ => Err(Error::new_spanned(
            of,
            "an ability may change the walker: write `&mut TheWalker`, or `Visitor<'_>` for walkers of any type",
        )),
    }
}

/// What a `&mut` refers to.
fn mutable(of: &Type) -> Option<&Type> {
    match bare(of) {
        Type::Reference(TypeReference { mutability: Some(_), elem, .. }) => Some(elem),
        _ => None,
    }
}

fn is_named(of: &Type, name: &str) -> bool {
    last_segment(of).is_some_and(|last| last.ident == name)
}

fn last_segment(of: &Type) -> Option<&PathSegment> {
    match bare(of) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// A type without the groups that a `macro_rules!` puts around it.
fn bare(of: &Type) -> &Type {
    match of {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        _ => of,
    }
}
