//! Walkers that wait, are retried, and stop at checkpoints: what can be governed from outside, see `src/docs/runs.md`.
//!
//! `cargo run --example desk`, then register, log in, `POST /walker/approve {"n": 1}`, and
//! `POST /walker/<id>/complete {"for": "yes", "value": 42}`.

use std::{process::ExitCode, sync::OnceLock, time::Duration};

use walkabout::{prelude::*, schema::Timestamp};

/// Something that is to be watered.
#[derive(Node, Serialize, Deserialize, Default)]
struct Plant {
    #[serde(default)]
    watered: u64,
}

/// One walker was here.
#[derive(Node, Serialize, Deserialize)]
struct Entry {
    n: u64,
}

/// Waits until somebody says yes, and reports what that was.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Approve {
    n: u64,
}

#[abilities]
impl Approve {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.wait_for("yes").then("answered")
    }
    #[step]
    async fn answered(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(cx.answer())?;
        DONE
    }
}

/// The same for everybody.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, public)]
struct ApprovePublic {}

#[abilities]
impl ApprovePublic {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.wait_for("yes").then("answered")
    }
    #[step]
    async fn answered(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

/// Leaves one entry.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Enter {
    n: u64,
    #[serde(default)]
    m: u64,
}

#[abilities]
impl Enter {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Entry { n: self.n })?;
        DONE
    }
}

/// Reports the numbers of all entries.
#[derive(Walker, Serialize, Deserialize)]
struct Entries {}

#[abilities]
impl Entries {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let entries = cx.list(here.out().node::<Entry>()).await?;
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.read().n).collect();
        cx.report(numbers)?;
        DONE
    }
}

/// Makes plants.
#[derive(Walker, Serialize, Deserialize)]
struct Seed {
    count: usize,
}

#[abilities]
impl Seed {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        for _ in 0..self.count {
            cx.attach(&here, Plant::default())?;
        }
        DONE
    }
}

/// Waters every plant once, taking its time; commits after every hundred visits.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, checkpoint = "visits(100)")]
struct Water {
    #[serde(default)]
    pause_us: u64,
    #[serde(default)]
    #[walker(excluded)]
    visits: u64,
}

#[abilities]
impl Water {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn plant(&mut self, here: Here<Plant>, cx: &mut Context) -> Outcome {
        self.visits += 1;
        here.edit().watered += 1;
        cx.progress(json!(self.visits));
        if self.pause_us > 0 {
            tokio::time::sleep(Duration::from_micros(self.pause_us)).await;
        }
        DONE
    }
}

/// Reports how many plants there are, and how many were watered exactly once.
#[derive(Walker, Serialize, Deserialize)]
struct Watered {}

#[abilities]
impl Watered {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let plants = cx.list(here.out().node::<Plant>()).await?;
        let once = plants.iter().filter(|plant| plant.read().watered == 1).count();
        cx.report(json!({ "plants": plants.len(), "once": once }))?;
        DONE
    }
}

/// Sleeps for this long, holding nothing meanwhile.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Doze {
    seconds: u64,
}

#[abilities]
impl Doze {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.sleep(Duration::from_secs(self.seconds)).then("awake")
    }
    #[step]
    async fn awake(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

/// Takes its time in the process that it was submitted to, and none in a later one.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Linger {
    first_ms: u64,
}

/// When this process began.
static BEGUN: OnceLock<Timestamp> = OnceLock::new();

#[abilities]
impl Linger {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let Some(id) = cx.walker_id() else { return DONE };
        let submitted = cx.record(&id).await?.map(|record| record.run.created_at);
        if submitted.as_ref() > BEGUN.get() {
            tokio::time::sleep(Duration::from_millis(self.first_ms)).await;
        }
        DONE
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    BEGUN.get_or_init(|| walkabout::env::Env::system().now());
    walkabout::Walkabout::new()
        .walker::<Approve>()
        .walker::<ApprovePublic>()
        .walker::<Enter>()
        .walker::<Entries>()
        .walker::<Seed>()
        .walker::<Water>()
        .walker::<Watered>()
        .walker::<Doze>()
        .walker::<Linger>()
        .serve()
        .await
}
