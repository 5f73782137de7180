//! The rules of one commit: what must hold, and what it writes.

use std::{collections::BTreeSet, sync::Arc};

use uuid::Uuid;
use walkabout_schema::{
    Checkpoint, ErrorCode, Event, EventKind, Fields, Key, Kind, Segment, SegmentId, State, Timestamp, Walker,
};

use super::{
    codec::{self, FieldsOnly, Live},
    engine::{Range, Space},
    keys,
    stage::Stage,
    writer::Shared,
};
use crate::{
    graph::link_places,
    ids::{IdMap, IdSet},
    run::lifecycle::{self, Step},
    store::{
        Change, Commit, DecodedCell, Element, Ends, Error, Finish, Guard, Limits, Release, Result, RunEvents,
        Stand, Then, Token, set_state,
    },
};

/// A commit with everything encoded that can be encoded before it is checked: callers do that, the committer is the narrow place.
#[derive(Clone)]
pub(crate) struct Prepared {
    changes: Vec<Change>,
    /// The documents of the changes that put an element, in their order.
    documents: Vec<Vec<u8>>,
    guards: Vec<Guard>,
    run: Option<PreparedRun>,
}

#[derive(Clone)]
struct PreparedRun {
    id: Uuid,
    token: Token,
    events: Vec<EventKind>,
    conflicts: u32,
    then: PreparedThen,
}

#[derive(Clone)]
enum PreparedThen {
    Checkpoint(PreparedStand),
    Release { checkpoint: Option<PreparedStand>, to: Release },
    Finish(Ending),
}

/// A checkpoint with its segments, encoded.
#[derive(Clone)]
struct PreparedStand {
    checkpoint: Vec<u8>,
    fresh: Vec<(u64, Vec<u8>)>,
    gone: Vec<u64>,
}

impl PreparedStand {
    fn new(run: Uuid, stand: Stand) -> Result<Self> {
        let Stand { checkpoint, fresh, gone } = stand;
        let segment = |(number, items)| {
            let id = SegmentId { run: Key(run), number };
            Ok((number, codec::encode(&Segment { id, items })?))
        };
        let fresh = fresh.into_iter().map(segment).collect::<Result<_>>()?;
        Ok(Self { checkpoint: codec::encode(&checkpoint)?, fresh, gone })
    }

    fn bytes(&self) -> usize {
        self.checkpoint.len() + self.fresh.iter().map(|(_, segment)| segment.len()).sum::<usize>()
    }
}

/// The end of a run, encoded.
#[derive(Clone)]
pub(crate) struct Ending {
    step: Step,
    /// The record as it will stand.
    record: Vec<u8>,
    /// The entry of the index of runs.
    index: Vec<u8>,
    /// Lost attempts, as the record has them.
    lost: u32,
}

impl Ending {
    /// Writes the end into the run's record, and encodes it.
    pub(crate) fn new(walker: &mut Walker, finish: Finish) -> Result<Self> {
        let step = finish.step();
        let Finish { at, fields, http_status, reports, custom, result, response, error } = finish;
        walker.version += 1;
        if let Some(state) = lifecycle::next(State::Running, step) {
            set_state(walker, state);
        }
        if walker.archetype != fields {
            walker.input = Some(std::mem::replace(&mut walker.archetype, fields));
        }
        walker.schedule.http_status = Some(http_status);
        walker.schedule.reports = reports;
        walker.schedule.custom = custom;
        walker.run.result = result;
        walker.run.response = response;
        walker.run.finished_at = Some(at);
        walker.run.next_attempt_at = None;
        walker.run.waits_for = None;
        walker.run.pause_requested_at = None;
        (walker.run.error_code, walker.schedule.error) = error.unzip();
        let index = keys::status_and_name(walker.schedule.status, &walker.name);
        Ok(Self { step, record: codec::encode(walker)?, index, lost: walker.run.lost })
    }
}

impl Prepared {
    /// True when it writes more than the end of a run.
    pub(crate) fn adds_data(&self) -> bool {
        !self.changes.is_empty()
    }

