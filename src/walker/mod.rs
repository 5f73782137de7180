//! How a walker is written: archetypes, abilities, the context, queries, outcomes.
//!
//! Everything a walker's file needs is in [`prelude`](crate::prelude). Read `examples/hello_walker.rs` first.

mod abilities;
mod archetype;
mod context;
mod here;
mod model;
mod outcome;
mod query;
mod response;
mod spec;
mod upload;

pub use crate::access::{AccessRule, Asker};
pub use abilities::{Abilities, AnyPlaceAbility, NodeAbilities, PlaceAbility, Visitor, WalkerAbility};
pub use archetype::{
    Any, Archetype, DecodedCell, Edge, HasAbilities, HasNodeAbilities, Node, Object, Place, Plain, Root,
    Walker,
};
pub use context::{Context, Saved, Stopped};
pub use here::{Edit, Here, Read, Slot};
pub use model::Model;
pub use outcome::{DONE, Failure, Flow, Outcome, Wait, fail};
pub use query::Query;
pub use response::Response;
pub use spec::{Checkpoints, EntryType, Field, FieldKind, KeyPlace, Method, Part, Retry, Spec};
pub use upload::Upload;

pub(crate) use abilities::{Ability, AnyWalker, When};
pub(crate) use archetype::Held;
pub(crate) use here::Data;
pub(crate) use outcome::Suspend;
pub(crate) use query::{Filter, Hop};
pub(crate) use response::{Body, Given, extension, is_media_type};
pub(crate) use upload::Arrived;
