//! The specs of §6.2 that are only for documents.

use serde_json::{Value, json};

use super::{app::App, documents::document, rows};

/// What the document says of the walker that says everything.
async fn operation(app: &App) -> Value {
    document(app).await["paths"]["/walker/documented"]["post"].clone()
}

rows! { "6.2 specs";
    status_code "`status_code`" |app| {
        let responses = operation(&app).await["responses"].clone();
        assert!(responses.get("200").is_none() && responses.get("201").is_some(), "{responses}");
        let answer = app.user().await.post("/walker/documented", &json!({})).await;
        assert_eq!(answer, (200, json!({ "status": 200, "reports": [] })), "it sets nothing");
    }
    tags "`tags`" |app| {
        assert_eq!(operation(&app).await["tags"], json!(["Shelf", "Things"]));
    }
    summary "`summary`" |app| {
        assert_eq!(operation(&app).await["summary"], "Say it");
        assert_eq!(document(&app).await["paths"]["/walker/on_root"]["post"]["summary"], "On root", "its name in words");
    }
    description "`description`" |app| {
        assert_eq!(operation(&app).await["description"], "Says it well.");
        let waits = &document(&app).await["paths"]["/walker/waits"]["post"];
        assert_eq!(waits["description"], "Waits for an answer.", "the comment of the type");
    }
    response_description "`response_description`" |app| {
        assert_eq!(operation(&app).await["responses"]["201"]["description"], "It is said.");
    }
    responses "`responses`" |app| {
        let responses = operation(&app).await["responses"].clone();
        let said = |status: &str| responses[status]["description"].as_str().unwrap().to_owned();
        assert!(said("404").starts_with("Nobody is there."), "{responses}");
        assert!(said("409").starts_with("It was said. Or: "), "beside what else may be answered: {responses}");
    }
    deprecated "`deprecated`" |app| {
        assert_eq!(operation(&app).await["deprecated"], true);
        let paths = &document(&app).await["paths"];
        assert!(paths["/walker/on_root"]["post"].get("deprecated").is_none());
    }
    include_in_schema "`include_in_schema`" |app| {
        assert!(document(&app).await["paths"].get("/walker/left_out").is_none());
        let (_, socket) = app.nobody().get("/asyncapi.json").await;
        assert!(socket["components"]["messages"].get("walker_left_out").is_none());
        assert_eq!(app.user().await.post("/walker/left_out", &json!({})).await.0, 200, "it can be called");
    }
    name "`name`" "there is none: an operation is named by its path and method, so that no two have one name" |app| {
        let document = document(&app).await;
        let items = document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap());
        let mut ids: Vec<&str> =
            items.flat_map(|item| item.values()).map(|one| one["operationId"].as_str().unwrap()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
        assert_eq!(operation(&app).await["operationId"], "api_root_walker_documented_post");
    }
    openapi_extra "`openapi_extra`" "there is none: the document is worked out from the types, and what is added by hand would hold by nothing" |app| {
        let operation = operation(&app).await;
        let members: Vec<_> = operation.as_object().unwrap().keys().map(String::as_str).collect();
        let known = ["tags", "summary", "description", "operationId", "parameters", "responses", "deprecated", "security"];
        assert_eq!(members, known);
    }
}
