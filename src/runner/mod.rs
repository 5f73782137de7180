//! Claims runs and drives attempts.
//!
//! A runner takes a due run, drives its abilities through the traversal, and commits. It is the wall behind which a walker's
//! panic, error or endless loop stays: nothing of one attempt reaches another. After a conflict the attempt repeats by itself from
//! its last checkpoint.

mod attempt;
mod begun;
mod contention;
mod halt;
mod pool;
mod queue;
mod ready;
mod seat;
mod supervisor;
mod travel;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use serde_json::Value;
use uuid::Uuid;
use walkabout_schema::{
    Checkpoint, ErrorCode, EventKind, Fields, Kind, Level, Name, NodeId, Timestamp, Walker, WalkerId,
    wire::{Record, RecordPage},
};

pub(crate) use attempt::{Attempt, Book, Origin, RunRef, UPLOAD};
pub(crate) use begun::Begun;
pub(crate) use contention::{Contention, Turns};
pub(crate) use halt::{End, Entry, Rest, Timekeeper, UnderWay};
pub(crate) use pool::{Bounds, Ground, Job, Pool, Source};
pub(crate) use queue::{DueQueue, Taken};
pub(crate) use seat::Label;
pub(crate) use supervisor::Supervisor;
pub(crate) use travel::{Stop, travel};
use travel::{Top, due_of, event_of};
pub(crate) use turn::Turn;

use crate::{
    access::Subject,
    commit,
    config::Config,
    env::Env,
    files::{Files, Spool},
    graph::Graph,
    publish::{Runs, Sockets},
    registry::{Registry, WalkerType},
    run::retry::{self, Verdict},
    store::{self, Claim, Commit, Due, Finish, LOOK_AGAIN, Release, RunCommit, RunFilter, Store, Then},
    walk::{Location, Walk},
    walker::{AnyWalker, Context, Failure, Given, Response, Slot},
};

/// How often a run that found no room looks for some.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// What every attempt needs of the runtime.
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Registry,
    pub(crate) runs: Runs,
    pub(crate) sockets: Sockets,
    pub(crate) contention: Contention,
    pub(crate) keeper: Timekeeper,
    pub(crate) files: Arc<dyn Files>,
    #[cfg(feature = "mail")]
    pub(crate) mail: Option<crate::mail::Mailer>,
}

/// Where an attempt begins, on whose behalf.
pub(crate) struct Errand {
    pub(crate) kind: Arc<WalkerType>,
    pub(crate) actor: Uuid,
    pub(crate) admin: bool,
    pub(crate) entry: NodeId,
    pub(crate) client_id: Option<String>,
    /// Names the errand, over all its attempts. It is the id of the run, when there is a record.
    pub(crate) serial: Uuid,
    /// The files that a plain walker's caller sent, by their digests.
    pub(crate) uploads: Arc<BTreeMap<String, Spool>>,
    /// What the walker waited for.
    pub(crate) answer: Option<Value>,
    pub(crate) under_way: Arc<UnderWay>,
}

impl Errand {
    fn run(&self) -> Option<&RunRef> {
        self.under_way.run.as_ref()
    }
}

/// How an errand ended well.
pub(crate) struct Ended {
    pub(crate) status: u16,
    pub(crate) reports: Vec<Value>,
    /// What a plain walker gave in their place.
    pub(crate) response: Option<Response>,
}

/// How an errand ended otherwise.
pub(crate) enum Unended {
    Failed {
        failure: Failure,
        /// The fields that the walker had reached, or those of its last checkpoint.
        fields: Fields,
        conflicts: u32,
    },
    /// The run was let go; due again then, when it is by itself.
    Released(Vec<Due>),
}

/// The elements that a walker spawned on an element begins with: an edge is followed by its target.
pub(crate) fn start(slot: &Slot) -> Vec<Location> {
    let mut start = vec![Location { kind: slot.kind, id: slot.id, name: slot.name.clone() }];
    if let Some(ends) = &slot.ends {
        start.push(Location { kind: Kind::Node, id: ends.target.id, name: ends.target.name.clone() });
    }
    start
}

