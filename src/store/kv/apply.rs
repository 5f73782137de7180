//! The rules of one commit: what must hold, and what it writes.

use std::sync::Arc;

use uuid::Uuid;
use walkabout_schema::{Event, EventKind, Fields, Kind, Timestamp, Walker};

use super::{
    codec::{self, Live},
    engine::{Range, Space},
    keys,
    stage::Stage,
    writer::Shared,
};
use crate::{
    graph::link_places,
    ids::{IdMap, IdSet},
    store::{
        Change, Commit, DecodedCell, Element, Ends, Error, Guard, Limits, Result, RunEvents, Then, Token,
        set_state,
    },
};

/// A commit with everything encoded that can be encoded before it is checked: callers do that, the committer is the narrow place.
pub(crate) struct Prepared {
    changes: Vec<Change>,
    /// The documents of the changes that put an element, in their order.
    documents: Vec<Vec<u8>>,
    guards: Vec<Guard>,
    run: Option<PreparedRun>,
}

struct PreparedRun {
    id: Uuid,
    token: Token,
    events: Vec<EventKind>,
    conflicts: u32,
    /// The record as it will stand.
    record: Vec<u8>,
    then: PreparedThen,
}

enum PreparedThen {
    Checkpoint(Vec<u8>),
    /// The entry of the index of runs.
    Finish(Vec<u8>),
}

impl Prepared {
    /// True when it writes more than the end of a run.
    pub(crate) fn adds_data(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Encodes a commit, and gives the run's record as it will stand. `record` is what the commit's token holds.
    pub(crate) fn new(commit: Commit, record: Option<Walker>) -> Result<(Self, Option<Walker>)> {
        let Commit { run, changes, guards } = commit;
        let mut documents = Vec::with_capacity(changes.len());
        for change in &changes {
            if let Change::Put { element, .. } = change {
                documents.push(codec::encode_element(element)?);
            }
        }
        let Some((run, mut walker)) = run.zip(record) else {
            return Ok((Self { changes, documents, guards, run: None }, None));
        };
        walker.version += 1;
        walker.run.conflicts = run.conflicts;
        let then = match run.then {
            Then::Checkpoint(checkpoint) => {
                let encoded = codec::encode(&*checkpoint)?;
                walker.archetype = checkpoint.fields;
                walker.run.lost = 0;
                PreparedThen::Checkpoint(encoded)
            }
            Then::Finish(finish) => {
                set_state(&mut walker, finish.state());
                walker.archetype = finish.fields;
                walker.schedule.http_status = Some(finish.http_status);
                walker.schedule.reports = finish.reports;
                walker.schedule.custom = finish.custom;
                walker.run.result = finish.result;
                walker.run.finished_at = Some(finish.at);
                if let Some((code, message)) = finish.error {
                    walker.run.error_code = Some(code);
                    walker.schedule.error = Some(message);
                }
                PreparedThen::Finish(keys::status_and_name(walker.schedule.status, &walker.name))
            }
        };
        let run = PreparedRun {
            id: run.id,
            token: run.token,
            events: run.events,
            conflicts: run.conflicts,
            record: codec::encode(&walker)?,
            then,
        };
        Ok((Self { changes, documents, guards, run: Some(run) }, Some(walker)))
    }
}

/// Checks a commit, and stages its writes when it is good. One that is refused leaves nothing.
pub(crate) fn commit(
    shared: &Shared,
    stage: &mut Stage,
    now: Timestamp,
    commit: Prepared,
) -> Result<Option<RunEvents>> {
    let Prepared { run, changes, documents, guards } = commit;
    let run = match run {
        None => None,
        Some(run) => {
            let live = stage.live(&*shared.engine, run.id)?.filter(|live| live.token() == run.token);
            Some((live.ok_or(Error::LeaseLost)?, run))
        }
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
    let written = || {
        let mut documents = documents.into_iter();
        for change in changes {
            write(shared, stage, change, &mut documents)?;
        }
        run.map(|(live, run)| self::run(shared, stage, now, live, run)).transpose()
    };
    // A part may be staged by then: nothing of this group may be written any more.
    written().inspect_err(|error| shared.give_up(error))
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

fn run(
    shared: &Shared,
    stage: &mut Stage,
    now: Timestamp,
    mut live: Live,
    run: PreparedRun,
) -> Result<RunEvents> {
    let PreparedRun { id, events, conflicts, record, then, .. } = run;
    live.conflicts = conflicts;
    let mut numbered = Vec::with_capacity(events.len() + 1);
    numbered.extend(say_started(&mut live));
    for event in events {
        live.seq += 1;
        numbered.push(Event { seq: live.seq, at: now, attempt: live.attempt, event });
    }
    put_events(stage, &shared.limits, id, &numbered)?;
    let key = id.as_bytes().to_vec();
    let name = live.name.clone();
    match then {
        PreparedThen::Checkpoint(checkpoint) => {
            // It got further, so it is not the one that takes the process down at once.
            live.lost = 0;
            live.checkpointed = true;
            stage.put(Space::Checkpoint, key.clone(), checkpoint);
            stage.put_live(id, live);
        }
        PreparedThen::Finish(index) => {
            if live.checkpointed {
                stage.remove(Space::Checkpoint, key.clone());
            }
            stage.remove(Space::ByRoot, keys::by_root(live.root.0, true, id));
            stage.put(Space::ByRoot, keys::by_root(live.root.0, false, id), index);
            stage.remove_live(id);
        }
    }
    stage.put(Space::Walker, key, record);
    Ok(RunEvents { id, name, events: numbered })
}

/// The attempt's first event, when it was not written yet.
pub(crate) fn say_started(live: &mut Live) -> Option<Event> {
    if !std::mem::take(&mut live.unsaid) {
        return None;
    }
    live.seq += 1;
    Some(Event { seq: live.seq, at: live.executed_at?, attempt: live.attempt, event: EventKind::Started })
}

/// Keeps events, and drops the oldest beyond the bound.
pub(crate) fn put_events(stage: &mut Stage, limits: &Limits, id: Uuid, events: &[Event]) -> Result<()> {
    // All are encoded before the first is staged: what is refused leaves nothing.
    let encoded: Vec<_> = events.iter().map(codec::encode).collect::<Result<_>>()?;
    for (event, encoded) in events.iter().zip(encoded) {
        stage.put(Space::Event, keys::event(id, event.seq), encoded);
        // One goes for each that comes, so the kept ones stay a gapless tail.
        if let Some(old) = event.seq.checked_sub(limits.events_per_run_max.max(1)).filter(|old| *old > 0) {
            stage.remove(Space::Event, keys::event(id, old));
        }
    }
    Ok(())
}
