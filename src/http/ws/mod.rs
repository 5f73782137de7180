//! The WebSocket: one task a connection.
//!
//! Events of a client are performed strictly one after the other. Meanwhile the connection goes on delivering
//! pushes and the events of subscribed runs, and goes on reading one event ahead; then it lets the client
//! wait. Everything that waits for a slow client is bounded: pushes are dropped by
//! [`crate::publish::Sockets`], subscriptions wait and are later replayed from the store, and a client that
//! takes nothing for a while is cut off.

mod act;
mod event;
mod subscriptions;

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, header},
    response::Response,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde_json::json;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_tungstenite::tungstenite;
use walkabout_schema::{NodeId, wire::Connection};

use self::{
    act::{Asker, Effect, act},
    event::Event,
    subscriptions::{Subscriptions, confirmed},
};
use super::{
    Server,
    extract::{self, Parameters},
    problem::{Detail, Refusal},
};
use crate::{Error, publish::Joined, runtime::Caller};

/// Frames of subscribed runs waiting for one connection; those who wait to put one in hold nothing else.
const FRAMES_WAITING: usize = 32;
/// Frames written between two flushes.
const BATCH: usize = 64;
/// The longest `channel_id`.
const CHANNEL_MAX: usize = 128;
/// The largest message that is read at all, as in Jac Cloud; beyond it the connection is closed with 1009.
/// What is below it and above the setting `frame_bytes_max` is answered with an error.
const MESSAGE_MAX: usize = 16 << 20;
/// The buffers of a connection are small: most connections are idle.
const BUFFER: usize = 4 << 10;
/// How long one write may take.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// How often the client is asked whether it is still there. After two pings without any sign it is not.
const PING_EVERY: Duration = Duration::from_secs(20);

/// `GET /websocket?channel_id=&ticket=&auth=`. Browsers can set no header here: they bring a ticket, or the token as a subprotocol,
/// `bearer.<token>`; as `auth`, with or without a scheme word, when `allow_query_token` is set. A bad one gives a connection of the
/// public, and so does the end of the login: at the next event, or ping, the connection message says so.
pub(crate) async fn open(
    State(server): State<Arc<Server>>,
    parameters: Result<Parameters, Refusal>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|_| Refusal::UpgradeRequired)?;
    let msg = format!("String should have at most {CHANNEL_MAX} characters");
    let parameters = parameters?;
    let channel = parameters.read("channel_id", "string_too_long", &msg, |text| {
        (text.chars().count() <= CHANNEL_MAX).then(|| text.to_owned())
    })?;
    let config = server.runtime.config();
    if server.runtime.sockets().count() >= config.sockets_max {
        return Err(Error::Busy("open WebSockets".to_owned()).into());
    }
    let offered = protocol(&headers);
    let identity = match (parameters.text("ticket"), parameters.text("auth")) {
        (Some(ticket), _) => {
            let token = server.tokens.redeem(&server.runtime, ticket).await?;
            identity(&server, &token.unwrap_or_default()).await?
        }
        (None, Some(_)) if !config.allow_query_token => return Err(Refusal::QueryToken),
        (None, query) => {
            let subprotocol = || offered.as_deref()?.strip_prefix(BEARER);
            let token = query.or_else(subprotocol).or_else(|| extract::token(&headers).ok());
            identity(&server, token.unwrap_or_default()).await?
        }
    };
    let message_max = MESSAGE_MAX.max(config.frame_bytes_max);
    Ok(upgrade
        // A browser goes on only when one that it offered is chosen.
        .protocols([PROTOCOL.to_owned()].into_iter().chain(offered))
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(message_max)
        .max_frame_size(message_max)
        .on_upgrade(move |socket| connection(socket, server, identity, channel)))
}

/// What clients offer beside a subprotocol that is a token, so that none comes back.
const PROTOCOL: &str = "walkabout";
/// Begins a subprotocol that is a token.
const BEARER: &str = "bearer.";

/// The subprotocol that is a token, among those that a client offers.
fn protocol(headers: &HeaderMap) -> Option<String> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offered = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    offered.map(str::trim).find(|name| name.starts_with(BEARER)).map(str::to_owned)
}

/// Who a connection acts for, by which token.
#[derive(Clone)]
struct Identity {
    caller: Caller,
    token: Option<Arc<str>>,
}

impl Identity {
    fn public() -> Self {
        Self { caller: Caller::public(), token: None }
    }
}

/// Who holds a token, with or without a scheme word before it; the public when it is no good.
async fn identity(server: &Server, token: &str) -> crate::Result<Identity> {
    let Some(token) = token.split_whitespace().next_back() else { return Ok(Identity::public()) };
    let verified = server.tokens.verify(&server.runtime, token).await?;
    Ok(verified.map_or_else(Identity::public, |(caller, _)| Identity { caller, token: Some(token.into()) }))
}

