//! What one group has read of the database, in the shape in which the rules of [`kv`](crate::store::kv) read it.
//!
//! The rules are written for a store that answers at once. Here they are run over what was fetched beforehand; when they ask for
//! something else they are stopped, that is fetched, and they are run again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bson::{Bson, Document, RawDocumentBuf, doc, raw::RawBsonRef};
use futures_util::TryStreamExt;
use mongodb::ClientSession;
use uuid::Uuid;
use walkabout_schema::{Kind, Name};

use super::{
    base::{Base, Place, Tries},
    documents::{self, uuid_of},
};
use crate::{
    graph::link_places,
    store::{
        Direction, Error, Result,
        kv::{
            codec,
            engine::{Bytes, Engine, Pair, Range, Space, View, Write},
            keys,
        },
    },
};

/// Ids asked for in one request.
const IDS_AT_ONCE: usize = 1000;

/// Something to be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Need {
    /// One value.
    Value(Space, Vec<u8>),
    /// Links, by the beginning of their keys.
    Links(Vec<u8>),
}

impl Need {
    pub(super) fn element(kind: Kind, id: Uuid) -> Self {
        Self::Value(keys::space_of(kind), id.as_bytes().to_vec())
    }

    pub(super) fn links(node: Uuid, of: Option<(Direction, Option<&Name>)>) -> Self {
        Self::Links(match of {
            Some((direction, edge_name)) => keys::links(node, direction, edge_name),
            None => node.as_bytes().to_vec(),
        })
    }

    pub(super) fn live(run: Uuid) -> Self {
        Self::Value(Space::Live, run.as_bytes().to_vec())
    }
}

/// A cheap handle.
#[derive(Clone, Default)]
pub(super) struct Fetched {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    values: HashMap<(Space, Vec<u8>), Option<Bytes>>,
    links: BTreeMap<Vec<u8>, Bytes>,
    /// The beginnings of keys of which all links are here.
    linked: HashSet<Vec<u8>>,
    /// Elements that were read and are there, since [`Fetched::reset_reads`].
    reads: HashSet<(Space, Vec<u8>)>,
    /// Nodes whose links were read.
    scanned: HashSet<Uuid>,
    missing: HashSet<Need>,
}

impl Fetched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clear(&self) {
        *self.state() = State::default();
    }

    /// Begins to note what is read.
    pub(super) fn reset_reads(&self) {
        let mut state = self.state();
        state.reads.clear();
        state.scanned.clear();
    }

    /// The elements that were read and are there, and the nodes whose links were read.
    pub(super) fn take_reads(&self) -> (HashSet<(Space, Vec<u8>)>, HashSet<Uuid>) {
        let mut state = self.state();
        (std::mem::take(&mut state.reads), std::mem::take(&mut state.scanned))
    }

    /// What was asked for and is not here.
    pub(super) fn take_missing(&self) -> HashSet<Need> {
        std::mem::take(&mut self.state().missing)
    }

    /// Whether a value was found.
    pub(super) fn has(&self, space: Space, key: &[u8]) -> bool {
        matches!(self.state().values.get(&(space, key.to_vec())), Some(Some(_)))
    }

    /// Reads what is not here yet.
    pub(super) async fn fetch(
        &self,
        base: &Base,
        session: &mut ClientSession,
        needs: impl IntoIterator<Item = Need>,
    ) -> Tries<()> {
        let mut wanted: BTreeMap<(Space, bool), Vec<Vec<u8>>> = BTreeMap::new();
        let mut links = Vec::new();
        {
            let state = self.state();
            for need in needs {
                match need {
                    Need::Value(space, key) if !state.values.contains_key(&(space, key.clone())) => {
                        wanted.entry((space, is_identity(space, &key))).or_default().push(key);
                    }
                    Need::Links(prefix) if !state.linked.contains(&prefix) => links.push(prefix),
                    _ => {}
                }
            }
        }
        for ((space, _), mut keys) in wanted {
            keys.sort_unstable();
            keys.dedup();
            for some in keys.chunks(IDS_AT_ONCE) {
                self.fetch_values(base, session, space, some).await?;
            }
        }
        links.sort_unstable();
        links.dedup();
        for prefix in links {
            self.fetch_links(base, session, prefix).await?;
        }
        Ok(())
    }

    async fn fetch_values(
        &self,
        base: &Base,
        session: &mut ClientSession,
        space: Space,
        keys: &[Vec<u8>],
    ) -> Tries<()> {
        let Some(Question { place, field, ids, only }) = question(space, keys)? else {
            let mut state = self.state();
            state.values.extend(keys.iter().map(|key| ((space, key.clone()), None)));
            return Ok(());
        };
        let found = base.collection::<RawDocumentBuf>(place);
        let mut find = found.find(doc! { field: { "$in": ids } });
        if let Some(only) = only {
            find = find.projection(only);
        }
        let mut cursor = find.session(&mut *session).await?;
        let documents: Vec<RawDocumentBuf> = cursor.stream(session).try_collect().await?;
        let mut state = self.state();
        for key in keys {
            state.values.insert((space, key.clone()), None);
        }
        for document in documents {
            if let Some((key, value)) = documents::value_of(space, &document)? {
                state.values.insert((space, key), Some(value));
            }
        }
        Ok(())
    }

    async fn fetch_links(&self, base: &Base, session: &mut ClientSession, prefix: Vec<u8>) -> Tries<()> {
        let filter = links_filter(&prefix)?;
        let mut cursor =
            base.collection::<RawDocumentBuf>(Place::Edge).find(filter).session(&mut *session).await?;
        let edges: Vec<RawDocumentBuf> = cursor.stream(session).try_collect().await?;
        let mut state = self.state();
        for edge in edges {
            let element = documents::edge(&edge)?;
            if let Some(ends) = &element.ends {
                for (node, direction, far) in link_places(ends) {
                    let key = keys::link(node, direction, &element.name, element.id);
                    if key.starts_with(&prefix) {
                        state.links.insert(key, keys::far(far).into());
                    }
                }
            }
            let key = (Space::Edge, element.id.as_bytes().to_vec());
            state.values.insert(key, Some(edge.into_bytes().into()));
        }
        state.linked.insert(prefix);
        Ok(())
    }
}

