//! The due queue: roots take turns; who was under way at two crashes waits apart; who is due later waits for the clock.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant},
};
use uuid::Uuid;
use walkabout_schema::Timestamp;

use crate::{
    env::Env,
    ids::IdMap,
    store::{Due, LOOK_AGAIN, OpenRuns, Result, Store},
};

/// Attempts in a row that ended with their process, from which on a run may be the cause; fewer when fewer are allowed.
const SUSPICIOUS: u32 = 2;
/// How long the process must have been up before such a run is taken up again. Whatever else takes processes down in quick
/// succession (an operator, a full memory) does not meet it meanwhile.
const PROBATION: Duration = Duration::from_secs(5);

/// How many runs are asked of the store at once.
const PAGE: usize = 4096;

#[cfg(test)]
mod refused;
#[cfg(test)]
mod suspects;

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
    /// Another sleeper is the first.
    resorted: Notify,
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
    /// Waiting here, or claimed and not ended. What comes for such a run meanwhile is entered when that has ended.
    known: IdMap<Option<Due>>,
    /// Runs with ids above this one may wait in the store alone.
    overflow: Option<Uuid>,
    /// A lower bound for `overflow` that came up while a fetch was under way.
    lowered: Option<Uuid>,
    fetching: bool,
    /// Runs that are due later, each with its root.
    sleepers: BTreeMap<(Timestamp, Uuid), Uuid>,
    /// Those that are due after this one may be in the store alone.
    sleeping: Option<(Timestamp, Uuid)>,
    /// How often all sleepers were wanted again.
    looks: u64,
    /// Sleepers are being fetched, as they were when that began. Until then none is put out of memory.
    fetching_sleepers: bool,
}

