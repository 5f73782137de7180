//! Guards against what the engine does not notice.
//!
//! The engine cuts a journal off at the first entry that it cannot read, which is right for the unfinished group of a crash and
//! wrong for a bit that flipped in the middle. So the journals are copied aside before it opens them. Every commit group carries, in
//! a form that can be found in the raw bytes, the number of the last group that was synced before it. When that is beyond the group
//! that was recovered, or when the number noted at a clean stop is, something is gone that was on disk: the copy is put back and the
//! store refuses to open. Groups that no proof says were synced may be missing: a power loss takes pages in any order.
//!
//! Not detectable: bytes that are gone altogether from the end of a journal after an unclean stop look like groups that were never
//! written.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use crate::store::{
    Error, Result,
    kv::keys::{META_GROUP, Marker},
};

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

/// Notes the last group of a clean stop.
pub(super) fn mark_clean(folder: &Path, group: u64) -> Result<()> {
    let failed = io("the clean stop cannot be noted");
    let mut file = File::create(folder.join(CLEAN)).map_err(&failed)?;
    file.write_all(&Marker { group, synced: group }.encode()).map_err(&failed)?;
    file.sync_all().map_err(&failed)
}

/// The journals as they were before the engine opened them.
pub(super) struct Journals {
    files: PathBuf,
    copies: PathBuf,
    names: Vec<PathBuf>,
    /// The last group of a clean stop.
    clean: Option<u64>,
    clean_path: PathBuf,
}

impl Journals {
    pub(super) fn copy_aside(folder: &Path, files: &Path) -> Result<Self> {
        let copies = folder.join(COPIES);
        let clean_path = folder.join(CLEAN);
        // Copies that are still here are from an opening that was itself cut off: what they hold is older, so they win.
        let is_fresh = !copies.exists();
        let mut names = Vec::new();
        let from = if is_fresh { files } else { &copies };
        for entry in fs::read_dir(from).map_err(io("its files cannot be listed"))? {
            let name = PathBuf::from(entry.map_err(io("its files cannot be listed"))?.file_name());
            if name.extension().is_some_and(|extension| extension == "jnl") {
                names.push(name);
            }
        }
        names.sort();
        if is_fresh && !names.is_empty() {
            let unfinished = folder.join(format!("{COPIES}.part"));
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished)
                    .map_err(io("an old copy of its journals cannot be removed"))?;
            }
            fs::create_dir_all(&unfinished).map_err(io("its journals cannot be copied"))?;
            for name in &names {
                fs::copy(files.join(name), unfinished.join(name))
                    .map_err(io("its journals cannot be copied"))?;
            }
            fs::rename(&unfinished, &copies).map_err(io("its journals cannot be copied"))?;
        }
        let clean = fs::read(&clean_path).ok().and_then(|marker| Marker::parse(&marker));
        let clean = clean.map(|marker| marker.group);
        Ok(Self { files: files.to_owned(), copies, names, clean, clean_path })
    }

    /// Whether what was recovered up to `group` is all that was there.
    pub(super) fn check(&self, group: u64) -> Result<()> {
        for name in &self.names {
            let bytes = fs::read(self.copies.join(name)).map_err(io("a copy of a journal cannot be read"))?;
            let synced = highest_synced(&bytes);
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

    /// Puts the journals back as they were.
    pub(super) fn put_back(&self) -> Result<()> {
        for name in &self.names {
            fs::copy(self.copies.join(name), self.files.join(name))
                .map_err(io("a journal cannot be put back"))?;
        }
        self.remove_copies()
    }

    /// The store is open and good.
    pub(super) fn forget(&self) -> Result<()> {
        if self.clean_path.exists() {
            fs::remove_file(&self.clean_path).map_err(io("the note of the clean stop cannot be removed"))?;
        }
        self.remove_copies()
    }

    fn remove_copies(&self) -> Result<()> {
        if self.copies.exists() {
            fs::remove_dir_all(&self.copies).map_err(io("the copies of its journals cannot be removed"))?;
        }
        Ok(())
    }
}

/// The highest group of which a marker in raw bytes says that it was synced; 0 for none.
fn highest_synced(bytes: &[u8]) -> u64 {
    let mut highest = 0;
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| Some(byte) == META_GROUP.first()) {
        rest = rest.get(at..).unwrap_or_default();
        // Only behind its key: no text, number or id in a record holds key and marker, so no caller can plant one.
        if let Some(marker) = rest.strip_prefix(META_GROUP).and_then(Marker::parse) {
            highest = highest.max(marker.synced);
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    highest
}
