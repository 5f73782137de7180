//! What is left of files when a process is killed: those of a run that was to be submitted after them, and pieces of one that was not
//! whole yet. Every process looks for such, of at least a day ago, when it starts and from time to time. No clock is a day off.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bson::{Bson, Document, RawDocumentBuf, doc, oid::ObjectId};
use futures_util::TryStreamExt;
use mongodb::gridfs::FilesCollectionDocument;
use uuid::Uuid;
use walkabout_schema::Timestamp;

use super::{
    base::{Base, Place, Tries},
    documents::{bson_id, id_in},
    files::MongoFiles,
};
use crate::env::Env;

/// How long after the id of a run its record is there, or never will be; what waiting for the database may add is added.
const SETTLED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// As often as the database is waited for, at most, between the id of a run and its record: once for each of its files.
const WAITS_MAX: u32 = 200;
/// How long to wait before the next look.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// Files that are looked at together.
const PAGE: i64 = 1000;

/// See the module.
pub(super) struct Strays {
    pub(super) base: Arc<Base>,
    pub(super) files: MongoFiles,
    pub(super) env: Env,
}

impl Strays {
    /// Looks again and again. What was looked at once is settled.
    pub(super) async fn remove(self) {
        let settled = SETTLED_AFTER + self.base.patience * WAITS_MAX;
        let mut from = Timestamp::default();
        loop {
            let until = Timestamp::from_millis(
                self.env
                    .now()
                    .millis()
                    .saturating_sub(i64::try_from(settled.as_millis()).unwrap_or(i64::MAX)),
            );
            match self.remove_between(from, until).await {
                Ok(()) => from = until,
                Err(error) => tracing::warn!(%error, "files that belong to nothing are not looked for"),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn remove_between(&self, from: Timestamp, until: Timestamp) -> Tries<()> {
        let (mut after, mut removed) = (first_run(from), 0);
        loop {
            let page = self.base.bounded(self.page(&after, &first_run(until))).await?;
            let Some(last) = page.last().and_then(|file| file.filename.clone()) else { break };
            after = last;
            removed += self.base.bounded(self.remove_unknown(page)).await?;
        }
        if removed > 0 {
            tracing::info!(files = removed, "files of runs that were never accepted are removed");
        }
        let (mut after, mut removed) = (first_piece(from), 0);
        loop {
            let page = self.base.bounded(self.begun(after, first_piece(until))).await?;
            let Some(last) = page.last() else { break };
            after = *last;
            removed += self.base.bounded(self.remove_unfinished(page)).await?;
        }
        if removed > 0 {
            tracing::info!(files = removed, "pieces of files that were never whole are removed");
        }
        Ok(())
    }

    /// Files by their names, which begin with their runs.
    async fn page(&self, after: &str, until: &str) -> Tries<Vec<FilesCollectionDocument>> {
        let between = doc! { "filename": { "$gt": after, "$lt": until } };
        let find = self.files.bucket.find(between).sort(doc! { "filename": 1 });
        Ok(find.limit(PAGE).await?.try_collect().await?)
    }

    /// Removes files whose run has no record. Gives how many.
    async fn remove_unknown(&self, files: Vec<FilesCollectionDocument>) -> Tries<usize> {
        let runs: HashSet<Uuid> = files.iter().filter_map(run_of).collect();
        let ids: Vec<Bson> = runs.into_iter().map(bson_id).collect();
        let walkers = self.base.collection::<RawDocumentBuf>(Place::Walker);
        let find = walkers.find(doc! { "_id": { "$in": ids } }).projection(doc! { "_id": 1 });
        let found: Vec<RawDocumentBuf> = find.await?.try_collect().await?;
        let known = found.iter().map(|walker| id_in(walker, "_id")).collect::<Result<HashSet<Uuid>, _>>()?;
        let is_stray = |file: &FilesCollectionDocument| run_of(file).is_some_and(|run| !known.contains(&run));
        let strays: Vec<_> = files.into_iter().filter(is_stray).collect();
        let removed = strays.len();
        self.files.remove_all(strays).await?;
        Ok(removed)
    }

    /// Ids of files by their first pieces.
    async fn begun(&self, after: ObjectId, until: ObjectId) -> Tries<Vec<ObjectId>> {
        let between = doc! { "files_id": { "$gt": after, "$lt": until }, "n": 0 };
        let pieces = self.base.pieces();
        let find = pieces.find(between).projection(doc! { "files_id": 1 });
        let find = find.sort(doc! { "files_id": 1 }).limit(PAGE);
        let pieces: Vec<Document> = find.await?.try_collect().await?;
        Ok(pieces.iter().filter_map(|piece| piece.get_object_id("files_id").ok()).collect())
    }

    /// Removes the pieces of files that are not there. Gives of how many.
    async fn remove_unfinished(&self, mut begun: Vec<ObjectId>) -> Tries<usize> {
        let whole = self.files.bucket.find(doc! { "_id": { "$in": &begun } }).await?;
        let whole: Vec<FilesCollectionDocument> = whole.try_collect().await?;
        let whole: HashSet<ObjectId> = whole.iter().filter_map(|file| file.id.as_object_id()).collect();
        begun.retain(|id| !whole.contains(id));
        let removed = begun.len();
        if removed > 0 {
            self.base.pieces().delete_many(doc! { "files_id": { "$in": begun } }).await?;
        }
        Ok(removed)
    }
}

fn run_of(file: &FilesCollectionDocument) -> Option<Uuid> {
    let (run, _) = file.filename.as_deref()?.split_once('/')?;
    Uuid::try_parse(run).ok()
}

/// As a run of this time or later begins the names of its files. Ids of runs are in the order of their times.
fn first_run(at: Timestamp) -> String {
    Uuid::from_u128(u128::from(at.millis().unsigned_abs()) << 80).to_string()
}

/// The id of a file of this time or later is no lower.
fn first_piece(at: Timestamp) -> ObjectId {
    let seconds = u32::try_from(at.millis() / 1000).unwrap_or_default();
    let mut bytes = [0; 12];
    bytes.iter_mut().zip(seconds.to_be_bytes()).for_each(|(byte, digit)| *byte = digit);
    ObjectId::from_bytes(bytes)
}
