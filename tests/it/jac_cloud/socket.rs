//! The events of §8.3, and what §8.1, §8.2 and §8.5 say.

use serde_json::json;

use super::rows;

rows! { "8 WebSocket";
    connecting "§8.1, §8.2 connecting" "a token in the query is taken only with `allow_query_token`" |app| {
        let ann = app.user().await;
        let own = ann.socket_at("/websocket?channel_id=room").await;
        let data = &own.connection["data"];
        assert_eq!((&own.connection["type"], &data["channel_id"]), (&json!("connection"), &json!("room")));
        let (epoch, rest) = data["client_id"].as_str().unwrap().split_once(':').unwrap();
        assert!(epoch.parse::<u64>().is_ok() && rest.len() == 32);
        let other = app.nobody().socket().await;
        assert_eq!(other.connection["data"]["root_id"], "n::00000000-0000-0000-0000-000000000001");
        let mut bad = ann.clone();
        bad.token = Some("bad".to_owned());
        assert_eq!(bad.socket().await.connection["data"]["root_id"], other.connection["data"]["root_id"]);
    }
    connection "`connection`" |app| {
        let mut own = app.user().await.socket().await;
        let again = own.ask(json!({ "type": "connection", "unknown": 1 })).await;
        assert_eq!(again, own.connection);
    }
    walker "`walker`" |app| {
        let ann = app.user().await;
        let mut own = ann.socket().await;
        let echo = |response: bool| {
            json!({ "type": "walker", "walker": "echo", "response": response, "context": { "number": 1 } })
        };
        own.send(echo(false)).await;
        let root = own.connection["data"]["root_id"].clone();
        let reply = own.ask(echo(true)).await;
        let report = json!({ "number": 1, "text": null, "here": root });
        assert_eq!(reply, json!({ "status": 200, "reports": [report] }), "the first one is not answered");
    }
    user "`user`" "who is not logged in reaches only itself" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let (mut own, mut theirs, mut also) = (ann.socket().await, ben.socket().await, ben.socket().await);
        let roots = [theirs.connection["data"]["root_id"].clone()];
        own.send(json!({ "type": "user", "root_ids": roots, "data": { "a": 1 } })).await;
        assert_eq!((theirs.next().await, also.next().await), (json!({ "a": 1 }), json!({ "a": 1 })));
        let mut nobody = app.nobody().socket().await;
        let refused = nobody.ask(json!({ "type": "user", "root_ids": roots, "data": {} })).await;
        assert!(refused["error"].is_string());
    }
    channel "`channel`" "who is not logged in reaches only the channel that was made for it" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let mut own = ann.socket_at("/websocket?channel_id=room").await;
        let mut theirs = ben.socket_at("/websocket?channel_id=room").await;
        own.send(json!({ "type": "channel", "channel_ids": ["room"], "data": { "a": 1 } })).await;
        assert_eq!((own.next().await, theirs.next().await), (json!({ "a": 1 }), json!({ "a": 1 })), "the sender as well");
    }
    client "`client`" "who is not logged in reaches only itself" |app| {
        let mut own = app.user().await.socket().await;
        let mut theirs = app.nobody().socket().await;
        let clients = [theirs.connection["data"]["client_id"].clone()];
        own.send(json!({ "type": "client", "client_ids": clients, "data": { "a": 1 } })).await;
        assert_eq!(theirs.next().await, json!({ "a": 1 }));
    }
    change_user "`change_user`" |app| {
        let ann = app.user().await;
        let mut own = app.nobody().socket().await;
        let public = own.connection.clone();
        let token = format!("Bearer {}", ann.token.as_deref().unwrap());
        let changed = own.ask(json!({ "type": "change_user", "token": token })).await;
        assert_ne!(changed["data"]["root_id"], public["data"]["root_id"]);
        for member in ["client_id", "channel_id"] {
            assert_eq!(changed["data"][member], public["data"][member]);
        }
        assert_eq!(own.ask(json!({ "type": "change_user", "token": null })).await, public);
        let open = own.ask(json!({ "type": "walker", "walker": "open", "response": true })).await;
        assert_eq!(open["status"], 200, "a public connection calls public walkers");
    }
    asynchronous "`async walker`" "answered with its id and its events, or with its end when `response` is true" |app| {
        let mut own = app.user().await.socket().await;
        let accepted = own.ask(json!({ "type": "walker", "walker": "loud" })).await;
        assert!(accepted["walker_id"].as_str().unwrap().starts_with("w:loud:"));
        let mut kinds = Vec::new();
        while kinds.last().is_none_or(|kind| kind != "completed") {
            let frame = own.next().await;
            kinds.extend(frame["event"]["type"].as_str().map(str::to_owned));
        }
        let ended = own.ask(json!({ "type": "walker", "walker": "loud", "response": true })).await;
        assert_eq!((&ended["status"], &ended["reports"]), (&json!(200), &json!([])));
    }
}
