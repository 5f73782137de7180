//! Whether the server lives and whether it takes work.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Server, problem::answer};

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