    /// How much it writes, about.
    pub(crate) fn bytes(&self) -> usize {
        let then = self.run.as_ref().map_or(0, |run| match &run.then {
            PreparedThen::Checkpoint(stand) => stand.bytes(),
            PreparedThen::Release { checkpoint, .. } => checkpoint.as_ref().map_or(0, PreparedStand::bytes),
            PreparedThen::Finish(ending) => ending.record.len(),
        });
        then + self.documents.iter().map(|document| document.len() + 128).sum::<usize>()
    }

    /// Encodes a commit. `record` is what the commit's token holds; only the end of a run needs it.
    pub(crate) fn new(commit: Commit, record: impl FnOnce() -> Result<Walker>) -> Result<Self> {
        let Commit { run, changes, guards } = commit;
        let mut documents = Vec::with_capacity(changes.len());
        for change in &changes {
            if let Change::Put { element, .. } = change {
                documents.push(codec::encode_element(element)?);
            }
        }
        let run = run.map(|run| -> Result<PreparedRun> {
            let then = match run.then {
                Then::Checkpoint(checkpoint) => {
                    PreparedThen::Checkpoint(PreparedStand::new(run.id, *checkpoint)?)
                }
                Then::Release { checkpoint, to } => {
                    let checkpoint =
                        checkpoint.map(|stand| PreparedStand::new(run.id, *stand)).transpose()?;
                    PreparedThen::Release { checkpoint, to }
                }
                Then::Finish(finish) => {
                    let mut walker = record()?;
                    walker.run.conflicts = run.conflicts;
                    PreparedThen::Finish(Ending::new(&mut walker, *finish)?)
                }
            };
            Ok(PreparedRun {
                id: run.id,
                token: run.token,
                events: run.events,
                conflicts: run.conflicts,
                then,
            })
        });
        Ok(Self { changes, documents, guards, run: run.transpose()? })
    }
}

/// Checks a commit, and stages its writes when it is good.
pub(crate) fn commit(
    shared: &Shared,
    stage: &mut Stage,
    now: Timestamp,
    commit: Prepared,
) -> Result<Option<RunEvents>> {
    let Prepared { run, changes, documents, guards } = commit;
    let run = match run {
        None => None,
        Some(run) => Some((under_way(shared, stage, run.id, run.token)?, run)),
    };
    let mut check = Check { shared, stage, fresh: IdMap::default(), exist: IdSet::default() };
    let mut conflicts = Vec::new();
    // Guards speak of what was read: they are checked before the commit's own changes.
    for guard in &guards {
        if !check.holds(guard)? {
            conflicts.push(guard.id());
        }
    }
    for change in &changes {
        conflicts.extend(check.conflict(change)?);
    }
    if !conflicts.is_empty() {
        conflicts.sort_unstable();
        conflicts.dedup();
        return Err(Error::Conflict(conflicts));
    }
    let mut documents = documents.into_iter();
    for change in changes {
        write(shared, stage, change, &mut documents)?;
    }
    run.map(|(live, run)| self::run(shared, stage, now, live, run)).transpose()
}

impl Guard {
    fn id(&self) -> Uuid {
        match self {
            Self::Version { id, .. } | Self::Access { id, .. } => *id,
            Self::Links { node, .. } => *node,
        }
    }
}

/// The store as a commit under examination would leave it.
struct Check<'a> {
    shared: &'a Shared,
    stage: &'a Stage,
    /// What its changes so far would make of elements.
    fresh: IdMap<Option<Arc<Element>>>,
    /// Nodes that were found to be there.
    exist: IdSet,
}

