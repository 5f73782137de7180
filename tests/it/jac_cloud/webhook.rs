//! The routes of §5.5.

use reqwest::Method;
use serde_json::json;

use super::{
    app::{ask, detail},
    rows,
};
use crate::support::told;

rows! { "5.5 webhook keys";
    list "GET `` (i.e. `/webhook`)" |app| {
        let ann = app.user().await;
        assert_eq!(ann.get("/webhook").await, (200, json!({ "keys": [] })));
        ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let (_, listed) = ann.get("/webhook").await;
        let key = listed["keys"][0].as_object().unwrap();
        let members: Vec<_> = key.keys().map(String::as_str).collect();
        assert_eq!(members, ["id", "name", "root_id", "walkers", "nodes", "expiration", "key"]);
        assert_eq!(app.nobody().get("/webhook").await.0, 403);
    }
    generate "POST `/generate-key`" "a name is taken once for each user: 409" |app| {
        let ann = app.user().await;
        let (status, made) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let members: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((status, members), (201, vec!["id", "name", "key"]));
        let again = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        assert_eq!(again, (409, detail(json!("Already Exists!"))));
        let ben = app.user().await;
        assert_eq!(ben.post("/webhook/generate-key", &json!({ "name": "a" })).await.0, 201);
        let bad = json!({ "name": "", "expiration": { "count": "1", "interval": "weeks" } });
        let wrong = told(&ann.post("/webhook/generate-key", &bad).await);
        assert!(wrong.contains(&"enum body.expiration.interval".to_owned()), "{wrong:?}");
    }
    extend "PATCH `/extend/{id}`" "404 for an unknown id, and for that of another's key" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let (_, made) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let path = format!("/webhook/extend/{}", made["id"].as_str().unwrap());
        let longer = json!({ "count": 1, "interval": "hours" });
        let answer = ask(&ann, Method::PATCH, &path, longer.clone()).await;
        assert_eq!(answer, (200, json!({ "message": "Successfully Extended!" })));
        assert_eq!(ask(&ben, Method::PATCH, &path, longer.clone()).await.0, 404);
        assert_eq!(ask(&ann, Method::PATCH, "/webhook/extend/none", longer).await.0, 404);
    }
    delete "DELETE `/delete`" "404 when one of the ids is unknown, or another's; a deleted key is worth nothing" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let (_, made) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let ids = json!({ "ids": [made["id"]] });
        assert_eq!(ask(&ben, Method::DELETE, "/webhook/delete", ids.clone()).await.0, 404);
        let answer = ask(&ann, Method::DELETE, "/webhook/delete", ids).await;
        assert_eq!(answer, (200, json!({ "message": "Successfully Deleted!" })));
        assert_eq!(told(&ask(&ann, Method::DELETE, "/webhook/delete", json!({ "ids": [] })).await), ["too_short body.ids"]);
        let nobody = app.nobody();
        let request = nobody.request(Method::POST, "/webhook/walker/hook_header");
        let answer = nobody.send(request.header("X-API-KEY", made["key"].as_str().unwrap())).await;
        assert_eq!(answer.0, 401);
    }
}
