//! What a request has, in which order it is looked at, and files: §6.3 to §6.5.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    app::{App, ask, detail, node, send},
    rows,
};
use crate::support::{Client, told};

/// One part of a multipart body, of a file when it has a name.
fn part(name: &str, file: Option<&str>, text: &str) -> String {
    let file = file.map_or(String::new(), |file| format!("; filename=\"{file}\""));
    format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{text}\r\n")
}

async fn post_form(client: &Client, path: &str, parts: &[String]) -> (u16, Value) {
    let request = client.request(Method::POST, path).body(format!("{}--X--\r\n", parts.concat()));
    client.send(request.header("content-type", "multipart/form-data; boundary=X")).await
}

/// A webhook key of these members.
async fn key(app: &App, client: &Client, lists: Value) -> impl Fn(&str) -> reqwest::RequestBuilder {
    let mut wanted = lists;
    wanted["name"] = json!(wanted.to_string());
    let (status, made) = client.post("/webhook/generate-key", &wanted).await;
    assert_eq!(status, 201, "{made}");
    let (nobody, key) = (app.nobody(), made["key"].as_str().unwrap().to_owned());
    move |path: &str| nobody.request(Method::POST, &format!("/webhook/walker/hook_query{path}&key={key}"))
}

rows! { "6.3–6.5 requests";
    body "§6.3 JSON body, for every method" |app| {
        let ann = app.user().await;
        let get = ask(&ann, Method::GET, "/walker/get_body", json!({ "n": 1, "unknown": 2 })).await;
        assert_eq!(get, (200, json!({ "status": 200, "reports": [[1, 0]] })), "what is unknown is ignored");
        assert_eq!(told(&ann.get("/walker/get_body").await), ["missing body"]);
    }
    no_body "§6.3 no body where no field is in it" |app| {
        let ann = app.user().await;
        for body in ["", "no JSON", "{\"wax\": 7}"] {
            let answer = send(&ann, "/walker/sealed", body).await;
            assert_eq!(answer, (200, json!({ "status": 200, "reports": [0] })), "{body}");
        }
    }
    required "§6.3 required is what has no default" |app| {
        let ann = app.user().await;
        let (status, answer) = ann.post("/walker/echo", &json!({ "unknown": 1 })).await;
        let error = json!({ "type": "missing", "loc": ["body", "number"], "msg": "Field required", "input": { "unknown": 1 } });
        assert_eq!((status, answer), (422, detail(json!([error]))));
        let answer = ann.post("/walker/echo", &json!({ "number": 12 })).await;
        assert_eq!((answer.0, &answer.1["reports"][0]["text"]), (200, &Value::Null));
    }
    types "§6.3 types: nested ones, enums by value, lax" |app| {
        let ann = app.user().await;
        let nested = json!({ "place": { "x": "1" }, "colour": "red", "more": { "a": [1] } });
        let answer = ann.post("/walker/nested", &nested).await;
        assert_eq!(answer, (200, json!({ "status": 200, "reports": [[1, "red", { "a": [1] }]] })));
        let wrong = json!({ "place": {}, "colour": "blue", "more": 1 });
        let (status, answer) = ann.post("/walker/nested", &wrong).await;
        let errors = json!([
            { "type": "missing", "loc": ["body", "place", "x"], "msg": "Field required", "input": {} },
            { "type": "enum", "loc": ["body", "colour"], "msg": "Input should be 'red' or 'green'", "input": "blue",
              "ctx": { "expected": "'red' or 'green'" } },
            { "type": "dict_type", "loc": ["body", "more"], "msg": "Input should be a valid dictionary", "input": 1 },
        ]);
        assert_eq!((status, answer), (422, detail(errors)));
    }
    query "§6.3 all from the query" |app| {
        let ann = app.user().await;
        let answer = ask(&ann, Method::GET, "/walker/query?n=1&list=2&list=3", json!({ "n": 7 })).await;
        assert_eq!(answer, (200, json!({ "status": 200, "reports": [[1, [2, 3]]] })));
        assert_eq!(told(&ann.get("/walker/query").await), ["missing query.n"]);
    }
    order "§6.4 order of processing" "the same; a malformed entry node is told with what does not fit, and an unknown one is 404" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let (closed, unknown) = (node(&ann, "NO_ACCESS").await, "n:A:0191c5a0-0000-7000-8000-000000000000");
        // 1. The body is JSON; 2. who calls; 3. all that does not fit.
        assert_eq!(told(&send(&app.nobody(), "/walker/echo", "{").await), ["json_invalid body.1"]);
        let refused = send(&app.nobody(), "/walker/echo", "{}").await;
        assert_eq!(refused, (403, detail(json!("Not authenticated"))));
        let unfit = ben.post(&format!("/walker/echo/{closed}"), &json!({})).await;
        assert_eq!(told(&unfit), ["missing body.number"]);
        // 4. The entry node; 5. what the key is for; 6. access to the node.
        let narrow = key(&app, &ben, json!({ "walkers": ["hook_path"] })).await;
        let nobody = app.nobody();
        assert_eq!(told(&nobody.send(narrow(&format!("/{unknown}?n=x"))).await), ["int_parsing query.n"]);
        assert_eq!(nobody.send(narrow(&format!("/{unknown}?n=1"))).await, (404, detail(json!("Not Found"))));
        assert_eq!(nobody.send(narrow(&format!("/{closed}?n=1"))).await, (403, detail(json!("Forbidden"))));
        let wide = key(&app, &ben, json!({})).await;
        let error = format!("You don't have access on target entry {closed}!");
        assert_eq!(nobody.send(wide(&format!("/{closed}?n=1"))).await, (403, detail(json!({ "error": error }))));
    }
    files "§6.5 `UploadFile`, `list[UploadFile]` and their optional forms" "an async walker keeps its files" |app| {
        let ann = app.user().await;
        let file = |name: &str| part(name, Some("a.txt"), "content");
        let body = part("body", Some("b"), "{\"n\": 3}");
        let answer = post_form(&ann, "/walker/sent_many", &[file("many"), file("many"), body.clone()]).await;
        assert_eq!(answer, (200, json!({ "status": 200, "reports": [[2, false, null, 3]] })));
        let all = [file("many"), file("one"), file("more"), body.clone()];
        assert_eq!(post_form(&ann, "/walker/sent_many", &all).await.1["reports"], json!([[1, true, 1, 3]]));
        assert_eq!(told(&post_form(&ann, "/walker/sent_many", &[body]).await), ["missing body.many"]);
    }
    body_part "§6.5 the part `body`" "it may be left out where no field of it is required" |app| {
        let ann = app.user().await;
        let file = part("file", Some("a.txt"), "content");
        for (body, n) in [(part("body", Some("b"), "{\"n\": 3}"), 3), (part("body", None, "{\"n\": 4}"), 4), (String::new(), 0)] {
            let answer = post_form(&ann, "/walker/sent", &[file.clone(), body]).await;
            assert_eq!(answer, (200, json!({ "status": 200, "reports": [["a.txt", n]] })));
        }
        let files = [part("many", Some("a.txt"), "content")];
        assert_eq!(told(&post_form(&ann, "/walker/sent_many", &files).await), ["missing body.body"]);
    }
    no_files "§6.5 no files over the WebSocket" |app| {
        let mut own = app.user().await.socket().await;
        let file = json!({ "name": "a", "content_type": "b", "bytes": 1, "sha256": "c", "url": null });
        let event = json!({ "type": "walker", "walker": "sent", "response": true, "context": { "file": file } });
        let answer = own.ask(event).await;
        assert_eq!((&answer["error"][0]["type"], &answer["error"][0]["loc"]), (&json!("missing"), &json!(["file"])));
    }
}
