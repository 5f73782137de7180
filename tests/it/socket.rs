//! The WebSocket.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::{
    Error, Message,
    client::IntoClientRequest,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::support::{Client, Server, Socket, example, stock};

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_contract_and_their_refusals() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("load_app"), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let stranger = Client::anonymous(&server.url);
    let mut own = ann.socket_at("/websocket?channel_id=room").await;
    let mut other = stranger.socket().await;
    assert_eq!(own.connection["type"], "connection");
    assert_eq!(own.connection["data"]["channel_id"], "room");
    assert_eq!(other.connection["data"]["root_id"], "n::00000000-0000-0000-0000-000000000001");
    let again = own.ask(json!({ "type": "connection" })).await;
    assert_eq!(again, own.connection);

    let answer = own.ask(json!({ "type": "walker", "walker": "noop", "response": true })).await;
    assert_eq!(answer, json!({ "status": 200, "reports": [1] }));
    let echo = own.ask(json!({ "type": "walker", "walker": "ws_echo", "context": { "data": [1, 2] } })).await;
    assert_eq!(echo, json!({ "type": "echo", "data": [1, 2] }));

    let invalid = "Invalid request! Please use valid walker event!";
    for walker in ["nothing", "create10"] {
        let refused = own.ask(json!({ "type": "walker", "walker": walker, "response": true })).await;
        assert_eq!(refused, json!({ "type": "walker", "error": invalid }));
    }
    let refused = other.ask(json!({ "type": "walker", "walker": "noop" })).await;
    assert_eq!(refused["error"], "Event noop requires to be authenticated!");
    for bad in
        [json!({ "type": "mumble" }), json!({}), json!([]), json!({ "type": "channel", "channel_ids": 3 })]
    {
        let refused = own.ask(bad).await;
        assert!(refused["error"].is_array(), "{refused}");
    }
    own.inner.send(Message::text("{")).await.unwrap();
    assert!(own.next().await["error"].is_array());
    own.inner.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert!(own.next().await["error"].is_array());
    own.inner.send(Message::text("x".repeat(2 << 20))).await.unwrap();
    assert!(own.next().await["error"].is_array());

    // A user pushes to a stranger, a stranger only to itself.
    let client = other.connection["data"]["client_id"].clone();
    own.send(json!({ "type": "client", "client_ids": [client], "data": { "hello": 1 } })).await;
    assert_eq!(other.next().await, json!({ "hello": 1 }));
    own.send(json!({ "type": "channel", "channel_ids": ["room"], "data": { "hello": 2 } })).await;
    assert_eq!(own.next().await, json!({ "hello": 2 }));
    let root = own.connection["data"]["root_id"].clone();
    own.send(json!({ "type": "user", "root_ids": [root], "data": { "hello": 3 } })).await;
    assert_eq!(own.next().await, json!({ "hello": 3 }));
    other.send(json!({ "type": "client", "client_ids": [client], "data": { "hello": 4 } })).await;
    assert_eq!(other.next().await, json!({ "hello": 4 }));
    let theirs = own.connection["data"]["client_id"].clone();
    for push in [
        json!({ "type": "client", "client_ids": [theirs], "data": {} }),
        json!({ "type": "channel", "channel_ids": ["room"], "data": {} }),
        json!({ "type": "user", "root_ids": [root], "data": {} }),
    ] {
        let refused = other.ask(push).await;
        assert!(refused["error"].as_str().unwrap().contains("anonymous"), "{refused}");
    }

    let token = ann.token.clone().unwrap();
    let changed = other.ask(json!({ "type": "change_user", "token": token })).await;
    assert_eq!(changed["data"]["root_id"], root);
    assert_eq!(changed["data"]["client_id"], client);
}

