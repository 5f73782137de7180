//! Slashes at the end, HEAD, and what is allowed: rules of all routes, over real sockets.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use reqwest::Method;
use serde_json::json;

use crate::support::{Client, Server, example, stock};

/// What a request as it is written is answered with, up to the end of the connection.
fn raw(server: &Server, line: &str) -> String {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines()
        .find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value)
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slash_too_many_is_sent_to_the_route() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("specs"), folder.path(), &[]);
    for (line, wanted) in [
        ("GET /walkers/", "/walkers"),
        ("GET /walkers/?status=a%20b&next=//evil.com/", "/walkers?status=a%20b&next=//evil.com/"),
        ("POST /user/login/", "/user/login"),
        ("DELETE /user/login/", "/user/login"),
        ("POST /walker/sealed/", "/walker/sealed"),
        ("POST /walker/sealed/n::1/", "/walker/sealed/n::1"),
        ("PATCH /things/1/?tags=new", "/things/1?tags=new"),
        ("HEAD /healthz/", "/healthz"),
        ("GET http://evil.com/walkers/", "/walkers"),
        ("GET /things/%2F%2Fevil.com/", "/things/%2F%2Fevil.com"),
        ("GET /things/%0d%0aset-cookie:a=b/", "/things/%0d%0aset-cookie:a=b"),
    ] {
        let answer = raw(&server, line);
        assert_eq!((status(&answer), header(&answer, "location")), (307, Some(wanted)), "{line}");
    }
    for line in [
        "GET /",
        "GET //",
        "GET //evil.com/",
        "GET ///evil.com/",
        "GET //evil.com/walkers/",
        "GET //walkers/",
        "GET /walkers//",
        "GET /%2Fevil.com/",
        "GET /%5Cevil.com/",
        "GET /\\evil.com/",
        "GET /walker//evil.com/",
        "GET http://evil.com//evil.com/",
        "GET /nothing/",
        "GET /walker/",
    ] {
        let answer = raw(&server, line);
        assert!(matches!(status(&answer), 400 | 404), "{line}: {answer}");
        assert_eq!(header(&answer, "location"), None, "{line}");
    }
    // A client that follows sends the same again.
    let ann = Client::user(&server.url, "ann@example.com").await;
    let (status, made) = ann.post("/things/", &json!({ "name": "vase" })).await;
    assert_eq!((status, &made["reports"][0]["context"]["name"]), (201, &json!("vase")));
}

/// Everything that answers GET.
#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let wanted = json!({ "user_id": ann.user["root_id"], "report_type": "summary" });
    let run = ann.submit("generate_report", &wanted).await;
    let record = ann.finished(&run).await;
    let file = record["context"]["report_url"].as_str().unwrap().to_owned();
    for path in [
        format!("/walker/{run}"),
        "/walker/w:sample:0190b3e2-7a55-7000-8000-000000000000".to_owned(),
        "/walker/nonsense".to_owned(),
        format!("/walker/{run}/events"),
        "/walkers".to_owned(),
        "/walkers?limit=none".to_owned(),
        file,
        format!("/files/{run}/other.pdf"),
        "/websocket".to_owned(),
        "/healthz".to_owned(),
        "/livez".to_owned(),
        "/readyz".to_owned(),
        "/nothing".to_owned(),
    ] {
        let get = ann.request(Method::GET, &path).send().await.unwrap();
        let head = ann.request(Method::HEAD, &path).send().await.unwrap();
        assert_eq!(head.status(), get.status(), "{path}");
        for name in ["content-type", "content-length", "content-disposition", "allow", "upgrade"] {
            assert_eq!(head.headers().get(name), get.headers().get(name), "{name} of {path}");
        }
        // One of them has nothing to say but its status.
        assert_eq!(get.bytes().await.unwrap().is_empty(), path == "/healthz", "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_says_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("specs"), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let run = "/walker/w:sealed:0190b3e2-7a55-7000-8000-000000000000";
    let reads = ["", "/events"].map(|end| (format!("{run}{end}"), "GET,HEAD"));
    let acts = ["cancel", "pause", "resume", "retry", "complete"].map(|act| (format!("{run}/{act}"), "POST"));
    let own = [
        ("/walkers", "GET,HEAD"),
        ("/walkers/cancel", "POST"),
        ("/walkers/pause", "POST"),
        ("/walkers/resume", "POST"),
        ("/files/w:sealed:0190b3e2-7a55-7000-8000-000000000000/a", "GET,HEAD"),
        ("/user/register", "POST"),
        ("/user/login", "POST"),
        ("/user/logout", "POST"),
        ("/user/refresh", "POST"),
        ("/user/change_password", "POST"),
        ("/websocket", "GET,HEAD"),
        ("/healthz", "GET,HEAD"),
        ("/livez", "GET,HEAD"),
        ("/readyz", "GET,HEAD"),
        ("/walker/sealed", "POST"),
        ("/walker/label/print/1/n::00000000000000000000000000000001", "GET,HEAD,POST"),
        ("/things", "GET,HEAD,POST"),
        ("/things/1", "DELETE,GET,HEAD,PATCH,PUT"),
    ];
    let own = own.map(|(path, allow)| (path.to_owned(), allow));
    for (path, allow) in own.into_iter().chain(reads).chain(acts) {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"] {
            if allow.split(',').any(|allowed| allowed == method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = ann.request(method.clone(), &path).send().await.unwrap();
            assert_eq!(answer.status(), 405, "{method} {path}");
            let said = answer.headers()["allow"].to_str().unwrap().replace(' ', "");
            let mut said: Vec<&str> = said.split(',').collect();
            said.sort_unstable();
            assert_eq!(said.join(","), allow, "{method} {path}");
        }
    }
}
