//! A disk as a power loss leaves it: what was recorded, with what was not synced kept, dropped or torn at random.
//!
//! The model is harsher than the file systems of today. A write that was not followed by a sync of its file may be lost, whatever
//! became of the writes before and after it, and any of its sectors. A name that was made, moved or removed may be as before
//! until its folder is synced; within one folder names change in order, over folders in any.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use rand::Rng;

const PAGE: u64 = 4096;
/// What a disk writes as a whole.
const SECTOR: u64 = 512;

/// One recorded operation. Paths are relative to the folder.
#[derive(Debug)]
pub enum Op {
    Create {
        path: String,
    },
    Write {
        path: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        path: String,
        length: u64,
    },
    Sync {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    Mkdir {
        path: String,
    },
    /// A sync failed. What was to be synced is not tried again by the system, so the next sync says nothing about it.
    Lost {
        path: String,
    },
}

/// Reads what `shim.c` wrote: entries of a fixed head, two paths, and bytes.
pub fn read_log(path: &Path) -> Vec<Op> {
    let log = fs::read(path).unwrap();
    let (mut rest, mut ops) = (&log[..], Vec::new());
    while !rest.is_empty() {
        let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(rest[at..at + 8].try_into().unwrap());
        let (kind, lengths) = (word(0), [word(4) as usize, word(8) as usize, long(24) as usize]);
        let offset = long(16);
        let (path, after) = rest[32..].split_at(lengths[0]);
        let (other, after) = after.split_at(lengths[1]);
        let (bytes, after) = after.split_at(if kind == 2 { lengths[2] } else { 0 });
        let [path, other] = [path, other].map(|path| String::from_utf8(path.to_vec()).unwrap());
        ops.push(match kind {
            1 => Op::Create { path },
            2 => Op::Write { path, offset, bytes: bytes.to_vec() },
            3 => Op::Truncate { path, length: offset },
            4 => Op::Sync { path },
            5 => Op::Rename { from: path, to: other },
            6 => Op::Unlink { path },
            7 => Op::Mkdir { path },
            8 => Op::Lost { path },
            kind => panic!("the log has an operation of kind {kind}"),
        });
        rest = after;
    }
    ops
}

/// The bytes of a file; pages that are not there are empty.
#[derive(Clone, Default)]
struct Bytes {
    pages: BTreeMap<u64, Box<[u8]>>,
    length: u64,
}

impl Bytes {
    fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        self.length = self.length.max(offset + bytes.len() as u64);
        while !bytes.is_empty() {
            let start = (offset % PAGE) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE as usize - start));
            let page = self.pages.entry(offset / PAGE).or_insert_with(|| vec![0; PAGE as usize].into());
            page[start..start + now.len()].copy_from_slice(now);
            offset += now.len() as u64;
            bytes = later;
        }
    }

    fn truncate(&mut self, length: u64) {
        self.pages.split_off(&length.div_ceil(PAGE));
        if let Some(page) = self.pages.get_mut(&(length / PAGE)) {
            page[(length % PAGE) as usize..].fill(0);
        }
        self.length = length;
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => self.write(*offset, bytes),
            Change::Truncate(length) => self.truncate(*length),
        }
    }

    /// Writes some sectors of a change.
    fn tear(&mut self, change: &Change, rng: &mut impl Rng) {
        let Change::Write { offset, bytes } = change else { return };
        let end = offset + bytes.len() as u64;
        let mut at = *offset;
        while at < end {
            let next = ((at / SECTOR + 1) * SECTOR).min(end);
            if rng.random() {
                self.write(at, &bytes[(at - offset) as usize..(next - offset) as usize]);
            }
            at = next;
        }
    }
}

/// A change of a file that is not synced.
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate(u64),
}

/// A change of a folder that is not synced.
#[derive(Clone)]
enum Naming {
    Add(String, usize),
    Remove(String),
    Move(String, String),
}

type Names = BTreeMap<String, usize>;

fn name(names: &mut Names, naming: &Naming) {
    match naming {
        Naming::Add(name, id) => drop(names.insert(name.clone(), *id)),
        Naming::Remove(name) => drop(names.remove(name)),
        Naming::Move(from, to) => {
            let id = names.remove(from).unwrap_or_else(|| panic!("{from} is moved and not there"));
            names.insert(to.clone(), id);
        }
    }
}

