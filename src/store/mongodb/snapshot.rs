//! The graph as it stood at one moment: a transaction that only reads.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bson::{Document, RawDocumentBuf, doc};
use futures_util::{TryStreamExt, future::BoxFuture};
use mongodb::{ClientSession, options::FindOptions};
use tokio::{
    sync::Mutex,
    time::{Duration, Instant},
};
use uuid::Uuid;
use walkabout_schema::{Kind, Name};

use super::{
    base::{Base, Place, Tried, Tries},
    documents::{self, bson_id},
};
use crate::{
    graph::link_places,
    ids::IdMap,
    store::{Direction, Element, Link, Result, Snapshot},
};

/// Ids asked for in one request.
const IDS_AT_ONCE: usize = 1000;
/// How long a read is tried again while the database cannot be reached.
/// The shortest wait before it is; it doubles from then on.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Two views never have one number here.
static NUMBER: AtomicU64 = AtomicU64::new(1);

pub(super) struct MongoSnapshot {
    base: Arc<Base>,
    number: u64,
    /// Its transaction. The server ends one that lives for longer than a minute or so: from then on a later moment is read, and what
    /// changed between is found by the commit.
    session: Mutex<Option<ClientSession>>,
}

impl MongoSnapshot {
    /// Opens a view of the present moment.
    pub(super) async fn open(base: &Arc<Base>) -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let this = Self { base: Arc::clone(base), number, session: Mutex::new(None) };
        // The moment is that of the first read.
        this.find(Place::Meta, doc! { "_id": "format" }, FindOptions::default()).await?;
        Ok(this)
    }

    async fn find(&self, place: Place, filter: Document, options: FindOptions) -> Tries<Vec<RawDocumentBuf>> {
        let begun = Instant::now();
        let mut session = self.session.lock().await;
        let collection = self.base.collection::<RawDocumentBuf>(place);
        let mut pause = PAUSE_MIN;
        loop {
            let open = match &mut *session {
                Some(open) => open,
                none => {
                    let mut fresh = self.base.session().await?;
                    self.base.begin(&mut fresh).await?;
                    none.insert(fresh)
                }
            };
            let read = async {
                let mut cursor =
                    collection.find(filter.clone()).with_options(options.clone()).session(&mut *open).await?;
                Ok(cursor.stream(open).try_collect().await?)
            };
            match self.base.bounded(read).await {
                Ok(found) => return Ok(found),
                Err(Tried::Away(why) | Tried::Crossed(why)) if begun.elapsed() < self.base.patience => {
                    tracing::debug!(why, "a view of the graph is opened again");
                    *session = None;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => {
                    *session = None;
                    return Err(error);
                }
            }
        }
    }
}

impl Snapshot for MongoSnapshot {
    fn number(&self) -> u64 {
        self.number
    }

    fn elements(&self, kind: Kind, ids: &[Uuid]) -> BoxFuture<'_, Result<Vec<Option<Arc<Element>>>>> {
        let ids = ids.to_vec();
        Box::pin(async move {
            let place = match kind {
                Kind::Node => Place::Node,
                Kind::Edge => Place::Edge,
                Kind::Object => Place::Object,
                Kind::Walker => return Ok(vec![None; ids.len()]),
            };
            let mut found: IdMap<Arc<Element>> = IdMap::default();
            for some in ids.chunks(IDS_AT_ONCE) {
                let some: Vec<_> = some.iter().copied().map(bson_id).collect();
                let filter = doc! { "_id": { "$in": some } };
                for document in self.find(place, filter, FindOptions::default()).await? {
                    let element = documents::element(kind, &document)?;
                    found.insert(element.id, Arc::new(element));
                }
            }
            Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
        })
    }

    fn links(
        &self,
        node: Uuid,
        direction: Direction,
        edge_name: Option<Name>,
    ) -> BoxFuture<'_, Result<Arc<[Link]>>> {
        Box::pin(async move {
            let field = match direction {
                Direction::Out => "out",
                Direction::In => "in",
            };
            let mut filter = doc! { field: bson_id(node) };
            if let Some(name) = edge_name {
                filter.insert("name", name.as_str());
            }
            let sorted = FindOptions::builder().sort(doc! { "name": 1, "_id": 1 }).build();
            let mut links = Vec::new();
            for document in self.find(Place::Edge, filter, sorted).await? {
                let edge = documents::edge(&document)?;
                let places = edge.ends.as_ref().map(link_places).unwrap_or_default();
                // An undirected edge from the node to itself stands here once.
                let far = places.into_iter().find(|(near, way, _)| *near == node && *way == direction);
                if let Some((_, _, far)) = far {
                    links.push(Link { edge: edge.id, edge_name: edge.name.clone(), far: far.clone() });
                }
            }
            Ok(links.into())
        })
    }
}
