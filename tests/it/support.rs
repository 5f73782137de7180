//! A server in its own process, and a client for it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock, Mutex,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{built, database::database};

/// The path of an example, built at its first use in the profile of the tests.
pub fn example(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(built::examples);
    FOLDER.join(name)
}

/// Whether servers are to run on MongoDB.
pub fn is_on_mongodb() -> bool {
    std::env::var("WALKABOUT_TEST_STORE").is_ok_and(|store| store == "mongodb")
}

/// The database that stands for a data folder, when the tests run on MongoDB: the same for each program on that folder.
fn database_of(data: &Path) -> Option<String> {
    static DATABASES: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    if !is_on_mongodb() {
        return None;
    }
    let made = || database().expect("a database to test with");
    Some(DATABASES.lock().unwrap().entry(data.to_owned()).or_insert_with(made).clone())
}

/// The arguments that have a program keep everything in the database of a data folder, when the tests run on MongoDB.
pub fn store_of(data: &Path) -> Vec<String> {
    let uri = database_of(data).into_iter();
    uri.flat_map(|uri| ["--store".to_owned(), uri, "--lease-ms".to_owned(), "1000".to_owned()]).collect()
}

/// A running program; killed with SIGKILL when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    log: Mutex<Receiver<String>>,
}

impl Server {
    pub fn start(program: &Path, data: &Path, extra: &[&str]) -> Self {
        Self::try_start(program, data, extra).unwrap_or_else(|why| panic!("the server did not start: {why}"))
    }

    /// Starts a program and waits for its line; what it said instead when it ended.
    pub fn try_start(program: &Path, data: &Path, extra: &[&str]) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.arg("--listen").arg("127.0.0.1:0").arg("--data").arg(data).args(extra);
        if !extra.contains(&"--store") {
            command.args(store_of(data));
        }
        command.env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next().and_then(Result::ok).filter(|line| line.contains("is ready at"));
        let Some(ready) = ready else {
            let output = child.wait_with_output().unwrap();
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        };
        // Both pipes are read to the end, so that the server never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (told, log) = channel();
        std::thread::spawn(move || {
            errors.lines().map_while(Result::ok).for_each(|line| drop(told.send(line)))
        });
        let url = ready.split_whitespace().find(|word| word.starts_with("http")).unwrap();
        Ok(Self { child, url: url.trim_end_matches(',').to_owned(), log: Mutex::new(log) })
    }

    /// Waits for a line of its log with these words.
    pub fn logged(&self, words: &str) -> String {
        let log = self.log.lock().unwrap();
        loop {
            let line = log.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|why| panic!("the log does not say {words:?}: {why}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The rest of its log, once it has ended.
    pub fn rest_of_log(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().collect()
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.unwrap().success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The memory that it holds, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The stock program.
pub fn stock() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_walkabout"))
}

/// A client, logged in or not.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub url: String,
    pub token: Option<String>,
    pub user: Value,
}

impl Client {
    pub fn anonymous(url: &str) -> Self {
        Self { http: reqwest::Client::new(), url: url.to_owned(), token: None, user: Value::Null }
    }

    /// Registers and logs in.
    pub async fn user(url: &str, email: &str) -> Self {
        let mut client = Self::anonymous(url);
        let body = json!({ "email": email, "password": "correct horse" });
        let (status, answer) = client.post("/user/register", &body).await;
        assert_eq!((status, answer), (201, json!({ "message": "Successfully Registered!" })));
        client.login(email).await;
        client
    }

    pub async fn login(&mut self, email: &str) {
        let (status, answer) =
            self.post("/user/login", &json!({ "email": email, "password": "correct horse" })).await;
        assert_eq!(status, 200, "{answer}");
        self.token = Some(answer["token"].as_str().unwrap().to_owned());
        self.user = answer["user"].clone();
    }

    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(self.request(reqwest::Method::POST, path).json(body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.request(reqwest::Method::GET, path)).await
    }

    /// Submits an async walker; gives its id.
    pub async fn submit(&self, walker: &str, fields: &Value) -> String {
        let (status, answer) = self.post(&format!("/walker/{walker}"), fields).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["status"], 200);
        answer["walker_id"].as_str().unwrap().to_owned()
    }

    /// Waits for the last event of a run, and gives its record.
    pub async fn finished(&self, id: &str) -> Value {
        let request = self.request(reqwest::Method::GET, &format!("/walker/{id}/events"));
        let answer = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        // The stream ends after the last event.
        let text = answer.text().await.unwrap();
        assert!(text.contains(r#""type":"completed""#) || text.contains(r#""type":"failed""#), "{text}");
        let (status, record) = self.get(&format!("/walker/{id}")).await;
        assert_eq!(status, 200);
        record
    }

    pub async fn socket(&self) -> Socket {
        self.socket_at("/websocket").await
    }

    pub async fn socket_at(&self, path: &str) -> Socket {
        let mut request =
            format!("{}{path}", self.url.replacen("http", "ws", 1)).into_client_request().unwrap();
        if let Some(token) = &self.token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let (inner, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let mut socket = Socket { inner, connection: Value::Null };
        socket.connection = socket.next().await;
        socket
    }
}

/// An open WebSocket, past its connection message.
pub struct Socket {
    pub inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub connection: Value,
}

impl Socket {
    pub async fn send(&mut self, frame: Value) {
        self.inner.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next text frame.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.inner.next().await.expect("the socket is open").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The next binary frame.
    pub async fn bytes(&mut self) -> Vec<u8> {
        loop {
            match self.inner.next().await.expect("the socket is open").unwrap() {
                Message::Binary(bytes) => return bytes.to_vec(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub async fn ask(&mut self, frame: Value) -> Value {
        self.send(frame).await;
        self.next().await
    }

    /// Reads the events of a run up to one of this kind.
    pub async fn until(&mut self, id: &str, kind: &str) {
        let said = self.ask(json!({ "type": "subscribe", "walker_id": id, "after": 0 })).await;
        assert_eq!(said["type"], "subscribed", "{said}");
        while self.next().await["event"]["type"] != kind {}
    }

    /// The events of a run to its end; every number must follow the one before.
    pub async fn events(&mut self, id: &str, after: u64) -> Vec<Value> {
        let said = self.ask(json!({ "type": "subscribe", "walker_id": id, "after": after })).await;
        assert_eq!(said["type"], "subscribed", "{said}");
        let mut events = Vec::new();
        loop {
            let frame = self.next().await;
            assert_eq!(frame["type"], "event", "{frame}");
            events.push(frame["event"].clone());
            assert_eq!(frame["seq"], after + events.len() as u64, "without a gap");
            if matches!(frame["event"]["type"].as_str(), Some("completed" | "failed")) {
                return events;
            }
        }
    }
}

/// Kind and place of each error of a 422.
pub fn told(answer: &(u16, Value)) -> Vec<String> {
    assert_eq!(answer.0, 422, "{}", answer.1);
    let show = |error: &Value| {
        let loc: Vec<String> = error["loc"].as_array().unwrap().iter().map(ToString::to_string).collect();
        format!("{} {}", error["type"].as_str().unwrap(), loc.join(".").replace('"', ""))
    };
    answer.1["detail"].as_array().unwrap().iter().map(show).collect()
}
