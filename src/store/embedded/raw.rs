//! What the raw bytes of a journal tell, also where the engine does not read on.

use std::ops::Range;

use crate::store::kv::keys::{META_GROUP, Marker};

/// The smallest piece that a disk writes whole or not at all.
const BLOCK: usize = 512;
/// What every batch ends with.
const END: &[u8] = b"FJL\x03";

/// All whole group markers.
fn markers(bytes: &[u8]) -> impl Iterator<Item = Marker> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let at = rest.iter().position(|byte| Some(byte) == META_GROUP.first())?;
            let here = rest.get(at..)?;
            rest = here.get(1..)?;
            // Only behind its key: no text, number or id in a record holds key and marker, so no caller can plant one.
            if let Some(marker) = here.strip_prefix(META_GROUP).and_then(Marker::parse) {
                return Some(marker);
            }
        }
    })
}

/// The highest group of which a marker says that it was synced; 0 for none.
pub(super) fn highest_synced(bytes: &[u8]) -> u64 {
    markers(bytes).map(|marker| marker.synced).max().unwrap_or(0)
}

/// The batches from the beginning, as long as their form is whole. Nothing is said about what they hold.
pub(super) fn batches(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let batch = at..at + batch_length(bytes.get(at..)?)?;
        at = batch.end;
        Some(batch)
    })
}

fn batch_length(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize, width: usize| {
        let digits = bytes.get(at..at + width)?.iter().rev();
        Some(digits.fold(0, |number, digit| (number << 8) | usize::from(*digit)))
    };
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            // Begin: how many items, and the engine's number of the batch.
            1 if at == 0 => at += 13,
            // An item: a head with two lengths, the key, the value.
            2 if at > 0 => at += 21 + number(at + 11, 2)? + number(at + 17, 4)?,
            // End: a checksum, and bytes that are always the same.
            3 if at > 0 => return bytes.get(at + 9..)?.starts_with(END).then_some(at + 13),
            _ => return None,
        }
    }
}

/// Where the first batch begins that a power loss tore: nothing says that it was synced, and a block of it is empty.
pub(super) fn first_torn(bytes: &[u8], synced: u64) -> Option<usize> {
    let may_be_gone = |batch: &Range<usize>| {
        let batch = bytes.get(batch.clone()).unwrap_or_default();
        markers(batch).all(|marker| marker.group > synced)
    };
    // The batch has a begin and an end, so only blocks between can be those that are not on disk.
    let is_torn = |batch: &Range<usize>| {
        let inner = batch.start.next_multiple_of(BLOCK)..batch.end;
        bytes.get(inner).unwrap_or_default().chunks_exact(BLOCK).any(|block| *block == [0; BLOCK])
    };
    batches(bytes).find(|batch| may_be_gone(batch) && is_torn(batch)).map(|batch| batch.start)
}