enum Node {
    File { synced: Bytes, changes: Vec<Change> },
    Folder { names: Names, synced: Names, namings: Vec<Naming> },
}

impl Node {
    fn folder() -> Self {
        Self::Folder { names: Names::new(), synced: Names::new(), namings: Vec::new() }
    }
}

/// What becomes of changes that are not synced.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    /// They were written all the same.
    Nothing,
    /// They are gone.
    All,
    /// Each file and each folder keeps those up to some moment; the one of that moment is torn.
    Ends,
    /// Each change of a file is kept, gone or torn; folders keep those up to some moment.
    Any,
}

impl Loss {
    pub fn draw(rng: &mut impl Rng) -> Self {
        // The harshest one most often.
        [Self::Nothing, Self::All, Self::Ends, Self::Any, Self::Any, Self::Any][rng.random_range(0..6)]
    }
}

/// A folder with all that is in it.
pub struct Disk {
    nodes: Vec<Node>,
}

impl Disk {
    /// An empty folder, which is there for sure.
    pub fn new() -> Self {
        Self { nodes: vec![Node::folder()] }
    }

    /// A folder as it is, all of it synced.
    pub fn of(folder: &Path) -> Self {
        let mut disk = Self::new();
        disk.read(folder, "");
        for node in &mut disk.nodes {
            if let Node::Folder { names, synced, namings } = node {
                synced.clone_from(names);
                namings.clear();
            }
        }
        disk
    }

