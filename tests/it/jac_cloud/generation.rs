//! Which endpoints a walker has, §6.1.

use reqwest::Method;
use serde_json::json;

use super::{
    app::{App, ask, detail, node},
    rows,
};

rows! { "6.1 endpoints";
    root "`POST /walker/w`" |app| {
        let ann = app.user().await;
        let (status, answer) = ann.post("/walker/echo", &json!({ "number": 1 })).await;
        let root = format!("n::{}", uuid::Uuid::parse_str(ann.user["root_id"].as_str().unwrap()).unwrap());
        assert_eq!((status, &answer["reports"][0]["here"]), (200, &json!(root)));
    }
    entry "`POST /walker/w/{node}`" |app| {
        let ann = app.user().await;
        let node = node(&ann, "NO_ACCESS").await;
        let (status, answer) = ann.post(&format!("/walker/echo/{node}"), &json!({ "number": 1 })).await;
        assert_eq!((status, &answer["reports"][0]["here"]), (200, &json!(node)));
        // The name in an id is not looked at, and the true one is told.
        let other = node.replace("n:A:", "n:Other:");
        let (status, answer) = ann.post(&format!("/walker/echo/{other}"), &json!({ "number": 1 })).await;
        assert_eq!((status, &answer["reports"][0]["here"]), (200, &json!(node)));
    }
    none "none: `private`, or `DISABLE_AUTO_ENDPOINT` and no spec" "a spec that says how the walker is called: those for documents, `as_query` and `excluded` do not count" |app| {
        assert_eq!(app.user().await.post("/walker/hidden", &json!({})).await, (404, detail(json!("Not Found"))));
        let app = App::start_with(|config| config.disable_auto_endpoint = true).await;
        let ann = app.user().await;
        assert_eq!(ann.post("/walker/reference", &json!({})).await, (404, detail(json!("Not Found"))));
        assert_eq!(ann.post("/walker/echo", &json!({ "number": 1 })).await.0, 200, "it says `websocket`");
    }
    methods "one for each of the methods; `websocket` is an event and no route" |app| {
        let ann = app.user().await;
        for (method, status) in [(Method::PUT, 200), (Method::POST, 200), (Method::HEAD, 200)] {
            assert_eq!(ask(&ann, method.clone(), "/walker/methods", json!({})).await.0, status, "{method}");
        }
        let mut socket = ann.socket().await;
        let event = |walker: &str| json!({ "type": "walker", "walker": walker, "response": true });
        assert_eq!(socket.ask(event("open")).await["status"], 200);
        assert_eq!(ask(&ann, Method::GET, "/walker/open", json!({})).await, (405, detail(json!("Method Not Allowed"))));
        let refused = "Invalid request! Please use valid walker event!";
        assert_eq!(socket.ask(event("methods")).await, json!({ "type": "walker", "error": refused }));
    }
}
