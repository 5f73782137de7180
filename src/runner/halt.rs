//! How an attempt is told to stop, and what is done when it does not.
//!
//! Whoever wants an attempt to end asks its [`UnderWay`]. The attempt looks at the begin of every visit, and an ability that awaits
//! is dropped there. The [`Timekeeper`] asks when a deadline passes, and gives those to its caller that did not stop in time: their
//! runs are ended or let go without them, and whatever they still want to write is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, oneshot};
use uuid::Uuid;
use walkabout_schema::{ErrorCode, Timestamp, WalkerId};

use super::{Ended, RunRef};
use crate::{
    env::Env,
    walker::{Failure, Model, Retry, Spec},
};

/// How long an attempt has to notice that its time is over, before it is ended without it.
const LATE: Duration = Duration::from_secs(1);

/// Why an attempt has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody asked for it.
    Cancel,
    /// The run's deadline is over.
    RunTime(Timestamp),
    /// One visit took longer than this.
    VisitTime(Duration),
    /// It reached no checkpoint in time where it could rest.
    Rest(Rest),
}

/// Why an attempt should stop at its next checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Somebody wants the run to be held.
    Pause,
    /// The process stops.
    Stop,
}

impl End {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Cancel | Self::Rest(_) => ErrorCode::Cancelled,
            Self::RunTime(_) | Self::VisitTime(_) => ErrorCode::TimedOut,
        }
    }

    pub(crate) fn sentence(self) -> String {
        match self {
            Self::Cancel => "the run was cancelled".to_owned(),
            Self::RunTime(deadline) => format!("the run had not ended by its deadline {deadline}"),
            Self::VisitTime(bound) => {
                format!("a visit took longer than the {} s that it may", bound.as_secs_f64())
            }
            Self::Rest(_) => "the attempt was interrupted".to_owned(),
        }
    }
}

/// An attempt under way, as others see it.
pub(crate) struct UnderWay {
    pub(crate) run: Option<RunRef>,
    /// What follows when it fails.
    pub(crate) retry: Retry,
    /// What its walker says that JSON of its own is.
    pub(crate) model: Option<Model>,
    /// Attempts of the run that failed before this one.
    pub(crate) retries: u32,
    /// That of the run.
    deadline: Option<Timestamp>,
    visit_timeout: Option<Duration>,
    visit_began: AtomicI64,
    halt: Arc<Halt>,
    /// Of a plain walker.
    pub(crate) door: Door,
}

/// What was asked of an attempt, and may be asked before it has begun.
#[derive(Default)]
pub(crate) struct Halt {
    /// What was asked, to be looked at without the lock.
    flags: AtomicU8,
    asked: Mutex<Asked>,
    told: Notify,
}

const END: u8 = 1;
const REST: u8 = 2;
/// What `visit_began` holds between attempts.
const NOT_YET: i64 = i64::MAX;

#[derive(Default)]
struct Asked {
    end: Option<End>,
    rest: Option<Rest>,
    /// When the attempt is ended without it, or a rest becomes an end.
    until: Option<Timestamp>,
    /// The last word about a pause that was heard. Words come in any order.
    heard: u64,
}

impl UnderWay {
    pub(crate) fn new(
        spec: &Spec,
        run: Option<RunRef>,
        retries: u32,
        deadline: Option<Timestamp>,
        halt: Arc<Halt>,
    ) -> Self {
        Self {
            run,
            retry: spec.retry.clone(),
            model: spec.model().copied(),
            retries,
            deadline,
            visit_timeout: spec.visit_timeout,
            visit_began: AtomicI64::new(NOT_YET),
            halt,
            door: Door::default(),
        }
    }

    /// That of the run.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Its end, when its deadline is over. The timekeeper need not have looked yet.
    pub(crate) fn over(&self, now: Timestamp) -> Option<End> {
        self.deadline.filter(|deadline| *deadline <= now).map(End::RunTime)
    }

    /// True when a plain walker's time has to be kept: that of a run always is, as others may ask for its end.
    pub(crate) fn is_timed(&self) -> bool {
        self.run.is_some() || self.deadline.is_some() || self.visit_timeout.is_some()
    }

    /// A visit begins. Cheap when nobody wants to know.
    pub(crate) fn visit(&self, now: impl FnOnce() -> Timestamp) {
        if self.visit_timeout.is_some() {
            self.visit_began.store(now().millis(), Ordering::Relaxed);
        }
    }

