//! The rules of one commit: what must hold, and what it writes.

use std::sync::Arc;

use uuid::Uuid;
use walkabout_schema::{Event, EventKind, Fields, Kind, State, Timestamp, Walker};

use super::{
    codec::{self, Live},
    engine::{Range, Space},
    keys,
    stage::Stage,
    writer::live,
};
use crate::{
    graph::link_places,
    store::{
        Change, Commit, DecodedCell, Element, Ends, Error, Guard, Limits, Result, RunCommit, RunEvents, Then,
        set_state,
    },
};

/// A commit that was found good.
pub(crate) struct Applied {
    pub(crate) events: Option<RunEvents>,
}

/// Checks a commit and stages its writes. On an error the stage is to be thrown away.
pub(crate) fn commit(
    stage: &mut Stage<'_>,
    limits: &Limits,
    now: Timestamp,
    commit: Commit,
) -> Result<Applied> {
    let Commit { run, changes, guards } = commit;
    if let Some(run) = &run {
        live(stage, run.id)?.filter(|live| live.token() == run.token).ok_or(Error::LeaseLost)?;
    }
    let mut conflicts = Vec::new();
    // Guards speak of what was read: they are checked before the commit's own changes.
    for guard in &guards {
        if !holds(stage, guard)? {
            conflicts.push(guard.id());
        }
    }
    for change in changes {
        if let Some(id) = self::change(stage, change)? {
            conflicts.push(id);
        }
    }
    if !conflicts.is_empty() {
        conflicts.sort_unstable();
        conflicts.dedup();
        return Err(Error::Conflict(conflicts));
    }
    let events = run.map(|run| self::run(stage, limits, now, run)).transpose()?;
    Ok(Applied { events })
}

impl Guard {
    fn id(&self) -> Uuid {
        match self {
            Self::Version { id, .. } | Self::Access { id, .. } => *id,
            Self::Links { node, .. } => *node,
        }
    }
}

fn holds(stage: &Stage<'_>, guard: &Guard) -> Result<bool> {
    Ok(match guard {
        Guard::Version { kind, id, expected } => {
            stage.element(*kind, *id)?.is_some_and(|element| element.version == *expected)
        }
        Guard::Access { kind, id, expected } => {
            stage.element(*kind, *id)?.is_some_and(|element| element.access == *expected)
        }
        Guard::Links { node, direction, edge_name, expected } => {
            let prefix = keys::links(*node, *direction, edge_name.as_ref());
            let found = stage.scan(Space::Link, Range::prefix(&prefix))?;
            let mut names = codec::no_names();
            let mut edges = Vec::with_capacity(found.len());
            for (key, value) in &found {
                edges.push(keys::parse_link(key, value, &mut names)?.edge);
            }
            // Which edges there are is what counts; their order follows from it.
            let mut expected = expected.clone();
            expected.sort_unstable();
            edges.sort_unstable();
            edges == expected
        }
    })
}

