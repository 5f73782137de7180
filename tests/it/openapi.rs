//! The API documents: what they say, that they are those of the types, and that a browser finds all it needs here.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Server, example, stock};

async fn document(server: &Server, path: &str) -> Value {
    let (status, document) = Client::anonymous(&server.url).get(path).await;
    assert_eq!(status, 200, "{path}");
    document
}

/// The documents of the program are kept, so that a change of them is seen.
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_those_of_the_types() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    for name in ["openapi", "asyncapi"] {
        let text =
            serde_json::to_string_pretty(&document(&server, &format!("/{name}.json")).await).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../schema/{name}.json"));
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{} has drifted: run the tests once with UPDATE_SCHEMAS=1", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn walkers_are_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("specs"), folder.path(), &[]);
    let document = document(&server, "/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["title"], "Shelf");
    let schemas = &document["components"]["schemas"];

    let list = &document["paths"]["/things"]["get"];
    assert_eq!(list["operationId"], "api_root_things_get");
    assert_eq!((&list["tags"], &list["summary"]), (&json!(["Shelf"]), &json!("List things")));
    assert_eq!(list["description"], "Lists things of a size that have all these tags.");
    let parameters = list["parameters"].as_array().unwrap();
    let names: Vec<_> =
        parameters.iter().map(|one| (one["in"].as_str().unwrap(), one["name"].as_str().unwrap())).collect();
    assert_eq!(names, [("query", "size"), ("query", "tags"), ("query", "limit")]);
    assert_eq!(
        parameters[0]["schema"],
        json!({ "$ref": "#/components/schemas/Size" }),
        "a text is never null"
    );
    assert_eq!(parameters[1]["schema"]["items"], json!({ "type": "string" }));
    assert_eq!(
        (&parameters[2]["schema"]["default"], &parameters[2]["schema"]["minimum"]),
        (&json!(10), &json!(0))
    );
    assert_eq!(parameters[2]["description"], "How many at most.");
    assert!(list.get("requestBody").is_none());
    assert_eq!(list["security"], json!([{ "HTTPBearer": [] }]));

    let add = &document["paths"]["/things"]["post"];
    assert!(add["responses"].get("200").is_none(), "it says that it sets 201");
    assert_eq!(
        add["responses"]["201"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/ContextResponse"
    );
    assert_eq!(schemas["ContextResponse"]["required"], json!(["status", "reports"]));
    let body = &add["requestBody"];
    assert_eq!(
        (&body["required"], &body["content"]["application/json"]["schema"]["$ref"]),
        (&json!(true), &json!("#/components/schemas/add_thing_body_model"))
    );
    assert_eq!(schemas["add_thing_body_model"]["required"], json!(["name"]));
    assert_eq!(schemas["add_thing_body_model"]["properties"]["size"]["default"], "middle");
    assert_eq!(schemas["Size"]["enum"], json!(["small", "middle", "large"]));
    assert_eq!(schemas["Place"]["required"], json!(["room"]));

    let show = &document["paths"]["/things/{number}"]["get"];
    assert_eq!(show["parameters"][0]["schema"]["format"], "uint32");
    let missing = &show["responses"]["404"];
    assert!(missing["description"].as_str().unwrap().contains("There is no such thing."), "{missing}");
    assert_eq!(document["paths"]["/things/{number}"]["delete"]["responses"]["204"].get("content"), None);

    let label = &document["paths"]["/walker/label/print/{copies}/{node}"]["post"];
    assert_eq!(label["operationId"], "api_entry_walker_label_print__copies___node__post");
    assert!(label.get("security").is_none(), "it is public");
    assert!(document["paths"].get("/walker/sealed").is_none(), "it says that it is left out");
    assert!(
        label["responses"]["422"]["content"]["application/json"]["schema"]["anyOf"][0]["$ref"].is_string()
    );
    assert_eq!(
        schemas["HTTPValidationError"]["properties"]["detail"]["items"]["$ref"],
        "#/components/schemas/ValidationError"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_walkers_are_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("hooks"), folder.path(), &[]);
    let document = document(&server, "/openapi.json").await;
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes["HTTPBearer"]["scheme"], "bearer");
    assert!(schemes.values().any(|scheme| scheme["in"] == "header"), "{schemes:?}");
    let paths = document["paths"].as_object().unwrap();
    let webhooks: Vec<_> = paths.iter().filter(|(path, _)| path.starts_with("/webhook/walker/")).collect();
    assert!(!webhooks.is_empty());
    for (path, item) in webhooks {
        for operation in item.as_object().unwrap().values() {
            assert_eq!(operation["tags"], json!(["Webhook Walker APIs"]), "{path}");
            // A key among the fields is asked for like any field that has to be there.
            let body = &operation["requestBody"];
            let schema = &body["content"]["application/json"]["schema"]["$ref"];
            let name = schema.as_str().unwrap_or_default().rsplit('/').next().unwrap();
            let required = document["components"]["schemas"][name]["required"].as_array();
            let has_to_be = required.is_some_and(|required| !required.is_empty());
            assert_eq!(body["required"] == true, has_to_be, "{path} {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn walkers_that_take_files_are_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("album"), folder.path(), &[]);
    let document = document(&server, "/openapi.json").await;
    let body = &document["paths"]["/album/photos"]["post"]["requestBody"];
    let form = &body["content"]["multipart/form-data"]["schema"];
    let file = json!({ "type": "string", "format": "binary" });
    assert_eq!(form["properties"]["photos"], json!({ "type": "array", "items": file, "minItems": 1 }));
    assert_eq!(form["properties"]["cover"], file);
    assert_eq!(form["required"], json!(["photos", "body"]));
    assert_eq!(form["properties"]["body"]["$ref"], "#/components/schemas/develop_body_model");
    assert!(body["content"].get("application/json").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn walkers_that_answer_with_no_json_are_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("album"), folder.path(), &[]);
    let served = document(&server, "/openapi.json").await;
    let content = |path: &str, method: &str, status: &str| {
        served["paths"][path][method]["responses"][status]["content"].clone()
    };
    let text = json!({ "schema": { "type": "string" } });
    assert_eq!(content("/album", "get", "200"), json!({ "text/html": text }));
    assert_eq!(content("/album.csv", "get", "200"), json!({ "text/csv": text }));
    assert_eq!(content("/walker/picture", "get", "200"), json!({ "image/bmp": { "schema": {} } }));
    let missing = content("/walker/picture", "get", "404");
    assert_eq!(missing["application/json"]["schema"], json!({}), "it says in its own words what is missing");
    assert_eq!(content("/album", "post", "303"), json!({ "text/plain": text }));
    let socket = document(&server, "/asyncapi.json").await;
    let picture = &socket["components"]["messages"]["answer_picture"];
    assert_eq!(
        (&picture["contentType"], &picture["payload"]["format"]),
        (&json!("image/bmp"), &json!("binary"))
    );
    let sent = socket["operations"]["send"]["messages"].as_array().unwrap();
    for name in ["answer", "bytes", "answer_picture", "answer_page"] {
        assert!(sent.contains(&json!({ "$ref": format!("#/channels/websocket/messages/{name}") })), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_fields_of_users_are_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("accounts"), folder.path(), &[]);
    let document = document(&server, "/openapi.json").await;
    let body = &document["paths"]["/user/register"]["post"]["requestBody"];
    assert_eq!(
        (&body["required"], &body["content"]["application/json"]["schema"]["$ref"]),
        (&json!(true), &json!("#/components/schemas/Registration"))
    );
    let schemas = &document["components"]["schemas"];
    let registration = &schemas["Registration"];
    assert_eq!(registration["required"], json!(["email", "password", "name"]));
    let properties = &registration["properties"];
    assert_eq!(properties["name"], json!({ "type": "string" }));
    assert_eq!(
        (&properties["language"]["$ref"], &properties["language"]["default"]),
        (&json!("#/components/schemas/Language"), &json!("english"))
    );
    assert_eq!(schemas["Language"]["enum"], json!(["english", "french"]));
    assert_eq!(properties["email"], schemas["Credentials"]["properties"]["email"]);
    assert_eq!(schemas["Credentials"]["required"], json!(["email", "password"]), "a login asks for no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("specs"), folder.path(), &[]);
    let document = document(&server, "/asyncapi.json").await;
    assert_eq!((&document["asyncapi"], &document["info"]["title"]), (&json!("3.0.0"), &json!("Shelf")));
    let messages = &document["components"]["messages"];
    let whisper = &messages["walker_whisper"]["payload"];
    assert_eq!(whisper["properties"]["walker"], json!({ "const": "whisper" }));
    assert_eq!(whisper["required"], json!(["type", "walker", "context"]));
    assert_eq!(document["components"]["schemas"]["whisper_context_model"]["required"], json!(["word"]));
    assert!(messages.get("walker_add_thing").is_none(), "it is not called over a socket");
    for name in ["subscribe", "unsubscribe", "event", "gap", "connected", "change_user"] {
        assert!(messages[name]["payload"].is_object(), "{name}");
    }
}

/// Every address that the page and what it loads names is here, and the page may load nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_viewer_needs_nothing_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let nobody = Client::anonymous(&server.url);
    let page = nobody.request(Method::GET, "/docs").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http")
    );
    let text = page.text().await.unwrap();
    let named = text.split(['"']).filter(|part| part.starts_with("docs/"));
    let mut found = 0;
    for file in named {
        let answer = nobody.request(Method::GET, &format!("/{file}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{file}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        found += 1;
    }
    assert_eq!(found, 4);
    assert!(!text.contains("://") && !text.contains("<style") && !text.contains("onload"), "{text}");
    assert_eq!(nobody.get("/docs/no.js").await.0, 404);
    assert_eq!(nobody.get("/docs/%2e%2e%2fCargo.toml").await.0, 404);
    // The client follows.
    assert_eq!(nobody.request(Method::GET, "/redoc").send().await.unwrap().url().path(), "/docs");
    let yaml = nobody.request(Method::GET, "/openapi.yaml").send().await.unwrap();
    assert!(yaml.headers()["content-type"].to_str().unwrap().starts_with("text/yaml"));
    assert!(yaml.text().await.unwrap().starts_with("openapi: 3.1.0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_may_be_kept_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &["--docs=false"]);
    let nobody = Client::anonymous(&server.url);
    for path in ["/docs", "/docs/start.js", "/redoc", "/openapi.json", "/openapi.yaml", "/asyncapi.json"] {
        assert_eq!(nobody.get(path).await, (404, json!({ "detail": "Not Found" })), "{path}");
    }
}
