//! A disk that fails or is full, at any one operation or from one on; and a kill at any one.

use rand::Rng;

use crate::{
    Folder, disk,
    ledger::{LARGE, Ledger, Reply, WALKERS, unmarked},
    program::{Ended, Program},
    seeded, setting,
    shim::{Act, Fault, Shim},
};

/// A store to begin with, and how many operations a process does on it.
struct Start {
    folder: Folder,
    ledger: Ledger,
    operations: u64,
}

impl Start {
    /// A store that was stopped, or killed.
    async fn make(is_clean: bool) -> Self {
        let folder = Folder::new();
        let program = Program::start(folder.path(), None).await.unwrap();
        let ledger = Ledger::register(&program.url, unmarked).await;
        assert!(work(&ledger, &program.url).await.is_whole);
        drop(if is_clean { program.stop().await } else { program.kill().await });
        let mut this = Self { folder, ledger, operations: 0 };
        let (folder, shim, ledger) = this.copy();
        let program = Program::start(folder.path(), Some((&shim, Act::Watch))).await.unwrap();
        assert!(work(&ledger, &program.url).await.is_whole);
        assert!(program.stop().await.status.success());
        this.operations = shim.here();
        this
    }

    fn copy(&self) -> (Folder, Shim, Ledger) {
        let folder = Folder::new();
        disk::copy(self.folder.path(), folder.path());
        let shim = Shim::on(folder.path());
        (folder, shim, self.ledger.fork())
    }
}

/// What clients saw of a server.
#[derive(Debug)]
struct Seen {
    /// Everything was accepted and came to its end.
    is_whole: bool,
    replies: Vec<Reply>,
}

async fn work(ledger: &Ledger, url: &str) -> Seen {
    let mut seen = Seen { is_whole: true, replies: Vec::new() };
    for walker in WALKERS.into_iter().chain([LARGE]) {
        let (reply, id) = ledger.submit(url, walker, unmarked).await;
        seen.replies.push(reply);
        let end = match id {
            Some(id) => ledger.follow(url, &id, unmarked).await,
            None => None,
        };
        seen.is_whole &= end.is_some_and(|end| end["event"]["type"] == "completed");
    }
    seen
}

#[derive(Default, Debug)]
struct Tally {
    trials: u64,
    /// Faults that met an operation.
    met: u64,
    /// The program refused to start.
    refused: u64,
    /// The program ended by itself, or said at its end that something was wrong.
    gave_up: u64,
    /// The program did all its work all the same.
    went_on: u64,
}

/// One process that something happens to, and one without that after it.
async fn trial(start: &Start, act: Act, tally: &mut Tally) {
    let (folder, shim, ledger) = start.copy();
    match Program::start(folder.path(), Some((&shim, act))).await {
        Err(ended) => {
            assert_end(&ended, act);
            tally.refused += 1;
        }
        Ok(program) => {
            let seen = work(&ledger, &program.url).await;
            for reply in &seen.replies {
                assert!(
                    matches!(reply, Reply::Accepted | Reply::Refused(503 | 507) | Reply::Gone),
                    "{seen:?}"
                );
            }
            let ended = program.stop().await;
            if ended.status.success() {
                assert!(seen.is_whole, "it ended as if all were well: {seen:?}, {ended:?}");
                tally.went_on += 1;
            } else {
                assert_end(&ended, act);
                tally.gave_up += 1;
            }
        }
    }
    tally.trials += 1;
    tally.met += u64::from(shim.faults() > 0);
    shim.assert_all_seen();
    let program = Program::start(folder.path(), None).await.unwrap();
    ledger.check(&program.url, u64::MAX).await;
    program.kill().await;
}

/// A program that cannot go on ends with code 1 and says why, and one that is killed says nothing.
fn assert_end(ended: &Ended, act: Act) {
    match act {
        Act::Fail(fault, _) => {
            assert!(!fault.is_harmless(), "{ended:?}");
            assert_eq!(ended.status.code(), Some(1), "{ended:?}");
            assert!(ended.said.contains("walkabout: "), "{ended:?}");
        }
        _ => assert!(ended.was_killed(), "{ended:?}"),
    }
    assert!(!ended.said.contains("panicked"), "{ended:?}");
}

/// What is to happen to processes of so many operations: everything at each, or so much that is drawn.
fn acts(operations: u64, drawn: u64, rng: &mut impl Rng) -> Vec<Act> {
    let at_each = |at| Fault::ALL.map(|fault| Act::Fail(fault, at)).into_iter().chain([Act::KillAfter(at)]);
    let all: Vec<Act> = (1..=operations).flat_map(at_each).collect();
    match setting("FAULTS").unwrap_or(drawn) {
        0 => all,
        drawn => (0..drawn).map(|_| all[rng.random_range(0..all.len())]).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_disk_refuses_nothing_answered_is_lost() {
    let mut rng = seeded();
    let starts = [Start::make(true).await, Start::make(false).await];
    let mut tally = Tally::default();
    for (start, name) in starts.iter().zip(["stop", "kill"]) {
        for act in acts(start.operations, 12, &mut rng) {
            println!("{act:?} of {} operations after a {name}", start.operations);
            trial(start, act, &mut tally).await;
        }
    }
    println!("{tally:?}");
    assert!(tally.met > 0, "{tally:?}");
}

/// A first start makes many files: one that fails in the middle can be repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_fails_can_be_repeated() {
    let mut rng = seeded();
    let whole = Folder::new();
    let shim = Shim::on(whole.path());
    let program = Program::start(whole.path(), Some((&shim, Act::Watch))).await.unwrap();
    assert!(program.stop().await.status.success());
    let operations = shim.here();
    // The first operations make what the engine opens nothing without.
    let first = acts(60, 6, &mut rng);
    for act in first.into_iter().chain(acts(operations, 6, &mut rng)) {
        println!("{act:?} of {operations} operations");
        let folder = Folder::new();
        let shim = Shim::on(folder.path());
        let ended = match Program::start(folder.path(), Some((&shim, act))).await {
            Ok(program) => program.stop().await,
            Err(ended) => ended,
        };
        if !ended.status.success() {
            assert_end(&ended, act);
        }
        shim.assert_all_seen();
        let program = Program::start(folder.path(), None).await.unwrap();
        let ledger = Ledger::register(&program.url, unmarked).await;
        assert!(work(&ledger, &program.url).await.is_whole);
        ledger.check(&program.url, u64::MAX).await;
        program.kill().await;
    }
}
