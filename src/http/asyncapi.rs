//! The AsyncAPI document: what a WebSocket carries, both ways.
//!
//! Its schemas of what is sent are those of the types that are sent; those of what is read say what `ws::event` reads.

use serde_json::{Map, Value, json};
use walkabout_schema::{
    NodeId, WalkerId,
    wire::{Connection, EventFrame},
};

use super::{
    done::ContextResponse,
    openapi::{JSON, Types, answer_of, context_of},
    problem::Detail,
    walkers::Accepted,
};
use crate::{input::schema::put, registry::WalkerType, runtime::Runtime};

/// A message.
struct Message {
    name: String,
    /// What it is about.
    summary: &'static str,
    /// What its frame has: JSON in a text frame, all else in a binary one.
    content_type: &'static str,
    payload: Value,
}

impl Message {
    /// One of JSON.
    fn new((name, summary, payload): (&str, &'static str, Value)) -> Self {
        Self { name: name.to_owned(), summary, content_type: JSON, payload }
    }
}

/// The document of a server.
pub(crate) fn document(runtime: &Runtime) -> Value {
    let mut types = Types::new();
    let mut sent = sent(&mut types);
    types.reserve();
    let mut read = read(&mut types);
    let walkers = runtime.registry().walkers();
    let walkers = walkers.filter(|walker| {
        let spec = &walker.spec;
        spec.is_websocket() && !spec.is_private() && !spec.docs.is_left_out
    });
    for walker in walkers {
        read.push(call(&mut types, walker));
        sent.extend(answer(&mut types, walker));
    }
    let about = runtime.registry().about();
    let names = |messages: &[Message], at: &str| -> Vec<Value> {
        messages.iter().map(|message| json!({ "$ref": format!("{at}{}", message.name) })).collect()
    };
    let at = "#/channels/websocket/messages/";
    let operation = |action: &str, summary: &str, messages: &[Message]| {
        json!({
            "action": action, "channel": { "$ref": "#/channels/websocket" }, "summary": summary,
            "messages": names(messages, at),
        })
    };
    let operations = json!({
        "receive": operation("receive", "What a client may send", &read),
        "send": operation("send", "What the server sends", &sent),
    });
    let all: Vec<Message> = read.into_iter().chain(sent).collect();
    let channel: Map<String, Value> = all
        .iter()
        .map(|Message { name, .. }| {
            (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") }))
        })
        .collect();
    let messages: Map<String, Value> = all
        .into_iter()
        .map(|Message { name, summary, content_type, payload }| {
            let message =
                json!({ "name": name, "summary": summary, "contentType": content_type, "payload": payload });
            (name, message)
        })
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": about.title, "version": about.version },
        "defaultContentType": JSON,
        "channels": { "websocket": {
            "address": "/websocket",
            "description": "One connection: text frames with JSON, and binary frames where a walker answers with what is neither JSON nor text. Events of a client are performed one after the other.",
            "messages": channel,
            "bindings": { "ws": { "method": "GET", "query": query(), "headers": headers() } },
        } },
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": types.into_schemas(),
            "securitySchemes": {
                "HTTPBearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
        },
    })
}

fn query() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    json!({ "type": "object", "properties": {
        "channel_id": text("The channel that the connection belongs to; one of its own unless given."),
        "ticket": text("Stands for a login, once: see POST /user/ticket."),
        "auth": text("A token, where the setting allow_query_token is on."),
    } })
}

fn headers() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    json!({ "type": "object", "properties": {
        "Authorization": text("Bearer and a token. Without one the connection is of the public."),
        "Sec-WebSocket-Protocol": text("walkabout, bearer.<token>, where no other header can be sent."),
    } })
}

/// An object with this `type` and these other members, of which the first `required` must be there.
fn object(kind: &str, members: Vec<(&str, Value)>, required: usize) -> Value {
    let names: Vec<&str> =
        std::iter::once("type").chain(members.iter().take(required).map(|(name, _)| *name)).collect();
    let mut properties = json!({ "type": { "const": kind } });
    for (name, schema) in members {
        put(&mut properties, name, schema);
    }
    json!({ "type": "object", "properties": properties, "required": names })
}

