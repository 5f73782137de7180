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
        let error = json!({ "type": "missing", "loc": ["walker"], "msg": "Field required", "input": {} });
        assert_eq!(answer, json!({ "error": [error] }));
        // Also when no response is wanted.
        let event = json!({ "type": "walker", "walker": "echo", "response": false, "context": { "number": "a" } });
        let msg = "Input should be a valid integer, unable to parse string as an integer";
        let error = json!({ "type": "int_parsing", "loc": ["number"], "msg": msg, "input": "a" });
        assert_eq!(refused(&mut own, event).await, json!({ "error": [error] }));
        let event = json!({ "type": "walker", "walker": "echo", "context": { "number": 256 } });
        assert_eq!(refused(&mut own, event).await["error"][0]["ctx"], json!({ "le": 255 }));
        for (event, kind, place) in [
            (json!({ "type": "dance" }), "union_tag_invalid", "type"),
            (json!({ "type": "user", "root_ids": [], "data": {} }), "too_short", "root_ids"),
            (json!({ "type": "channel", "channel_ids": ["a"] }), "missing", "data"),
        ] {
            let answer = refused(&mut own, event).await;
            assert_eq!((&answer["error"][0]["type"], &answer["error"][0]["loc"]), (&json!(kind), &json!([place])));
        }
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
        assert_eq!(answer, json!({ "status": 200, "reports": ["n::00000000-0000-0000-0000-000000000001"] }));
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
        let sentence = "walker fails failed with an internal error; the server's log has the details";
        assert_eq!(answer, json!({ "type": "walker", "error": sentence, "code": "walker-failed", "run": null }));
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
