//! What is particular to the store on MongoDB: its indexes, two applications in one database, commits whose outcome is not told,
//! processes that share runs.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt;
use mongodb::{
    Client as Driver,
    bson::{Binary, Document, doc, oid::ObjectId, spec::BinarySubtype},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use walkabout::files::Content;
use walkabout::{
    config::Config,
    env::Env,
    store::{Limits, Store, mongodb as store},
    testing::Bench,
};

use crate::{
    database::database,
    support::{Client, Server, example, stock},
    uploads::{form, request},
    users::one_stays,
};

fn options(uri: &str) -> store::Options {
    store::Options::of(uri)
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
    let event = |seq: u64| {
        let bytes = [&id.bytes()[..], &seq.to_be_bytes()].concat();
        Binary { subtype: BinarySubtype::Generic, bytes }
    };
    let piece = |digit: u8| ObjectId::from_bytes([digit; 12]);
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
        ("user", doc! { "root_id": id }, doc! { "_id": 1 }, "users_of_root"),
        ("node", doc! { "_id": { "$in": [id] } }, doc! {}, "_id_"),
        ("event", doc! { "_id": { "$gt": event(3), "$lte": event(u64::MAX) } }, doc! { "_id": 1 }, "_id_"),
        (
            "file.files",
            doc! { "filename": { "$gt": "0", "$lt": "1" } },
            doc! { "filename": 1 },
            "filename_1_uploadDate_1",
        ),
        (
            "file.chunks",
            doc! { "files_id": { "$gt": piece(0), "$lt": piece(1) }, "n": 0 },
            doc! { "files_id": 1 },
            "files_id_1_n_1",
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

/// As that of Jac Cloud, whose variables may name it.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_program_is_left_as_it_is() {
    let Some(uri) = database() else { return };
    let base = Driver::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    base.collection::<Document>("node").insert_one(doc! { "name": null, "architype": {} }).await.unwrap();
    let refused = store::open(&options(&uri), Limits::default(), Env::system()).await.err().unwrap();
    assert!(refused.to_string().contains("nodes of another program"), "{refused}");
    assert_eq!(base.list_collection_names().await.unwrap(), ["node"]);
    let beside = open(&store::Options { name: Some("beside".to_owned()), ..options(&uri) }).await;
    beside.close().await.unwrap();
}

/// A database that the address does not name.
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_may_name_the_database() {
    let Some(uri) = database() else { return };
    let client = Driver::with_uri_str(&uri).await.unwrap();
    let name = client.default_database().unwrap().name().to_owned();
    let nameless = uri.replacen(&name, "", 1);
    let named = open(&store::Options { database: name.clone(), ..options(&nameless) }).await;
    named.close().await.unwrap();
    let names = client.database(&name).list_collection_names().await.unwrap();
    assert!(names.contains(&"walker".to_owned()), "{names:?}");
}

/// What becomes of a message of the driver on its way to the server.
#[derive(PartialEq)]
enum Fate {
    Arrives,
    /// It arrives, and the connection breaks before the answer.
    IsNotAnswered,
    /// The connection breaks before.
    IsLost,
}

type Tamper = Box<dyn Fn(&mut Vec<u8>) -> Fate + Send + Sync>;

/// Passes bytes on between the driver and the server, while the gate is open.
async fn proxy(uri: &str, gate: watch::Receiver<bool>, tamper: Tamper) -> String {
    let (_, rest) = uri.trim_end_matches('?').split_once("://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let (host, listener) = (host.to_owned(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let here = listener.local_addr().unwrap();
    let tamper = Arc::new(tamper);
    tokio::spawn(async move {
        while let Ok((driver, _)) = listener.accept().await {
            let server = TcpStream::connect(&host).await.unwrap();
            let (mut gate, tamper) = (gate.clone(), Arc::clone(&tamper));
            tokio::spawn(async move {
                let (mut from_driver, mut to_driver) = driver.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let answers =
                    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_driver).await });
                while let Some(mut message) = message(&mut from_driver).await {
                    gate.wait_for(|is_open| *is_open).await.unwrap();
                    let fate = tamper(&mut message);
                    if fate != Fate::Arrives {
                        // From here on the driver hears nothing.
                        answers.abort();
                    }
                    let is_lost = fate == Fate::IsLost;
                    if is_lost || to_server.write_all(&message).await.is_err() || fate != Fate::Arrives {
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

/// A gate that stays open.
fn no_gate() -> watch::Receiver<bool> {
    watch::channel(true).1
}

fn says(message: &[u8], word: &[u8]) -> bool {
    message.windows(word.len()).any(|part| part == word)
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
    let (commits, told) = (AtomicUsize::new(0), Arc::clone(&lost));
    let every_fifth = move |message: &mut Vec<u8>| {
        if !says(message, b"commitTransaction") || commits.fetch_add(1, Ordering::SeqCst) % 5 != 4 {
            return Fate::Arrives;
        }
        told.fetch_add(1, Ordering::SeqCst);
        Fate::IsNotAnswered
    };
    let through = proxy(&uri, no_gate(), Box::new(every_fifth)).await;
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

/// No commit is answered any more, until somebody asks for the outcome by the id of the group.
#[tokio::test(flavor = "multi_thread")]
async fn who_hears_nothing_of_a_commit_finds_out_whether_it_happened() {
    let Some(uri) = database() else { return };
    for arrives in [true, false] {
        let (is_deaf, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (deaf, told) = (Arc::clone(&is_deaf), Arc::clone(&asked));
        let tamper = move |message: &mut Vec<u8>| {
            if says(message, b"\x08void\0") {
                told.fetch_add(1, Ordering::SeqCst);
                deaf.store(false, Ordering::SeqCst);
            }
            let is_cut = says(message, b"commitTransaction") && deaf.load(Ordering::SeqCst);
            match (is_cut, arrives) {
                (false, _) => Fate::Arrives,
                (true, true) => Fate::IsNotAnswered,
                (true, false) => Fate::IsLost,
            }
        };
        let through = proxy(&uri, no_gate(), Box::new(tamper)).await;
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["--store", &through, "--patience-ms", "1000"];
        let server = Server::start(&example("ledger"), folder.path(), &arguments);
        let client = Client::user(&server.url, &format!("{arrives}@example.com")).await;
        is_deaf.store(true, Ordering::SeqCst);
        let run = client.submit("record", &json!({ "n": 1 })).await;
        assert_eq!(client.finished(&run).await["schedule"]["status"], "completed");
        let (_, audit) = client.post("/walker/audit", &json!({})).await;
        let audit = &audit["reports"][0];
        assert_eq!((&audit["counter"], audit["entries"].as_array().unwrap().len()), (&json!(1), 1));
        assert!(asked.load(Ordering::SeqCst) > 0, "the outcome was asked for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_attempt_was_cut_off_from_the_database_goes_on() {
    let Some(uri) = database() else { return };
    let (gate, is_open) = watch::channel(true);
    let through = proxy(&uri, is_open, Box::new(|_| Fate::Arrives)).await;
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--store", &through, "--patience-ms", "1000"];
    let server = Server::start(&example("desk"), folder.path(), &arguments);
    let client = Client::user(&server.url, "ann@example.com").await;
    let id = client.submit("linger", &json!({ "first_ms": 1000 })).await;
    client.socket().await.until(&id, "started").await;
    gate.send(false).unwrap();
    // Each waits for as long as patience lasts, and so does the attempt.
    for _ in 0..5 {
        let (status, answer) = client.post("/walker/enter", &json!({ "n": 1 })).await;
        assert_eq!((status, &answer["code"]), (503, &json!("store-unavailable")), "{answer}");
    }
    gate.send(true).unwrap();
    // The driver has to find its server again.
    while client.get(&format!("/walker/{id}")).await.0 == 503 {}
    let run = &client.finished(&id).await["run"];
    // It counts as if its process had ended.
    assert_eq!((&run["state"], &run["attempt"], &run["lost"]), (&json!("succeeded"), &json!(2), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_governed_and_followed_through_any_process() {
    let Some(uri) = database() else { return };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let here = server(&uri, folders[0].path());
    let there = server(&uri, folders[1].path());
    govern(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_run_is_served_by_any_process_until_another_takes_its_name() {
    let Some(uri) = database() else { return };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = |folder: &tempfile::TempDir| Server::start(&stock(), folder.path(), &["--store", &uri]);
    let (here, there) = (start(&folders[0]), start(&folders[1]));
    let client = Client::user(&here.url, "ann@example.com").await;
    let fields = json!({ "user_id": client.user["id"], "report_type": "summary" });
    let id = client.submit("generate_report", &fields).await;
    let record = client.finished(&id).await;
    assert_eq!(record["schedule"]["status"], "completed", "{record}");
    let url = record["context"]["report_url"].as_str().unwrap();
    let mut seen = Vec::new();
    for server in [&here, &there] {
        let elsewhere = Client { url: server.url.clone(), ..client.clone() };
        let answer = elsewhere.request(reqwest::Method::GET, url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        seen.push(answer.bytes().await.unwrap());
    }
    assert!(seen[0].starts_with(b"%PDF") && seen[0] == seen[1]);
    let stranger = Client::user(&there.url, "bob@example.com").await;
    assert_eq!(stranger.get(url).await.0, 404);
    // Of the same name, in place of it.
    let run = uuid::Uuid::parse_str(id.rsplit(':').next().unwrap()).unwrap();
    let files = open(&options(&uri)).await.files().unwrap();
    let name = url.rsplit('/').next().unwrap().to_owned();
    files.save(run, name.clone(), Content::Bytes(b"another".to_vec())).await.unwrap();
    let answer = client.request(reqwest::Method::GET, url).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), &b"another"[..]);
    let base = Driver::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    let kept = base.collection::<Document>("file.files").count_documents(doc! {}).await.unwrap();
    assert_eq!(kept, 1, "the one before is gone");
}

/// What a kill leaves behind that comes while a file is written, or between the files of a run and its record.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_run_that_never_was_are_gone_after_a_day() {
    let Some(uri) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = open(&options(&uri)).await;
    let files = store.files().unwrap();
    let old = uuid::Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
    let young = Env::system().id();
    for (run, name) in [(old, "upload-1.txt"), (old, "upload-2.txt"), (young, "upload-1.txt")] {
        files.save(run, name.to_owned(), Content::Bytes(b"text".to_vec())).await.unwrap();
    }
    let base = Driver::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    let chunks = base.collection::<Document>("file.chunks");
    let half = ObjectId::from_bytes([0x60, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let data = Binary { subtype: BinarySubtype::Generic, bytes: b"half".to_vec() };
    for n in 0..2 {
        chunks.insert_one(doc! { "files_id": half, "n": n, "data": data.clone() }).await.unwrap();
    }
    let server = Server::start(&example("desk"), folder.path(), &["--store", &uri, "--log-level", "info"]);
    server.logged("files of runs that were never accepted are removed");
    let left = base.collection::<Document>("file.files").find(doc! {}).await.unwrap();
    let left: Vec<Document> = left.try_collect().await.unwrap();
    let names: Vec<_> = left.iter().map(|file| file.get_str("filename").unwrap().to_owned()).collect();
    assert_eq!(names, [format!("{young}/upload-1.txt")]);
    let of_left = doc! { "files_id": left[0].get_object_id("_id").unwrap() };
    server.logged("pieces of files that were never whole are removed");
    let counted =
        [chunks.count_documents(doc! {}).await.unwrap(), chunks.count_documents(of_left).await.unwrap()];
    assert_eq!(counted, [1, 1]);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_again_keeps_no_files() {
    let Some(uri) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("album"), folder.path(), &["--store", &uri]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let named = async |text: &[u8]| {
        let parts = form(&[("photos", Some("a.txt"), text), ("body", None, br#"{"caption": "here"}"#)]);
        ann.send(request(&ann, "/album/photos", parts).header("idempotency-key", "one")).await
    };
    let (status, first) = named(b"one").await;
    assert_eq!(status, 200, "{first}");
    let id = first["walker_id"].as_str().unwrap();
    assert_eq!(named(b"one").await, (200, first.clone()));
    assert_eq!(named(b"two").await.0, 422);
    let base = Driver::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    for place in ["file.files", "file.chunks"] {
        let kept = base.collection::<Document>(place).count_documents(doc! {}).await.unwrap();
        assert_eq!(kept, 1, "{place}");
    }
    let photo = ann.finished(id).await["context"]["photos"][0]["url"].clone();
    assert_eq!(ann.get(photo.as_str().unwrap()).await, (200, json!("one")));
}

/// Who has given a file up finds nothing of it later, however long the database took.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_given_up_is_not_there_afterwards() {
    let Some(uri) = database() else { return };
    drop(open(&options(&uri)).await);
    let (gate, is_open) = watch::channel(true);
    let (gate, (said, mut deleted)) = (Arc::new(gate), watch::channel(false));
    let close = Arc::clone(&gate);
    let tamper = move |message: &mut Vec<u8>| {
        // What is in the file arrives; that it is there has to wait.
        if says(message, b"file.chunks") && says(message, b"\x02insert\0") {
            close.send_replace(false);
        }
        if says(message, b"file.chunks") && says(message, b"\x02delete\0") {
            said.send_replace(true);
        }
        Fate::Arrives
    };
    let through = proxy(&uri, is_open, Box::new(tamper)).await;
    let patience = Duration::from_millis(1000);
    let cut_off = open(&store::Options { patience, ..options(&through) }).await;
    let files = cut_off.files().unwrap();
    let run = Env::system().id();
    let saved = files.save(run, "upload-1.txt".to_owned(), Content::Bytes(b"text".to_vec())).await;
    assert!(saved.is_err());
    assert!(files.remove(run, vec!["upload-1.txt".to_owned()]).await.is_err());
    gate.send_replace(true);
    let gone = tokio::time::timeout(Duration::from_secs(60), deleted.wait_for(|deleted| *deleted)).await;
    drop(gone.expect("it is removed").unwrap());
    let base = Driver::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    let kept = async |place: &str| base.collection::<Document>(place).count_documents(doc! {}).await.unwrap();
    let all_gone = async { while kept("file.files").await + kept("file.chunks").await > 0 {} };
    tokio::time::timeout(Duration::from_secs(60), all_gone).await.expect("nothing of it stays");
}

/// Each of two administrators goes at a process of its own, at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn one_administrator_stays_whichever_process_was_asked() {
    let Some(uri) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = || Config { data: folder.path().to_owned(), ..Config::default() };
    let (here, there) = (open(&options(&uri)).await, open(&options(&uri)).await);
    let one = Bench::inline_on(here.clone(), |_| {}, config(), Env::system()).await.unwrap();
    let other = Bench::inline_on(there, |_| {}, config(), Env::system()).await.unwrap();
    one_stays(&here, [&one.runtime, &other.runtime]).await;
}

/// A server that has no streams: who wants to know something has to look.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_governed_and_followed_through_any_process_without_streams() {
    let Some(uri) = database() else { return };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let asked = Arc::new(AtomicUsize::new(0));
    let through = async || {
        let told = Arc::clone(&asked);
        let tamper = move |message: &mut Vec<u8>| {
            let stage = b"$changeStream";
            let at = message.windows(stage.len()).position(|part| part == stage);
            if let Some(at) = at {
                message[at + 1] = b'C';
                told.fetch_add(1, Ordering::SeqCst);
            }
            Fate::Arrives
        };
        proxy(&uri, no_gate(), Box::new(tamper)).await
    };
    let here = server(&through().await, folders[0].path());
    let there = server(&through().await, folders[1].path());
    govern(&here, &there).await;
    assert!(asked.load(Ordering::SeqCst) > 1, "streams were asked for");
}

/// Acts at one process on runs of the other, and follows them there.
async fn govern(here: &Server, there: &Server) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_ended_at_one_process_ends_at_the_others() {
    let Some(uri) = database() else { return };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let servers =
        folders.each_ref().map(|folder| Server::start(&example("ledger"), folder.path(), &["--store", &uri]));
    let here = Client::user(&servers[0].url, "ann@example.com").await;
    let there = Client { url: servers[1].url.clone(), ..here.clone() };
    assert_eq!(there.get("/walkers").await.0, 200);
    assert_eq!(here.post("/user/logout", &json!({})).await.0, 200);
    assert_eq!(here.get("/walkers").await.0, 401);
    // There it is remembered for a second.
    let ended = async { while there.get("/walkers").await.0 == 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.expect("the login ends there, too");
    assert_eq!(there.get("/walkers").await.0, 401);
}
