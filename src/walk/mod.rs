//! The traversal as pure data and rules: the frontier, what is ignored, the path, and the order of abilities.
//!
//! Nothing here awaits, reads a clock or knows a store. The runner asks for the next element, runs what [`ORDER`] says, and puts
//! back what the abilities decided. Between two visits a [`Walk`] is all there is of a traversal. Right after a checkpoint a copy of one
//! costs next to nothing.

mod pieces;

use std::collections::{BTreeMap, VecDeque};

use imbl::OrdSet;
use uuid::Uuid;
use walkabout_schema::{Checkpoint, ElementId, Items, Key, Kind, Name};

use self::pieces::ITEM_BYTES;
pub(crate) use self::pieces::{Item, Pieces, Segments};

/// How many of the last elements visited are remembered.
pub(crate) const PATH_KEPT: usize = 64;

/// Which abilities run, in the order of one visit; the first once at the start, the last once at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The walker's untyped entry abilities, once, where it starts.
    Start,
    /// The walker's entry abilities for the type of the element.
    WalkerEntry,
    /// The element's entry abilities for any walker.
    PlaceEntryAny,
    /// The element's entry abilities for this walker.
    PlaceEntry,
    /// The element's exit abilities for this walker.
    PlaceExit,
    /// The element's exit abilities for any walker.
    PlaceExitAny,
    /// The walker's exit abilities for the type of the element.
    WalkerExit,
    /// The walker's untyped exit abilities, once, at the last element.
    End,
}

/// The stages of one visit.
pub(crate) const ORDER: [Stage; 6] = [
    Stage::WalkerEntry,
    Stage::PlaceEntryAny,
    Stage::PlaceEntry,
    Stage::PlaceExit,
    Stage::PlaceExitAny,
    Stage::WalkerExit,
];

impl Stage {
    /// The name that a checkpoint keeps.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::WalkerEntry => "walker_entry",
            Self::PlaceEntryAny => "place_entry_any",
            Self::PlaceEntry => "place_entry",
            Self::PlaceExit => "place_exit",
            Self::PlaceExitAny => "place_exit_any",
            Self::WalkerExit => "walker_exit",
            Self::End => "end",
        }
    }
}

/// An element to visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) kind: Kind,
    pub(crate) id: Uuid,
    pub(crate) name: Name,
}

impl Item for Location {
    type Stored = ElementId;

    fn weight(&self) -> usize {
        ITEM_BYTES
    }
    fn store(&self) -> ElementId {
        self.element_id()
    }
    fn restore(stored: ElementId) -> Self {
        Self::parse(&stored)
    }
    fn wrap(items: Vec<ElementId>) -> Items {
        Items::Elements(items)
    }
    fn list(items: Items) -> Option<Vec<ElementId>> {
        if let Items::Elements(items) = items { Some(items) } else { None }
    }
}

impl Item for Key {
    type Stored = Self;

    fn weight(&self) -> usize {
        ITEM_BYTES
    }
    fn store(&self) -> Self {
        *self
    }
    fn restore(stored: Self) -> Self {
        stored
    }
    fn wrap(items: Vec<Self>) -> Items {
        Items::Keys(items)
    }
    fn list(items: Items) -> Option<Vec<Self>> {
        if let Items::Keys(items) = items { Some(items) } else { None }
    }
}

impl Location {
    fn element_id(&self) -> ElementId {
        ElementId::new(self.kind, self.name.clone(), self.id)
    }

    fn parse(id: &ElementId) -> Self {
        Self { kind: id.kind(), id: id.uuid(), name: id.name().clone() }
    }
}

/// One traversal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Walk {
    frontier: Pieces<Location>,
    /// In the order in which they came; beside it as a set, for look-up.
    ignored: Pieces<Key>,
    excluded: OrdSet<Uuid>,
    path: VecDeque<Location>,
    visits: u64,
    begun: bool,
    disengaged: bool,
}

