//! What lies around a node or an edge, breadth first, as one root may see it.
//!
//! The graph is read from one snapshot, a batch of elements at a time, on the threads of plain walkers. Between two batches only the
//! ids are held of what was looked at, of which there are at most `traverse_items_max`. Called by `http`, and by programs of one's own.

use std::collections::{VecDeque, hash_map::Entry};

use serde_json::{Map, Value};
use uuid::Uuid;
use walkabout_schema::{
    EdgeId, ElementId, Kind, Level, Name, NodeId,
    wire::{Traversed, TraversedEdge, TraversedNode},
};

use crate::{
    Error, Result,
    graph::{BATCH, Graph},
    ids::IdMap,
    runtime::{Caller, Runtime},
    store::{self, Direction, Element},
    walker::Failure,
};

/// What a whole answer may take, in bytes, about. Several are made at once.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where to begin and how far to go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traverse {
    /// A node or an edge; none for the caller's root.
    pub source: Option<ElementId>,
    /// Shows the fields as well.
    pub detailed: bool,
    /// Steps from there: one leads from nodes to their edges, or from edges to their ends. None for as many as there are.
    pub depth: Option<u64>,
    /// The names of the types of nodes that are stepped to; none for all. A root has the empty name.
    pub node_types: Option<Vec<String>>,
    /// The names of the types of edges that are stepped to; none for all. A plain edge has the empty name.
    pub edge_types: Option<Vec<String>>,
}

/// Some elements of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The step: 0 is the source.
    pub step: u64,
    /// What was come to.
    pub items: Items,
    /// What that takes as JSON, in bytes, about.
    pub bytes: usize,
}

/// The elements of a part: at least one, all of one kind, as those of the whole step.
#[derive(Debug, Clone, PartialEq)]
pub enum Items {
    /// Nodes.
    Nodes(Vec<TraversedNode>),
    /// Edges.
    Edges(Vec<TraversedEdge>),
}

/// A traverse under way. It goes on only while somebody asks, and is over when it is dropped.
pub struct Traversal {
    runtime: Runtime,
    search: Option<Search>,
}

impl Runtime {
    /// Looks around a node or an edge. `None` when there is no such element, or the caller may not read it. What the caller may not
    /// read further on is left out, also from the edges that a node names; the edge that leads to it is not.
    ///
    /// # Errors
    /// When the store refuses, or an access rule panics.
    pub async fn traverse(&self, caller: &Caller, wants: Traverse) -> Result<Option<Traversal>> {
        let own = || NodeId::root(caller.root).into();
        let (kind, id) = match wants.source.clone().unwrap_or_else(own) {
            source if matches!(source.kind(), Kind::Node | Kind::Edge) => (source.kind(), source.uuid()),
            _ => return Ok(None),
        };
        let graph = self.engine().graph(caller.root);
        let found = graph.judged(kind, &[id]).await.map_err(refused)?;
        if !found.into_iter().flatten().any(|(_, judged)| judged.level >= Level::Read) {
            return Ok(None);
        }
        let items_max = self.config().traverse_items_max;
        let search = Search {
            graph,
            wants,
            items_max,
            step: 0,
            kind,
            here: VecDeque::from([id]),
            after: VecDeque::new(),
            seen: IdMap::from_iter([(id, Seen::Reached)]),
        };
        Ok(Some(Traversal { runtime: self.clone(), search: Some(search) }))
    }
}

impl Traversal {
    /// The next elements: breadth first, each once; of a node's edges and of an edge's ends in order of creation. None when there are
    /// no more.
    ///
    /// # Errors
    /// [`Error::TraverseTooLarge`] beyond `traverse_items_max`, [`Error::Busy`] when the threads are, what the store says. It is over
    /// then.
    ///
    /// # Cancel safety
    /// A traverse whose call was dropped is over.
    pub async fn next(&mut self) -> Result<Option<Part>> {
        let Some(mut search) = self.search.take() else { return Ok(None) };
        let work = async move {
            let found = search.next().await;
            (search, found)
        };
        let (search, found) = self.runtime.work(work).await?;
        let part = found?;
        self.search = part.is_some().then_some(search);
        Ok(part)
    }

    /// Everything that is left.
    ///
    /// # Errors
    /// As [`Traversal::next`]; [`Error::TraverseTooLarge`] also when the answer would be longer than 64 MiB.
    pub async fn all(mut self) -> Result<Traversed> {
        let (mut all, mut bytes) = (Traversed::default(), 0);
        while let Some(part) = self.next().await? {
            bytes += part.bytes;
            if bytes > ANSWER_BYTES_MAX {
                return Err(Error::TraverseTooLarge);
            }
            match part.items {
                Items::Nodes(mut nodes) => all.nodes.append(&mut nodes),
                Items::Edges(mut edges) => all.edges.append(&mut edges),
            }
        }
        Ok(all)
    }
}

/// What is known of an element that was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// An edge that may not be read.
    Hidden,
    /// An edge that may be read, and was not stepped to.
    Named,
    /// It is listed, or will be if it may be read.
    Reached,
}

/// How far a traverse has come.
struct Search {
    graph: Graph,
    wants: Traverse,
    items_max: usize,
    step: u64,
    /// Of what is listed in this step.
    kind: Kind,
    /// What is still to be listed in this step.
    here: VecDeque<Uuid>,
    /// What the next step will list.
    after: VecDeque<Uuid>,
    seen: IdMap<Seen>,
}

