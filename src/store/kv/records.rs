//! The records of runs that are about to be claimed or under way, decoded: from its submission to its end a run is not read again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;
use walkabout_schema::Walker;

use crate::{ids::IdMap, store::Token};

/// Records kept for runs that are not claimed yet, at most.
const WAITING_MAX: usize = 4096;
/// The largest encoded record that is kept for a run that is not claimed yet, in bytes.
const WAITING_BYTES_MAX: usize = 4096;

/// See the module. While a token holds, nobody but its attempt changes the record.
#[derive(Default)]
pub(crate) struct Records {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    waiting: IdMap<Walker>,
    /// As many as attempts are under way.
    claimed: IdMap<(Token, Walker)>,
}

impl Records {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the record of a run that is about to be stored, `bytes` long.
    pub(crate) fn submit(&self, walker: Walker, bytes: usize) {
        let mut kept = self.kept();
        if bytes <= WAITING_BYTES_MAX && kept.waiting.len() < WAITING_MAX {
            kept.waiting.insert(walker.id.0, walker);
        }
    }

    /// Takes the record of a run that is not claimed; none when it has to be read.
    pub(crate) fn take(&self, id: Uuid) -> Option<Walker> {
        self.kept().waiting.remove(&id)
    }

    /// Keeps the record of a claimed run as its attempt has it.
    pub(crate) fn hold(&self, token: Token, walker: Walker) {
        self.kept().claimed.insert(walker.id.0, (token, walker));
    }

    /// The record that a token holds.
    pub(crate) fn held(&self, id: Uuid, token: Token) -> Option<Walker> {
        self.kept().claimed.get(&id).filter(|(holder, _)| *holder == token).map(|(_, walker)| walker.clone())
    }

    /// Notes how far an attempt is.
    pub(crate) fn progress(&self, id: Uuid, token: Token, data: Value) {
        if let Some((_, walker)) = self.kept().claimed.get_mut(&id).filter(|(holder, _)| *holder == token) {
            walker.run.progress = data;
        }
    }

    /// Lets go of a run that has ended, or that its attempt let go of.
    pub(crate) fn release(&self, id: Uuid, token: Token) {
        let mut kept = self.kept();
        if kept.claimed.get(&id).is_some_and(|(holder, _)| *holder == token) {
            kept.claimed.remove(&id);
        }
    }
}
