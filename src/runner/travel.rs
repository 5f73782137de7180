//! Drives one walker over the graph, and commits on the way.

use std::{collections::BTreeMap, sync::Arc};

use walkabout_schema::{Checkpoint, ElementId, ErrorCode, EventKind, Kind, Level, Name, Position, Timestamp};

use super::{
    attempt::{Attempt, RunRef},
    begun::Begun,
    halt::Rest,
};
use crate::{
    commit,
    registry::{Plan, WalkerType},
    store::{Commit, Due, Release, RunCommit, Stand, Then},
    walk::{Location, Segments, Stage},
    walker::{Ability, AnyWalker, Checkpoints, Context, Failure, Flow, Given, Outcome, Slot, Suspend, fail},
};

/// Why a traversal stops before its end.
pub(crate) enum Stop {
    /// It failed.
    Failed(Failure),
    /// Everything so far is committed, and the run let go; due again then, when it is by itself.
    Released(Vec<Due>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the outermost walker of an attempt has beside its context.
pub(crate) struct Top<'a> {
    run: Option<&'a RunRef>,
    from: &'a mut Begun,
    conflicts: u32,
    position: Option<Position>,
    policy: Checkpoints,
    version: u32,
    /// Where the last checkpoint was.
    visits: u64,
    at: Timestamp,
}

impl<'a> Top<'a> {
    pub(crate) fn new(
        run: Option<&'a RunRef>,
        kind: &WalkerType,
        from: &'a mut Begun,
        conflicts: u32,
        now: Timestamp,
    ) -> Self {
        let (policy, version) = (kind.spec.checkpoints, kind.spec.version);
        let (position, visits) = (from.position.clone(), from.walk.visits());
        Self { run, from, conflicts, position, policy, version, visits, at: now }
    }

