//! The due queue: roots take turns; who was under way at two crashes waits apart.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant},
};
use uuid::Uuid;

use crate::{
    ids::{IdMap, IdSet},
    store::{Due, Store},
};

/// Attempts in a row that ended with their process, from which on a run may be the cause; fewer when fewer are allowed.
const SUSPICIOUS: u32 = 2;
/// How long the process must have been up before such a run is taken up again. Whatever else takes processes down in quick
/// succession (an operator, a full memory) does not meet it meanwhile.
const PROBATION: Duration = Duration::from_secs(5);

/// Due runs. Only a window of them is in memory; the rest wait in the store and are fetched when it runs low.
pub(crate) struct DueQueue {
    state: Mutex<State>,
    arrived: Notify,
    window: usize,
    store: Arc<dyn Store>,
    begun: Instant,
    /// How many lost attempts make a suspect. Beyond these a run is not tried again.
    suspicious: Range<u32>,
    /// One suspect is under way at a time, so that its crash counts against no other.
    alone: Arc<Semaphore>,
    suspected: Notify,
}

/// A due run that was taken from the queue.
pub(crate) struct Taken {
    pub(crate) due: Due,
    /// Held by a suspect while it may still take the process down.
    pub(crate) alone: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct State {
    /// Runs by root; the roots in `turns` are exactly the keys.
    by_root: IdMap<VecDeque<Due>>,
    turns: VecDeque<Uuid>,
    waiting: usize,
    /// Runs that were under way at several crashes.
    suspects: VecDeque<Due>,
    /// Waiting here, or claimed and not ended: not to be entered again.
    known: IdSet,
    /// Runs with ids above this one may wait in the store alone.
    overflow: Option<Uuid>,
    fetching: bool,
}

impl DueQueue {
    /// A queue that begins with whatever the store has open.
    pub(crate) fn new(store: Arc<dyn Store>, window: usize, lost_max: u32) -> Self {
        let state = State { overflow: Some(Uuid::nil()), ..State::default() };
        Self {
            state: Mutex::new(state),
            arrived: Notify::new(),
            window: window.max(1),
            store,
            begun: Instant::now(),
            suspicious: SUSPICIOUS.min(lost_max.saturating_sub(1)).max(1)..lost_max,
            alone: Arc::new(Semaphore::new(1)),
            suspected: Notify::new(),
        }
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
            Some(_) | None => state.enter(due, &self.suspicious),
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// The next run, of the root whose turn it is. Waits for one.
    ///
    /// # Cancel safety
    /// A dropped call takes nothing.
    pub(crate) async fn pop(&self) -> Taken {
        // Else a full queue of others would keep them waiting.
        if self.begun.elapsed() >= PROBATION
            && let Ok(alone) = Arc::clone(&self.alone).try_acquire_owned()
            && let Some(due) = self.state().suspects.pop_front()
        {
            return Taken { due, alone: Some(alone) };
        }
        tokio::select! {
            biased;
            due = self.pop_fresh() => Taken { due, alone: None },
            suspect = self.pop_suspect() => suspect,
        }
    }

    async fn pop_fresh(&self) -> Due {
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

    async fn pop_suspect(&self) -> Taken {
        loop {
            let suspected = self.suspected.notified();
            if !self.state().suspects.is_empty() {
                tokio::time::sleep_until(self.begun + PROBATION).await;
                // The semaphore is never closed.
                let alone = Arc::clone(&self.alone).acquire_owned().await.ok();
                if let Some(due) = self.state().suspects.pop_front() {
                    self.suspected.notify_one();
                    return Taken { due, alone };
                }
            }
            suspected.await;
        }
    }

    /// A run has ended or was given up.
    pub(crate) fn ended(&self, run: Uuid) {
        self.state().known.remove(&run);
    }

    /// How many are in memory.
    pub(crate) fn len(&self) -> usize {
        let state = self.state();
        state.waiting + state.suspects.len()
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
            let is_full = state.suspects.len() >= self.window;
            let Some(after) = state.overflow.filter(|_| !state.fetching && !is_full) else { return false };
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
                    state.enter(due, &self.suspicious);
                }
                let suspected = !state.suspects.is_empty();
                drop(state);
                self.arrived.notify_one();
                if suspected {
                    self.suspected.notify_one();
                }
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
    fn enter(&mut self, due: &Due, suspicious: &Range<u32>) {
        if !self.known.insert(due.id) {
            return;
        }
        if suspicious.contains(&due.lost) {
            self.suspects.push_back(due.clone());
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
