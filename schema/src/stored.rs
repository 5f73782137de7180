//! The documents of the stores: BSON, one shape in every store.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bson::RawDocumentBuf;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Access, ElementId, Event, Key, Name, NodeId, Reply, Run, Schedule, Timestamp};

/// The format that this program writes. A store of a later one is refused.
pub const FORMAT: u32 = 1;

/// The `has` fields of an element, kept encoded until somebody asks for them as a type.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields(pub RawDocumentBuf);

impl Default for Fields {
    fn default() -> Self {
        Self(RawDocumentBuf::new())
    }
}

impl Fields {
    /// Encodes a struct or map.
    ///
    /// # Errors
    /// When it is neither, or holds what BSON cannot: an integer beyond 64 bits, say.
    pub fn encode<T: Serialize>(value: &T) -> Result<Self, bson::error::Error> {
        RawDocumentBuf::from_bytes(bson::serialize_to_vec(value)?).map(Self)
    }

    /// Decodes to a type.
    ///
    /// # Errors
    /// When the fields do not fit it.
    pub fn decode<T: for<'de> Deserialize<'de>>(&self) -> Result<T, bson::error::Error> {
        bson::deserialize_from_slice(self.0.as_bytes())
    }
}

impl JsonSchema for Fields {
    fn schema_name() -> Cow<'static, str> {
        "Fields".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "object" })
    }
}

/// A node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// Its UUID.
    #[serde(rename = "_id")]
    pub id: Key,
    /// The name of its type; empty for a root.
    pub name: Name,
    /// Its owner; null for a root.
    pub root: Option<Key>,
    /// Who else may do what.
    pub access: Access,
    /// The `has` fields.
    pub archetype: Fields,
    /// Rises with every change.
    pub version: u64,
}

/// An edge.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Edge {
    /// Its UUID.
    #[serde(rename = "_id")]
    pub id: Key,
    /// The name of its type; empty for a plain edge.
    pub name: Name,
    /// Its owner.
    pub root: Option<Key>,
    /// Who else may do what.
    pub access: Access,
    /// The `has` fields.
    pub archetype: Fields,
    /// Rises with every change.
    pub version: u64,
    /// Where it begins.
    pub source: NodeId,
    /// Where it ends.
    pub target: NodeId,
    /// True when it may be walked both ways.
    pub is_undirected: bool,
}

/// A saved object.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// Its UUID.
    #[serde(rename = "_id")]
    pub id: Key,
    /// The name of its type.
    pub name: Name,
    /// Its owner.
    pub root: Option<Key>,
    /// Who else may do what.
    pub access: Access,
    /// The `has` fields.
    pub archetype: Fields,
    /// Rises with every change.
    pub version: u64,
}

/// A walker and the record of its run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Walker {
    /// Its UUID.
    #[serde(rename = "_id")]
    pub id: Key,
    /// The name of its type.
    pub name: Name,
    /// Its owner: the root that it acts as.
    pub root: Option<Key>,
    /// Who else may do what.
    pub access: Access,
    /// The `has` fields: as they were submitted while the run is open, as the walker left them when it has ended. A failed attempt
    /// leaves here what it had reached.
    pub archetype: Fields,
    /// The fields as they were submitted, where the walker left others.
    #[serde(default)]
    pub input: Option<Fields>,
    /// Rises with every change.
    pub version: u64,
    /// Jac Cloud's nine fields.
    pub schedule: Schedule,
    /// The rest of the record.
    pub run: Run,
}

/// Where a traversal stands between two visits.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    /// The `has` fields.
    pub fields: Fields,
    /// The version of the walker that stood here.
    #[serde(default)]
    pub walker_version: u32,
    /// What was reported so far.
    #[serde(default)]
    pub reports: Vec<Part<serde_json::Value>>,
    /// What is still to be visited, first one first.
    pub frontier: Vec<Part<ElementId>>,
    /// What must not be visited.
    #[serde(default)]
    pub ignored: Vec<Part<Key>>,
    /// The number of the next segment: higher than that of any this run ever had.
    #[serde(default)]
    pub next_segment: u64,
    /// The last elements visited, newest last.
    #[serde(default)]
    pub path: Vec<ElementId>,
    /// How many elements were visited in all.
    pub visits: u64,
    /// The named ability that comes next at the present element; none at the end of a visit.
    #[serde(default)]
    pub position: Option<Position>,
    /// True once the walker's untyped entry abilities have run.
    #[serde(default)]
    pub begun: bool,
    /// True once the walker disengaged: nothing more is to be visited.
    #[serde(default)]
    pub disengaged: bool,
    /// True once the run acts as the system root.
    #[serde(default)]
    pub elevated: bool,
    /// Set by the walker with `status`.
    #[serde(default)]
    pub http_status: Option<u16>,
    /// Set by the walker with `set_custom`.
    #[serde(default)]
    pub custom: serde_json::Value,
    /// Given by the walker with `respond`.
    #[serde(default)]
    pub response: Option<Reply>,
    /// What the run's result is then: one value.
    #[serde(default)]
    pub results: Vec<Part<serde_json::Value>>,
}

/// A part of a long list of a checkpoint. The parts make the list, one after the other.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PartOf{T}")]
pub enum Part<T> {
    /// A few items, kept in the checkpoint itself.
    Inline(Vec<T>),
    /// Items of a [`Segment`] of the same run, which is kept beside the checkpoint and never changes.
    Segment {
        /// Its number.
        number: u64,
        /// The first of its items that belongs to the list.
        from: u64,
        /// The one after the last.
        to: u64,
    },
}

