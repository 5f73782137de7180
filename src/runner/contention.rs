//! Where attempts queue that keep meeting others at the same elements.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use uuid::Uuid;

use crate::ids::IdMap;

/// The elements that are fought over, each with a queue. Bounded by the attempts under way.
#[derive(Default)]
pub(crate) struct Contention {
    queues: Mutex<IdMap<Arc<Turn<()>>>>,
}

/// The right to be the only queued attempt at some elements. Others may still win by being first; each of them wins at most once
/// without a conflict of its own, so the attempts of a crowd are at most twice its commits.
#[derive(Default)]
pub(crate) struct Turns {
    held: Vec<OwnedMutexGuard<()>>,
}

impl Contention {
    /// Waits for a turn at every one of the elements. In order of their ids, so that two attempts never wait for each other;
    /// whoever needs more elements gives its turns back first.
    pub(crate) async fn queue(&self, ids: &BTreeSet<Uuid>) -> Turns {
        let mut turns = Turns::default();
        for id in ids {
            let queue = {
                let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
                if queues.len() > 1024 {
                    queues.retain(|_, queue| Arc::strong_count(queue) > 1);
                }
                Arc::clone(queues.entry(*id).or_default())
            };
            turns.held.push(queue.lock_owned().await);
        }
        turns
    }
}

impl Turns {
    pub(crate) fn give_back(&mut self) {
        self.held.clear();
    }
}
