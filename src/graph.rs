//! The graph as one attempt sees it: a snapshot, and the attempt's own changes over it.
//!
//! An attempt holds one copy of each element ([`Slot`]); every handle points at it. Reads come from one snapshot per checkpoint
//! interval, so they agree with each other. What was changed waits here until `commit` gathers it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use uuid::Uuid;
use walkabout_schema::{Access, ErrorCode, Kind, Level, Name, SYSTEM_ROOT, owns};

use crate::{
    access::{Basis, Judged, Rules, Subject},
    env::Env,
    ids::{IdMap, IdSet},
    store::{Direction, Element, End, Ends, Guard, Link, Snapshot, Store},
    walker::{Failure, Filter, Hop, Slot, fail},
};

/// Slots beyond this many are dropped when nobody holds them and nothing in them changed.
const SLOTS_KEPT: usize = 65_536;
/// How many elements are asked of the store at once.
pub(crate) const BATCH: usize = 256;

/// One attempt's graph.
pub(crate) struct Graph {
    /// The root that the attempt was begun for.
    pub(crate) caller: Uuid,
    /// It acts as the system root in place of that one.
    elevated: AtomicBool,
    rules: Arc<Rules>,
    store: Arc<dyn Store>,
    env: Env,
    /// Changes in one commit.
    changes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    snapshot: Option<Arc<dyn Snapshot>>,
    slots: IdMap<Arc<Slot>>,
    /// Of these the ones that the traversal comes to next.
    ahead: VecDeque<Arc<Slot>>,
    /// The permission blocks of owner roots that were asked for; none for a root that is gone.
    owners: IdMap<Option<Access>>,
    /// New and changed slots, in the order in which they were first changed.
    changed: Vec<Arc<Slot>>,
    /// Links that the attempt made.
    made: HashMap<(Uuid, Direction), Vec<Link>>,
    /// Elements that the attempt destroyed.
    gone: IdSet,
    /// Changes that were made one by one; edits are counted at the commit.
    changes: usize,
    guards: Vec<Guard>,
    /// Links under guard. All are read from one snapshot, so a second guard would say the same.
    guarded_links: HashSet<(Uuid, Direction, Option<Name>)>,
    /// Elements whose access, or all of which, is under guard.
    guarded_access: IdSet,
}

impl State {
    fn guard_access(&mut self, kind: Kind, id: Uuid, expected: &Access) {
        if self.guarded_access.insert(id) {
            self.guards.push(Guard::Access { kind, id, expected: expected.clone() });
        }
    }

    fn guard_version(&mut self, base: &Element) {
        if self.guarded_access.insert(base.id) {
            self.guards.push(Guard::Version { kind: base.kind, id: base.id, expected: base.version });
        }
    }
}

/// A target of a query: the edge that led there, and the node.
pub(crate) struct Found {
    pub(crate) edge: Uuid,
    pub(crate) edge_name: Name,
    pub(crate) node: End,
}

impl Graph {
    pub(crate) fn new(
        caller: Uuid,
        rules: Arc<Rules>,
        store: Arc<dyn Store>,
        env: Env,
        changes_max: usize,
    ) -> Self {
        let elevated = AtomicBool::new(false);
        Self { caller, elevated, rules, store, env, changes_max, state: Mutex::default() }
    }

    /// The root that the attempt acts as now.
    pub(crate) fn actor(&self) -> Uuid {
        if self.is_elevated() { SYSTEM_ROOT } else { self.caller }
    }

    /// The root that the attempt was begun for.
    pub(crate) fn caller(&self) -> Uuid {
        self.caller
    }

    /// Whether it acts as the system root, though it was not begun for that.
    pub(crate) fn is_elevated(&self) -> bool {
        self.elevated.load(Ordering::Relaxed)
    }

    /// Acts as the system root from now on. What is here already is seen with its eyes as well.
    pub(crate) fn elevate(&self) {
        self.elevated.store(true, Ordering::Relaxed);
        self.state().slots.values().for_each(|slot| slot.raise());
    }

