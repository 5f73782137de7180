//! The WebSocket: Jac Cloud's events, and runs to follow.
//!
//! Requests of one connection are done strictly one after the other. What is pushed to it, and what it follows, goes on being
//! delivered meanwhile. Everything that is to be sent passes one bounded queue; who does not read is dropped after a while.

use std::{collections::HashMap, time::Duration};

use axum::{
    extract::{
        Query, State,
        ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    http::HeaderMap,
    response::Response,
};
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, task::JoinHandle, time};
use walkabout_schema::{NodeId, WalkerId, wire::Connection};

use super::{
    Shared, extract, json as strict,
    problem::{Invalid, Problem},
    runs::{Feed, Item},
    walkers::envelope,
};
use crate::{
    publish::Target,
    runtime::{Caller, Spawn, Spawned},
};

/// Runs that one connection follows at once.
const FOLLOWED_MAX: usize = 1000;
/// The largest message that the protocol takes at all; between the configured bound and this one the answer is an error.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const PING_EVERY: Duration = Duration::from_secs(20);
/// A connection that is silent for this long, or does not take a frame for this long, is dropped.
const SILENCE_MAX: Duration = Duration::from_secs(45);

#[derive(Deserialize)]
pub(crate) struct ConnectQuery {
    channel_id: Option<String>,
}

/// Accepts every connection; without a good token it is a public one.
pub(crate) async fn upgrade(
    State(state): State<Shared>,
    Query(query): Query<ConnectQuery>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let caller = extract::caller(&state, &headers).await.unwrap_or_else(|_| Caller::public());
    let channel = query.channel_id.filter(|channel| !channel.is_empty() && channel.len() <= 128);
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        // Thousands of idle connections must stay cheap.
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .on_upgrade(move |socket| serve(state, caller, channel, socket))
}

fn fresh_id(state: &Shared) -> String {
    let env = state.runtime.env();
    format!("{}:{}", env.now().millis() / 1000, env.random_hex(16))
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Request {
    Connection {},
    Walker {
        walker: String,
        #[serde(default)]
        node: Option<String>,
        #[serde(default)]
        response: bool,
        #[serde(default)]
        context: Map<String, Value>,
    },
    User {
        root_ids: Vec<NodeId>,
        data: Map<String, Value>,
    },
    Channel {
        channel_ids: Vec<String>,
        data: Map<String, Value>,
    },
    Client {
        client_ids: Vec<String>,
        data: Map<String, Value>,
    },
    ChangeUser {
        #[serde(default)]
        token: Option<String>,
    },
    Subscribe {
        walker_id: String,
        #[serde(default)]
        after: u64,
    },
    Unsubscribe {
        walker_id: String,
    },
}

/// One connection's side of the server.
struct Session {
    state: Shared,
    caller: Caller,
    client_id: String,
    channel_id: String,
    out: mpsc::Sender<Utf8Bytes>,
    followed: HashMap<WalkerId, JoinHandle<()>>,
    pushes: Option<JoinHandle<()>>,
}

async fn serve(state: Shared, caller: Caller, channel: Option<String>, socket: WebSocket) {
    let (sink, mut stream) = socket.split();
    let (out, queue) = mpsc::channel(64);
    let client_id = fresh_id(&state);
    let channel_id = channel.unwrap_or_else(|| fresh_id(&state));
    let writer = tokio::spawn(write(sink, queue));
    let mut session =
        Session { state, caller, client_id, channel_id, out, followed: HashMap::new(), pushes: None };
    if session.join().await.is_ok() {
        while let Ok(Some(Ok(message))) = time::timeout(SILENCE_MAX, stream.next()).await {
            let answer = match message {
                Message::Text(text) => session.handle(&text).await,
                Message::Binary(_) => Err(refusal("Input should be a text frame with JSON")),
                Message::Ping(_) | Message::Pong(_) => Ok(None),
                Message::Close(_) => break,
            };
            let frame = match answer {
                Ok(None) => continue,
                Ok(Some(frame)) => frame,
                Err(error) => error.to_string(),
            };
            if session.out.send(frame.into()).await.is_err() {
                break;
            }
        }
    }
    session.end();
    writer.abort();
}

/// Sends what is queued, and a ping now and then.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Utf8Bytes>) {
    let mut ping = time::interval(PING_EVERY);
    ping.reset();
    loop {
        let message = tokio::select! {
            text = queue.recv() => match text {
                Some(text) => Message::Text(text),
                None => break,
            },
            _ = ping.tick() => Message::Ping(axum::body::Bytes::new()),
        };
        if !matches!(time::timeout(SILENCE_MAX, sink.send(message)).await, Ok(Ok(()))) {
            break;
        }
    }
}