/// Who a connection acts for when that is not who it was: its login has ended, or its user has other rights. None while the store does
/// not say so.
async fn look_again(asker: &Asker) -> Option<Identity> {
    let token = asker.identity.token.as_ref()?;
    match asker.server.tokens.verify(&asker.server.runtime, token).await {
        Ok(None) => Some(Identity::public()),
        Ok(Some((caller, _))) if caller != asker.identity.caller => {
            Some(Identity { caller, token: Some(Arc::clone(token)) })
        }
        Ok(Some(_)) | Err(_) => None,
    }
}

/// The connection is of no more use.
struct Gone;

/// The sending half.
struct Writer {
    sink: SplitSink<WebSocket, Message>,
    dirty: bool,
}

impl Writer {
    async fn put(&mut self, message: Message) -> Result<(), Gone> {
        self.dirty = true;
        in_time(self.sink.feed(message)).await
    }

    async fn text(&mut self, text: &str) -> Result<(), Gone> {
        self.put(Message::Text(text.into())).await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if std::mem::take(&mut self.dirty) { in_time(self.sink.flush()).await } else { Ok(()) }
    }

    async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code, reason: reason.into() };
        // The connection ends either way.
        if self.put(Message::Close(Some(frame))).await.is_ok() {
            drop(self.flush().await);
        }
    }
}

