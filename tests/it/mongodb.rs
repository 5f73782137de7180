//! What is particular to the store on MongoDB: its indexes, two applications in one database, commits whose outcome is not told,
//! processes that share runs.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mongodb::{
    Client as Driver,
    bson::{Document, doc},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use walkabout::{
    env::Env,
    store::{Limits, Store, mongodb as store},
};

use crate::{
    database::database,
    support::{Client, Server, example},
};

fn options(uri: &str) -> store::Options {
    store::Options { uri: uri.to_owned(), name: None, lease: Duration::from_secs(10) }
}

async fn open(options: &store::Options) -> Arc<dyn Store> {
    store::open(options, Limits::default(), Env::system()).await.unwrap()
}

fn server(uri: &str, folder: &Path) -> Server {
    Server::start(&example("desk"), folder, &["--store", uri, "--lease-ms", "1000"])
}

/// The names of the indexes that a plan reads, or the kinds of its stages.
fn indexes(plan: &Document, found: &mut Vec<String>) {
    if let Ok(name) = plan.get_str("indexName") {
        found.push(name.to_owned());
    } else if plan.get_str("stage").is_ok_and(|stage| stage == "COLLSCAN") {
        found.push("COLLSCAN".to_owned());
    }
    for inner in plan.values() {
        match inner {
            mongodb::bson::Bson::Document(inner) => indexes(inner, found),
            mongodb::bson::Bson::Array(inner) => {
                inner.iter().filter_map(|inner| inner.as_document()).for_each(|inner| indexes(inner, found));
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_question_is_answered_by_its_index() {
    let Some(uri) = database() else { return };
    drop(open(&options(&uri)).await);
    let driver = Driver::with_uri_str(&uri).await.unwrap();
    let base = driver.default_database().unwrap();
    let id = mongodb::bson::Uuid::new();
    let questions = [
        ("edge", doc! { "out": id }, doc! { "name": 1, "_id": 1 }, "links_out"),
        ("edge", doc! { "in": id, "name": "Likes" }, doc! { "name": 1, "_id": 1 }, "links_in"),
        ("walker", doc! { "root": id, "_id": { "$lt": id } }, doc! { "_id": -1 }, "runs_of_root"),
        (
            "walker",
            doc! { "root": id, "schedule.status": "failed" },
            doc! { "_id": -1 },
            "runs_of_root_by_status",
        ),
        (
            "walker",
            doc! { "live.state": { "$in": ["queued", "running"] }, "_id": { "$gt": id } },
            doc! { "_id": 1 },
            "open_runs",
        ),
        (
            "walker",
            doc! { "live.more.timer": { "$gt": mongodb::bson::DateTime::now() } },
            doc! { "live.more.timer": 1, "_id": 1 },
            "sleepers",
        ),
        ("user", doc! { "email": "a@example.com" }, doc! {}, "address"),
        ("node", doc! { "_id": { "$in": [id] } }, doc! {}, "_id_"),
        (
            "event",
            doc! { "_id": { "$gt": { "run": id, "seq": 3_i64 }, "$lte": { "run": id, "seq": i64::MAX } } },
            doc! { "_id": 1 },
            "_id_",
        ),
    ];
    for (place, filter, sort, index) in questions {
        let find = doc! { "find": place, "filter": filter, "sort": sort, "limit": 100 };
        let explained =
            base.run_command(doc! { "explain": find, "verbosity": "queryPlanner" }).await.unwrap();
        let plan = explained.get_document("queryPlanner").unwrap().get_document("winningPlan").unwrap();
        let mut found = Vec::new();
        indexes(plan, &mut found);
        assert!(found.iter().all(|name| name == index) && !found.is_empty(), "{index}: {plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_share_a_database_under_names_of_their_own() {
    let Some(uri) = database() else { return };
    let named = |name: &str| store::Options { name: Some(name.to_owned()), ..options(&uri) };
    let (one, other) = (open(&named("one")).await, open(&named("other")).await);
    let kept = one.keep("secret", vec![1]).await.unwrap();
    assert_eq!((kept, other.keep("secret", vec![2]).await.unwrap()), (vec![1], vec![2]));
    let base = Driver::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    let names = base.list_collection_names().await.unwrap();
    assert!(names.contains(&"one_walker".to_owned()) && !names.contains(&"walker".to_owned()), "{names:?}");
    one.close().await.unwrap();
    other.close().await.unwrap();
}

/// Passes bytes on between the driver and the server. Of some commits the server's answer is not passed on.
async fn proxy(uri: &str, lost: Arc<AtomicUsize>, every: usize) -> String {
    let (_, rest) = uri.split_once("://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let (host, listener) = (host.to_owned(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let here = listener.local_addr().unwrap();
    let commits = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((driver, _)) = listener.accept().await {
            let server = TcpStream::connect(&host).await.unwrap();
            let (lost, commits) = (Arc::clone(&lost), Arc::clone(&commits));
            tokio::spawn(async move {
                let (mut from_driver, mut to_driver) = driver.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let answers =
                    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_driver).await });
                while let Some(message) = message(&mut from_driver).await {
                    let is_commit = message.windows(17).any(|part| part == b"commitTransaction");
                    let is_cut = is_commit && commits.fetch_add(1, Ordering::SeqCst) % every == every - 1;
                    if is_cut {
                        // From here on the driver hears nothing; the server gets the commit all the same.
                        answers.abort();
                        lost.fetch_add(1, Ordering::SeqCst);
                    }
                    if to_server.write_all(&message).await.is_err() || is_cut {
                        break;
                    }
                }
                // The server ends what it is at before it sees that nobody is there.
                tokio::time::sleep(Duration::from_millis(20)).await;
            });
        }
    });
    format!("mongodb://{here}/{path}{}directConnection=true", if path.contains('?') { "&" } else { "?" })
}

/// One message of the protocol: its length, then the rest.
async fn message(from: &mut tokio::net::tcp::OwnedReadHalf) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await.ok()?;
    let mut message = length.to_vec();
    message.resize(u32::from_le_bytes(length) as usize, 0);
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_outcome_is_not_told_happens_once() {
    let Some(uri) = database() else { return };
    let lost = Arc::new(AtomicUsize::new(0));
    let folder = tempfile::tempdir().unwrap();
    let through = proxy(uri.trim_end_matches('?'), Arc::clone(&lost), 5).await;
    let server = Server::start(&example("ledger"), folder.path(), &["--store", &through]);
    let client = Client::user(&server.url, "ann@example.com").await;
    let mut runs = Vec::new();
    for n in 0..30 {
        runs.push(client.submit("record", &json!({ "n": n })).await);
    }
    for run in &runs {
        assert_eq!(client.finished(run).await["schedule"]["status"], "completed");
    }
    let (_, audit) = client.post("/walker/audit", &json!({})).await;
    let audit = &audit["reports"][0];
    assert_eq!((&audit["counter"], audit["entries"].as_array().unwrap().len()), (&json!(30), 30));
    assert!(lost.load(Ordering::SeqCst) > 3, "answers were lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_governed_and_followed_through_any_process() {
    let Some(uri) = database() else { return };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let here = server(&uri, folders[0].path());
    let there = server(&uri, folders[1].path());
    let client = Client::user(&here.url, "ann@example.com").await;
    // One login is good everywhere.
    let elsewhere = Client { url: there.url.clone(), ..client.clone() };
    let id = client.submit("approve", &json!({ "n": 1 })).await;
    let mut socket = elsewhere.socket().await;
    socket.until(&id, "waiting").await;
    let yes = json!({ "for": "yes", "value": 7 });
    assert_eq!(elsewhere.post(&format!("/walker/{id}/complete"), &yes).await.0, 200);
    assert_eq!(client.finished(&id).await["schedule"]["reports"], json!([7]));
    // An attempt under way hears what the other process was asked.
    for (by, other) in [(&client, &elsewhere), (&elsewhere, &client)] {
        let id = by.submit("linger", &json!({ "first_ms": 600_000 })).await;
        by.socket().await.until(&id, "started").await;
        assert_eq!(other.post(&format!("/walker/{id}/cancel"), &json!({})).await.0, 200);
        assert_eq!(other.finished(&id).await["run"]["state"], "cancelled");
    }
}
