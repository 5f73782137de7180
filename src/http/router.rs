//! Every route, on one screen.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};

use super::{
    Server,
    extract::Segments,
    govern::{self, Verb},
    health,
    problem::Refusal,
    runs, users, walkers, ws,
};

/// What is served where. A first segment with a `:` is an id, any other a walker's name.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let mut router = Router::new();
    for verb in Verb::ALL {
        // `/walker/{walker_id}/cancel`, `/pause`, `/resume`, `/retry`, `/complete`
        let act = move |State(server), Segments(walker), request| govern::one(server, walker, verb, request);
        router = router.route(&format!("/walker/{{walker}}/{}", verb.as_str()), post(act));
    }
    for verb in Verb::OF_MANY {
        // `/walkers/cancel`, `/pause`, `/resume`
        let act = move |State(server), request| govern::many(server, verb, request);
        router = router.route(&format!("/walkers/{}", verb.as_str()), post(act));
    }
    router
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
