//! Guards against what the engine does not notice.
//!
//! The engine cuts a journal off at the first entry that it cannot read, which is right for the unfinished group of a crash and
//! wrong for a bit that flipped in the middle. So the journals are copied aside before it opens them, unless they stand as a clean
//! stop left them. Every commit group carries, in
//! a form that can be found in the raw bytes, the number of the last group that was synced before it. When that is beyond the group
//! that was recovered, or when the number noted at a clean stop is, something is gone that was on disk: the copy is put back and the
//! store refuses to open. Groups that no proof says were synced may be missing: a power loss takes pages in any order.
//!
//! Not detectable: bytes that are gone altogether from the end of a journal after an unclean stop look like groups that were never
//! written.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use super::{FILES, raw};
use crate::store::{Error, Result, kv::keys::Marker};

const CLEAN: &str = "clean-stop";
const LOCK: &str = "lock";
const COPIES: &str = "journals-before-opening";

fn io(what: &str) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::Open(format!("{what}: {error}"))
}

/// Takes the folder for this process. The lock goes with the process, however it ends.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(io("its lock file cannot be made"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::Open("another process has it open: stop that one first".to_owned()))
        }
        Err(fs::TryLockError::Error(error)) => Err(io("its lock file cannot be locked")(error)),
    }
}

/// Notes the last group of a clean stop, and how the journals stand.
pub(super) fn mark_clean(folder: &Path, group: u64) -> Result<()> {
    let failed = io("the clean stop cannot be noted");
    let digest = digest(&folder.join(FILES)).map_err(&failed)?;
    let mut file = File::create(folder.join(CLEAN)).map_err(&failed)?;
    file.write_all(&Marker { group, synced: group }.encode()).map_err(&failed)?;
    file.write_all(&digest.to_be_bytes()).map_err(&failed)?;
    file.sync_all().map_err(&failed)?;
    sync_folder(folder).map_err(&failed)
}

/// The journals as they were before the engine opened them.
pub(super) struct Journals {
    folder: PathBuf,
    files: PathBuf,
    copies: PathBuf,
    /// What was copied, oldest first. Nothing after a clean stop: the engine changes no journal that is whole.
    names: Vec<PathBuf>,
    /// The last group of a clean stop.
    clean: Option<u64>,
}

impl Journals {
    pub(super) fn copy_aside(folder: &Path) -> Result<Self> {
        let (files, copies) = (folder.join(FILES), folder.join(COPIES));
        let note = fs::read(folder.join(CLEAN)).unwrap_or_default();
        let clean = Marker::parse(&note).map(|marker| marker.group);
        let failed = io("its journals cannot be copied");
        remove(&unfinished(folder)).map_err(&failed)?;
        // Copies that are still here are from an opening that was itself cut off: what they hold is older, so they win.
        if !copies.exists() {
            let now = digest(&files).map_err(&failed)?.to_be_bytes();
            if clean.is_none() || !note.ends_with(&now) {
                copy_all(&files, folder, &copies)
                    .inspect_err(|_| drop(remove(&unfinished(folder))))
                    .map_err(&failed)?;
            }
        }
        let names = if copies.exists() { names(&copies).map_err(&failed)? } else { Vec::new() };
        Ok(Self { folder: folder.to_owned(), files, copies, names, clean })
    }

    /// Whether the journals before the last can be read to their ends, as far as their form goes. Each was synced before the next was
    /// begun, and behind a gap in one of them the engine would go on with the next.
    pub(super) fn check_sealed(&self) -> Result<()> {
        // After a failed write the next may be begun, but nothing is written there any more.
        let mut is_followed = false;
        for name in self.names.iter().rev() {
            let bytes = self.copy(name)?;
            let end = raw::batches(&bytes).last().map_or(0, |batch| batch.end);
            let rest = bytes.get(end..).unwrap_or_default();
            if is_followed && rest.iter().any(|byte| *byte != 0) {
                return Err(Error::Open(format!(
                    "{} is damaged at byte {end}. Nothing was changed: restore the file from a backup",
                    self.files.join(name).display()
                )));
            }
            is_followed |= end > 0;
        }
        Ok(())
    }

    /// Cuts the last journal off where a power loss tore a group, on disk. The copy stays whole. Answers whether there was such.
    ///
    /// The engine does so itself when it sees a gap by the form of what it reads. In the middle of a long value it sees a wrong
    /// checksum instead, and refuses.
    pub(super) fn cut_torn(&self) -> Result<bool> {
        let Some(last) = self.names.last() else { return Ok(false) };
        let mut synced = self.clean.unwrap_or(0);
        for name in &self.names {
            synced = synced.max(raw::highest_synced(&self.copy(name)?));
        }
        let Some(at) = raw::first_torn(&self.copy(last)?, synced) else { return Ok(false) };
        let failed = io("an unfinished group cannot be cut off");
        let journal = File::options().write(true).open(self.files.join(last)).map_err(&failed)?;
        journal.set_len(at as u64).map_err(&failed)?;
        journal.sync_all().map_err(&failed)?;
        Ok(true)
    }

