//! How often something happened lately, by address.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use walkabout_schema::Timestamp;

/// Places to count at.
const PLACES: usize = 1 << 15;

/// Counts by address: of users or not, so that a refusal tells nothing.
///
/// Each address counts at one of [`PLACES`], which nobody else can work out. Nothing is ever made room for, so a flood over many addresses
/// lets none of them begin anew; the price is that two addresses may count as one.
pub(super) struct Counted {
    max: u32,
    window: Duration,
    chance: RandomState,
    counts: Mutex<Box<[Count]>>,
}

#[derive(Clone, Default)]
struct Count {
    since: Timestamp,
    times: u32,
}

impl Counted {
    /// `max` times within `window` are well.
    pub(super) fn new(max: u32, window: Duration) -> Self {
        let counts = vec![Count::default(); PLACES].into();
        Self { max, window, chance: RandomState::new(), counts: Mutex::new(counts) }
    }

    /// Whether it happened as often as it may.
    pub(super) fn is_full(&self, address: &str, now: Timestamp) -> bool {
        self.at(address, now, |count| count.times >= self.max)
    }

    /// It happened.
    pub(super) fn note(&self, address: &str, now: Timestamp) {
        self.at(address, now, |count| count.times = count.times.saturating_add(1));
    }

    /// Notes it, unless it happened as often as it may.
    pub(super) fn take(&self, address: &str, now: Timestamp) -> bool {
        self.at(address, now, |count| {
            let is_free = count.times < self.max;
            count.times += u32::from(is_free);
            is_free
        })
    }

    /// It counts no more.
    pub(super) fn forget(&self, address: &str) {
        self.at(address, Timestamp::default(), |count| count.times = 0);
    }

    fn at<T>(&self, address: &str, now: Timestamp, look: impl FnOnce(&mut Count) -> T) -> T {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::cast_possible_truncation, reason = "a part of the hash does as well")]
        let place = self.chance.hash_one(address) as usize % PLACES;
        #[expect(clippy::indexing_slicing, reason = "there are so many places")]
        let count = &mut counts[place];
        if count.times == 0 || now.since(count.since) >= self.window {
            *count = Count { since: now, times: 0 };
        }
        look(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_counts_for_a_while() {
        let counted = Counted::new(10, Duration::from_secs(60));
        let at = Timestamp::from_millis;
        for _ in 0..10 {
            assert!(counted.take("a", at(0)));
        }
        assert!(!counted.take("a", at(59_999)) && counted.is_full("a", at(59_999)));
        assert!(!counted.is_full("b", at(0)));
        for n in 0..PLACES * 2 {
            counted.note(&format!("{n}@example.com"), at(1));
        }
        assert!(counted.is_full("a", at(59_999)), "also when many others came between");
        assert!(!counted.is_full("a", at(60_000)));
        assert!(counted.take("a", at(60_000)));
        for _ in 0..10 {
            counted.note("a", at(60_000));
        }
        counted.forget("a");
        assert!(!counted.is_full("a", at(60_000)));
    }
}
