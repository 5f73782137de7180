//! Who may do what with an element.

use std::{collections::BTreeMap, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{NodeId, SYSTEM_ROOT};

/// What a root may do with an element. Each level includes those before it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Nothing.
    #[default]
    NoAccess,
    /// Spawn on it, visit it, see it in path queries.
    Read,
    /// Also attach edges to it.
    Connect,
    /// Also change its fields and access, and destroy it.
    Write,
}

/// A level that does not exist was named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an access level: use NO_ACCESS, READ, CONNECT or WRITE")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text.to_ascii_uppercase().as_str() {
            "NO_ACCESS" => Ok(Self::NoAccess),
            "READ" => Ok(Self::Read),
            "CONNECT" => Ok(Self::Connect),
            "WRITE" => Ok(Self::Write),
            _ => Err(UnknownLevel(text.chars().take(40).collect())),
        }
    }
}

/// The permission block of an element.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Access {
    /// What everybody may do.
    pub all: Level,
    /// What single roots may do: stronger than `all`, in both directions.
    #[serde(default)]
    pub roots: RootEntries,
}

/// The entries of single roots.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RootEntries {
    /// Root id to level.
    #[serde(default)]
    pub anchors: BTreeMap<NodeId, Level>,
}

impl Access {
    /// Nobody but the owner.
    pub fn private() -> Self {
        Self::default()
    }

    /// The same level for everybody.
    pub fn everybody(level: Level) -> Self {
        Self { all: level, roots: RootEntries::default() }
    }

    /// The entry of one root, if there is one.
    pub fn of_root(&self, root: Uuid) -> Option<Level> {
        self.roots.anchors.get(&NodeId::root(root)).copied()
    }
}

/// True for who may do everything with element `id` owned by root `owner`, whatever else is said: its owner, the system root, and a
/// root with itself.
pub fn owns(actor: Uuid, id: Uuid, owner: Option<Uuid>) -> bool {
    actor == SYSTEM_ROOT || owner == Some(actor) || id == actor
}

/// The level that root `actor` has on element `id` owned by root `owner`, where its type has no rule of its own.
///
/// `own` is the element's access; `owners` that of its owner root, when there is one. An entry on the element beats an entry
/// on the owner's root beats the higher of the two `all` values.
pub fn decide(actor: Uuid, id: Uuid, owner: Option<Uuid>, own: &Access, owners: Option<&Access>) -> Level {
    if owns(actor, id, owner) {
        return Level::Write;
    }
    let mut level = own.all;
    if let Some(owners) = owners {
        level = level.max(owners.all);
        level = owners.of_root(actor).unwrap_or(level);
    }
    own.of_root(actor).unwrap_or(level)
}