    /// No visit is under way.
    pub(crate) fn pass(&self) {
        self.visit_began.store(NOT_YET, Ordering::Relaxed);
    }

    /// When the timekeeper has to look at it next.
    fn looks_at(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = self.asked();
        if asked.end.is_some() {
            return asked.until;
        }
        let visit = self.visit_timeout.map(|bound| {
            let began = self.visit_began.load(Ordering::Relaxed);
            if began == NOT_YET { now.plus(bound) } else { Timestamp::from_millis(began).plus(bound) }
        });
        asked.until.into_iter().chain(self.deadline).chain(visit).min()
    }

    /// Asks for what is due by now; gives why the attempt has to be ended without it.
    fn look(&self, now: Timestamp) -> Option<End> {
        let (end, rest, until) = {
            let asked = self.asked();
            (asked.end, asked.rest, asked.until)
        };
        let is_late = until.is_some_and(|until| until <= now);
        if end.is_some() {
            return end.filter(|_| is_late);
        }
        if let Some(end) = self.over(now) {
            self.ask_end(end, now.plus(LATE));
        } else if let Some(rest) = rest.filter(|_| is_late) {
            self.ask_end(End::Rest(rest), now.plus(LATE));
        } else if let Some(bound) = self.visit_timeout {
            let began = Timestamp::from_millis(self.visit_began.load(Ordering::Relaxed));
            if began.millis() != NOT_YET && began.plus(bound) <= now {
                self.ask_end(End::VisitTime(bound), now.plus(LATE));
            }
        }
        None
    }
}

impl Deref for UnderWay {
    type Target = Halt;
    fn deref(&self) -> &Halt {
        &self.halt
    }
}

impl Halt {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the attempt has to end now.
    pub(crate) fn end(&self) -> Option<End> {
        if self.flags.load(Ordering::Acquire) & END == 0 { None } else { self.asked().end }
    }

    /// Why the attempt should stop at a checkpoint.
    pub(crate) fn rest(&self) -> Option<Rest> {
        if self.flags.load(Ordering::Acquire) & REST == 0 { None } else { self.asked().rest }
    }

    /// Ends once the attempt has to.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn halted(&self) -> End {
        loop {
            let told = self.told.notified();
            if let Some(end) = self.end() {
                return end;
            }
            told.await;
        }
    }

    /// Asks for the end. The first reason stands.
    fn ask_end(&self, end: End, until: Timestamp) {
        let mut asked = self.asked();
        if asked.end.is_none() {
            (asked.end, asked.until) = (Some(end), Some(until));
            self.flags.fetch_or(END, Ordering::Release);
            self.told.notify_waiters();
        }
    }

    fn ask_rest(&self, rest: Rest, until: Timestamp) {
        let mut asked = self.asked();
        // Who is asked again has no more time than before.
        let is_new = asked.rest.is_none() || (asked.rest, rest) == (Some(Rest::Pause), Rest::Stop);
        if asked.end.is_none() && is_new {
            (asked.rest, asked.until) = (Some(rest), Some(until));
            self.flags.fetch_or(REST, Ordering::Release);
        }
    }

    /// A pause is wanted, or no longer: by a word of this number.
    fn ask_pause(&self, until: Option<Timestamp>, said: u64) {
        let mut asked = self.asked();
        if said < asked.heard {
            return;
        }
        asked.heard = said;
        drop(asked);
        match until {
            Some(until) => self.ask_rest(Rest::Pause, until),
            None => self.withdraw(),
        }
    }

    /// A pause is no longer wanted.
    fn withdraw(&self) {
        let mut asked = self.asked();
        if asked.rest == Some(Rest::Pause) && asked.end.is_none() {
            (asked.rest, asked.until) = (None, None);
            self.flags.fetch_and(!REST, Ordering::Release);
        }
    }
}

/// Between a plain walker's commit and the answer to its caller, of whom only one may be: there is no token that the store could look
/// at.
#[derive(Default)]
pub(crate) struct Door {
    state: Mutex<DoorState>,
    answer: Mutex<Option<oneshot::Sender<Result<Ended, Failure>>>>,
}

#[derive(Default, PartialEq)]
enum DoorState {
    #[default]
    Open,
    /// A commit is on its way through.
    InUse,
    Closed,
}

