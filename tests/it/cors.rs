//! What pages of other origins may do, over real sockets.

use reqwest::{Method, Response, header::HeaderMap};
use serde_json::json;

use crate::support::{Client, Server, example};

fn server(flags: &[&str]) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&example("specs"), folder.path(), flags), folder)
}

/// What a browser asks before it sends such a request.
async fn preflight(server: &Server, path: &str, origin: &str, method: &str) -> Response {
    let asked = Client::anonymous(&server.url).request(Method::OPTIONS, path);
    let asked = asked.header("origin", origin).header("access-control-request-method", method);
    asked.header("access-control-request-headers", "authorization,content-type").send().await.unwrap()
}

async fn send(server: &Server, method: Method, path: &str, origin: &str) -> Response {
    Client::anonymous(&server.url).request(method, path).header("origin", origin).send().await.unwrap()
}

/// The value of `access-control-<name>`.
fn said<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(format!("access-control-{name}")).map(|value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_setting_no_page_reads_anything() {
    let (server, _folder) = server(&[]);
    let asked = preflight(&server, "/things", "https://a.example", "GET").await;
    assert_eq!((asked.status().as_u16(), said(asked.headers(), "allow-origin")), (405, None));
    let answer = send(&server, Method::GET, "/healthz", "https://a.example").await;
    assert_eq!((answer.status().as_u16(), said(answer.headers(), "allow-origin")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_origins() {
    let flags = ["--allow-origins", "https://a.example,https://b.example:81", "--allow-methods", "get,PATCH"];
    let (server, _folder) = server(&[&flags[..], &["--allow-headers", "Authorization"]].concat());
    for origin in ["https://a.example", "https://b.example:81"] {
        // Before anybody asks for a login, whatever is at the path.
        for path in ["/things", "/things/1", "/walkers", "/nothing", "/walkers/"] {
            let asked = preflight(&server, path, origin, "PATCH").await;
            assert_eq!(asked.status(), 200, "{path}");
            let headers = asked.headers();
            assert_eq!(said(headers, "allow-origin"), Some(origin), "{path}");
            assert_eq!(said(headers, "allow-methods"), Some("GET,PATCH"));
            assert_eq!(said(headers, "allow-headers"), Some("authorization"));
            assert_eq!(said(headers, "allow-credentials"), Some("true"));
            assert_eq!(said(headers, "max-age"), Some("600"));
            assert!(headers["vary"].to_str().unwrap().contains("origin"));
        }
        // A refusal is read as well as an answer is, and so is what sends elsewhere.
        for (path, status) in [("/healthz", 200), ("/things", 403), ("/nothing", 404)] {
            let answer = send(&server, Method::GET, path, origin).await;
            assert_eq!(answer.status(), status);
            assert_eq!(said(answer.headers(), "allow-origin"), Some(origin), "{path}");
            let exposed = said(answer.headers(), "expose-headers").unwrap();
            for name in ["x-idempotent-replay", "allow", "location", "retry-after"] {
                assert!(exposed.split(',').any(|other| other == name), "{name}: {exposed}");
            }
        }
    }
    for origin in
        ["https://c.example", "http://a.example", "https://a.example:444", "https://a.example.evil", "null"]
    {
        let asked = preflight(&server, "/things", origin, "GET").await;
        assert_eq!(said(asked.headers(), "allow-origin"), None, "{origin}");
        let answer = send(&server, Method::GET, "/healthz", origin).await;
        assert_eq!(
            (answer.status().as_u16(), said(answer.headers(), "allow-origin")),
            (200, None),
            "{origin}"
        );
    }
    // A request from no page.
    let answer = Client::anonymous(&server.url).request(Method::GET, "/healthz").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), said(answer.headers(), "allow-origin")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_origins() {
    let (server, _folder) = server(&["--allow-origins", "*"]);
    for origin in ["https://a.example", "http://localhost:3000", "null"] {
        let asked = preflight(&server, "/things/1", origin, "DELETE").await;
        let headers = asked.headers();
        assert_eq!(asked.status(), 200);
        assert_eq!(said(headers, "allow-origin"), Some(origin));
        assert_eq!(said(headers, "allow-methods"), Some("DELETE"));
        assert_eq!(said(headers, "allow-headers"), Some("authorization,content-type"));
        assert_eq!(said(headers, "allow-credentials"), Some("true"));
        let answer = send(&server, Method::GET, "/healthz", origin).await;
        assert_eq!(said(answer.headers(), "allow-origin"), Some(origin));
    }
    // An OPTIONS request that asks nothing of the kind is for a route.
    let options = send(&server, Method::OPTIONS, "/things", "https://a.example").await;
    assert_eq!(options.status(), 405);
    assert_eq!(said(options.headers(), "allow-origin"), Some("https://a.example"));
    assert!(options.headers()["vary"].to_str().unwrap().contains("origin"));
    // All works as it does without.
    let ann = Client::user(&server.url, "ann@example.com").await;
    let (status, made) = ann.post("/things", &json!({ "name": "vase" })).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(ann.get("/things/1?name_only=true").await.1["reports"], json!(["vase"]));
    let mut socket = ann.socket().await;
    assert_eq!(socket.ask(json!({ "type": "connection" })).await["type"], "connection");
}
