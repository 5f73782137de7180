//! Whether the server lives and whether it takes work.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Server,
    openapi::{Describe, Types},
    problem::answer,
};
use crate::input::schema::put;

/// `GET /healthz`: it answers.
pub(crate) async fn healthz() -> StatusCode {
    StatusCode::OK
}

/// `GET /livez`: it answers.
pub(crate) async fn livez() -> Response {
    answer(StatusCode::OK, &json!({ "status": "live" }))
}

/// `GET /readyz`: whether it takes work now; when it does not, the code of the reason and nothing of its
/// text.
pub(crate) async fn readyz(State(server): State<Arc<Server>>) -> Response {
    match server.runtime.health() {
        Ok(()) => answer(StatusCode::OK, &json!({ "status": "ready" })).into_response(),
        Err(error) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "code": error.code() }))
        }
    }
}

/// The tag of operations for who watches the server.
const TAG: &str = "Monitoring APIs";

/// How `GET /healthz` is documented.
pub(crate) fn describe_healthz(_: &mut Types) -> Describe {
    Describe::new(TAG, "Whether the server answers").ends(200, "It does.")
}

/// How `GET /livez` is documented.
pub(crate) fn describe_livez(_: &mut Types) -> Describe {
    Describe::new(TAG, "Whether the server lives").answers(200, "It does.", status("live", false))
}

/// How `GET /readyz` is documented.
pub(crate) fn describe_readyz(_: &mut Types) -> Describe {
    Describe::new(TAG, "Whether the server takes work")
        .answers(200, "It does.", status("ready", false))
        .answers(503, "It does not, for the reason that the code names.", status("not ready", true))
}

fn status(word: &str, has_code: bool) -> Value {
    let mut properties = json!({ "status": { "const": word } });
    let mut required = vec!["status"];
    if has_code {
        put(&mut properties, "code", json!({ "type": "string" }));
        required.push("code");
    }
    json!({ "type": "object", "properties": properties, "required": required })
}