    fn copy(&self, name: &Path) -> Result<Vec<u8>> {
        let (bytes, _) = read(&self.copies.join(name)).map_err(io("a copy of a journal cannot be read"))?;
        Ok(bytes)
    }

    /// Whether what was recovered up to `group` is all that was there.
    pub(super) fn check(&self, group: u64) -> Result<()> {
        for name in &self.names {
            let synced = raw::highest_synced(&self.copy(name)?);
            if synced > group {
                return Err(Error::Open(format!(
                    "{} is damaged: only commit groups up to {group} of {synced} can be read. Nothing was changed: restore the \
                     file from a backup",
                    self.files.join(name).display()
                )));
            }
        }
        // A note from before the last stop stays true: that group was synced once.
        if let Some(clean) = self.clean.filter(|clean| *clean > group) {
            return Err(Error::Open(format!(
                "its journals end at commit group {group}, and a stop noted group {clean}: part of a file in {} is gone. Nothing \
                 was changed: restore it from a backup",
                self.files.display()
            )));
        }
        Ok(())
    }

    /// Puts the journals back as they were. The folder's lock must be held, and no engine be there.
    pub(super) fn put_back(&self) -> Result<()> {
        let failed = io("a journal cannot be put back");
        for name in &self.names {
            copy(&self.copies.join(name), &self.files.join(name)).map_err(&failed)?;
        }
        sync_folder(&self.files).map_err(&failed)?;
        self.retire_copies()
    }

    /// The store is open and good.
    pub(super) fn forget(&self) -> Result<()> {
        remove(&self.folder.join(CLEAN)).map_err(io("the note of the clean stop cannot be removed"))?;
        self.retire_copies()
    }

    /// Removes the copies. On disk before anything is written: old copies that came back would win over what is new.
    fn retire_copies(&self) -> Result<()> {
        let failed = io("the copies of its journals cannot be removed");
        let unfinished = unfinished(&self.folder);
        if self.copies.exists() {
            fs::rename(&self.copies, &unfinished).map_err(&failed)?;
        }
        sync_folder(&self.folder).map_err(&failed)?;
        remove(&unfinished).map_err(&failed)
    }
}

/// Where copies are that are not whole: not yet, or no more.
fn unfinished(folder: &Path) -> PathBuf {
    folder.join(format!("{COPIES}.part"))
}

/// Removes a file or a folder that may be there.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Makes the names in a folder last.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The journals in a folder, oldest first.
fn names(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|extension| extension == "jnl") {
            names.push(name);
        }
    }
    // By their numbers: 10 comes after 9.
    names.sort_by_key(|name| name.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
    Ok(names)
}

/// Whether nothing was ever written to the journals in a folder.
pub(super) fn are_empty(files: &Path) -> std::io::Result<bool> {
    for name in names(files)? {
        let (bytes, _) = read(&files.join(name))?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the journals in a folder.
pub(super) fn remove_all(files: &Path) -> std::io::Result<()> {
    names(files)?.iter().try_for_each(|name| remove(&files.join(name)))
}

/// The bytes of a journal without the empty blocks at its end, and its length with them.
fn read(path: &Path) -> std::io::Result<(Vec<u8>, u64)> {
    const EMPTY: [u8; 4096] = [0; 4096];
    let mut bytes = fs::read(path)?;
    let length = bytes.len() as u64;
    while let Some(used) = bytes.strip_suffix(&EMPTY).map(<[u8]>::len) {
        bytes.truncate(used);
    }
    Ok((bytes, length))
}

/// Copies a journal, and syncs the copy. Most of a journal is room set aside: that takes no room in the copy.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let (bytes, length) = read(from)?;
    let mut file = File::create(to)?;
    file.write_all(&bytes)?;
    file.set_len(length)?;
    file.sync_all()
}

fn copy_all(files: &Path, folder: &Path, copies: &Path) -> std::io::Result<()> {
    let (names, unfinished) = (names(files)?, unfinished(folder));
    if names.is_empty() {
        return Ok(());
    }
    fs::create_dir(&unfinished)?;
    for name in &names {
        copy(&files.join(name), &unfinished.join(name))?;
    }
    sync_folder(&unfinished)?;
    fs::rename(&unfinished, copies)?;
    sync_folder(folder)
}

/// A number that tells whether journals are as they were. Of another compiler it may be another: then they are copied, no more.
fn digest(files: &Path) -> std::io::Result<u64> {
    let mut digest = DefaultHasher::new();
    for name in names(files)? {
        let (bytes, _) = read(&files.join(&name))?;
        name.hash(&mut digest);
        bytes.hash(&mut digest);
    }
    Ok(digest.finish())
}
