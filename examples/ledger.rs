//! The application of the crash tests: walkers that leave entries and count them in one counter, once each, whatever is killed in
//! between.

use std::{io::Write, process::ExitCode, time::Duration};

use walkabout::prelude::*;

/// One walker was here.
#[derive(Node, Serialize, Deserialize)]
struct Entry {
    /// Which.
    n: u64,
    /// Which of its entries, from 0.
    part: u64,
}

/// Something large that hangs from an entry.
#[derive(Node, Serialize, Deserialize)]
struct Load {
    text: String,
}

/// How many entries there are.
#[derive(Node, Serialize, Deserialize, Default)]
struct Counter {
    #[serde(default)]
    value: u64,
}

/// Adds one entry, and one to the counter.
async fn enter(here: &Here<Root>, cx: &mut Context, n: u64, part: u64) -> Result<Here<Entry>, Failure> {
    let counter = cx.first_or_create(here.out().node::<Counter>(), Counter::default).await?;
    counter.edit().value += 1;
    cx.progress(json!({ "n": n, "part": part }));
    cx.attach(here, Entry { n, part })
}

/// Leaves one entry.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Record {
    n: u64,
}

#[abilities]
impl Record {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.n, 0).await?;
        DONE
    }
}

/// Leaves one entry with a load of 256 KiB, so that the files of the store grow.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct RecordLarge {
    n: u64,
}

#[abilities]
impl RecordLarge {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        // Hardly to be compressed, and the same each time.
        let words =
            (0..32 << 10_u64).map(|i| format!("{:08x}", (i ^ self.n).wrapping_mul(0x9e37_79b9) as u32));
        let entry = enter(&here, cx, self.n, 0).await?;
        cx.attach(&entry, Load { text: words.collect() })?;
        DONE
    }
}

/// Leaves four entries, with a checkpoint after each.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct RecordInSteps {
    n: u64,
    #[serde(default)]
    #[walker(excluded)]
    part: u64,
}

#[abilities]
impl RecordInSteps {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.then("next")
    }

    #[step]
    async fn next(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.n, self.part).await?;
        self.part += 1;
        if self.part == 4 {
            return DONE;
        }
        cx.checkpoint();
        cx.then("next")
    }
}

/// Leaves an entry, and a walker inside of it leaves two more.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct RecordNested {
    n: u64,
}

#[abilities]
impl RecordNested {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.n, 0).await?;
        for part in [1, 2] {
            cx.spawn(Inner { n: self.n, part }, &here).await?;
        }
        DONE
    }
}

/// Leaves one entry, in its third attempt; what the first two left is not kept.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, retry(attempts = 3, delay = "20ms"))]
struct RecordRetried {
    n: u64,
}

#[abilities]
impl RecordRetried {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.n, 0).await?;
        let Some(id) = cx.walker_id() else { return DONE };
        let failed = cx.record(&id).await?.map_or(0, |record| record.run.retries);
        if failed < 2 { Err(fail(format!("attempt after {failed} others"))) } else { DONE }
    }
}

/// Leaves an entry, sleeps, and leaves another.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct RecordAsleep {
    n: u64,
}

#[abilities]
impl RecordAsleep {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.n, 0).await?;
        cx.sleep(Duration::from_millis(30)).then("awake")
    }

    #[step]
    async fn awake(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.n, 1).await?;
        DONE
    }
}

/// Leaves an entry at each of its four visits, with a checkpoint after every other one.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, checkpoint = "visits(2)")]
struct RecordInVisits {
    n: u64,
    #[serde(default)]
    #[walker(excluded)]
    part: u64,
}

#[abilities]
impl RecordInVisits {
    #[entry]
    async fn visit(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.n, self.part).await?;
        self.part += 1;
        if self.part < 4 { cx.visit_one(&here) } else { DONE }
    }
}

/// Leaves nothing.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Pass {
    n: u64,
}

#[abilities]
impl Pass {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

/// The walker inside of another.
#[derive(Walker, Serialize, Deserialize)]
struct Inner {
    n: u64,
    part: u64,
}

#[abilities]
impl Inner {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.n, self.part).await?;
        DONE
    }
}

/// Reports the counter and all entries, each as its two numbers.
#[derive(Walker, Serialize, Deserialize)]
struct Audit {}

#[abilities]
impl Audit {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let counter = cx.first(here.out().node::<Counter>()).await?;
        let entries = cx.list(here.out().node::<Entry>()).await?;
        let numbers: Vec<(u64, u64)> =
            entries.iter().map(|entry| (entry.read().n, entry.read().part)).collect();
        cx.report(json!({ "counter": counter.map(|counter| counter.read().value), "entries": numbers }))?;
        DONE
    }
}

/// A stop of a tour.
#[derive(Node, Serialize, Deserialize, Default)]
struct Stop {
    #[serde(default)]
    visits: u64,
}

/// Makes stops.
#[derive(Walker, Serialize, Deserialize)]
struct Lay {
    count: usize,
}

#[abilities]
impl Lay {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        for _ in 0..self.count {
            cx.attach(&here, Stop::default())?;
        }
        DONE
    }
}

/// Adds one to every stop, and tells a file outside of the store of each visit. Commits after every hundred.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, checkpoint = "visits(100)")]
struct Tour {
    witness: std::path::PathBuf,
}

#[abilities]
impl Tour {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out().node::<Stop>()).await
    }
    #[entry]
    async fn stop(&mut self, here: Here<Stop>, _cx: &mut Context) -> Outcome {
        here.edit().visits += 1;
        let mut witness = std::fs::OpenOptions::new().append(true).create(true).open(&self.witness)?;
        witness.write_all(b".")?;
        DONE
    }
}

/// Reports how many stops were visited how often.
#[derive(Walker, Serialize, Deserialize)]
struct Toured {}

#[abilities]
impl Toured {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let stops = cx.list(here.out().node::<Stop>()).await?;
        let visits: Vec<u64> = stops.iter().map(|stop| stop.read().visits).collect();
        cx.report(visits)?;
        DONE
    }
}

/// Ends the process, each time.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct TakeDown {}

#[abilities]
impl TakeDown {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        std::process::abort()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new()
        .walker::<Record>()
        .walker::<RecordLarge>()
        .walker::<RecordInSteps>()
        .walker::<RecordNested>()
        .walker::<RecordRetried>()
        .walker::<RecordAsleep>()
        .walker::<RecordInVisits>()
        .walker::<Pass>()
        .walker::<Lay>()
        .walker::<Tour>()
        .walker::<Toured>()
        .walker::<Inner>()
        .walker::<Audit>()
        .walker::<TakeDown>()
        .serve()
        .await
}
