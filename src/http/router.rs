//! Every route, on one screen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, Uri, header},
    routing::{MethodFilter, MethodRouter, delete, get, patch, post},
};

use super::{
    Server, asyncapi,
    extract::Segments,
    govern::{self, Verb},
    health, leave,
    openapi::{self, Description},
    problem::Refusal,
    runs,
    slash::Paths,
    sso, users, util, verify,
    viewer::{self, Document},
    walkers::{self, Target},
    webhook, ws,
};
use crate::walker::Method::{self, Delete, Get, Patch, Post};

/// What is served where: first the server's own, then the walkers'. A literal segment goes before a variable, so below `/walker` a
/// walker's name does before the id of a run. A path with a slash too many at its end is sent to its route.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let mut router = Router::new();
    let mut routes: Vec<_> = own().into_iter().map(|own| (own.path.to_owned(), own.serve)).collect();
    if server.runtime.config().docs {
        routes.extend(documents(&server).map(|(path, route)| (path.to_owned(), route)));
    }
    routes.extend(of_walkers(&server));
    let paths: BTreeSet<String> = routes.iter().map(|(path, _)| path.clone()).collect();
    let paths = Arc::new(Paths::of(paths));
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

/// A route of the server itself, with what documents say of it.
struct Own {
    method: Method,
    path: &'static str,
    serve: MethodRouter<Arc<Server>>,
    /// None where the OpenAPI document has no words for it.
    describe: Option<Description>,
}

fn own() -> Vec<Own> {
    let on =
        |method, path, serve, describe: Description| Own { method, path, serve, describe: Some(describe) };
    // `/walker/{walker_id}/cancel` and its like
    let one = |path, verb, describe| {
        let act = move |State(server), Segments(id), request| govern::one(server, id, verb, request);
        on(Post, path, post(act), describe)
    };
    let many = |path, verb, describe| {
        let act = move |State(server), request| govern::many(server, verb, request);
        on(Post, path, post(act), describe)
    };
    let record = get(runs::record).fallback(runs::no_record);
    vec![
        on(Get, "/walker/{walker_id}", record, runs::describe_record),
        on(Get, "/walker/{walker_id}/events", get(runs::events), runs::describe_events),
        one("/walker/{walker_id}/cancel", Verb::Cancel, |types| govern::describe_one(types, Verb::Cancel)),
        one("/walker/{walker_id}/pause", Verb::Pause, |types| govern::describe_one(types, Verb::Pause)),
        one("/walker/{walker_id}/resume", Verb::Resume, |types| govern::describe_one(types, Verb::Resume)),
        one("/walker/{walker_id}/retry", Verb::Retry, |types| govern::describe_one(types, Verb::Retry)),
        one("/walker/{walker_id}/complete", Verb::Complete, |types| {
            govern::describe_one(types, Verb::Complete)
        }),
        on(Get, "/walkers", get(runs::list), runs::describe_list),
        many("/walkers/cancel", Verb::Cancel, |types| govern::describe_many(types, Verb::Cancel)),
        many("/walkers/pause", Verb::Pause, |types| govern::describe_many(types, Verb::Pause)),
        many("/walkers/resume", Verb::Resume, |types| govern::describe_many(types, Verb::Resume)),
        on(Get, "/files/{walker_id}/{name}", get(runs::file), runs::describe_file),
        on(Post, "/user/register", post(users::register), users::describe_register),
        on(Post, "/user/login", post(users::login), users::describe_login),
        on(Post, "/user/logout", post(users::logout), users::describe_logout),
        on(Post, "/user/refresh", post(users::refresh), users::describe_refresh),
        on(Post, "/user/ticket", post(users::ticket), users::describe_ticket),
        on(Post, "/user/change_password", post(users::change_password), users::describe_change_password),
        on(Post, "/user/send-verification-code", post(verify::send_code), verify::describe_send_code),
        on(Post, "/user/verify", post(verify::verify), verify::describe_verify),
        on(Post, "/user/forgot_password", post(verify::forgot_password), verify::describe_forgot_password),
        on(Post, "/user/reset_password", post(verify::reset_password), verify::describe_reset_password),
        on(Delete, "/user", delete(leave::delete), leave::describe_delete),
        on(Get, "/sso/{platform}/{operation}", get(sso::begin), sso::describe_begin),
        on(Get, "/sso/{platform}/{operation}/callback", get(sso::callback), sso::describe_callback),
        on(Post, "/sso/{platform}/{operation}/callback", post(sso::posted), sso::describe_posted),
        on(Post, "/sso/attach", post(sso::attach), sso::describe_attach),
        on(Delete, "/sso/detach", delete(sso::detach), sso::describe_detach),
        on(Get, "/webhook", get(webhook::list), webhook::describe_list),
        on(Post, "/webhook/generate-key", post(webhook::generate), webhook::describe_generate),
        on(Patch, "/webhook/extend/{id}", patch(webhook::extend), webhook::describe_extend),
        on(Delete, "/webhook/delete", delete(webhook::delete), webhook::describe_delete),
        on(Get, "/util/traverse", get(util::traverse), util::describe_traverse),
        on(Get, "/util/traverse-stream", get(util::traverse_stream), util::describe_stream),
        // The AsyncAPI document has it.
        Own { method: Get, path: "/websocket", serve: get(ws::open), describe: None },
        on(Get, "/healthz", get(health::healthz), health::describe_healthz),
        on(Get, "/livez", get(health::livez), health::describe_livez),
        on(Get, "/readyz", get(health::readyz), health::describe_readyz),
    ]
}

