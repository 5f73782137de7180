//! The files of runs in the database, as GridFS lays them out: so every process serves them.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bson::doc;
use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use mongodb::{
    error::{Error as DriverError, ErrorKind},
    gridfs::{FilesCollectionDocument, GridFsBucket, GridFsDownloadStream},
};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::base::{Base, Tried, Tries};
use crate::{
    Error, Result,
    files::{Content, Files, Opened, Pieces, Spools},
    store,
    walker::Failure,
};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// How often a file is looked for that is replaced meanwhile.
const LOOKS_MAX: usize = 3;

#[derive(Clone)]
pub(super) struct MongoFiles {
    base: Arc<Base>,
    pub(super) bucket: GridFsBucket,
}

impl MongoFiles {
    pub(super) fn new(base: &Arc<Base>) -> Self {
        Self { base: Arc::clone(base), bucket: base.bucket() }
    }

    /// The new one is there before those go that were there: who opens the file meanwhile finds either. When it is there and nobody
    /// waits for it any more, it goes instead: who waited may have removed what there was.
    async fn write(&self, name: &str, content: Content, is_given_up: impl Fn() -> bool) -> Tries<()> {
        let before = self.all_of(name).await?;
        let mut upload = self.bucket.open_upload_stream(name).await?;
        match content {
            Content::Bytes(bytes) => upload.write_all(&bytes).await.map_err(tried)?,
            Content::Spool(spool) => {
                let mut pieces = spool.open().await.map_err(unread)?.pieces;
                while let Some(piece) = pieces.next().await {
                    upload.write_all(&piece.map_err(unread)?).await.map_err(tried)?;
                }
            }
        }
        let id = upload.id().clone();
        upload.close().await.map_err(tried)?;
        if is_given_up() {
            self.bucket.delete(id).await?;
            return Err(Tried::Away("nobody waits for the file any more".to_owned()));
        }
        self.remove_all(before).await
    }

    async fn all_of(&self, name: &str) -> Tries<Vec<FilesCollectionDocument>> {
        Ok(self.bucket.find(doc! { "filename": name }).await?.try_collect().await?)
    }

    pub(super) async fn remove_all(&self, files: Vec<FilesCollectionDocument>) -> Tries<()> {
        for file in files {
            match self.bucket.delete(file.id).await.map_err(Tried::from) {
                // Somebody else may have.
                Err(Tried::Refused(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read(&self, name: &str) -> Tries<Option<Opened>> {
        let newest = doc! { "uploadDate": -1, "_id": -1 };
        for _ in 0..LOOKS_MAX {
            let Some(file) = self.bucket.find_one(doc! { "filename": name }).sort(newest.clone()).await?
            else {
                return Ok(None);
            };
            match self.bucket.open_download_stream(file.id).await {
                Ok(download) => {
                    let pieces = pieces(download, self.base.patience);
                    return Ok(Some(Opened { length: file.length, pieces }));
                }
                Err(error) if matches!(&*error.kind, ErrorKind::GridFs(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Tried::Away("a file is replaced again and again".to_owned()))
    }
}

fn pieces(download: GridFsDownloadStream, patience: Duration) -> Pieces {
    let pieces = stream::unfold(download, move |mut download| async move {
        let mut piece = vec![0; PIECE];
        let read = tokio::time::timeout(patience, download.read(&mut piece)).await;
        match read.map_err(io::Error::from).and_then(|read| read) {
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

/// What came in cannot be read from the local disk.
fn unread(error: io::Error) -> Tried {
    Tried::Away(format!("what came in cannot be read: {error}"))
}

fn full_name(run: Uuid, name: &str) -> String {
    format!("{run}/{name}")
}

impl Files for MongoFiles {
    fn save(
        &self,
        run: Uuid,
        name: String,
        content: Content,
    ) -> BoxFuture<'_, Result<Option<PathBuf>, Failure>> {
        Box::pin(async move {
            // A task of its own: who goes away in the middle of the last step would undo half of it.
            let this = self.clone();
            let (answer, written) = oneshot::channel();
            tokio::spawn(async move {
                let is_given_up = || answer.is_closed();
                let written = this.write(&full_name(run, &name), content, is_given_up).await;
                // Nobody waits any more when the send fails.
                drop(answer.send(written));
            });
            let written = self.base.bounded(async move {
                written.await.map_err(|_| Tried::Away("the server is stopping".to_owned()))?
            });
            written.await.map(|()| None).map_err(|error| Failure::of_store(store::Error::from(error)))
        })
    }

    fn open(&self, run: Uuid, name: String) -> BoxFuture<'_, Result<Option<Opened>>> {
        Box::pin(async move {
            let read = self.base.bounded(self.read(&full_name(run, &name))).await;
            read.map_err(|error| Error::Store(error.into()))
        })
    }

    fn remove(&self, run: Uuid, names: Vec<String>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let removed = self.base.bounded(async {
                for name in names {
                    let files = self.all_of(&full_name(run, &name)).await?;
                    self.remove_all(files).await?;
                }
                Ok(())
            });
            removed.await.map_err(|error| Error::Store(error.into()))
        })
    }

    fn spools(&self) -> Spools {
        Spools::nameless(std::env::temp_dir())
    }
}
