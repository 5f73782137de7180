//! The derives and attributes of Walkabout. Users meet them as re-exports of the `walkabout` crate.
//!
//! Each writes only what its documentation shows and a person could write by hand.

mod abilities;
mod archetype;
mod case;
mod docs;
mod faults;
mod policy;
mod serde;
mod signature;
mod walker;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemImpl, parse_macro_input};

/// Makes a struct a node: `impl Archetype` and `impl Node`.
///
/// `#[node(name = "Other", alias = "Old", access = Self::rule, abilities, crate = "path")]`: another name in ids and documents; names
/// under which older documents were stored; the function that says what others may do; the type has an `#[abilities(node)]` block;
/// where the library is.
#[proc_macro_derive(Node, attributes(node))]
pub fn node(input: TokenStream) -> TokenStream {
    finish(archetype::derive(&parse_macro_input!(input as DeriveInput), archetype::Sort::Node))
}

/// Makes a struct an edge: as [`macro@Node`], with `#[edge(…)]`.
#[proc_macro_derive(Edge, attributes(edge))]
pub fn edge(input: TokenStream) -> TokenStream {
    finish(archetype::derive(&parse_macro_input!(input as DeriveInput), archetype::Sort::Edge))
}

/// Makes a struct an object: as [`macro@Node`], with `#[object(…)]`, without abilities.
#[proc_macro_derive(Object, attributes(object))]
pub fn object(input: TokenStream) -> TokenStream {
    finish(archetype::derive(&parse_macro_input!(input as DeriveInput), archetype::Sort::Object))
}

/// Makes a struct a walker: `impl Archetype` and `impl Walker`.
///
/// `#[walker(async, auth, websocket, private, entry = "root", rerun = "never", name = "other", alias = "old", access = Self::rule,
/// crate = "path")]`.
/// The name is the type's in snake case unless given. A walker that says neither `auth` nor `public` is what the settings say.
///
/// For API documents: `#[walker(status_code = 201, tags = "A, B", summary = "…", description = "…", response_description = "…",
/// responses(404 = "…"), response_model = Type, response_class = "text/html", deprecated, include_in_schema = false)]`. Comments of
/// fields are theirs.
///
/// On a field, or on the type for all its fields: `#[walker(excluded)]`, the caller cannot set it; `#[walker(as_query)]`, it comes in
/// the query. Where it is called: `path = "/things/{id}"`, of which each variable is a field, and `methods = "get, put"` in place of
/// POST; the methods `path` and `methods` of `Spec` say more.
///
/// How its runs are driven: `retry(attempts = 5, delay = "1s", backoff = "exponential", delay_max = "10m", jitter = 0.1, on = "a, b",
/// never_on = "c", after_timeout)`, `timeout = "30s"`, `visit_timeout = "5s"`, `checkpoint = "visits(100)"` or `"every(5s)"` or `"end"`,
/// `version = 2`, `resumes = "1"`; `docs/runs.md` says what each means.
#[proc_macro_derive(Walker, attributes(walker))]
pub fn walker(input: TokenStream) -> TokenStream {
    finish(walker::derive(&parse_macro_input!(input as DeriveInput)))
}

/// Registers the abilities of an `impl` block: `async fn`s marked `#[entry]`, `#[exit]` or `#[step]`. On a node's block:
/// `#[abilities(node)]`, on an edge's `#[abilities(edge)]`.
///
/// The attribute knows `Here`, `Visitor`, `Context` and `Outcome` (or `Result`) by these names, not by an alias.
#[proc_macro_attribute]
pub fn abilities(arguments: TokenStream, input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as ItemImpl);
    abilities::expand(arguments.into(), input).into()
}

/// Marks an ability that runs on arriving. Only inside `#[abilities]`.
#[proc_macro_attribute]
pub fn entry(_: TokenStream, _: TokenStream) -> TokenStream {
    finish(Err(abilities::outside("entry")))
}

/// Marks an ability that runs on leaving. Only inside `#[abilities]`.
#[proc_macro_attribute]
pub fn exit(_: TokenStream, _: TokenStream) -> TokenStream {
    finish(Err(abilities::outside("exit")))
}

/// Marks an ability that another one gives the word to. Only inside `#[abilities]`.
#[proc_macro_attribute]
pub fn step(_: TokenStream, _: TokenStream) -> TokenStream {
    finish(Err(abilities::outside("step")))
}

fn finish(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(|error| error.to_compile_error()).into()
}
