//! Who may do what: every route, asked by everybody.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    jac_cloud::app::{App, node},
    support::Client,
};

/// Who asks, in the order of the columns.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Anonymous,
    Owner,
    /// Without READ on what is the owner's.
    Stranger,
    /// With it.
    Reader,
    Admin,
    Expired,
    /// With a webhook key of the owner, and no login.
    Key,
}

const ALL: [Who; 7] =
    [Who::Anonymous, Who::Owner, Who::Stranger, Who::Reader, Who::Admin, Who::Expired, Who::Key];

/// Method, path and body, and the status for each of those who ask. `{run}` is an open run of the owner, `{done}` one that has ended and
/// wrote a file, `{node}` a node, `{key}` a webhook key; `{own}` in a body is the address of who asks, `{fresh}` one that nobody has.
type Cells = (&'static str, &'static str, &'static str, [u16; 7]);

#[rustfmt::skip]
const ROUTES: &[Cells] = &[
    //                                                                       nobody owner stranger reader admin expired key
    ("POST",   "/user/register", r#"{"email":"{fresh}","password":"a"}"#,     [201, 201, 201, 201, 201, 201, 201]),
    ("POST",   "/user/login", r#"{"email":"{own}","password":"correct horse"}"#, [422, 200, 200, 200, 200, 200, 422]),
    ("POST",   "/user/refresh", "",                                           [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/user/ticket", "",                                            [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/user/change_password", r#"{"old_password":"no","new_password":"a"}"#, [403, 403, 403, 403, 403, 401, 403]),
    ("POST",   "/user/send-verification-code", "",                            [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/user/verify", r#"{"code":"none"}"#,                          [403, 403, 403, 403, 403, 403, 403]),
    ("POST",   "/user/forgot_password", r#"{"email":"{fresh}"}"#,             [200, 200, 200, 200, 200, 200, 200]),
    ("POST",   "/user/reset_password", r#"{"code":"none","password":"a"}"#,   [403, 403, 403, 403, 403, 403, 403]),
    ("DELETE", "/user", r#"{"password":"no"}"#,                               [403, 403, 403, 403, 403, 401, 403]),
    ("DELETE", "/user", r#"{"email":"{fresh}","password":"correct horse"}"#,  [403, 403, 403, 403, 404, 401, 403]),
    ("POST",   "/user/logout", "",                                            [403, 200, 200, 200, 200, 401, 403]),
    ("GET",    "/sso/google/login", "",                                       [501, 501, 501, 501, 501, 501, 501]),
    ("GET",    "/sso/google/login/callback", "",                              [501, 501, 501, 501, 501, 501, 501]),
    ("POST",   "/sso/google/login/callback", "",                              [501, 501, 501, 501, 501, 501, 501]),
    ("POST",   "/sso/attach", r#"{"platform":"google","id":"1","email":"{own}","proof":""}"#, [403, 501, 501, 501, 501, 401, 403]),
    ("DELETE", "/sso/detach", r#"{"platform":"google"}"#,                     [403, 501, 501, 501, 501, 401, 403]),
    ("GET",    "/webhook", "",                                                [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/webhook/generate-key", r#"{"name":"{fresh}"}"#,              [403, 201, 201, 201, 201, 401, 403]),
    ("PATCH",  "/webhook/extend/{key}", "{}",                                 [403, 200, 404, 404, 404, 401, 403]),
    ("DELETE", "/webhook/delete", r#"{"ids":["{key}"]}"#,                     [403, 200, 404, 404, 404, 401, 403]),
    ("GET",    "/util/traverse", "",                                          [403, 200, 200, 200, 200, 401, 403]),
    ("GET",    "/util/traverse?source={node}", "",                            [403, 200, 404, 200, 200, 401, 403]),
    ("GET",    "/util/traverse-stream?source={node}", "",                     [403, 200, 404, 200, 200, 401, 403]),
    ("GET",    "/walkers", "",                                                [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/walkers/cancel", r#"{"all":true}"#,                          [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/walkers/pause", r#"{"all":true}"#,                           [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/walkers/resume", r#"{"all":true}"#,                          [403, 200, 200, 200, 200, 401, 403]),
    ("GET",    "/walker/{run}", "",                                           [404, 200, 404, 200, 200, 401, 404]),
    ("GET",    "/walker/{run}/events", "",                                    [404, 200, 404, 200, 200, 401, 404]),
    ("POST",   "/walker/{run}/cancel", "",                                    [404, 200, 404, 403, 200, 401, 404]),
    ("POST",   "/walker/{run}/pause", "",                                     [404, 200, 404, 403, 200, 401, 404]),
    ("POST",   "/walker/{run}/resume", "",                                    [404, 200, 404, 403, 200, 401, 404]),
    ("POST",   "/walker/{run}/complete", r#"{"for":"go","value":1}"#,         [404, 200, 404, 403, 200, 401, 404]),
    ("POST",   "/walker/{done}/retry", "",                                    [404, 200, 404, 403, 200, 401, 404]),
    ("GET",    "/files/{done}/a.txt", "",                                     [404, 200, 404, 200, 200, 401, 404]),
    ("GET",    "/healthz", "",                                                [200, 200, 200, 200, 200, 200, 200]),
    ("GET",    "/openapi.json", "",                                           [200, 200, 200, 200, 200, 200, 200]),
    ("GET",    "/openapi.yaml", "",                                           [200, 200, 200, 200, 200, 200, 200]),
    ("GET",    "/asyncapi.json", "",                                          [200, 200, 200, 200, 200, 200, 200]),
    ("GET",    "/docs", "",                                                   [200, 200, 200, 200, 200, 200, 200]),
    ("GET",    "/livez", "",                                                  [200, 200, 200, 200, 200, 200, 200]),
    ("GET",    "/readyz", "",                                                 [200, 200, 200, 200, 200, 200, 200]),
    ("POST",   "/walker/echo", r#"{"number":1}"#,                             [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/walker/echo/{node}", r#"{"number":1}"#,                      [403, 200, 403, 200, 200, 401, 403]),
    ("POST",   "/walker/open", "{}",                                          [200, 200, 200, 200, 200, 200, 200]),
    ("POST",   "/walker/open/{node}", "{}",                                   [403, 403, 403, 403, 403, 403, 403]),
    ("POST",   "/walker/hidden", "{}",                                        [404, 404, 404, 404, 404, 404, 404]),
    ("POST",   "/walker/later", "{}",                                         [403, 200, 200, 200, 200, 401, 403]),
    ("POST",   "/webhook/walker/hook_header", "{}",                           [403, 403, 403, 403, 403, 403, 200]),
    ("POST",   "/webhook/walker/hook_header/{node}", "{}",                    [403, 403, 403, 403, 403, 403, 200]),
];

struct Cast {
    _app: App,
    clients: [Client; 7],
    key: String,
    node: String,
}

impl Cast {
    async fn gather() -> Self {
        let app = App::start().await;
        let expired = app.user().await;
        app.advance(Duration::from_secs(13 * 3600));
        let (owner, stranger, reader) = (app.user().await, app.user().await, app.user().await);
        let admin = app.admin().await;
        let root = reader.get("/util/traverse?depth=0").await.1["nodes"][0]["id"].clone();
        assert_eq!(owner.post("/walker/share", &json!({ "with": root })).await.0, 200);
        let node = node(&owner, "NO_ACCESS").await;
        let (_, key) = owner.post("/webhook/generate-key", &json!({ "name": "matrix" })).await;
        let clients = [app.nobody(), owner, stranger, reader, admin, expired, app.nobody()];
        Self { _app: app, clients, key: key["key"].as_str().unwrap().to_owned(), node }
    }

    fn client(&self, who: Who) -> &Client {
        &self.clients[who as usize]
    }

    /// What stands for a word in braces, made anew where something is done to it.
    async fn fill(&self, who: Who, text: &str, cell: usize) -> String {
        let owner = self.client(Who::Owner);
        let mut text =
            text.replace("{node}", &self.node).replace("{fresh}", &format!("fresh{cell}@example.com"));
        let own = self.client(who).user["email"].as_str().unwrap_or("nobody").to_owned();
        text = text.replace("{own}", &own);
        if text.contains("{run}") {
            let run = owner.submit("waits", &json!({})).await;
            owner.socket().await.until(&run, "waiting").await;
            text = text.replace("{run}", &run);
        }
        if text.contains("{done}") {
            let run = owner.submit("writes", &json!({})).await;
            owner.finished(&run).await;
            text = text.replace("{done}", &run);
        }
        if text.contains("{key}") {
            let (_, key) =
                owner.post("/webhook/generate-key", &json!({ "name": format!("key{cell}") })).await;
            text = text.replace("{key}", key["id"].as_str().unwrap());
        }
        text
    }

    async fn ask(&self, who: Who, (method, path, body, _): Cells, cell: usize) -> (u16, Value) {
        let client = match path {
            // These end a login: one of its own.
            "/user/logout" | "/user/refresh" if who != Who::Expired && self.client(who).token.is_some() => {
                let mut client = self.client(who).clone();
                let email = client.user["email"].as_str().unwrap().to_owned();
                client.login(&email).await;
                client
            }
            _ => self.client(who).clone(),
        };
        let (path, body) = (self.fill(who, path, cell).await, self.fill(who, body, cell + 10_000).await);
        let mut request = client.request(Method::from_bytes(method.as_bytes()).unwrap(), &path);
        if who == Who::Key {
            request = request.header("x-api-key", &self.key);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body);
        }
        client.send(request).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everybody_as_it_should() {
    let cast = Cast::gather().await;
    let mut wrong = Vec::new();
    let mut cell = 0;
    for row in ROUTES {
        for who in ALL {
            cell += 1;
            let (status, answer) = cast.ask(who, *row, cell).await;
            let wanted = row.3[who as usize];
            if status != wanted {
                wrong.push(format!("{} {} by {who:?}: {status} instead of {wanted}: {answer}", row.0, row.1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cell, ROUTES.len() * ALL.len());
}

/// Whether a path of the API document is that of a row.
fn is_at(documented: &str, path: &str) -> bool {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let (documented, path): (Vec<_>, Vec<_>) = (documented.split('/').collect(), path.split('/').collect());
    let fits = |(one, other): (&&str, &&str)| one.starts_with('{') || one == other;
    documented.len() == path.len() && documented.iter().zip(&path).all(fits)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_left_out() {
    let app = App::start().await;
    let (_, document) = app.nobody().get("/openapi.json").await;
    let mut missing = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            // What walkers answer is the same for all walkers of one kind: some of each are asked.
            if operation["operationId"].as_str().unwrap().starts_with("api_") {
                continue;
            }
            let is_there = |row: &&Cells| row.0.eq_ignore_ascii_case(method) && is_at(path, row.1);
            if method != "head" && !ROUTES.iter().any(|row| is_there(&row)) {
                missing.push(format!("{method} {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    // The WebSocket is in the other document; its events have tests of their own.
    assert_eq!(app.nobody().get("/websocket").await.0, 426);
}
