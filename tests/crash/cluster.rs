//! Several processes on one database, killed and paused beyond their lease while clients submit to one and follow at another.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, time::Instant};

use crate::{
    Folder,
    database::database,
    ledger::{Ledger, Reply, WALKERS, unmarked},
    program::Program,
    seeded, setting,
};

const PROCESSES: usize = 3;
const USERS: usize = 40;
const CLIENTS: usize = 12;
/// The shortest lease that there is.
const LEASE_MS: u64 = 1000;

/// One place of the cluster: a process, and those that come after it.
struct Place {
    folder: PathBuf,
    program: Option<Program>,
}

/// What became of the processes.
#[derive(Debug, Default)]
struct Tally {
    killed: usize,
    paused: usize,
    stopped: usize,
    /// Attempts that processes gave up because others had taken their runs.
    fenced: usize,
}

async fn start(folder: &std::path::Path, uri: &str) -> Program {
    let lease = LEASE_MS.to_string();
    // Of many runs, some lose their process again and again.
    let arguments = ["--store", uri, "--lease-ms", &lease, "--lost-max", "100"];
    Program::start_with(folder, &arguments, None).await.unwrap_or_else(|ended| panic!("{ended:?}"))
}

/// Kills, pauses and stops processes until the clients are done.
async fn strike(
    mut places: Vec<Place>,
    urls: Arc<Mutex<Vec<String>>>,
    uri: String,
    mut rng: StdRng,
    mut done: watch::Receiver<bool>,
) -> Tally {
    let mut tally = Tally::default();
    let fenced = |said: &str| {
        // What is not expected is shown when the test fails.
        said.lines()
            .filter(|line| !line.contains("an attempt was given up"))
            .for_each(|line| println!("{line}"));
        said.matches("an attempt was given up").count()
    };
    while !*done.borrow() {
        let pause = Duration::from_millis(rng.random_range(100..1500));
        drop(tokio::time::timeout(pause, done.wait_for(|done| *done)).await);
        let number = rng.random_range(0..places.len());
        let place = &mut places[number];
        let Some(program) = place.program.take() else { continue };
        match rng.random_range(0..5) {
            0 | 1 => {
                tally.killed += 1;
                tally.fenced += fenced(&program.kill().await.said);
            }
            2 => {
                tally.stopped += 1;
                tally.fenced += fenced(&program.stop().await.said);
            }
            _ => {
                tally.paused += 1;
                program.signal("STOP");
                // Others take up what it has in hand; then it goes on as if nothing had been.
                tokio::time::sleep(Duration::from_millis(rng.random_range(LEASE_MS / 2..3 * LEASE_MS))).await;
                program.signal("CONT");
                place.program = Some(program);
                continue;
            }
        }
        let program = start(&place.folder, &uri).await;
        urls.lock().unwrap()[number].clone_from(&program.url);
        place.program = Some(program);
    }
    for place in places {
        if let Some(program) = place.program {
            tally.fenced += fenced(&program.stop().await.said);
        }
    }
    tally
}

/// Submits, and follows at whatever process there is until the run has ended.
async fn client(
    ledger: Ledger,
    urls: Arc<Mutex<Vec<String>>>,
    mut rng: StdRng,
    submitted: Arc<AtomicUsize>,
    wanted: usize,
) {
    let any = |rng: &mut StdRng| {
        let urls = urls.lock().unwrap();
        urls[rng.random_range(0..urls.len())].clone()
    };
    while submitted.load(Ordering::SeqCst) < wanted {
        let walker = WALKERS[rng.random_range(0..WALKERS.len())];
        let url = any(&mut rng);
        let asked = ledger.submit(&url, walker, unmarked);
        // A paused process does not answer; what it was asked it may still do.
        let Ok((reply, id)) = tokio::time::timeout(Duration::from_secs(10), asked).await else { continue };
        // One that stops says so.
        assert!(matches!(reply, Reply::Accepted | Reply::Gone | Reply::Refused(503)), "{reply:?}");
        let Some(id) = id else { continue };
        submitted.fetch_add(1, Ordering::SeqCst);
        if rng.random_ratio(1, 4) {
            let follow = async {
                while ledger.follow(&any(&mut rng), &id, unmarked).await.is_none() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(crate::program::PATIENCE, follow).await.expect("a followed run ends");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_come_and_go_and_every_effect_is_there_once() {
    let Some(uri) = database() else { return };
    let mut rng = seeded();
    let wanted = usize::try_from(setting("CLUSTER").unwrap_or(200)).unwrap();
    let folders: Vec<Folder> = (0..PROCESSES).map(|_| Folder::new()).collect();
    let mut places = Vec::new();
    for folder in &folders {
        let program = start(folder.path(), &uri).await;
        places.push(Place { folder: folder.path().to_owned(), program: Some(program) });
    }
    let urls: Vec<String> =
        places.iter().filter_map(|place| Some(place.program.as_ref()?.url.clone())).collect();
    let ledger = Ledger::register_many(&urls[0], USERS, unmarked).await;
    let urls = Arc::new(Mutex::new(urls));
    let (end, done) = watch::channel(false);
    let begun = Instant::now();
    let striking =
        tokio::spawn(strike(places, Arc::clone(&urls), uri.clone(), StdRng::from_rng(&mut rng), done));
    let submitted = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (ledger, urls, submitted) = (ledger.clone(), Arc::clone(&urls), Arc::clone(&submitted));
        clients.spawn(client(ledger, urls, StdRng::from_rng(&mut rng), submitted, wanted));
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    end.send_replace(true);
    let tally = striking.await.unwrap();
    println!("{} runs were accepted in {:?}: {tally:?}", ledger.answered(), begun.elapsed());
    let program = start(folders[0].path(), &uri).await;
    ledger.check(&program.url, u64::MAX).await;
    println!("all ended after {:?}, {} events", begun.elapsed(), ledger.events());
    program.kill().await;
    assert!(ledger.answered() >= wanted, "{}", ledger.answered());
}
