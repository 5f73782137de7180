//! A store on a disk that is only simulated: it crashes, fails and fills up by a seed, and outlives the stores that are opened on it.
//!
//! The rules above the disk (commits, claims, events, the cache, recovery) are those of every store. The committer is a task of the
//! executor that the store is opened in, so that with one thread, a paused clock and one seed everything happens again in the same
//! order.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use imbl::OrdMap;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::Notify;
use walkabout_schema::Walker;

use super::{
    Error, Limits, Result, Store,
    kv::{
        KvStore, check,
        codec::{self, Live},
        engine::{Bytes, Engine, Pair, Range, SPACES, Space, View, Write},
        keys, look,
    },
    memory::{Maps, MemoryEngine, write},
};

/// How often something goes wrong: once in so many, or never when 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Batches at which the process ends, before or after the batch is written.
    pub crash: u32,
    /// Batches that fail, written or not.
    pub error: u32,
    /// Looks at the free room from which on there is none for a while.
    pub full: u32,
    /// Writes that wait for up to a second.
    pub slow: u32,
    /// Batches after which everything on the disk is checked.
    pub check: u32,
}

/// The disk. A cheap handle.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    crashed: Arc<Notify>,
}

struct State {
    rng: StdRng,
    faults: Faults,
    /// What outlives a power loss.
    durable: Maps,
    /// What was written since the last sync, in order.
    unsynced: Vec<Vec<Write>>,
    is_crashed: bool,
    is_failed: bool,
    /// Looks at the free room that still find none.
    full_for: u32,
    /// Stores opened so far: who comes from an earlier one writes no more.
    opened: u64,
    batches: u64,
    /// The highest that was written with success. A power loss must not take it back: tokens begin with it.
    epoch: u64,
    log: Vec<String>,
    violation: Option<String>,
}

impl State {
    fn roll(&mut self, one_in: u32) -> bool {
        one_in > 0 && self.rng.random_range(0..one_in) == 0
    }

    fn image(&self) -> Maps {
        let mut image = self.durable.clone();
        for batch in &self.unsynced {
            write(&mut image, batch.clone());
        }
        image
    }

