//! For those who run the server.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::Shared;

/// Jac Cloud's: 200 with an empty body.
pub(crate) async fn healthz() -> StatusCode {
    StatusCode::OK
}

/// The process answers.
pub(crate) async fn livez() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

/// The runtime takes work.
pub(crate) async fn readyz(State(state): State<Shared>) -> (StatusCode, Json<Value>) {
    match state.runtime.health() {
        Ok(()) => (StatusCode::OK, Json(json!({ "status": "ready" }))),
        Err(error) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "code": error.code() })))
        }
    }
}
