//! What a walker's type says about how it is called.

/// Where a walker may be spawned over HTTP and WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntryType {
    /// On the caller's root only.
    Root,
    /// On a named node only.
    Node,
    /// Either.
    #[default]
    Both,
}

/// Whether the caller gives a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// The caller must.
    Required,
    /// The caller may; there is a default.
    Optional,
    /// The caller cannot; what is given under its name is ignored.
    Excluded,
}

/// One field of a walker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// Who sets it.
    pub kind: FieldKind,
}

/// How a walker is called. Written by `#[derive(Walker)]`, or by hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spec {
    pub(crate) asynchronous: bool,
    pub(crate) public: bool,
    pub(crate) websocket: bool,
    pub(crate) private: bool,
    pub(crate) rerun_never: bool,
    pub(crate) entry: EntryType,
    pub(crate) description: &'static str,
    pub(crate) fields: Vec<Field>,
}

impl Spec {
    /// A plain walker without fields, for callers who are logged in, on any node.
    pub fn new() -> Self {
        Self::default()
    }
    /// Answered with its id at once, and run on the walker pool.
    #[must_use]
    pub fn asynchronous(mut self) -> Self {
        self.asynchronous = true;
        self
    }
    /// Needs no login: every caller acts as the public root.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }
    /// May be called over the WebSocket as well.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }
    /// Has no endpoint: only other walkers spawn it.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }
    /// A run found started after a crash fails as `lost` instead of being taken up again.
    #[must_use]
    pub fn rerun_never(mut self) -> Self {
        self.rerun_never = true;
        self
    }
    /// Where it may be spawned.
    #[must_use]
    pub fn entry(mut self, entry: EntryType) -> Self {
        self.entry = entry;
        self
    }
    /// What it does, for documentation.
    #[must_use]
    pub fn describe(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }
    /// Adds a field, in the order of the type.
    #[must_use]
    pub fn field(mut self, name: &'static str, kind: FieldKind) -> Self {
        self.fields.push(Field { name, kind });
        self
    }
    /// True for walkers answered with their id.
    pub fn is_async(&self) -> bool {
        self.asynchronous
    }
    /// True when no login is needed.
    pub fn is_public(&self) -> bool {
        self.public
    }
    /// True when it may be called over the WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }
    /// True when it has no endpoint.
    pub fn is_private(&self) -> bool {
        self.private
    }
    /// Where it may be spawned.
    pub fn entry_type(&self) -> EntryType {
        self.entry
    }
}
