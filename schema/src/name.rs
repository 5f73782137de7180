//! Names of types: walkers, nodes, edges, objects.

use std::{
    borrow::Borrow,
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a walker, node, edge or object type: `[A-Za-z_][A-Za-z0-9_]*`, at most 128 bytes.
///
/// Roots and plain edges have no name of their own; theirs is the empty one, [`Name::empty`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use a letter or _ first, then letters, digits or _, at most 128 in all")]
pub struct NameError(String);

impl Name {
    /// The name of a root node and of a plain edge.
    pub fn empty() -> Self {
        static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
        Self(Arc::clone(&EMPTY))
    }

    /// Checks and takes a name. The empty text is refused here; see [`Name::empty`].
    ///
    /// # Errors
    /// [`NameError`] when the text breaks the pattern.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let mut chars = text.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if first && text.len() <= 128 && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NameError(text.chars().take(140).collect()))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the name of roots and plain edges.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        if text.is_empty() { Ok(Self::empty()) } else { Self::new(&text).map_err(serde::de::Error::custom) }
    }
}

impl schemars::JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([A-Za-z_][A-Za-z0-9_]*)?$", "maxLength": 128 })
    }
}