impl Engine {
    /// Runs a claimed run until it ends or is let go. Everything that can be said of it is in its record afterwards. Gives when it is due
    /// again.
    pub(crate) async fn run_claimed(self: &Arc<Self>, claim: Claim, entry: &Entry) -> Vec<Due> {
        let Claim { token, walker, checkpoint, segments, answer } = claim;
        let id = walker.walker_id();
        let run = RunRef { id: id.clone(), token };
        let root = walker.owner();
        let deadline = walker.run.deadline;
        let Some(kind) = self.registry.get(walker.name.as_str()).cloned() else {
            let error = format!("walker {} is not registered in this program", walker.name);
            return self.let_go(&run, (root, deadline), 0, Release::Park { error }).await;
        };
        let halt = Arc::clone(&entry.halt);
        let under_way =
            Arc::new(UnderWay::new(&kind.spec, Some(run.clone()), walker.run.retries, deadline, halt));
        let lost_max = if kind.spec.rerun_never { 1 } else { self.config.lost_max.max(1) };
        let times = walker.run.lost;
        if times >= lost_max {
            let message = format!(
                "the process ended, or was cut off from its store, during {times} attempt(s) of this run in a row"
            );
            let failure = Failure::coded(ErrorCode::Lost, message).for_good();
            let fields = checkpoint.map_or(walker.archetype, |checkpoint| checkpoint.fields);
            return self.conclude(&under_way, root, failure, fields, walker.run.conflicts).await;
        }
        let takes_up = |checkpoint: &Checkpoint| kind.spec.takes_up(checkpoint.walker_version);
        // Who begins again has not asked yet.
        let answer = answer.filter(|_| checkpoint.as_ref().is_some_and(takes_up));
        let Some(begun) = Begun::of(&walker.archetype, checkpoint, segments, takes_up) else {
            let error = "its checkpoint does not fit the segments that are kept with it".to_owned();
            return self.let_go(&run, (root, deadline), walker.run.conflicts, Release::Park { error }).await;
        };
        entry.begin(&under_way, self.env.now());
        let errand = Errand {
            kind,
            actor: root,
            admin: walker.run.admin,
            entry: walker.schedule.node_id.clone(),
            client_id: None,
            serial: id.uuid(),
            uploads: Arc::default(),
            answer,
            under_way: Arc::clone(&under_way),
        };
        match self.run_errand(&errand, begun).await {
            Ok(_) => Vec::new(),
            Err(Unended::Released(due)) => due,
            Err(Unended::Failed { failure, .. }) if failure.is_fenced() => {
                tracing::warn!(run = %id, error = ?failure, "an attempt was given up");
                Vec::new()
            }
            Err(Unended::Failed { failure, conflicts, .. }) if failure.is_cut_off() => {
                tracing::warn!(run = %id, error = ?failure, "an attempt was cut off from the store");
                tokio::time::sleep(LOOK_AGAIN).await;
                // What it did beside the graph it will do again: that has a bound, as when processes end.
                self.let_go(&run, (root, deadline), conflicts, Release::Lost).await
            }
            Err(Unended::Failed { failure, fields, conflicts }) => {
                self.conclude(&under_way, root, failure, fields, conflicts).await
            }
        }
    }

    /// Repeats an attempt until it commits, lets go, or fails.
    pub(crate) async fn run_errand(
        self: &Arc<Self>,
        errand: &Errand,
        begun: Begun,
    ) -> Result<Ended, Unended> {
        let under_way = &errand.under_way;
        let mut from = begun;
        let mut conflicts = 0;
        let mut fought_over = BTreeSet::new();
        let mut turns = Turns::default();
        loop {
            // Also outside its abilities a walker's code runs: where its fields are read and written.
            let tried = AssertUnwindSafe(self.try_once(errand, &mut from, conflicts)).catch_unwind().await;
            let (failure, fields) = match tried {
                Ok(Ok(ended)) => return Ok(ended),
                Ok(Err((Stop::Released(due), _))) => return Err(Unended::Released(due)),
                Ok(Err((Stop::Failed(failure), fields))) => (failure, fields),
                Err(_) => (panicked(errand), None),
            };
            under_way.pass();
            let is_crowded = failure.conflict().is_some() && conflicts < self.config.conflicts_max;
            let is_full = failure.lacks_room() && errand.run().is_some();
            if !(is_crowded || is_full) {
                let fields = fields.unwrap_or(from.fields);
                return Err(Unended::Failed { failure, fields, conflicts });
            }
            turns.give_back();
            let again = async {
                if is_full {
                    self.room().await;
                    return Turns::default();
                }
                conflicts += 1;
                fought_over.extend(failure.conflict().into_iter().flatten().copied());
                self.contention.queue(&fought_over).await
            };
            turns = tokio::select! {
                biased;
                turns = again => turns,
                end = under_way.halted() => {
                    let failure = Failure::ended(end);
                    return Err(Unended::Failed { failure, fields: from.fields, conflicts });
                }
            };
        }
    }

