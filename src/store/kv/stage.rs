//! What a commit group is about to write, readable before it is written.
//!
//! Members of a group see the effects of those before them, so each is checked against the engine, the group so far, and its own
//! writes; in that order the later wins. A member that is refused leaves nothing behind.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;
use walkabout_schema::Kind;

use super::{
    codec,
    engine::{Bytes, Engine, Range, Space, Write},
    keys,
};
use crate::store::{Element, Result};

type Writes = BTreeMap<(Space, Vec<u8>), Option<Bytes>>;

/// One layer of writes: of a group, or of one member.
#[derive(Default)]
pub(crate) struct Layer {
    writes: Writes,
    /// Elements as they will stand; none for those that will be gone.
    pub(crate) elements: HashMap<Uuid, Option<Arc<Element>>>,
    /// Nodes whose links change.
    pub(crate) linked: HashSet<Uuid>,
}

/// The writes of one member over those of its group.
pub(crate) struct Stage<'a> {
    engine: &'a dyn Engine,
    group: &'a Layer,
    pub(crate) own: Layer,
}

impl Layer {
    /// Takes the writes of a member that was found good.
    pub(crate) fn absorb(&mut self, member: Self) {
        self.writes.extend(member.writes);
        self.elements.extend(member.elements);
        self.linked.extend(member.linked);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The batch for the engine.
    pub(crate) fn into_batch(self) -> Vec<Write> {
        self.writes
            .into_iter()
            .map(|((space, key), value)| (space, key, value.map(|value| value.to_vec())))
            .collect()
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(engine: &'a dyn Engine, group: &'a Layer) -> Self {
        Self { engine, group, own: Layer::default() }
    }

    pub(crate) fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.own.writes.insert((space, key), Some(value.into()));
    }

    pub(crate) fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.own.writes.insert((space, key), None);
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let full = (space, key.to_vec());
        match self.own.writes.get(&full).or_else(|| self.group.writes.get(&full)) {
            Some(staged) => Ok(staged.clone()),
            None => self.engine.get(space, key),
        }
    }

    /// All keys of a range with their values.
    pub(crate) fn scan(&self, space: Space, range: Range) -> Result<BTreeMap<Vec<u8>, Bytes>> {
        let bounds = (
            range.from.clone().map(|key| (space, key)),
            // Beyond the last key of a space begin those of the next, which the filter below leaves out.
            range.to.clone().map(|key| (space, key)),
        );
        let mut found: BTreeMap<_, _> =
            self.engine.scan(space, range, false, usize::MAX)?.into_iter().collect();
        for layer in [self.group, &self.own] {
            for ((at, key), value) in layer.writes.range(bounds.clone()).filter(|((at, _), _)| *at == space) {
                debug_assert_eq!(*at, space);
                match value {
                    Some(value) => drop(found.insert(key.clone(), Arc::clone(value))),
                    None => drop(found.remove(key)),
                }
            }
        }
        Ok(found)
    }

    /// An element as it stands after everything before.
    pub(crate) fn element(&self, kind: Kind, id: Uuid) -> Result<Option<Arc<Element>>> {
        if let Some(staged) = self.own.elements.get(&id).or_else(|| self.group.elements.get(&id)) {
            return Ok(staged.clone().filter(|element| element.kind == kind));
        }
        let stored = self.engine.get(keys::space_of(kind), id.as_bytes())?;
        stored.map(|bytes| codec::decode_element(kind, &bytes).map(Arc::new)).transpose()
    }

    pub(crate) fn put_element(&mut self, element: &Arc<Element>) -> Result<()> {
        let document = codec::encode_element(element)?;
        self.put(keys::space_of(element.kind), element.id.as_bytes().to_vec(), document);
        self.own.elements.insert(element.id, Some(Arc::clone(element)));
        Ok(())
    }

    pub(crate) fn remove_element(&mut self, kind: Kind, id: Uuid) {
        self.remove(keys::space_of(kind), id.as_bytes().to_vec());
        self.own.elements.insert(id, None);
    }
}