impl Check<'_> {
    fn element(&self, kind: Kind, id: Uuid) -> Result<Option<Arc<Element>>> {
        match self.fresh.get(&id) {
            Some(fresh) => Ok(fresh.clone().filter(|element| element.kind == kind)),
            None => self.stage.element(&*self.shared.engine, &self.shared.cache, kind, id),
        }
    }

    fn holds(&self, guard: &Guard) -> Result<bool> {
        Ok(match guard {
            Guard::Version { kind, id, expected } => {
                self.element(*kind, *id)?.is_some_and(|element| element.version == *expected)
            }
            Guard::Access { kind, id, expected } => {
                self.element(*kind, *id)?.is_some_and(|element| element.access == *expected)
            }
            Guard::Links { node, direction, edge_name, expected, seen } => {
                if self.stage.relinked(*node, *direction, edge_name.as_ref(), *seen) == Some(false) {
                    return Ok(true);
                }
                let range = Range::prefix(&keys::links(*node, *direction, edge_name.as_ref()));
                let found = self.stage.scan(&*self.shared.engine, Space::Link, &range)?;
                let mut names = codec::no_names();
                let mut known = expected.iter();
                for (key, value) in &found {
                    let edge = keys::parse_link(key, value, &mut names)?.edge;
                    if known.next().is_none_or(|known| known.edge != edge) {
                        return Ok(false);
                    }
                }
                known.next().is_none()
            }
        })
    }

    /// The id that a change conflicts on.
    fn conflict(&mut self, change: &Change) -> Result<Option<Uuid>> {
        match change {
            Change::Put { element, expected: None } => {
                if let Some(ends) = &element.ends {
                    for end in [&ends.source, &ends.target] {
                        if self.fresh.contains_key(&end.id) || !self.exist.contains(&end.id) {
                            if self.element(Kind::Node, end.id)?.is_none() {
                                return Ok(Some(end.id));
                            }
                            self.exist.insert(end.id);
                        }
                    }
                }
                // Fresh ids are unique, so there is nothing to look up but for those that are known beforehand.
                if element.owner.is_none() && self.element(element.kind, element.id)?.is_some() {
                    return Ok(Some(element.id));
                }
                self.fresh.insert(element.id, Some(Arc::clone(element)));
            }
            Change::Put { element, expected: Some(expected) } => {
                let current = self.element(element.kind, element.id)?;
                if current.is_none_or(|current| current.version != *expected) {
                    return Ok(Some(element.id));
                }
                self.fresh.insert(element.id, Some(Arc::clone(element)));
            }
            Change::Delete { kind, id, expected } => {
                let current = self.element(*kind, *id)?;
                if current.is_none_or(|current| current.version != *expected) {
                    return Ok(Some(*id));
                }
                self.fresh.insert(*id, None);
            }
            Change::Add { kind, id, field, .. } => {
                let Some(current) = self.element(*kind, *id)? else { return Ok(Some(*id)) };
                if !codec::can_add_to(&current.fields.0, field) {
                    return Err(Error::NotANumber { id: *id, field: field.clone() });
                }
            }
        }
        Ok(None)
    }
}

/// Stages one change of a commit that was found good.
fn write(
    shared: &Shared,
    stage: &mut Stage,
    change: Change,
    documents: &mut impl Iterator<Item = Vec<u8>>,
) -> Result<()> {
    let element = |stage: &Stage, kind, id| stage.element(&*shared.engine, &shared.cache, kind, id);
    match change {
        Change::Put { element, expected } => {
            if let (None, Some(ends)) = (expected, &element.ends) {
                link(stage, &element, ends);
            }
            stage.put_element(element, documents.next().unwrap_or_default());
        }
        Change::Delete { kind, id, .. } => {
            if kind == Kind::Node {
                remove_edges_of(shared, stage, id)?;
            }
            if let Some((gone, ends)) =
                element(stage, kind, id)?.and_then(|gone| gone.ends.clone().map(|ends| (gone, ends)))
            {
                unlink(stage, &gone, &ends);
            }
            stage.remove_element(kind, id);
        }
        Change::Add { kind, id, field, by } => {
            let Some(current) = element(stage, kind, id)? else { return Ok(()) };
            let fields = codec::add_to_field(&current.fields.0, &field, by)?;
            let sum = Element {
                kind,
                id,
                name: current.name.clone(),
                owner: current.owner,
                access: current.access.clone(),
                version: current.version + 1,
                ends: current.ends.clone(),
                fields: Fields(fields),
                decoded: DecodedCell::default(),
            };
            let document = codec::encode_element(&sum)?;
            stage.put_element(Arc::new(sum), document);
        }
    }
    Ok(())
}

