//! Spawns walkers.

use axum::{
    body::Body,
    extract::{FromRequestParts, Query, RawPathParams, Request},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, request::Parts},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use walkabout_schema::{Name, NodeId, WalkerId};

use super::{
    Server,
    done::done,
    extract,
    form::{self, Form},
    places::Who,
    problem::{Detail, Refusal, answer},
};
use crate::{
    route::Route,
    runtime::{Caller, REQUEST_KEY_MAX, Spawn, Spawned},
    walker::{EntryType, Field, FieldKind, KeyPlace, Part, Spec},
};

/// What a route calls.
pub(crate) struct Target {
    walker: Name,
    /// The fields, and the entry node last, that the variables of the path stand for, in order.
    variables: Vec<String>,
    on_node: bool,
}

impl Target {
    pub(crate) fn new(route: Route) -> Self {
        let variables = route.template.variables().map(str::to_owned).collect();
        Self { walker: route.walker, variables, on_node: route.on_node }
    }
}

/// Runs a walker, in the order of Jac Cloud: JSON, caller, then path, query and body, and what the runtime checks.
pub(crate) async fn run(server: &Server, target: &Target, request: Request) -> Result<Response, Refusal> {
    let walker = target.walker.as_str();
    let spec = server.runtime.spec(walker).ok_or(Refusal::NotFound)?;
    let (mut parts, body) = request.into_parts();
    let mut values = path_values(&mut parts, target).await?;
    // Nobody writes files here before it is known who it is.
    let (caller, body, files, _place) = if form::takes_files(spec) && form::is_form(&parts.headers) {
        let caller = caller(server, spec, &parts, &mut values, None).await?;
        let who = Who::of(&caller, &parts);
        let Form { _place, body, files } = form::read(server, spec, who, &parts.headers, body).await?;
        (caller, form_fields(server, spec, &body)?, files, Some(_place))
    } else {
        let mut body = body_of(server, spec, &parts.headers, body).await?;
        let caller = caller(server, spec, &parts, &mut values, body.as_mut().ok()).await?;
        (caller, body, Vec::new(), None)
    };
    let mut details = Vec::new();
    let node = if target.on_node { values.pop().map(|(_, text)| entry(text, &mut details)) } else { None };
    let (mut fields, broken) = match body {
        Ok(fields) => (fields, None),
        Err(detail) => (Map::new(), Some(*detail)),
    };
    if spec.fields.iter().any(|field| field.part != Part::Body) {
        fields.retain(|name, _| spec.field_of(name).is_none_or(|field| field.part == Part::Body));
        fields.extend(values.into_iter().map(|(name, text)| (name, text.into())));
        extend_by_query(&mut fields, spec, &parts.uri)?;
    }
    if !details.is_empty() || broken.is_some() {
        // Of a body that cannot be used at all nothing more is said.
        let unfit = server.runtime.unfit(walker, fields, files).into_iter();
        let unfit = unfit.filter(|error| broken.is_none() || error.part != Part::Body);
        details.extend(unfit.map(|error| Detail::field(error, true)));
        details.extend(broken);
        return Err(Refusal::Unprocessable(details));
    }
    let request_key = request_key(&parts.headers)?;
    let spawn = Spawn {
        walker: walker.to_owned(),
        node: node.flatten(),
        caller,
        fields,
        files,
        client_id: None,
        request_key,
    };
    let (mut response, repeated) = match server.runtime.spawn(spawn).await? {
        Spawned::Done { status, reports, response, repeated } => (done(status, &reports, response), repeated),
        Spawned::Accepted { id, run_token, repeated } => {
            let mut response = answer(StatusCode::OK, &accepted(&id, run_token));
            response.extensions_mut().insert(id);
            (response, repeated)
        }
    };
    if repeated {
        response.headers_mut().insert("x-idempotent-replay", HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// Whoever calls a walker, by what its type asks for.
async fn caller(
    server: &Server,
    spec: &Spec,
    parts: &Parts,
    path: &mut Vec<(String, String)>,
    body: Option<&mut Map<String, Value>>,
) -> Result<Caller, Refusal> {
    let key = spec.webhook_key().map(|place| key(place, parts, path, body));
    match key {
        _ if spec.is_public() => Ok(Caller::public()),
        Some(key) => by_key(server, key).await,
        None => extract::user(server, &parts.headers).await,
    }
}

/// Takes the key out of a request, where the walker's type says that it stands.
fn key(
    place: KeyPlace,
    parts: &Parts,
    path: &mut Vec<(String, String)>,
    body: Option<&mut Map<String, Value>>,
) -> Option<String> {
    let found = match place {
        // What is no text is no key, and there all the same.
        KeyPlace::Header(name) => {
            parts.headers.get(name).map(|value| value.to_str().unwrap_or("?").to_owned())
        }
        KeyPlace::Query(name) => {
            let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).ok()?;
            pairs.0.into_iter().rfind(|(key, _)| key == name).map(|(_, text)| text)
        }
        KeyPlace::Path(name) => {
            let place = path.iter().position(|(key, _)| key == name)?;
            Some(path.remove(place).1)
        }
        KeyPlace::Body(name) => body?.shift_remove(name).map(|value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        }),
    };
    found.filter(|text| !text.is_empty())
}

/// Whoever calls with a webhook key.
async fn by_key(server: &Server, key: Option<String>) -> Result<Caller, Refusal> {
    let key = key.ok_or(Refusal::NotAuthenticated)?;
    server.keys.caller(&server.runtime, &key).await?.ok_or(Refusal::Unauthorized)
}

/// The variables of the path by their names, decoded. What is not UTF-8 names nothing.
async fn path_values(parts: &mut Parts, target: &Target) -> Result<Vec<(String, String)>, Refusal> {
    if target.variables.is_empty() {
        return Ok(Vec::new());
    }
    let values = RawPathParams::from_request_parts(parts, &()).await.map_err(|_| Refusal::NotFound)?;
    let values = values.iter().map(|(_, value)| value.to_owned());
    Ok(target.variables.iter().cloned().zip(values).collect())
}

/// What the query gives for fields, each a list of texts.
pub(crate) fn extend_by_query(
    fields: &mut Map<String, Value>,
    spec: &Spec,
    uri: &Uri,
) -> Result<(), Refusal> {
    if !spec.fields.iter().any(|field| field.part == Part::Query) {
        return Ok(());
    }
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        let detail = Detail::new("query_invalid", vec!["query".into()], "The query cannot be read");
        return Err(Refusal::detail(detail));
    };
    for (name, text) in pairs {
        if spec.field_of(&name).is_none_or(|field| field.part != Part::Query) {
            continue;
        }
        if let Value::Array(texts) = fields.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
            texts.push(text.into());
        }
    }
    Ok(())
}