async fn in_time(write: impl Future<Output = Result<(), axum::Error>>) -> Result<(), Gone> {
    match tokio::time::timeout(WRITE_MAX, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

type Work = Pin<Box<dyn Future<Output = Effect> + Send>>;
type Look = Pin<Box<dyn Future<Output = Option<Identity>> + Send>>;

/// From the upgrade to the end.
async fn connection(socket: WebSocket, server: Arc<Server>, identity: Identity, channel: Option<String>) {
    let (sink, stream) = socket.split();
    let mut writer = Writer { sink, dirty: false };
    let client_id = new_id(&server);
    let own_channel = channel.is_none();
    let channel_id = channel.unwrap_or_else(|| new_id(&server));
    let asker = Asker { server, identity, client_id, channel_id, own_channel };
    let Some(joined) = join(&asker) else {
        writer.close(1013, "too many connections").await;
        return;
    };
    // An error here means that the client is gone: whatever it had is dropped with this task.
    drop(converse(stream, writer, asker, joined).await);
}

async fn converse(
    mut stream: SplitStream<WebSocket>,
    mut writer: Writer,
    mut asker: Asker,
    mut joined: Joined,
) -> Result<(), Gone> {
    let (told, mut frames) = mpsc::channel(FRAMES_WAITING);
    let mut subscriptions = Subscriptions::new(told);
    let mut stopping = asker.server.stopping.clone();
    let mut work: Option<Work> = None;
    let mut look: Option<Look> = None;
    let mut ahead: Option<Message> = None;
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once.
    pings.tick().await;
    let mut unanswered = 0;

    writer.text(&greeting(&asker)).await?;
    writer.flush().await?;
    loop {
        tokio::select! {
            message = stream.next(), if ahead.is_none() => {
                unanswered = 0;
                match message {
                    Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => ahead = Some(message),
                    // Pings are answered below us.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) | None => return in_time(writer.sink.flush()).await,
                    Some(Err(error)) => {
                        break_off(&mut writer, error).await;
                        return Err(Gone);
                    }
                }
            }
            effect = finished(&mut work) => {
                work = None;
                match effect {
                    Effect::None => {}
                    Effect::Reply(message) => writer.put(message).await?,
                    Effect::Greet => writer.text(&greeting(&asker)).await?,
                    Effect::Become(identity, event) => {
                        // What a look under way finds is of the old one.
                        look = None;
                        joined = turn(&mut writer, &mut subscriptions, &mut asker, joined, identity).await?;
                        if let Some(event) = event {
                            work = Some(Box::pin(act(asker.clone(), *event)));
                        }
                    }
                    Effect::Follow { first, feed } => {
                        // Said before the first event can be, since events come through the queue that is read after this.
                        let refused = subscriptions.refused(&feed);
                        writer.text(&refused.as_ref().map_or(first, ToString::to_string)).await?;
                        if refused.is_none() {
                            subscriptions.follow(*feed);
                        }
                    }
                    Effect::Await(ending) => subscriptions.wait(*ending),
                    Effect::Unfollow(run, id) => {
                        subscriptions.unfollow(run);
                        writer.text(&confirmed("unsubscribed", &id)).await?;
                    }
                }
            }
            Some(text) = joined.pushes.recv() => {
                writer.text(&text).await?;
                for _ in 1..BATCH {
                    let Ok(text) = joined.pushes.try_recv() else { break };
                    writer.text(&text).await?;
                }
            }
            Some(told) = frames.recv() => {
                let mut next = Some(told);
                for _ in 0..BATCH {
                    let Some(told) = next.take() else { break };
                    if let Some(message) = subscriptions.take(told) {
                        writer.put(message).await?;
                    }
                    next = frames.try_recv().ok();
                }
                if let Some(message) = next.and_then(|told| subscriptions.take(told)) {
                    writer.put(message).await?;
                }
            }
            _ = pings.tick() => {
                // Who is not read cannot answer.
                if ahead.is_none() {
                    if unanswered >= 2 {
                        return Err(Gone);
                    }
                    unanswered += 1;
                }
                writer.put(Message::Ping(axum::body::Bytes::new())).await?;
                if look.is_none() && asker.identity.token.is_some() {
                    let asker = asker.clone();
                    look = Some(Box::pin(async move { look_again(&asker).await }));
                }
            }
            // Not while something is done for the old caller, whose answer is to be heard first.
            Some(identity) = looked(&mut look), if work.is_none() => {
                joined = turn(&mut writer, &mut subscriptions, &mut asker, joined, identity).await?;
            }
            () = stopping.wait() => {
                writer.close(1001, "the server is shutting down").await;
                return Ok(());
            }
        }
        if work.is_none()
            && let Some(message) = ahead.take()
        {
            work = Some(begin(&asker, message));
        }
        writer.flush().await?;
    }
}

/// Goes on as another caller, or with another login of the same. What was pushed to the old membership is still delivered; what another
/// caller followed is not.
async fn turn(
    writer: &mut Writer,
    subscriptions: &mut Subscriptions,
    asker: &mut Asker,
    mut joined: Joined,
    identity: Identity,
) -> Result<Joined, Gone> {
    while let Ok(text) = joined.pushes.try_recv() {
        writer.text(&text).await?;
    }
    if asker.identity.caller != identity.caller {
        for said in subscriptions.end_all() {
            writer.text(&said.to_string()).await?;
        }
    }
    // The new membership has the same id.
    drop(joined);
    asker.identity = identity;
    let joined = join(asker).ok_or(Gone)?;
    writer.text(&greeting(asker)).await?;
    Ok(joined)
}

/// What a look at the login found; never when there is none under way.
async fn looked(look: &mut Option<Look>) -> Option<Identity> {
    let Some(under_way) = look else { return std::future::pending().await };
    let found = under_way.await;
    *look = None;
    found
}

/// The effect of the work under way; never when there is none.
async fn finished(work: &mut Option<Work>) -> Effect {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

fn begin(asker: &Asker, message: Message) -> Work {
    let config = asker.server.runtime.config();
    let refuse = |details: Vec<Detail>| Effect::reply(&json!({ "error": details }));
    let one = |kind: &str, msg: String| refuse(vec![Detail::new(kind, Vec::new(), msg)]);
    let refused = match message {
        Message::Text(text) if text.len() > config.frame_bytes_max => {
            one("string_too_long", format!("A frame has at most {} bytes", config.frame_bytes_max))
        }
        Message::Text(text) => match event::parse(text.as_str(), config.json_depth_max) {
            Ok(event) => {
                let asker = asker.clone();
                return Box::pin(async move {
                    // Who brings another login says so for the one that may have ended.
                    if matches!(event, Event::ChangeUser { .. }) {
                        return act(asker, event).await;
                    }
                    match look_again(&asker).await {
                        // Whom it acts for it is told anyway.
                        Some(identity) if matches!(event, Event::Connection) => {
                            Effect::Become(identity, None)
                        }
                        Some(identity) => Effect::Become(identity, Some(Box::new(event))),
                        None => act(asker, event).await,
                    }
                });
            }
            Err(details) => refuse(details),
        },
        _ => one("string_type", "A frame should be text that holds JSON".to_owned()),
    };
    Box::pin(std::future::ready(refused))
}

fn join(asker: &Asker) -> Option<Joined> {
    let sockets = asker.server.runtime.sockets();
    sockets.join(asker.client_id.clone(), asker.identity.caller.root, asker.channel_id.clone())
}

/// The connection message.
fn greeting(asker: &Asker) -> String {
    let data = Connection {
        client_id: asker.client_id.clone(),
        root_id: NodeId::root(asker.identity.caller.root),
        channel_id: asker.channel_id.clone(),
    };
    json!({ "type": "connection", "data": data }).to_string()
}

/// `<epoch s>:<32 hex>`.
fn new_id(server: &Server) -> String {
    let env = server.runtime.env();
    format!("{}:{}", env.now().millis().div_euclid(1000), env.random_hex(16))
}

/// Says why a connection cannot go on, as RFC 6455 demands after such a frame.
async fn break_off(writer: &mut Writer, error: axum::Error) {
    let (code, kind, msg) = match error.into_inner().downcast_ref() {
        Some(tungstenite::Error::Capacity(_)) => (1009, "string_too_long", "The message is too big"),
        Some(tungstenite::Error::Utf8(_)) => (1007, "string_unicode", "A text frame should be valid UTF-8"),
        Some(tungstenite::Error::Protocol(_)) => {
            (1002, "value_error", "The frame is not one of the WebSocket protocol")
        }
        _ => return,
    };
    let error = json!({ "error": [Detail::new(kind, Vec::new(), msg)] });
    // The connection ends either way.
    drop(writer.text(&error.to_string()).await);
    writer.close(code, msg).await;
}
