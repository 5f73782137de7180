//! The shim that sees what a program does to its files: `shim.c`, compiled at its first use.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
};

use tempfile::TempDir;

fn library() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("shim.so");
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library);
        cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/crash/shim.c"));
        assert!(cc.status().expect("a C compiler is there").success(), "the shim compiles");
        (folder, library)
    });
    library
}

/// What is to happen at one operation of a process, counted from 1.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Nothing: operations are only counted.
    Watch,
    KillBefore(u64),
    KillAfter(u64),
    Fail(Fault, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Once.
    Io,
    /// It, and all after it.
    IoFromThen,
    /// Once.
    Full,
    /// It, and all after it but removals.
    FullFromThen,
    /// A write writes its first half, once.
    Short,
    /// All writes from then on write their first half.
    ShortFromThen,
    /// A write writes its first half, and all operations after it but removals find no room.
    Torn,
    /// The first sync from there on fails, once.
    Sync,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::Io,
        Self::IoFromThen,
        Self::Full,
        Self::FullFromThen,
        Self::Short,
        Self::ShortFromThen,
        Self::Torn,
        Self::Sync,
    ];

    /// Whether a program has to notice nothing.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Short | Self::ShortFromThen)
    }
}

/// Puts the shim under programs that run on one folder, one after the other.
#[derive(Clone)]
pub struct Shim {
    folder: PathBuf,
    aside: Arc<TempDir>,
    state: Arc<File>,
    records: bool,
}

impl Shim {
    pub fn on(folder: &Path) -> Self {
        let aside = tempfile::tempdir().unwrap();
        let path = aside.path().join("state");
        let state = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        state.set_len(4096).unwrap();
        let folder = folder.canonicalize().unwrap();
        Self { folder, aside: Arc::new(aside), state: Arc::new(state), records: false }
    }

    /// Records every operation as well.
    pub fn recording(folder: &Path) -> Self {
        Self { records: true, ..Self::on(folder) }
    }

    pub fn log(&self) -> PathBuf {
        self.aside.path().join("log")
    }

    pub fn put_under(&self, command: &mut Command, act: Act) {
        command.env("LD_PRELOAD", library());
        command.env("SHIM_FOLDER", &self.folder).env("SHIM_STATE", self.aside.path().join("state"));
        if self.records {
            command.env("SHIM_LOG", self.log());
        }
        let (name, value, at) = match act {
            Act::Watch => return,
            Act::KillBefore(at) => ("SHIM_KILL", "before", at),
            Act::KillAfter(at) => ("SHIM_KILL", "after", at),
            Act::Fail(fault, at) => {
                let (value, goes_on) = match fault {
                    Fault::Io => ("eio", "0"),
                    Fault::IoFromThen => ("eio", "1"),
                    Fault::Full => ("enospc", "0"),
                    Fault::FullFromThen => ("enospc", "1"),
                    Fault::Short => ("short", "0"),
                    Fault::ShortFromThen => ("short", "1"),
                    Fault::Torn => ("torn", "0"),
                    Fault::Sync => ("sync", "0"),
                };
                command.env("SHIM_ON", goes_on);
                ("SHIM_FAULT", value, at)
            }
        };
        command.env(name, value).env("SHIM_AT", at.to_string());
    }

    fn field(&self, index: u64) -> u64 {
        let mut bytes = [0; 8];
        self.state.read_exact_at(&mut bytes, index * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }

    /// How many processes have loaded it.
    pub fn loaded(&self) -> u64 {
        self.field(0)
    }

    /// How many operations were done by all processes: what was answered before now rests on these alone.
    pub fn done(&self) -> u64 {
        self.field(1)
    }

    /// How many operations were made to fail, or to end the process.
    pub fn faults(&self) -> u64 {
        self.field(2)
    }

    /// Stops the test when a file was changed in a way that the shim does not model.
    pub fn assert_all_seen(&self) {
        assert_eq!(
            self.field(3),
            0,
            "the program changes files by a system call (its number) that shim.c does not model"
        );
    }

    /// How many operations the present process has begun.
    pub fn here(&self) -> u64 {
        self.field(4)
    }
}

#[test]
fn a_change_that_is_not_modelled_is_loud() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one"), "text").unwrap();
    let shim = Shim::on(folder.path());
    let run = |program: &str, arguments: [&str; 2]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder.path());
        shim.put_under(&mut command, Act::Watch);
        command.output().unwrap().status.code()
    };
    assert_eq!(run("mkdir", ["-p", "two"]), Some(0));
    shim.assert_all_seen();
    assert_eq!((shim.loaded(), shim.done()), (1, 1));
    assert_eq!(run("ln", ["one", "three"]), Some(97));
    assert!(std::panic::catch_unwind(|| shim.assert_all_seen()).is_err());
}