/// Over HTTP an expired token is refused; a socket that brings one is anonymous.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &["--token-lifetime-s", "1"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let mut socket = Client::anonymous(&server.url).socket().await;
    let public = socket.connection["data"]["root_id"].clone();
    let change = json!({ "type": "change_user", "token": ann.token });
    while socket.ask(change.clone()).await["data"]["root_id"] != public {}
    assert_eq!(ann.post("/walker/sample", &json!({})).await, (401, json!({ "detail": "Unauthorized" })));
    let mut opened = ann.socket().await;
    assert_eq!(opened.connection["data"]["root_id"], public);
    let refused = opened.ask(json!({ "type": "walker", "walker": "view_sample_result" })).await;
    assert!(refused["error"].is_string(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_query_and_a_channel_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &["--allow-query-token"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let stranger = Client::anonymous(&server.url);
    let token = ann.token.clone().unwrap();
    let mut own = stranger.socket_at(&format!("/websocket?auth=Bearer%20{token}&channel_id=room")).await;
    assert_eq!(own.connection["data"]["root_id"], ann.socket().await.connection["data"]["root_id"]);
    let plain = stranger.socket_at(&format!("/websocket?auth={token}")).await;
    assert_eq!(plain.connection["data"]["root_id"], own.connection["data"]["root_id"]);

    // Who names a channel meets others there.
    let mut other = stranger.socket_at("/websocket?channel_id=room").await;
    let refused =
        other.ask(json!({ "type": "channel", "channel_ids": ["room"], "data": { "spoof": 1 } })).await;
    assert!(refused["error"].as_str().unwrap().contains("anonymous"), "{refused}");
    own.send(json!({ "type": "channel", "channel_ids": ["room"], "data": { "hello": 1 } })).await;
    assert_eq!(own.next().await, json!({ "hello": 1 }));
    assert_eq!(other.next().await, json!({ "hello": 1 }));
    let mut alone = stranger.socket().await;
    let channel = alone.connection["data"]["channel_id"].clone();
    let echo =
        alone.ask(json!({ "type": "channel", "channel_ids": [channel], "data": { "hello": 2 } })).await;
    assert_eq!(echo, json!({ "hello": 2 }));
}

/// What a browser can do, which sets no header.
#[tokio::test(flavor = "multi_thread")]
async fn tickets_and_tokens_as_subprotocols() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let stranger = Client::anonymous(&server.url);
    let root = async |socket: Socket| socket.connection["data"]["root_id"].clone();
    let own = root(ann.socket().await).await;
    let public = root(stranger.socket().await).await;
    assert_ne!(own, public);

    let ticket = async || {
        let (status, made) = ann.post("/user/ticket", &json!({})).await;
        assert_eq!((status, &made["expires_in"]), (200, &json!(30)), "{made}");
        made["ticket"].as_str().unwrap().to_owned()
    };
    assert_eq!(stranger.post("/user/ticket", &json!({})).await.0, 403);
    let (one, other) = (ticket().await, ticket().await);
    let by =
        async |ticket: &str| root(stranger.socket_at(&format!("/websocket?ticket={ticket}")).await).await;
    assert_eq!(by(&other).await, own);
    // Of many at once with one ticket one is its user.
    let path = format!("/websocket?ticket={one}");
    let many = futures_util::future::join_all((0..8).map(|_| stranger.socket_at(&path))).await;
    let own_ones = many.iter().filter(|socket| socket.connection["data"]["root_id"] == own).count();
    assert_eq!(own_ones, 1);
    for used in [one.as_str(), &other, "none", "", &one.replace(':', ":0"), &format!("{}:", "0".repeat(32))] {
        assert_eq!(by(used).await, public, "{used}");
    }
    // A socket by a ticket is of the login that asked for it, and ends with that.
    let mut socket = stranger.socket_at(&format!("/websocket?ticket={}", ticket().await)).await;
    let late = ticket().await;

    let offer = async |list: &str| {
        let mut request =
            format!("{}/websocket", server.url.replacen("http", "ws", 1)).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", list.parse().unwrap());
        let (mut inner, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
        let first = inner.next().await.unwrap().unwrap().into_text().unwrap();
        let first: serde_json::Value = serde_json::from_str(&first).unwrap();
        let chosen =
            answer.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap().to_owned());
        (first["data"]["root_id"].clone(), chosen)
    };
    let bearer = format!("bearer.{}", ann.token.as_ref().unwrap());
    let both = offer(&format!("{bearer}, walkabout")).await;
    assert_eq!(both, (own.clone(), Some("walkabout".to_owned())), "the token does not come back");
    assert_eq!(offer(&bearer).await, (own.clone(), Some(bearer.clone())));
    assert_eq!(offer("walkabout, bearer.none").await, (public.clone(), Some("walkabout".to_owned())));

    // A token in the query is refused, so that nobody goes on as the public unawares.
    let refused = stranger.get(&format!("/websocket?auth={}", ann.token.as_ref().unwrap())).await;
    assert_eq!(refused.0, 426, "no WebSocket at all comes first");
    let url = format!("{}/websocket?auth=any", server.url.replacen("http", "ws", 1));
    let Err(Error::Http(refused)) = tokio_tungstenite::connect_async(url).await else {
        panic!("it was not refused")
    };
    assert_eq!(refused.status().as_u16(), 403);
    assert!(String::from_utf8_lossy(refused.body().as_ref().unwrap()).contains("/user/ticket"));

    assert_eq!(ann.post("/user/logout", &json!({})).await.0, 200);
    let told = socket.ask(json!({ "type": "connection" })).await;
    assert_eq!(told["data"]["root_id"], public, "{told}");
    assert_eq!(by(&late).await, public, "its login has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_utf_8_is_answered_and_closed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let mut socket = Client::anonymous(&server.url).socket().await;
    let text = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    socket.inner.send(Message::Frame(text)).await.unwrap();
    let refused = socket.next().await;
    assert_eq!(refused["error"][0]["type"], "string_unicode", "{refused}");
    let Some(Ok(Message::Close(Some(close)))) = socket.inner.next().await else { panic!("it is closed") };
    assert_eq!(u16::from(close.code), 1007);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_last_event_does_not_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let id = ann.submit("sample", &json!({})).await;
    let mut socket = ann.socket().await;
    let last = socket.events(&id, 0).await.len();
    let answer = socket.ask(json!({ "type": "subscribe", "walker_id": id, "after": last })).await;
    assert_eq!(answer, json!({ "type": "subscribed", "walker_id": id }));
    assert_eq!(socket.next().await, json!({ "type": "unsubscribed", "walker_id": id }));
    // A browser that comes back for more is told to stop.
    let stream = ann.request(reqwest::Method::GET, &format!("/walker/{id}/events"));
    let stream = stream.header("accept", "text/event-stream").header("last-event-id", last);
    assert_eq!(ann.send(stream).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_from_any_number() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let bob = Client::user(&server.url, "bob@example.com").await;
    let mut own = ann.socket().await;
    let client = own.connection["data"]["client_id"].clone();
    let mut told = ann.socket().await;
    let told_id = told.connection["data"]["client_id"].clone();
    assert_ne!(client, told_id);
    let id = ann.submit("process_with_updates", &json!({ "client_id": told_id })).await;
    let events = own.events(&id, 0).await;
    assert_eq!(events[0]["type"], "accepted");
    assert_eq!(events[1]["type"], "started");
    assert_eq!(events.last().unwrap()["type"], "completed");
    let last_progress = events.iter().rev().find(|event| event["type"] == "progress").unwrap();
    assert_eq!(last_progress["data"], json!({ "progress": 100 }));
    for percent in (0..=100).step_by(10) {
        assert_eq!(told.next().await, json!({ "type": "progress", "data": { "progress": percent } }));
    }
    assert_eq!(
        told.next().await,
        json!({ "type": "complete", "data": { "message": "Processing complete!" } })
    );
    // Replayed from the store, and from the middle.
    assert_eq!(own.events(&id, 0).await, events);
    assert_eq!(own.events(&id, 2).await, events[2..]);
    let mut foreign = bob.socket().await;
    let unknown = format!("w:process_with_updates:{}", uuid::Uuid::max());
    for id in [&id, &unknown] {
        let refused = foreign.ask(json!({ "type": "subscribe", "walker_id": id })).await;
        assert_eq!(
            refused,
            json!({ "type": "subscribe", "error": format!("No run {id} that you may read.") })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_users_and_two_thousand_walkers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let users = (0..200).map(|n| {
        let url = server.url.clone();
        async move {
            let user = Client::user(&url, &format!("user{n}@example.com")).await;
            let mut socket = user.socket().await;
            let mut ids = Vec::new();
            for _ in 0..10 {
                ids.push(user.submit("sample", &json!({})).await);
            }
            for id in &ids {
                let events: Vec<_> =
                    socket.events(id, 0).await.iter().map(|event| event["type"].clone()).collect();
                assert_eq!(events, ["accepted", "started", "completed"]);
                let (status, record) = user.get(&format!("/walker/{id}")).await;
                assert_eq!((status, &record["schedule"]["status"]), (200, &json!("completed")));
                assert_eq!(record["context"], json!({ "value": 1 }));
                assert_eq!(record["schedule"]["root_id"], socket.connection["data"]["root_id"]);
            }
            ids.len()
        }
    });
    let done: Vec<usize> = futures_util::stream::iter(users).buffer_unordered(16).collect().await;
    assert_eq!(done.iter().sum::<usize>(), 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_idle_sockets_are_cheap() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let stranger = Client::anonymous(&server.url);
    let before = server.resident_kib();
    let opened = futures_util::stream::iter(0..5000).map(|_| stranger.socket()).buffer_unordered(64);
    let sockets: Vec<_> = opened.collect().await;
    assert_eq!(sockets.len(), 5000);
    assert_eq!(stranger.get("/readyz").await.0, 200);
    let grown = server.resident_kib() - before;
    assert!(grown < 5000 * 64, "{grown} KiB for 5000 sockets");
}
