//! The load program: `cargo bench -p walkabout-walkers --bench load`. Starts `examples/load_app` on a store of its own, and prints
//! rates with the limits that they are held against, measured in the same run. One client, on the same machine as the server.
//! Names after `--` choose parts: `http`, `log`, `submit`, `complete`, `create`, `traverse`, `push`, `sleep`, `recover`; without any, all are
//! run. The last two start `examples/desk`.
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
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it measures real time and prints it"
)]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// How long each rate is measured.
const SPAN: Duration = Duration::from_secs(3);

#[path = "../it/built.rs"]
#[allow(unreachable_pub, reason = "it serves several targets")]
mod built;

struct Server {
    child: Child,
    address: String,
    cold: Duration,
}

impl Server {
    fn start(data: &Path) -> Self {
        Self::of("load_app", data, &[])
    }

    fn of(example: &str, data: &Path, flags: &[&str]) -> Self {
        let program = built::examples().join(example);
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(flags)
            .stderr(std::fs::File::create(data.with_extension("log")).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let cold = begun.elapsed();
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        let address = url.trim_start_matches("http://").trim_end_matches(',').to_owned();
        Self { child, address, cold }
    }

    fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One kept connection, with as little client as can be: the client shares the cores with the server.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(64 << 10) }
    }

    /// Sends a request as it is, and gives the body of the answer.
    async fn call(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            let head = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(head) = head {
                let text = std::str::from_utf8(&self.buffer[..head]).unwrap().to_ascii_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
                if self.buffer.len() >= head + 4 + length {
                    assert!(text.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
                    return &self.buffer[head + 4..head + 4 + length];
                }
            }
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the server closed");
        }
    }
}

fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n").into_bytes()
}

struct Rate {
    per_second: f64,
    p50: f64,
    p99: f64,
    count: usize,
}

