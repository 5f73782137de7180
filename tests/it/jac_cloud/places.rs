//! The places of webhook keys, §6.7.

use reqwest::Method;
use serde_json::{Value, json};

use super::{app::App, app::detail, rows};

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
}