    /// The access rules of types.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything: what follows reads the graph as it stands then.
    pub(crate) fn reset(&self) {
        *self.state() = State::default();
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Failure> {
        if let Some(snapshot) = self.state().snapshot.clone() {
            return Ok(snapshot);
        }
        let fresh = self.store.snapshot().await.map_err(Failure::of_store)?;
        Ok(Arc::clone(self.state().snapshot.get_or_insert(fresh)))
    }

    /// An element, loaded at its first use. `None` when there is none, or the attempt destroyed it.
    pub(crate) async fn element(&self, kind: Kind, id: Uuid) -> Result<Option<Arc<Slot>>, Failure> {
        {
            let state = self.state();
            if state.gone.contains(&id) {
                return Ok(None);
            }
            if let Some(slot) = state.slots.get(&id) {
                return Ok((slot.kind == kind).then(|| Arc::clone(slot)));
            }
        }
        self.load(kind, &[id]).await?;
        Ok(self.state().slots.get(&id).filter(|slot| slot.kind == kind).cloned())
    }

    /// An element that may be read; else none, as if there were none.
    pub(crate) async fn readable(&self, kind: Kind, id: Uuid) -> Result<Option<Arc<Slot>>, Failure> {
        Ok(self.element(kind, id).await?.filter(|slot| slot.level() >= Level::Read))
    }

    /// Loads those of the elements that are not here yet, in as few calls as are needed.
    pub(crate) async fn load(&self, kind: Kind, ids: &[Uuid]) -> Result<(), Failure> {
        let wanted: Vec<Uuid> = {
            let state = self.state();
            ids.iter()
                .copied()
                .filter(|id| !state.slots.contains_key(id) && !state.gone.contains(id))
                .collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        for batch in wanted.chunks(BATCH) {
            let judged = self.judged(kind, batch).await?;
            let mut state = self.state();
            state.slots.reserve(judged.len());
            for (element, judged) in judged.into_iter().flatten() {
                let slot = Arc::new(Slot::stored(element, judged));
                state.slots.entry(slot.id).or_insert(slot);
            }
        }
        Ok(())
    }

    /// Elements as they are stored, in the order of `ids`, a batch at most, each with what the acting root may do with it.
    pub(crate) async fn judged(
        &self,
        kind: Kind,
        ids: &[Uuid],
    ) -> Result<Vec<Option<(Arc<Element>, Judged)>>, Failure> {
        let actor = self.actor();
        let elements = self.snapshot().await?.elements(kind, ids).await.map_err(Failure::of_store)?;
        let mut judged = Vec::with_capacity(elements.len());
        for element in elements {
            let Some(element) = element else {
                judged.push(None);
                continue;
            };
            let owners = match element.owner {
                Some(owner) if !owns(actor, element.id, Some(owner)) => self.owner_access(owner).await?,
                _ => None,
            };
            let level = self.rules.judge(actor, &Subject::from(&*element), owners.as_ref())?;
            judged.push(Some((element, level)));
        }
        Ok(judged)
    }

    async fn owner_access(&self, owner: Uuid) -> Result<Option<Access>, Failure> {
        if let Some(known) = self.state().owners.get(&owner) {
            return Ok(known.clone());
        }
        let snapshot = self.snapshot().await?;
        let root = snapshot.elements(Kind::Node, &[owner]).await.map_err(Failure::of_store)?.pop().flatten();
        let access = root.map(|root| root.access.clone());
        self.state().owners.insert(owner, access.clone());
        Ok(access)
    }

    /// The element that the traversal is at. Loads those that come `after` it along with it, as many as one call to the store takes.
    pub(crate) async fn arrive(
        &self,
        kind: Kind,
        id: Uuid,
        after: impl Iterator<Item = Uuid>,
    ) -> Result<Option<Arc<Slot>>, Failure> {
        let is_known = {
            let mut state = self.state();
            if let Some(next) = state.ahead.pop_front_if(|next| next.id == id && next.kind == kind) {
                return Ok(Some(next).filter(|_| !state.gone.contains(&id)));
            }
            state.ahead.clear();
            state.slots.contains_key(&id) || state.gone.contains(&id)
        };
        if is_known {
            return self.element(kind, id).await;
        }
        let ids: Vec<Uuid> = std::iter::once(id).chain(after.take(BATCH - 1)).collect();
        self.load(kind, &ids).await?;
        let mut state = self.state();
        let State { slots, ahead, .. } = &mut *state;
        // Up to the first that is not there: what follows the others in the frontier follows them here.
        ahead.extend(ids.iter().skip(1).map_while(|id| slots.get(id).cloned()));
        Ok(slots.get(&id).filter(|slot| slot.kind == kind).cloned())
    }

    /// Drops slots that can be read again, when there are many.
    pub(crate) fn trim(&self) {
        let mut state = self.state();
        if state.slots.len() > SLOTS_KEPT {
            state.slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.state().is_changed());
        }
    }

    /// The links of a node in a direction, the attempt's own included, in order of creation.
    pub(crate) async fn links(
        &self,
        node: Uuid,
        direction: Direction,
        edge: Option<&Name>,
    ) -> Result<Arc<[Link]>, Failure> {
        let (is_new, made, has_gone) = {
            let state = self.state();
            let is_new = state.slots.get(&node).is_some_and(|slot| slot.base.is_none());
            let made = state.made.get(&(node, direction)).cloned().unwrap_or_default();
            (is_new, made, !state.gone.is_empty())
        };
        let stored: Arc<[Link]> = if is_new {
            Arc::from([])
        } else {
            self.snapshot().await?.links(node, direction, edge.cloned()).await.map_err(Failure::of_store)?
        };
        let mixed = edge.is_none()
            && stored
                .first()
                .zip(stored.last())
                .is_some_and(|(first, last)| first.edge_name != last.edge_name);
        if made.is_empty() && !has_gone && !mixed {
            return Ok(stored);
        }
        let state = self.state();
        let made = made.iter().filter(|link| edge.is_none_or(|name| link.edge_name == *name));
        let mut links: Vec<Link> = stored
            .iter()
            .chain(made)
            .filter(|link| !state.gone.contains(&link.edge) && !state.gone.contains(&link.far.id))
            .cloned()
            .collect();
        drop(state);
        // Ids rise with creation, whatever the type of the edge.
        links.sort_by_key(|link| link.edge);
        Ok(links.into())
    }

    /// Follows one hop from some nodes. Each node is found once, by the first edge that leads there; unreadable ones never, nor
    /// unreadable edges where edges are wanted or their fields looked at.
    async fn follow(&self, from: &[Uuid], hop: &Hop, by_edge: bool) -> Result<Vec<Found>, Failure> {
        let mut found = Vec::new();
        let mut seen = IdSet::default();
        for &node in from {
            for &direction in hop.directions {
                for name in &edge_names(hop)? {
                    for link in self.links(node, direction, name.as_ref()).await?.iter() {
                        if hop.node.is_some_and(|matches| !matches(Kind::Node, &link.far.name)) {
                            continue;
                        }
                        if seen.insert(if by_edge { link.edge } else { link.far.id }) {
                            found.push(Found {
                                edge: link.edge,
                                edge_name: link.edge_name.clone(),
                                node: link.far.clone(),
                            });
                        }
                    }
                }
            }
        }
        self.keep_readable(&mut found).await?;
        if by_edge || !hop.edge_filters.is_empty() {
            self.keep_readable_edges(&mut found).await?;
        }
        if !hop.edge_filters.is_empty() {
            let ids: Vec<Uuid> = found.iter().map(|found| found.edge).collect();
            let fits = self.fitting(Kind::Edge, &ids, &hop.edge_filters).await?;
            let mut fits = fits.into_iter();
            found.retain(|_| fits.next().unwrap_or(false));
        }
        if !hop.node_filters.is_empty() {
            let ids: Vec<Uuid> = found.iter().map(|found| found.node.id).collect();
            let fits = self.fitting(Kind::Node, &ids, &hop.node_filters).await?;
            let mut fits = fits.into_iter();
            found.retain(|_| fits.next().unwrap_or(false));
        }
        Ok(found)
    }

    async fn keep_readable(&self, found: &mut Vec<Found>) -> Result<(), Failure> {
        let actor = self.actor();
        let is_own = |end: &End| owns(actor, end.id, end.owner);
        if found.iter().all(|found| is_own(&found.node)) {
            return Ok(());
        }
        let foreign: Vec<Uuid> =
            found.iter().filter(|found| !is_own(&found.node)).map(|found| found.node.id).collect();
        self.load(Kind::Node, &foreign).await?;
        let state = self.state();
        found.retain(|found| {
            is_own(&found.node)
                || state.slots.get(&found.node.id).is_some_and(|slot| slot.level() >= Level::Read)
        });
        Ok(())
    }

    /// A link does not say who may read its edge, so the edges are loaded; of many, some at a time.
    async fn keep_readable_edges(&self, found: &mut Vec<Found>) -> Result<(), Failure> {
        const AT_ONCE: usize = SLOTS_KEPT / 4;
        if self.actor() == SYSTEM_ROOT {
            return Ok(());
        }
        let ids: Vec<Uuid> = found.iter().map(|found| found.edge).collect();
        let mut readable = Vec::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE) {
            self.load(Kind::Edge, some).await?;
            let is_readable = |slot: &Arc<Slot>| slot.level() >= Level::Read;
            let state = self.state();
            readable.extend(some.iter().map(|id| state.slots.get(id).is_some_and(is_readable)));
            drop(state);
            if ids.len() > AT_ONCE {
                self.trim();
            }
        }
        let mut readable = readable.into_iter();
        found.retain(|_| readable.next().unwrap_or(false));
        Ok(())
    }