/// What a client may send, beside calls of walkers.
fn read(types: &mut Types) -> Vec<Message> {
    let walker_id = types.read::<WalkerId>();
    let texts = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
    let uuid = "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}";
    let root = json!({ "type": "string", "pattern": format!("^n::{uuid}$") });
    let roots = json!({ "type": "array", "items": root, "minItems": 1 });
    let data = json!({ "type": "object" });
    let token = json!({ "type": ["string", "null"] });
    let number = json!({ "type": "integer", "minimum": 0, "default": 0 });
    [
        ("connection", "Asks for the connection message", object("connection", Vec::new(), 0)),
        (
            "user",
            "Sends data to every connection of these roots",
            object("user", vec![("root_ids", roots), ("data", data.clone())], 2),
        ),
        (
            "channel",
            "Sends data to every connection of these channels",
            object("channel", vec![("channel_ids", texts.clone()), ("data", data.clone())], 2),
        ),
        (
            "client",
            "Sends data to these connections",
            object("client", vec![("client_ids", texts), ("data", data)], 2),
        ),
        (
            "change_user",
            "Goes on as who has this token, or as the public",
            object("change_user", vec![("token", token)], 0),
        ),
        (
            "subscribe",
            "Follows a run, from the event after a number",
            object("subscribe", vec![("walker_id", walker_id.clone()), ("after", number)], 1),
        ),
        ("unsubscribe", "Follows a run no longer", object("unsubscribe", vec![("walker_id", walker_id)], 1)),
    ]
    .into_iter()
    .map(Message::new)
    .collect()
}

/// A call of a walker.
fn call(types: &mut Types, walker: &WalkerType) -> Message {
    let node = types.read::<Option<NodeId>>();
    let context = context_of(types, walker);
    let is_required = context.get("required").is_some();
    let context =
        types.named(&format!("{}_context_model", walker.name.as_str().to_ascii_lowercase()), context);
    let mut members = vec![("walker", json!({ "const": walker.name }))];
    let response = json!({
        "type": "boolean", "default": false, "description": "Whether what it reports is sent back.",
    });
    members.push(("context", context));
    members.push(("node", node));
    members.push(("response", response));
    let payload = object("walker", members, if is_required { 2 } else { 1 });
    Message::new((&format!("walker_{}", walker.name), "Calls a walker", payload))
}

/// What a walker says that it answers with in the place of its reports: JSON and texts as JSON, all else as bytes.
fn answer(types: &mut Types, walker: &WalkerType) -> Option<Message> {
    let (media, payload) = answer_of(types, &walker.spec)?;
    let name = format!("answer_{}", walker.name);
    let summary = "What a walker answers in the place of its reports";
    Some(match media == JSON || media.starts_with("text/") {
        true => Message::new((&name, summary, payload)),
        false => Message { name, summary, content_type: media, payload: bytes() },
    })
}

/// The schema of a binary frame.
fn bytes() -> Value {
    json!({ "type": "string", "format": "binary" })
}

/// What the server sends.
fn sent(types: &mut Types) -> Vec<Message> {
    let connection = types.sent::<Connection>();
    let event = types.sent::<EventFrame>();
    let (done, accepted) = (types.sent::<ContextResponse>(), types.sent::<Accepted<'_>>());
    let (id, detail) = (types.sent::<WalkerId>(), types.sent::<Detail>());
    let text = json!({ "type": "string" });
    let refusal = json!({
        "type": "object",
        "properties": {
            "type": { "type": "string", "description": "That of the event that is answered." },
            "error": { "type": "string" }, "code": text, "run": { "type": ["string", "null"] },
            "walker_id": text,
        },
        "required": ["type", "error"],
    });
    let unfit = json!({
        "type": "object", "properties": { "error": { "type": "array", "items": detail } }, "required": ["error"],
    });
    let first = json!({ "type": "integer", "minimum": 0, "description": "The oldest that is still kept." });
    let of_run = |kind: &str| object(kind, vec![("walker_id", id.clone())], 1);
    [
        (
            "connected",
            "The connection message: at the beginning, when it is asked for, and when the caller is another",
            object("connection", vec![("data", connection)], 1),
        ),
        ("done", "What a plain walker reported", done),
        ("accepted", "An async walker will run", accepted),
        ("subscribed", "The events of a run follow", of_run("subscribed")),
        ("unsubscribed", "No more events of a run follow", of_run("unsubscribed")),
        ("event", "An event of a run that is followed", event),
        (
            "gap",
            "Events that are not kept any more are left out",
            object("gap", vec![("walker_id", id.clone()), ("first", first)], 2),
        ),
        ("pushed", "What others, or walkers, sent to this connection, as it is", json!({ "type": "object" })),
        ("refused", "An event was not performed", refusal),
        ("unfit", "An event does not fit", unfit),
        ("answer", "What a walker gave in the place of its reports: JSON as it is, a text as a JSON string", json!({})),
    ]
    .into_iter()
    .map(Message::new)
    .chain([Message {
        name: "bytes".to_owned(),
        summary: "What a walker gave in the place of its reports, when it is neither JSON nor a text: a binary frame",
        content_type: "application/octet-stream",
        payload: bytes(),
    }])
    .collect()
}