/// Sends one request over and over on some connections.
async fn rate(address: &str, connections: usize, request: &[u8]) -> Rate {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (address, request) = (address.to_owned(), request.to_vec());
        tasks.spawn(async move {
            let mut wire = Wire::open(&address).await;
            let mut spans = Vec::new();
            while begun.elapsed() < SPAN {
                let sent = Instant::now();
                wire.call(&request).await;
                spans.push(sent.elapsed());
            }
            spans
        });
    }
    let mut spans: Vec<Duration> = tasks.join_all().await.concat();
    let took = begun.elapsed().as_secs_f64();
    spans.sort_unstable();
    let at = |share: f64| spans[((spans.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    Rate { per_second: spans.len() as f64 / took, p50: at(0.5), p99: at(0.99), count: spans.len() }
}

fn say(what: &str, rate: &Rate, limit: Option<(&str, f64)>) {
    let Rate { per_second, p50, p99, .. } = rate;
    let beside = limit
        .map_or(String::new(), |(name, limit)| format!("   {:.0} % of {name}", per_second / limit * 100.0));
    println!("{what:<46} {per_second:>10.0}/s   p50 {p50:>7.3} ms   p99 {p99:>7.3} ms{beside}");
}

/// Appends of a record, each synced alone: what the disk itself allows.
fn syncs(folder: &Path) -> f64 {
    let mut file = std::fs::File::create(folder.join("syncs")).unwrap();
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(2) {
        file.write_all(&[7; 1024]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// A bare axum handler that answers the same bytes as a no-op walker, in a process of its own.
fn bare() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = || async { ([("content-type", "application/json")], r#"{"status":200,"reports":[1]}"#) };
        let app = axum::Router::new().route("/walker/{name}", axum::routing::post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        axum::serve(listener, app).await.unwrap();
    });
}

fn main() {
    if std::env::var_os("WALKABOUT_BENCH_BARE").is_some() {
        return bare();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    drop(Server::start(&folder.path().join("warm-up")));
    let server = Server::start(&folder.path().join("store"));
    println!(
        "embedded store, {} cores, client beside the server",
        std::thread::available_parallelism().unwrap()
    );
    println!("{:<46} {:>10.0} ms", "cold start", server.cold.as_secs_f64() * 1e3);
    println!("{:<46} {:>10.1} MiB", "resident, idle", server.resident_mib());
    let address = &server.address;
    let token = login(address, "ann@example.com").await;

    if wants("http") {
        plain(address, &token).await;
    }
    if wants("log") {
        logged(folder.path()).await;
    }
    if wants("submit") {
        submits(folder.path(), address, &token).await;
    }
    if wants("complete") {
        completed(address, &token).await;
    }
    if wants("create") {
        let created = rate(address, 64, &post("/walker/create10", &token, "{}")).await;
        say("create10, 64 connections", &created, None);
        println!("{:<46} {:>10.0} nodes/s", "", created.per_second * 10.0);
    }
    if wants("traverse") {
        for count in [10_000_u64, 1_000_000] {
            traverse(&server, count).await;
        }
    }
    if wants("push") {
        fan_out(address, &token).await;
    }
    if wants("sleep") {
        sleepers(&folder.path().join("sleep")).await;
    }
    if wants("recover") {
        recovery(&folder.path().join("recover")).await;
    }
    println!("{:<46} {:>10.1} MiB", "resident, at the end", server.resident_mib());
}

/// Whether a part was asked for.
fn wants(part: &str) -> bool {
    let mut names = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    names.peek().is_none() || names.any(|name| name == part)
}

async fn plain(address: &str, token: &str) {
    let mut bare = Command::new(std::env::current_exe().unwrap());
    let mut bare = bare.env("WALKABOUT_BENCH_BARE", "1").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(bare.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let handler = rate(line.trim(), 64, &post("/walker/noop", token, "{}")).await;
    bare.kill().unwrap();
    bare.wait().unwrap();
    say("bare axum handler, 64 connections", &handler, None);
    let noop = rate(address, 64, &post("/walker/noop", token, "{}")).await;
    say("noop, 64 connections", &noop, Some(("the bare handler", handler.per_second)));
}

/// What a line for each request costs, in a file.
async fn logged(folder: &Path) {
    let mut silent = None;
    for (what, flags) in [
        ("noop, no line", &["--log-level", "warn"][..]),
        ("noop, a line of text", &["--log-level", "info"]),
        ("noop, a line of JSON", &["--log-level", "info", "--log-format", "ecs"]),
    ] {
        let server = Server::of("load_app", &folder.join(what), flags);
        let token = login(&server.address, "ann@example.com").await;
        let rate = rate(&server.address, 64, &post("/walker/noop", &token, "{}")).await;
        say(what, &rate, silent.map(|silent| ("that without", silent)));
        silent = silent.or(Some(rate.per_second));
    }
}

async fn submits(folder: &Path, address: &str, token: &str) {
    let disk = syncs(folder);
    println!("{:<46} {disk:>10.0}/s", "appends of 1 KiB, each synced alone");
    for connections in [1, 64] {
        let submits = rate(address, connections, &post("/walker/a_noop", token, "{}")).await;
        say(
            &format!("a_noop submitted durably, {connections} connection(s)"),
            &submits,
            Some(("the disk's syncs", disk)),
        );
        drain(address, token).await;
    }
}

async fn login(address: &str, email: &str) -> String {
    let client = reqwest::Client::new();
    let body = json!({ "email": email, "password": "secret" });
    client.post(format!("http://{address}/user/register")).json(&body).send().await.unwrap();
    let answer = client.post(format!("http://{address}/user/login")).json(&body).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

/// Submits this many runs of a walker, on 64 connections.
async fn submit_many(address: &str, request: &[u8], count: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (address, request) = (address.to_owned(), request.to_vec());
        tasks.spawn(async move {
            let mut wire = Wire::open(&address).await;
            for _ in 0..count / 64 {
                wire.call(&request).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Bytes of all files in a folder.
fn on_disk(folder: &Path) -> f64 {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let sizes = files.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => on_disk(&entry.path()),
        false => entry.metadata().unwrap().len() as f64,
    });
    sizes.sum()
}

/// What sleeping walkers cost, and how long it takes to find them again after a kill.
async fn sleepers(folder: &Path) {
    const COUNT: usize = 100_032;
    let server = Server::of("desk", folder, &[]);
    let token = login(&server.address, "ann@example.com").await;
    let request = post("/walker/doze", &token, r#"{"seconds":86400}"#);
    submit_many(&server.address, &request, 6400).await;
    drain_pending(&server.address, &token).await;
    let bytes = |mib: f64| mib * f64::from(1 << 20) / COUNT as f64;
    for what in ["100,000 sleeping walkers", "100,000 more"] {
        let (before, disk) = (server.resident_mib(), on_disk(folder));
        submit_many(&server.address, &request, COUNT).await;
        drain_pending(&server.address, &token).await;
        let (resident, disk) =
            (bytes(server.resident_mib() - before), (on_disk(folder) - disk) / COUNT as f64);
        println!("{what:<46} {resident:>10.0} bytes each, resident; {disk:.0} on disk");
    }
    drop(server);
    let server = Server::of("desk", folder, &[]);
    println!("{:<46} {:>10.0} ms", "ready after SIGKILL with them", server.cold.as_secs_f64() * 1e3);
}

/// From the start of the process after a SIGKILL, with this many unfinished runs, to the end of the first one that is taken up again.
async fn recovery(folder: &Path) {
    const COUNT: usize = 100_032;
    let server = Server::of("desk", folder, &[]);
    let token = login(&server.address, "ann@example.com").await;
    // Its first attempt takes ten minutes, the next ones nothing.
    let request = post("/walker/linger", &token, r#"{"first_ms":600000}"#);
    submit_many(&server.address, &request, COUNT).await;
    drop(server);
    let begun = Instant::now();
    let server = Server::of("desk", folder, &[]);
    let mut wire = Wire::open(&server.address).await;
    let completed = get("/walkers?limit=1&status=completed", &token);
    loop {
        let page: Value = serde_json::from_slice(wire.call(&completed).await).unwrap();
        if !page["walkers"].as_array().unwrap().is_empty() {
            break;
        }
    }
    let resumed = begun.elapsed().as_secs_f64() * 1e3;
    println!(
        "{:<46} {:>10.0} ms",
        "ready after SIGKILL, 100,000 unfinished runs",
        server.cold.as_secs_f64() * 1e3
    );
    println!("{:<46} {resumed:>10.0} ms", "first of them completed");
}

/// Waits until nothing waits for a runner any more.
async fn drain_pending(address: &str, token: &str) {
    let (mut wire, request) = (Wire::open(address).await, get("/walkers?limit=1&status=pending", token));
    loop {
        let page: Value = serde_json::from_slice(wire.call(&request).await).unwrap();
        if page["walkers"].as_array().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nothing is due any more.
async fn drain(address: &str, token: &str) {
    let mut wire = Wire::open(address).await;
    for status in ["pending", "running"] {
        let request = get(&format!("/walkers?limit=1&status={status}"), token);
        loop {
            let page: Value = serde_json::from_slice(wire.call(&request).await).unwrap();
            if page["walkers"].as_array().unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// From the submission to the last event, one after the other; then many at once.
async fn completed(address: &str, token: &str) {
    let mut request = format!("ws://{address}/websocket").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let (mut wire, submit) = (Wire::open(address).await, post("/walker/a_noop", token, "{}"));
    let mut spans = Vec::new();
    for _ in 0..2000 {
        let begun = Instant::now();
        let answer: Value = serde_json::from_slice(wire.call(&submit).await).unwrap();
        let subscribe = json!({ "type": "subscribe", "walker_id": answer["walker_id"] });
        socket.send(Message::text(subscribe.to_string())).await.unwrap();
        loop {
            let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
            if text.contains(r#""type":"completed""#) {
                break;
            }
        }
        spans.push(begun.elapsed());
    }
    spans.sort_unstable();
    let rate = Rate {
        per_second: spans.len() as f64 / spans.iter().sum::<Duration>().as_secs_f64(),
        p50: spans[spans.len() / 2].as_secs_f64() * 1e3,
        p99: spans[spans.len() * 99 / 100].as_secs_f64() * 1e3,
        count: spans.len(),
    };
    say("a_noop from submission to its last event", &rate, None);
    let begun = Instant::now();
    let submitted = self::rate(address, 64, &submit).await;
    drain(address, token).await;
    let per_second = submitted.count as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{:<46} {per_second:>10.0}/s   ({} walkers)",
        "a_noop completed, 64 connections", submitted.count
    );
}

async fn traverse(server: &Server, count: u64) {
    let token = login(&server.address, &format!("user{count}@example.com")).await;
    let mut wire = Wire::open(&server.address).await;
    let begun = Instant::now();
    wire.call(&post("/walker/seed", &token, &json!({ "count": count }).to_string())).await;
    let seeded = count as f64 / begun.elapsed().as_secs_f64();
    println!("{:<46} {seeded:>10.0} nodes/s", format!("seed of {count}"));
    let tally = post("/walker/tally", &token, "{}");
    let mut rates = Vec::new();
    for _ in 0..4 {
        let begun = Instant::now();
        wire.call(&tally).await;
        rates.push(count as f64 / begun.elapsed().as_secs_f64());
    }
    let vector: Vec<u64> = (0..count).collect();
    let begun = Instant::now();
    let sum: u64 = vector.iter().map(|n| std::hint::black_box(*n)).sum();
    std::hint::black_box(sum);
    let walk = count as f64 / begun.elapsed().as_secs_f64();
    let warm = rates[1..].iter().copied().fold(0.0, f64::max);
    println!(
        "{:<46} {warm:>10.0} nodes/s warm, {:.0} the first time; a vector of numbers {walk:.0}/s",
        format!("tally of {count}"),
        rates[0]
    );
}

/// One sender, a thousand subscribers of one channel.
async fn fan_out(address: &str, token: &str) {
    const STEPS: usize = 200;
    let mut tasks = tokio::task::JoinSet::new();
    let ready = std::sync::Arc::new(tokio::sync::Barrier::new(1001));
    for _ in 0..1000 {
        let (address, ready) = (address.to_owned(), std::sync::Arc::clone(&ready));
        tasks.spawn(async move {
            let url = format!("ws://{address}/websocket?channel_id=all");
            let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
            socket.next().await.unwrap().unwrap();
            ready.wait().await;
            let mut count = 0;
            while count < STEPS {
                match tokio::time::timeout(Duration::from_secs(5), socket.next()).await {
                    Ok(Some(Ok(Message::Text(_)))) => count += 1,
                    Ok(Some(Ok(_))) => {}
                    _ => break,
                }
            }
            (count, Instant::now())
        });
    }
    ready.wait().await;
    let begun = Instant::now();
    let body = json!({ "channel": "all", "steps": STEPS, "gap": 0.001 }).to_string();
    Wire::open(address).await.call(&post("/walker/s_progress", token, &body)).await;
    let ended = tasks.join_all().await;
    let delivered: usize = ended.iter().map(|(count, _)| count).sum();
    let last = ended.iter().map(|(_, at)| *at).max().unwrap();
    let per_second = delivered as f64 / (last - begun).as_secs_f64();
    println!(
        "{:<46} {per_second:>10.0}/s   ({delivered} of {} delivered)",
        "pushes to 1,000 sockets",
        STEPS * 1000
    );
}