    async fn fitting(&self, kind: Kind, ids: &[Uuid], filters: &[Filter]) -> Result<Vec<bool>, Failure> {
        self.load(kind, ids).await?;
        let mut fits = Vec::with_capacity(ids.len());
        for &id in ids {
            let slot = self.state().slots.get(&id).cloned();
            let mut all = slot.is_some();
            for filter in filters {
                all = all && slot.as_ref().map_or(Ok(false), |slot| filter(slot))?;
            }
            fits.push(all);
        }
        Ok(fits)
    }

    /// Follows all hops of a query.
    pub(crate) async fn find(
        &self,
        from: &[Uuid],
        hops: &[Hop],
        by_edge: bool,
    ) -> Result<Vec<Found>, Failure> {
        let Some((last, hops)) = hops.split_last() else { return Ok(Vec::new()) };
        let mut nodes = from.to_vec();
        for hop in hops {
            nodes = self.follow(&nodes, hop, false).await?.into_iter().map(|found| found.node.id).collect();
        }
        self.follow(&nodes, last, by_edge).await
    }

    /// Makes the commit fail when the nodes' links, as a hop sees them, are no longer what they were.
    pub(crate) async fn guard_links(&self, from: &[Uuid], hop: &Hop) -> Result<(), Failure> {
        let snapshot = self.snapshot().await?;
        for &node in from {
            if self.state().slots.get(&node).is_some_and(|slot| slot.base.is_none()) {
                continue;
            }
            for &direction in hop.directions {
                for edge_name in edge_names(hop)? {
                    let key = (node, direction, edge_name.clone());
                    if self.state().guarded_links.contains(&key) {
                        continue;
                    }
                    let expected = snapshot
                        .links(node, direction, edge_name.clone())
                        .await
                        .map_err(Failure::of_store)?;
                    let seen = snapshot.number();
                    let mut state = self.state();
                    state.guarded_links.insert(key);
                    state.guards.push(Guard::Links { node, direction, edge_name, expected, seen });
                }
            }
        }
        Ok(())
    }

