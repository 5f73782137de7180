//! The places of webhook keys, §6.7.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    app::{App, detail, node},
    rows,
};

/// A key, and the root that it acts as.
async fn key(app: &App) -> (String, Value) {
    let ann = app.user().await;
    let (_, made) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
    let (_, around) = ann.get("/util/traverse?depth=0").await;
    (made["key"].as_str().unwrap().to_owned(), around["nodes"][0]["id"].clone())
}

/// How requests without a key, and with a bad one, are answered.
async fn refused(app: &App, request: impl Fn(Option<&str>) -> reqwest::RequestBuilder) {
    let nobody = app.nobody();
    assert_eq!(nobody.send(request(None)).await, (403, detail(json!("Not authenticated"))));
    for bad in ["a", "0:0:0", "00000000000000000000000000000001:1:00000000000000000000000000000000"] {
        assert_eq!(nobody.send(request(Some(bad))).await, (401, detail(json!("Unauthorized"))), "{bad}");
    }
}

rows! { "6.7 place of the key";
    header "`header` (default)" |app| {
        let (key, root) = key(&app).await;
        let nobody = app.nobody();
        let request = |key: Option<&str>| {
            let request = nobody.request(Method::POST, "/webhook/walker/hook_header");
            key.into_iter().fold(request, |request, key| request.header("x-api-key", key))
        };
        refused(&app, request).await;
        assert_eq!(nobody.send(request(Some(&key))).await.1["reports"], json!([root]));
    }
    query "`query`" |app| {
        let (key, root) = key(&app).await;
        let nobody = app.nobody();
        let request = |key: Option<&str>| {
            let key = key.map_or(String::new(), |key| format!("&key={key}"));
            nobody.request(Method::POST, &format!("/webhook/walker/hook_query?n=1{key}"))
        };
        refused(&app, request).await;
        assert_eq!(nobody.send(request(Some(&key))).await.1["reports"], json!([[1, root]]));
    }
    path "`path`" |app| {
        let (key, root) = key(&app).await;
        let nobody = app.nobody();
        let request = |key: &str| nobody.request(Method::POST, &format!("/webhook/walker/hook_path/by/{key}"));
        assert_eq!(nobody.send(request("a")).await, (401, detail(json!("Unauthorized"))));
        assert_eq!(nobody.send(request(&key)).await.1["reports"], json!([root]));
    }
    body "`body`" |app| {
        let (key, root) = key(&app).await;
        let nobody = app.nobody();
        let request = |key: Option<&str>| {
            let mut body = json!({ "n": 1 });
            if let Some(key) = key {
                body["key"] = json!(key);
            }
            nobody.request(Method::POST, "/webhook/walker/hook_body").json(&body)
        };
        refused(&app, request).await;
        assert_eq!(nobody.send(request(Some(&key))).await.1["reports"], json!([[1, root]]));
    }
    root "acting root" |app| {
        let (key, root) = key(&app).await;
        // Also where who calls has a login.
        let ben = app.user().await;
        let request = ben.request(Method::POST, "/webhook/walker/hook_header").header("x-api-key", &key);
        let answer = ben.send(request).await;
        assert_eq!(answer, (200, json!({ "status": 200, "reports": [root] })));
        let without = ben.send(ben.request(Method::POST, "/webhook/walker/hook_header")).await;
        assert_eq!(without, (403, detail(json!("Not authenticated"))), "a login is no key");
    }
    lists "`walkers` and `nodes` of the key" |app| {
        let ann = app.user().await;
        let node = node(&ann, "NO_ACCESS").await;
        for (lists, on_root, on_node) in [
            (json!({}), 200, 200),
            (json!({ "walkers": ["hook_header"], "nodes": ["root"] }), 200, 403),
            (json!({ "nodes": ["A"] }), 403, 200),
            (json!({ "walkers": ["hook_body"] }), 403, 403),
        ] {
            let mut wanted = lists.clone();
            wanted["name"] = json!(lists.to_string());
            let (_, made) = ann.post("/webhook/generate-key", &wanted).await;
            let nobody = app.nobody();
            for (path, status) in [(String::new(), on_root), (format!("/{node}"), on_node)] {
                let request = nobody.request(Method::POST, &format!("/webhook/walker/hook_header{path}"));
                let answer = nobody.send(request.header("x-api-key", made["key"].as_str().unwrap())).await;
                assert_eq!(answer.0, status, "{lists} {path}");
                assert!(status == 200 || answer.1 == detail(json!("Forbidden")), "{}", answer.1);
            }
        }
    }
    expired "a key that is over" "401 always; there it may go on working" |app| {
        let ann = app.user().await;
        let short = json!({ "name": "a", "expiration": { "count": 1, "interval": "hours" } });
        let (_, made) = ann.post("/webhook/generate-key", &short).await;
        let nobody = app.nobody();
        let ask = async || {
            let request = nobody.request(Method::POST, "/webhook/walker/hook_header");
            nobody.send(request.header("x-api-key", made["key"].as_str().unwrap())).await
        };
        assert_eq!(ask().await.0, 200);
        app.advance(Duration::from_secs(3600));
        assert_eq!(ask().await, (401, detail(json!("Unauthorized"))));
    }
    asynchronous "`async` webhook walkers" "`status` stands beside `walker_id`" |app| {
        let ann = app.user().await;
        let (_, made) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let nobody = app.nobody();
        let request = nobody.request(Method::POST, "/webhook/walker/hook_later");
        let (status, answer) = nobody.send(request.header("x-api-key", made["key"].as_str().unwrap())).await;
        let id = answer["walker_id"].as_str().unwrap();
        assert_eq!((status, &answer), (200, &json!({ "status": 200, "walker_id": id })));
        assert_eq!(ann.finished(id).await["schedule"]["status"], "completed", "it is the key owner's");
    }
}
