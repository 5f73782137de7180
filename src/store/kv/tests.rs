use std::sync::atomic::{AtomicBool, AtomicUsize};

use walkabout_schema::Access;

use super::*;
use crate::store::{Change, DecodedCell, memory::MemoryEngine, no_fields};

/// A memory engine whose writes can be made to fail.
#[derive(Default)]
struct Failing {
    inner: MemoryEngine,
    fails: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
}

impl View for Failing {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        View::get(&self.inner, space, key)
    }
    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<engine::Pair>> {
        View::scan(&self.inner, space, range, reverse, limit)
    }
}

impl Engine for Failing {
    fn snapshot(&self) -> Arc<dyn View> {
        self.inner.snapshot()
    }
    fn apply(&self, batch: Vec<engine::Write>, sync: bool) -> Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("the disk said no".to_owned()));
        }
        self.inner.apply(batch, sync)
    }
    fn free_bytes(&self) -> Option<u64> {
        None
    }
    fn close(&self, group: u64) -> Result<()> {
        self.inner.close(group)
    }
}

fn fresh_node(id: u128) -> Commit {
    let element = Element {
        kind: Kind::Node,
        id: Uuid::from_u128(id),
        name: Name::empty(),
        owner: None,
        access: Access::private(),
        version: 1,
        ends: None,
        fields: no_fields(),
        decoded: DecodedCell::default(),
    };
    let change = Change::Put { element: Arc::new(element), expected: None };
    Commit { changes: vec![change], ..Commit::default() }
}

#[tokio::test]
async fn after_a_failed_write_nothing_more_is_written() {
    let engine = Failing::default();
    let (fails, writes) = (Arc::clone(&engine.fails), Arc::clone(&engine.writes));
    let found = look(&engine).unwrap();
    let store = KvStore::start(Box::new(engine), &found, Limits::default()).unwrap();
    let now = Timestamp::from_millis(0);
    store.commit(now, fresh_node(1)).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    assert!(matches!(store.commit(now, fresh_node(2)).await, Err(Error::OutcomeUnknown(_))));
    fails.store(false, Ordering::SeqCst);
    let before = writes.load(Ordering::SeqCst);
    assert!(matches!(store.commit(now, fresh_node(3)).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.health(), Err(Error::Unavailable(_))));
    assert_eq!(writes.load(Ordering::SeqCst), before);
    let ids = [1, 2, 3].map(Uuid::from_u128);
    let read = store.snapshot().await.unwrap().elements(Kind::Node, &ids).await.unwrap();
    assert_eq!(read.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
    store.close().await.unwrap();
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let engine = MemoryEngine::default();
    let format = u64::from(FORMAT) + 1;
    let newer = (Space::Meta, keys::META_FORMAT.to_vec(), Some(format.to_be_bytes().to_vec()));
    engine.apply(vec![newer], true).unwrap();
    let refused = look(&engine).err().unwrap().to_string();
    assert!(refused.contains("newer program"), "{refused}");
}

#[test]
fn a_marker_is_found_only_whole() {
    let marker = Marker { group: 77, synced: 75 };
    let bytes = marker.encode();
    assert_eq!(Marker::parse(&bytes), Some(marker));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Marker::parse(&damaged), None, "bit {bit}");
    }
}
