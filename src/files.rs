//! The files that walkers write: in a folder, or where the store keeps them.
//!
//! Each belongs to a run and has a name in it. What is saved is there whole, and stays whatever becomes of the attempt.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::io::AsyncReadExt;
use uuid::Uuid;

use crate::{Error, Result, env::Env, walker::Failure};

/// Bytes of a file that are read at once.
const PIECE: usize = 64 * 1024;
/// The folder, among those of runs, of files that are being written. Emptied at the start: what is there then was cut off.
const UNFINISHED: &str = ".unfinished";

/// A file that is being read.
pub struct Opened {
    /// How long it is, in bytes.
    pub length: u64,
    /// What is in it, in order.
    pub pieces: BoxStream<'static, io::Result<Vec<u8>>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("length", &self.length).finish_non_exhaustive()
    }
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
        bytes: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<PathBuf>, Failure>>;

    /// Opens a file; none when there is none.
    ///
    /// # Errors
    /// When the place cannot be reached.
    fn open(&self, run: Uuid, name: String) -> BoxFuture<'_, Result<Option<Opened>>>;
}

/// What may name a file of a run: nothing that could lead out of its folder. See [`Files`].
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Files on the local disk, in a folder for each run.
pub(crate) struct Folder {
    /// What holds the folder.
    data: PathBuf,
    files: PathBuf,
    env: Env,
}

impl Folder {
    /// The folder in a data folder. What an earlier process left unfinished is removed.
    pub(crate) fn open(data: &Path, env: Env) -> Arc<Self> {
        let files = data.join("files");
        let unfinished = files.join(UNFINISHED);
        match std::fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %unfinished.display(), %error, "unfinished files stay");
            }
            _ => {}
        }
        Arc::new(Self { data: data.to_owned(), files, env })
    }

    fn path(&self, run: Uuid, name: &str) -> PathBuf {
        self.files.join(run.to_string()).join(name)
    }
}

impl Files for Folder {
    /// Written whole apart from where it shall be, then moved there.
    fn save(
        &self,
        run: Uuid,
        name: String,
        bytes: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<PathBuf>, Failure>> {
        let (path, data, unfinished) =
            (self.path(run, &name), self.data.clone(), self.files.join(UNFINISHED));
        let temporary = unfinished.join(format!("{name}.{}", self.env.random_hex(8)));
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || {
                let folder = path.parent().unwrap_or(&data);
                std::fs::create_dir_all(folder)?;
                std::fs::create_dir_all(&unfinished)?;
                write_synced(&temporary, &bytes)
                    .and_then(|()| std::fs::rename(&temporary, &path))
                    .inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
                // A folder is there after a power loss when the one that holds it is synced; each of these may be new.
                for folder in folder.ancestors().take_while(|folder| folder.starts_with(&data)) {
                    sync_folder(folder)?;
                }
                Ok::<PathBuf, io::Error>(path)
            });
            Ok(Some(written.await??))
        })
    }

    fn open(&self, run: Uuid, name: String) -> BoxFuture<'_, Result<Option<Opened>>> {
        let path = self.path(run, &name);
        Box::pin(async move {
            let opened = async {
                let file = tokio::fs::File::open(path).await?;
                Ok((file.metadata().await?, file))
            };
            let (about, file) = match opened.await {
                Ok(opened) => opened,
                Err(source) if is_missing(&source) => return Ok(None),
                Err(source) => {
                    return Err(Error::Io { context: "reading a file of a run".to_owned(), source });
                }
            };
            let length = about.len();
            Ok(about.is_file().then(|| Opened { length, pieces: pieces(file) }))
        })
    }
}

/// Also when a file stands where the folder should be.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn pieces(file: tokio::fs::File) -> BoxStream<'static, io::Result<Vec<u8>>> {
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

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // The data folder may be the present one, which has no name.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::fs::File::open(folder)?.sync_all()
}