/// The caller's own name for the request.
fn request_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=REQUEST_KEY_MAX).contains(&key.len()));
    let Some(key) = key else {
        let msg = format!("An idempotency key has 1 to {REQUEST_KEY_MAX} visible ASCII characters");
        let loc = vec!["header".into(), "Idempotency-Key".into()];
        return Err(Refusal::detail(Detail::new("value_error", loc, msg)));
    };
    Ok(Some(key.to_owned()))
}

/// Whether a walker may be entered this way.
pub(crate) fn enters(entry: EntryType, on_node: bool) -> bool {
    match entry {
        EntryType::Both => true,
        EntryType::Root => !on_node,
        EntryType::Node => on_node,
    }
}

/// The fields in the part `body` of a form, or what is wrong with it.
fn form_fields(
    server: &Server,
    spec: &Spec,
    body: &[u8],
) -> Result<Result<Map<String, Value>, Box<Detail>>, Refusal> {
    let mut fields = of_body(spec);
    let required = fields.any(|field| field.kind == FieldKind::Required);
    let value = extract::json(body, server.runtime.config().json_depth_max)?;
    if value.is_none() && required {
        let loc = vec!["body".into(), "body".into()];
        return Ok(Err(Box::new(Detail::missing(loc, Value::Null))));
    }
    Ok(extract::members(value, required))
}

/// The fields that come in the JSON body.
fn of_body(spec: &Spec) -> impl Iterator<Item = &Field> + Clone {
    spec.fields.iter().filter(|field| field.part == Part::Body && field.kind != FieldKind::Excluded)
}

/// The body as an object, or what is wrong with it. That it is JSON at all is asked first, of everybody.
async fn body_of(
    server: &Server,
    spec: &Spec,
    headers: &HeaderMap,
    body: Body,
) -> Result<Result<Map<String, Value>, Box<Detail>>, Refusal> {
    let config = server.runtime.config();
    let bytes = extract::bytes(headers, body, config).await?;
    // A walker without fields there expects no body, and whatever comes is ignored.
    let mut fields = of_body(spec);
    let has_key = matches!(spec.webhook_key(), Some(KeyPlace::Body(_))) && !spec.is_public();
    if !has_key && fields.clone().next().is_none() {
        return Ok(Ok(Map::new()));
    }
    let required = fields.any(|field| field.kind == FieldKind::Required);
    let value = extract::json(&bytes, config.json_depth_max)?;
    Ok(extract::members(value, required))
}

fn entry(text: String, details: &mut Vec<Detail>) -> Option<NodeId> {
    let refuse = |error: walkabout_schema::ParseIdError| {
        let detail = Detail::new("value_error", vec!["path".into(), "node".into()], error.to_string());
        details.push(detail.input(text.clone().into()));
    };
    text.parse().map_err(refuse).ok()
}

/// What an async walker is answered with.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Accepted<'a> {
    /// Always 200.
    status: u16,
    /// The run.
    walker_id: &'a WalkerId,
    /// Allows to act on a run that nobody owns. It is given once.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_token: Option<String>,
}

pub(crate) fn accepted(walker_id: &WalkerId, run_token: Option<String>) -> Accepted<'_> {
    Accepted { status: 200, walker_id, run_token }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        assert!(enters(EntryType::Both, true) && enters(EntryType::Both, false));
        assert!(enters(EntryType::Root, false) && !enters(EntryType::Root, true));
        assert!(enters(EntryType::Node, true) && !enters(EntryType::Node, false));
    }
}