impl Walk {
    /// A traversal that will begin at these elements.
    pub(crate) fn starting_at(start: impl IntoIterator<Item = Location>) -> Self {
        Self { frontier: start.into_iter().collect(), ..Self::default() }
    }

    /// Where the traversal stood at a checkpoint. `None` when that does not fit its segments.
    pub(crate) fn resume(checkpoint: &mut Checkpoint, segments: &mut BTreeMap<u64, Items>) -> Option<Self> {
        let ignored: Pieces<Key> = Pieces::load(std::mem::take(&mut checkpoint.ignored), segments)?;
        Some(Self {
            frontier: Pieces::load(std::mem::take(&mut checkpoint.frontier), segments)?,
            excluded: ignored.iter().map(|key| key.0).collect(),
            ignored,
            path: checkpoint.path.iter().map(Location::parse).collect(),
            visits: checkpoint.visits,
            begun: checkpoint.begun,
            disengaged: checkpoint.disengaged,
        })
    }

    /// Writes the traversal's part of a checkpoint.
    pub(crate) fn save(&mut self, segments: &mut Segments, into: &mut Checkpoint) {
        into.frontier = self.frontier.save(segments);
        into.ignored = self.ignored.save(segments);
        into.path = self.path.iter().map(Location::element_id).collect();
        into.visits = self.visits;
        into.begun = self.begun;
        into.disengaged = self.disengaged;
    }

    /// True before anything happened.
    pub(crate) fn is_new(&self) -> bool {
        self.frontier.is_empty() && self.visits == 0 && !self.begun
    }

    /// The element to visit next; it leaves the frontier and joins the path. `None` when the traversal is over.
    pub(crate) fn next(&mut self) -> Option<Location> {
        if self.disengaged {
            return None;
        }
        let next = self.frontier.pop_front()?;
        self.visits += 1;
        if self.path.len() == PATH_KEPT {
            self.path.pop_front();
        }
        self.path.push_back(next.clone());
        Some(next)
    }

    /// What comes next, without going there.
    pub(crate) fn ahead(&self) -> impl Iterator<Item = &Location> {
        self.frontier.iter()
    }

    /// True the first time it is asked: the start abilities are still to run.
    pub(crate) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// Puts elements in the frontier: at the end, or before the one at `index`. Ignored ones are left out.
    /// Gives how many were put in.
    pub(crate) fn visit(
        &mut self,
        index: Option<usize>,
        elements: impl IntoIterator<Item = Location>,
    ) -> usize {
        let before = self.frontier.len();
        let mut at = index.map(|index| index.min(before));
        for element in elements {
            if self.excluded.contains(&element.id) {
                continue;
            }
            match &mut at {
                None => self.frontier.push_back(element),
                Some(at) => {
                    self.frontier.insert(*at, element);
                    *at += 1;
                }
            }
        }
        self.frontier.len() - before
    }

    /// Excludes an element from later visits.
    pub(crate) fn ignore(&mut self, id: Uuid) {
        if self.excluded.insert(id).is_none() {
            self.ignored.push_back(Key(id));
        }
    }

    /// Ends the traversal after the present ability.
    pub(crate) fn disengage(&mut self) {
        self.disengaged = true;
    }

    pub(crate) fn is_disengaged(&self) -> bool {
        self.disengaged
    }

    /// How many elements wait.
    pub(crate) fn waiting(&self) -> usize {
        self.frontier.len()
    }

    /// How many elements were visited.
    pub(crate) fn visits(&self) -> u64 {
        self.visits
    }

    /// The last elements visited, newest last.
    pub(crate) fn path(&self) -> impl Iterator<Item = &Location> {
        self.path.iter()
    }

    /// The element being visited, or the last one.
    pub(crate) fn last(&self) -> Option<&Location> {
        self.path.back()
    }
}

#[cfg(test)]
mod tests;
