//! What §5.4 says of the served document.

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{app::App, rows};

/// The document that is served, to anybody.
pub async fn document(app: &App) -> Value {
    let (status, document) = app.nobody().get("/openapi.json").await;
    assert_eq!(status, 200);
    document
}

rows! { "5.4 OpenAPI";
    as_json "`GET /openapi.json`" |app| {
        let answer = app.nobody().request(Method::GET, "/openapi.json").send().await.unwrap();
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        let document: Value = answer.json().await.unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        assert_eq!(document["components"]["securitySchemes"]["HTTPBearer"]["scheme"], "bearer");
    }
    as_yaml "`GET /openapi.yaml`" |app| {
        let answer = app.nobody().request(Method::GET, "/openapi.yaml").send().await.unwrap();
        assert!(answer.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/yaml"));
        assert!(answer.text().await.unwrap().starts_with("openapi: 3.1."));
        assert!(document(&app).await["paths"].get("/openapi.yaml").is_none(), "it is not in the document");
    }
    ids "names of operations: `api_root_…`, `api_entry_…`" |app| {
        let paths = &document(&app).await["paths"];
        for (path, method, id) in [
            ("/walker/echo", "post", "api_root_walker_echo_post"),
            ("/walker/echo/{node}", "post", "api_entry_walker_echo__node__post"),
            ("/whole/{x}", "post", "api_root_whole__x__post"),
            ("/walker/query", "get", "api_root_walker_query_get"),
            ("/webhook/walker/hook_header", "post", "api_root_webhook_walker_hook_header_post"),
        ] {
            assert_eq!(paths[path][method]["operationId"], id, "{path}");
        }
    }
    tags "tags" |app| {
        let document = document(&app).await;
        let mut tags: Vec<&str> =
            document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
        for (path, method, tag) in [
            ("/walker/echo", "post", "Walker APIs"),
            ("/webhook/walker/hook_header", "post", "Webhook Walker APIs"),
            ("/user/login", "post", "User APIs"),
            ("/sso/{platform}/{operation}", "get", "SSO APIs"),
            ("/webhook", "get", "Webhook APIs"),
            ("/util/traverse", "get", "Utility APIs"),
            ("/healthz", "get", "Monitoring APIs"),
        ] {
            assert_eq!(document["paths"][path][method]["tags"], json!([tag]), "{path}");
            tags.retain(|other| *other != tag);
        }
        assert_eq!(tags, ["Run APIs", "Shelf", "Things"], "of runs, and what a walker of the application says");
    }
    body "name of a body: `<walker>_body_model`" |app| {
        let document = document(&app).await;
        let body = &document["paths"]["/walker/get_body"]["get"]["requestBody"];
        let wanted = json!({ "$ref": "#/components/schemas/get_body_body_model" });
        assert_eq!(body["content"]["application/json"]["schema"], wanted);
        let model = &document["components"]["schemas"]["get_body_body_model"];
        assert_eq!((&model["type"], &model["required"]), (&json!("object"), &json!(["n"])));
        assert_eq!(model["properties"]["m"]["default"], 0);
    }
    response "response: `status` and `reports`" "its name is `ContextResponse`, without `[Any]`" |app| {
        let document = document(&app).await;
        let answer = &document["paths"]["/walker/echo"]["post"]["responses"]["200"];
        let wanted = json!({ "$ref": "#/components/schemas/ContextResponse" });
        assert_eq!(answer["content"]["application/json"]["schema"], wanted);
        let model = &document["components"]["schemas"]["ContextResponse"];
        assert_eq!(model["required"], json!(["status", "reports"]));
        let types = ["status", "reports"].map(|name| model["properties"][name]["type"].as_str().unwrap());
        assert_eq!(types, ["integer", "array"]);
    }
}
