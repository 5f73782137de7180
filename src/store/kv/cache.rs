//! Decoded elements and links in memory, shared by all readers.
//!
//! An entry carries the number of the commit group since which it holds, and serves only snapshots at or after that. Before a group
//! is applied its keys leave the cache and are marked with the group's number; a reader that began before the mark may not put
//! back what it read. So a cached value is always the one that the snapshot itself would give.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use uuid::Uuid;
use walkabout_schema::Name;

use crate::{
    ids::IdMap,
    store::{Direction, Element, Link},
};

const SHARDS: usize = 16;
const STRIPES: usize = 1 << 16;
/// A list of links that takes more than this part of its shard is read from the engine each time.
const LINKS_PART: usize = 2;

/// A bounded cache.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
    /// By a hash of the key: the last group that touched it.
    touched: Vec<AtomicU64>,
    bytes_max: usize,
}

#[derive(Default)]
struct Shard {
    elements: IdMap<Entry<Option<Arc<Element>>>>,
    links: HashMap<(Uuid, bool), Lists>,
    bytes: usize,
}

/// The cached lists of one node and direction: by edge name, or of all names.
type Lists = Vec<(Option<Name>, Entry<Arc<[Link]>>)>;

struct Entry<T> {
    value: T,
    since: u64,
    is_used: bool,
    bytes: usize,
}

impl Cache {
    /// With a bound of 0 it keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let touched = if bytes_max == 0 { u64::MAX } else { 0 };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            touched: (0..STRIPES).map(|_| AtomicU64::new(touched)).collect(),
            bytes_max: bytes_max / SHARDS,
        }
    }

    fn mix(id: Uuid) -> u64 {
        let (high, low) = id.as_u64_pair();
        (high.rotate_left(31) ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn shard(&self, id: Uuid) -> Option<MutexGuard<'_, Shard>> {
        let index = (Self::mix(id) >> 40) as usize % SHARDS;
        self.shards.get(index).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stripe(&self, id: Uuid) -> Option<&AtomicU64> {
        let index = (Self::mix(id) >> 20) as usize % STRIPES;
        self.touched.get(index)
    }

    /// What a snapshot at `number` sees, when it is here. The inner `None`: there is no such element.
    pub(crate) fn element(&self, id: Uuid, number: u64) -> Option<Option<Arc<Element>>> {
        let mut shard = self.shard(id)?;
        let entry = shard.elements.get_mut(&id).filter(|entry| entry.since <= number)?;
        entry.is_used = true;
        Some(entry.value.clone())
    }

    /// Keeps what a snapshot at `number` read, unless the element was touched since.
    pub(crate) fn fill_element(&self, id: Uuid, number: u64, value: Option<Arc<Element>>) {
        let (Some(mut shard), Some(stripe)) = (self.shard(id), self.stripe(id)) else { return };
        let since = stripe.load(Ordering::SeqCst);
        if since <= number {
            shard.put_element(id, since, value);
            shard.trim(self.bytes_max);
        }
    }

    /// As [`Cache::element`], for the links of a node.
    pub(crate) fn links(
        &self,
        node: Uuid,
        direction: Direction,
        edge_name: Option<&Name>,
        number: u64,
    ) -> Option<Arc<[Link]>> {
        let mut shard = self.shard(node)?;
        let lists = shard.links.get_mut(&(node, direction == Direction::In))?;
        let (_, entry) =
            lists.iter_mut().find(|(name, entry)| name.as_ref() == edge_name && entry.since <= number)?;
        entry.is_used = true;
        Some(Arc::clone(&entry.value))
    }

    /// As [`Cache::fill_element`], for the links of a node.
    pub(crate) fn fill_links(
        &self,
        node: Uuid,
        direction: Direction,
        edge_name: Option<Name>,
        number: u64,
        value: &Arc<[Link]>,
    ) {
        let bytes = 96 + value.len() * size_of::<Link>();
        if bytes > self.bytes_max / LINKS_PART {
            return;
        }
        let (Some(mut shard), Some(stripe)) = (self.shard(node), self.stripe(node)) else { return };
        let since = stripe.load(Ordering::SeqCst);
        if since > number {
            return;
        }
        let lists = shard.links.entry((node, direction == Direction::In)).or_default();
        if lists.iter().any(|(name, _)| *name == edge_name) {
            return;
        }
        lists.push((edge_name, Entry { value: Arc::clone(value), since, is_used: true, bytes }));
        shard.bytes += bytes;
        shard.trim(self.bytes_max);
    }

    /// Marks keys as touched by a group that is about to be applied, and drops what is here of them.
    pub(crate) fn touch(&self, ids: impl Iterator<Item = Uuid>, group: u64) {
        for id in ids {
            let Some(mut shard) = self.shard(id) else { continue };
            if let Some(stripe) = self.stripe(id) {
                stripe.fetch_max(group, Ordering::SeqCst);
            }
            if let Some(entry) = shard.elements.remove(&id) {
                shard.bytes = shard.bytes.saturating_sub(entry.bytes);
            }
            for is_in in [false, true] {
                let lists = shard.links.remove(&(id, is_in)).unwrap_or_default();
                let bytes: usize = lists.iter().map(|(_, entry)| entry.bytes).sum();
                shard.bytes = shard.bytes.saturating_sub(bytes);
            }
        }
    }

    /// Enters what a group has written, after it was applied.
    pub(crate) fn enter(&self, elements: impl Iterator<Item = Arc<Element>>, group: u64) {
        for element in elements {
            let Some(mut shard) = self.shard(element.id) else { continue };
            shard.put_element(element.id, group, Some(element));
            shard.trim(self.bytes_max);
        }
    }
}

impl Shard {
    fn put_element(&mut self, id: Uuid, since: u64, value: Option<Arc<Element>>) {
        // Decoded, an element takes about twice its document.
        let bytes = 256 + value.as_ref().map_or(0, |element| element.fields.0.as_bytes().len() * 2);
        let entry = Entry { value, since, is_used: true, bytes };
        self.bytes += bytes;
        if let Some(old) = self.elements.insert(id, entry) {
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
    }

    /// Makes room when there is too much: drops what was not used since the last time, and puts the rest on probation. When that is
    /// not enough, some of the rest goes.
    fn trim(&mut self, bytes_max: usize) {
        if self.bytes <= bytes_max {
            return;
        }
        let enough = bytes_max / 8 * 7;
        for _ in 0..2 {
            let bytes = &mut self.bytes;
            let mut stays = |is_used: &mut bool, size: usize| {
                let stays = *bytes <= enough || std::mem::take(is_used);
                if !stays {
                    *bytes = bytes.saturating_sub(size);
                }
                stays
            };
            self.elements.retain(|_, entry| stays(&mut entry.is_used, entry.bytes));
            self.links.retain(|_, lists| {
                lists.retain_mut(|(_, entry)| stays(&mut entry.is_used, entry.bytes));
                !lists.is_empty()
            });
        }
    }
}
