//! The user's typed data, and how the engine holds it without knowing its type.

use std::{
    any::Any as StdAny,
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_ignored::Path;
use walkabout_schema::{Fields, Kind, Name};

use super::{AccessRule, NodeAbilities, abilities::Abilities, spec::Spec};

/// A type whose values are stored: a node, an edge, an object or a walker. Written by their derives, or by hand:
///
/// ```
/// use walkabout::prelude::*;
/// use walkabout::{schema::Kind, walker};
///
/// #[derive(Serialize, Deserialize)]
/// struct City { name: String }
///
/// impl walker::Archetype for City {
///     const KIND: Kind = Kind::Node;
///     const NAME: &'static str = "City";
/// }
/// impl walker::Node for City {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a node, edge, object or walker",
    note = "put #[derive(Node)], #[derive(Edge)], #[derive(Object)] or #[derive(Walker)] on `{Self}`, \
            together with #[derive(Serialize, Deserialize)]"
)]
pub trait Archetype: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Node, edge, object or walker.
    const KIND: Kind;
    /// The name in ids and documents: `[A-Za-z_][A-Za-z0-9_]*`.
    const NAME: &'static str;
    /// Names under which older documents were stored.
    const ALIASES: &'static [&'static str] = &[];

    /// What others may do with an element of this type, decided by its fields; by default the permission blocks alone decide.
    ///
    /// Neither the owner nor the system root is asked about. The rule sees the fields as they were read, not as the attempt has
    /// changed them since; a commit that relied on it is refused when the element has changed meanwhile. It must be quick and wait
    /// for nothing: it is called for each foreign element that is read. When it panics the attempt fails that asked.
    ///
    /// A type with a rule is registered also where no walker stands on it, with `.node`, `.edge` or `.object`; without that none is
    /// made. Of a walker the rule is about its record, its events and its files.
    ///
    /// ```
    /// use walkabout::{prelude::*, schema::Level, walker::Asker};
    ///
    /// #[derive(Node, Serialize, Deserialize)]
    /// #[node(access = Page::access_of)]
    /// struct Page { published: bool }
    ///
    /// impl Page {
    ///     /// What is published is read by all, and changed by whom it was granted.
    ///     fn access_of(&self, asker: &Asker) -> Option<Level> {
    ///         self.published.then(|| asker.level().max(Level::Read))
    ///     }
    /// }
    /// ```
    fn access() -> Option<AccessRule<Self>>
    where
        Self: Sized,
    {
        None
    }

    /// Adds the type itself to what a runtime knows, when a walker that stands on it is added. The derives of nodes and edges write
    /// it; by hand `.node::<City>()` does the same.
    fn enroll(_types: &mut crate::registry::Registry)
    where
        Self: Sized,
    {
    }
}

/// A node type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a node type",
    note = "put #[derive(Node, Serialize, Deserialize)] on `{Self}`"
)]
pub trait Node: Archetype {
    /// True when [`abilities`](Self::abilities) registers those of an `#[abilities(node)]` block. A block without it does not compile.
    const HAS_ABILITIES: bool = false;

    /// Registers what happens when a walker comes by; nothing by default.
    fn abilities(_on: &mut NodeAbilities<Self>)
    where
        Self: Sized,
    {
    }
}

/// An edge type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an edge type",
    note = "put #[derive(Edge, Serialize, Deserialize)] on `{Self}`"
)]
pub trait Edge: Archetype {
    /// True when [`abilities`](Self::abilities) registers those of an `#[abilities(edge)]` block. A block without it does not compile.
    const HAS_ABILITIES: bool = false;

    /// Registers what happens when a walker comes by; nothing by default.
    fn abilities(_on: &mut NodeAbilities<Self>)
    where
        Self: Sized,
    {
    }
}

/// An object type: data that is stored by itself and stands nowhere in the graph.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an object type",
    note = "put #[derive(Object, Serialize, Deserialize)] on `{Self}`"
)]
pub trait Object: Archetype {}

/// A walker type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a walker",
    note = "put #[derive(Walker, Serialize, Deserialize)] on `{Self}` and #[abilities] on an `impl {Self}` block"
)]
pub trait Walker: Archetype {
    /// How it is called.
    fn spec() -> Spec;
    /// Registers what it does where.
    fn abilities(on: &mut Abilities<Self>)
    where
        Self: Sized;
}

/// The abilities of a walker, as `#[abilities]` registers them.
#[diagnostic::on_unimplemented(
    message = "the walker `{Self}` has no abilities",
    note = "add an `#[abilities] impl {Self} {{ … }}` block with at least one `#[entry] async fn`"
)]
pub trait HasAbilities: Sized {
    /// Adds every ability of the block, in order.
    fn register(on: &mut Abilities<Self>);
}