/// What is to be asked for values.
struct Question {
    place: Place,
    field: &'static str,
    ids: Vec<Bson>,
    only: Option<Document>,
}

/// Whether a key of users is that of an identity, which are in a collection of their own.
fn is_identity(space: Space, key: &[u8]) -> bool {
    space == Space::User && key.first() == Some(&keys::BY_IDENTITY)
}

/// None when nothing of this kind is ever found. Keys of identities come without others.
fn question(space: Space, keys: &[Vec<u8>]) -> Result<Option<Question>> {
    let of = |place, field, id: fn(&[u8]) -> Result<Bson>, only| {
        let ids = keys.iter().map(|key| id(key)).collect::<Result<Vec<Bson>>>()?;
        Ok(Some(Question { place, field, ids, only }))
    };
    let text = |key: &[u8]| -> Result<Bson> { Ok(Bson::String(String::from_utf8_lossy(key).into_owned())) };
    match space {
        Space::Node => of(Place::Node, "_id", uuid_of, None),
        Space::Edge => of(Place::Edge, "_id", uuid_of, None),
        Space::Object => of(Place::Object, "_id", uuid_of, None),
        Space::Walker => of(Place::Walker, "_id", uuid_of, None),
        Space::Live => of(Place::Walker, "_id", uuid_of, Some(doc! { "live": 1 })),
        Space::Checkpoint => of(Place::Checkpoint, "_id", uuid_of, None),
        Space::User if keys.first().is_some_and(|key| is_identity(space, key)) => {
            of(Place::Identity, "_id", documents::identity_id, None)
        }
        Space::User => of(Place::User, "email", text, None),
        Space::Request => of(Place::Request, "_id", documents::request_id, None),
        Space::Meta => of(Place::Meta, "_id", text, None),
        Space::Event | Space::Segment | Space::Link | Space::ByRoot | Space::Due => Ok(None),
    }
}

/// The edges of links whose keys begin so: a node, then perhaps a direction, then perhaps the name of an edge type.
fn links_filter(prefix: &[u8]) -> Result<Document> {
    let damaged = || Error::Damaged("the beginning of a key of links".to_owned());
    let (node, rest) = prefix.split_at_checked(16).ok_or_else(damaged)?;
    let node = uuid_of(node)?;
    let Some((direction, name)) = rest.split_first() else {
        return Ok(doc! { "$or": [{ "out": node.clone() }, { "in": node }] });
    };
    let field = if *direction == 0 { "out" } else { "in" };
    Ok(match name.split_last() {
        Some((_, name)) => doc! { field: node, "name": String::from_utf8_lossy(name).into_owned() },
        None => doc! { field: node },
    })
}

impl View for Fetched {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let mut state = self.state();
        let place = (space, key.to_vec());
        match state.values.get(&place).cloned() {
            Some(value) => {
                if value.is_some() && matches!(space, Space::Node | Space::Edge | Space::Object) {
                    state.reads.insert(place);
                }
                Ok(value)
            }
            None => {
                state.missing.insert(Need::Value(space, key.to_vec()));
                Err(Error::Unavailable("it is not read yet".to_owned()))
            }
        }
    }

    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<Pair>> {
        // Requests are forgotten by the database.
        if space != Space::Link {
            return Ok(Vec::new());
        }
        let (Bound::Included(from), false) = (&range.from, reverse) else {
            return Err(Error::Damaged("links are read from the beginning".to_owned()));
        };
        let mut state = self.state();
        if !(16..=from.len()).any(|length| from.get(..length).is_some_and(|part| state.linked.contains(part)))
        {
            state.missing.insert(Need::Links(from.clone()));
            return Err(Error::Unavailable("it is not read yet".to_owned()));
        }
        if let Some(node) = from.get(..16).and_then(|node| Uuid::from_slice(node).ok()) {
            state.scanned.insert(node);
        }
        let found = state.links.range::<Vec<u8>, _>((range.from.as_ref(), range.to.as_ref()));
        Ok(found.take(limit).map(|(key, value)| (key.clone(), Arc::clone(value))).collect())
    }
}

impl Engine for Fetched {
    fn snapshot(&self) -> Arc<dyn View> {
        Arc::new(self.clone())
    }

    fn apply(&self, _: Vec<Write>, _: bool) -> Result<()> {
        Err(Error::Damaged("what was read is not written to".to_owned()))
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn close(&self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// The name and the state of a stored live part, without the rest of it.
pub(super) fn live_of(document: &RawDocumentBuf) -> Result<Option<codec::Live>> {
    match document.get("live") {
        Ok(Some(RawBsonRef::Document(live))) => codec::decode(live.as_bytes()).map(Some),
        _ => Ok(None),
    }
}
