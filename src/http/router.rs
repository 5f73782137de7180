//! Every route on one screen.

use axum::{
    Router,
    routing::{get, post},
};

use super::{Shared, health, problem, runs, users, walkers, ws};

pub(crate) fn router(state: Shared) -> Router {
    Router::new()
        .route("/walker/{name}", post(walkers::on_root).get(runs::record))
        .route("/walker/{name}/{node}", post(walkers::on_node))
        .route("/walker/{name}/events", get(runs::events))
        .route("/walkers", get(runs::list))
        .route("/files/{walker_id}/{name}", get(runs::file))
        .route("/user/register", post(users::register))
        .route("/user/login", post(users::login))
        .route("/websocket", get(ws::upgrade))
        .route("/healthz", get(health::healthz))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::not_found)
        .with_state(state)
}
