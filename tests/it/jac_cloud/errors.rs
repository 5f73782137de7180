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
        let ann = app.user().await;
        let nobody = app.nobody();
        let ask = async |authorization: &str| {
            let request = nobody.request(Method::POST, "/walker/echo").json(&json!({ "number": 1 }));
            nobody.send(request.header("authorization", authorization)).await
        };
        let refused = (403, detail(json!("Invalid authentication credentials")));
        assert_eq!(ask("Basic YTpi").await, refused);
        let token = ann.token.as_deref().unwrap();
        assert_eq!(ask(&format!("bEARER {token}")).await.0, 200, "in any case");
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
        assert_eq!(ann.post(&format!("/walker/on_node/{node}"), &json!({})).await.0, 200);
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
        let error = |part: &str, name: &str| {
            json!({ "type": "int_parsing", "loc": [part, name], "msg": msg, "input": "a" })
        };
        assert_eq!(ann.get("/walker/query?n=a").await, (422, detail(json!([error("query", "n")]))));
        let answer = ann.post("/walker/below/below/a", &json!({})).await;
        assert_eq!(answer, (422, detail(json!([error("path", "x")]))));
        let (status, answer) = ann.post("/walker/echo", &json!({ "number": 256 })).await;
        let msg = "Input should be less than or equal to 255";
        let error = json!({ "type": "less_than_equal", "loc": ["body", "number"], "msg": msg, "input": 256, "ctx": { "le": 255 } });
        assert_eq!((status, answer), (422, detail(json!([error]))));
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
        let error = json!({
            "type": "json_invalid", "loc": ["body", 5], "msg": "JSON decode error", "input": {},
            "ctx": { "error": "expected `:`" },
        });
        assert_eq!((status, answer), (422, detail(json!([error]))));
    }
    no_walker "unknown walker, private walker, wrong entry kind" |app| {
        let ann = app.user().await;
        let node = node(&ann, "READ").await;
        for path in ["nothing", "hidden", "on_node", &format!("on_root/{node}"), &format!("nothing/{node}")] {
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
        let sentence = "walker fails failed with an internal error; the server's log has the details";
        let failed = json!({ "errors": [sentence], "code": "walker-failed", "run": null });
        assert_eq!((status.as_u16(), answer), (500, failed));
        let (_, made) = ann.post("/walker/make", &json!({ "level": "READ", "shape": 1 })).await;
        let edge = made["reports"][0]["id"].as_str().unwrap();
        for id in ["n:A:7", edge] {
            let answer = ann.post(&format!("/walker/on_node/{id}"), &json!({})).await;
            assert_eq!(told(&answer), ["value_error path.node"], "{id}");
            assert_eq!(answer.1["detail"][0]["input"], id);
        }
        let answer = ann.post("/walker/on_node/n:A:0191c5a0-0000-7000-8000-000000000000", &json!({})).await;
        assert_eq!(answer, (404, detail(json!("Not Found"))));
        let unknown = json!({ "id": "n:A:0191c5a0-0000-7000-8000-000000000000" });
        assert_eq!(ann.post("/walker/reference", &unknown).await.1["reports"], json!([null]));
    }
    bad_body_part "invalid `body` part next to files (§6.5)" "422, with `body` in `loc`" |app| {
        let ann = app.user().await;
        let form = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n1\r\n\
                    --X\r\nContent-Disposition: form-data; name=\"body\"\r\n\r\n{\"n\": \"a\"}\r\n--X--\r\n";
        let request = ann.request(Method::POST, "/walker/sent").body(form);
        let answer = ann.send(request.header("content-type", "multipart/form-data; boundary=X")).await;
        let msg = "Input should be a valid integer, unable to parse string as an integer";
        let error = json!({ "type": "int_parsing", "loc": ["body", "n"], "msg": msg, "input": "a" });
        assert_eq!(answer, (422, detail(json!([error]))));
    }
}