impl Search {
    async fn next(&mut self) -> Result<Option<Part>> {
        loop {
            if self.here.is_empty() {
                if self.after.is_empty() {
                    return Ok(None);
                }
                std::mem::swap(&mut self.here, &mut self.after);
                self.step += 1;
                self.kind = if self.kind == Kind::Node { Kind::Edge } else { Kind::Node };
            }
            let ids: Vec<Uuid> = self.here.drain(..self.here.len().min(BATCH)).collect();
            let found = self.graph.judged(self.kind, &ids).await.map_err(refused)?;
            let found = found.into_iter().flatten().filter(|(_, judged)| judged.level >= Level::Read);
            let (mut nodes, mut edges, mut bytes) = (Vec::new(), Vec::new(), 0);
            for (element, _) in found {
                bytes += weight(&element, self.wants.detailed);
                if self.kind == Kind::Node {
                    let node = self.node(&element).await?;
                    bytes += node.edges.len() * EDGE_BYTES;
                    nodes.push(node);
                } else {
                    edges.extend(self.edge(&element)?);
                }
            }
            let items = if self.kind == Kind::Node { Items::Nodes(nodes) } else { Items::Edges(edges) };
            // All of a batch may be hidden.
            if bytes > 0 {
                return Ok(Some(Part { step: self.step, items, bytes }));
            }
        }
    }

    fn is_last(&self) -> bool {
        self.wants.depth.is_some_and(|depth| self.step >= depth)
    }

    async fn node(&mut self, node: &Element) -> Result<TraversedNode> {
        let links = self.links(node.id).await?;
        self.look_at(&links).await?;
        let is_last = self.is_last();
        let mut edges = Vec::new();
        for (id, name) in links {
            let Some(seen) = self.seen.get_mut(&id).filter(|seen| **seen != Seen::Hidden) else { continue };
            let is_wanted = *seen == Seen::Named && fits(self.wants.edge_types.as_deref(), &name);
            if is_wanted && !is_last {
                *seen = Seen::Reached;
                self.after.push_back(id);
            }
            edges.push(EdgeId::new(name, id));
        }
        let id = NodeId::new(node.name.clone(), node.id);
        Ok(TraversedNode { id, edges, archetype: self.archetype(node)? })
    }

    /// The edges of a node in both directions, each once.
    async fn links(&self, node: Uuid) -> Result<Vec<(Uuid, Name)>> {
        let mut links = Vec::new();
        for direction in [Direction::Out, Direction::In] {
            let some = self.graph.links(node, direction, None).await.map_err(refused)?;
            links.extend(some.iter().map(|link| (link.edge, link.edge_name.clone())));
        }
        links.sort_unstable_by_key(|(edge, _)| *edge);
        links.dedup_by_key(|(edge, _)| *edge);
        Ok(links)
    }

    /// Finds out which edges may be read.
    async fn look_at(&mut self, links: &[(Uuid, Name)]) -> Result<()> {
        let ids: Vec<Uuid> =
            links.iter().map(|(id, _)| *id).filter(|id| !self.seen.contains_key(id)).collect();
        if self.seen.len() + ids.len() > self.items_max {
            return Err(Error::TraverseTooLarge);
        }
        for some in ids.chunks(BATCH) {
            let judged = self.graph.judged(Kind::Edge, some).await.map_err(refused)?;
            for (id, judged) in some.iter().zip(judged) {
                let is_readable = judged.is_some_and(|(_, judged)| judged.level >= Level::Read);
                self.seen.insert(*id, if is_readable { Seen::Named } else { Seen::Hidden });
            }
            // A store on this machine answers at once: others have their turn between.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn edge(&mut self, edge: &Element) -> Result<Option<TraversedEdge>> {
        let Some(ends) = &edge.ends else { return Ok(None) };
        for end in [&ends.source, &ends.target] {
            if self.is_last() || !fits(self.wants.node_types.as_deref(), &end.name) {
                continue;
            }
            let is_full = self.seen.len() >= self.items_max;
            if let Entry::Vacant(place) = self.seen.entry(end.id) {
                if is_full {
                    return Err(Error::TraverseTooLarge);
                }
                place.insert(Seen::Reached);
                self.after.push_back(end.id);
            }
        }
        Ok(Some(TraversedEdge {
            id: EdgeId::new(edge.name.clone(), edge.id),
            source: NodeId::new(ends.source.name.clone(), ends.source.id),
            target: NodeId::new(ends.target.name.clone(), ends.target.id),
            archetype: self.archetype(edge)?,
        }))
    }

    fn archetype(&self, element: &Element) -> Result<Option<Map<String, Value>>> {
        if !self.wants.detailed {
            return Ok(None);
        }
        let fields = element.fields.decode();
        Ok(Some(fields.map_err(|error| store::Error::Damaged(error.to_string()))?))
    }
}

/// What the id of an edge takes in an answer, in bytes, about.
const EDGE_BYTES: usize = 64;

fn weight(element: &Element, detailed: bool) -> usize {
    let fields = if detailed { element.fields.0.as_bytes().len() } else { 0 };
    3 * EDGE_BYTES + fields
}

fn fits(types: Option<&[String]>, name: &Name) -> bool {
    types.is_none_or(|types| types.iter().any(|known| known == name.as_str()))
}

fn refused(failure: Failure) -> Error {
    let message = failure.message().unwrap_or("an element does not load").to_owned();
    match failure.store {
        Some(store) => Error::Store(store),
        None => Error::Walker { code: failure.code, message, run: None },
    }
}
