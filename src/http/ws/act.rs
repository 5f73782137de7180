//! What an event of a client does.

use std::sync::Arc;

use axum::extract::ws::Message;
use serde_json::{Value, json};
use uuid::Uuid;
use walkabout_schema::WalkerId;

use super::{
    Identity,
    event::{Event, clip},
    identity,
    subscriptions::{Ending, confirmed},
};
use crate::{
    Error,
    http::{
        Server,
        done::frame,
        feed::Feed,
        problem::Problem,
        walkers::{accepted, enters},
    },
    publish::Target,
    runtime::{Caller, Spawn, Spawned},
};

/// Who sent an event.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) server: Arc<Server>,
    pub(super) identity: Identity,
    pub(super) client_id: String,
    pub(super) channel_id: String,
    /// The channel was made for this connection, not named by it: who is in it was let in.
    pub(super) own_channel: bool,
}

/// What remains for the connection to do.
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Send this.
    Reply(Message),
    /// Send the connection message.
    Greet,
    /// Go on as another caller, with this event first.
    Become(Identity, Option<Box<Event>>),
    /// Send this text, then pass on what the feed gives.
    Follow {
        /// What says that the run is followed.
        first: String,
        /// Its events.
        feed: Box<Feed>,
    },
    /// Send what comes of a run when it has ended.
    Await(Box<Ending>),
    /// Pass it on no longer.
    Unfollow(Uuid, WalkerId),
}

impl Effect {
    pub(super) fn reply(value: &Value) -> Self {
        Self::Reply(Message::Text(value.to_string().into()))
    }
}

/// Performs one event. Whatever goes wrong is a reply: the connection stays.
pub(super) async fn act(asker: Asker, event: Event) -> Effect {
    match event {
        Event::Connection => Effect::Greet,
        Event::Walker { walker, node, response, context } => {
            let Asker { server, identity: Identity { caller, .. }, client_id, .. } = asker;
            let spawn = Spawn {
                walker,
                node,
                caller,
                fields: context,
                files: Vec::new(),
                client_id: Some(client_id),
                request_key: None,
            };
            walker_event(server, spawn, response).await
        }
        Event::User { roots, data } => {
            push(&asker, "user", &roots.into_iter().map(Target::Root).collect::<Vec<_>>(), &data)
        }
        Event::Channel { channels, data } => {
            push(&asker, "channel", &channels.into_iter().map(Target::Channel).collect::<Vec<_>>(), &data)
        }
        Event::Client { clients, data } => {
            push(&asker, "client", &clients.into_iter().map(Target::Client).collect::<Vec<_>>(), &data)
        }
        Event::ChangeUser { token } => change_user(&asker, token).await,
        Event::Subscribe { walker_id, after } => subscribe(asker, &walker_id, after).await,
        Event::Unsubscribe { walker_id } => match walker_id.parse::<WalkerId>() {
            Ok(id) => Effect::Unfollow(id.uuid(), id),
            Err(_) => Effect::reply(&no_run("unsubscribe", &walker_id)),
        },
    }
}

async fn walker_event(server: Arc<Server>, mut spawn: Spawn, response: bool) -> Effect {
    let refuse = |error: String| Effect::reply(&json!({ "type": "walker", "error": error }));
    let unknown = || refuse("Invalid request! Please use valid walker event!".to_owned());
    let spec = server.runtime.spec(&spawn.walker).filter(|spec| spec.is_websocket() && !spec.is_private());
    let Some(spec) = spec.filter(|spec| enters(spec.entry_type(), spawn.node.is_some())) else {
        return unknown();
    };
    if spec.is_public() {
        // Jac Cloud refuses these on a connection that is logged in. Here they run as over HTTP: a login is
        // ignored, and a client need not open a second connection for them.
        spawn.caller = Caller::public();
    } else if spawn.caller.is_public() {
        return refuse(format!("Event {} requires to be authenticated!", spawn.walker));
    }
    let caller = spawn.caller.clone();
    match server.runtime.spawn(spawn).await {
        Ok(Spawned::Accepted { id, .. }) if response => Effect::Await(Box::new(Ending { server, id })),
        Ok(Spawned::Accepted { id, run_token, .. }) => {
            let first = json!(accepted(&id, run_token));
            match Feed::open(server.runtime.clone(), caller, &id, 0).await {
                Ok(Some(feed)) => Effect::Follow { first: first.to_string(), feed: Box::new(feed) },
                // It is accepted all the same.
                Ok(None) | Err(_) => Effect::reply(&first),
            }
        }
        Ok(Spawned::Done { status, reports, response: custom, .. }) if response => {
            match frame(status, &reports, custom, server.runtime.config().frame_bytes_max).await {
                Ok(message) => Effect::Reply(message),
                Err(error) => refuse(error),
            }
        }
        Ok(Spawned::Done { .. }) => Effect::None,
        Err(Error::UnknownWalker(_)) => unknown(),
        Err(error) => Effect::reply(&Problem::from(error).frame("walker")),
    }
}

/// Sends `data` to others. Jac Cloud lets anybody reach everybody; here who is not logged in reaches only
/// itself and the channel that was made for it: in one that it named there are others.
fn push(asker: &Asker, event: &str, targets: &[Target], data: &Value) -> Effect {
    let own = |target: &Target| match target {
        Target::Client(id) => *id == asker.client_id,
        Target::Channel(id) => asker.own_channel && *id == asker.channel_id,
        // The public root is everybody who is not logged in.
        Target::Root(_) => false,
    };
    if asker.identity.caller.is_public() && !targets.iter().all(own) {
        let error = "An anonymous connection may push only to itself and to its own channel.";
        return Effect::reply(&json!({ "type": event, "error": error }));
    }
    asker.server.runtime.sockets().push(targets, data);
    Effect::None
}

async fn change_user(asker: &Asker, token: Option<String>) -> Effect {
    match identity(&asker.server, token.as_deref().unwrap_or_default()).await {
        Ok(identity) => Effect::Become(identity, None),
        // Nobody knows whose token it is: going on as the public would look like a token that has ended.
        Err(error) => Effect::reply(&Problem::from(error).frame("change_user")),
    }
}

async fn subscribe(asker: Asker, walker_id: &str, after: u64) -> Effect {
    let Ok(id) = walker_id.parse::<WalkerId>() else {
        return Effect::reply(&no_run("subscribe", walker_id));
    };
    match Feed::open(asker.server.runtime.clone(), asker.identity.caller, &id, after).await {
        Ok(Some(feed)) => Effect::Follow { first: confirmed("subscribed", feed.id()), feed: Box::new(feed) },
        Ok(None) => Effect::reply(&no_run("subscribe", walker_id)),
        Err(error) => Effect::reply(&Problem::from(error).frame("subscribe")),
    }
}

/// The same for runs that do not exist and for those of others.
fn no_run(event: &str, walker_id: &str) -> Value {
    json!({ "type": event, "error": format!("No run {} that you may read.", clip(walker_id)) })
}
