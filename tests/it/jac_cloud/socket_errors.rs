//! The errors of §8.4. The connection stays open after each.

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{app::node, rows};
use crate::support::Socket;

/// What is said of a walker's event, and that the connection stays.
async fn refused(socket: &mut Socket, event: Value) -> Value {
    let answer = socket.ask(event).await;
    let again = socket.ask(json!({ "type": "connection" })).await;
    assert_eq!(again, socket.connection);
    answer
}

fn error(text: &str) -> Value {
    json!({ "type": "walker", "error": text })
}

rows! { "8.4 errors of events";
    validation "event or context validation" "without `url`" |app| {
        let mut own = app.user().await.socket().await;
        let answer = refused(&mut own, json!({ "type": "walker" })).await;
        assert_eq!((&answer["error"][0]["type"], &answer["error"][0]["loc"]), (&json!("missing"), &json!(["walker"])));
        let event = json!({ "type": "walker", "walker": "echo", "context": { "number": "a" } });
        let answer = refused(&mut own, event).await;
        let error = &answer["error"][0];
        assert_eq!((&error["type"], &error["loc"], &error["input"]), (&json!("int_parsing"), &json!(["number"]), &json!("a")));
    }
    unknown "unknown walker or walker without websocket method" |app| {
        let mut own = app.user().await.socket().await;
        for walker in ["nothing", "make", "hidden"] {
            let answer = refused(&mut own, json!({ "type": "walker", "walker": walker })).await;
            assert_eq!(answer, error("Invalid request! Please use valid walker event!"), "{walker}");
        }
    }
    login "needs authentication" |app| {
        let mut nobody = app.nobody().socket().await;
        let answer = refused(&mut nobody, json!({ "type": "walker", "walker": "echo" })).await;
        assert_eq!(answer, error("Event echo requires to be authenticated!"));
    }
    no_login "must not be authenticated" "runs as the public root, as over HTTP" |app| {
        let mut own = app.user().await.socket().await;
        let answer = own.ask(json!({ "type": "walker", "walker": "open", "response": true })).await;
        assert_eq!(answer["reports"], json!(["n::00000000-0000-0000-0000-000000000001"]));
    }
    access "no access" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let node = node(&ann, "NO_ACCESS").await;
        let mut theirs = ben.socket().await;
        let event = json!({ "type": "walker", "walker": "echo", "node": node, "context": { "number": 1 } });
        let answer = refused(&mut theirs, event).await;
        assert_eq!(answer, error(&format!("You don't have access on target entry {node}!")));
    }
    inner "exception in walker, bad node/root id, not JSON, binary frame" "a safe sentence with a `code` for a walker that fails, all else as what does not fit"
    |app| {
        let mut own = app.user().await.socket().await;
        let answer = refused(&mut own, json!({ "type": "walker", "walker": "fails" })).await;
        assert!(!answer.to_string().contains("secret") && answer["code"] == "walker-failed", "{answer}");
        let event = json!({ "type": "walker", "walker": "echo", "node": "n:A:7", "context": { "number": 1 } });
        assert_eq!(refused(&mut own, event).await["error"][0]["loc"], json!(["node"]));
        let event = json!({ "type": "user", "root_ids": ["7"], "data": {} });
        assert_eq!(refused(&mut own, event).await["error"][0]["loc"], json!(["root_ids"]));
        for bad in [Message::text("{"), Message::binary(vec![1])] {
            own.inner.send(bad).await.unwrap();
            assert!(own.next().await["error"].is_array());
        }
        assert_eq!(own.ask(json!({ "type": "connection" })).await, own.connection);
    }
}
