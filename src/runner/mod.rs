//! Claims runs and drives attempts.
//!
//! A runner takes a due run, drives its abilities through the traversal, and commits. It is the wall behind which a walker's
//! panic, error or endless loop stays: nothing of one attempt reaches another. After a conflict the attempt repeats by itself from
//! its last checkpoint.

mod attempt;
mod contention;
mod pool;
mod queue;
mod ready;
mod seat;
mod supervisor;
mod turn;

use std::{collections::BTreeSet, panic::AssertUnwindSafe, path::PathBuf, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde_json::Value;
use uuid::Uuid;
use walkabout_schema::{
    Checkpoint, ElementId, ErrorCode, EventKind, Fields, Kind, Level, Name, NodeId, Position, Status, Walker,
    WalkerId,
    wire::{Record, RecordPage},
};

pub(crate) use attempt::{Attempt, Book, RunRef, UNFINISHED, is_file_name};
pub(crate) use contention::{Contention, Turns};
pub(crate) use pool::{Bounds, Ground, Job, Pool, Source};
pub(crate) use queue::{DueQueue, Taken};
pub(crate) use seat::Label;
pub(crate) use supervisor::Supervisor;
pub(crate) use turn::Turn;

use crate::{
    commit,
    config::Config,
    env::Env,
    graph::Graph,
    publish::{Runs, Sockets},
    registry::{Plan, Registry, WalkerType},
    store::{self, Claim, Commit, Finish, RunCommit, RunFilter, Store, Then},
    walk::{Location, Stage, Walk},
    walker::{Ability, AnyWalker, Context, Failure, Outcome, Slot, fail},
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
    /// Where the files of runs lie.
    pub(crate) files: PathBuf,
}

/// Where an attempt begins, on whose behalf.
pub(crate) struct Errand {
    pub(crate) kind: Arc<WalkerType>,
    pub(crate) actor: Uuid,
    pub(crate) admin: bool,
    pub(crate) entry: NodeId,
    pub(crate) client_id: Option<String>,
    pub(crate) run: Option<RunRef>,
    /// Names the errand of a plain walker, over all its attempts.
    pub(crate) serial: Uuid,
}

/// How an errand ended well.
pub(crate) struct Ended {
    pub(crate) status: u16,
    pub(crate) reports: Vec<Value>,
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
    /// Runs a claimed run to its end. Everything that can be said of it is in its record afterwards.
    pub(crate) async fn run_claimed(self: &Arc<Self>, claim: Claim) {
        let Claim { token, walker, checkpoint } = claim;
        let id = walker.walker_id();
        let run = RunRef { id: id.clone(), token };
        let begun = checkpoint.unwrap_or_else(|| first_checkpoint(&walker));
        let Some(kind) = self.registry.get(walker.name.as_str()).cloned() else {
            let message = format!("walker {} is not registered in this program", walker.name);
            self.end_failed(&run, begun.fields, 0, &Failure::coded(ErrorCode::Incompatible, message)).await;
            return;
        };
        let lost_max = if kind.spec.rerun_never { 1 } else { self.config.lost_max.max(1) };
        let times = walker.run.lost;
        if times >= lost_max {
            let message = format!("the process ended during {times} attempt(s) of this run in a row");
            self.end_failed(&run, begun.fields, 0, &Failure::coded(ErrorCode::Lost, message)).await;
            return;
        }
        let errand = Errand {
            kind,
            actor: walker.owner(),
            admin: walker.run.admin,
            entry: walker.schedule.node_id.clone(),
            client_id: None,
            run: Some(run.clone()),
            serial: id.uuid(),
        };
        match self.run_errand(&errand, begun).await {
            Ok(_) => {}
            Err((failure, _, _)) if failure.is_fenced() => {
                tracing::warn!(run = %id, error = ?failure, "an attempt was given up");
            }
            Err((failure, fields, conflicts)) => self.end_failed(&run, fields, conflicts, &failure).await,
        }
    }

    /// Repeats an attempt until it commits or fails for good. On failure the fields are those that the walker had reached.
    pub(crate) async fn run_errand(
        self: &Arc<Self>,
        errand: &Errand,
        begun: Checkpoint,
    ) -> Result<Ended, (Failure, Fields, u32)> {
        let mut from = begun;
        let mut conflicts = 0;
        let mut fought_over = BTreeSet::new();
        let mut turns = Turns::default();
        loop {
            // Also outside its abilities a walker's code runs: where its fields are read and written.
            let tried = AssertUnwindSafe(self.try_once(errand, &mut from, conflicts)).catch_unwind().await;
            let (failure, fields) = match tried {
                Ok(Ok(ended)) => return Ok(ended),
                Ok(Err(failed)) => failed,
                Err(_) => (panicked(errand), None),
            };
            match failure.conflict() {
                Some(ids) if conflicts < self.config.conflicts_max => {
                    conflicts += 1;
                    fought_over.extend(ids.iter().copied());
                    turns.give_back();
                    turns = self.contention.queue(&fought_over).await;
                }
                None if failure.lacks_room() && errand.run.is_some() => {
                    turns.give_back();
                    self.room().await;
                }
                _ => return Err((failure, fields.unwrap_or(from.fields), conflicts)),
            }
        }
    }

    /// The graph as it stands now, for a root.
    pub(crate) fn graph(&self, actor: Uuid) -> Graph {
        Graph::new(actor, Arc::clone(&self.store), self.env.clone(), self.config.commit_changes_max)
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
        from: &mut Checkpoint,
        conflicts: u32,
    ) -> Result<Ended, (Failure, Option<Fields>)> {
        let mut walker = errand.kind.restore(&from.fields).map_err(|error| {
            tracing::error!(walker = %errand.kind.name, %error, "a stored walker does not decode");
            let message = format!("the stored fields do not fit walker {}", errand.kind.name);
            (Failure::coded(ErrorCode::Incompatible, message), None)
        })?;
        let outcome = self.attempt(errand, walker.as_mut(), from, conflicts).await;
        // What cannot be stored must not hide why the walker failed.
        outcome.map_err(|failure| (failure, walker.encode().ok()))
    }

    /// One attempt, from a checkpoint to the end. `from` moves on with every checkpoint that is committed.
    async fn attempt(
        self: &Arc<Self>,
        errand: &Errand,
        walker: &mut dyn AnyWalker,
        from: &mut Checkpoint,
        conflicts: u32,
    ) -> Result<Ended, Failure> {
        let book = Book::resume(from);
        let (run, client_id) = (errand.run.clone(), errand.client_id.clone());
        let attempt =
            Arc::new(Attempt::new(self, errand.actor, run, errand.serial, client_id, errand.admin, book));
        let walk = if from.frontier.is_empty() && from.visits == 0 && !from.begun {
            let entry = &errand.entry;
            Walk::starting_at([Location { kind: Kind::Node, id: entry.uuid(), name: entry.name().clone() }])
        } else {
            Walk::resume(from)
        };
        let mut cx = Context { attempt: Arc::clone(&attempt), walk, turn: Turn::default(), depth: 0 };
        let position = from.position.clone();
        let mut top = Top { run: &errand.run, from, conflicts, position };
        let travelled =
            AssertUnwindSafe(travel(&mut cx, &errand.kind, walker, Some(&mut top))).catch_unwind().await;
        attempt.flush_progress().await;
        match travelled {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(panicked(errand)),
        }
        self.finish(errand, &attempt, walker, conflicts).await
    }

    /// Commits everything since the last checkpoint, with the end of the run.
    async fn finish(
        &self,
        errand: &Errand,
        attempt: &Attempt,
        walker: &dyn AnyWalker,
        conflicts: u32,
    ) -> Result<Ended, Failure> {
        let (changes, guards) = commit::gather(&attempt.graph, &self.config)?;
        let Book { reports, mut events, status, custom, .. } = std::mem::take(&mut *attempt.book());
        let status = status.unwrap_or(200);
        let now = self.env.now();
        let run = match &errand.run {
            None if changes.is_empty() && guards.is_empty() => return Ok(Ended { status, reports }),
            None => None,
            Some(run) => {
                events.push(EventKind::Completed);
                let finish = Finish {
                    at: now,
                    fields: walker.encode()?,
                    http_status: status,
                    reports: reports.clone(),
                    custom,
                    result: result_of(&reports),
                    error: None,
                };
                let then = Then::Finish(Box::new(finish));
                Some(RunCommit { id: run.id.uuid(), token: run.token, events, then, conflicts })
            }
        };
        self.store.commit(now, Commit { run, changes, guards }).await.map_err(Failure::of_store)?;
        Ok(Ended { status, reports })
    }

    /// Records that a run failed. The graph stays as at its last checkpoint.
    async fn end_failed(&self, run: &RunRef, fields: Fields, conflicts: u32, failure: &Failure) {
        let message = sentence(failure, run.id.name());
        tracing::warn!(run = %run.id, code = failure.code.as_str(), error = ?failure, "a run failed");
        let now = self.env.now();
        let finish = Finish {
            at: now,
            fields,
            http_status: 500,
            reports: Vec::new(),
            custom: Value::Null,
            result: Value::Null,
            error: Some((failure.code, message.clone())),
        };
        let commit = Commit {
            run: Some(RunCommit {
                id: run.id.uuid(),
                token: run.token,
                events: vec![EventKind::Failed { error: message }],
                then: Then::Finish(Box::new(finish)),
                conflicts,
            }),
            ..Commit::default()
        };
        if let Err(error) = self.store.commit(now, commit).await {
            tracing::error!(run = %run.id, %error, "the end of a run could not be recorded; it is due again");
        }
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
        let level = walkabout_schema::decide(actor, walker.id.0, Some(owner), &walker.access, owners);
        Ok(level >= Level::Read)
    }

    /// A page of the runs of a root, newest first.
    pub(crate) async fn records(
        &self,
        root: Uuid,
        name: Option<Name>,
        status: Option<Status>,
        before: Option<Uuid>,
        limit: usize,
    ) -> store::Result<RecordPage> {
        let runs = self.store.runs(root, RunFilter { name, status }, before, limit).await?;
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

fn first_checkpoint(walker: &Walker) -> Checkpoint {
    Checkpoint { fields: walker.archetype.clone(), ..Checkpoint::default() }
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

/// What the outermost walker of an attempt has beside its context.
pub(crate) struct Top<'a> {
    run: &'a Option<RunRef>,
    from: &'a mut Checkpoint,
    conflicts: u32,
    position: Option<Position>,
}

/// Drives one walker until its frontier is empty or it disengages.
pub(crate) async fn travel(
    cx: &mut Context,
    kind: &WalkerType,
    walker: &mut dyn AnyWalker,
    mut top: Option<&mut Top<'_>>,
) -> Result<(), Failure> {
    let attempt = Arc::clone(&cx.attempt);
    let visits_max = attempt.engine.config.visits_max;
    let mut position = top.as_mut().and_then(|top| top.position.take());
    let mut plan: Option<(Kind, Name, Arc<Plan>)> = None;
    loop {
        let resumed = position.take();
        let at = match &resumed {
            Some(position) if position.stage == Stage::End.as_str() => {
                position_end(position, &mut top);
                break;
            }
            Some(position) => location_of(&position.here),
            None => match cx.walk.next() {
                Some(at) => at,
                None => break,
            },
        };
        if cx.walk.visits() > visits_max {
            let message = format!("the walker visited more than visits_max {visits_max} elements");
            return Err(Failure::coded(ErrorCode::LimitExceeded, message));
        }
        // What was destroyed since it was put in the frontier, or may no longer be read, is passed over.
        let after = cx.walk.ahead().take_while(|next| next.kind == at.kind).map(|next| next.id);
        let slot = attempt.graph.arrive(at.kind, at.id, after).await?;
        let slot = slot.filter(|slot| slot.level >= Level::Read);
        let Some(slot) = slot else {
            if cx.walk.visits() <= 1 && cx.depth == 0 {
                let id = ElementId::new(at.kind, at.name, at.id);
                return Err(fail(format!(
                    "{id}, where the walker was to start, does not exist or may not be read"
                )));
            }
            continue;
        };
        let visit = match &plan {
            Some((kind, name, plan)) if *kind == slot.kind && *name == slot.name => Arc::clone(plan),
            _ => {
                let fresh = attempt.engine.registry.plan(kind, slot.kind, &slot.name);
                plan = Some((slot.kind, slot.name.clone(), Arc::clone(&fresh)));
                fresh
            }
        };
        let starting = cx.walk.begin()
            || resumed.as_ref().is_some_and(|position| position.stage == Stage::Start.as_str());
        if starting {
            let first = kind.untyped(Stage::Start).map(|ability| (Stage::Start, ability.clone()));
            let sequence: Plan = first.chain(visit.iter().cloned()).collect();
            perform(cx, kind, walker, &slot, &sequence, resumed.as_ref(), &mut top).await?;
        } else {
            perform(cx, kind, walker, &slot, &visit, resumed.as_ref(), &mut top).await?;
        }
        drop(slot);
        checkpoint(cx, walker, None, &mut top).await?;
        if cx.walk.visits().is_multiple_of(4096) {
            attempt.graph.trim();
        }
    }
    leave(cx, kind, walker, &mut top).await
}

/// Keeps a position among the last abilities for [`leave`].
fn position_end(position: &Position, top: &mut Option<&mut Top<'_>>) {
    if let Some(top) = top {
        top.position = Some(position.clone());
    }
}

/// Runs the walker's untyped exit abilities at the last element.
async fn leave(
    cx: &mut Context,
    kind: &WalkerType,
    walker: &mut dyn AnyWalker,
    top: &mut Option<&mut Top<'_>>,
) -> Result<(), Failure> {
    if cx.walk.is_disengaged() {
        return Ok(());
    }
    let last: Plan = kind.untyped(Stage::End).map(|ability| (Stage::End, ability.clone())).collect();
    let Some(at) = cx.walk.last().cloned().filter(|_| !last.is_empty()) else { return Ok(()) };
    let attempt = Arc::clone(&cx.attempt);
    if let Some(slot) = attempt.graph.element(at.kind, at.id).await? {
        let resumed = top.as_mut().and_then(|top| top.position.take());
        perform(cx, kind, walker, &slot, &last, resumed.as_ref(), top).await?;
    }
    Ok(())
}

fn location_of(id: &ElementId) -> Location {
    Location { kind: id.kind(), id: id.uuid(), name: id.name().clone() }
}

/// Runs a sequence of abilities at one element; from a checkpoint's position on, when there is one.
async fn perform(
    cx: &mut Context,
    kind: &WalkerType,
    walker: &mut dyn AnyWalker,
    slot: &Arc<Slot>,
    sequence: &[(Stage, Ability)],
    resumed: Option<&Position>,
    top: &mut Option<&mut Top<'_>>,
) -> Result<(), Failure> {
    let mut slot = Arc::clone(slot);
    let mut begin = 0;
    if let Some(position) = resumed {
        let after = sequence
            .iter()
            .position(|(stage, ability)| stage.as_str() == position.stage && ability.name == position.after);
        let Some((index, (stage, ability))) = after.and_then(|index| Some((index, sequence.get(index)?)))
        else {
            let message = format!("walker {} has no ability {} to go on after", kind.name, position.after);
            return Err(Failure::coded(ErrorCode::Incompatible, message));
        };
        let place = Place { slot: &slot, stage: *stage, after: ability.name };
        let step = (named(kind, &position.then)?, position.step);
        let flow = steps(cx, kind, walker, &place, step, top).await?;
        if flow.disengage || cx.walk.is_disengaged() {
            return Ok(());
        }
        let Some(again) = look_up(cx, &slot).await? else { return Ok(()) };
        slot = again;
        begin = index + 1;
    }
    for (stage, ability) in sequence.get(begin..).unwrap_or_default() {
        cx.turn.begin(*stage, ability.name, 0);
        let mut flow = call(cx, walker, ability, &slot).await?;
        let then = flow.then.take();
        if let Some(then) = then {
            let place = Place { slot: &slot, stage: *stage, after: ability.name };
            flow = step_on(cx, kind, walker, &place, then, top).await?;
        }
        if flow.disengage || cx.walk.is_disengaged() {
            return Ok(());
        }
        if then.is_some() {
            // What a step destroyed is left behind.
            let Some(again) = look_up(cx, &slot).await? else { return Ok(()) };
            slot = again;
        }
    }
    Ok(())
}

/// The attempt's present copy of an element: a checkpoint forgets those before it, and what they would be told.
async fn look_up(cx: &Context, slot: &Slot) -> Result<Option<Arc<Slot>>, Failure> {
    cx.attempt.graph.element(slot.kind, slot.id).await
}

struct Place<'a> {
    slot: &'a Arc<Slot>,
    stage: Stage,
    after: &'static str,
}

fn named<'a>(kind: &'a WalkerType, name: &str) -> Result<&'a Ability, Failure> {
    kind.ability(name).ok_or_else(|| {
        let message =
            format!("walker {} has no ability {name}: write it as `#[step] async fn {name}`", kind.name);
        Failure::coded(ErrorCode::Incompatible, message)
    })
}

