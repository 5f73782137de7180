//! The only file that names the engine's library.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::journals;
use crate::store::{
    Error, Result,
    kv::engine::{Bytes, Engine, Pair, Range, SPACES, Space, View, Write},
};

/// Background threads for flushes and compactions. Few: on a small machine they compete with the walkers.
const THREADS: usize = 1;
/// A million records reopen in a fraction of a second after a crash when the journals are no longer than this.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Blocks of the files on disk. Decoded elements have a cache of their own above.
const BLOCK_CACHE_BYTES: u64 = 16 << 20;
/// What one key space gathers in memory before it goes to a file.
const MEMTABLE_BYTES: u64 = 16 << 20;

/// Where the library keeps the key spaces.
const SPACES_FOLDER: &str = "keyspaces";
/// Its lock, which stands below ours.
const LOCK_FILE: &str = "lock";
/// Where it notes its version, when all else of an empty database is there; and how that begins. A number other than 0 follows.
const VERSION_FILE: &str = "version";
const VERSION_MAGIC: [u8; 3] = *b"FJL";

pub(super) struct FjallEngine {
    // The key spaces go before the database, and the database before the lock of the folder: who gets that finds no engine.
    spaces: Arc<HashMap<Space, Keyspace>>,
    database: Database,
    folder: PathBuf,
    _lock: Arc<File>,
}

/// What is on disk does not read: that does not pass.
fn unread(error: ::fjall::Error) -> Error {
    Error::Damaged(format!("{error:?}"))
}

fn failed(error: ::fjall::Error) -> Error {
    Error::Unavailable(format!("{error:?}"))
}

/// Removes what a first opening left that was cut off: the library would stumble over it for ever. Where there may be data, nothing
/// is removed.
fn clear_unfinished(files: &Path) -> std::io::Result<()> {
    let (version, spaces) = (files.join(VERSION_FILE), files.join(SPACES_FOLDER));
    // It is written in pieces before it is synced: what a power loss leaves may have any of them.
    let noted = if version.exists() { std::fs::read(&version)? } else { Vec::new() };
    let is_whole =
        noted.strip_prefix(&VERSION_MAGIC).is_some_and(|number| number.first().is_some_and(|n| *n != 0));
    let has_spaces = spaces.exists() && spaces.read_dir()?.next().is_some();
    if is_whole || has_spaces || !journals::are_empty(files)? {
        return Ok(());
    }
    journals::remove_all(files)?;
    journals::remove(&version)?;
    journals::remove(&files.join(LOCK_FILE))
}

fn gone(name: &str, files: &Path) -> Error {
    let folder = files.join(SPACES_FOLDER);
    Error::Open(format!(
        "key space {name} is gone from {}. Nothing was changed: restore the folder from a backup",
        folder.display()
    ))
}

impl FjallEngine {
    pub(super) fn open(files: &Path, folder: &Path, lock: &Arc<File>) -> Result<Self> {
        let refused = |error: ::fjall::Error| match error {
            ::fjall::Error::Locked => {
                Error::Open("another process has it open: stop that one first".to_owned())
            }
            ::fjall::Error::Io(error) => {
                Error::Open(format!("{error}; check the folder's rights and the disk"))
            }
            other => Error::Open(format!("its files are damaged ({other:?}): restore them from a backup")),
        };
        clear_unfinished(files).map_err(|error| refused(error.into()))?;
        let database = Database::builder(files)
            .manual_journal_persist(true)
            .worker_threads(THREADS)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .cache_size(BLOCK_CACHE_BYTES)
            .open()
            .map_err(refused)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let (mut spaces, mut missing) = (HashMap::new(), Vec::new());
        for (space, name) in SPACES {
            if database.keyspace_exists(name) {
                spaces.insert(space, database.keyspace(name, options).map_err(refused)?);
            } else {
                missing.push((space, name));
            }
        }
        // All are made before the first group is written: in the place of one that is gone the library would make an empty one.
        // Who adds a key space has to let stores in that were made before.
        for (space, name) in missing {
            for there in spaces.values() {
                if !there.is_empty().map_err(refused)? {
                    return Err(gone(name, files));
                }
            }
            spaces.insert(space, database.keyspace(name, options).map_err(refused)?);
        }
        // The library syncs what is in the folder of a key space, and not its name.
        journals::sync_folder(&files.join(SPACES_FOLDER)).map_err(|error| refused(error.into()))?;
        Ok(Self { spaces: Arc::new(spaces), database, folder: folder.to_owned(), _lock: Arc::clone(lock) })
    }

    fn space(&self, space: Space) -> Result<&Keyspace> {
        self.spaces.get(&space).ok_or_else(|| Error::Unavailable(format!("there is no key space {space:?}")))
    }
}

fn collect(
    iterator: impl DoubleEndedIterator<Item = ::fjall::Guard>,
    reverse: bool,
    limit: usize,
) -> Result<Vec<Pair>> {
    let pair = |guard: ::fjall::Guard| -> Result<Pair> {
        let (key, value) = guard.into_inner().map_err(unread)?;
        Ok((key.to_vec(), Bytes::from(&*value)))
    };
    if reverse {
        iterator.rev().take(limit).map(pair).collect()
    } else {
        iterator.take(limit).map(pair).collect()
    }
}

impl View for FjallEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.space(space)?.get(key).map_err(unread)?.map(|value| Bytes::from(&*value)))
    }

    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<Pair>> {
        collect(self.space(space)?.range((range.from, range.to)), reverse, limit)
    }
}

struct FjallView {
    spaces: Arc<HashMap<Space, Keyspace>>,
    snapshot: Snapshot,
}

impl View for FjallView {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let Some(space) = self.spaces.get(&space) else { return Ok(None) };
        Ok(self.snapshot.get(space, key).map_err(unread)?.map(|value| Bytes::from(&*value)))
    }

    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<Pair>> {
        let Some(space) = self.spaces.get(&space) else { return Ok(Vec::new()) };
        collect(self.snapshot.range(space, (range.from, range.to)), reverse, limit)
    }
}

impl Engine for FjallEngine {
    fn snapshot(&self) -> Arc<dyn View> {
        Arc::new(FjallView { spaces: Arc::clone(&self.spaces), snapshot: self.database.snapshot() })
    }

    fn apply(&self, batch: Vec<Write>, sync: bool) -> Result<()> {
        // The library writes the journal, syncs it, and only then lets readers see the batch.
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut writes = self.database.batch().durability(Some(mode));
        for (space, key, value) in batch {
            let space = self.space(space)?;
            match value {
                Some(value) => writes.insert(space, key, value),
                None => writes.remove(space, key),
            }
        }
        writes.commit().map_err(failed)
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn close(&self, group: u64) -> Result<()> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)?;
        journals::mark_clean(&self.folder, group)
    }
}