fn link(stage: &mut Stage, edge: &Element, ends: &Ends) {
    for (node, direction, far) in link_places(ends) {
        stage.link(node, direction, &edge.name, edge.id, Some(keys::far(far)));
    }
}

fn unlink(stage: &mut Stage, edge: &Element, ends: &Ends) {
    for (node, direction, _) in link_places(ends) {
        stage.link(node, direction, &edge.name, edge.id, None);
    }
}

/// Removes every edge of a node that is about to go, also those that its destroyer never saw.
fn remove_edges_of(shared: &Shared, stage: &mut Stage, node: Uuid) -> Result<()> {
    let links = stage.scan(&*shared.engine, Space::Link, &Range::prefix(node.as_bytes()))?;
    let mut names = codec::no_names();
    for (key, value) in &links {
        let edge = keys::parse_link(key, value, &mut names)?.edge;
        // An undirected edge, or one from the node to itself, stands here more than once.
        if let Some(edge) = stage.element(&*shared.engine, &shared.cache, Kind::Edge, edge)? {
            if let Some(ends) = &edge.ends {
                unlink(stage, &edge, ends);
            }
            stage.remove_element(Kind::Edge, edge.id);
        }
    }
    Ok(())
}

/// The live part of a run whose attempt holds this token.
pub(crate) fn under_way(shared: &Shared, stage: &Stage, id: Uuid, token: Token) -> Result<Live> {
    let live = stage.live(&*shared.engine, id)?;
    live.filter(|live| live.token() == token && live.state.is_under_way()).ok_or(Error::LeaseLost)
}

fn run(
    shared: &Shared,
    stage: &mut Stage,
    now: Timestamp,
    mut live: Live,
    run: PreparedRun,
) -> Result<RunEvents> {
    let PreparedRun { id, mut events, conflicts, mut then, .. } = run;
    live.conflicts = conflicts;
    if let PreparedThen::Release { to, .. } = &mut then {
        heed(&live, to, &mut events);
    }
    let mut numbered = Vec::with_capacity(events.len() + 1);
    numbered.extend(say_started(&mut live));
    for event in events {
        numbered.push(number(&mut live, now, event));
    }
    let name = live.name.clone();
    match then {
        PreparedThen::Checkpoint(checkpoint) => {
            take(&mut live, Step::Checkpoint)?;
            stand(stage, &mut live, id, checkpoint);
            put_events(stage, &shared.limits, id, &numbered)?;
            put_live(stage, id, live);
        }
        PreparedThen::Release { checkpoint, to } => {
            if let Some(checkpoint) = checkpoint {
                stand(stage, &mut live, id, checkpoint);
            }
            release(&mut live, to, now)?;
            let is_parked = live.state == State::Incompatible;
            if live.more().cancel_requested_at.is_some() {
                put_events(stage, &shared.limits, id, &numbered)?;
                let end = (ErrorCode::Cancelled, "the run was cancelled".to_owned());
                match end_unheld(shared, stage, now, id, live.clone(), end) {
                    Ok(last) => {
                        numbered.extend(last.events);
                        return Ok(RunEvents { id, name, events: numbered });
                    }
                    // It is parked because of that: its end cannot be written either.
                    Err(Error::Damaged(_)) if is_parked => {}
                    Err(error) => return Err(error),
                }
            }
            // What is parked says why, until a program comes that may take it up.
            let event = if is_parked { None } else { hold(&mut live) };
            let held = event.map(|event| number(&mut live, now, event));
            numbered.extend(held);
            put_events(stage, &shared.limits, id, &numbered)?;
            put_live(stage, id, live);
        }
        PreparedThen::Finish(ending) => {
            let segments = segments(shared, stage, id, &live)?;
            put_events(stage, &shared.limits, id, &numbered)?;
            end(stage, id, live, ending, segments)?;
        }
    }
    Ok(RunEvents { id, name, events: numbered })
}

/// An attempt that was asked for a pause does not hear at once that nobody wants it any more: then its run goes on.
fn heed(live: &Live, to: &mut Release, events: &mut [EventKind]) {
    if matches!(to, Release::Pause) && live.more().pause_requested_at.is_none() {
        *to = Release::Queue;
        for event in events.iter_mut().filter(|event| **event == EventKind::Paused) {
            *event = EventKind::Checkpoint;
        }
    }
}

