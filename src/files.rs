//! The files of runs: in a folder, or where the store keeps them.
//!
//! Each belongs to a run and has a name in it. What is saved is there whole, and stays whatever becomes of the attempt.

mod folder;
mod spool;

use std::{io, path::PathBuf};

use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::io::AsyncReadExt;
use uuid::Uuid;

pub(crate) use folder::Folder;
pub(crate) use spool::Spooling;
pub use spool::{Received, Spool, Spools};

use crate::{Result, walker::Failure};

/// Bytes of a file that are read at once.
const PIECE: usize = 64 * 1024;

/// What is in a file, in order.
pub type Pieces = BoxStream<'static, io::Result<Vec<u8>>>;

/// A file that is being read.
pub struct Opened {
    /// How long it is, in bytes.
    pub length: u64,
    /// What is in it.
    pub pieces: Pieces,
}

impl Opened {
    /// The whole of it, in memory.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub async fn bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.length).unwrap_or_default());
        while let Some(piece) = self.pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("length", &self.length).finish_non_exhaustive()
    }
}

/// What a file is to hold.
#[derive(Debug)]
pub enum Content {
    /// This.
    Bytes(Vec<u8>),
    /// What came in by pieces.
    Spool(Spool),
}

/// Where files are kept. Names are checked by then: letters, digits, `-`, `_` and `.`, no `.` first, 100 at most.
pub trait Files: Send + Sync {
    /// Keeps a file, in the place of one of the same name. It is durable when this answers; the path is where it lies, on a local disk.
    ///
    /// # Errors
    /// When there is no room, or the place cannot be reached. A file of that name is as before then.
    fn save(
        &self,
        run: Uuid,
        name: String,
        content: Content,
    ) -> BoxFuture<'_, Result<Option<PathBuf>, Failure>>;

    /// Opens a file; none when there is none.
    ///
    /// # Errors
    /// When the place cannot be reached.
    fn open(&self, run: Uuid, name: String) -> BoxFuture<'_, Result<Option<Opened>>>;

    /// Removes these files of a run that there is not after all. One that is not there is no error.
    ///
    /// # Errors
    /// When the place cannot be reached; some may be gone then.
    fn remove(&self, run: Uuid, names: Vec<String>) -> BoxFuture<'_, Result<()>>;

    /// Where, on the local disk, what comes in by pieces goes until it is kept.
    fn spools(&self) -> Spools;
}

/// What may name a file of a run: nothing that could lead out of its folder. See [`Files`].
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn pieces(file: tokio::fs::File) -> Pieces {
    Box::pin(stream::unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(piece), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    }))
}
