//! The due queue: roots take turns.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::store::{Due, Store};

/// Due runs. Only a window of them is in memory; the rest wait in the store and are fetched when it runs low.
pub(crate) struct DueQueue {
    state: Mutex<State>,
    arrived: Notify,
    window: usize,
    store: Arc<dyn Store>,
}

#[derive(Default)]
struct State {
    /// Runs by root; the roots in `turns` are exactly the keys.
    by_root: HashMap<Uuid, VecDeque<Due>>,
    turns: VecDeque<Uuid>,
    waiting: usize,
    /// Waiting here, or claimed and not ended: not to be entered again.
    known: HashSet<Uuid>,
    /// Runs with ids above this one may wait in the store alone.
    overflow: Option<Uuid>,
    fetching: bool,
}

impl DueQueue {
    /// A queue that begins with whatever the store has open.
    pub(crate) fn new(store: Arc<dyn Store>, window: usize) -> Self {
        let state = State { overflow: Some(Uuid::nil()), ..State::default() };
        Self { state: Mutex::new(state), arrived: Notify::new(), window: window.max(1), store }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a run that was just stored.
    pub(crate) fn push(&self, due: &Due) {
        let mut state = self.state();
        match state.overflow {
            // The next fetch finds it. Not so while a fetch is under way, or below its cursor: ids rise, but submissions race.
            Some(after) if due.id > after && !state.fetching => {}
            None if state.waiting >= self.window => {
                state.overflow = Some(Uuid::from_u128(due.id.as_u128().saturating_sub(1)));
            }
            Some(_) | None => state.enter(due),
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// The next run, of the root whose turn it is. Waits for one.
    pub(crate) async fn pop(&self) -> Due {
        loop {
            let arrived = self.arrived.notified();
            if let Some(run) = self.take() {
                // Another may be waiting for what is left.
                self.arrived.notify_one();
                return run;
            }
            if !self.fetch().await {
                arrived.await;
            }
        }
    }

    /// A run has ended or was given up.
    pub(crate) fn ended(&self, run: Uuid) {
        self.state().known.remove(&run);
    }

    /// How many are in memory.
    pub(crate) fn len(&self) -> usize {
        self.state().waiting
    }

    fn take(&self) -> Option<Due> {
        let mut state = self.state();
        let root = state.turns.pop_front()?;
        let runs = state.by_root.get_mut(&root)?;
        let run = runs.pop_front();
        if runs.is_empty() {
            state.by_root.remove(&root);
        } else {
            state.turns.push_back(root);
        }
        if run.is_some() {
            state.waiting -= 1;
        }
        run
    }

    /// Fetches a window from the store when some wait there. True when `pop` should look again.
    async fn fetch(&self) -> bool {
        let after = {
            let mut state = self.state();
            let Some(after) = state.overflow.filter(|_| !state.fetching) else { return false };
            state.fetching = true;
            after
        };
        // Of the nil id nothing can be before.
        let after = Some(after).filter(|after| !after.is_nil());
        let fetched = self.store.open_runs(after, self.window).await;
        let mut state = self.state();
        state.fetching = false;
        match fetched {
            Ok(mut runs) => {
                state.overflow = runs.last().filter(|_| runs.len() >= self.window).map(|due| due.id);
                // Those that were under way at fewest crashes first: so the next crash hits others than the last one did.
                runs.sort_by_key(|due| due.lost);
                for due in &runs {
                    state.enter(due);
                }
                drop(state);
                self.arrived.notify_one();
                true
            }
            Err(error) => {
                tracing::error!(%error, "due runs cannot be fetched");
                false
            }
        }
    }
}

impl State {
    fn enter(&mut self, due: &Due) {
        if !self.known.insert(due.id) {
            return;
        }
        let runs = self.by_root.entry(due.root).or_default();
        if runs.is_empty() {
            self.turns.push_back(due.root);
        }
        runs.push_back(due.clone());
        self.waiting += 1;
    }
}