/// Items of a run's checkpoints, kept beside them so that a checkpoint need not write again what has not changed. It is there as
/// long as the run's checkpoint names it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    /// The run, and its number there.
    #[serde(rename = "_id")]
    pub id: SegmentId,
    /// What it holds.
    pub items: Items,
}

/// What a segment is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SegmentId {
    /// The run.
    pub run: Key,
    /// Rises within the run, and is never used again there.
    pub number: u64,
}

/// The items of a segment: all of one kind.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Items {
    /// Of a frontier.
    Elements(Vec<ElementId>),
    /// Of what must not be visited.
    Keys(Vec<Key>),
    /// Reports, or what is given in their place.
    Reports(Vec<serde_json::Value>),
}

/// A place inside a visit where a checkpoint stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Position {
    /// The element being visited.
    pub here: ElementId,
    /// The stage of the visit, by name.
    pub stage: String,
    /// The ability of that stage which gave the word to another.
    pub after: String,
    /// The ability to run next.
    pub then: String,
    /// Its number among those that `after` led to in this visit, from 1.
    #[serde(default)]
    pub step: u64,
}

/// A user.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// The user's own id.
    #[serde(rename = "_id")]
    pub id: Key,
    /// Unique. The domain part is in lower case.
    pub email: String,
    /// Argon2id, in PHC form; empty for a user who only signs in by identities.
    pub password: String,
    /// The root of the user's graph.
    pub root_id: Key,
    /// The address is verified, or need not be.
    pub is_activated: bool,
    /// May act on everybody's runs.
    pub is_admin: bool,
    /// When the user registered.
    pub created_at: Timestamp,
    /// Counts the changes, so that none is written over another.
    #[serde(default)]
    pub version: u64,
    /// The logins whose tokens are good, the oldest first.
    #[serde(default)]
    pub sessions: Vec<Session>,
    /// What stands for a login where no header can be sent, each once, the oldest first.
    #[serde(default)]
    pub tickets: Vec<Ticket>,
    /// The keys that others call the user's walkers with, in the order in which they were made.
    #[serde(default)]
    pub webhook_keys: Vec<WebhookKey>,
    /// The identities that the user signs in with instead of a password, by their providers: one at each, and each of one user.
    #[serde(default)]
    pub sso: BTreeMap<String, Identity>,
    /// Whether the address was shown to be the user's own.
    #[serde(default)]
    pub is_verified: bool,
    /// What the application's users have beside all this.
    #[serde(default)]
    pub fields: Fields,
}

/// Who a user is at a provider of single sign-on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// The provider's name for the user, which never changes.
    pub id: String,
    /// The address that the provider gave with it.
    pub email: String,
    /// What the provider calls itself: one that has its name in the settings later has given none of these.
    #[serde(default)]
    pub issuer: String,
}

/// One login.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// What its token says as `state`.
    pub state: String,
    /// When the token ends.
    pub ends_at: Timestamp,
}

/// What stands for a login once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Ticket {
    /// The SHA-256 digest of its text, in hexadecimal digits.
    pub digest: String,
    /// The `state` of the login that it stands for.
    pub session: String,
    /// When it ends.
    pub ends_at: Timestamp,
}

/// What others call walkers with, in the place of a user. Its secret is not stored: it is worked out from the id.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WebhookKey {
    /// Its own id.
    pub id: Key,
    /// What its owner calls it: no two keys of a user have one name.
    pub name: String,
    /// The walkers that it may call; all when there are none.
    pub walkers: Vec<String>,
    /// The types of the nodes that it may enter at, where `root` is a root; all when there are none.
    pub nodes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
}

impl Items {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Elements(items) => items.len(),
            Self::Keys(items) => items.len(),
            Self::Reports(items) => items.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Checkpoint {
    /// The segments that it names, in order of their numbers.
    pub fn segments(&self) -> BTreeSet<u64> {
        let lists = numbers(&self.reports).chain(numbers(&self.frontier));
        lists.chain(numbers(&self.ignored)).chain(numbers(&self.results)).collect()
    }
}

fn numbers<T>(parts: &[Part<T>]) -> impl Iterator<Item = u64> {
    parts.iter().filter_map(|part| match part {
        Part::Inline(_) => None,
        Part::Segment { number, .. } => Some(*number),
    })
}

impl Walker {
    /// The id that clients know it by.
    pub fn walker_id(&self) -> crate::WalkerId {
        crate::WalkerId::new(self.name.clone(), self.id.0)
    }

    /// The root that it acts as.
    pub fn owner(&self) -> Uuid {
        self.schedule.root_id.uuid()
    }
}

/// Every document form with the name of its schema file, in the order of the documentation.
pub fn documents() -> Vec<(&'static str, Schema)> {
    vec![
        ("node", schemars::schema_for!(Node)),
        ("edge", schemars::schema_for!(Edge)),
        ("object", schemars::schema_for!(Object)),
        ("walker", schemars::schema_for!(Walker)),
        ("user", schemars::schema_for!(User)),
        ("event", schemars::schema_for!(Event)),
        ("checkpoint", schemars::schema_for!(Checkpoint)),
        ("segment", schemars::schema_for!(Segment)),
        ("record", schemars::schema_for!(crate::wire::Record)),
    ]
}
