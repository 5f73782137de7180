use super::*;
use crate::store::memory::MemoryEngine;

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
    let marker = keys::group_marker(77);
    assert_eq!(keys::parse_group_marker(&marker), Some(77));
    for bit in 0..marker.len() * 8 {
        let mut damaged = marker.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(keys::parse_group_marker(&damaged), None, "bit {bit}");
    }
}
