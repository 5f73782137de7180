//! Files that come in by pieces: on disk from the first one on, never whole in memory.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncWriteExt;

use super::{Opened, PIECE, Pieces, pieces};

/// Where files go that come in by pieces. The folder need not exist.
#[derive(Debug, Clone)]
pub struct Spools {
    folder: PathBuf,
    has_names: bool,
}

impl Spools {
    /// Files with names, which need only be moved to be kept. A process that is killed leaves them behind: whoever owns the folder
    /// has to remove them.
    pub fn named(folder: PathBuf) -> Self {
        Self { folder, has_names: true }
    }

    /// Files without names, which are gone with their process, however that ends.
    pub fn nameless(folder: PathBuf) -> Self {
        Self { folder, has_names: false }
    }
}

/// A file that came in. It is gone when this is dropped, unless it was kept.
#[derive(Debug)]
pub struct Spool {
    place: Place,
    length: u64,
    digest: [u8; 32],
}

#[derive(Debug)]
enum Place {
    Named(TempPath),
    Nameless(Arc<Mutex<File>>),
}

impl Spool {
    /// How long it is, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The SHA-256 digest of what is in it.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Opens it. Each reader begins at the beginning, and goes its own way.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn open(&self) -> io::Result<Opened> {
        let pieces = match &self.place {
            Place::Named(path) => pieces(tokio::fs::File::open(path).await?),
            Place::Nameless(file) => shared_pieces(Arc::clone(file)),
        };
        Ok(Opened { length: self.length, pieces })
    }

    /// Its path; that of a copy when it has no name.
    pub(super) fn named(self, copy: impl FnOnce(&mut File) -> io::Result<TempPath>) -> io::Result<TempPath> {
        match self.place {
            Place::Named(path) => Ok(path),
            Place::Nameless(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.rewind()?;
                copy(&mut file)
            }
        }
    }
}

/// What is in a file that has one position for all its readers.
fn shared_pieces(file: Arc<Mutex<File>>) -> Pieces {
    let pieces = stream::unfold((file, 0), |(file, at)| async move {
        let shared = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || piece_at(&shared, at)).await;
        match read.map_err(io::Error::from).flatten() {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => {
                let next = at + piece.len() as u64;
                Some((Ok(piece), (file, next)))
            }
            Err(error) => Some((Err(error), (file, at))),
        }
    });
    pieces.boxed()
}

fn piece_at(file: &Mutex<File>, at: u64) -> io::Result<Vec<u8>> {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(at))?;
    let mut piece = vec![0; PIECE];
    let read = file.read(&mut piece)?;
    piece.truncate(read);
    Ok(piece)
}

/// A file that came with a request.
#[derive(Debug)]
pub struct Received {
    /// The field that it is for.
    pub field: String,
    /// What the caller calls it.
    pub name: String,
    /// The media type that the caller named.
    pub content_type: String,
    /// What is in it.
    pub spool: Spool,
}

/// A file that is coming in.
pub(crate) struct Spooling {
    /// None when it has no name.
    path: Option<TempPath>,
    file: tokio::fs::File,
    length: u64,
    max: u64,
    digest: Sha256,
}

impl Spooling {
    /// An empty file, which takes so many bytes at most.
    pub(crate) async fn begin(spools: Spools, max: usize) -> io::Result<Self> {
        let made = tokio::task::spawn_blocking(move || {
            let Spools { folder, has_names } = spools;
            std::fs::create_dir_all(&folder)?;
            if !has_names {
                return Ok((tempfile::tempfile_in(&folder)?, None));
            }
            let (file, path) = NamedTempFile::new_in(&folder)?.into_parts();
            Ok::<_, io::Error>((file, Some(path)))
        });
        let (file, path) = made.await??;
        let (file, max) = (tokio::fs::File::from_std(file), max as u64);
        Ok(Self { path, file, length: 0, max, digest: Sha256::new() })
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// `FileTooLarge` when it is too long by then; whatever the disk says.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        if self.length > self.max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.digest.update(bytes);
        self.file.write_all(bytes).await
    }

    /// No more comes. The file need not be durable by then.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub(crate) async fn finish(mut self) -> io::Result<Spool> {
        self.file.flush().await?;
        let place = match self.path {
            Some(path) => Place::Named(path),
            None => Place::Nameless(Arc::new(Mutex::new(self.file.into_std().await))),
        };
        Ok(Spool { place, length: self.length, digest: self.digest.finalize().into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_no_name_is_read_by_several_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        for (spools, named) in
            [(Spools::nameless(folder.path().to_owned()), 0), (Spools::named(folder.path().to_owned()), 1)]
        {
            let mut spooling = Spooling::begin(spools, 4 * PIECE).await.unwrap();
            let bytes: Vec<u8> = (0..3 * PIECE + 5).map(|n| (n % 251) as u8).collect();
            spooling.write(&bytes).await.unwrap();
            let spool = spooling.finish().await.unwrap();
            assert_eq!(left(), named);
            let (mut one, mut other) = (spool.open().await.unwrap(), spool.open().await.unwrap());
            let first = one.pieces.next().await.unwrap().unwrap();
            assert_eq!(other.pieces.next().await.unwrap().unwrap(), first);
            assert_eq!([first, one.bytes().await.unwrap()].concat(), bytes);
            assert_eq!(spool.open().await.unwrap().bytes().await.unwrap(), bytes);
            drop((other, spool));
            assert_eq!(left(), 0);
        }
    }
}
