//! Power loss at any operation: the folder that a machine may come up with holds all that was answered before.

use std::path::Path;

use rand::Rng;

use crate::{
    Folder,
    disk::{self, Disk, Loss, Op},
    ledger::{Ledger, Reply, WALKERS, unmarked},
    program::{Ended, Program},
    seeded, setting,
    shim::{Act, Fault, Shim},
};

/// What was recorded of one store over several processes.
struct Recording {
    folder: Folder,
    ops: Vec<Op>,
    ledger: Ledger,
    /// The last operation before the first process was ready.
    ready: u64,
}

/// Four processes on one store: two are killed, one is stopped, and the last is stopped as well, so that the log is whole.
async fn record(rng: &mut impl Rng) -> Recording {
    let folder = Folder::new();
    let shim = Shim::recording(folder.path());
    let (mut ledger, mut ready) = (None, 0);
    for life in 0..4 {
        let mark = {
            let shim = shim.clone();
            move || shim.done()
        };
        // A first start takes some nine hundred operations: the key spaces are made.
        let act = if life < 2 { Act::KillAfter(rng.random_range(1200..1800)) } else { Act::Watch };
        let before = shim.done();
        let started = Program::start(folder.path(), Some((&shim, act))).await;
        let program = started.unwrap_or_else(|ended| {
            panic!(
                "life {life} under {act:?} did not begin after {} operations: {ended:?}",
                shim.done() - before
            )
        });
        if life == 0 {
            ready = mark();
            ledger = Some(Ledger::register(&program.url, mark.clone()).await);
        }
        let ledger: &Ledger = ledger.as_ref().unwrap();
        let (most, large) = [(4000, 0.1), (4000, 0.5), (80, 0.1), (40, 0.1)][life];
        ledger.work(&program.url, rng, (most, large), mark).await;
        let ended = if life < 2 { program.end().await } else { program.stop().await };
        assert!(if life < 2 { ended.was_killed() } else { ended.status.success() }, "{ended:?}");
        shim.assert_all_seen();
    }
    let ops = disk::read_log(&shim.log());
    assert_eq!(ops.len() as u64, shim.done(), "the log has every operation");
    Recording { folder, ops, ledger: ledger.unwrap(), ready }
}

/// Loses the power again while the store opens.
async fn lose_again(folder: Folder, rng: &mut impl Rng) -> Folder {
    let mut disk = Disk::of(folder.path());
    let shim = Shim::recording(folder.path());
    let at = rng.random_range(1..60);
    let opening = Program::start(folder.path(), Some((&shim, Act::KillAfter(at)))).await;
    match opening {
        Ok(program) => drop(program.kill().await),
        Err(ended) => assert!(ended.was_killed(), "the store does not open: {ended:?}"),
    }
    disk::read_log(&shim.log()).into_iter().for_each(|op| disk.perform(op));
    let loss = Loss::draw(rng);
    println!("and again at operation {at} of the next start: {loss:?} of {}", disk.unsynced());
    let after = Folder::new();
    disk.build(after.path(), loss, rng);
    after
}

/// Opens a folder after a power loss at an operation, and checks it.
async fn check(folder: &Path, recorded: (&Ledger, u64), cut: u64) -> Result<(), Ended> {
    let (ledger, ready) = recorded;
    let program = Program::start(folder, None).await?;
    if cut >= ready {
        ledger.check(&program.url, cut).await;
    }
    program.kill().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_loss_all_that_was_answered_is_there() {
    let mut rng = seeded();
    let recording = record(&mut rng).await;
    let total = recording.ops.len() as u64;
    let cuts = setting("CUTS").unwrap_or(20);
    // One in five while the first files are made.
    let draw = |_| if rng.random_ratio(1, 5) { rng.random_range(0..60) } else { rng.random_range(0..=total) };
    let mut at: Vec<u64> = (0..cuts).map(draw).collect();
    at.sort_unstable();
    println!(
        "{total} operations, {} answers, {} events",
        recording.ledger.answered(),
        recording.ledger.events()
    );
    let (mut disk, mut done, mut unsynced) = (Disk::new(), 0, 0);
    let mut ops = recording.ops.into_iter();
    for cut in at {
        ops.by_ref().take((cut - done) as usize).for_each(|op| disk.perform(op));
        done = cut;
        unsynced += disk.unsynced();
        let loss = Loss::draw(&mut rng);
        println!("cut after operation {cut}: {loss:?} of {} unsynced changes", disk.unsynced());
        let folder = Folder::new();
        disk.build(folder.path(), loss, &mut rng);
        let folder = if rng.random() { lose_again(folder, &mut rng).await } else { folder };
        let opened = check(folder.path(), (&recording.ledger, recording.ready), cut).await;
        assert!(opened.is_ok(), "the store does not open: {opened:?}");
    }
    ops.for_each(|op| disk.perform(op));
    let whole = Folder::new();
    disk.build(whole.path(), Loss::Nothing, &mut rng);
    disk::assert_same(whole.path(), recording.folder.path());
    assert!(unsynced > 0, "something was to be lost");
}

/// What comes after a sync that failed proves nothing about what was to be synced.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_behind_a_failed_sync() {
    let mut rng = seeded();
    for _ in 0..setting("CUTS").unwrap_or(20) / 4 {
        let folder = Folder::new();
        let shim = Shim::recording(folder.path());
        let program = Program::start(folder.path(), Some((&shim, Act::Watch))).await.unwrap();
        let ledger = Ledger::register(&program.url, unmarked).await;
        ledger.work(&program.url, &mut rng, (20, 0.1), unmarked).await;
        assert!(program.stop().await.status.success());
        let at = rng.random_range(1..150);
        println!("the first sync from operation {at} on fails");
        let second = Program::start(folder.path(), Some((&shim, Act::Fail(Fault::Sync, at)))).await;
        if let Ok(program) = second {
            for walker in WALKERS.into_iter().cycle().take(30) {
                let (reply, id) = ledger.submit(&program.url, walker, unmarked).await;
                let Some(id) = id else { break };
                assert_eq!(reply, Reply::Accepted);
                ledger.follow(&program.url, &id, unmarked).await;
            }
            program.stop().await;
        }
        let mut disk = Disk::new();
        disk::read_log(&shim.log()).into_iter().for_each(|op| disk.perform(op));
        for loss in [Loss::Nothing, Loss::All, Loss::Any] {
            let after = Folder::new();
            disk.build(after.path(), loss, &mut rng);
            check(after.path(), (&ledger, 0), u64::MAX).await.unwrap();
        }
    }
}

/// The names of what the engine makes at its first start were once not synced.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_synced_is_not_needed() {
    let folder = Folder::new();
    let shim = Shim::recording(folder.path());
    let mark = {
        let shim = shim.clone();
        move || shim.done()
    };
    let program = Program::start(folder.path(), Some((&shim, Act::Watch))).await.unwrap();
    let ledger = Ledger::register(&program.url, mark.clone()).await;
    ledger.work(&program.url, &mut seeded(), (40, 0.1), mark.clone()).await;
    let told = mark();
    let ended = program.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    let mut disk = Disk::new();
    disk::read_log(&shim.log()).into_iter().take(told as usize).for_each(|op| disk.perform(op));
    let after = Folder::new();
    disk.build(after.path(), Loss::All, &mut seeded());
    check(after.path(), (&ledger, 0), told).await.unwrap();
}