impl Door {
    fn state(&self) -> MutexGuard<'_, DoorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who waits for the walker.
    pub(crate) fn answer_to(&self, answer: oneshot::Sender<Result<Ended, Failure>>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// Answers who waits, once.
    pub(crate) fn answer(&self, result: Result<Ended, Failure>) {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answer) = answer {
            // Nobody waits any more when the caller is gone; the walker has run all the same.
            drop(answer.send(result));
        }
    }

    /// Lets a commit through, unless the door is closed. [`Door::leave`] follows.
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.state();
        if *state == DoorState::Closed {
            return false;
        }
        *state = DoorState::InUse;
        true
    }

    pub(crate) fn leave(&self) {
        *self.state() = DoorState::Open;
    }

    /// Closes the door for good, unless a commit is on its way through.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.state();
        if *state == DoorState::InUse {
            return false;
        }
        *state = DoorState::Closed;
        true
    }
}

/// All attempts under way, and when something has to be done about which. A cheap handle.
#[derive(Clone, Default)]
pub(crate) struct Timekeeper {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    kept: Mutex<Kept>,
    changed: Notify,
}

/// Bounded by the attempts under way.
#[derive(Default)]
struct Kept {
    next: u64,
    all: BTreeMap<u64, Kin>,
    /// By run: mostly one, more while an entry of the due queue turns out to be an old one.
    by_run: BTreeSet<(Uuid, u64)>,
    times: BTreeSet<(Timestamp, u64)>,
    /// The process stops: attempts have until then.
    stops: Option<Timestamp>,
}

struct Kin {
    run: Option<Uuid>,
    halt: Arc<Halt>,
    /// None before the attempt has begun.
    under_way: Option<Arc<UnderWay>>,
    /// Its place in `times`.
    at: Option<Timestamp>,
}

/// The place of an attempt that is about to begin or under way, until it is dropped.
pub(crate) struct Entry {
    keeper: Timekeeper,
    serial: u64,
    /// What is asked of it.
    pub(crate) halt: Arc<Halt>,
}

impl Entry {
    /// The attempt begins.
    pub(crate) fn begin(&self, under_way: &Arc<UnderWay>, now: Timestamp) {
        let mut kept = self.keeper.kept();
        if let Some(kin) = kept.all.get_mut(&self.serial) {
            kin.under_way = Some(Arc::clone(under_way));
        }
        let is_first = kept.arrange(self.serial, now);
        drop(kept);
        if is_first {
            self.keeper.inner.changed.notify_one();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.keeper.kept().remove(self.serial);
    }
}

impl Timekeeper {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for an attempt. That of a run is taken before the run is claimed: so nothing that is asked of it is missed.
    pub(crate) fn enter(&self, run: Option<Uuid>) -> Entry {
        let halt = Arc::<Halt>::default();
        let mut kept = self.kept();
        kept.next += 1;
        let serial = kept.next;
        if let Some(until) = kept.stops.filter(|_| run.is_some()) {
            halt.ask_rest(Rest::Stop, until);
        }
        kept.all.insert(serial, Kin { run, halt: Arc::clone(&halt), under_way: None, at: None });
        if let Some(run) = run {
            kept.by_run.insert((run, serial));
        }
        Entry { keeper: self.clone(), serial, halt }
    }

    /// Asks the attempt of a run for its end; it has until then.
    pub(crate) fn cancel(&self, run: Uuid, until: Timestamp) {
        self.ask(run, |halt| halt.ask_end(End::Cancel, until));
    }

    /// Asks the attempt of a run to stop at a checkpoint; it has until then. Of this and [`Timekeeper::withdraw`] the one that was said
    /// last counts, whichever comes first.
    pub(crate) fn pause(&self, run: Uuid, until: Timestamp, said: u64) {
        self.ask(run, |halt| halt.ask_pause(Some(until), said));
    }

    /// Tells the attempt of a run that no pause is wanted any more.
    pub(crate) fn withdraw(&self, run: Uuid, said: u64) {
        self.ask(run, |halt| halt.ask_pause(None, said));
    }

    fn ask(&self, run: Uuid, ask: impl Fn(&Halt)) {
        let mut kept = self.kept();
        let serials: Vec<u64> =
            kept.by_run.range((run, 0)..=(run, u64::MAX)).map(|(_, serial)| *serial).collect();
        for serial in serials {
            if let Some(kin) = kept.all.get(&serial) {
                ask(&kin.halt);
            }
            kept.arrange(serial, Timestamp::default());
        }
        drop(kept);
        self.inner.changed.notify_one();
    }

