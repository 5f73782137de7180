//! The specs of §6.2 that say how a walker is called and what it answers.

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{
    app::{ask, node, send},
    documents::document,
    responses::nodes,
    rows,
};

rows! { "6.2 specs";
    path "`path`" |app| {
        let ann = app.user().await;
        let node = node(&ann, "NO_ACCESS").await;
        assert_eq!(ann.post("/walker/below/below/7", &json!({})).await.1["reports"], json!([7]));
        assert_eq!(ann.post(&format!("/whole/a%20b/{node}"), &json!({})).await.1["reports"], json!([["a b", node]]));
        assert_eq!(ann.post("/walker/whole/a", &json!({})).await.0, 404);
        assert_eq!(ann.post("/walker/below/7", &json!({})).await.0, 404);
        let key = |path: &str| app.nobody().request(Method::POST, path);
        assert_eq!(app.nobody().send(key("/webhook/walker/hook_named/shop")).await.0, 403, "below that of webhooks");
    }
    methods "`methods`" |app| {
        let ann = app.user().await;
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            let answer = ask(&ann, method.clone(), "/walker/methods", json!({})).await;
            assert_eq!(answer, (200, json!({ "status": 200, "reports": ["it runs"] })), "{method}");
        }
        let head = ask(&ann, Method::HEAD, "/walker/methods", json!({})).await;
        assert_eq!(head, (200, json!("")), "like GET without a body");
        assert_eq!(ann.get("/walker/echo").await.0, 405, "POST unless it says otherwise");
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
        assert_eq!(ann.post("/walker/sealed?wax=7", &json!({})).await.1["reports"], json!([0]));
    }
    auth "`auth`" |app| {
        let public = json!(["n::00000000-0000-0000-0000-000000000001"]);
        let mut ann = app.user().await;
        assert_eq!(app.nobody().post("/walker/open", &json!({})).await.1["reports"], public);
        assert_eq!(ann.post("/walker/open", &json!({})).await.1["reports"], public, "the token is ignored");
        ann.token = Some("bad".to_owned());
        assert_eq!(ann.post("/walker/open", &json!({})).await.1["reports"], public);
        assert_eq!(app.nobody().post("/walker/echo", &json!({ "number": 1 })).await.0, 403);
    }
    private "`private`" |app| {
        assert_eq!(app.user().await.post("/walker/hidden", &json!({})).await.0, 404);
        assert!(document(&app).await["paths"].get("/walker/hidden").is_none());
    }
    webhook "`webhook`" |app| {
        let ann = app.user().await;
        let (_, key) = ann.post("/webhook/generate-key", &json!({ "name": "a" })).await;
        let nobody = app.nobody();
        for (path, name) in [("hook_header", "X-API-KEY"), ("hook_named/shop", "X-Shop")] {
            let request = nobody.request(Method::POST, &format!("/webhook/walker/{path}"));
            let answer = nobody.send(request.header(name, key["key"].as_str().unwrap())).await;
            assert_eq!(answer.0, 200, "{path}: the place is a header, and its name X-API-KEY, unless said otherwise");
        }
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
    response_model "`response_model`" "500 `errors` with a safe sentence and a `code` for what does not fit; what fits is sent as it is, also members that the model does not have; what comes with an error status may be anything" |app| {
        let ann = app.user().await;
        let sentence = "the walker's answer is not what its response_model says; the server's log has the details";
        let failed = |run: Value| json!({ "errors": [sentence], "code": "invalid-response", "run": run });
        let bad = json!({ "value": { "x": "secret" } });
        assert_eq!(ann.post("/walker/modelled", &bad).await, (500, failed(Value::Null)));
        assert_eq!(nodes(&ann).await, 1, "nothing of it is kept");
        let fits = json!({ "x": 1, "more": true });
        assert_eq!(ann.post("/walker/modelled", &json!({ "value": fits })).await, (200, fits.clone()));
        assert_eq!(nodes(&ann).await, 2);
        assert_eq!(ann.post("/walker/modelled", &json!({ "value": "none", "status": 404 })).await, (404, json!("none")));

        // An async walker fails, and is not tried again.
        let id = ann.submit("modelled_later", &bad).await;
        let record = ann.finished(&id).await;
        let seen = (&record["schedule"]["http_status"], &record["schedule"]["error"], &record["run"]["error_code"]);
        assert_eq!(seen, (&json!(500), &json!(sentence), &json!("invalid-response")));
        assert_eq!((&record["run"]["attempt"], &record["run"]["result"]), (&json!(1), &Value::Null));
        let id = ann.submit("modelled_later", &json!({ "value": fits })).await;
        assert_eq!(ann.finished(&id).await["run"]["result"], fits);
        assert_eq!(nodes(&ann).await, 4, "of those that fitted, and that of the error");

        let mut own = ann.socket().await;
        let event = |walker: &str, context: &Value| json!({ "type": "walker", "walker": walker, "response": true, "context": context });
        let refused = own.ask(event("modelled", &bad)).await;
        let wanted = json!({ "type": "walker", "error": sentence, "code": "invalid-response", "run": null });
        assert_eq!(refused, wanted);
        assert_eq!(own.ask(event("modelled", &json!({ "value": fits }))).await, fits);
        let refused = own.ask(event("modelled_later", &bad)).await;
        assert_eq!((&refused["error"], &refused["code"]), (&json!(sentence), &json!("invalid-response")), "{refused}");
        assert_eq!(own.ask(event("modelled_later", &json!({ "value": fits }))).await, fits);

        let document = document(&app).await;
        let content = &document["paths"]["/walker/modelled"]["post"]["responses"]["200"]["content"];
        assert_eq!(content, &json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Point" } } }));
        assert_eq!(document["components"]["schemas"]["Point"]["required"], json!(["x"]));
    }
    response_class "`response_class`" "a media type, for documents: what is sent is said where it is given" |app| {
        let ann = app.user().await;
        let picture = ann.request(Method::POST, "/walker/picture").send().await.unwrap();
        assert_eq!(picture.headers()[header::CONTENT_TYPE], "image/png");
        let document = document(&app).await;
        let answers = |walker: &str, status: &str| {
            document["paths"][format!("/walker/{walker}")]["post"]["responses"][status]["content"].clone()
        };
        assert_eq!(answers("picture", "200"), json!({ "image/png": { "schema": {} } }));
        assert_eq!(answers("page", "200"), json!({ "text/html": { "schema": { "type": "string" } } }));
        assert_eq!(answers("page", "404"), json!({ "application/json": { "schema": {} }, "text/html": { "schema": {} } }));
        let (_, socket) = app.nobody().get("/asyncapi.json").await;
        let answer = |name: &str| {
            let message = &socket["components"]["messages"][name];
            (message["contentType"].clone(), message["payload"].clone())
        };
        let bytes = json!({ "type": "string", "format": "binary" });
        assert_eq!(answer("answer_picture"), (json!("image/png"), bytes.clone()));
        assert_eq!(answer("answer_page"), (json!("application/json"), json!({ "type": "string" })), "a text is sent as JSON");
        assert_eq!(answer("answer_modelled").1, json!({ "$ref": "#/components/schemas/Point" }));
        assert_eq!(answer("bytes"), (json!("application/octet-stream"), bytes), "of a walker that does not say");
    }
}
