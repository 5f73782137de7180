//! The store as it stands after the members of a group so far: what is about to be written, over the engine.
//!
//! What a member wrote here that was found bad after all is taken back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use uuid::Uuid;
use walkabout_schema::{Kind, Name, State};

use super::{
    cache::Cache,
    codec::{self, Live},
    engine::{Bytes, Engine, Range, SPACES, Space, Write},
    keys::{self, Marker},
};
use crate::{
    ids::{IdMap, IdSet},
    run::lifecycle::{self, Step},
    store::{Direction, Element, Result},
};

/// Beyond this many, live parts of runs that wait are read from the engine.
const LIVES_KEPT: usize = 8192;
/// How many of the last changes of links are remembered.
const CHANGES_KEPT: usize = 16_384;

/// Encoded values by key; none for a key that is removed.
type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A change of the adjacency index.
struct LinkChange {
    group: u64,
    node: Uuid,
    direction: Direction,
    edge_name: Name,
}

/// What the member under examination changed, as it was before.
enum Before {
    Write(Space, Vec<u8>, Option<Option<Vec<u8>>>),
    Element(Uuid, Option<Option<Arc<Element>>>),
    /// A node whose links had not changed.
    Unlinked(Uuid),
    Live(Uuid, Option<Live>),
    /// Whether this group had changed it.
    Relived(Uuid, bool),
    /// The change of links that was forgotten for one more, and up to where they were forgotten then.
    Change(Option<LinkChange>, u64),
}

/// See the module.
pub(crate) struct Stage {
    writes: [Writes; SPACES.len()],
    /// Elements as they will stand; none for those that will be gone.
    elements: IdMap<Option<Arc<Element>>>,
    /// Nodes whose links change.
    linked: IdSet,
    /// The live parts of the runs that were claimed and have not ended: no more than attempts are under way. Beside them those of
    /// runs that were just submitted, while there is room. Kept from group to group.
    lives: IdMap<Live>,
    /// Those of them that this group changes.
    relived: IdSet,
    /// The last changes of links, also those of earlier groups.
    changes: VecDeque<LinkChange>,
    /// Up to which group changes of links were forgotten.
    forgotten: u64,
    /// The number that the group will have.
    number: u64,
    /// What the present member changed so far.
    before: Vec<Before>,
}

/// What a group leaves for the readers' cache.
pub(crate) struct Touched {
    pub(crate) elements: IdMap<Option<Arc<Element>>>,
    pub(crate) linked: IdSet,
}

impl Stage {
    /// A stage for the groups after this number.
    pub(crate) fn after(group: u64) -> Self {
        Self {
            writes: std::array::from_fn(|_| Writes::new()),
            elements: IdMap::default(),
            linked: IdSet::default(),
            lives: IdMap::default(),
            relived: IdSet::default(),
            changes: VecDeque::new(),
            forgotten: group,
            number: group + 1,
            before: Vec::new(),
        }
    }

    /// Lets a rule examine one member. What is refused leaves nothing.
    pub(crate) fn examine<T>(&mut self, rule: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let examined = rule(self);
        match examined {
            Ok(_) => self.before.clear(),
            Err(_) => self.take_back(),
        }
        examined
    }

    fn take_back(&mut self) {
        for before in std::mem::take(&mut self.before).into_iter().rev() {
            match before {
                Before::Write(space, key, was) => {
                    if let Some(writes) = self.writes.get_mut(space as usize) {
                        match was {
                            Some(value) => drop(writes.insert(key, value)),
                            None => drop(writes.remove(&key)),
                        }
                    }
                }
                Before::Element(id, was) => restore(&mut self.elements, id, was),
                Before::Unlinked(node) => drop(self.linked.remove(&node)),
                Before::Live(id, was) => restore(&mut self.lives, id, was),
                Before::Relived(id, was) => match was {
                    true => drop(self.relived.insert(id)),
                    false => drop(self.relived.remove(&id)),
                },
                Before::Change(oldest, forgotten) => {
                    self.changes.pop_back();
                    self.forgotten = forgotten;
                    if let Some(oldest) = oldest {
                        self.changes.push_front(oldest);
                    }
                }
            }
        }
    }

