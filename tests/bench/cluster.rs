//! Several processes on one database: `cargo bench -p walkabout-walkers --bench cluster`. Runs taken from submission to their end by 1, 2
//! and 3 processes, beside what the database does of the same writes for a bare loop over its driver, in the same run. Database,
//! processes and client share one machine. Needs a database as the tests do: see `tests/README.md`.
//!
//! Not a test: nothing here fails for being slow.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a program for people"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    unreachable_pub,
    dead_code,
    reason = "it measures real time and prints it"
)]

#[path = "../it/built.rs"]
mod built;
#[path = "../it/database.rs"]
mod database;
#[path = "../it/support.rs"]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mongodb::{
    Client as Driver, ClientSession,
    bson::{Bson, DateTime, Document, Uuid, doc},
    options::{Acknowledgment, ReadConcern, WriteConcern},
};
use serde_json::json;

use crate::{
    database::database,
    support::{Client, Server, example},
};

/// How long is submitted.
const SPAN: Duration = Duration::from_secs(6);
/// Clients that submit at once.
const CLIENTS: usize = 48;
/// Users whose runs they are.
const USERS: usize = 24;
/// Runs that one transaction of the bare loop carries.
const GROUPS: [usize; 3] = [1, 16, 64];

#[tokio::main]
async fn main() {
    // `cargo test --benches` asks for a list; there is nothing to test here.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    for number in 1..=3 {
        processes(number).await;
    }
    for group in GROUPS {
        bare(group).await;
    }
    sizes().await;
}

/// Submits to some processes for a while, and waits until all has ended.
async fn processes(number: usize) {
    let Some(uri) = database() else { return };
    let folders: Vec<_> = (0..number).map(|_| tempfile::tempdir().unwrap()).collect();
    let servers: Vec<Server> = folders
        .iter()
        .map(|folder| Server::start(&example("ledger"), folder.path(), &["--store", &uri]))
        .collect();
    let mut users = Vec::new();
    for user in 0..USERS {
        users.push(Client::user(&servers[0].url, &format!("user{user}@example.com")).await);
    }
    for (walker, what) in
        [("record", "one counter, one node and one edge each"), ("pass", "nothing but the run")]
    {
        let (begun, count) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            let count = Arc::clone(&count);
            let url = servers[client % number].url.clone();
            let user = Client { url, ..users[client % USERS].clone() };
            clients.spawn(async move {
                let mut last = String::new();
                while begun.elapsed() < SPAN {
                    let n = count.fetch_add(1, Ordering::SeqCst);
                    last = user.submit(walker, &json!({ "n": n })).await;
                }
                last
            });
        }
        let last = clients.join_all().await;
        let submitted = begun.elapsed();
        let base = Driver::with_uri_str(&uri).await.unwrap().default_database().unwrap();
        let open = doc! { "live": { "$exists": true } };
        while base.collection::<Document>("walker").count_documents(open.clone()).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (ended, runs) = (begun.elapsed(), count.load(Ordering::SeqCst));
        drop(last);
        println!(
            "{number} process(es), {what}: {:.0} submissions/s, {:.0} runs/s to their end ({runs} runs)",
            runs as f64 / submitted.as_secs_f64(),
            runs as f64 / ended.as_secs_f64(),
        );
    }
}

fn durable() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
}

async fn begin(session: &mut ClientSession) {
    let begin = session.start_transaction().read_concern(ReadConcern::snapshot());
    begin.write_concern(durable()).await.unwrap();
}

fn record(id: Uuid, live: bool) -> Document {
    let mut record = doc! {
        "_id": id, "name": "record", "root": Uuid::new(), "access": { "all": "NO_ACCESS", "roots": { "anchors": {} } },
        "archetype": { "n": 1_i64 }, "version": 1_i64,
        "schedule": {
            "status": "pending", "node_id": "n::0190a0b0c0d0", "root_id": "n::0190a0b0c0d0", "execute_date": DateTime::now(),
            "executed_date": Bson::Null, "http_status": Bson::Null, "reports": [], "custom": Bson::Null, "error": Bson::Null,
        },
        "run": { "state": "queued", "attempt": 0, "progress": Bson::Null, "result": Bson::Null, "created_at": DateTime::now() },
    };
    if live {
        record.insert("live", doc! { "root": Uuid::new(), "name": "record", "state": "queued", "attempt": 0, "epoch": 1_i64, "counter": 1_i64, "seq": 1_i64 });
    }
    record
}

