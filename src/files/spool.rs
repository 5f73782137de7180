//! Files that come in by pieces: on disk from the first one on, never whole in memory.

use std::{io, path::PathBuf};

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncWriteExt;

use super::{Opened, pieces};

/// A file that came in. It is gone when this is dropped, unless it was kept.
#[derive(Debug)]
pub struct Spool {
    pub(super) path: TempPath,
    length: u64,
    digest: [u8; 32],
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

    /// Opens it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn open(&self) -> io::Result<Opened> {
        let file = tokio::fs::File::open(&self.path).await?;
        Ok(Opened { length: self.length, pieces: pieces(file) })
    }
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
    path: TempPath,
    file: tokio::fs::File,
    length: u64,
    max: u64,
    digest: Sha256,
}

impl Spooling {
    /// An empty file in this folder, which takes so many bytes at most.
    pub(crate) async fn begin(folder: PathBuf, max: usize) -> io::Result<Self> {
        let made = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            NamedTempFile::new_in(&folder)
        });
        let (file, path) = made.await??.into_parts();
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
        Ok(Spool { path: self.path, length: self.length, digest: self.digest.finalize().into() })
    }
}
