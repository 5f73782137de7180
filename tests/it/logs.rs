//! What the log says of requests, and what it must not.

use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::{Client, Server, example};

/// A till whose log is JSON and says all that it can, with one more flag for each of these.
fn till(flags: &[&str]) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let flags = [&["--log-format", "ecs", "--log-level", "trace"], flags].concat();
    (Server::start(&example("hooks"), folder.path(), &flags), folder)
}

/// Everything that was logged, once the server has stopped. Each line is an object.
fn log(mut server: Server) -> Vec<Value> {
    server.terminate();
    assert!(server.wait().success());
    let read = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    server.rest_of_log().iter().map(read).collect()
}

/// The lines of requests with this method and path.
fn requests<'l>(lines: &'l [Value], method: &str, path: &str) -> Vec<&'l Value> {
    let is_it = |line: &&Value| line["http.request.method"] == method && line["url.path"] == path;
    lines.iter().filter(is_it).collect()
}

async fn send(client: &Client, method: Method, path: &str, id: Option<&str>) -> (u16, HeaderMap) {
    let request = client.request(method, path);
    let request = id.iter().fold(request, |request, id| request.header("x-request-id", *id));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.headers().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_a_line() {
    let (server, _folder) = till(&["--allow-origins", "https://a.example"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let (status, headers) = send(&ann, Method::GET, "/walkers?limit=1", Some("mine/1")).await;
    assert_eq!((status, headers["x-request-id"].to_str().unwrap()), (200, "mine/1"));
    // What is no id is answered by one of ours.
    let (_, headers) = send(&ann, Method::GET, "/walkers", Some("two words")).await;
    let made = headers["x-request-id"].to_str().unwrap().to_owned();
    assert!(made.len() == 32 && made != "two words", "{made}");
    assert_eq!(send(&ann, Method::PUT, "/walkers", None).await.0, 405);
    let (status, headers) = send(&ann, Method::GET, "/nothing", None).await;
    assert!(status == 404 && headers.contains_key("x-request-id"));
    let asked = ann.request(Method::OPTIONS, "/walkers").header("origin", "https://a.example");
    let asked = asked.header("access-control-request-method", "GET").send().await.unwrap();
    assert!(asked.status() == 200 && asked.headers().contains_key("x-request-id"));

    let key = ann.post("/webhook/generate-key", &json!({ "name": "shop" })).await.1["key"].clone();
    let (status, accepted) = ann.post("/webhook/walker/empty", &json!({ "secret": key })).await;
    assert_eq!(status, 200, "{accepted}");
    let run = accepted["walker_id"].as_str().unwrap();
    ann.finished(run).await;

    let lines = log(server);
    for line in &lines {
        for name in ["@timestamp", "log.level", "message", "ecs.version", "log.logger"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
        assert!(line["process.pid"].is_u64(), "{line}");
    }
    let listed = requests(&lines, "GET", "/walkers");
    let [first, second] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(first["message"], "GET /walkers");
    assert_eq!(first["log.level"], "info");
    assert_eq!(first["http.response.status_code"], 200);
    assert_eq!((&first["http.request.id"], &second["http.request.id"]), (&json!("mine/1"), &json!(made)));
    assert_eq!(first["client.address"], "127.0.0.1");
    let took = first["event.duration"].as_u64().unwrap();
    assert!((1_000..60_000_000_000).contains(&took), "nanoseconds: {took}");
    for (method, path, status) in
        [("PUT", "/walkers", 405), ("GET", "/nothing", 404), ("OPTIONS", "/walkers", 200)]
    {
        assert_eq!(requests(&lines, method, path)[0]["http.response.status_code"], status, "{method} {path}");
    }
    for (method, path) in [
        ("POST", "/webhook/walker/empty".to_owned()),
        ("GET", format!("/walker/{run}")),
        ("GET", format!("/walker/{run}/events")),
    ] {
        assert_eq!(requests(&lines, method, &path)[0]["run"], run, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_requests_can_be_left_out() {
    let (server, _folder) = till(&["--log-requests=false"]);
    let there = Client::anonymous(&server.url);
    assert!(send(&there, Method::GET, "/livez", None).await.1.contains_key("x-request-id"));
    assert_eq!(requests(&log(server), "GET", "/livez"), Vec::<&Value>::new());
}

/// A client that goes away is told as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_answer_is_a_line() {
    let (server, _folder) = till(&[]);
    let body = json!({ "email": "ann@example.com", "password": "correct horse" }).to_string();
    let head = "POST /user/login HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length:";
    let mut wire = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    wire.write_all(format!("{head} {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    // It has begun when it wants the body. A password takes its time.
    assert!(wire.read(&mut [0; 100]).await.unwrap() > 0);
    wire.write_all(body.as_bytes()).await.unwrap();
    drop(wire);
    let line = server.logged("\"POST /user/login\"");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["url.path"], &line["http.response.status_code"]),
        (&json!("/user/login"), &Value::Null)
    );
}

/// Signs that would end a line for people, or turn it round, are escaped there.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_stays_in_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&example("hooks"), folder.path(), &["--log-level", "info"]);
    let mut wire = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    let asked = "GET /it's/\u{2028}\u{202e}ä HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    wire.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    server.terminate();
    assert!(server.wait().success());
    let log = server.rest_of_log();
    let line = log.iter().find(|line| line.contains("/it")).unwrap();
    assert!(line.contains(r"\u{2028}\u{202e}ä") && !line.contains(['\u{2028}', '\u{202e}']), "{line}");
}

/// Sends all secrets that there are everywhere that they belong, and some where they do not, in both formats.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged() {
    for format in ["ecs", "text"] {
        let secret = format!("a-secret-of-the-operator-for-{format}");
        let flags = ["--token-secret", &secret, "--allow-query-token", "--log-format", format];
        let folder = tempfile::tempdir().unwrap();
        let flags = [&flags[..], &["--log-level", "trace"]].concat();
        let mut server = Server::start(&example("hooks"), folder.path(), &flags);
        let mut secrets = use_secrets(&server).await;
        secrets.push(secret);
        server.terminate();
        assert!(server.wait().success());
        let log = server.rest_of_log();
        let requests = log.iter().filter(|line| line.contains("http.request.method")).count();
        assert!(requests > 30, "{requests}");
        for secret in secrets {
            assert!(secret.len() >= 9, "{secret}");
            let line = log.iter().find(|line| line.contains(&secret));
            assert_eq!(line, None, "{secret} is in the log");
        }
    }
}

/// Gives the secrets.
async fn use_secrets(server: &Server) -> Vec<String> {
    let there = Client::anonymous(&server.url);
    let (password, other, wrong) = ("first-password", "other-password", "wrong-password");
    let account = |password: &str| json!({ "email": "ann@example.com", "password": password });
    let mut ann = there.clone();
    assert_eq!(there.post("/user/register", &account(password)).await.0, 201);
    assert_eq!(there.post("/user/register", &account(password)).await.0, 409);
    assert_eq!(there.post("/user/login", &account(wrong)).await.0, 400);
    assert_eq!(there.post("/user/login", &json!({ "email": "no address", "password": wrong })).await.0, 422);
    assert_eq!(there.post("/user/login", &json!({ "email": 1, "password": [wrong] })).await.0, 422);
    let broken = there.request(Method::POST, "/user/login").body(format!("{{\"password\": \"{wrong}\""));
    assert_eq!(there.send(broken).await.0, 422);
    let token = async |password: &str| {
        let (status, answer) = there.post("/user/login", &account(password)).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    };
    ann.token = Some(token(password).await);
    let first = ann.token.clone().unwrap();
    let change = json!({ "old_password": wrong, "new_password": other });
    assert_eq!(ann.post("/user/change_password", &change).await.0, 403);
    let change = json!({ "old_password": password, "new_password": other });
    assert_eq!(ann.post("/user/change_password", &change).await.0, 200);
    assert_eq!(ann.get("/walkers").await.0, 401);
    ann.token = Some(token(other).await);
    let second = ann.token.clone().unwrap();
    ann.token = Some(ann.post("/user/refresh", &json!({})).await.1["token"].as_str().unwrap().to_owned());
    let third = ann.token.clone().unwrap();
    let bad = there.request(Method::GET, "/walkers").header("authorization", format!("Basic {third}"));
    assert_eq!(there.send(bad).await.0, 403);
    assert_eq!(there.get(&format!("/walkers?token={third}&status=none")).await.0, 403);

    let key = ann.post("/webhook/generate-key", &json!({ "name": "shop" })).await.1;
    let key = key["key"].as_str().unwrap();
    let forged = format!("{}-forged-key", key.rsplit_once(':').unwrap().0);
    for (key, status) in [(key, 200), (forged.as_str(), 401)] {
        let head = there.request(Method::POST, "/webhook/walker/take").header("x-api-key", key);
        assert_eq!(there.send(head.json(&json!({ "cents": 1 }))).await.0, status);
        assert_eq!(there.get(&format!("/webhook/walker/count?key={key}")).await.0, status);
        assert_eq!(there.get(&format!("/coins/{key}/5")).await.0, status);
        assert_eq!(there.post("/webhook/walker/empty", &json!({ "secret": key })).await.0, status);
        for path in [
            format!("/coins/{key}"),
            format!("//coins/{key}/5"),
            format!("/coins/{key}/5/6/"),
            format!("/%63oin%73/{key}/5"),
            format!("/coins%2f{key}%2F5"),
            format!("/%2Fcoins/{key}"),
        ] {
            assert_ne!(there.get(&path).await.0, 200, "{path}");
        }
    }

    let ticket = async || ann.post("/user/ticket", &json!({})).await.1["ticket"].as_str().unwrap().to_owned();
    let (socket, stream) = (ticket().await, ticket().await);
    let mut open = there.socket_at(&format!("/websocket?ticket={socket}")).await;
    open.ask(json!({ "type": "change_user", "token": third })).await;
    open.ask(json!({ "type": "change_user", "token": first })).await;
    open.ask(json!({ "type": "wrong", "token": third })).await;
    there.socket_at(&format!("/websocket?auth={third}")).await;
    let mut request =
        format!("{}/websocket", server.url.replacen("http", "ws", 1)).into_client_request().unwrap();
    let offered = format!("walkabout, bearer.{third}").parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", offered);
    drop(tokio_tungstenite::connect_async(request).await.unwrap());
    let run = ann.post("/webhook/walker/empty", &json!({ "secret": key })).await.1;
    let run = run["walker_id"].as_str().unwrap();
    ann.finished(run).await;
    let events = there.get(&format!("/walker/{run}/events?ticket={stream}")).await;
    assert_eq!(events.0, 200, "{}", events.1);
    let stranger = there.request(Method::POST, &format!("/walker/{run}/cancel"));
    assert_eq!(there.send(stranger.header("x-run-token", "a-run-token")).await.0, 404);
    assert_eq!(ann.post("/user/logout", &json!({})).await.0, 200);
    assert_eq!(ann.post("/user/logout", &json!({})).await.0, 401);

    let part = |text: &str| text.rsplit([':', '.']).next().unwrap().to_owned();
    let mut secrets = vec![password.to_owned(), other.to_owned(), wrong.to_owned(), "a-run-token".to_owned()];
    secrets.push("$argon2".to_owned() + "id");
    // The part of each that nobody else knows.
    secrets.extend([&first, &second, &third, &socket, &stream].map(|text| part(text)));
    secrets.extend([part(key), "-forged-key".to_owned()]);
    secrets
}