    /// Makes the commit fail when one of the nodes that a hop's filters refused has changed by then: it may fit now.
    pub(crate) async fn guard_refused(&self, from: &[Uuid], hop: &Hop) -> Result<(), Failure> {
        if hop.node_filters.is_empty() {
            return Ok(());
        }
        let hop = Hop { node_filters: Vec::new(), ..hop.clone() };
        let mut refused = Vec::new();
        for found in self.follow(from, &hop, false).await? {
            let slot = self.element(Kind::Node, found.node.id).await?;
            refused.extend(slot.filter(|slot| slot.base.is_some()));
        }
        let (count, bound) = (refused.len(), self.changes_max);
        if count > bound {
            return Err(Failure::coded(
                ErrorCode::CommitTooLarge,
                format!(
                    "first_or_create looked at {count} nodes that do not fit, and their versions would go with the commit; commit_changes_max {bound} bounds them: hang the nodes from more than one, or find them without a filter"
                ),
            ));
        }
        for slot in refused {
            slot.state().touched = true;
        }
        Ok(())
    }

    /// Counts a change, when there is room for it in one commit.
    pub(crate) fn count_change(&self) -> Result<(), Failure> {
        let mut state = self.state();
        if state.changes >= self.changes_max {
            return Err(Failure::coded(
                ErrorCode::CommitTooLarge,
                format!(
                    "one commit would carry too many changes; commit_changes_max is {}: ask for a checkpoint() now and then",
                    self.changes_max
                ),
            ));
        }
        state.changes += 1;
        Ok(())
    }

