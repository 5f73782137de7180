//! Files on the local disk, in a folder for each run.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Content, Files, Opened, Spools, pieces};
use crate::{Error, Result, walker::Failure};

/// The folder, among those of runs, of files that are being written. Emptied at the start: what is there then was cut off.
const UNFINISHED: &str = ".unfinished";

/// Files below a data folder.
pub(crate) struct Folder {
    /// What holds the folder.
    data: PathBuf,
    files: PathBuf,
}

impl Folder {
    /// The folder in a data folder. What an earlier process left unfinished is removed.
    pub(crate) fn open(data: &Path) -> Arc<Self> {
        let files = data.join("files");
        let unfinished = files.join(UNFINISHED);
        match std::fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %unfinished.display(), %error, "unfinished files stay");
            }
            _ => {}
        }
        Arc::new(Self { data: data.to_owned(), files })
    }

    /// The runs that have files now, none when there is no folder yet.
    ///
    /// # Errors
    /// When it cannot be read.
    #[cfg(feature = "embedded")]
    pub(crate) fn runs(&self) -> io::Result<Vec<Uuid>> {
        let entries = match std::fs::read_dir(&self.files) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut runs = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let run = name.to_str().and_then(|name| Some((Uuid::try_parse(name).ok()?, name)));
            // What is named otherwise is not ours.
            runs.extend(run.filter(|(run, name)| run.to_string() == *name).map(|(run, _)| run));
        }
        Ok(runs)
    }

    /// Removes all files of a run.
    ///
    /// # Errors
    /// When one cannot be removed; others may be gone then.
    #[cfg(feature = "embedded")]
    pub(crate) fn forget(&self, run: Uuid) -> io::Result<()> {
        std::fs::remove_dir_all(self.files.join(run.to_string()))
    }

    fn unfinished(&self) -> PathBuf {
        self.files.join(UNFINISHED)
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
        content: Content,
    ) -> BoxFuture<'_, Result<Option<PathBuf>, Failure>> {
        let (path, data, unfinished) = (self.path(run, &name), self.data.clone(), self.unfinished());
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || {
                let folder = path.parent().unwrap_or(&data);
                std::fs::create_dir_all(folder)?;
                let written = match content {
                    Content::Bytes(bytes) => written(&unfinished, &mut &bytes[..])?,
                    Content::Spool(spool) => spool.named(|file| written(&unfinished, file))?,
                };
                std::fs::File::open(&written)?.sync_all()?;
                written.persist(&path)?;
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

    fn remove(&self, run: Uuid, names: Vec<String>) -> BoxFuture<'_, Result<()>> {
        let paths: Vec<_> = names.iter().map(|name| self.path(run, name)).collect();
        let folder = self.files.join(run.to_string());
        Box::pin(async move {
            for path in paths {
                match tokio::fs::remove_file(path).await {
                    Err(source) if !is_missing(&source) => {
                        return Err(Error::Io { context: "removing a file of a run".to_owned(), source });
                    }
                    _ => {}
                }
            }
            // Others may be there.
            drop(tokio::fs::remove_dir(folder).await);
            Ok(())
        })
    }

    fn spools(&self) -> Spools {
        Spools::named(self.unfinished())
    }
}

fn written(unfinished: &Path, content: &mut impl io::Read) -> io::Result<tempfile::TempPath> {
    std::fs::create_dir_all(unfinished)?;
    let mut file = tempfile::NamedTempFile::new_in(unfinished)?;
    io::copy(content, &mut file)?;
    Ok(file.into_temp_path())
}

/// Also when a file stands where the folder should be.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // The data folder may be the present one, which has no name.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::fs::File::open(folder)?.sync_all()
}
