//! The real program on the real store, ended at any moment: killed, without power, or on a failing disk. See `tests/README.md`.

#![allow(missing_docs, unreachable_pub, reason = "tests are read, not linked to")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test that cannot go on has to stop"
)]

mod after;
#[path = "../it/built.rs"]
mod built;
mod cluster;
#[path = "../it/database.rs"]
mod database;
mod disk;
mod faults;
mod kills;
mod ledger;
mod power;
mod program;
mod shim;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "it serves two test targets")]
mod support;
mod uploads;

use std::path::Path;

use rand::{Rng, SeedableRng, rngs::StdRng};

/// The seed of one test: a new one each time, unless `WALKABOUT_CRASH_SEED` names it. It is printed with a failure.
fn seeded() -> StdRng {
    let seed = setting("SEED").unwrap_or_else(|| StdRng::from_os_rng().random());
    println!("WALKABOUT_CRASH_SEED={seed} draws the same again");
    StdRng::seed_from_u64(seed)
}

/// A folder that goes with its test, unless that fails: then it is named and stays.
struct Folder(Option<tempfile::TempDir>);

impl Folder {
    fn new() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take().filter(|_| std::thread::panicking()) {
            println!("see {}", folder.keep().display());
        }
    }
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(format!("WALKABOUT_CRASH_{name}")).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("WALKABOUT_CRASH_{name} is a number, not {text:?}")))
}
