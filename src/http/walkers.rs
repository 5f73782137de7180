//! Spawns walkers.

use std::{io::Write, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};
use walkabout_schema::{NodeId, WalkerId};

use super::{
    Server, extract,
    extract::Segments,
    problem::{Detail, Refusal, answer, json_bytes},
};
use crate::{
    runtime::{Caller, REQUEST_KEY_MAX, Spawn, Spawned},
    walker::{EntryType, FieldKind, Spec},
};

/// `POST /walker/{name}`: enters at the caller's root.
pub(crate) async fn spawn(
    State(server): State<Arc<Server>>,
    Segments(walker): Segments<String>,
    request: Request,
) -> Result<Response, Refusal> {
    run(&server, walker, None, request).await
}

/// `POST /walker/{name}/{node}`: enters at a node.
pub(crate) async fn spawn_on(
    State(server): State<Arc<Server>>,
    Segments((walker, node)): Segments<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    run(&server, walker, Some(node), request).await
}

/// `POST /walker/{name}/events`: the route of events takes the place of a node with this name, which there
/// cannot be.
pub(crate) async fn spawn_on_events(
    State(server): State<Arc<Server>>,
    Segments(walker): Segments<String>,
    request: Request,
) -> Result<Response, Refusal> {
    run(&server, walker, Some("events".to_owned()), request).await
}

/// In the order of Jac Cloud: route, JSON, caller, then fields and entry, which the runtime checks.
pub(crate) async fn run(
    server: &Server,
    walker: String,
    node: Option<String>,
    request: Request,
) -> Result<Response, Refusal> {
    // The only thing that can be asked of a run by this path is its record.
    if walker.contains(':') && node.is_none() {
        return Err(Refusal::MethodNotAllowed("GET,HEAD"));
    }
    let spec = server.runtime.spec(&walker).filter(|spec| !spec.is_private()).ok_or(Refusal::NotFound)?;
    if !enters(spec.entry_type(), node.is_some()) {
        return Err(Refusal::NotFound);
    }
    let (parts, body) = request.into_parts();
    let fields = fields(server, spec, &parts.headers, body).await?;
    let caller =
        if spec.is_public() { Caller::public() } else { extract::user(server, &parts.headers).await? };
    let node = node.map(|text| entry(&text)).transpose()?;
    let request_key = request_key(&parts.headers)?;
    let spawn = Spawn { walker, node, caller, fields, client_id: None, request_key };
    let (mut response, repeated) = match server.runtime.spawn(spawn).await? {
        Spawned::Done { status, reports, repeated } => (done(status, &reports), repeated),
        Spawned::Accepted { id, run_token, repeated } => {
            (answer(StatusCode::OK, &accepted(&id, run_token)), repeated)
        }
    };
    if repeated {
        response.headers_mut().insert("x-idempotent-replay", HeaderValue::from_static("1"));
    }
    Ok(response)
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

async fn fields(
    server: &Server,
    spec: &Spec,
    headers: &HeaderMap,
    body: Body,
) -> Result<Map<String, Value>, Refusal> {
    let config = server.runtime.config();
    let bytes = extract::bytes(headers, body, config).await?;
    // A walker without fields expects no body, and whatever comes is ignored.
    if spec.fields.iter().all(|field| field.kind == FieldKind::Excluded) {
        return Ok(Map::new());
    }
    let required = spec.fields.iter().any(|field| field.kind == FieldKind::Required);
    extract::object(&bytes, config.json_depth_max, required)
}

fn entry(text: &str) -> Result<NodeId, Refusal> {
    text.parse().map_err(|error: walkabout_schema::ParseIdError| {
        let detail = Detail::new("value_error", vec!["path".into(), "node".into()], error.to_string());
        Refusal::detail(detail.input(text.into()))
    })
}

/// What an async walker is answered with.
pub(crate) fn accepted(id: &WalkerId, run_token: Option<String>) -> Value {
    match run_token {
        None => json!({ "status": 200, "walker_id": id }),
        Some(token) => json!({ "status": 200, "walker_id": id, "run_token": token }),
    }
}

/// `{"status","reports"}`, under that status.
fn done(status: u16, reports: &[Value]) -> Response {
    match status {
        // These cannot have a body.
        204 | 304 => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() =
                if status == 304 { StatusCode::NOT_MODIFIED } else { StatusCode::NO_CONTENT };
            response
        }
        // Nor can an answer end with these: a client would wait for the rest. This is the nearest that has no
        // body.
        100..200 => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => {
            let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match envelope(status, reports) {
                Ok(bytes) => json_bytes(code, bytes),
                Err(error) => {
                    tracing::error!(%error, "reports cannot be written as JSON");
                    answer(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        &json!({ "errors": ["The reports are no JSON."] }),
                    )
                }
            }
        }
    }
}

/// The body of a plain walker's answer, written straight to bytes.
pub(crate) fn envelope(status: u16, reports: &[Value]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64);
    write!(bytes, "{{\"status\":{status},\"reports\":").map_err(serde_json::Error::io)?;
    serde_json::to_writer(&mut bytes, reports)?;
    bytes.push(b'}');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_answers() {
        assert_eq!(envelope(200, &[]).unwrap(), br#"{"status":200,"reports":[]}"#);
        assert_eq!(envelope(201, &[json!({ "a": 1 })]).unwrap(), br#"{"status":201,"reports":[{"a":1}]}"#);
        for (status, wanted) in [(200, 200), (418, 418), (204, 204), (304, 304), (101, 204), (0, 500)] {
            assert_eq!(done(status, &[]).status().as_u16(), wanted);
        }
        assert!(!done(204, &[]).headers().contains_key("content-type"));
    }

    #[test]
    fn entries() {
        assert!(enters(EntryType::Both, true) && enters(EntryType::Both, false));
        assert!(enters(EntryType::Root, false) && !enters(EntryType::Root, true));
        assert!(enters(EntryType::Node, true) && !enters(EntryType::Node, false));
    }
}