    fn read(&mut self, folder: &Path, inside: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{inside}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                self.add(&name, Node::folder());
                self.read(&path, &name);
            } else {
                self.add(&name, Node::File { synced: read_sparse(&path), changes: Vec::new() });
            }
        }
    }

    fn find(&self, path: &str) -> Option<usize> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(0, |id, part| match &self.nodes[id] {
            Node::Folder { names, .. } => names.get(part).copied(),
            Node::File { .. } => None,
        })
    }

    fn at(&self, path: &str) -> usize {
        self.find(path).unwrap_or_else(|| panic!("{path} is not there"))
    }

    fn change(&mut self, path: &str, change: Change) {
        // What is written to a file without a name is gone anyway.
        let Some(id) = self.find(path).or_else(|| (!path.ends_with(" (deleted)")).then(|| self.at(path)))
        else {
            return;
        };
        match &mut self.nodes[id] {
            Node::File { changes, .. } => changes.push(change),
            Node::Folder { .. } => panic!("{path} is a folder"),
        }
    }

    fn rename(&mut self, folder: &str, naming: Naming) {
        let id = self.at(folder);
        match &mut self.nodes[id] {
            Node::Folder { names, namings, .. } => {
                name(names, &naming);
                namings.push(naming);
            }
            Node::File { .. } => panic!("{folder} is a file"),
        }
    }

    fn add(&mut self, path: &str, node: Node) {
        let (folder, name) = split(path);
        self.nodes.push(node);
        self.rename(folder, Naming::Add(name.to_owned(), self.nodes.len() - 1));
    }

    /// Does one operation.
    pub fn perform(&mut self, op: Op) {
        match op {
            Op::Create { path } => {
                self.add(&path, Node::File { synced: Bytes::default(), changes: Vec::new() });
            }
            Op::Mkdir { path } => self.add(&path, Node::folder()),
            Op::Write { path, offset, bytes } => self.change(&path, Change::Write { offset, bytes }),
            Op::Truncate { path, length } => self.change(&path, Change::Truncate(length)),
            Op::Unlink { path } => {
                let (folder, name) = split(&path);
                self.rename(folder, Naming::Remove(name.to_owned()));
            }
            Op::Rename { from, to } => {
                let ((folder, from), (target, to)) = (split(&from), split(&to));
                assert_eq!(folder, target, "moves between folders are not modelled");
                self.rename(folder, Naming::Move(from.to_owned(), to.to_owned()));
            }
            Op::Sync { path } => self.sync(&path),
            Op::Lost { path } => {
                let id = self.find(&path);
                if let Some(Node::File { changes, .. }) = id.map(|id| &mut self.nodes[id]) {
                    changes.clear();
                }
            }
        }
    }

    fn sync(&mut self, path: &str) {
        let Some(id) = self.find(path) else {
            assert!(path.ends_with(" (deleted)"), "{path} is synced and not there");
            return;
        };
        match &mut self.nodes[id] {
            Node::File { synced, changes } => {
                for change in changes.drain(..) {
                    synced.apply(&change);
                }
            }
            Node::Folder { names, synced, namings } => {
                synced.clone_from(names);
                namings.clear();
            }
        }
    }

    /// How many changes are not synced.
    pub fn unsynced(&self) -> usize {
        let count = |node: &Node| match node {
            Node::File { changes, .. } => changes.len(),
            Node::Folder { namings, .. } => namings.len(),
        };
        self.nodes.iter().map(count).sum()
    }

    /// Builds what a machine may find when it comes up again now.
    pub fn build(&self, to: &Path, loss: Loss, rng: &mut impl Rng) {
        self.build_node(0, to, loss, rng);
    }

    fn build_node(&self, id: usize, to: &Path, loss: Loss, rng: &mut impl Rng) {
        match &self.nodes[id] {
            Node::File { synced, changes } => {
                let mut bytes = synced.clone();
                lose(&mut bytes, changes, loss, rng);
                write_sparse(to, &bytes);
            }
            Node::Folder { synced, namings, .. } => {
                fs::create_dir_all(to).unwrap();
                let kept = match loss {
                    Loss::Nothing => namings.len(),
                    Loss::All => 0,
                    Loss::Ends | Loss::Any => rng.random_range(0..=namings.len()),
                };
                let mut names = synced.clone();
                for naming in &namings[..kept] {
                    name(&mut names, naming);
                }
                for (name, id) in names {
                    self.build_node(id, &to.join(name), loss, rng);
                }
            }
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn lose(bytes: &mut Bytes, changes: &[Change], loss: Loss, rng: &mut impl Rng) {
    match loss {
        Loss::All => {}
        Loss::Nothing => changes.iter().for_each(|change| bytes.apply(change)),
        Loss::Ends => {
            let kept = rng.random_range(0..=changes.len());
            changes[..kept].iter().for_each(|change| bytes.apply(change));
            if let Some(torn) = changes.get(kept) {
                bytes.tear(torn, rng);
            }
        }
        Loss::Any => {
            for change in changes {
                match rng.random_range(0..3) {
                    0 => bytes.apply(change),
                    1 => bytes.tear(change, rng),
                    _ => {}
                }
            }
        }
    }
}

fn write_sparse(to: &Path, bytes: &Bytes) {
    let file = File::create(to).unwrap();
    file.set_len(bytes.length).unwrap();
    for (number, page) in &bytes.pages {
        let start = number * PAGE;
        let used = (bytes.length - start).min(PAGE) as usize;
        file.write_all_at(&page[..used], start).unwrap();
    }
}

/// Copies a folder without the room that its files have set aside.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            write_sparse(&to, &read_sparse(&from));
        }
    }
}

fn read_sparse(path: &Path) -> Bytes {
    let content = fs::read(path).unwrap();
    let mut bytes = Bytes { length: content.len() as u64, ..Bytes::default() };
    for (number, page) in (0..).zip(content.chunks(PAGE as usize)) {
        if page.iter().any(|byte| *byte != 0) {
            bytes.write(number * PAGE, page);
        }
    }
    bytes
}

/// Stops the test when two folders differ: the first is what the shim saw, the second what is there.
pub fn assert_same(seen: &Path, there: &Path) {
    let names = |folder: &Path| -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(seen), names(there), "the shim saw what is in {}", there.display());
    for name in names(seen) {
        let (seen, there) = (seen.join(&name), there.join(&name));
        if seen.is_dir() {
            assert_same(&seen, &there);
        } else {
            let is_same = fs::read(&seen).unwrap() == fs::read(&there).unwrap();
            assert!(is_same, "the shim did not see all that was written to {}", there.display());
        }
    }
}
