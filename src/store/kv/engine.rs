//! The narrow seam to an ordered key-value engine: what [`KvStore`](super::KvStore) needs, and no more.

use std::{ops::Bound, sync::Arc};

use crate::store::Result;

/// The separate key spaces of a store, in the order of their numbers on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Space {
    /// Format, epoch, group number, secrets.
    Meta,
    /// Nodes by id.
    Node,
    /// Edges by id.
    Edge,
    /// Objects by id.
    Object,
    /// The adjacency index.
    Link,
    /// Records of runs by id.
    Walker,
    /// The part of an open run that changes often, by id. Runs that have ended are not here.
    Live,
    /// Where open runs go on, by id.
    Checkpoint,
    /// Events by run and number.
    Event,
    /// Runs by root and id.
    ByRoot,
    /// Users by address.
    User,
    /// Runs that are due at a time, by time and id.
    Due,
    /// Which run a request of a caller's own name led to, and when that is forgotten.
    Request,
    /// What open runs' checkpoints name, by run and number.
    Segment,
}

/// All of them.
pub(crate) const SPACES: [(Space, &str); 14] = [
    (Space::Meta, "meta"),
    (Space::Node, "node"),
    (Space::Edge, "edge"),
    (Space::Object, "object"),
    (Space::Link, "link"),
    (Space::Walker, "walker"),
    (Space::Live, "live"),
    (Space::Checkpoint, "checkpoint"),
    (Space::Event, "event"),
    (Space::ByRoot, "by_root"),
    (Space::User, "user"),
    (Space::Due, "due"),
    (Space::Request, "request"),
    (Space::Segment, "segment"),
];

/// A stored value, shared with the engine.
pub(crate) type Bytes = Arc<[u8]>;

/// A key with its value.
pub(crate) type Pair = (Vec<u8>, Bytes);

/// One write: a value, or none to remove the key.
pub(crate) type Write = (Space, Vec<u8>, Option<Vec<u8>>);

/// Keys from one bound to another.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) from: Bound<Vec<u8>>,
    pub(crate) to: Bound<Vec<u8>>,
}

impl Range {
    /// All keys that begin with these bytes.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self { from: Bound::Included(prefix.to_vec()), to: Bound::Excluded(end) };
            }
        }
        Self { from: Bound::Included(prefix.to_vec()), to: Bound::Unbounded }
    }

    /// The same keys, those after one of them only.
    pub(crate) fn after(mut self, key: Vec<u8>) -> Self {
        self.from = Bound::Excluded(key);
        self
    }

    /// The same keys, those before one of them only.
    pub(crate) fn before(mut self, key: Vec<u8>) -> Self {
        self.to = Bound::Excluded(key);
        self
    }
}

/// Reading.
pub(crate) trait View: Send + Sync {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>>;
    /// At most `limit` pairs in order of their keys, or against it.
    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<Pair>>;
}

/// An ordered key-value engine with snapshots and atomic batches. As a [`View`] it may show a batch in part while that is applied:
/// only who applies the batches reads there, everybody else reads snapshots.
pub(crate) trait Engine: View + 'static {
    /// A view of whole batches, which later batches do not change.
    fn snapshot(&self) -> Arc<dyn View>;
    /// Writes all or nothing. With `sync` it is on disk before anybody can read it; without, it outlives the process and may go with
    /// the machine.
    ///
    /// # Errors
    /// After one nobody knows what is on disk; the engine takes no more batches.
    fn apply(&self, batch: Vec<Write>, sync: bool) -> Result<()>;
    /// Free room where it writes, when that has a bound.
    fn free_bytes(&self) -> Option<u64>;
    /// Called once, after the last batch; `group` is the number of that one.
    fn close(&self, group: u64) -> Result<()>;
}