/// The documents and their viewer, which are in no document.
fn documents(server: &Server) -> impl Iterator<Item = (&'static str, MethodRouter<Arc<Server>>)> {
    let described = own().into_iter().filter_map(|own| Some((own.method, own.path, own.describe?)));
    let openapi = openapi::document(&server.runtime, described);
    let asyncapi = asyncapi::document(&server.runtime);
    let sent = |document: Document| get(move || std::future::ready(document.answer()));
    let file = |Segments(name): Segments<String>| async move { viewer::file(&name) };
    [
        ("/openapi.json", sent(Document::json(&openapi))),
        ("/openapi.yaml", sent(Document::yaml(&openapi))),
        ("/asyncapi.json", sent(Document::json(&asyncapi))),
        ("/docs", get(viewer::page)),
        ("/docs/{file}", get(file)),
        ("/redoc", get(viewer::elsewhere)),
    ]
    .into_iter()
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
    use axum::body::Body;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::{
        http,
        route::RESERVED,
        testing::Bench,
        walker::{Abilities, Archetype, EntryType, FieldKind, Part, Spec, Walker},
    };

    /// No walker's path can be one of the server's.
    #[test]
    fn own_paths_are_reserved() {
        for Own { path, .. } in own() {
            let mut segments = path.split('/').skip(1);
            let first = segments.next().unwrap();
            let is_run = first == "walker" && segments.next().is_some_and(|second| second.starts_with('{'));
            assert!(is_run || RESERVED.contains(&first), "{path}");
        }
    }

    macro_rules! spec_only {
        ($($type:ident $name:literal $spec:expr;)*) => {$(
            #[derive(serde::Serialize, serde::Deserialize)]
            struct $type {
                number: u8,
            }
            impl Archetype for $type {
                const KIND: walkabout_schema::Kind = walkabout_schema::Kind::Walker;
                const NAME: &'static str = $name;
            }
            impl Walker for $type {
                fn spec() -> Spec {
                    $spec
                }
                fn abilities(_: &mut Abilities<Self>) {}
            }
        )*};
    }

    spec_only! {
        Look "look" Spec::new().field("number", FieldKind::Required);
        Show "show" Spec::new().path("/things/{number}").methods(&[Get, Method::Trace]).entry(EntryType::Root)
            .field("number", FieldKind::Required);
        Drop "drop" Spec::new().path("/things").methods(&[Delete, Method::Head]).entry(EntryType::Node)
            .field_in("number", FieldKind::Required, Part::Query);
        Odd "odd" Spec::new().left_out();
        Hidden "hidden" Spec::new().private();
    }

    /// What is in the document is served, and nothing else is where it is.
    #[tokio::test]
    async fn the_document_has_the_methods_that_are_served() {
        let bench = Bench::new(|types| {
            types.walker::<Look>().walker::<Show>().walker::<Drop>().walker::<Odd>().walker::<Hidden>();
        });
        let app = http::app(bench.await.runtime.clone()).await.unwrap();
        let ask = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            app.clone().oneshot(request).await.unwrap()
        };
        let answer = ask("GET", "/openapi.json").await;
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        let paths = document["paths"].as_object().unwrap();
        for path in ["/walker/look", "/walker/look/{node}", "/things/{number}", "/walkers", "/user/login"] {
            assert!(paths.contains_key(path), "{path}");
        }
        for path in ["/walker/odd", "/walker/hidden", "/websocket", "/docs"] {
            assert!(!paths.contains_key(path), "{path}");
        }
        // One path by its variables, whatever each walker calls them.
        assert_eq!(paths["/things/{number}"]["delete"]["parameters"][0]["name"], "number");
        assert!(!paths.contains_key("/things/{node}"));
        for (path, item) in paths {
            let parts = path.split('/').map(|part| if part.starts_with('{') { "w:a:1" } else { part });
            let concrete: Vec<&str> = parts.collect();
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "TRACE", "OPTIONS"] {
                let is_told = item.get(method.to_ascii_lowercase()).is_some();
                let is_told = is_told || method == "HEAD" && item.get("get").is_some();
                let status = ask(method, &concrete.join("/")).await.status();
                assert_eq!(status != StatusCode::METHOD_NOT_ALLOWED, is_told, "{method} {path}: {status}");
            }
        }
    }
}
