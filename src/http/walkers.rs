//! Calling walkers.

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use walkabout_schema::{NodeId, WalkerId};

use super::{
    Shared, extract,
    problem::{Invalid, Problem},
};
use crate::{
    runtime::{Caller, Spawn, Spawned},
    walker::FieldKind,
};

pub(crate) async fn on_root(
    State(state): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    spawn(&state, name, None, &headers, body).await
}

pub(crate) async fn on_node(
    State(state): State<Shared>,
    Path((name, node)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    spawn(&state, name, Some(node), &headers, body).await
}

/// In Jac Cloud's order: the body is JSON, the caller is known, the fields fit, the node may be entered.
async fn spawn(
    state: &Shared,
    walker: String,
    node: Option<String>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let runtime = &state.runtime;
    let Some(spec) = runtime.spec(&walker).filter(|spec| !spec.is_private()) else {
        return Err(Problem::NotFound);
    };
    let bytes = extract::bytes(state, headers, body).await?;
    let members = extract::members(state, &bytes)?;
    let caller = if spec.is_public() { Caller::public() } else { extract::user(state, headers).await? };
    let needs_body = || spec.fields.iter().any(|field| field.kind == FieldKind::Required);
    let fields = match members {
        Some(members) => members,
        None if needs_body() => {
            let missing = Invalid::new("missing", vec![json!("body")], "Field required", Value::Null);
            return Err(Problem::Invalid(vec![missing]));
        }
        None => serde_json::Map::new(),
    };
    let node = node
        .map(|node| {
            node.parse::<NodeId>().map_err(|error| {
                let loc = vec![json!("path"), json!("node")];
                Problem::Invalid(vec![Invalid::new(
                    "value_error",
                    loc,
                    &format!("Value error, {error}"),
                    json!(node),
                )])
            })
        })
        .transpose()?;
    let spawned = runtime.spawn(Spawn { walker, node, caller, fields, client_id: None }).await?;
    Ok(answer(spawned))
}

fn answer(spawned: Spawned) -> Response {
    match spawned {
        Spawned::Accepted(id) => {
            (StatusCode::OK, [(header::CONTENT_TYPE, JSON)], accepted(&id)).into_response()
        }
        Spawned::Done { status, reports } => {
            let code = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            // These forbid a body.
            if matches!(status, 204 | 304) {
                return code.into_response();
            }
            (code, [(header::CONTENT_TYPE, JSON)], envelope(status, &reports)).into_response()
        }
    }
}

const JSON: &str = "application/json";

fn accepted(id: &WalkerId) -> String {
    // An id has no character that JSON would escape.
    format!(r#"{{"status":200,"walker_id":"{id}"}}"#)
}

/// Written without a tree of values in between: this is the hottest answer.
pub(crate) fn envelope(status: u16, reports: &[Value]) -> String {
    let reports = serde_json::to_string(reports).unwrap_or_else(|_| "[]".to_owned());
    format!(r#"{{"status":{status},"reports":{reports}}}"#)
}