async fn step_on(
    cx: &mut Context,
    kind: &WalkerType,
    walker: &mut dyn AnyWalker,
    place: &Place<'_>,
    then: &'static str,
    top: &mut Option<&mut Top<'_>>,
) -> Outcome {
    let step = (named(kind, then)?, 1);
    checkpoint(cx, walker, Some((place, step)), top).await?;
    steps(cx, kind, walker, place, step, top).await
}

/// An ability that another gave the word to, and its number among those of one visit that the same ability led to.
type Step<'a> = (&'a Ability, u64);

/// Runs a step and those that it gives the word to.
async fn steps(
    cx: &mut Context,
    kind: &WalkerType,
    walker: &mut dyn AnyWalker,
    place: &Place<'_>,
    step: Step<'_>,
    top: &mut Option<&mut Top<'_>>,
) -> Outcome {
    let (mut ability, mut number) = step;
    loop {
        let Some(slot) = look_up(cx, place.slot).await? else {
            return Err(fail(format!("{} is gone", place.slot.element_id())));
        };
        cx.turn.begin(place.stage, place.after, number);
        let flow = call(cx, walker, ability, &slot).await?;
        let Some(then) = flow.then else { return Ok(flow) };
        (ability, number) = (named(kind, then)?, number + 1);
        checkpoint(cx, walker, Some((place, (ability, number))), top).await?;
    }
}

