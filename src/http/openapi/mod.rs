//! The OpenAPI document: each route of the server and of walkers, with what it takes and answers.
//!
//! It is worked out once, when the server starts: from the types that requests are read into and answers are written from, and from
//! what walkers say of themselves. Each handler of the server's own has the description of its operation beside it, and no route is
//! made without one.

mod parts;
mod refused;
mod walkers;

use std::collections::{BTreeMap, BTreeSet};

use aide::openapi::{
    ApiKeyLocation, Components, Info, OpenApi, Operation, PathItem, Paths, ReferenceOr, SecurityScheme, Tag,
};
use serde_json::Value;

pub(crate) use self::{
    parts::{Describe, Place, Types},
    refused::Refused,
    walkers::{JSON, answer_of, context_of},
};
use super::users;
use crate::{
    runtime::Runtime,
    walker::{KeyPlace, Method},
};

/// Describes an operation.
pub(crate) type Description = fn(&mut Types) -> Describe;

/// What holds for all paths, which no operation says.
const ABOUT: &str = "HEAD is answered where GET is, without a body. Other methods of a path are 405, and `Allow` names those that \
    there are. A path with a slash too many at its end is 307. What is no HTTP is 400, and headers that are too long are 431.";

/// The document of a server.
///
/// `own` are the routes of the server itself.
pub(crate) fn document<'o>(
    runtime: &Runtime,
    own: impl Iterator<Item = (Method, &'o str, Description)>,
) -> Value {
    let mut types = Types::new();
    refused::define(&mut types);
    let own: Vec<_> = own
        .map(|(method, path, describe)| {
            let id = format!("{}_{}", worded(path).trim_matches('_'), method.as_str().to_ascii_lowercase());
            (method, path.to_owned(), describe(&mut types).id(id).end())
        })
        .collect();
    let envelopes = walkers::Envelopes::of(&mut types);
    types.reserve();
    users::define_registration(&mut types, &runtime.registry().own_fields);
    let of_walkers = walkers::describe(&mut types, runtime, &envelopes);
    let (mut paths, mut ids): (BTreeMap<String, PathItem>, BTreeSet<String>) = Default::default();
    for (method, path, mut operation) in own.into_iter().chain(of_walkers) {
        operation.operation_id = operation.operation_id.map(|id| one_of_its_kind(id, &mut ids));
        *place(paths.entry(path).or_default(), method) = Some(operation);
    }
    let about = runtime.registry().about();
    let document = OpenApi {
        info: Info {
            title: about.title.clone(),
            version: about.version.clone(),
            description: Some(ABOUT.to_owned()),
            ..Info::default()
        },
        tags: tags(&paths),
        components: Some(Components {
            security_schemes: schemes(runtime),
            responses: Refused::all()
                .map(|(name, refused)| (name.to_owned(), ReferenceOr::Item(refused.response())))
                .collect(),
            schemas: types
                .into_schemas()
                .into_iter()
                .map(|(name, schema)| (name, parts::held(schema)))
                .collect(),
            ..Components::default()
        }),
        paths: Some(Paths {
            paths: paths.into_iter().map(|(path, item)| (path, ReferenceOr::Item(item))).collect(),
            ..Paths::default()
        }),
        ..OpenApi::default()
    };
    serde_json::to_value(document).unwrap_or_else(|error| {
        // Its keys are texts, so this does not happen.
        tracing::error!(%error, "the OpenAPI document cannot be written");
        Value::Null
    })
}

/// Where an item has the operation of a method.
fn place(item: &mut PathItem, method: Method) -> &mut Option<Operation> {
    match method {
        Method::Get => &mut item.get,
        Method::Post => &mut item.post,
        Method::Put => &mut item.put,
        Method::Patch => &mut item.patch,
        Method::Delete => &mut item.delete,
        Method::Head => &mut item.head,
        Method::Trace => &mut item.trace,
        Method::Options => &mut item.options,
    }
}

/// An operation's id, numbered when another has it: of paths that differ by punctuation alone.
fn one_of_its_kind(id: String, ids: &mut BTreeSet<String>) -> String {
    let mut own = id.clone();
    for n in 2.. {
        if ids.insert(own.clone()) {
            break;
        }
        own = format!("{id}_{n}");
    }
    own
}

/// A path as a part of an operation's id.
fn worded(path: &str) -> String {
    path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Those that operations stand under: of walkers first, as Jac Cloud has them.
fn tags(paths: &BTreeMap<String, PathItem>) -> Vec<Tag> {
    let mut names: Vec<String> = Vec::new();
    let operations = paths.values().flat_map(PathItem::iter).map(|(_, operation)| operation);
    for name in operations.flat_map(|operation| &operation.tags) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.sort_by_key(|name| name != walkers::TAG);
    names.into_iter().map(|name| Tag { name, ..Tag::default() }).collect()
}

/// By name.
type SecuritySchemes = indexmap::IndexMap<String, ReferenceOr<SecurityScheme>>;

/// Logins, and the keys that webhook walkers ask for in headers and queries.
fn schemes(runtime: &Runtime) -> SecuritySchemes {
    let bearer = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: Some("JWT".to_owned()),
        description: Some("The token of a login: see `/user/login`.".to_owned()),
        extensions: Default::default(),
    };
    let mut schemes: SecuritySchemes = [(parts::BEARER.to_owned(), ReferenceOr::Item(bearer))].into();
    let places = runtime.registry().walkers().filter_map(|walker| walker.spec.webhook_key());
    for place in places {
        let Some(scheme) = walkers::key_scheme(place) else { continue };
        let (location, name) = match place {
            KeyPlace::Header(name) => (ApiKeyLocation::Header, name),
            KeyPlace::Query(name) => (ApiKeyLocation::Query, name),
            KeyPlace::Path(_) | KeyPlace::Body(_) => continue,
        };
        let key = SecurityScheme::ApiKey {
            location,
            name: name.to_owned(),
            description: Some("A webhook key: see `/webhook/generate-key`.".to_owned()),
            extensions: Default::default(),
        };
        schemes.insert(scheme, ReferenceOr::Item(key));
    }
    schemes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_operations_have_one_id() {
        let mut ids = BTreeSet::new();
        let given = ["a", "a", "a_2", "b", "a"].map(|id| one_of_its_kind(id.to_owned(), &mut ids));
        assert_eq!(given, ["a", "a_2", "a_2_2", "b", "a_3"]);
    }
}
