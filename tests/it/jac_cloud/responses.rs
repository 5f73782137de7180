//! What a walker is answered with: §6.6, and of an async one §7.3.

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{
    app::{ask, send},
    rows,
};
use crate::support::Client;

/// How many nodes a client has, with the root.
pub async fn nodes(client: &Client) -> usize {
    let (_, around) = client.get("/util/traverse?depth=-1").await;
    around["nodes"].as_array().unwrap().len()
}

rows! { "6.6 responses";
    envelope "`{\"status\",\"reports\"}`" |app| {
        let ann = app.user().await;
        assert_eq!(ann.post("/walker/on_root", &json!({})).await, (200, json!({ "status": 200, "reports": [] })));
    }
    status "the status that a walker sets" |app| {
        let ann = app.user().await;
        for status in [201, 404, 418, 503] {
            let says = ann.post("/walker/says", &json!({ "status": status })).await;
            assert_eq!(says, (status, json!({ "status": status, "reports": [] })));
        }
    }
    bodiless "codes that forbid a body" "answered whole, without a body; 1xx cannot be set" |app| {
        let ann = app.user().await;
        for status in [204, 304] {
            assert_eq!(ann.post("/walker/says", &json!({ "status": status })).await, (status, json!("")));
        }
        let (status, answer) = ann.post("/walker/says", &json!({ "status": 101 })).await;
        assert_eq!((status, &answer["code"]), (500, &json!("walker-failed")), "{answer}");
    }
    elements "reported elements" "those in tuples are shown like all others; a walker is its fields, and `cx.record` what there is of its run" |app| {
        let ann = app.user().await;
        let shown = |value: &Value, kind: &str, context: Value| {
            let id = value["id"].as_str().unwrap();
            assert!(id.starts_with(kind), "{value}");
            assert_eq!(value, &json!({ "id": id, "context": context }));
        };
        let (_, made) = ann.post("/walker/make", &json!({ "level": "READ", "shape": 2 })).await;
        let deep = &made["reports"][0];
        shown(&deep["deep"][0]["node"], "n:A:", json!({ "val": 1 }));
        shown(&deep["deep"][1][0], "e:E1:", json!({ "w": 2 }));
        assert_eq!(deep["tuple"], json!([deep["deep"][0]["node"], 1]));
        let (_, kinds) = ann.post("/walker/kinds", &json!({})).await;
        shown(&kinds["reports"][0], "o:O:", json!({ "size": 1 }));
        shown(&kinds["reports"][1], "n::", json!({}));
        assert_eq!(kinds["reports"][2], json!({}));
    }
    values "other reported values" "enums as serde spells them, inside a dataclass and bare" |app| {
        let (_, kinds) = app.user().await.post("/walker/kinds", &json!({})).await;
        assert_eq!(kinds["reports"][3], json!({ "point": { "x": 1 }, "colour": "red" }));
        assert_eq!(kinds["reports"][4], "green");
    }
    no_json "values that are no JSON" "500 with a safe sentence and a `code`" |app| {
        let (status, answer) = app.user().await.post("/walker/no_json", &json!({})).await;
        let sentence = "walker no_json failed with an internal error; the server's log has the details";
        assert_eq!((status, answer), (500, json!({ "errors": [sentence], "code": "walker-failed", "run": null })));
    }
    custom "custom response" "the changes of its walker are kept" |app| {
        let ann = app.user().await;
        let answer = ann.request(Method::POST, "/walker/page").send().await.unwrap();
        assert_eq!((answer.status(), &answer.headers()[header::CONTENT_TYPE]), (reqwest::StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap()));
        assert_eq!(answer.text().await.unwrap(), "<p>");
        assert_eq!(nodes(&ann).await, 2, "the node that it made is there");
    }
    custom_value "custom value" "any JSON may be one, of a walker without `response_model`" |app| {
        let ann = app.user().await;
        for value in [json!({ "a": [1, null] }), json!("a"), json!([]), Value::Null] {
            let answer = ann.post("/walker/custom", &json!({ "value": value })).await;
            assert_eq!(answer, (201, value));
        }
    }
    head "HEAD" |app| {
        let ann = app.user().await;
        assert_eq!(ask(&ann, Method::HEAD, "/walker/query?n=1", json!({})).await, (200, json!("")));
        assert_eq!(ask(&ann, Method::HEAD, "/walker/query?n=a", json!({})).await, (422, json!("")));
    }
    asynchronous "§7.3 async walker over HTTP" "`status` stands beside `walker_id`, and the record is there at once" |app| {
        let ann = app.user().await;
        let (status, answer) = ann.post("/walker/later", &json!({})).await;
        let id = answer["walker_id"].as_str().unwrap();
        assert_eq!((status, &answer), (200, &json!({ "status": 200, "walker_id": id })));
        assert!(id.starts_with("w:later:"));
        assert_eq!(ann.get(&format!("/walker/{id}")).await.0, 200);
        assert_eq!(ann.finished(id).await["schedule"]["reports"], json!(["later"]));
        // Refused like any other.
        assert_eq!(send(&app.nobody(), "/walker/later", "").await.0, 403);
    }
}
