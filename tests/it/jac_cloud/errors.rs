//! The errors of §4.3.

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{
    app::{ask, detail, node, send},
    rows,
};
use crate::support::told;

rows! { "4.3 errors";
    header_absent "protected endpoint, header absent" |app| {
        let answer = app.nobody().post("/walker/echo", &json!({ "number": 1 })).await;
        assert_eq!(answer, (403, detail(json!("Not authenticated"))));
    }
    other_scheme "other scheme than Bearer" |app| {
        let nobody = app.nobody();
        let request = nobody.request(Method::POST, "/walker/echo").json(&json!({ "number": 1 }));
        let answer = nobody.send(request.header("authorization", "Basic YTpi")).await;
        assert_eq!(answer, (403, detail(json!("Invalid authentication credentials"))));
    }
    bad_token "token invalid, expired, revoked" |app| {
        let refused = (401, detail(json!("Unauthorized")));
        let mut ann = app.user().await;
        let echo = json!({ "number": 1 });
        assert_eq!(ann.post("/walker/echo", &echo).await.0, 200);
        assert_eq!(ann.post("/user/logout", &json!({})).await.0, 200);
        assert_eq!(ann.post("/walker/echo", &echo).await, refused, "revoked");
        ann.token = Some("not.a.token".to_owned());
        assert_eq!(ann.post("/walker/echo", &echo).await, refused, "invalid");
        let ben = app.user().await;
        app.advance(Duration::from_secs(12 * 3600));
        assert_eq!(ben.post("/walker/echo", &echo).await, refused, "expired");
    }
    no_access "no READ access to entry node" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let node = node(&ann, "NO_ACCESS").await;
        let answer = ben.post(&format!("/walker/on_node/{node}"), &json!({})).await;
        let error = format!("You don't have access on target entry {node}!");
        assert_eq!(answer, (403, detail(json!({ "error": error }))));
    }
    key_lacks "webhook key lacks walker or node" |app| {
        let ann = app.user().await;
        for lists in [json!({ "walkers": ["hook_query"] }), json!({ "nodes": ["A"] })] {
            let mut wanted = lists.clone();
            wanted["name"] = json!(lists.to_string());
            let (_, key) = ann.post("/webhook/generate-key", &wanted).await;
            let nobody = app.nobody();
            let request = nobody.request(Method::POST, "/webhook/walker/hook_header");
            let answer = nobody.send(request.header("X-API-KEY", key["key"].as_str().unwrap())).await;
            assert_eq!(answer, (403, detail(json!("Forbidden"))), "{lists}");
        }
    }
    validation "body/query/path validation" |app| {
        let ann = app.user().await;
        let (status, answer) = ann.post("/walker/echo", &json!({ "number": "many" })).await;
        let msg = "Input should be a valid integer, unable to parse string as an integer";
        let error = json!({ "type": "int_parsing", "loc": ["body", "number"], "msg": msg, "input": "many" });
        assert_eq!((status, answer), (422, detail(json!([error]))));
        assert_eq!(told(&ann.get("/walker/query?n=a").await), ["int_parsing query.n"]);
        assert_eq!(told(&ann.post("/walker/below/below/a", &json!({})).await), ["int_parsing path.x"]);
    }
    no_body "body required but absent" |app| {
        let ann = app.user().await;
        let (status, answer) = send(&ann, "/walker/echo", "").await;
        let error = json!({ "type": "missing", "loc": ["body"], "msg": "Field required", "input": null });
        assert_eq!((status, answer), (422, detail(json!([error]))));
    }
    no_json "malformed JSON" |app| {
        // Of nobody as well.
        let (status, answer) = send(&app.nobody(), "/walker/echo", "{\"a\" 1}").await;
        let error = &answer["detail"][0];
        assert_eq!((status, &error["type"], &error["loc"]), (422, &json!("json_invalid"), &json!(["body", 5])));
        assert!(error["ctx"]["error"].is_string(), "{answer}");
    }
    no_walker "unknown walker, private walker, wrong entry kind" |app| {
        let ann = app.user().await;
        let node = node(&ann, "READ").await;
        for path in ["nothing", "hidden", "on_node", &format!("on_root/{node}")] {
            let answer = ann.post(&format!("/walker/{path}"), &json!({})).await;
            assert_eq!(answer, (404, detail(json!("Not Found"))), "{path}");
        }
    }
    no_method "method not allowed" |app| {
        let ann = app.user().await;
        let answer = ask(&ann, Method::DELETE, "/walker/echo", json!({})).await;
        assert_eq!(answer, (405, detail(json!("Method Not Allowed"))));
    }
    raised "walker raised; malformed or unknown node id; edge id as entry; unknown `&id`; anything uncaught" "500 `errors` with one safe sentence and a `code`, and the connection stays; a malformed id and that of an edge are 422, an unknown one 404; `cx.get` of an unknown id gives none"
    |app| {
        let ann = app.user().await;
        let request = ann.request(Method::POST, "/walker/fails").json(&json!({}));
        let answer = request.send().await.unwrap();
        assert!(answer.headers().get(header::CONNECTION).is_none());
        let (status, answer): (_, Value) = (answer.status(), answer.json().await.unwrap());
        assert_eq!((status.as_u16(), &answer["code"]), (500, &json!("walker-failed")));
        let said = answer["errors"].as_array().unwrap();
        assert!(said.len() == 1 && !said[0].as_str().unwrap().contains("secret"), "{answer}");
        let (_, made) = ann.post("/walker/make", &json!({ "level": "READ", "shape": 1 })).await;
        let edge = made["reports"][0]["id"].as_str().unwrap();
        for (id, status) in [("n:A:7", 422), (edge, 422), ("n:A:0191c5a0-0000-7000-8000-000000000000", 404)] {
            assert_eq!(ann.post(&format!("/walker/on_node/{id}"), &json!({})).await.0, status, "{id}");
        }
        let unknown = json!({ "id": "n:A:0191c5a0-0000-7000-8000-000000000000" });
        assert_eq!(ann.post("/walker/reference", &unknown).await.1["reports"], json!([null]));
    }
    bad_body_part "invalid `body` part next to files (§6.5)" "422, with `body` in `loc`" |app| {
        let ann = app.user().await;
        let form = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n1\r\n\
                    --X\r\nContent-Disposition: form-data; name=\"body\"\r\n\r\n{\"n\": \"a\"}\r\n--X--\r\n";
        let request = ann.request(Method::POST, "/walker/sent").body(form);
        let answer = ann.send(request.header("content-type", "multipart/form-data; boundary=X")).await;
        assert_eq!(told(&answer), ["int_parsing body.n"]);
    }
}