fn refusal(msg: &str) -> Value {
    json!({ "error": [Invalid::new("json_invalid", Vec::new(), msg, Value::Null)] })
}

fn refused(event: &str, why: &str) -> Value {
    json!({ "type": event, "error": why })
}

impl Session {
    /// Enters the table of sockets as the present caller, and says so.
    async fn join(&mut self) -> Result<(), Value> {
        if let Some(pushes) = self.pushes.take() {
            pushes.abort();
            // Its place in the table is free once the task has gone.
            drop(pushes.await);
        }
        let sockets = self.state.runtime.sockets();
        let joined = sockets.join(self.client_id.clone(), self.caller.root, self.channel_id.clone());
        let Some(mut joined) = joined else {
            let full = refused("connection", "The server has as many connections as it may have.");
            drop(self.out.send(full.to_string().into()).await);
            return Err(full);
        };
        drop(self.out.send(self.connection().into()).await);
        let out = self.out.clone();
        self.pushes = Some(tokio::spawn(async move {
            while let Some(text) = joined.pushes.recv().await {
                if out.send(Utf8Bytes::from(&*text)).await.is_err() {
                    break;
                }
            }
        }));
        Ok(())
    }

    fn connection(&self) -> String {
        let data = Connection {
            client_id: self.client_id.clone(),
            root_id: NodeId::root(self.caller.root),
            channel_id: self.channel_id.clone(),
        };
        json!({ "type": "connection", "data": data }).to_string()
    }

    fn end(&mut self) {
        for task in self.pushes.take().into_iter().chain(self.followed.drain().map(|(_, task)| task)) {
            task.abort();
        }
    }

    /// Does one request. Every refusal has an `error` member, and leaves the connection open.
    async fn handle(&mut self, text: &str) -> Result<Option<String>, Value> {
        let config = self.state.runtime.config();
        if text.len() > config.frame_bytes_max {
            let msg =
                format!("A frame has {} bytes; at most {} are taken", text.len(), config.frame_bytes_max);
            return Err(refusal(&msg));
        }
        let parsed = strict::parse(text.as_bytes(), config.json_depth_max)
            .map_err(|problem| problem.into_frame(""))?;
        let request: Request = serde_path_to_error::deserialize(&parsed).map_err(|error| {
            let loc = error.path().iter().map(|segment| Value::from(segment.to_string())).collect();
            let msg = format!("Input should be a valid event: {}", error.inner());
            json!({ "error": [Invalid::new("value_error", loc, &msg, parsed.clone())] })
        })?;
        match request {
            Request::Connection {} => Ok(Some(self.connection())),
            Request::Walker { walker, node, response, context } => {
                self.walker(walker, node, response, context).await
            }
            Request::User { root_ids, data } => {
                let is_own = |id: &NodeId| !self.caller.is_public() && id.uuid() == self.caller.root;
                self.may_push("user", root_ids.iter().all(is_own))?;
                let targets: Vec<_> = root_ids.iter().map(|id| Target::Root(id.uuid())).collect();
                self.push(&targets, data)
            }
            Request::Channel { channel_ids, data } => {
                self.may_push("channel", channel_ids.iter().all(|id| *id == self.channel_id))?;
                self.push(&channel_ids.into_iter().map(Target::Channel).collect::<Vec<_>>(), data)
            }
            Request::Client { client_ids, data } => {
                self.may_push("client", client_ids.iter().all(|id| *id == self.client_id))?;
                self.push(&client_ids.into_iter().map(Target::Client).collect::<Vec<_>>(), data)
            }
            Request::ChangeUser { token } => {
                self.caller = self.caller_of(token).await;
                // What was followed was allowed to the caller before.
                for (_, task) in self.followed.drain() {
                    task.abort();
                }
                self.join().await.map(|()| None)
            }
            Request::Subscribe { walker_id, after } => self.subscribe(walker_id, after).await,
            Request::Unsubscribe { walker_id } => {
                let task = walker_id.parse().ok().and_then(|id: WalkerId| self.followed.remove(&id));
                if let Some(task) = task {
                    task.abort();
                }
                Ok(Some(json!({ "type": "unsubscribed", "walker_id": walker_id }).to_string()))
            }
        }
    }