/// Stages one change; gives the id that it conflicts on.
fn change(stage: &mut Stage<'_>, change: Change) -> Result<Option<Uuid>> {
    match change {
        Change::Put { element, expected: None } => {
            if let Some(ends) = &element.ends {
                for end in [&ends.source, &ends.target] {
                    if stage.element(Kind::Node, end.id)?.is_none() {
                        return Ok(Some(end.id));
                    }
                }
                link(stage, &element, ends);
            }
            // Fresh ids are unique, so there is nothing to look up but for those that are known beforehand.
            if element.owner.is_none() && stage.element(element.kind, element.id)?.is_some() {
                return Ok(Some(element.id));
            }
            stage.put_element(&element)?;
            Ok(None)
        }
        Change::Put { element, expected: Some(expected) } => {
            match stage.element(element.kind, element.id)? {
                Some(current) if current.version == expected => stage.put_element(&element).map(|()| None),
                _ => Ok(Some(element.id)),
            }
        }
        Change::Delete { kind, id, expected } => {
            let Some(current) = stage.element(kind, id)?.filter(|current| current.version == expected) else {
                return Ok(Some(id));
            };
            if kind == Kind::Node {
                remove_edges_of(stage, id)?;
            }
            if let Some(ends) = &current.ends {
                unlink(stage, &current, ends);
            }
            stage.remove_element(kind, id);
            Ok(None)
        }
        Change::Add { kind, id, field, by } => {
            let Some(current) = stage.element(kind, id)? else { return Ok(Some(id)) };
            let Some(fields) = codec::add_to_field(&current.fields.0, &field, by)? else {
                return Ok(Some(id));
            };
            let element = Element {
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
            stage.put_element(&Arc::new(element))?;
            Ok(None)
        }
    }
}

fn link(stage: &mut Stage<'_>, edge: &Element, ends: &Ends) {
    for (node, direction, far) in link_places(ends) {
        stage.put(Space::Link, keys::link(node, direction, &edge.name, edge.id), keys::far(far));
        stage.own.linked.insert(node);
    }
}

fn unlink(stage: &mut Stage<'_>, edge: &Element, ends: &Ends) {
    for (node, direction, _) in link_places(ends) {
        stage.remove(Space::Link, keys::link(node, direction, &edge.name, edge.id));
        stage.own.linked.insert(node);
    }
}

/// Removes every edge of a node that is about to go, also those that its destroyer never saw.
fn remove_edges_of(stage: &mut Stage<'_>, node: Uuid) -> Result<()> {
    let links = stage.scan(Space::Link, Range::prefix(node.as_bytes()))?;
    let mut names = codec::no_names();
    for (key, value) in &links {
        let edge = keys::parse_link(key, value, &mut names)?.edge;
        // An undirected edge, or one from the node to itself, stands here more than once.
        if let Some(edge) = stage.element(Kind::Edge, edge)? {
            if let Some(ends) = &edge.ends {
                unlink(stage, &edge, ends);
            }
            stage.remove_element(Kind::Edge, edge.id);
        }
    }
    Ok(())
}

fn run(stage: &mut Stage<'_>, limits: &Limits, now: Timestamp, run: RunCommit) -> Result<RunEvents> {
    let RunCommit { id, events, then, conflicts, .. } = run;
    let (Some(mut live), Some(document)) = (live(stage, id)?, stage.get(Space::Walker, id.as_bytes())?)
    else {
        return Err(Error::LeaseLost);
    };
    let mut walker: Walker = codec::decode(&document)?;
    live.conflicts = conflicts;
    let mut numbered = Vec::with_capacity(events.len() + 1);
    numbered.extend(say_started(&mut live));
    for event in events {
        live.seq += 1;
        numbered.push(Event { seq: live.seq, at: now, attempt: live.attempt, event });
    }
    put_events(stage, limits, id, &numbered)?;
    let key = id.as_bytes().to_vec();
    walker.version += 1;
    match then {
        Then::Checkpoint(checkpoint) => {
            // It got further, so it is not the one that takes the process down at once.
            live.lost = 0;
            walker.archetype = checkpoint.fields.clone();
            stage.put(Space::Checkpoint, key.clone(), codec::encode(&*checkpoint)?);
            stage.put(Space::Live, key.clone(), codec::encode(&live)?);
        }
        Then::Finish(finish) => {
            live.state = if finish.error.is_none() { State::Succeeded } else { State::Failed };
            live.merge_into(&mut walker);
            set_state(&mut walker, live.state);
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
            stage.remove(Space::Live, key.clone());
            if stage.get(Space::Checkpoint, &key)?.is_some() {
                stage.remove(Space::Checkpoint, key.clone());
            }
            let index = keys::status_and_name(walker.schedule.status, &walker.name);
            stage.put(Space::ByRoot, keys::by_root(live.root.0, id), index);
        }
    }
    stage.put(Space::Walker, key, codec::encode(&walker)?);
    Ok(RunEvents { id, name: walker.name, events: numbered })
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
pub(crate) fn put_events(stage: &mut Stage<'_>, limits: &Limits, id: Uuid, events: &[Event]) -> Result<()> {
    for event in events {
        stage.put(Space::Event, keys::event(id, event.seq), codec::encode(event)?);
        // One goes for each that comes, so the kept ones stay a gapless tail.
        if let Some(old) = event.seq.checked_sub(limits.events_per_run_max.max(1)).filter(|old| *old > 0) {
            stage.remove(Space::Event, keys::event(id, old));
        }
    }
    Ok(())
}