/// Holds a run that nobody executes any more, when somebody asked for that: its attempt let go before it heard of it. Gives what
/// followers are told.
pub(crate) fn hold(live: &mut Live) -> Option<EventKind> {
    live.more().pause_requested_at?;
    let from = live.state;
    live.state = lifecycle::next(from, Step::Pause)?;
    let is_due = from.is_under_way() || from == State::Incompatible;
    live.more_mut().paused_from = Some(if is_due { State::Queued } else { from });
    Some(EventKind::Paused)
}

/// Gives an event the run's next number.
pub(crate) fn number(live: &mut Live, at: Timestamp, event: EventKind) -> Event {
    live.seq += 1;
    Event { seq: live.seq, at, attempt: live.attempt, event }
}

/// Takes a step of the state machine. The state was looked at before: one that does not allow the step is a fault of the store.
fn take(live: &mut Live, step: Step) -> Result<()> {
    let from = live.state;
    let damaged = || Error::Damaged(format!("a run that is {} cannot {step:?}", from.as_str()));
    live.state = lifecycle::next(from, step).ok_or_else(damaged)?;
    Ok(())
}

/// The run stands at a checkpoint.
fn stand(stage: &mut Stage, live: &mut Live, id: Uuid, stand: PreparedStand) {
    // It got further, so it is not the one that takes the process down at once.
    live.lost = 0;
    live.checkpointed = true;
    if let Some(more) = &mut live.more {
        more.answer = None;
    }
    let PreparedStand { checkpoint, fresh, gone } = stand;
    live.segmented |= !fresh.is_empty();
    for (number, segment) in fresh {
        stage.put(Space::Segment, keys::segment(id, number), segment);
    }
    for number in gone {
        stage.remove(Space::Segment, keys::segment(id, number));
    }
    stage.put(Space::Checkpoint, id.as_bytes().to_vec(), checkpoint);
}

/// The attempt lets go.
fn release(live: &mut Live, to: Release, now: Timestamp) -> Result<()> {
    live.goes_on = !matches!(to, Release::Lost | Release::Retry { .. });
    let step = match to {
        Release::Queue => Step::HandBack,
        Release::Lost => {
            live.lost += 1;
            Step::HandBack
        }
        Release::Pause => {
            let more = live.more_mut();
            more.paused_from = Some(State::Queued);
            more.pause_requested_at = more.pause_requested_at.or(Some(now));
            Step::Pause
        }
        Release::Sleep { until } => {
            live.more_mut().due_at = Some(until);
            Step::Wait
        }
        Release::Await { name, until } => {
            let more = live.more_mut();
            (more.due_at, more.waits_for) = (until, Some(name));
            Step::Wait
        }
        Release::Retry { until, error } => {
            let more = live.more_mut();
            more.due_at = Some(until);
            more.retries += 1;
            more.error = Some(error);
            Step::Wait
        }
        Release::Park { error } => {
            live.more_mut().error = Some((ErrorCode::Incompatible, error));
            Step::Park
        }
    };
    take(live, step)
}

/// Puts the live part of a run, and its place in the index of due runs.
pub(crate) fn put_live(stage: &mut Stage, id: Uuid, mut live: Live) {
    let (stands, belongs) = (live.more().timer, live.wakes_at());
    if stands != belongs {
        if let Some(at) = stands {
            stage.remove(Space::Due, keys::due(at, id));
        }
        if let Some(at) = belongs {
            stage.put(Space::Due, keys::due(at, id), live.root.0.as_bytes().to_vec());
        }
        live.more_mut().timer = belongs;
    }
    live.tidy();
    stage.put_live(id, live);
}

/// The segments of an open run: those that its checkpoint names.
fn segments(shared: &Shared, stage: &Stage, id: Uuid, live: &Live) -> Result<BTreeSet<u64>> {
    if !live.segmented {
        return Ok(BTreeSet::new());
    }
    let checkpoint = stage.get(&*shared.engine, Space::Checkpoint, id.as_bytes())?;
    let checkpoint = checkpoint.map(|bytes| codec::decode::<Checkpoint>(&bytes)).transpose()?;
    Ok(checkpoint.map(|checkpoint| checkpoint.segments()).unwrap_or_default())
}