    /// A user may push to anybody, as in Jac Cloud. A stranger without a name may not push to others.
    fn may_push(&self, event: &str, is_own: bool) -> Result<(), Value> {
        if self.caller.is_public() && !is_own {
            let why = "An anonymous connection may push only to itself and to its own channel!";
            return Err(refused(event, why));
        }
        Ok(())
    }

    fn push(&self, targets: &[Target], data: Map<String, Value>) -> Result<Option<String>, Value> {
        self.state.runtime.sockets().push(targets, &Value::Object(data));
        Ok(None)
    }

    async fn caller_of(&self, token: Option<String>) -> Caller {
        let Some(token) = token else { return Caller::public() };
        let token = token.rsplit(' ').next().unwrap_or_default();
        self.state.users.caller(&self.state.runtime, token).await.unwrap_or_else(|_| Caller::public())
    }

    async fn walker(
        &self,
        walker: String,
        node: Option<String>,
        response: bool,
        context: Map<String, Value>,
    ) -> Result<Option<String>, Value> {
        let runtime = &self.state.runtime;
        let unknown = || refused("walker", "Invalid request! Please use valid walker event!");
        let spec = runtime.spec(&walker).filter(|spec| spec.is_websocket()).ok_or_else(unknown)?;
        // A public walker acts as the public root, whoever calls: as over HTTP, so a user need not connect a second time for it.
        if !spec.is_public() && self.caller.is_public() {
            return Err(refused("walker", &format!("Event {walker} requires to be authenticated!")));
        }
        let node =
            node.map(|node| node.parse::<NodeId>().map_err(|error| refused("walker", &error.to_string())));
        let spawn = Spawn {
            walker,
            node: node.transpose()?,
            caller: self.caller.clone(),
            fields: context,
            client_id: Some(self.client_id.clone()),
        };
        match runtime.spawn(spawn).await {
            Ok(Spawned::Accepted(id)) => Ok(Some(json!({ "status": 200, "walker_id": id }).to_string())),
            Ok(Spawned::Done { status, reports }) => Ok(response.then(|| envelope(status, &reports))),
            Err(error) => Err(Problem::Runtime(error).into_frame("walker")),
        }
    }

    async fn subscribe(&mut self, walker_id: String, after: u64) -> Result<Option<String>, Value> {
        // A run that is unknown and one that belongs to another are refused alike.
        let no_run = || refused("subscribe", &format!("No run {walker_id} that you may read."));
        let id: WalkerId = walker_id.parse().map_err(|_| no_run())?;
        self.followed.retain(|_, task| !task.is_finished());
        if let Some(old) = self.followed.remove(&id) {
            old.abort();
        }
        if self.followed.len() >= FOLLOWED_MAX {
            return Err(refused("subscribe", &format!("A connection follows at most {FOLLOWED_MAX} runs.")));
        }
        let feed = Feed::open(&self.state.runtime, self.caller.clone(), id.clone(), after).await;
        let feed =
            feed.map_err(|error| Problem::Runtime(error).into_frame("subscribe"))?.ok_or_else(no_run)?;
        // Said before the first event, on the same queue.
        let said = json!({ "type": "subscribed", "walker_id": walker_id, "after": after }).to_string();
        drop(self.out.send(said.into()).await);
        let task = tokio::spawn(deliver(feed, id.clone(), self.out.clone()));
        self.followed.insert(id, task);
        Ok(None)
    }
}

async fn deliver(mut feed: Feed, id: WalkerId, out: mpsc::Sender<Utf8Bytes>) {
    while let Some(item) = feed.next().await {
        let text = match item {
            Item::Event { text, .. } => Utf8Bytes::from(&*text),
            Item::Gap { first } => {
                json!({ "type": "gap", "walker_id": id, "first": first }).to_string().into()
            }
        };
        if out.send(text).await.is_err() {
            break;
        }
    }
}