    /// The graph as it stands now, for a root.
    pub(crate) fn graph(&self, actor: Uuid) -> Graph {
        let rules = Arc::clone(&self.registry.rules);
        Graph::new(actor, rules, Arc::clone(&self.store), self.env.clone(), self.config.commit_changes_max)
    }

    /// Waits until the store takes something new.
    pub(crate) async fn room(&self) {
        while let Err(store::Error::Full(_)) = self.store.health() {
            tokio::time::sleep(LOOK_FOR_ROOM).await;
        }
    }

    /// One attempt; when it fails, with the fields as the walker left them, if they can be stored.
    async fn try_once(
        self: &Arc<Self>,
        errand: &Errand,
        from: &mut Begun,
        conflicts: u32,
    ) -> Result<Ended, (Stop, Option<Fields>)> {
        let mut walker = errand.kind.restore(&from.fields).map_err(|error| {
            tracing::error!(walker = %errand.kind.name, %error, "a stored walker does not decode");
            let message = format!("the stored fields do not fit walker {}", errand.kind.name);
            (Failure::coded(ErrorCode::Incompatible, message).into(), None)
        })?;
        let outcome = self.attempt(errand, walker.as_mut(), from, conflicts).await;
        // What cannot be stored must not hide why the walker failed.
        outcome.map_err(|stop| (stop, walker.encode().ok()))
    }

    /// One attempt, from a checkpoint to the end. `from` moves on with every checkpoint that is committed.
    async fn attempt(
        self: &Arc<Self>,
        errand: &Errand,
        walker: &mut dyn AnyWalker,
        from: &mut Begun,
        conflicts: u32,
    ) -> Result<Ended, Stop> {
        let origin = Origin {
            actor: errand.actor,
            admin: errand.admin,
            client_id: errand.client_id.clone(),
            serial: errand.serial,
            uploads: Arc::clone(&errand.uploads),
            answer: errand.answer.clone(),
        };
        let attempt = Arc::new(Attempt::new(self, origin, Arc::clone(&errand.under_way), Book::resume(from)));
        if from.elevated {
            attempt.graph.elevate();
        }
        let walk = if from.walk.is_new() {
            let entry = &errand.entry;
            Walk::starting_at([Location { kind: Kind::Node, id: entry.uuid(), name: entry.name().clone() }])
        } else {
            from.walk.clone()
        };
        let mut cx = Context { attempt: Arc::clone(&attempt), walk, turn: Turn::default(), depth: 0 };
        let mut top = Top::new(errand.run(), &errand.kind, from, conflicts, self.env.now());
        let travelled =
            AssertUnwindSafe(travel(&mut cx, &errand.kind, walker, Some(&mut top))).catch_unwind().await;
        attempt.flush_progress().await;
        match travelled {
            Ok(Ok(())) => {}
            Ok(Err(stop)) => return Err(stop),
            Err(_) => return Err(panicked(errand).into()),
        }
        Ok(self.finish(errand, &attempt, walker, conflicts).await?)
    }