    fn note(&mut self, what: &str) {
        let line = format!("batch {}: {what}", self.batches);
        self.log.push(line);
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            faults: Faults::default(),
            durable: SPACES.iter().map(|(space, _)| (*space, OrdMap::new())).collect(),
            unsynced: Vec::new(),
            is_crashed: false,
            is_failed: false,
            full_for: 0,
            opened: 0,
            batches: 0,
            epoch: 0,
            log: Vec::new(),
            violation: None,
        };
        Self { state: Arc::new(Mutex::new(state)), crashed: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Opens the store on it, with a committer in the present executor. Stores that were opened before are as gone as a process.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it crashes meanwhile.
    pub fn open(&self, limits: Limits) -> Result<Arc<dyn Store>> {
        let (live, number) = {
            let mut state = self.state();
            (state.is_crashed, state.is_failed, state.full_for) = (false, false, 0);
            state.opened += 1;
            (MemoryEngine::with(state.image()), state.opened)
        };
        let engine = SimEngine { disk: self.clone(), live, number };
        let found = look(&engine)?;
        let disk = self.clone();
        let lag = move || {
            let mut state = disk.state();
            let slow = state.faults.slow;
            if state.roll(slow) {
                Duration::from_millis(state.rng.random_range(1..1000))
            } else {
                Duration::ZERO
            }
        };
        Ok(Arc::new(KvStore::start_inline(Box::new(engine), &found, limits, lag)?))
    }

    /// True from the moment at which the process is to be gone, until the next opening. What is answered after it, nobody hears.
    pub fn is_crashed(&self) -> bool {
        self.state().is_crashed
    }

    /// True once a write has failed: the process is to end.
    pub fn is_failed(&self) -> bool {
        self.state().is_failed
    }

    /// Waits until the process is to be gone.
    pub async fn crashed(&self) {
        loop {
            let crashed = self.crashed.notified();
            if self.is_crashed() {
                return;
            }
            crashed.await;
        }
    }

    /// The power goes: some of the last batches that were not synced go too. Gives how many.
    pub fn lose_power(&self) -> usize {
        let mut state = self.state();
        let all = state.unsynced.len();
        let kept = state.rng.random_range(0..=all);
        let lost = all - kept;
        state.unsynced.truncate(kept);
        let image = state.image();
        (state.durable, state.unsynced) = (image, Vec::new());
        lost
    }

    /// Checks that everything on it agrees with itself.
    ///
    /// # Errors
    /// [`Error::Damaged`] with what is wrong.
    pub fn check(&self) -> Result<usize> {
        check::check(&self.state().image())
    }

    /// What a check after a batch found wrong.
    pub fn violation(&self) -> Option<String> {
        self.state().violation.clone()
    }

    /// What was made to go wrong since the last call.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }
}

/// What one opened store sees of the disk.
struct SimEngine {
    disk: Disk,
    live: MemoryEngine,
    number: u64,
}

/// What becomes of one batch.
enum Fate {
    Written,
    Lost,
    WrittenInVain,
}

impl SimEngine {
    fn fate(&self, state: &mut State) -> Fate {
        let Faults { crash, error, .. } = state.faults;
        if state.roll(crash) {
            state.is_crashed = true;
            self.disk.crashed.notify_waiters();
        } else if state.roll(error) {
            state.is_failed = true;
        } else {
            return Fate::Written;
        }
        let is_written = state.rng.random_bool(0.5);
        let what = if state.is_crashed { "crash" } else { "error" };
        state.note(&format!("{what}, written: {is_written}"));
        if is_written { Fate::WrittenInVain } else { Fate::Lost }
    }
}

/// What the disk sees of runs, whoever writes: tokens and attempts only rise, lost attempts are counted, and what has ended stays so.
impl SimEngine {
    fn watch(&self, state: &mut State, batch: &[Write]) -> std::result::Result<(), String> {
        let broken = |error: Error| error.to_string();
        for (space, key, value) in batch {
            let Some(value) = value else { continue };
            match space {
                Space::Meta if key == keys::META_EPOCH => {
                    let epoch = value.as_slice().try_into().map(u64::from_be_bytes).unwrap_or_default();
                    if epoch <= state.epoch {
                        return Err(format!("epoch {epoch} after epoch {}", state.epoch));
                    }
                    state.epoch = epoch;
                }
                Space::Live => {
                    let new: Live = codec::decode(value).map_err(broken)?;
                    let stands =
                        |write: &Write| write.0 == Space::Checkpoint && write.1 == *key && write.2.is_some();
                    let passed = Passed { epoch: state.epoch, checkpoint: batch.iter().any(stands) };
                    match self.live.get(Space::Live, key).map_err(broken)? {
                        Some(old) => follows(&codec::decode(&old).map_err(broken)?, &new, passed)?,
                        None => self.is_new(key)?,
                    }
                }
                Space::Walker => match self.live.get(Space::Live, key).map_err(broken)? {
                    Some(old) => {
                        // It may have reached a checkpoint and have been cancelled there: that goes with the end.
                        let stood = batch.iter().any(|write| write.0 == Space::Checkpoint && write.1 == *key);
                        let (old, walker) = (codec::decode(&old), codec::decode(value));
                        ends(&old.map_err(broken)?, &walker.map_err(broken)?, stood)?;
                    }
                    None => self.is_new(key)?,
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// A run that has a record and is not open has ended.
    fn is_new(&self, key: &[u8]) -> std::result::Result<(), String> {
        match self.live.get(Space::Walker, key) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(format!("a run is written after its end: {key:02x?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What a batch says beside the live part of a run.
struct Passed {
    /// Of the store that writes it.
    epoch: u64,
    /// The run stands at a checkpoint.
    checkpoint: bool,
}

/// The last record of a run, and its live part before; whether it may have stood at a checkpoint between.
fn ends(old: &Live, walker: &Walker, stood: bool) -> std::result::Result<(), String> {
    if walker.run.lost == old.lost || (stood && walker.run.lost == 0) {
        return Ok(());
    }
    Err(format!("{} lost attempts in the last record: {old:?}", walker.run.lost))
}

fn follows(old: &Live, new: &Live, passed: Passed) -> std::result::Result<(), String> {
    let (before, after) = (old.token(), new.token());
    let is_lost = old.state.is_under_way() && new.epoch > old.epoch;
    // Also when it is held in place of being taken up.
    let is_let_go = old.state.is_under_way() && old.epoch < passed.epoch && !new.state.is_under_way();
    let lost = if passed.checkpoint { 0 } else { old.lost + u32::from(is_lost || is_let_go) };
    let checks = [
        ((after.epoch, after.counter) >= (before.epoch, before.counter), "a token after a higher one"),
        (new.attempt >= old.attempt, "an earlier attempt"),
        (new.lost == lost, "other than the attempts that went with their processes since a checkpoint"),
        (!is_lost || new.attempt == old.attempt + 1, "an attempt that went with its process goes on"),
        (new.seq >= old.seq, "an earlier event"),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, what)) => Err(format!("{what}: {old:?}, then {new:?}")),
        None => Ok(()),
    }
}

fn gone() -> Error {
    Error::Unavailable("the simulated disk takes no writes".to_owned())
}

impl View for SimEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        self.live.get(space, key)
    }

    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<Pair>> {
        self.live.scan(space, range, reverse, limit)
    }
}

impl Engine for SimEngine {
    fn snapshot(&self) -> Arc<dyn View> {
        self.live.snapshot()
    }

    fn apply(&self, batch: Vec<Write>, sync: bool) -> Result<()> {
        let mut state = self.disk.state();
        if state.is_crashed || state.is_failed || self.number != state.opened {
            return Err(gone());
        }
        state.batches += 1;
        let fate = self.fate(&mut state);
        if matches!(fate, Fate::Lost) {
            return Err(gone());
        }
        state.unsynced.push(batch.clone());
        if matches!(fate, Fate::WrittenInVain) {
            return Err(gone());
        }
        if let Err(what) = self.watch(&mut state, &batch) {
            let what = format!("batch {}: {what}", state.batches);
            state.violation.get_or_insert(what);
        }
        self.live.apply(batch, sync)?;
        if sync {
            for batch in std::mem::take(&mut state.unsynced) {
                write(&mut state.durable, batch);
            }
        }
        let check = state.faults.check;
        if check > 0 && state.batches.is_multiple_of(u64::from(check)) {
            check::check(&self.live).inspect_err(|error| {
                let what = format!("batch {}: {error}", state.batches);
                state.violation.get_or_insert(what);
            })?;
        }
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        let mut state = self.disk.state();
        let full = state.faults.full;
        if state.full_for > 0 {
            state.full_for -= 1;
        } else if state.roll(full) {
            state.full_for = state.rng.random_range(1..6);
            state.note("full");
        }
        Some(if state.full_for > 0 { 0 } else { u64::MAX })
    }

    fn close(&self, _group: u64) -> Result<()> {
        Ok(())
    }
}