    /// Asks all attempts of runs, also those that begin later, to stop at a checkpoint; they have until then. Gives the runs under way.
    pub(crate) fn stop(&self, until: Timestamp) -> Vec<WalkerId> {
        let mut kept = self.kept();
        kept.stops = Some(until);
        let serials: Vec<u64> = kept.by_run.iter().map(|(_, serial)| *serial).collect();
        let mut told = Vec::with_capacity(serials.len());
        for serial in serials {
            let Some(kin) = kept.all.get(&serial) else { continue };
            kin.halt.ask_rest(Rest::Stop, until);
            let run = kin.under_way.as_ref().and_then(|under_way| under_way.run.as_ref());
            told.extend(run.map(|run| run.id.clone()));
            kept.arrange(serial, Timestamp::default());
        }
        drop(kept);
        self.inner.changed.notify_one();
        told.sort_unstable();
        told
    }

    /// The runs whose attempts are about to begin or under way.
    pub(crate) fn runs(&self) -> Vec<Uuid> {
        let mut runs: Vec<Uuid> = self.kept().by_run.iter().map(|(run, _)| *run).collect();
        runs.dedup();
        runs
    }

    /// How many attempts of runs are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.kept().by_run.len()
    }

    /// Ends when something has to be looked at.
    pub(crate) async fn wait(&self, env: &Env) {
        loop {
            let changed = self.inner.changed.notified();
            let first = self.kept().times.first().map(|(at, _)| *at);
            match first {
                None => changed.await,
                Some(at) if at <= env.now() => break,
                Some(at) => tokio::select! {
                    biased;
                    () = env.sleep_until(at) => {}
                    () = changed => {}
                },
            }
        }
    }

    /// Looks at the attempts whose time has come; gives those that have to be ended without them, which are no longer kept then.
    pub(crate) fn look(&self, now: Timestamp) -> Vec<(Arc<UnderWay>, End)> {
        let mut late = Vec::new();
        let mut kept = self.kept();
        while let Some((at, serial)) = kept.times.first().copied().filter(|(at, _)| *at <= now) {
            kept.times.remove(&(at, serial));
            let Some(kin) = kept.all.get_mut(&serial) else { continue };
            kin.at = None;
            let Some(under_way) = kin.under_way.clone() else { continue };
            match under_way.look(now) {
                // The commit of a plain walker is under way, and ends soon.
                Some(_) if under_way.run.is_none() && !under_way.door.close() => {
                    under_way.asked().until = Some(now.plus(LATE));
                    kept.arrange(serial, now);
                }
                Some(end) => {
                    kept.remove(serial);
                    late.push((under_way, end));
                }
                None => drop(kept.arrange(serial, now)),
            }
        }
        late
    }
}

impl Kept {
    /// Notes when an attempt is to be looked at. True when that is before all others.
    fn arrange(&mut self, serial: u64, now: Timestamp) -> bool {
        let Some(kin) = self.all.get_mut(&serial) else { return false };
        let looks_at = kin.under_way.as_ref().and_then(|under_way| under_way.looks_at(now));
        let before = std::mem::replace(&mut kin.at, looks_at);
        let after = kin.at;
        if let Some(at) = before {
            self.times.remove(&(at, serial));
        }
        let Some(at) = after else { return false };
        self.times.insert((at, serial));
        self.times.first() == Some(&(at, serial))
    }

    fn remove(&mut self, serial: u64) {
        let Some(kin) = self.all.remove(&serial) else { return };
        if let Some(at) = kin.at {
            self.times.remove(&(at, serial));
        }
        if let Some(run) = kin.run {
            self.by_run.remove(&(run, serial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_words_about_a_pause_the_last_one_counts_in_whatever_order_they_come() {
        let (keeper, run, until) = (Timekeeper::default(), Uuid::from_u128(1), Timestamp::default());
        let entry = keeper.enter(Some(run));
        // Pause, resume, pause: each is told by a task of its own.
        keeper.pause(run, until, 2);
        keeper.pause(run, until, 4);
        keeper.withdraw(run, 3);
        assert_eq!(entry.halt.rest(), Some(Rest::Pause));
        keeper.withdraw(run, 7);
        keeper.pause(run, until, 6);
        assert_eq!(entry.halt.rest(), None);
        keeper.pause(run, until, 8);
        assert_eq!(entry.halt.rest(), Some(Rest::Pause));
    }
}