    /// A new element, owned by the acting root.
    pub(crate) fn create(
        &self,
        kind: Kind,
        name: Name,
        ends: Option<Ends>,
        data: crate::walker::Data,
    ) -> Result<Arc<Slot>, Failure> {
        self.count_change()?;
        let slot = Arc::new(Slot::fresh(kind, self.env.id(), name, self.actor(), ends, data));
        let mut state = self.state();
        state.slots.insert(slot.id, Arc::clone(&slot));
        state.changed.push(Arc::clone(&slot));
        Ok(slot)
    }

    /// A new edge between two nodes. Both need CONNECT; the commit checks that it still holds.
    pub(crate) fn connect(
        &self,
        source: &Arc<Slot>,
        target: &Arc<Slot>,
        name: Name,
        undirected: bool,
        data: crate::walker::Data,
    ) -> Result<Arc<Slot>, Failure> {
        for end in [source, target] {
            if end.kind != Kind::Node {
                return Err(fail(format!("{} is no node: an edge joins two nodes", end.element_id())));
            }
            if end.level() < Level::Connect {
                return Err(forbidden("CONNECT", end));
            }
            if end.state().deleted {
                return Err(fail(format!("{} was destroyed: it cannot be connected", end.element_id())));
            }
        }
        let as_end = |slot: &Slot| End { id: slot.id, name: slot.name.clone(), owner: slot.owner };
        let ends = Ends { source: as_end(source), target: as_end(target), undirected };
        let edge = self.create(Kind::Edge, name, Some(ends.clone()), data)?;
        let mut state = self.state();
        for (node, direction, far) in link_places(&ends) {
            let link = Link { edge: edge.id, edge_name: edge.name.clone(), far: far.clone() };
            state.made.entry((node, direction)).or_default().push(link);
        }
        drop(state);
        for end in [source, target] {
            self.guard_access(end);
        }
        Ok(edge)
    }

    /// Makes the commit fail when what allowed the acting root to change a foreign element no longer holds.
    pub(crate) fn guard_access(&self, slot: &Slot) {
        let (basis, Some(base)) = (slot.basis(), &slot.base) else { return };
        let mut state = self.state();
        match basis {
            Basis::Owner => return,
            Basis::Blocks => state.guard_access(slot.kind, slot.id, &base.access),
            Basis::Rule => state.guard_version(base),
        }
        let owner = slot.owner.and_then(|owner| Some((owner, state.owners.get(&owner)?.clone()?)));
        if let Some((owner, access)) = owner {
            state.guard_access(Kind::Node, owner, &access);
        }
    }

