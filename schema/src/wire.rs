//! What is sent to clients and is not a stored document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{EdgeId, Event, EventKind, NodeId, Run, Schedule, Timestamp, WalkerId};

/// The answer of `GET /walker/{walker_id}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// The walker's id.
    pub id: WalkerId,
    /// Its `has` fields at the last commit.
    pub context: Map<String, Value>,
    /// Jac Cloud's nine fields.
    pub schedule: Schedule,
    /// The rest.
    pub run: Run,
}

/// The answer of `GET /util/traverse`. Each line of `/util/traverse-stream` has one of the two members.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Traversed {
    /// The edges, in the order in which they were come to.
    pub edges: Vec<TraversedEdge>,
    /// The nodes, likewise.
    pub nodes: Vec<TraversedNode>,
}

/// An edge that was come to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TraversedEdge {
    /// Its id.
    pub id: EdgeId,
    /// Where it begins.
    pub source: NodeId,
    /// Where it ends.
    pub target: NodeId,
    /// Its fields, when they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archetype: Option<Map<String, Value>>,
}

/// A node that was come to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TraversedNode {
    /// Its id.
    pub id: NodeId,
    /// Its edges that may be read, of both directions, in order of creation.
    pub edges: Vec<EdgeId>,
    /// Its fields, when they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archetype: Option<Map<String, Value>>,
}

/// A page of `GET /walkers`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecordPage {
    /// Newest first.
    pub walkers: Vec<Record>,
    /// What to give as `after` for the next page; null on the last one.
    pub next: Option<WalkerId>,
}

/// A page of `GET /walker/{walker_id}/events`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// In order of their numbers.
    pub events: Vec<Event>,
    /// The number of the oldest event that is still kept; 0 when there is none.
    pub first: u64,
    /// What to give as `after` for the next page; null when there is no more yet.
    pub next: Option<u64>,
}

/// An event as a WebSocket frame.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventFrame {
    /// Always `event`.
    #[serde(rename = "type")]
    pub kind: EventFrameKind,
    /// The run.
    pub walker_id: WalkerId,
    /// The event's number.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The attempt it belongs to.
    pub attempt: u32,
    /// What happened.
    pub event: EventKind,
}

/// The word that marks an [`EventFrame`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventFrameKind {
    /// The only word.
    Event,
}

impl EventFrame {
    /// Wraps one event of a run.
    pub fn new(walker_id: WalkerId, event: Event) -> Self {
        let Event { seq, at, attempt, event } = event;
        Self { kind: EventFrameKind::Event, walker_id, seq, at, attempt, event }
    }
}

/// The public form of a user.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UserView {
    /// The user's id, 32 hexadecimal digits.
    pub id: String,
    /// The address.
    pub email: String,
    /// The root's UUID, 32 hexadecimal digits.
    pub root_id: String,
    /// May log in.
    pub is_activated: bool,
    /// May act on everybody's runs.
    pub is_admin: bool,
}

/// How a reported element is shown.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ElementView {
    /// Its reference id.
    pub id: String,
    /// Its fields.
    pub context: Map<String, Value>,
}

/// The connection message of the WebSocket.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// This connection.
    pub client_id: String,
    /// Whose it is.
    pub root_id: NodeId,
    /// The channel that it belongs to.
    pub channel_id: String,
}