impl DueQueue {
    /// A queue that begins with whatever the store has open.
    pub(crate) fn new(store: Arc<dyn Store>, window: usize, lost_max: u32) -> Self {
        let state = State { overflow: Some(Uuid::nil()), sleeping: Some(beginning()), ..State::default() };
        Self {
            resorted: Notify::new(),
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

    /// Adds a run that was just stored, or let go.
    pub(crate) fn push(&self, due: &Due, now: Timestamp) {
        let mut state = self.state();
        // Who waited is found by its time alone: the next look for queued runs would not find it.
        let is_queued = due.at == Timestamp::default();
        let is_crowded = state.overflow.is_some() || state.waiting >= self.window;
        if due.at > now || (!is_queued && is_crowded) {
            if state.sleep(due, self.window) {
                drop(state);
                self.resorted.notify_one();
            }
            return;
        }
        self.add(&mut state, due);
        let suspected = !state.suspects.is_empty();
        drop(state);
        self.arrived.notify_one();
        if suspected {
            self.suspected.notify_one();
        }
    }

    fn add(&self, state: &mut State, due: &Due) {
        let before = Uuid::from_u128(due.id.as_u128().saturating_sub(1));
        match state.overflow {
            // The next fetch finds it. Not so while a fetch is under way, or below its cursor: ids rise, but submissions race.
            Some(after) if due.id > after && !state.fetching => {}
            overflow if state.waiting >= self.window => {
                if state.fetching {
                    state.lowered = Some(state.lowered.map_or(before, |lowered| lowered.min(before)));
                } else {
                    state.overflow = Some(overflow.map_or(before, |after| after.min(before)));
                }
            }
            _ => state.enter(due, &self.suspicious),
        }
    }

    /// Waits until the clock has reached sleepers, and lets them in. For one caller, again and again.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    pub(crate) async fn wake(&self, env: &Env) {
        let resorted = self.resorted.notified();
        if !self.fetch_sleepers().await {
            return tokio::time::sleep(LOOK_AGAIN).await;
        }
        let first = {
            let state = self.state();
            let has_room = self.lets_in(&state);
            state.sleepers.first_key_value().map(|((at, _), _)| *at).filter(|_| has_room)
        };
        match first {
            None => resorted.await,
            Some(at) => tokio::select! {
                biased;
                () = env.sleep_until(at) => self.let_in(env.now()),
                () = resorted => {}
            },
        }
    }

    /// Sleepers have a window of their own, behind that of those who are due at once.
    fn lets_in(&self, state: &State) -> bool {
        state.waiting < self.window.saturating_mul(2)
    }

    fn let_in(&self, now: Timestamp) {
        let mut state = self.state();
        while self.lets_in(&state)
            && let Some(first) = state.sleepers.first_entry().filter(|first| first.key().0 <= now)
        {
            let ((at, id), root) = first.remove_entry();
            state.enter(&Due { id, root, lost: 0, at }, &self.suspicious);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Brings sleepers from the store into memory when none are left there. False when the store refuses.
    async fn fetch_sleepers(&self) -> bool {
        let (after, looks) = {
            let mut state = self.state();
            let Some(after) = state.sleeping.filter(|_| state.sleepers.is_empty()) else { return true };
            state.fetching_sleepers = true;
            (after, state.looks)
        };
        let page = self.window.min(PAGE);
        let found = self.store.sleepers(Some(after), page).await;
        let mut state = self.state();
        state.fetching_sleepers = false;
        match found {
            Ok(found) => {
                let last = found.last().filter(|_| found.len() >= page).map(|due| (due.at, due.id));
                // Some may have come into the store behind what was just read.
                state.sleeping = if looks == state.looks { last } else { Some(beginning()) };
                for due in &found {
                    state.sleepers.insert((due.at, due.id), due.root);
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "sleeping runs cannot be fetched");
                false
            }
        }
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
            match self.fetch().await {
                Ok(true) => {}
                Ok(false) => arrived.await,
                Err(error) => {
                    tracing::error!(%error, "due runs cannot be fetched");
                    // Whoever waits in the store alone arrives never.
                    drop(tokio::time::timeout(LOOK_AGAIN, arrived).await);
                }
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

    /// A run has ended or was let go; it is due again then.
    pub(crate) fn ended(&self, run: Uuid, again: &[Due], now: Timestamp) {
        let missed = self.state().known.remove(&run).flatten();
        for due in missed.iter().chain(again) {
            self.push(due, now);
        }
    }

    /// Others may have left due runs in the store: they are fetched when none are left in memory.
    pub(crate) fn look_again(&self) {
        let mut state = self.state();
        if state.fetching {
            state.lowered = Some(Uuid::nil());
        } else {
            state.overflow = Some(Uuid::nil());
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// As [`DueQueue::look_again`], for runs that sleep as well.
    pub(crate) fn look_at_all(&self) {
        {
            let mut state = self.state();
            // What is here now is in the store too.
            state.sleepers.clear();
            state.sleeping = Some(beginning());
            state.looks += 1;
        }
        self.resorted.notify_one();
        self.look_again();
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
            if state.waiting == self.window {
                // Sleepers may have found no room.
                self.resorted.notify_one();
            }
        }
        run
    }

    /// Fetches a window from the store when some wait there. True when `pop` should look again.
    ///
    /// # Cancel safety
    /// After a dropped call the next one fetches the same.
    async fn fetch(&self) -> Result<bool> {
        let after = {
            let mut state = self.state();
            let is_full = state.suspects.len() >= self.window;
            let Some(after) = state.overflow.filter(|_| !state.fetching && !is_full) else {
                return Ok(false);
            };
            state.fetching = true;
            after
        };
        let mut under_way = Fetch { queue: self, is_over: false };
        // Of the nil id nothing can be before.
        let after = Some(after).filter(|after| !after.is_nil());
        let fetched = self.store.open_runs(after, self.window.min(PAGE)).await;
        let mut state = self.state();
        (state.fetching, under_way.is_over) = (false, true);
        let OpenRuns { due: mut runs, next } = fetched?;
        state.overflow = [next, state.lowered.take()].into_iter().flatten().min();
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
        Ok(true)
    }
}

/// A fetch that may be given up.
struct Fetch<'a> {
    queue: &'a DueQueue,
    is_over: bool,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.queue.state().fetching = false;
        }
    }
}

/// Before every sleeper.
fn beginning() -> (Timestamp, Uuid) {
    (Timestamp::from_millis(i64::MIN), Uuid::nil())
}

impl State {
    /// Adds a run that is due later. True when it is the first one.
    fn sleep(&mut self, due: &Due, window: usize) -> bool {
        let key = (due.at, due.id);
        if self.sleeping.is_some_and(|after| key > after) && !self.fetching_sleepers {
            // The store has it.
            return self.sleepers.is_empty();
        }
        self.sleepers.insert(key, due.root);
        // While some are being fetched the bound is about to change.
        if self.sleepers.len() > window
            && !self.fetching_sleepers
            && let Some((last, _)) = self.sleepers.pop_last()
        {
            let before_last = self.sleepers.last_key_value().map(|(key, _)| *key);
            // Some that lay down during a fetch may be beyond the bound: others between are in the store alone.
            self.sleeping = self.sleeping.into_iter().chain(before_last.or(Some(last))).min();
        }
        self.sleepers.first_key_value().is_some_and(|(first, _)| *first == key)
    }

    fn enter(&mut self, due: &Due, suspicious: &Range<u32>) {
        if let Some(again) = self.known.get_mut(&due.id) {
            *again = Some(due.clone());
            return;
        }
        self.known.insert(due.id, None);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Limits, memory};

    fn now() -> Timestamp {
        Timestamp::from_millis(1000)
    }

    fn due(id: u128, at: i64) -> Due {
        Due { id: Uuid::from_u128(id), root: Uuid::nil(), lost: 0, at: Timestamp::from_millis(at) }
    }

    #[tokio::test]
    async fn who_waited_is_not_left_to_the_list_of_queued_runs() {
        let queue = DueQueue::new(memory::open(Limits::default()).unwrap(), 1, 3);
        let env = Env::manual(now(), 1);
        assert!(queue.fetch().await.unwrap() && queue.fetch_sleepers().await);
        // The second is beyond the window: from then on the store is asked for queued runs. The third is not one of these.
        queue.push(&due(1, 0), now());
        queue.push(&due(2, 0), now());
        queue.push(&due(3, 900), now());
        assert_eq!(queue.pop().await.due.id, due(1, 0).id);
        let come = async {
            let (taken, ()) = tokio::join!(queue.pop(), queue.wake(&env));
            taken.due.id
        };
        let come = tokio::time::timeout(Duration::from_secs(5), come).await;
        assert_eq!(come.ok(), Some(due(3, 0).id));
    }

    #[test]
    fn the_bound_of_sleepers_in_memory_never_rises_when_they_are_many() {
        let key = |at: i64| (Timestamp::from_millis(at), due(1, 0).id);
        // Two lay down beyond the bound while others were being fetched.
        let mut state = State { sleeping: Some(key(50)), fetching_sleepers: true, ..State::default() };
        for at in [60, 70] {
            state.sleep(&due(1, at), 2);
        }
        state.fetching_sleepers = false;
        state.sleep(&due(1, 10), 2);
        assert!(state.sleeping.is_some_and(|bound| bound <= key(50)), "{:?}", state.sleeping);
    }
}
