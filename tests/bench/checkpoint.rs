//! What a checkpoint costs over frontiers of several lengths: `cargo bench -p walkabout-walkers --bench checkpoint`.
//!
//! One walker on the embedded store stands at one node after another, puts two more in the frontier, reports, and asks for a
//! checkpoint. Each length is measured twice: as it is, and with everything kept in the checkpoint itself, which is then written
//! whole each time. A frontier of one id shows what the rest of a checkpoint costs, the sync included.
//!
//! Not a test: nothing here fails for being slow.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program for people")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures real time and prints it")]

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use walkabout::{
    config::Config,
    env::Env,
    prelude::*,
    store::{Limits, embedded},
    testing::Bench,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// When each visit began: one ends with a checkpoint, then the next begins.
static BEGUN: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

#[derive(Node, Serialize, Deserialize)]
struct Stone {}

#[derive(Walker, Serialize, Deserialize)]
#[walker(async, checkpoint = "visits(1)")]
struct Stroll {
    waiting: u64,
    visits: u64,
}

#[abilities]
impl Stroll {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let stone = cx.attach(&here, Stone {})?;
        for _ in 0..self.waiting {
            cx.visit_one(&stone)?;
        }
        now();
        DONE
    }
    #[entry]
    async fn stone(&mut self, here: Here<Stone>, cx: &mut Context) -> Outcome {
        now();
        if self.visits == 0 {
            return cx.disengage();
        }
        self.visits -= 1;
        cx.report(self.visits)?;
        cx.visit_one(&here)?;
        cx.visit_one(&here)
    }
}

fn now() {
    BEGUN.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
}

/// The time to the first checkpoint, and of those after it the median and the longest but one in a hundred.
async fn measure(waiting: u64, visits: u64, inline_bytes_max: usize) -> [Duration; 3] {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded::open(folder.path(), Limits::default()).unwrap();
    let data = folder.path().to_owned();
    let config = Config { inline_bytes_max, data, ..Config::default() };
    let register = |types: &mut walkabout::registry::Registry| {
        types.node::<Stone>().walker::<Stroll>();
    };
    let bench = Bench::inline_on(store, register, config, Env::system()).await.unwrap();
    let ran = bench.run(&bench.user(), Stroll { waiting, visits }).await;
    assert_eq!(ran.error, None);
    bench.runtime.stop().await.unwrap();
    let begun = std::mem::take(&mut *BEGUN.lock().unwrap_or_else(PoisonError::into_inner));
    let mut spans: Vec<Duration> = begun.windows(2).map(|two| two[1] - two[0]).collect();
    let first = spans.remove(0);
    spans.sort_unstable();
    [first, spans[spans.len() / 2], spans[spans.len() * 99 / 100]]
}

#[tokio::main]
async fn main() {
    println!("embedded store, a checkpoint at each visit, in ms       first      p50      p99");
    let cases = [(1, 500, 500), (100, 500, 500), (10_000, 500, 100), (1_000_000, 500, 4)];
    for (waiting, visits, whole_visits) in cases {
        for (name, visits, inline) in [("", visits, None), (", all inline", whole_visits, Some(usize::MAX))] {
            let inline = inline.unwrap_or(Config::default().inline_bytes_max);
            let spans = measure(waiting, visits, inline).await.map(|span| span.as_secs_f64() * 1e3);
            let what = format!("{waiting} wait{name} ({visits} checkpoints)");
            println!("{what:<52} {:>8.2} {:>8.3} {:>8.3}", spans[0], spans[1], spans[2]);
        }
    }
}
