//! Maps and sets by id.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use uuid::Uuid;

/// The hash of an id. Ids come from ourselves, so a hash need not withstand chosen keys; one multiplication spreads what two ids of a millisecond
/// differ in.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        let half = |half: Option<&[u8; 8]>| half.map_or(0, |half| u64::from_be_bytes(*half));
        let (head, tail) = (half(bytes.first_chunk()), half(bytes.last_chunk()));
        let mixed = (head.rotate_left(29) ^ tail).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
    fn write_usize(&mut self, _: usize) {}
}

/// A map by id.
pub(crate) type IdMap<V> = HashMap<Uuid, V, BuildHasherDefault<IdHasher>>;
/// A set of ids.
pub(crate) type IdSet = HashSet<Uuid, BuildHasherDefault<IdHasher>>;