    /// Whether the walker's policy wants a checkpoint now.
    fn is_due(&self, visits: u64, now: impl FnOnce() -> Timestamp) -> bool {
        match self.policy {
            Checkpoints::End => false,
            Checkpoints::Visits(number) => visits.saturating_sub(self.visits) >= number.max(1),
            Checkpoints::Every(span) => now().since(self.at) >= span,
        }
    }
}

/// Drives one walker until its frontier is empty or it disengages.
pub(crate) async fn travel(
    cx: &mut Context,
    kind: &WalkerType,
    walker: &mut dyn AnyWalker,
    mut top: Option<&mut Top<'_>>,
) -> Result<(), Stop> {
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
            return Err(Failure::coded(ErrorCode::LimitExceeded, message).into());
        }
        if let Some(end) = attempt.under_way.end() {
            return Err(Failure::ended(end).into());
        }
        if cx.depth == 0 {
            attempt.under_way.visit(|| attempt.engine.env.now());
        }
        // What was destroyed since it was put in the frontier, or may no longer be read, is passed over.
        let after = cx.walk.ahead().take_while(|next| next.kind == at.kind).map(|next| next.id);
        let slot = attempt.graph.arrive(at.kind, at.id, after).await?;
        let slot = slot.filter(|slot| slot.level() >= Level::Read);
        let Some(slot) = slot else {
            if cx.walk.visits() <= 1 && cx.depth == 0 {
                let id = ElementId::new(at.kind, at.name, at.id);
                let message =
                    format!("{id}, where the walker was to start, does not exist or may not be read");
                return Err(fail(message).into());
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
) -> Result<(), Stop> {
    if cx.walk.is_disengaged() {
        return Ok(());
    }
    let last: Plan = kind.untyped(Stage::End).map(|ability| (Stage::End, ability.clone())).collect();
    let Some(at) = cx.walk.last().cloned().filter(|_| !last.is_empty()) else { return Ok(()) };
    let attempt = Arc::clone(&cx.attempt);
    if let Some(slot) = attempt.graph.readable(at.kind, at.id).await? {
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
) -> Result<(), Stop> {
    let mut slot = Arc::clone(slot);
    let mut begin = 0;
    if let Some(position) = resumed {
        let after = sequence
            .iter()
            .position(|(stage, ability)| stage.as_str() == position.stage && ability.name == position.after);
        let Some((index, (stage, ability))) = after.and_then(|index| Some((index, sequence.get(index)?)))
        else {
            let message = format!("walker {} has no ability {} to go on after", kind.name, position.after);
            return Err(Failure::coded(ErrorCode::Incompatible, message).into());
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
            let step = (named(kind, then)?, 1);
            go_on(cx, walker, &place, step, flow.suspend.take(), top).await?;
            flow = steps(cx, kind, walker, &place, step, top).await?;
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

/// The attempt's present copy of an element, while there is one that may be read: a checkpoint forgets those before it, and what they
/// would be told.
async fn look_up(cx: &Context, slot: &Slot) -> Result<Option<Arc<Slot>>, Failure> {
    cx.attempt.graph.readable(slot.kind, slot.id).await
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

/// Between an ability and the step that it gives the word to: a checkpoint when one is wanted, and the end of the attempt when the step
/// is to be waited for.
async fn go_on(
    cx: &mut Context,
    walker: &dyn AnyWalker,
    place: &Place<'_>,
    step: Step<'_>,
    suspend: Option<Suspend>,
    top: &mut Option<&mut Top<'_>>,
) -> Result<(), Stop> {
    let Some(suspend) = suspend else { return checkpoint(cx, walker, Some((place, step)), top).await };
    let attempt = Arc::clone(&cx.attempt);
    let Some((top, run)) = top.as_mut().and_then(|top| top.run.map(|run| (top, run))) else {
        let message = if cx.depth > 0 {
            "only the outermost walker can wait: spawn this one from a step that follows the wait"
        } else {
            "a plain walker cannot wait: make it async with #[walker(async)]"
        };
        return Err(fail(message).into());
    };
    let to = match suspend {
        Suspend::Sleep(until) => Release::Sleep { until },
        Suspend::Await { name, until } => Release::Await { name, until },
    };
    Err(release(cx, walker, &attempt, Some((place, step)), top, run, to).await?)
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
) -> Result<Flow, Stop> {
    let (mut ability, mut number) = step;
    loop {
        let Some(slot) = look_up(cx, place.slot).await? else {
            let message = format!("{} is gone, or may not be read any more", place.slot.element_id());
            return Err(fail(message).into());
        };
        cx.turn.begin(place.stage, place.after, number);
        let mut flow = call(cx, walker, ability, &slot).await?;
        let Some(then) = flow.then else { return Ok(flow) };
        (ability, number) = (named(kind, then)?, number + 1);
        go_on(cx, walker, place, (ability, number), flow.suspend.take(), top).await?;
    }
}

/// Calls an ability. When the attempt has to end, one that awaits is dropped there.
async fn call(cx: &mut Context, walker: &mut dyn AnyWalker, ability: &Ability, slot: &Arc<Slot>) -> Outcome {
    let attempt = Arc::clone(&cx.attempt);
    let outcome = tokio::select! {
        biased;
        outcome = (ability.call)(walker, slot, cx) => outcome,
        end = attempt.under_way.halted() => Err(Failure::ended(end)),
    };
    outcome.inspect_err(|failure| {
        tracing::debug!(ability = ability.name, at = %slot.element_id(), error = ?failure, "an ability failed");
    })
}

/// The place and the step that a checkpoint inside a visit stands at.
type At<'a> = Option<(&'a Place<'a>, Step<'a>)>;

/// Commits everything so far, when the walker, its policy, or somebody who waits for it asks for it.
async fn checkpoint(
    cx: &mut Context,
    walker: &dyn AnyWalker,
    position: At<'_>,
    top: &mut Option<&mut Top<'_>>,
) -> Result<(), Stop> {
    // A walker inside another only asks: the commit is at the end of the outer one's visit.
    let Some(top) = top else { return Ok(()) };
    let attempt = Arc::clone(&cx.attempt);
    let rest = attempt.under_way.rest();
    let is_asked = std::mem::take(&mut attempt.book().checkpoint);
    let is_due = position.is_none() && top.is_due(cx.walk.visits(), || attempt.engine.env.now());
    // A walker that is all or nothing stops nowhere but where it says so itself.
    let may_rest = rest.is_some() && top.policy != Checkpoints::End;
    if !(is_asked || is_due || may_rest) {
        return Ok(());
    }
    if let Some((rest, run)) = rest.zip(top.run) {
        let to = match rest {
            Rest::Pause => Release::Pause,
            Rest::Stop => Release::Queue,
        };
        return Err(release(cx, walker, &attempt, position, top, run, to).await?);
    }
    let (stand, next) = stand(cx, walker, &attempt, position, top)?;
    write(&attempt, top, EventKind::Checkpoint, Then::Checkpoint(Box::new(stand))).await?;
    top.visits = next.walk.visits();
    if matches!(top.policy, Checkpoints::Every(_)) {
        top.at = attempt.engine.env.now();
    }
    *top.from = next;
    attempt.graph.reset();
    Ok(())
}

/// Commits everything so far, and lets go of the run.
async fn release(
    cx: &mut Context,
    walker: &dyn AnyWalker,
    attempt: &Attempt,
    position: At<'_>,
    top: &mut Top<'_>,
    run: &RunRef,
    to: Release,
) -> Result<Stop, Failure> {
    let (stand, _) = stand(cx, walker, attempt, position, top)?;
    let due = due_of(&to, run, attempt.graph.caller, attempt.under_way.deadline());
    let event = event_of(&to);
    let then = Then::Release { checkpoint: Some(Box::new(stand)), to };
    write(attempt, top, event, then).await?;
    Ok(Stop::Released(due))
}

/// What followers are told of a run that is let go.
pub(crate) fn event_of(to: &Release) -> EventKind {
    match to {
        Release::Queue | Release::Lost => EventKind::Checkpoint,
        Release::Pause => EventKind::Paused,
        Release::Sleep { until } => EventKind::Waiting { until: Some(*until), waits_for: None },
        Release::Await { name, until } => EventKind::Waiting { until: *until, waits_for: Some(name.clone()) },
        Release::Retry { until, error: (code, error) } => {
            EventKind::Retrying { error: error.clone(), code: *code, at: *until }
        }
        Release::Park { error } => EventKind::Incompatible { error: error.clone() },
    }
}

/// When a run that is let go is due by itself: also at its deadline. One that is paused may be wanted again by now, which the store
/// tells who claims it; else only its deadline is left, and the list of queued runs does not tell of that.
pub(crate) fn due_of(to: &Release, run: &RunRef, root: uuid::Uuid, deadline: Option<Timestamp>) -> Vec<Due> {
    let at = match to {
        Release::Queue | Release::Lost | Release::Pause => Some(Timestamp::default()),
        Release::Sleep { until } | Release::Retry { until, .. } => Some(*until),
        Release::Await { until, .. } => *until,
        Release::Park { .. } => None,
    };
    let first = at.into_iter().chain(deadline).min();
    let held_until = deadline.filter(|_| *to == Release::Pause);
    let times = first.into_iter().chain(held_until);
    times.map(|at| Due { id: run.id.uuid(), root, lost: 0, at }).collect()
}

/// Where the walker stands: for the store, and for another attempt from there.
fn stand(
    cx: &mut Context,
    walker: &dyn AnyWalker,
    attempt: &Attempt,
    position: At<'_>,
    top: &mut Top<'_>,
) -> Result<(Stand, Begun), Failure> {
    let fields = walker.encode()?;
    let position = position.map(|(place, (then, step))| Position {
        here: place.slot.element_id(),
        stage: place.stage.as_str().to_owned(),
        after: place.after.to_owned(),
        then: then.name.to_owned(),
        step,
    });
    let mut segments = Segments {
        inline_bytes_max: attempt.engine.config.inline_bytes_max,
        next: top.from.next_segment,
        fresh: BTreeMap::new(),
        gone: top.from.left.clone(),
    };
    let mut book = attempt.book();
    let mut checkpoint = Checkpoint {
        fields: fields.clone(),
        walker_version: top.version,
        reports: book.reports.save(&mut segments),
        http_status: book.status,
        custom: book.custom.clone(),
        response: book.response.clone().and_then(Given::kept),
        results: book.results.save(&mut segments),
        position: position.clone(),
        elevated: attempt.graph.is_elevated(),
        ..Checkpoint::default()
    };
    cx.walk.save(&mut segments, &mut checkpoint);
    let Segments { next, fresh, gone, .. } = segments;
    checkpoint.next_segment = next;
    // Also when this commit is refused: a number is used once.
    top.from.next_segment = next;
    let begun = Begun {
        fields,
        walk: cx.walk.clone(),
        position,
        elevated: attempt.graph.is_elevated(),
        reports: book.reports.clone(),
        status: book.status,
        custom: book.custom.clone(),
        response: book.response.clone(),
        results: book.results.clone(),
        next_segment: next,
        left: Vec::new(),
    };
    Ok((Stand { checkpoint, fresh, gone }, begun))
}

/// Writes everything since the last checkpoint.
async fn write(attempt: &Attempt, top: &Top<'_>, event: EventKind, then: Then) -> Result<(), Failure> {
    attempt.flush_progress().await;
    let engine = &attempt.engine;
    let (changes, guards) = commit::gather(&attempt.graph, &engine.config)?;
    let mut events = attempt.book().take_events();
    let run = top.run.map(|run| {
        events.push(event);
        RunCommit { id: run.id.uuid(), token: run.token, events, then, conflicts: top.conflicts }
    });
    attempt.commit(Commit { run, changes, guards }).await
}
