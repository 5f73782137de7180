//! How many connections there may be, and how long one may be idle.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Client, Server, example, stock};

async fn reach(server: &Server) -> TcpStream {
    TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap()
}

async fn opened(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(reach(server).await);
    }
    open
}

/// Asks for `/livez`, and reads the answer.
async fn ask(wire: &mut TcpStream) -> String {
    wire.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    loop {
        assert!(wire.read_buf(&mut read).await.unwrap() > 0, "the server closed");
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.unwrap().parse().unwrap() {
            return text;
        }
    }
}

/// Waits until the server closes; what it still said.
async fn rest(mut wire: TcpStream) -> String {
    let mut read = Vec::new();
    // Closed in whatever way.
    drop(wire.read_to_end(&mut read).await);
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_nothing_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("desk"), folder.path(), &["--head-time-max-s", "1"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    // What is under way goes on.
    let run = ann.submit("approve", &json!({ "n": 1 })).await;
    let path = format!("/walker/{run}/events");
    let events = ann.request(reqwest::Method::GET, &path).header("accept", "text/event-stream");
    let events = events.send().await.unwrap();
    let mut socket = ann.socket().await;

    let silent = reach(&server).await;
    let mut begun = reach(&server).await;
    begun.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
    let mut kept = reach(&server).await;
    for _ in 0..2 {
        assert!(ask(&mut kept).await.starts_with("HTTP/1.1 200"));
    }
    for wire in [silent, begun, kept] {
        assert_eq!(rest(wire).await, "");
    }

    assert_eq!(socket.ask(json!({ "type": "connection" })).await["type"], "connection");
    let (status, answer) = ann.post(&format!("/walker/{run}/cancel"), &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    assert!(events.text().await.unwrap().contains(r#""type":"failed""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&stock(), folder.path(), &["--connections-max", "20"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let mut socket = ann.socket().await;
    let idle = opened(&server, 100).await;
    for _ in 0..50 {
        assert!(ask(&mut reach(&server).await).await.starts_with("HTTP/1.1 200"));
    }
    // The rest of them go when others come.
    assert_eq!(rest(idle.into_iter().next().unwrap()).await, "");
    assert_eq!(socket.ask(json!({ "type": "connection" })).await["type"], "connection");
    let told = server.logged("20 connections are open, as many as may be");
    assert!(told.contains("WARN"), "{told}");
    server.terminate();
    assert!(server.wait().success());
    let again = server.rest_of_log().into_iter().filter(|line| line.contains("as many as may be")).count();
    assert!(again < 5, "{again}");
}

/// A WebSocket has its place for as long as it is open.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_connections() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &["--connections-max", "4"]);
    let there = Client::anonymous(&server.url);
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(there.socket().await);
    }
    let mut waiting = reach(&server).await;
    waiting.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    server.logged("4 connections are open, as many as may be");
    let mut byte = [0];
    tokio::select! {
        biased;
        _ = waiting.read(&mut byte) => panic!("there is no place for it"),
        said = sockets[0].ask(json!({ "type": "connection" })) => assert_eq!(said["type"], "connection"),
    }
    sockets.pop();
    assert!(rest(waiting).await.starts_with("HTTP/1.1 200"));
}

/// There are never more connections than files that the process may open.
#[tokio::test(flavor = "multi_thread")]
async fn few_open_files() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("few");
    fs::write(&script, format!("#!/bin/sh\nulimit -n 500\nexec '{}' \"$@\"\n", stock().display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = Server::start(Path::new(&script), &folder.path().join("data"), &["--log-level", "info"]);
    let line = server.logged("raise ulimit -n");
    assert!(
        line.contains("may open 500 files, so it holds 375 connections at once, and not 30000"),
        "{line}"
    );
    let idle = opened(&server, 600).await;
    let ann = Client::user(&server.url, "ann@example.com").await;
    let run = ann.submit("process_with_updates", &json!({ "client_id": "nobody" })).await;
    ann.finished(&run).await;
    server.terminate();
    assert!(server.wait().success());
    drop(idle);
}
