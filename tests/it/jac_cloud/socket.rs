//! The events of §8.3, and what §8.1 and §8.2 say.

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    app::{App, node},
    rows,
};

const PUBLIC: &str = "n::00000000-0000-0000-0000-000000000001";

/// Calls a walker.
fn call(walker: &str, response: bool, context: Value) -> Value {
    json!({ "type": "walker", "walker": walker, "response": response, "context": context })
}

rows! { "8.1–8.3 WebSocket";
    connecting "§8.1 query `channel_id`" |app| {
        let named = app.nobody().socket_at("/websocket?channel_id=any%20room").await;
        assert_eq!(named.connection["data"]["channel_id"], "any room");
    }
    token "§8.1 query `auth`, header `Authorization`" "a token in the query is taken only with `allow_query_token`, else 403" |app| {
        let ann = app.user().await;
        let own = ann.socket().await.connection["data"]["root_id"].clone();
        let token = ann.token.as_deref().unwrap();
        let address = format!("{}/websocket?auth={token}", app.url.replacen("http", "ws", 1));
        let Err(Error::Http(refused)) = tokio_tungstenite::connect_async(address).await else { panic!("it is open") };
        assert_eq!(refused.status().as_u16(), 403);
        let allowing = App::start_with(|config| config.allow_query_token = true).await;
        let ben = allowing.user().await;
        let wanted = ben.socket().await.connection["data"]["root_id"].clone();
        let token = ben.token.as_deref().unwrap();
        for auth in [token.to_owned(), format!("Bearer%20{token}")] {
            let socket = allowing.nobody().socket_at(&format!("/websocket?auth={auth}")).await;
            assert_eq!(socket.connection["data"]["root_id"], wanted, "with or without the scheme");
        }
        assert_ne!(own, PUBLIC);
    }
    accepted "§8.1 always accepted" |app| {
        let mut bad = app.user().await;
        bad.token = Some("bad".to_owned());
        for client in [app.nobody(), bad] {
            assert_eq!(client.socket().await.connection["data"]["root_id"], PUBLIC);
        }
    }
    frames "§8.1 text frames with JSON" "a frame has at most `frame_bytes_max`, which is 1 MiB unless set" |app| {
        drop(app);
        let app = App::start_with(|config| config.frame_bytes_max = 100).await;
        let mut own = app.user().await.socket().await;
        let long = call("echo", true, json!({ "number": 1, "text": "a".repeat(100) }));
        assert_eq!(own.ask(long).await["error"][0]["type"], "string_too_long");
        own.inner.send(Message::binary(b"{\"type\":\"connection\"}".to_vec())).await.unwrap();
        assert!(own.next().await["error"].is_array(), "a binary frame is none");
        assert_eq!(own.ask(json!({ "type": "connection" })).await, own.connection);
    }
    one_by_one "§8.1 one event after the other" "other events go on while an async walker is waited for" |app| {
        let mut own = app.user().await.socket().await;
        for number in 0..20 {
            own.send(call("echo", true, json!({ "number": number }))).await;
        }
        for number in 0..20 {
            assert_eq!(own.next().await["reports"][0]["number"], number);
        }
        own.send(call("waits", true, json!({}))).await;
        assert_eq!(own.ask(call("open", true, json!({}))).await["reports"], json!([PUBLIC]));
    }
    message "§8.2 connection message" "ids are UUIDs" |app| {
        let ann = app.user().await;
        let own = ann.socket().await.connection;
        let data = &own["data"];
        let root = uuid::Uuid::parse_str(ann.user["root_id"].as_str().unwrap()).unwrap();
        let wanted = json!({ "client_id": data["client_id"], "root_id": format!("n::{root}"), "channel_id": data["channel_id"] });
        assert_eq!(own, json!({ "type": "connection", "data": wanted }));
        for id in ["client_id", "channel_id"] {
            let (epoch, rest) = data[id].as_str().unwrap().split_once(':').unwrap();
            assert!(epoch.parse::<u64>().is_ok() && rest.len() == 32, "{own}");
            assert!(rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        assert_ne!(data["client_id"], ann.socket().await.connection["data"]["client_id"]);
    }
    connection "`connection`" |app| {
        let mut own = app.user().await.socket().await;
        let again = own.ask(json!({ "type": "connection", "unknown": 1 })).await;
        assert_eq!(again, own.connection);
    }
    walker "`walker`" |app| {
        let ann = app.user().await;
        let node = node(&ann, "NO_ACCESS").await;
        let mut own = ann.socket().await;
        own.send(call("echo", false, json!({ "number": 1 }))).await;
        own.send(json!({ "type": "walker", "walker": "echo", "context": { "number": 1 } })).await;
        let root = own.connection["data"]["root_id"].clone();
        let reply = own.ask(call("echo", true, json!({ "number": 2, "unknown": 3 }))).await;
        let report = json!({ "number": 2, "text": null, "here": root });
        assert_eq!(reply, json!({ "status": 200, "reports": [report] }), "the first ones are not answered");
        let at = json!({ "type": "walker", "walker": "open", "node": null, "response": true });
        assert_eq!(own.ask(at).await, json!({ "status": 200, "reports": [PUBLIC] }), "no context is an empty one");
        let mut at = call("echo", true, json!({ "number": 2 }));
        at["node"] = json!(node);
        assert_eq!(own.ask(at).await["reports"][0]["here"], json!(node));
    }
    fields "`context` has all fields, of query and body alike" |app| {
        let mut own = app.user().await.socket().await;
        let answer = own.ask(call("mixed", true, json!({ "in_query": 1, "in_body": 2, "wax": 3 }))).await;
        assert_eq!(answer, json!({ "status": 200, "reports": [[1, 2, 0]] }), "but those that are excluded");
    }
    custom "custom values" "a text is a JSON string, bytes are a binary frame" |app| {
        let mut own = app.user().await.socket().await;
        let value = json!({ "a": [1] });
        assert_eq!(own.ask(call("custom", true, json!({ "value": value }))).await, value);
        assert_eq!(own.ask(call("page", true, json!({}))).await, json!("<p>"));
        own.send(call("picture", true, json!({}))).await;
        assert_eq!(own.bytes().await, [1, 2]);
    }
    user "`user`" "who is not logged in reaches only itself" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let (mut own, mut theirs, mut also) = (ann.socket().await, ben.socket().await, ben.socket().await);
        let roots = [theirs.connection["data"]["root_id"].clone(), own.connection["data"]["root_id"].clone()];
        let data = json!({ "type": "any", "a": [1, null] });
        own.send(json!({ "type": "user", "root_ids": roots, "data": data })).await;
        for socket in [&mut theirs, &mut also, &mut own] {
            assert_eq!(socket.next().await, data, "as it is; to the sender as well");
        }
        let mut nobody = app.nobody().socket().await;
        let refused = nobody.ask(json!({ "type": "user", "root_ids": roots, "data": {} })).await;
        let error = "An anonymous connection may push only to itself and to its own channel.";
        assert_eq!(refused, json!({ "type": "user", "error": error }));
    }
    channel "`channel`" "who is not logged in reaches only the channel that was made for it" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let mut own = ann.socket_at("/websocket?channel_id=room").await;
        let mut theirs = ben.socket_at("/websocket?channel_id=room").await;
        let mut elsewhere = ben.socket().await;
        own.send(json!({ "type": "channel", "channel_ids": ["room"], "data": { "a": 1 } })).await;
        assert_eq!((own.next().await, theirs.next().await), (json!({ "a": 1 }), json!({ "a": 1 })), "the sender as well");
        assert_eq!(elsewhere.ask(json!({ "type": "connection" })).await, elsewhere.connection, "it heard nothing");
        let mut nobody = app.nobody().socket().await;
        let refused = nobody.ask(json!({ "type": "channel", "channel_ids": ["room"], "data": {} })).await;
        assert_eq!(refused["type"], "channel");
        let own_one = nobody.connection["data"]["channel_id"].clone();
        let told = nobody.ask(json!({ "type": "channel", "channel_ids": [own_one], "data": { "b": 2 } })).await;
        assert_eq!(told, json!({ "b": 2 }));
    }
    client "`client`" "who is not logged in reaches only itself" |app| {
        let mut own = app.user().await.socket().await;
        let mut theirs = app.nobody().socket().await;
        let clients = [theirs.connection["data"]["client_id"].clone()];
        own.send(json!({ "type": "client", "client_ids": clients, "data": { "a": 1 } })).await;
        assert_eq!(theirs.next().await, json!({ "a": 1 }));
        let told = theirs.ask(json!({ "type": "client", "client_ids": clients, "data": { "b": 2 } })).await;
        assert_eq!(told, json!({ "b": 2 }));
        let others = [own.connection["data"]["client_id"].clone()];
        let refused = theirs.ask(json!({ "type": "client", "client_ids": others, "data": {} })).await;
        assert_eq!(refused["type"], "client");
    }
    change_user "`change_user`" |app| {
        let ann = app.user().await;
        let mut own = app.nobody().socket().await;
        let public = own.connection.clone();
        let token = ann.token.as_deref().unwrap();
        for token in [token.to_owned(), format!("Bearer {token}")] {
            let changed = own.ask(json!({ "type": "change_user", "token": token })).await;
            assert_eq!(changed["type"], "connection");
            assert_ne!(changed["data"]["root_id"], public["data"]["root_id"]);
            for member in ["client_id", "channel_id"] {
                assert_eq!(changed["data"][member], public["data"][member]);
            }
        }
        for public_again in [json!({ "token": null }), json!({}), json!({ "token": "bad" })] {
            own.ask(json!({ "type": "change_user", "token": token })).await;
            let mut event = public_again;
            event["type"] = json!("change_user");
            assert_eq!(own.ask(event).await, public);
        }
    }
    public_again "public walkers after `change_user`" "they go on working" |app| {
        let mut own = app.user().await.socket().await;
        own.ask(json!({ "type": "change_user" })).await;
        let open = own.ask(call("open", true, json!({}))).await;
        assert_eq!(open, json!({ "status": 200, "reports": [PUBLIC] }));
    }
    asynchronous "`async walker`" "answered with its id and its events, or with its end when `response` is true" |app| {
        let mut own = app.user().await.socket().await;
        let accepted = own.ask(call("loud", false, json!({}))).await;
        let id = accepted["walker_id"].as_str().unwrap();
        assert_eq!(accepted, json!({ "status": 200, "walker_id": id }));
        assert!(id.starts_with("w:loud:"));
        let mut kinds = Vec::new();
        while kinds.last().is_none_or(|kind| kind != "completed") {
            let frame = own.next().await;
            kinds.extend(frame["event"]["type"].as_str().map(str::to_owned));
        }
        let ended = own.ask(call("loud", true, json!({}))).await;
        assert_eq!(ended, json!({ "status": 200, "reports": [], "walker_id": ended["walker_id"] }));
    }
}
