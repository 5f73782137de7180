//! The routes of §5.5.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use walkabout::schema::Timestamp;

use super::{
    app::{ask, detail},
    rows,
};
use crate::support::{Client, told};

/// In seconds.
const DAY: i64 = 24 * 3600;

/// When the only key of a client ends.
async fn ends(client: &Client) -> Timestamp {
    let (_, listed) = client.get("/webhook").await;
    listed["keys"][0]["expiration"].as_str().unwrap().parse().unwrap()
}

rows! { "5.5 webhook keys";
    list "GET `` (i.e. `/webhook`)" |app| {
        let ann = app.user().await;
        assert_eq!(ann.get("/webhook").await, (200, json!({ "keys": [] })));
        ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let (_, listed) = ann.get("/webhook").await;
        let key = listed["keys"][0].as_object().unwrap();
        let members: Vec<_> = key.keys().map(String::as_str).collect();
        assert_eq!(members, ["id", "name", "root_id", "walkers", "nodes", "expiration", "key"]);
        assert_eq!((&key["name"], &key["root_id"]), (&json!("a"), &ann.user["root_id"]));
        assert_eq!((&key["walkers"], &key["nodes"]), (&json!([]), &json!([])));
        assert!(key["expiration"].as_str().unwrap().contains('T'), "{key:?}");
        assert_eq!(app.user().await.get("/webhook").await.1, json!({ "keys": [] }), "own ones");
        assert_eq!(app.nobody().get("/webhook").await, (403, detail(json!("Not authenticated"))));
    }
    generate "POST `/generate-key`" "a name is taken once for each user: 409" |app| {
        let ann = app.user().await;
        let (status, made) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let members: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((status, members), (201, vec!["id", "name", "key"]));
        let parts: Vec<_> = made["key"].as_str().unwrap().split(':').collect();
        assert_eq!((parts.len(), parts[0], parts[2].len()), (3, ann.user["root_id"].as_str().unwrap(), 32));
        let made_at: i64 = parts[1].parse().unwrap();
        assert_eq!(ends(&ann).await.millis() / 1000 - made_at, 60 * DAY, "from the second of its creation");
        let again = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        assert_eq!(again, (409, detail(json!("Already Exists!"))));
        let ben = app.user().await;
        assert_eq!(ben.post("/webhook/generate-key", &json!({ "name": "a" })).await.0, 201);
        for (bad, wanted) in [
            (json!({}), "missing body.name"),
            (json!({ "name": "" }), "string_too_short body.name"),
            (json!({ "name": "b", "expiration": { "count": "1" } }), "int_type body.expiration.count"),
            (json!({ "name": "b", "expiration": { "count": 0 } }), "greater_than body.expiration.count"),
            (json!({ "name": "b", "expiration": { "interval": "weeks" } }), "enum body.expiration.interval"),
        ] {
            assert_eq!(told(&ann.post("/webhook/generate-key", &bad).await), [wanted]);
        }
    }
    extend "PATCH `/extend/{id}`" "404 for an unknown id, and for that of another's key" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let (_, made) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let path = format!("/webhook/extend/{}", made["id"].as_str().unwrap());
        let longer = json!({ "count": 1, "interval": "hours" });
        let answer = ask(&ann, Method::PATCH, &path, longer.clone()).await;
        assert_eq!(answer, (200, json!({ "message": "Successfully Extended!" })));
        let before = ends(&ann).await;
        assert_eq!(ask(&ann, Method::PATCH, &path, longer.clone()).await, answer);
        assert_eq!(ends(&ann).await.since(before), Duration::from_secs(3600), "from the end that it had");
        let before = ends(&ann).await;
        assert_eq!(ask(&ann, Method::PATCH, &path, json!({})).await, answer);
        assert_eq!(ends(&ann).await.millis() - before.millis(), 60 * DAY * 1000, "unless it says how long");
        let unknown = (404, detail(json!("Not Found")));
        assert_eq!(ask(&ben, Method::PATCH, &path, longer.clone()).await, unknown);
        assert_eq!(ask(&ann, Method::PATCH, "/webhook/extend/none", longer).await, unknown);
    }
    delete "DELETE `/delete`" "404 when one of the ids is unknown, or another's; a deleted key is worth nothing" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let (_, made) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let ids = json!({ "ids": [made["id"]] });
        let unknown = (404, detail(json!("Not Found")));
        assert_eq!(ask(&ben, Method::DELETE, "/webhook/delete", ids.clone()).await, unknown);
        let with_another = json!({ "ids": [made["id"], "none"] });
        assert_eq!(ask(&ann, Method::DELETE, "/webhook/delete", with_another).await, unknown, "none is deleted");
        let answer = ask(&ann, Method::DELETE, "/webhook/delete", ids).await;
        assert_eq!(answer, (200, json!({ "message": "Successfully Deleted!" })));
        assert_eq!(told(&ask(&ann, Method::DELETE, "/webhook/delete", json!({ "ids": [] })).await), ["too_short body.ids"]);
        let nobody = app.nobody();
        let request = nobody.request(Method::POST, "/webhook/walker/hook_header");
        let answer = nobody.send(request.header("X-API-KEY", made["key"].as_str().unwrap())).await;
        assert_eq!(answer, (401, detail(json!("Unauthorized"))));
    }
}
