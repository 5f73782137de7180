//! Ids: what names one element, as text and as a key.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::Name;

/// The system root: owner of what is done without a caller. The nil UUID.
pub const SYSTEM_ROOT: Uuid = Uuid::nil();
/// The public root: every caller without a token acts as it.
pub const PUBLIC_ROOT: Uuid = Uuid::from_u128(1);

/// The four kinds of element, by the letter of their ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// `n`
    Node,
    /// `e`
    Edge,
    /// `o`
    Object,
    /// `w`
    Walker,
}

impl Kind {
    /// The letter that begins an id of this kind.
    pub fn letter(self) -> char {
        match self {
            Self::Node => 'n',
            Self::Edge => 'e',
            Self::Object => 'o',
            Self::Walker => 'w',
        }
    }

    /// The word used in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Edge => "edge",
            Self::Object => "object",
            Self::Walker => "walker",
        }
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted} id: write it as {form}")]
pub struct ParseIdError {
    text: String,
    wanted: &'static str,
    form: &'static str,
}

/// An id of any kind: `<letter>:<Name>:<uuid>`, the name empty for roots and plain edges.
///
/// Parsing accepts any letter case, any UUID version, and 32 digits without hyphens. The name is carried, not trusted:
/// what an id names is decided by its letter and UUID.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElementId {
    kind: Kind,
    name: Name,
    uuid: Uuid,
}

impl ElementId {
    /// Joins the three parts.
    pub fn new(kind: Kind, name: Name, uuid: Uuid) -> Self {
        Self { kind, name, uuid }
    }
    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }
    /// The type's name.
    pub fn name(&self) -> &Name {
        &self.name
    }
    /// The part that identifies.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }
}

impl fmt::Display for ElementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind.letter(), self.name, self.uuid)
    }
}

impl fmt::Debug for ElementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn split(text: &str) -> Option<(char, Name, Uuid)> {
    let mut parts = text.splitn(3, ':');
    let (letter, name, uuid) = (parts.next()?, parts.next()?, parts.next()?);
    let letter = match letter {
        "n" | "N" => 'n',
        "e" | "E" => 'e',
        "o" | "O" => 'o',
        "w" | "W" => 'w',
        _ => return None,
    };
    let name = if name.is_empty() { Name::empty() } else { Name::new(name).ok()? };
    // The parser of `uuid` also takes braces and a URN; an id does not.
    let uuid = matches!(uuid.len(), 32 | 36).then(|| Uuid::try_parse(uuid).ok()).flatten()?;
    Some((letter, name, uuid))
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for ElementId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (letter, name, uuid) = split(text).ok_or_else(|| ParseIdError {
            text: clip(text),
            wanted: "an",
            form: "<n|e|o|w>:<Name>:<uuid>",
        })?;
        let kind = match letter {
            'n' => Kind::Node,
            'e' => Kind::Edge,
            'o' => Kind::Object,
            _ => Kind::Walker,
        };
        Ok(Self { kind, name, uuid })
    }
}

fn schema_of(pattern: &str) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "pattern": pattern })
}

/// Hyphens are at all of their places, or at none.
const UUID_PATTERN: &str =
    "([0-9a-fA-F]{32}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})";

macro_rules! text_serde {
    ($type:ident, $letter:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schema_of(&format!("^{}:([A-Za-z_][A-Za-z0-9_]{{0,127}})?:{UUID_PATTERN}$", $letter))
            }
        }
    };
}

text_serde!(ElementId, "[neowNEOW]");

macro_rules! id_of_kind {
    ($(#[$doc:meta])* $type:ident, $kind:expr, $letter:literal, $wanted:literal, $form:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type {
            name: Name,
            uuid: Uuid,
        }

        impl $type {
            /// Joins name and UUID.
            pub fn new(name: Name, uuid: Uuid) -> Self {
                Self { name, uuid }
            }
            /// The type's name.
            pub fn name(&self) -> &Name {
                &self.name
            }
            /// The part that identifies.
            pub fn uuid(&self) -> Uuid {
                self.uuid
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, ":{}:{}"), self.name, self.uuid)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                match text.parse::<ElementId>() {
                    Ok(id) if id.kind == $kind => Ok(Self { name: id.name, uuid: id.uuid }),
                    _ => Err(ParseIdError { text: clip(text), wanted: $wanted, form: $form }),
                }
            }
        }

        impl From<$type> for ElementId {
            fn from(id: $type) -> Self {
                Self { kind: $kind, name: id.name, uuid: id.uuid }
            }
        }

        text_serde!($type, $letter);
    };
}

id_of_kind!(
    /// Names one node: `n:<Name>:<uuid>`; a root is `n::<uuid>`.
    NodeId, Kind::Node, "n", "a node", "n:<Name>:<uuid>"
);
id_of_kind!(
    /// Names one edge: `e:<Name>:<uuid>`; a plain one is `e::<uuid>`.
    EdgeId, Kind::Edge, "e", "an edge", "e:<Name>:<uuid>"
);
id_of_kind!(
    /// Names one saved object: `o:<Name>:<uuid>`.
    ObjectId, Kind::Object, "o", "an object", "o:<Name>:<uuid>"
);
id_of_kind!(
    /// Names one walker, and so one run of it: `w:<name>:<uuid>`. Version 7, so ids sort by creation.
    WalkerId, Kind::Walker, "w", "a walker", "w:<name>:<uuid>"
);

impl NodeId {
    /// The id of a root.
    pub fn root(uuid: Uuid) -> Self {
        Self { name: Name::empty(), uuid }
    }
    /// True for roots: they have no type name.
    pub fn is_root(&self) -> bool {
        self.name.is_empty()
    }
}

/// A bare UUID as a document holds it: the BSON UUID subtype, a hyphenated string in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub Uuid);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            self.0.serialize(s)
        } else {
            bson::Uuid::from_bytes(self.0.into_bytes()).serialize(s)
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            Uuid::deserialize(d).map(Self)
        } else {
            bson::Uuid::deserialize(d).map(|uuid| Self(Uuid::from_bytes(uuid.bytes())))
        }
    }
}

impl schemars::JsonSchema for Key {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Key".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "uuid" })
    }
}
