//! The data model of Walkabout.
//!
//! Ids, names, access levels, and the forms in which nodes, edges, objects, walkers, users and events are stored and sent.
//! This package has no I/O, no clock and no database: a client can depend on it alone.
//!
//! Every type that is stored or sent derives its JSON Schema here; `schema/*.schema.json` holds the generated files and a
//! test compares them.

mod access;
mod event;
mod id;
mod name;
mod run;
mod state;
mod stored;
mod time;
pub mod wire;

pub use access::{Access, Level, RootEntries, UnknownLevel, decide, owns};
pub use event::{Event, EventKind};
pub use id::{
    EdgeId, ElementId, Key, Kind, NodeId, ObjectId, PUBLIC_ROOT, ParseIdError, SYSTEM_ROOT, WalkerId,
};
pub use name::{Name, NameError};
pub use run::{ErrorCode, Reply, Run, Schedule, Status};
pub use state::State;
pub use stored::{
    Checkpoint, Edge, FORMAT, Fields, Identity, Items, Node, Object, Part, Position, Segment, SegmentId,
    Session, Ticket, User, Walker, WebhookKey, documents,
};
pub use time::Timestamp;
