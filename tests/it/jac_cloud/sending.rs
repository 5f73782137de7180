//! What walkers send over WebSockets, §8.5.

use serde_json::{Value, json};

use super::{app::App, rows};
use crate::support::Client;

/// What is sent; it is the whole frame.
fn told() -> Value {
    json!({ "type": "told", "data": { "a": 1 } })
}

/// Has a walker that is called over HTTP notify.
async fn notify(client: &Client, to: &str, ids: &[Value]) {
    let answer = client.post("/walker/notify", &json!({ "to": to, "ids": ids })).await;
    assert_eq!(answer, (200, json!({ "status": 200, "reports": [] })));
}

/// A client that calls, and one that listens, with its connection.
async fn pair(app: &App) -> (Client, crate::support::Socket) {
    let (ann, ben) = (app.user().await, app.user().await);
    let theirs = ben.socket_at("/websocket?channel_id=room").await;
    (ann, theirs)
}

rows! { "8.5 sending from walkers";
    own "`notify_self`" |app| {
        let ann = app.user().await;
        let mut own = ann.socket().await;
        let context = json!({ "to": "self", "ids": [] });
        let heard = own.ask(json!({ "type": "walker", "walker": "notify", "context": context })).await;
        assert_eq!(heard, told());
        // Over HTTP there is nobody.
        notify(&ann, "self", &[]).await;
        assert_eq!(own.ask(json!({ "type": "connection" })).await, own.connection);
    }
    clients "`notify_clients`" |app| {
        let (ann, mut theirs) = pair(&app).await;
        notify(&ann, "clients", &[json!("nobody"), theirs.connection["data"]["client_id"].clone()]).await;
        assert_eq!(theirs.next().await, told());
    }
    users "`notify_users`" "takes the ids of roots" |app| {
        let (ann, mut theirs) = pair(&app).await;
        notify(&ann, "users", &[theirs.connection["data"]["root_id"].clone()]).await;
        assert_eq!(theirs.next().await, told());
    }
    channels "`notify_channels`" |app| {
        let (ann, mut theirs) = pair(&app).await;
        notify(&ann, "channels", &[json!("room")]).await;
        assert_eq!(theirs.next().await, told());
    }
    asynchronous "from async walkers" |app| {
        let (ann, mut theirs) = pair(&app).await;
        let client = theirs.connection["data"]["client_id"].clone();
        let id = ann.submit("notify_later", &json!({ "client": client })).await;
        assert_eq!(theirs.next().await, told());
        ann.finished(&id).await;
    }
}