    /// Commits everything since the last checkpoint, with the end of the run.
    async fn finish(
        &self,
        errand: &Errand,
        attempt: &Attempt,
        walker: &dyn AnyWalker,
        conflicts: u32,
    ) -> Result<Ended, Failure> {
        let at = self.env.now();
        if let Some(end) = attempt.under_way.over(at) {
            return Err(Failure::ended(end));
        }
        let (changes, guards) = commit::gather(&attempt.graph, &self.config)?;
        let book = std::mem::take(&mut *attempt.book());
        let reports = book.reported_from(0);
        let result = book.result();
        let Book { mut events, status, custom, response, .. } = book;
        let status = response.as_ref().and_then(Given::status).or(status).unwrap_or(200);
        let run = match errand.run() {
            None if changes.is_empty() && guards.is_empty() => {
                return Ok(Ended { status, reports, response: response.and_then(Given::take) });
            }
            None => None,
            Some(run) => {
                events.push(EventKind::Completed);
                let finish = Finish {
                    at,
                    fields: walker.encode()?,
                    http_status: status,
                    reports: reports.clone(),
                    custom,
                    result: result.unwrap_or_else(|| result_of(&reports)),
                    response: response.clone().and_then(Given::kept),
                    error: None,
                };
                let then = Then::Finish(Box::new(finish));
                Some(RunCommit { id: run.id.uuid(), token: run.token, events, then, conflicts })
            }
        };
        attempt.commit(Commit { run, changes, guards }).await?;
        Ok(Ended { status, reports, response: response.and_then(Given::take) })
    }

    /// Decides what becomes of a run whose attempt did not end well, and records it. The graph stays as at its last checkpoint. Gives
    /// when the run is due again.
    pub(crate) async fn conclude(
        &self,
        under_way: &UnderWay,
        root: Uuid,
        failure: Failure,
        fields: Fields,
        conflicts: u32,
    ) -> Vec<Due> {
        let Some(run) = &under_way.run else { return Vec::new() };
        let of = (root, under_way.deadline());
        let message = sentence(&failure, run.id.name());
        if failure.code == ErrorCode::Incompatible {
            return self.let_go(run, of, conflicts, Release::Park { error: message }).await;
        }
        let now = self.env.now();
        // Who asked for the end gets it, also when the attempt failed meanwhile.
        let verdict = match failure.end().or(under_way.end()).or(under_way.over(now)) {
            Some(End::Cancel) => Verdict::Cancel,
            Some(End::RunTime(_)) => Verdict::TimeOut,
            Some(End::Rest(Rest::Pause)) => return self.let_go(run, of, conflicts, Release::Pause).await,
            Some(End::Rest(Rest::Stop)) => return self.let_go(run, of, conflicts, Release::Queue).await,
            ended => {
                let ended = retry::Ended {
                    kind: failure.kind_of(),
                    timed_out: ended.is_some(),
                    wish: failure.wish(),
                    failed_before: under_way.retries,
                };
                retry::decide(&under_way.retry, ended, self.env.chance())
            }
        };
        let code = match verdict {
            Verdict::Snooze(after) => {
                return self.let_go(run, of, conflicts, Release::Sleep { until: now.plus(after) }).await;
            }
            Verdict::Retry(after) => {
                tracing::info!(run = %run.id, error = ?failure, ?after, "an attempt failed; another follows");
                let to = Release::Retry { until: now.plus(after), error: (failure.code, message) };
                return self.let_go(run, of, conflicts, to).await;
            }
            Verdict::Cancel => ErrorCode::Cancelled,
            Verdict::TimeOut => ErrorCode::TimedOut,
            Verdict::Fail => failure.code,
        };
        tracing::warn!(run = %run.id, code = code.as_str(), error = ?failure, "a run failed");
        let event = EventKind::Failed { error: message.clone(), code };
        let then = Then::Finish(Box::new(Finish::failed(now, fields, code, message)));
        self.record_end(run, conflicts, event, then).await;
        Vec::new()
    }

    /// Lets go of a run, of this root and with this deadline, as its last checkpoint left it. Gives when it is due again.
    async fn let_go(
        &self,
        run: &RunRef,
        (root, deadline): (Uuid, Option<Timestamp>),
        conflicts: u32,
        to: Release,
    ) -> Vec<Due> {
        if let Release::Park { error } = &to {
            tracing::warn!(run = %run.id, error, "a run is parked");
        }
        let due = due_of(&to, run, root, deadline);
        let event = event_of(&to);
        let is_recorded =
            self.record_end(run, conflicts, event, Then::Release { checkpoint: None, to }).await;
        if is_recorded { due } else { Vec::new() }
    }

    async fn record_end(&self, run: &RunRef, conflicts: u32, event: EventKind, then: Then) -> bool {
        let (id, token) = (run.id.uuid(), run.token);
        let last = RunCommit { id, token, events: vec![event], then, conflicts };
        let done = store::let_go(&*self.store, self.env.now(), last).await;
        match &done {
            Ok(()) => {}
            Err(store::Error::LeaseLost) => tracing::warn!(run = %run.id, "an attempt was given up"),
            Err(error) => {
                tracing::error!(run = %run.id, %error, "the end of an attempt could not be recorded");
            }
        }
        done.is_ok()
    }