/// The abilities of a node or edge, as `#[abilities(node)]` registers them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` says that it has abilities, and none are written",
    note = "add an `#[abilities(node)] impl {Self} {{ … }}` block, or remove `abilities` from the derive's attribute"
)]
pub trait HasNodeAbilities: Sized {
    /// Adds every ability of the block, in order.
    fn register(on: &mut NodeAbilities<Self>);
}

/// The node that a user's graph hangs from, as a type to stand on: `Here<Root>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root;

/// Any node or edge, as a type to stand on: `Here<Any>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Any;

/// A plain edge: one without a type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain;

/// What a `Here` can stand on: [`Any`], [`Root`], [`Plain`], or a node, edge or object type.
pub trait Place: Send + Sync + 'static {
    /// True when an element of this kind and name is such a place.
    fn matches(kind: Kind, name: &Name) -> bool;
    /// True for [`Any`]: abilities on it are the untyped ones.
    const ANY: bool = false;
    /// What it is called in messages.
    fn describe() -> &'static str;
    /// Makes the element's fields ready to be read as this type.
    fn prepare(slot: &super::here::Slot) -> Result<(), super::Failure>;
    /// Registers the abilities of the type itself.
    fn register(_registry: &mut crate::registry::Registry) {}
}

impl Place for Any {
    const ANY: bool = true;
    fn matches(_: Kind, _: &Name) -> bool {
        true
    }
    fn describe() -> &'static str {
        "any element"
    }
    fn prepare(_: &super::here::Slot) -> Result<(), super::Failure> {
        Ok(())
    }
}

impl Place for Root {
    fn matches(kind: Kind, name: &Name) -> bool {
        kind == Kind::Node && name.is_empty()
    }
    fn describe() -> &'static str {
        "a root"
    }
    fn prepare(_: &super::here::Slot) -> Result<(), super::Failure> {
        Ok(())
    }
}

impl Place for Plain {
    fn matches(kind: Kind, name: &Name) -> bool {
        kind == Kind::Edge && name.is_empty()
    }
    fn describe() -> &'static str {
        "a plain edge"
    }
    fn prepare(_: &super::here::Slot) -> Result<(), super::Failure> {
        Ok(())
    }
}

impl<T: Archetype> Place for T {
    fn matches(kind: Kind, name: &Name) -> bool {
        kind == T::KIND && (name.as_str() == T::NAME || T::ALIASES.contains(&name.as_str()))
    }
    fn describe() -> &'static str {
        T::NAME
    }
    fn prepare(slot: &super::here::Slot) -> Result<(), super::Failure> {
        slot.decode::<T>()
    }
    fn register(registry: &mut crate::registry::Registry) {
        T::enroll(registry);
    }
}

/// A value of a type that the engine does not know.
pub(crate) trait Held: StdAny + Send + Sync {
    fn encode(&self) -> Result<Fields, bson::error::Error>;
    /// The names of stored fields that the type does not read.
    fn unread(&self, stored: &Fields) -> Result<BTreeSet<String>, bson::error::Error>;
    fn as_any(&self) -> &dyn StdAny;
    fn as_any_mut(&mut self) -> &mut dyn StdAny;
}

impl<T: Archetype> Held for T {
    fn encode(&self) -> Result<Fields, bson::error::Error> {
        Fields::encode(self)
    }
    fn unread(&self, stored: &Fields) -> Result<BTreeSet<String>, bson::error::Error> {
        let mut unread = BTreeSet::new();
        let fields = bson::RawDeserializer::new(stored.0.as_bytes())?;
        serde_ignored::deserialize::<_, _, T>(fields, |path| {
            if let Path::Map { parent: Path::Root, key } = path {
                unread.insert(key);
            }
        })?;
        Ok(unread)
    }
    fn as_any(&self) -> &dyn StdAny {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn StdAny {
        self
    }
}

/// Holds an element's fields as a decoded type, once somebody asked for one. Shared by every attempt that reads the element.
#[derive(Default)]
pub struct DecodedCell(OnceLock<Arc<dyn StdAny + Send + Sync>>);

impl DecodedCell {
    /// The decoded value, when it is of this type.
    pub(crate) fn get<T: StdAny + Send + Sync>(&self) -> Option<&Arc<dyn StdAny + Send + Sync>> {
        self.0.get().filter(|value| (***value).is::<T>())
    }

    /// Keeps a decoded value for the next reader; without effect when one is there.
    pub(crate) fn keep(&self, value: Arc<dyn StdAny + Send + Sync>) {
        let _ = self.0.set(value);
    }
}

impl fmt::Debug for DecodedCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "decoded" } else { "encoded" })
    }
}
