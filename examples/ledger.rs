//! The application of the crash test: each walker adds one entry and adds one to a counter, once, whatever is killed in between.

use std::process::ExitCode;

use walkabout::prelude::*;

/// One walker was here.
#[derive(Node, Serialize, Deserialize)]
struct Entry {
    n: u64,
}

/// How many were here.
#[derive(Node, Serialize, Deserialize, Default)]
struct Counter {
    #[serde(default)]
    value: u64,
}

/// Adds one entry, and one to the counter.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Record {
    n: u64,
}

#[abilities]
impl Record {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let counter = cx.first_or_create(here.out().node::<Counter>(), Counter::default).await?;
        counter.edit().value += 1;
        cx.attach(&here, Entry { n: self.n })?;
        cx.progress(json!({ "n": self.n }));
        DONE
    }
}

/// Reports the counter and the numbers of all entries.
#[derive(Walker, Serialize, Deserialize)]
struct Audit {}

#[abilities]
impl Audit {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let counter = cx.first(here.out().node::<Counter>()).await?;
        let entries = cx.list(here.out().node::<Entry>()).await?;
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.read().n).collect();
        cx.report(json!({ "counter": counter.map(|counter| counter.read().value), "entries": numbers }))?;
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
    walkabout::Walkabout::new().walker::<Record>().walker::<Audit>().walker::<TakeDown>().serve().await
}