    /// Ends an attempt that did not stop when it had to: its run goes on, or ends, without it, and what it still wants to write is
    /// refused. Its thread is another matter. Gives when the run is due again.
    ///
    /// # Errors
    /// When the run cannot be read; then it is as before.
    pub(crate) async fn end_without(&self, under_way: &UnderWay, end: End) -> store::Result<Vec<Due>> {
        let failure = Failure::ended(end);
        let Some(run) = &under_way.run else {
            under_way.door.answer(Err(failure));
            return Ok(Vec::new());
        };
        let id = run.id.uuid();
        match self.store.run(id).await {
            Ok(Some(walker)) => {
                let conflicts = walker.run.conflicts;
                Ok(self.conclude(under_way, walker.owner(), failure, walker.archetype, conflicts).await)
            }
            Ok(None) => Ok(Vec::new()),
            Err(error) => {
                tracing::error!(run = %run.id, %error, "a run that did not end in time does not load");
                Err(error)
            }
        }
    }

    /// Whether nothing is to be expected of another try: the run is damaged, or the store will never take a write again.
    pub(crate) fn is_lost_on(&self, error: &store::Error) -> bool {
        let is_damaged = matches!(error, store::Error::Damaged(_));
        is_damaged || matches!(self.store.health(), Err(store::Error::OutcomeUnknown(_)))
    }

    /// The record of a run, when `actor` may read it.
    pub(crate) async fn record(&self, actor: Uuid, id: &WalkerId) -> store::Result<Option<Record>> {
        let Some(walker) = self.store.run(id.uuid()).await? else { return Ok(None) };
        if !self.may_read(actor, &walker).await? {
            return Ok(None);
        }
        record(walker).map(Some)
    }

    /// Whether a root may read a run. What the public root runs is read by whoever holds its id.
    pub(crate) async fn may_read(&self, actor: Uuid, walker: &Walker) -> store::Result<bool> {
        let owner = walker.owner();
        if owner == actor || owner == walkabout_schema::PUBLIC_ROOT || actor == walkabout_schema::SYSTEM_ROOT
        {
            return Ok(true);
        }
        let root = self.store.snapshot().await?.elements(Kind::Node, &[owner]).await?.pop().flatten();
        let owners = root.as_ref().map(|root| &root.access);
        let judged = self.registry.rules.judge(actor, &Subject::from(walker), owners);
        // A rule that panicked has allowed nothing.
        Ok(judged.is_ok_and(|judged| judged.level >= Level::Read))
    }

    /// A page of the runs of a root, newest first.
    pub(crate) async fn records(
        &self,
        root: Uuid,
        filter: RunFilter,
        before: Option<Uuid>,
        limit: usize,
    ) -> store::Result<RecordPage> {
        let runs = self.store.runs(root, filter, before, limit).await?;
        let walkers = runs.walkers.into_iter().map(record).collect::<store::Result<Vec<_>>>()?;
        let next = walkers.last().filter(|_| runs.more).map(|record| record.id.clone());
        Ok(RecordPage { walkers, next })
    }
}

fn panicked(errand: &Errand) -> Failure {
    Failure::coded(ErrorCode::WalkerPanicked, format!("walker {} panicked", errand.kind.name))
}

fn record(walker: Walker) -> store::Result<Record> {
    let id = walker.walker_id();
    let context = walker.archetype.decode().map_err(|error| store::Error::Damaged(error.to_string()))?;
    Ok(Record { id, context, schedule: walker.schedule, run: walker.run })
}

/// The single report, or the list of them, or null.
fn result_of(reports: &[Value]) -> Value {
    match reports {
        [] => Value::Null,
        [one] => one.clone(),
        many => Value::Array(many.to_vec()),
    }
}

/// What a client may read of a failure.
pub(crate) fn sentence(failure: &Failure, walker: &Name) -> String {
    match failure.message() {
        Some(message) => message.to_owned(),
        None => format!("walker {walker} failed with an internal error; the server's log has the details"),
    }
}
