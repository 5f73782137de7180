//! Every route, on one screen.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

use super::{Server, health, problem::Refusal, runs, users, walkers, ws};

/// What is served where. A first segment with a `:` is an id, any other a walker's name.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/walker/{walker}", post(walkers::spawn).get(runs::record))
        .route("/walker/{walker}/{node}", post(walkers::spawn_on))
        .route("/walker/{walker}/events", get(runs::events).post(walkers::spawn_on_events))
        .route("/walkers", get(runs::list))
        .route("/files/{walker}/{name}", get(runs::file))
        .route("/user/register", post(users::register))
        .route("/user/login", post(users::login))
        .route("/websocket", get(ws::open))
        .route("/healthz", get(health::healthz))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .fallback(|| async { Refusal::NotFound })
        .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed("") })
        .with_state(server)
}
