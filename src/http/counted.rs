//! How often something happened lately, by address.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use walkabout_schema::Timestamp;

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// Counts by address: of users or not, so that a refusal tells nothing.
pub(super) struct Counted {
    max: u32,
    window: Duration,
    counts: Mutex<HashMap<String, Count>>,
}

struct Count {
    since: Timestamp,
    times: u32,
}

impl Counted {
    /// `max` times within `window` are well.
    pub(super) fn new(max: u32, window: Duration) -> Self {
        Self { max, window, counts: Mutex::default() }
    }

    /// Whether it happened as often as it may.
    pub(super) fn is_full(&self, address: &str, now: Timestamp) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .get(address)
            .is_some_and(|count| now.since(count.since) < self.window && count.times >= self.max)
    }

    /// It happened.
    pub(super) fn note(&self, address: String, now: Timestamp) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= ADDRESSES_MAX {
            counts.retain(|_, count| now.since(count.since) < self.window);
        }
        if counts.len() >= ADDRESSES_MAX {
            // Only a flood over ever new addresses comes here. Those that it happened to most stay: they are meant.
            counts.retain(|_, count| count.times > 1);
        }
        if counts.len() >= ADDRESSES_MAX {
            counts.clear();
        }
        let count = counts.entry(address).or_insert(Count { since: now, times: 0 });
        if now.since(count.since) >= self.window {
            *count = Count { since: now, times: 0 };
        }
        count.times = count.times.saturating_add(1);
    }

    /// Notes it, unless it happened as often as it may.
    pub(super) fn take(&self, address: &str, now: Timestamp) -> bool {
        let is_free = !self.is_full(address, now);
        if is_free {
            self.note(address.to_owned(), now);
        }
        is_free
    }

    /// It counts no more.
    pub(super) fn forget(&self, address: &str) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
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
        assert!(!counted.is_full("a", at(60_000)));
        assert!(!counted.is_full("b", at(0)));
        counted.forget("a");
        assert!(counted.take("a", at(0)));
        for n in 0..ADDRESSES_MAX * 2 {
            counted.note(n.to_string(), at(0));
        }
        assert!(counted.counts.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
