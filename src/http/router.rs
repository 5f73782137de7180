//! Every route, on one screen.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, Uri, header},
    routing::{MethodFilter, MethodRouter, delete, get, patch, post},
};

use super::{
    Server,
    extract::Segments,
    govern::{self, Verb},
    health, leave,
    problem::Refusal,
    runs,
    slash::Paths,
    sso, users, util, verify,
    walkers::{self, Target},
    webhook, ws,
};
use crate::walker::Method;

/// What is served where: first the server's own, then the walkers'. A literal segment goes before a variable, so below `/walker` a
/// walker's name does before the id of a run. A path with a slash too many at its end is sent to its route.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let mut router = Router::new();
    let own = own().map(|(path, route)| (path.to_owned(), route));
    let routes: Vec<_> = own.into_iter().chain(of_walkers(&server)).collect();
    let paths = Arc::new(Paths::of(routes.iter().map(|(path, _)| path.clone())));
    for (path, route) in routes {
        router = router.route(&path, route);
    }
    router
        .fallback(move |uri: Uri| async move {
            let location = paths.without_slash(&uri).ok_or(Refusal::NotFound)?;
            Ok::<_, Refusal>((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]))
        })
        .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed("") })
        .with_state(server)
}

fn own() -> [(&'static str, MethodRouter<Arc<Server>>); 37] {
    // `/walker/{walker_id}/cancel` and its like
    let one = |verb| post(move |State(server), Segments(id), request| govern::one(server, id, verb, request));
    let many = |verb| post(move |State(server), request| govern::many(server, verb, request));
    [
        ("/walker/{walker_id}", get(runs::record).fallback(runs::no_record)),
        ("/walker/{walker_id}/events", get(runs::events)),
        ("/walker/{walker_id}/cancel", one(Verb::Cancel)),
        ("/walker/{walker_id}/pause", one(Verb::Pause)),
        ("/walker/{walker_id}/resume", one(Verb::Resume)),
        ("/walker/{walker_id}/retry", one(Verb::Retry)),
        ("/walker/{walker_id}/complete", one(Verb::Complete)),
        ("/walkers", get(runs::list)),
        ("/walkers/cancel", many(Verb::Cancel)),
        ("/walkers/pause", many(Verb::Pause)),
        ("/walkers/resume", many(Verb::Resume)),
        ("/files/{walker_id}/{name}", get(runs::file)),
        ("/user/register", post(users::register)),
        ("/user/login", post(users::login)),
        ("/user/logout", post(users::logout)),
        ("/user/refresh", post(users::refresh)),
        ("/user/ticket", post(users::ticket)),
        ("/user/change_password", post(users::change_password)),
        ("/sso/attach", post(sso::attach)),
        ("/sso/detach", delete(sso::detach)),
        ("/sso/{platform}/{operation}", get(sso::begin)),
        ("/sso/{platform}/{operation}/callback", get(sso::callback).post(sso::posted)),
        ("/user/send-verification-code", post(verify::send_code)),
        ("/user", delete(leave::delete)),
        ("/user/verify", post(verify::verify)),
        ("/user/forgot_password", post(verify::forgot_password)),
        ("/user/reset_password", post(verify::reset_password)),
        ("/webhook", get(webhook::list)),
        ("/webhook/generate-key", post(webhook::generate)),
        ("/webhook/extend/{id}", patch(webhook::extend)),
        ("/webhook/delete", delete(webhook::delete)),
        ("/util/traverse", get(util::traverse)),
        ("/util/traverse-stream", get(util::traverse_stream)),
        ("/websocket", get(ws::open)),
        ("/healthz", get(health::healthz)),
        ("/livez", get(health::livez)),
        ("/readyz", get(health::readyz)),
    ]
}

/// The routes of walkers, by path; one path may be that of several by their methods.
fn of_walkers(server: &Server) -> BTreeMap<String, MethodRouter<Arc<Server>>> {
    let mut paths: BTreeMap<String, MethodRouter<Arc<Server>>> = BTreeMap::new();
    for route in server.runtime.routes() {
        let Some(methods) = route.methods.iter().copied().map(filter).reduce(MethodFilter::or) else {
            continue;
        };
        let path = route.template.shape();
        let target = Arc::new(Target::new(route));
        let run = move |State(server): State<Arc<Server>>, request: Request| {
            let target = Arc::clone(&target);
            async move { walkers::run(&server, &target, request).await }
        };
        let known = paths.remove(&path).unwrap_or_default();
        paths.insert(path, known.on(methods, run));
    }
    paths
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
        Method::Head => MethodFilter::HEAD,
        Method::Trace => MethodFilter::TRACE,
        Method::Options => MethodFilter::OPTIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::RESERVED;

    /// No walker's path can be one of the server's.
    #[test]
    fn own_paths_are_reserved() {
        for (path, _) in own() {
            let mut segments = path.split('/').skip(1);
            let first = segments.next().unwrap();
            let is_run = first == "walker" && segments.next().is_some_and(|second| second.starts_with('{'));
            assert!(is_run || RESERVED.contains(&first), "{path}");
        }
    }
}