fn event(run: Uuid, seq: i64) -> Document {
    doc! { "_id": { "run": run, "seq": seq }, "seq": seq, "at": DateTime::now(), "attempt": 1, "event": { "type": "started" }, "name": "record", "by": 1_i64 }
}

/// One command with several writes: their kind, their collection, the documents.
async fn send(driver: &Driver, session: &mut ClientSession, name: &str, ops: Vec<Document>) {
    let spaces: Vec<Document> =
        ["walker", "event"].iter().map(|place| doc! { "ns": format!("{name}.{place}") }).collect();
    let command = doc! { "bulkWrite": 1, "ops": ops, "nsInfo": spaces, "ordered": true, "errorsOnly": true };
    driver.database("admin").run_command(command).session(session).await.unwrap();
}

/// The writes of runs that do nothing but run, by one loop: submitted, claimed, ended, each a transaction for `group` of them.
async fn bare(group: usize) {
    let Some(uri) = database() else { return };
    let driver = Driver::with_uri_str(&uri).await.unwrap();
    let name = driver.default_database().unwrap().name().to_owned();
    for place in ["walker", "event"] {
        driver.default_database().unwrap().create_collection(place).await.unwrap();
    }
    let mut session = driver.start_session().await.unwrap();
    let (begun, mut runs) = (Instant::now(), 0);
    let read = driver.default_database().unwrap().collection::<Document>("walker");
    while begun.elapsed() < SPAN {
        let ids: Vec<Uuid> = (0..group).map(|_| Uuid::new()).collect();
        for step in 0..3 {
            begin(&mut session).await;
            read.find_one(doc! { "_id": ids[0] }).session(&mut session).await.unwrap();
            let mut ops = Vec::new();
            for id in &ids {
                match step {
                    0 => {
                        ops.push(doc! { "insert": 0, "document": record(*id, true) });
                        ops.push(doc! { "insert": 1, "document": event(*id, 1) });
                    }
                    1 => ops.push(doc! { "update": 0, "filter": { "_id": id }, "multi": false,
                    "updateMods": { "$set": { "live.state": "starting", "live.attempt": 1 } } }),
                    _ => {
                        ops.push(doc! { "update": 0, "filter": { "_id": id }, "updateMods": record(*id, false), "multi": false });
                        ops.push(doc! { "insert": 1, "document": event(*id, 2) });
                        ops.push(doc! { "insert": 1, "document": event(*id, 3) });
                    }
                }
            }
            send(&driver, &mut session, &name, ops).await;
            session.commit_transaction().await.unwrap();
        }
        runs += group;
    }
    println!(
        "a bare loop, {group} run(s) in a transaction: {:.0} runs/s to their end",
        runs as f64 / begun.elapsed().as_secs_f64()
    );
}

/// What documents take, as they are sent: the mean of each collection of a database that was written to by `record`.
async fn sizes() {
    let Some(uri) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("ledger"), folder.path(), &["--store", &uri]);
    let user = Client::user(&server.url, "ann@example.com").await;
    for n in 0..50 {
        let id = user.submit("record", &json!({ "n": n })).await;
        user.finished(&id).await;
    }
    let base = Driver::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    for place in ["node", "edge", "walker", "event"] {
        let mut found = base.collection::<mongodb::bson::RawDocumentBuf>(place).find(doc! {}).await.unwrap();
        let (mut bytes, mut count) = (0, 0);
        while found.advance().await.unwrap() {
            bytes += found.current().as_bytes().len();
            count += 1;
        }
        println!("{place}: {count} documents of {:.0} bytes", bytes as f64 / f64::from(count));
    }
}
