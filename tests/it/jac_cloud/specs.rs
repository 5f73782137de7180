//! The specs of §6.2.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    app::{ask, node, send},
    rows,
};
use crate::support::told;

rows! { "6.2 specs";
    path "`path`" |app| {
        let ann = app.user().await;
        let node = node(&ann, "NO_ACCESS").await;
        assert_eq!(ann.post("/walker/below/below/7", &json!({})).await.1["reports"], json!([7]));
        assert_eq!(ann.post(&format!("/whole/a%20b/{node}"), &json!({})).await.1["reports"], json!([["a b", node]]));
        assert_eq!(ann.post("/walker/whole/a", &json!({})).await.0, 404);
    }
    methods "`methods`" |app| {
        let ann = app.user().await;
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            assert_eq!(ask(&ann, method.clone(), "/walker/methods", json!({})).await.0, 200, "{method}");
        }
        let (status, body) = ask(&ann, Method::HEAD, "/walker/methods", json!({})).await;
        assert_eq!((status, body), (200, json!("")), "like GET without a body");
    }
    as_query "`as_query`" |app| {
        let ann = app.user().await;
        let all = ann.get("/walker/query?n=1&list=2&list=3").await;
        assert_eq!(all.1["reports"], json!([[1, [2, 3]]]));
        let half = ann.post("/walker/half?n=1&m=9", &json!({ "m": 2, "n": 9 })).await;
        assert_eq!(half.1["reports"], json!([[1, 2]]));
    }
    excluded "`excluded`" |app| {
        let ann = app.user().await;
        assert_eq!(send(&ann, "/walker/sealed", "{\"wax\": 7}").await.1["reports"], json!([0]));
        assert_eq!(send(&ann, "/walker/sealed", "no JSON").await.0, 200, "no body is expected, and any ignored");
    }
    auth "`auth`" |app| {
        let public = json!(["n::00000000-0000-0000-0000-000000000001"]);
        let mut ann = app.user().await;
        assert_eq!(ann.post("/walker/open", &json!({})).await.1["reports"], public, "the token is ignored");
        ann.token = Some("bad".to_owned());
        assert_eq!(ann.post("/walker/open", &json!({})).await.1["reports"], public);
        assert_eq!(app.nobody().post("/walker/echo", &json!({ "number": 1 })).await.0, 403);
    }
    private "`private`" |app| {
        assert_eq!(app.user().await.post("/walker/hidden", &json!({})).await.0, 404);
    }
    webhook "`webhook`" |app| {
        let ann = app.user().await;
        let (_, key) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let nobody = app.nobody();
        let request = nobody.request(Method::POST, "/webhook/walker/hook_header");
        let answer = nobody.send(request.header("X-API-KEY", key["key"].as_str().unwrap())).await;
        assert_eq!(answer.0, 200, "the place is a header, and its name X-API-KEY, unless said otherwise");
        assert_eq!(ann.post("/walker/hook_header", &json!({})).await.0, 404);
    }
    entry_type "`entry_type`" |app| {
        let ann = app.user().await;
        let node = node(&ann, "NO_ACCESS").await;
        let at = async |path: String| ann.post(&path, &json!({ "number": 1 })).await.0;
        assert_eq!((at("/walker/echo".into()).await, at(format!("/walker/echo/{node}")).await), (200, 200));
        assert_eq!((at("/walker/on_root".into()).await, at(format!("/walker/on_root/{node}")).await), (200, 404));
        assert_eq!((at("/walker/on_node".into()).await, at(format!("/walker/on_node/{node}")).await), (404, 200));
    }
    parameters "§6.3 parameters" |app| {
        let ann = app.user().await;
        let (_, answer) = ann.post("/walker/echo", &json!({ "number": "12", "unknown": 1 })).await;
        assert_eq!((&answer["reports"][0]["number"], &answer["reports"][0]["text"]), (&json!(12), &Value::Null));
        let nested = json!({ "place": { "x": "1" }, "colour": "red", "more": { "a": [1] } });
        assert_eq!(ann.post("/walker/nested", &nested).await.1["reports"], json!([[1, "red", { "a": [1] }]]));
        let wrong = json!({ "place": {}, "colour": "blue", "more": 1 });
        assert_eq!(
            told(&ann.post("/walker/nested", &wrong).await),
            ["missing body.place.x", "enum body.colour", "dict_type body.more"]
        );
    }
    files "§6.5 files" "the part `body` may be left out where no field of it is required; an async walker keeps its files" |app| {
        let ann = app.user().await;
        let part = |name: &str, file: &str, text: &str| {
            format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{text}\r\n")
        };
        let file = part("file", "; filename=\"a.txt\"", "content");
        for (body, n) in [(part("body", "; filename=\"b\"", "{\"n\": 3}"), 3), (String::new(), 0)] {
            let request = ann.request(Method::POST, "/walker/sent").body(format!("{file}{body}--X--\r\n"));
            let answer = ann.send(request.header("content-type", "multipart/form-data; boundary=X")).await;
            assert_eq!(answer, (200, json!({ "status": 200, "reports": [["a.txt", n]] })));
        }
    }
    envelope "§6.6 the envelope" |app| {
        let ann = app.user().await;
        assert_eq!(ann.post("/walker/on_root", &json!({})).await, (200, json!({ "status": 200, "reports": [] })));
        let says = ann.post("/walker/says", &json!({ "status": 418 })).await;
        assert_eq!(says, (418, json!({ "status": 418, "reports": [] })));
    }
    elements "§6.6 reported elements" "those in tuples are shown like all others" |app| {
        let ann = app.user().await;
        let (_, made) = ann.post("/walker/make", &json!({ "level": "READ" })).await;
        assert_eq!(made["reports"][0]["context"], json!({ "val": 1 }));
        let (_, made) = ann.post("/walker/make", &json!({ "level": "READ", "shape": 2 })).await;
        let deep = &made["reports"][0];
        assert_eq!(deep["deep"][0]["node"]["context"], json!({ "val": 1 }));
        assert_eq!(deep["deep"][1][0]["context"], json!({ "w": 2 }));
        assert!(deep["deep"][1][0]["id"].as_str().unwrap().starts_with("e:E1:"));
        assert_eq!(deep["tuple"], json!([deep["deep"][0]["node"], 1]));
    }
    custom "§6.6 custom response" "the changes of its walker are kept; any JSON may be one" |app| {
        let ann = app.user().await;
        let answer = ann.request(Method::POST, "/walker/page").send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(answer.text().await.unwrap(), "<p>");
        let (_, around) = ann.get("/util/traverse?depth=-1").await;
        assert_eq!(around["nodes"].as_array().unwrap().len(), 2, "the node that it made is there");
    }
    asynchronous "§7.3 async walker over HTTP" "`status` stands beside `walker_id`, and the record is there at once" |app| {
        let ann = app.user().await;
        let (status, answer) = ann.post("/walker/later", &json!({})).await;
        let id = answer["walker_id"].as_str().unwrap();
        assert_eq!((status, &answer), (200, &json!({ "status": 200, "walker_id": id })));
        assert!(id.starts_with("w:later:"));
        assert_eq!(ann.finished(id).await["schedule"]["reports"], json!(["later"]));
    }
}
