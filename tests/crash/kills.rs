//! SIGKILL at random times and at chosen operations: also while the store opens, and while its files grow.

use std::time::Duration;

use rand::Rng;

use crate::{
    Folder,
    ledger::{Ledger, unmarked},
    program::Program,
    seeded, setting,
    shim::{Act, Shim},
};

/// Cycles between two checks of everything, and on one folder.
const CYCLES_PER_CHECK: u64 = 10;
const CYCLES_PER_FOLDER: u64 = 25;
/// More than are answered before a process is killed.
const WORK: usize = 4000;

/// When a process is to be killed.
#[derive(Debug, Clone, Copy)]
enum Plan {
    /// So long after it was ready.
    Time(Duration),
    /// At an operation, counted from its start.
    Operation(Act),
}

/// Draws a plan for a process that opens its store with so many operations.
fn plan(rng: &mut impl Rng, opening: u64) -> Plan {
    let at = match rng.random_range(0..5) {
        0 => return Plan::Time(Duration::from_millis(rng.random_range(0..300))),
        1 => rng.random_range(1..=opening),
        2 => opening + rng.random_range(1..100),
        _ => opening + rng.random_range(1..1000),
    };
    Plan::Operation(if rng.random() { Act::KillBefore(at) } else { Act::KillAfter(at) })
}

#[derive(Default, Debug)]
struct Tally {
    cycles: u64,
    while_opening: u64,
    at_operations: u64,
    answered: usize,
    events: usize,
}

/// One store, killed again and again.
struct Run {
    folder: Folder,
    shim: Shim,
    ledger: Ledger,
    /// How many operations the last opening took.
    opening: u64,
}

impl Run {
    /// Also an opening of a store that is being made may be cut off.
    async fn begin(rng: &mut impl Rng, tally: &mut Tally) -> Self {
        let folder = Folder::new();
        let shim = Shim::on(folder.path());
        let at = rng.random_range(1..700);
        if let Err(ended) = Program::start(folder.path(), Some((&shim, Act::KillAfter(at)))).await {
            assert!(ended.was_killed(), "killed at operation {at} of the first start: {ended:?}");
            tally.while_opening += 1;
        }
        let program = Program::start(folder.path(), Some((&shim, Act::Watch))).await.unwrap();
        let ledger = Ledger::register(&program.url, unmarked).await;
        program.kill().await;
        Self { folder, shim, ledger, opening: 50 }
    }

    async fn cycle(&mut self, rng: &mut impl Rng, tally: &mut Tally) {
        let plan = plan(rng, self.opening);
        println!("cycle {}: {plan:?}", tally.cycles);
        tally.cycles += 1;
        let act = match plan {
            Plan::Operation(act) => act,
            Plan::Time(_) => Act::Watch,
        };
        let faults = self.shim.faults();
        match Program::start(self.folder.path(), Some((&self.shim, act))).await {
            Err(ended) => {
                assert!(ended.was_killed(), "{ended:?}");
                tally.while_opening += 1;
            }
            Ok(program) => {
                let url = program.url.clone();
                let mut ended = program.ended();
                let time = match plan {
                    Plan::Time(time) => time,
                    Plan::Operation(_) => Duration::from_secs(10),
                };
                // Now and then mostly large ones, so that it ends while files grow.
                let large = if rng.random_ratio(1, 6) { 0.8 } else { 0.05 };
                let strike = async {
                    drop(tokio::time::timeout(time, ended.wait_for(|ended| *ended)).await);
                    program.kill().await
                };
                let ((), ended) = tokio::join!(self.ledger.work(&url, rng, (WORK, large), unmarked), strike);
                assert!(ended.was_killed(), "{ended:?}");
            }
        }
        tally.at_operations += self.shim.faults() - faults;
        self.shim.assert_all_seen();
    }

    async fn check(&mut self, tally: &mut Tally) {
        let program = Program::start(self.folder.path(), Some((&self.shim, Act::Watch))).await.unwrap();
        self.opening = self.shim.here();
        self.ledger.check(&program.url, u64::MAX).await;
        tally.answered += self.ledger.answered();
        tally.events += self.ledger.events();
        self.ledger.forget_checked();
        program.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_answered_is_lost_and_nothing_is_there_twice() {
    let mut rng = seeded();
    let cycles = setting("CYCLES").unwrap_or(50);
    let mut tally = Tally::default();
    while tally.cycles < cycles {
        let mut run = Run::begin(&mut rng, &mut tally).await;
        let share = CYCLES_PER_FOLDER.min(cycles - tally.cycles);
        for cycle in 1..=share {
            run.cycle(&mut rng, &mut tally).await;
            if cycle % CYCLES_PER_CHECK == 0 || cycle == share {
                run.check(&mut tally).await;
            }
        }
    }
    println!("{tally:?}");
    assert!(tally.answered > 0 && tally.events > 0 && tally.at_operations > 0, "{tally:?}");
}
