//! The store on local disk.
//!
//! One folder, one process: the lock on the folder is the lease of the process, its epoch the first part of every token. The
//! engine is fjall, named in `fjall.rs` alone; `journals.rs` guards against what the engine does not notice, `raw.rs` reads what it
//! leaves for that.

mod fjall;
mod journals;
mod raw;

use std::{path::Path, sync::Arc};

use self::{fjall::FjallEngine, journals::Journals};
use super::{
    Error, Limits, Result, Store,
    kv::{KvStore, look},
};
use crate::files::Folder;

/// The part of the folder that is the engine's.
const FILES: &str = "store";

/// Opens the store in a folder, or makes one.
///
/// # Errors
/// [`Error::Open`] when another process has it, when its format is newer than this program, or when files are damaged: the message
/// names the file and says what to do. Nothing is lost by a refused opening.
pub fn open(folder: &Path, limits: Limits) -> Result<Arc<dyn Store>> {
    let named = |error: Error| match error {
        Error::Open(why) | Error::Damaged(why) => {
            Error::Open(format!("the store in {} cannot be opened: {why}", folder.display()))
        }
        other => other,
    };
    open_unnamed(folder, limits).map_err(named)
}

fn open_unnamed(folder: &Path, limits: Limits) -> Result<Arc<dyn Store>> {
    let files = folder.join(FILES);
    std::fs::create_dir_all(&files).map_err(|error| Error::Open(error.to_string()))?;
    let lock = Arc::new(journals::lock(folder)?);
    let journals = Journals::copy_aside(folder)?;
    let open_whole = || {
        journals.check_sealed()?;
        let open = || FjallEngine::open(&files, folder, &lock);
        let engine = open().or_else(|error| if journals.cut_torn()? { open() } else { Err(error) })?;
        let found = look(&engine)?;
        journals.check(found.group)?;
        Ok((engine, found))
    };
    let (engine, found) = match open_whole() {
        Ok(whole) => whole,
        Err(error) => {
            journals.put_back()?;
            return Err(error);
        }
    };
    let store = KvStore::start(Box::new(engine), &found, limits)?;
    journals.forget()?;
    let store = store.with_files(Folder::open(folder));
    // A new store knows of no run: what lies there may be of another, as when a disk is not there.
    if found.group > 0 {
        store.remove_strays();
    }
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests;