    /// The number that the group will have.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.relived.is_empty() && self.writes.iter().all(Writes::is_empty)
    }

    /// Hands the group over, and begins the next one. `synced` is the last group known to be on disk.
    pub(crate) fn take(&mut self, synced: u64) -> Result<(Vec<Write>, Touched)> {
        for id in std::mem::take(&mut self.relived) {
            if let Some(live) = self.lives.get(&id) {
                let document = codec::encode(live)?;
                let is_next = live.state == State::Queued && self.lives.len() < LIVES_KEPT;
                if !is_next && !live.state.is_under_way() {
                    self.lives.remove(&id);
                }
                self.put(Space::Live, id.as_bytes().to_vec(), document);
            }
        }
        self.put(Space::Meta, keys::META_GROUP.to_vec(), Marker { group: self.number, synced }.encode());
        self.number += 1;
        self.before.clear();
        let mut batch = Vec::with_capacity(self.writes.iter().map(Writes::len).sum());
        for ((space, _), writes) in SPACES.iter().zip(&mut self.writes) {
            batch.extend(std::mem::take(writes).into_iter().map(|(key, value)| (*space, key, value)));
        }
        let touched = Touched {
            elements: std::mem::take(&mut self.elements),
            linked: std::mem::take(&mut self.linked),
        };
        Ok((batch, touched))
    }

    fn write(&mut self, space: Space, key: Vec<u8>, value: Option<Vec<u8>>) {
        if let Some(writes) = self.writes.get_mut(space as usize) {
            let was = writes.insert(key.clone(), value);
            self.before.push(Before::Write(space, key, was));
        }
    }

    pub(crate) fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.write(space, key, Some(value));
    }

    pub(crate) fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.write(space, key, None);
    }

    pub(crate) fn get(&self, engine: &dyn Engine, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        match self.writes.get(space as usize).and_then(|writes| writes.get(key)) {
            Some(staged) => Ok(staged.as_deref().map(Bytes::from)),
            None => engine.get(space, key),
        }
    }

    /// All keys of a range with their values.
    pub(crate) fn scan(
        &self,
        engine: &dyn Engine,
        space: Space,
        range: &Range,
    ) -> Result<BTreeMap<Vec<u8>, Bytes>> {
        let mut found: BTreeMap<_, _> =
            engine.scan(space, range.clone(), false, usize::MAX)?.into_iter().collect();
        if let Some(writes) = self.writes.get(space as usize) {
            for (key, value) in writes.range::<Vec<u8>, _>((range.from.as_ref(), range.to.as_ref())) {
                match value {
                    Some(value) => drop(found.insert(key.clone(), Bytes::from(value.as_slice()))),
                    None => drop(found.remove(key)),
                }
            }
        }
        Ok(found)
    }

    /// An element as it stands after everything before. `published` is the last group that readers see.
    pub(crate) fn element(
        &self,
        engine: &dyn Engine,
        cache: &Cache,
        kind: Kind,
        id: Uuid,
    ) -> Result<Option<Arc<Element>>> {
        if let Some(staged) = self.elements.get(&id) {
            return Ok(staged.clone().filter(|element| element.kind == kind));
        }
        // Every group before this one is applied.
        let published = self.number - 1;
        if let Some(cached) = cache.element(id, published) {
            return Ok(cached.filter(|element| element.kind == kind));
        }
        let stored = engine.get(keys::space_of(kind), id.as_bytes())?;
        let element = stored.map(|bytes| codec::decode_element(kind, &bytes).map(Arc::new)).transpose()?;
        if element.is_some() {
            cache.fill_element(id, published, element.clone());
        }
        Ok(element)
    }

    pub(crate) fn put_element(&mut self, element: Arc<Element>, document: Vec<u8>) {
        self.put(keys::space_of(element.kind), element.id.as_bytes().to_vec(), document);
        let (id, was) = (element.id, self.elements.insert(element.id, Some(element)));
        self.before.push(Before::Element(id, was));
    }

    pub(crate) fn remove_element(&mut self, kind: Kind, id: Uuid) {
        self.remove(keys::space_of(kind), id.as_bytes().to_vec());
        let was = self.elements.insert(id, None);
        self.before.push(Before::Element(id, was));
    }

    /// Puts a link, or removes it.
    pub(crate) fn link(
        &mut self,
        node: Uuid,
        direction: Direction,
        edge_name: &Name,
        edge: Uuid,
        far: Option<Vec<u8>>,
    ) {
        self.write(Space::Link, keys::link(node, direction, edge_name, edge), far);
        if self.linked.insert(node) {
            self.before.push(Before::Unlinked(node));
        }
        let forgotten = self.forgotten;
        let oldest = if self.changes.len() >= CHANGES_KEPT { self.changes.pop_front() } else { None };
        if let Some(oldest) = &oldest {
            self.forgotten = oldest.group;
        }
        self.before.push(Before::Change(oldest, forgotten));
        let group = self.number;
        self.changes.push_back(LinkChange { group, node, direction, edge_name: edge_name.clone() });
    }

    /// Whether links changed after a group; none when that is not remembered.
    pub(crate) fn relinked(
        &self,
        node: Uuid,
        direction: Direction,
        edge_name: Option<&Name>,
        since: u64,
    ) -> Option<bool> {
        let is_such = |change: &LinkChange| {
            change.node == node
                && change.direction == direction
                && edge_name.is_none_or(|name| change.edge_name == *name)
        };
        let mut later = self.changes.iter().rev().take_while(|change| change.group > since);
        if later.any(is_such) {
            return Some(true);
        }
        (self.forgotten <= since).then_some(false)
    }

    /// The live part of an open run.
    pub(crate) fn live(&self, engine: &dyn Engine, id: Uuid) -> Result<Option<Live>> {
        match self.lives.get(&id) {
            Some(live) => Ok(Some(live.clone())),
            None => {
                let stored = self.get(engine, Space::Live, id.as_bytes())?;
                stored.map(|bytes| codec::decode(&bytes)).transpose()
            }
        }
    }

    /// Keeps the live part of a run that was just submitted, while there is room: its claim is near.
    pub(crate) fn remember_live(&mut self, id: Uuid, live: Live) {
        if self.lives.len() < LIVES_KEPT {
            let was = self.lives.insert(id, live);
            self.before.push(Before::Live(id, was));
        }
    }

    /// Changes the live part of a run; it is encoded once, at the end of the group. That of one whose claim is not near is forgotten
    /// then.
    pub(crate) fn put_live(&mut self, id: Uuid, live: Live) {
        let was = self.lives.insert(id, live);
        self.before.push(Before::Live(id, was));
        let is_new = self.relived.insert(id);
        self.before.push(Before::Relived(id, !is_new));
    }

    /// Makes all runs under way in this epoch due again, as if their attempts had not been lost but given back. Those of an earlier
    /// one were lost.
    pub(crate) fn hand_back(&mut self, epoch: u64) {
        let is_ours = |live: &Live| live.state.is_under_way() && live.epoch == epoch;
        for (id, live) in self.lives.iter_mut().filter(|(_, live)| is_ours(live)) {
            if let Some(state) = lifecycle::next(live.state, Step::HandBack) {
                (live.state, live.goes_on) = (state, true);
                self.relived.insert(*id);
            }
        }
    }

    pub(crate) fn remove_live(&mut self, id: Uuid) {
        let was = self.lives.remove(&id);
        self.before.push(Before::Live(id, was));
        let was = self.relived.remove(&id);
        self.before.push(Before::Relived(id, was));
        self.remove(Space::Live, id.as_bytes().to_vec());
    }
}

fn restore<V>(map: &mut IdMap<V>, id: Uuid, was: Option<V>) {
    match was {
        Some(value) => drop(map.insert(id, value)),
        None => drop(map.remove(&id)),
    }
}