    /// Notes that the commit must look at a slot.
    fn list(&self, slot: &Arc<Slot>) -> Result<(), Failure> {
        if slot.state().listed {
            return Ok(());
        }
        self.count_change()?;
        slot.state().listed = true;
        self.state().changed.push(Arc::clone(slot));
        Ok(())
    }

    /// Destroys an element; a node takes its edges along.
    pub(crate) fn destroy(&self, slot: &Arc<Slot>) -> Result<(), Failure> {
        if slot.level() < Level::Write {
            return Err(forbidden("WRITE", slot));
        }
        if slot.kind == Kind::Node && slot.name.is_empty() {
            return Err(fail(format!("{} is a root: a root cannot be destroyed", slot.element_id())));
        }
        self.list(slot)?;
        slot.state().deleted = true;
        self.guard_access(slot);
        let mut state = self.state();
        state.gone.insert(slot.id);
        // New edges of a destroyed node must not be written; stored ones go with the node in the store.
        let made: Vec<Arc<Slot>> = state
            .changed
            .iter()
            .filter(|edge| {
                edge.ends.as_ref().is_some_and(|ends| ends.source.id == slot.id || ends.target.id == slot.id)
            })
            .cloned()
            .collect();
        for edge in made {
            state.gone.insert(edge.id);
            edge.state().deleted = true;
        }
        Ok(())
    }

    /// True for an edge of a node that the attempt destroyed.
    pub(crate) fn goes_with_its_node(&self, slot: &Slot) -> bool {
        let Some(ends) = &slot.ends else { return false };
        let state = self.state();
        state.gone.contains(&ends.source.id) || state.gone.contains(&ends.target.id)
    }

    /// Every slot that the commit must look at, new ones in the order in which they were made.
    pub(crate) fn changed(&self) -> Vec<Arc<Slot>> {
        let mut state = self.state();
        let State { slots, changed, .. } = &mut *state;
        let mut edited: Vec<&Arc<Slot>> = slots
            .values()
            .filter(|slot| {
                let inner = slot.state();
                !inner.listed && inner.is_changed()
            })
            .collect();
        // The order of a hash map is not defined; that of ids is.
        edited.sort_by_key(|slot| slot.id);
        for slot in edited {
            slot.state().listed = true;
            changed.push(Arc::clone(slot));
        }
        changed.clone()
    }

    /// What the commit must check.
    pub(crate) fn guards(&self) -> Vec<Guard> {
        self.state().guards.clone()
    }
}

/// The edge types that a hop follows, by all their names; none for every type.
fn edge_names(hop: &Hop) -> Result<Vec<Option<Name>>, Failure> {
    let Some(names) = hop.edge else { return Ok(vec![None]) };
    std::iter::once(names.name)
        .chain(names.aliases.iter().copied())
        .map(|name| if name.is_empty() { Ok(Name::empty()) } else { Name::new(name) })
        .map(|name| Ok(Some(name?)))
        .collect()
}

/// The entries of the adjacency index that an edge makes: node, direction, far end.
pub(crate) fn link_places(ends: &Ends) -> Vec<(Uuid, Direction, &End)> {
    let mut places =
        vec![(ends.source.id, Direction::Out, &ends.target), (ends.target.id, Direction::In, &ends.source)];
    if ends.undirected {
        places.push((ends.source.id, Direction::In, &ends.target));
        places.push((ends.target.id, Direction::Out, &ends.source));
    }
    places
}

pub(crate) fn forbidden(needed: &str, slot: &Slot) -> Failure {
    Failure::coded(ErrorCode::Forbidden, format!("{needed} access to {} is needed", slot.element_id()))
}

#[cfg(test)]
mod tests;
