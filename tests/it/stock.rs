//! The stock walkers, served by the stock program.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Path, Query},
    routing::get,
};
use serde_json::{Value, json};

use crate::support::{Client, Server, example, stock};

#[tokio::test(flavor = "multi_thread")]
async fn results_are_viewed_and_datasets_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let datasets = folder.path().join("datasets");
    std::fs::create_dir(&datasets).unwrap();
    std::fs::write(
        datasets.join("people.jsonl"),
        "{\"age\":30,\"name\":\"Ann\"}\n{\"age\":40,\"name\":\"Bob\"}\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("secret.csv"), "a\n1\n").unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let bob = Client::user(&server.url, "bob@example.com").await;

    // A field that holds a result cannot be set.
    let id = ann.submit("sample", &json!({ "value": 9 })).await;
    ann.finished(&id).await;
    let (_, viewed) = ann.post("/walker/view_sample_result", &json!({ "walker_id": id })).await;
    let viewed = &viewed["reports"][0];
    assert_eq!(
        (&viewed["value"], &viewed["status"], &viewed["error"]),
        (&json!(1), &json!("completed"), &Value::Null)
    );
    assert!(viewed["executed_date"].as_str().unwrap().ends_with('Z'));
    for (client, id) in
        [(&bob, id.as_str()), (&ann, "nonsense"), (&ann, "w:sample:00000000000000000000000000000000")]
    {
        let (status, viewed) = client.post("/walker/view_sample_result", &json!({ "walker_id": id })).await;
        assert_eq!((status, viewed), (200, json!({ "status": 200, "reports": [null] })));
    }

    let id = ann.submit("analyze_data", &json!({ "dataset_id": "people" })).await;
    let record = ann.finished(&id).await;
    let age = json!({ "type": "integer", "count": 2, "distinct": 2, "min": 30, "max": 40, "mean": 35.0 });
    let name =
        json!({ "type": "string", "count": 2, "distinct": 2, "min": "Ann", "max": "Bob", "mean": null });
    assert_eq!(record["context"]["summary"], json!({ "rows": 2, "columns": { "age": age, "name": name } }));
    let id = ann.submit("analyze_data", &json!({ "dataset_id": "airports" })).await;
    assert_eq!(ann.finished(&id).await["context"]["summary"]["rows"], 3376);
    for bad in ["nothing", "../secret", "/etc/passwd", "..", ""] {
        for walker in ["analyze_data", "process_large_dataset"] {
            let id = ann.submit(walker, &json!({ "dataset_id": bad })).await;
            let record = ann.finished(&id).await;
            assert_eq!(record["schedule"]["status"], "failed", "{bad}");
            assert!(record["schedule"]["error"].as_str().unwrap().contains("there is no dataset"));
            let result = &record["context"][if walker == "analyze_data" { "summary" } else { "results" }];
            assert_eq!(*result, if walker == "analyze_data" { json!({}) } else { json!([]) });
        }
        let id = ann.submit("safe_process", &json!({ "input_id": bad })).await;
        let record = ann.finished(&id).await;
        assert_eq!(record["schedule"]["status"], "completed");
        assert_eq!(record["context"]["success"], false);
        assert_eq!(record["context"]["error_message"], "No data found");
        assert_eq!(record["context"]["results"], json!({}));
    }
    let id = ann.submit("safe_process", &json!({ "input_id": "people" })).await;
    let record = ann.finished(&id).await;
    assert_eq!(
        (&record["context"]["success"], &record["context"]["results"]["rows"]),
        (&json!(true), &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_processed_and_only_such_a_run_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let datasets = folder.path().join("datasets");
    std::fs::create_dir(&datasets).unwrap();
    // Rows that span lines, more of them than one batch.
    let rows: String = (0..250).map(|n| format!("\"a\n\"\"{n}\"\"\",\n")).collect();
    std::fs::write(datasets.join("quoted.csv"), format!("name,empty\n{rows}")).unwrap();
    let lines: String = (0..250).map(|n| format!("{{\"n\":{n}}}\n\n")).collect();
    std::fs::write(datasets.join("blank.jsonl"), lines).unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    for (dataset, last) in [
        ("quoted", json!({ "row": 249, "filled": 1, "total": 0.0, "text": 7 })),
        ("blank", json!({ "row": 249, "filled": 1, "total": 249.0, "text": 0 })),
    ] {
        let id = ann.submit("process_large_dataset", &json!({ "dataset_id": dataset })).await;
        let record = ann.finished(&id).await;
        assert_eq!(record["schedule"]["error"], Value::Null, "{dataset}");
        let results = record["context"]["results"].as_array().unwrap();
        assert!(results.iter().enumerate().all(|(n, result)| result["row"] == n));
        assert_eq!(results.last().unwrap().to_string(), last.to_string());
        assert_eq!(record["context"].as_object().unwrap().len(), 2, "its two fields and no more");
        let (_, checked) = ann.post("/walker/check_processing", &json!({ "process_id": id })).await;
        assert_eq!(checked["reports"][0]["Results"].as_array().unwrap().len(), 250);
    }

    let sample = ann.submit("sample", &json!({})).await;
    ann.finished(&sample).await;
    let unknown = "w:process_large_dataset:00000000000000000000000000000000";
    let answer = ann.post("/walker/check_processing", &json!({ "process_id": unknown })).await;
    assert_ne!(answer.0, 200);
    assert!(answer.1.to_string().contains(unknown), "{}", answer.1);
    for id in [sample.as_str(), "nonsense"] {
        let (status, checked) = ann.post("/walker/check_processing", &json!({ "process_id": id })).await;
        assert_eq!((status, checked.to_string()), (answer.0, answer.1.to_string().replace(unknown, id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_none_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("load_app"), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let (_, answer) = ann.post("/walker/tally_async", &json!({ "name": "??" })).await;
    assert!(answer.to_string().contains("name must be"), "{answer}");
    let (_, answer) = ann.post("/walker/tally_async", &json!({ "name": "a_noop" })).await;
    assert_eq!(answer["reports"], json!([{}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_real_files_for_their_owner() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let bob = Client::user(&server.url, "bob@example.com").await;
    let own = json!({ "user_id": ann.user["id"], "report_type": "full" });
    let id = ann.submit("generate_report", &own).await;
    let record = ann.finished(&id).await;
    let url = record["context"]["report_url"].as_str().unwrap();
    let answer = ann.request(reqwest::Method::GET, url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/pdf");
    let pdf = answer.bytes().await.unwrap();
    assert!(pdf.starts_with(b"%PDF-") && pdf.trim_ascii_end().ends_with(b"%%EOF"));
    assert_eq!(bob.get(url).await.0, 404);
    for (fields, why) in [
        (json!({ "user_id": ann.user["id"], "report_type": "odd" }), "report_type"),
        (json!({ "user_id": bob.user["id"], "report_type": "full" }), "your own"),
    ] {
        let id = ann.submit("generate_report", &fields).await;
        let record = ann.finished(&id).await;
        assert!(record["schedule"]["error"].as_str().unwrap().contains(why), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_synced_page_by_page() {
    let page = |Path(account): Path<String>, Query(query): Query<HashMap<String, String>>| async move {
        assert_eq!(account, "acme");
        let from: usize = query["cursor"].parse().unwrap_or(0);
        let items: Vec<Value> = (from..from + 10).map(|n| json!({ "id": format!("i{n}"), "n": n })).collect();
        let next = (from < 20).then(|| (from + 10).to_string());
        Json(json!({ "items": items, "next": next }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/accounts/{account}/items", get(page));
    let outside = tokio::spawn(async move { axum::serve(listener, router).await });
    let api = Arc::new(api);

    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start(&stock(), folder.path(), &["--external-api", &api, "--allow-private-addresses"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let id = ann.submit("sync_with_external_system", &json!({ "account_id": "acme" })).await;
    let record = ann.finished(&id).await;
    assert_eq!(record["schedule"]["error"], Value::Null);
    assert_eq!(record["context"]["sync_status"], "complete");
    let results = record["context"]["sync_results"].as_array().unwrap();
    assert_eq!(results.len(), 30);
    assert!(results.iter().enumerate().all(|(n, result)| result["id"] == format!("i{n}")));
    let bad = ann.submit("sync_with_external_system", &json!({ "account_id": "../x" })).await;
    assert_eq!(ann.finished(&bad).await["schedule"]["status"], "failed");

    // Without the setting a private address is refused.
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &["--external-api", &api]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let id = ann.submit("sync_with_external_system", &json!({ "account_id": "acme" })).await;
    let record = ann.finished(&id).await;
    assert!(record["schedule"]["error"].as_str().unwrap().contains("private"), "{record}");
    assert_eq!(record["context"]["sync_status"], "fetching");
    outside.abort();
}

/// An outside system that gives each account what `page` says for a cursor; its address.
async fn outside(page: fn(&str, &str) -> String) -> String {
    let answer = move |Path(account): Path<String>, Query(query): Query<HashMap<String, String>>| async move {
        ([("content-type", "application/json")], page(&account, &query["cursor"]))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/accounts/{account}/items", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    api
}

fn items(range: std::ops::Range<usize>) -> Vec<Value> {
    range.map(|n| json!({ "id": n, "name": "x".repeat(20) })).collect()
}

/// Pages as other systems may give them, each account its own way.
fn odd_pages(account: &str, cursor: &str) -> String {
    let next = match (account, cursor) {
        ("number", "") => json!(7),
        ("object", _) => json!({ "page": 2 }),
        ("flag", _) => json!(true),
        ("same", _) => json!("again"),
        ("long", _) => json!("x".repeat(5000)),
        ("empty", _) => json!(""),
        _ => Value::Null,
    };
    match account {
        "number" if cursor.is_empty() => json!({ "items": items(0..1), "next": next }).to_string(),
        "number" => json!({ "items": items(1..2) }).to_string(),
        "many" => {
            let items: Vec<Value> = (0..100_001).map(|n| json!({ "id": n })).collect();
            json!({ "items": items }).to_string()
        }
        "large" => json!({ "items": items(0..7000), "next": next }).to_string(),
        "heavy" => {
            let items: Vec<Value> =
                (0..3).map(|n| json!({ "id": n, "list": vec![0; 200_000], "n": n })).collect();
            json!({ "items": items, "next": next }).to_string()
        }
        "heaviest" => {
            let items = [json!({ "id": 0 }), json!({ "id": 1, "list": vec![0; 1_000_000] })];
            json!({ "items": items, "next": next }).to_string()
        }
        "exact" => r#"{"items":[
            {"id":123456789012345678901234567890,"n":-123456789012345678901234567890,"in":[{"u":18446744073709551615}]},
            {"id":1.50,"n":1.5},{"id":"007","n":7}],"next":null}"#
            .to_owned(),
        "nameless" => r#"{"items":[{"id":1},{"id":null}],"next":null}"#.to_owned(),
        "twice" => r#"{"items":[{"id":1},{"id":2},{"id":1}],"next":null}"#.to_owned(),
        "nul" => r#"{"items":[{"id":1},{"id":2,"a\u0000b":1}],"next":null}"#.to_owned(),
        _ => json!({ "items": items(0..2), "next": next }).to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_ends_clearly_and_claims_only_what_it_saved() {
    let api = outside(odd_pages).await;
    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start(&stock(), folder.path(), &["--external-api", &api, "--allow-private-addresses"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let sync = async |account: &str| {
        let id = ann.submit("sync_with_external_system", &json!({ "account_id": account })).await;
        ann.finished(&id).await
    };
    let ids = |record: &Value| -> Vec<String> {
        let results = record["context"]["sync_results"].as_array().unwrap();
        results.iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect()
    };

    for (account, count) in [("number", 2), ("empty", 2), ("twice", 2), ("large", 7000), ("heavy", 3)] {
        let record = sync(account).await;
        assert_eq!(record["schedule"]["error"], Value::Null, "{account}");
        assert_eq!(record["context"]["sync_status"], "complete", "{account}");
        assert_eq!(ids(&record).len(), count, "{account}");
        let names: BTreeSet<&str> =
            record["context"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(Vec::from_iter(names), ["account_id", "page_at", "sync_results", "sync_status"]);
    }
    let exact = sync("exact").await;
    assert_eq!(ids(&exact), ["123456789012345678901234567890", "1.50", "007"]);

    for (account, why, saved) in [
        ("object", "next", 0),
        ("flag", "next", 0),
        ("same", "just asked for", 2),
        ("many", "100000 items", 0),
        ("long", "next", 0),
        ("nameless", "id", 0),
        ("nul", "cannot be stored", 0),
        ("heaviest", "commit_bytes_max", 0),
    ] {
        let record = sync(account).await;
        assert_eq!(record["schedule"]["status"], "failed", "{account}");
        let error = record["schedule"]["error"].as_str().unwrap();
        assert!(error.contains(why), "{account}: {error}");
        assert_ne!(record["context"]["sync_status"], "complete", "{account}");
        assert_eq!(ids(&record).len(), saved, "{account}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_in_a_page_saves_every_item_once() {
    let api = outside(odd_pages).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = ["--external-api", api.as_str(), "--allow-private-addresses"];
    let mut server = Server::start(&stock(), folder.path(), &settings);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    let id = ann.submit("sync_with_external_system", &json!({ "account_id": "large" })).await;
    let mut socket = ann.socket().await;
    socket.send(json!({ "type": "subscribe", "walker_id": id })).await;
    // Three for the words, the others each for a part of the page.
    let mut checkpoints = 0;
    while checkpoints < 4 {
        checkpoints += usize::from(socket.next().await["event"]["type"] == "checkpoint");
    }
    server.kill();
    let server = Server::start(&stock(), folder.path(), &settings);
    ann.url.clone_from(&server.url);
    let record = ann.finished(&id).await;
    assert_eq!(record["context"]["sync_status"], "complete", "{}", record["schedule"]["error"]);
    assert_eq!(record["run"]["attempt"], 2, "it was killed before its end");
    let results = record["context"]["sync_results"].as_array().unwrap();
    assert!(results.iter().enumerate().all(|(n, result)| result["id"] == *format!("{n}")));
    assert_eq!(results.len(), 7000);
    // The report counts the nodes.
    let fields = json!({ "user_id": ann.user["id"], "report_type": "summary" });
    let report = ann.finished(&ann.submit("generate_report", &fields).await).await;
    let url = report["context"]["report_url"].as_str().unwrap();
    let pdf = ann.request(reqwest::Method::GET, url).send().await.unwrap().bytes().await.unwrap();
    assert!(String::from_utf8_lossy(&pdf).contains("ExternalItem: 7000"));
}