async fn call(cx: &mut Context, walker: &mut dyn AnyWalker, ability: &Ability, slot: &Arc<Slot>) -> Outcome {
    (ability.call)(walker, slot, cx).await.inspect_err(|failure| {
        tracing::debug!(ability = ability.name, at = %slot.element_id(), error = ?failure, "an ability failed");
    })
}

/// Commits everything so far, when the walker asked for it.
async fn checkpoint(
    cx: &mut Context,
    walker: &dyn AnyWalker,
    position: Option<(&Place<'_>, Step<'_>)>,
    top: &mut Option<&mut Top<'_>>,
) -> Result<(), Failure> {
    // A walker inside another only asks: the commit is at the end of the outer one's visit.
    let Some(top) = top else { return Ok(()) };
    let attempt = Arc::clone(&cx.attempt);
    if !std::mem::take(&mut attempt.book().checkpoint) {
        return Ok(());
    }
    attempt.flush_progress().await;
    let engine = &attempt.engine;
    let (changes, guards) = commit::gather(&attempt.graph, &engine.config)?;
    let (events, mut next) = {
        let mut book = attempt.book();
        let next = Checkpoint {
            fields: walker.encode()?,
            reports: book.reports.clone(),
            http_status: book.status,
            custom: book.custom.clone(),
            ..Checkpoint::default()
        };
        (book.take_events(), next)
    };
    let position = position.map(|(place, (then, step))| Position {
        here: place.slot.element_id(),
        stage: place.stage.as_str().to_owned(),
        after: place.after.to_owned(),
        then: then.name.to_owned(),
        step,
    });
    cx.walk.save(position, &mut next);
    let run = top.run.as_ref().map(|run| {
        let mut events = events;
        events.push(EventKind::Checkpoint);
        RunCommit {
            id: run.id.uuid(),
            token: run.token,
            events,
            then: Then::Checkpoint(Box::new(next.clone())),
            conflicts: top.conflicts,
        }
    });
    let commit = Commit { run, changes, guards };
    engine.store.commit(engine.env.now(), commit).await.map_err(Failure::of_store)?;
    *top.from = next;
    attempt.graph.reset();
    Ok(())
}
