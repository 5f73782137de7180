//! Whether what is stored agrees with itself: for simulations, after any batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use uuid::Uuid;
use walkabout_schema::{Checkpoint, Event, Key, Kind, Part, Segment, SegmentId, State, Walker};

use super::{
    codec::{self, Live},
    engine::{Range, Space, View},
    keys,
};
use crate::store::{Direction, End, Error, Result};

fn wrong(what: impl Into<String>) -> Error {
    Error::Damaged(what.into())
}

/// Checks that links are exactly those of the edges, that no edge hangs in the air, that the events of each run are numbered from 1
/// without a gap, that live parts and the index of runs are those of the open runs, and that segments are exactly those that
/// checkpoints of open runs name. Gives the number of entries looked at.
///
/// # Errors
/// [`Error::Damaged`] with what is wrong.
pub(crate) fn check(view: &dyn View) -> Result<usize> {
    Ok(links(view)? + runs(view)? + segments(view)?)
}

fn all(view: &dyn View, space: Space) -> Result<Vec<super::engine::Pair>> {
    let range = Range { from: Bound::Unbounded, to: Bound::Unbounded };
    view.scan(space, range, false, usize::MAX)
}

fn links(view: &dyn View) -> Result<usize> {
    let mut expected = BTreeMap::new();
    for (key, value) in all(view, Space::Edge)? {
        let id = Uuid::from_slice(&key).map_err(|_| wrong("the id of an edge"))?;
        let edge = codec::decode_element(Kind::Edge, &value)?;
        let ends = edge.ends.as_ref().ok_or_else(|| wrong(format!("edge {id} has no ends")))?;
        let source = end(view, id, &ends.source)?;
        let target = end(view, id, &ends.target)?;
        let mut expect = |from: &End, direction, to: &End| {
            expected.insert(keys::link(from.id, direction, &edge.name, id), keys::far(to));
        };
        expect(&source, Direction::Out, &target);
        expect(&target, Direction::In, &source);
        if ends.undirected {
            expect(&source, Direction::In, &target);
            expect(&target, Direction::Out, &source);
        }
    }
    let found: BTreeMap<_, _> =
        all(view, Space::Link)?.into_iter().map(|(key, value)| (key, value.to_vec())).collect();
    if found != expected {
        return Err(wrong(format!("{} links stand for {} of edges", found.len(), expected.len())));
    }
    Ok(found.len())
}

/// The end of an edge as its node says it: the edge does not know who owns that.
fn end(view: &dyn View, edge: Uuid, end: &End) -> Result<End> {
    let node = view.get(Space::Node, end.id.as_bytes())?;
    let node = node.ok_or_else(|| wrong(format!("edge {edge} ends at {}, which is gone", end.id)))?;
    let node = codec::decode_element(Kind::Node, &node)?;
    Ok(End { id: node.id, name: node.name, owner: node.owner })
}

fn runs(view: &dyn View) -> Result<usize> {
    let mut looked = 0;
    for (key, value) in all(view, Space::Walker)? {
        let mut walker: Walker = codec::decode(&value)?;
        let id = walker.id.0;
        let live = view.get(Space::Live, &key)?.map(|live| codec::decode::<Live>(&live)).transpose()?;
        if let Some(live) = &live {
            live.merge_into(&mut walker);
        }
        if walker.run.state.is_final() != live.is_none() {
            return Err(wrong(format!(
                "run {id} is {:?}, and has a live part: {}",
                walker.run.state,
                live.is_some()
            )));
        }
        for is_open in [true, false] {
            let entry = view.get(Space::ByRoot, &keys::by_root(walker.owner(), is_open, id))?;
            if entry.is_some() != (is_open == live.is_some()) {
                return Err(wrong(format!("the index has run {id} wrongly, open: {is_open}")));
            }
        }
        let events = view.scan(Space::Event, Range::prefix(&key), false, usize::MAX)?;
        for (index, (_, event)) in events.iter().enumerate() {
            let event: Event = codec::decode(event)?;
            if event.seq != index as u64 + 1 {
                return Err(wrong(format!("event {} of run {id} has the number {}", index + 1, event.seq)));
            }
            if event.event.is_final() != (live.is_none() && index + 1 == events.len()) {
                return Err(wrong(format!("event {} of run {id} is final, or the last is not", event.seq)));
            }
        }
        if live.is_some_and(|live| live.seq != events.len() as u64 || live.state == State::Succeeded) {
            return Err(wrong(format!("the live part of run {id} does not fit its events")));
        }
        looked += 1 + events.len();
    }
    Ok(looked)
}

fn segments(view: &dyn View) -> Result<usize> {
    let mut named = BTreeSet::new();
    for (key, live) in all(view, Space::Live)? {
        let id = Uuid::from_slice(&key).map_err(|_| wrong("the id of an open run"))?;
        let live: Live = codec::decode(&live)?;
        let Some(checkpoint) = view.get(Space::Checkpoint, &key)? else { continue };
        let checkpoint: Checkpoint = codec::decode(&checkpoint)?;
        let numbers = checkpoint.segments();
        if numbers.last().is_some_and(|last| *last >= checkpoint.next_segment || !live.segmented) {
            return Err(wrong(format!("the segments of run {id} are more than it knows of")));
        }
        lies_within(view, id, &checkpoint.frontier)?;
        lies_within(view, id, &checkpoint.ignored)?;
        lies_within(view, id, &checkpoint.reports)?;
        named.extend(numbers.into_iter().map(|number| keys::segment(id, number)));
    }
    let found: BTreeSet<_> = all(view, Space::Segment)?.into_iter().map(|(key, _)| key).collect();
    if found != named {
        return Err(wrong(format!(
            "there are {} segments where checkpoints name {}",
            found.len(),
            named.len()
        )));
    }
    let open: BTreeSet<_> = all(view, Space::Live)?.into_iter().map(|(key, _)| key).collect();
    let checkpoints: BTreeSet<_> = all(view, Space::Checkpoint)?.into_iter().map(|(key, _)| key).collect();
    if !checkpoints.is_subset(&open) {
        return Err(wrong("a run that has ended has a checkpoint"));
    }
    Ok(found.len())
}

/// Every part lies within its segment.
fn lies_within<T>(view: &dyn View, run: Uuid, parts: &[Part<T>]) -> Result<()> {
    for part in parts {
        let Part::Segment { number, from, to } = part else { continue };
        let gone = || wrong(format!("segment {number} of run {run} is gone"));
        let document = view.get(Space::Segment, &keys::segment(run, *number))?.ok_or_else(gone)?;
        let segment: Segment = codec::decode(&document)?;
        if segment.id != (SegmentId { run: Key(run), number: *number }) {
            return Err(wrong(format!("segment {number} of run {run} says that it is another")));
        }
        if from >= to || *to > segment.items.len() as u64 {
            return Err(wrong(format!("segment {number} of run {run} has no items {from} to {to}")));
        }
    }
    Ok(())
}
