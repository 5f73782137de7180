//! A store without a disk, for tests: nothing outlives the process.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use imbl::OrdMap;

use super::{
    Limits, Result, Store,
    kv::{
        KvStore,
        engine::{Bytes, Engine, Pair, Range, SPACES, Space, View, Write},
        look,
    },
};

/// Makes an empty store.
///
/// # Errors
/// When its thread cannot be started.
pub fn open(limits: Limits) -> Result<Arc<dyn Store>> {
    let engine = MemoryEngine::default();
    let found = look(&engine)?;
    Ok(Arc::new(KvStore::start(Box::new(engine), &found, limits)?))
}

pub(super) type Maps = HashMap<Space, OrdMap<Vec<u8>, Bytes>>;

/// Maps that share their structure with their snapshots.
pub(super) struct MemoryEngine {
    maps: RwLock<Arc<Maps>>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::with(SPACES.iter().map(|(space, _)| (*space, OrdMap::new())).collect())
    }
}

/// Writes a batch into maps.
pub(super) fn write(maps: &mut Maps, batch: Vec<Write>) {
    for (space, key, value) in batch {
        let map = maps.entry(space).or_default();
        match value {
            Some(value) => drop(map.insert(key, value.into())),
            None => drop(map.remove(&key)),
        }
    }
}

impl MemoryEngine {
    /// An engine that begins with these.
    pub(super) fn with(maps: Maps) -> Self {
        Self { maps: RwLock::new(Arc::new(maps)) }
    }

    fn maps(&self) -> Arc<Maps> {
        Arc::clone(&self.maps.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl View for Maps {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(HashMap::get(self, &space).and_then(|map| map.get(key)).cloned())
    }

    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<Pair>> {
        let Some(map) = HashMap::get(self, &space) else { return Ok(Vec::new()) };
        let pairs = map
            .range::<_, Vec<u8>>((range.from, range.to))
            .map(|(key, value)| (key.clone(), Arc::clone(value)));
        Ok(if reverse { pairs.rev().take(limit).collect() } else { pairs.take(limit).collect() })
    }
}

impl View for MemoryEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        View::get(&*self.maps(), space, key)
    }

    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<Pair>> {
        View::scan(&*self.maps(), space, range, reverse, limit)
    }
}

impl Engine for MemoryEngine {
    fn snapshot(&self) -> Arc<dyn View> {
        self.maps()
    }

    fn apply(&self, batch: Vec<Write>, _sync: bool) -> Result<()> {
        let mut maps = Maps::clone(&self.maps());
        write(&mut maps, batch);
        *self.maps.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(maps);
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn close(&self, _group: u64) -> Result<()> {
        Ok(())
    }
}