/// Ends a run, which has these segments.
fn end(stage: &mut Stage, id: Uuid, mut live: Live, ending: Ending, segments: BTreeSet<u64>) -> Result<()> {
    let Ending { step, record, index, lost } = ending;
    take(&mut live, step)?;
    let is_whole = live.more().cancel_requested_at.is_none() && live.lost == lost;
    let record = if is_whole { record } else { amend(&record, &live)? };
    let key = id.as_bytes().to_vec();
    if live.checkpointed {
        stage.remove(Space::Checkpoint, key.clone());
    }
    for number in segments {
        stage.remove(Space::Segment, keys::segment(id, number));
    }
    if let Some(at) = live.more().timer {
        stage.remove(Space::Due, keys::due(at, id));
    }
    stage.remove(Space::ByRoot, keys::by_root(live.root.0, true, id));
    stage.put(Space::ByRoot, keys::by_root(live.root.0, false, id), index);
    stage.remove_live(id);
    stage.put(Space::Walker, key, record);
    Ok(())
}

/// Writes into the last record what the attempt that made it need not have heard of, or what its checkpoints changed.
fn amend(record: &[u8], live: &Live) -> Result<Vec<u8>> {
    let mut walker: Walker = codec::decode(record)?;
    walker.run.cancel_requested_at = live.more().cancel_requested_at;
    walker.run.lost = live.lost;
    codec::encode(&walker)
}

/// Ends a run that no attempt holds, as failed by this code. What cannot be ended is as before.
pub(crate) fn end_unheld(
    shared: &Shared,
    stage: &mut Stage,
    now: Timestamp,
    id: Uuid,
    mut live: Live,
    (code, error): (ErrorCode, String),
) -> Result<RunEvents> {
    let read = |stage: &Stage, space| stage.get(&*shared.engine, space, id.as_bytes());
    let gone = || Error::Damaged(format!("the record of run {id} is gone"));
    let mut walker: Walker = codec::decode(&read(stage, Space::Walker)?.ok_or_else(gone)?)?;
    live.merge_into(&mut walker);
    let checkpoint = if live.checkpointed { read(stage, Space::Checkpoint)? } else { None };
    let fields = match checkpoint {
        Some(checkpoint) => codec::decode::<FieldsOnly>(&checkpoint)?.fields,
        None => walker.archetype.clone(),
    };
    let event = number(&mut live, now, EventKind::Failed { error: error.clone(), code });
    let ending = Ending::new(&mut walker, Finish::failed(now, fields, code, error))?;
    let name = live.name.clone();
    let segments = segments(shared, stage, id, &live)?;
    put_events(stage, &shared.limits, id, std::slice::from_ref(&event))?;
    end(stage, id, live, ending, segments)?;
    Ok(RunEvents { id, name, events: vec![event] })
}

/// The attempt's first event, when it was not written yet.
pub(crate) fn say_started(live: &mut Live) -> Option<Event> {
    if live.state != State::Starting {
        return None;
    }
    live.state = lifecycle::next(live.state, Step::Begin)?;
    live.seq += 1;
    let event = if live.goes_on { EventKind::Resumed } else { EventKind::Started };
    Some(Event { seq: live.seq, at: live.executed_at?, attempt: live.attempt, event })
}

/// Keeps events, and drops the oldest beyond the bound.
pub(crate) fn put_events(stage: &mut Stage, limits: &Limits, id: Uuid, events: &[Event]) -> Result<()> {
    for event in events {
        stage.put(Space::Event, keys::event(id, event.seq), codec::encode(event)?);
        // One goes for each that comes, so the kept ones stay a gapless tail.
        if let Some(old) = event.seq.checked_sub(limits.events_per_run_max.max(1)).filter(|old| *old > 0) {
            stage.remove(Space::Event, keys::event(id, old));
        }
    }
    Ok(())
}
