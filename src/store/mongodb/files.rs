//! The files of runs in the database, as GridFS lays them out: so every process serves them.

use std::{io, path::PathBuf, sync::Arc};

use bson::doc;
use futures_util::{
    AsyncReadExt, AsyncWriteExt, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use mongodb::{
    error::Error as DriverError,
    gridfs::{GridFsBucket, GridFsDownloadStream},
};
use uuid::Uuid;

use super::base::{Base, Tried, Tries};
use crate::{
    Error, Result,
    files::{Files, Opened},
    store,
    walker::Failure,
};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

pub(super) struct MongoFiles {
    base: Arc<Base>,
    bucket: GridFsBucket,
}

impl MongoFiles {
    pub(super) fn new(base: &Arc<Base>) -> Self {
        Self { base: Arc::clone(base), bucket: base.bucket() }
    }

    /// The new one is there before those go that were there: who opens the file meanwhile finds either.
    async fn write(&self, name: &str, bytes: &[u8]) -> Tries<()> {
        let before: Vec<_> = self.bucket.find(doc! { "filename": name }).await?.try_collect().await?;
        let mut upload = self.bucket.open_upload_stream(name).await?;
        upload.write_all(bytes).await.map_err(tried)?;
        upload.close().await.map_err(tried)?;
        for file in before {
            match self.bucket.delete(file.id).await.map_err(Tried::from) {
                // Another attempt of the run may have.
                Err(Tried::Refused(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read(&self, name: &str) -> Tries<Option<Opened>> {
        let newest = doc! { "uploadDate": -1, "_id": -1 };
        let Some(file) = self.bucket.find_one(doc! { "filename": name }).sort(newest).await? else {
            return Ok(None);
        };
        let download = self.bucket.open_download_stream(file.id).await?;
        Ok(Some(Opened { length: file.length, pieces: pieces(download) }))
    }
}

fn pieces(download: GridFsDownloadStream) -> BoxStream<'static, io::Result<Vec<u8>>> {
    let pieces = stream::unfold(download, |mut download| async move {
        let mut piece = vec![0; PIECE];
        match download.read(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(piece), download))
            }
            Err(error) => Some((Err(error), download)),
        }
    });
    pieces.boxed()
}

/// The driver's error in one of a stream.
fn tried(error: io::Error) -> Tried {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<DriverError>()) {
        Some(inner) => inner.clone().into(),
        None => Tried::Away(error.to_string()),
    }
}

fn full_name(run: Uuid, name: &str) -> String {
    format!("{run}/{name}")
}

impl Files for MongoFiles {
    fn save(
        &self,
        run: Uuid,
        name: String,
        bytes: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<PathBuf>, Failure>> {
        Box::pin(async move {
            let written = self.base.bounded(self.write(&full_name(run, &name), &bytes)).await;
            written.map(|()| None).map_err(|error| Failure::of_store(store::Error::from(error)))
        })
    }

    fn open(&self, run: Uuid, name: String) -> BoxFuture<'_, Result<Option<Opened>>> {
        Box::pin(async move {
            let read = self.base.bounded(self.read(&full_name(run, &name))).await;
            read.map_err(|error| Error::Store(error.into()))
        })
    }
}
