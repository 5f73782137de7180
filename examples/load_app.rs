//! The application of every measurement, small enough that other servers can run the same walkers.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use walkabout::{
    prelude::*,
    schema::{Status, WalkerId},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is created, visited and counted.
#[derive(Node, Serialize, Deserialize, Default)]
struct Item {
    #[serde(default)]
    val: i64,
}

macro_rules! walker {
    ($(#[$meta:meta])* $name:ident { $($fields:tt)* } |$this:ident, $here:ident, $cx:ident| $body:block) => {
        #[derive(Walker, Serialize, Deserialize)]
        $(#[$meta])*
        struct $name { $($fields)* }

        #[abilities]
        impl $name {
            #[entry]
            #[allow(unused_braces, reason = "the body of some walkers is one expression")]
            async fn start(&mut self, $here: Here<Root>, $cx: &mut Context) -> Outcome {
                let ($this, _) = (self, &$here);
                let _ = &$this;
                $body
            }
        }
    };
}

fn epoch_seconds(cx: &Context) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of an epoch fit a double")]
    let millis = cx.now().millis() as f64;
    millis / 1000.0
}

fn burn(loops: u64) -> u64 {
    (0..loops).fold(0, |sum: u64, n| std::hint::black_box(sum.wrapping_add(n)))
}

fn million() -> u64 {
    1_000_000
}
fn x() -> String {
    "x".to_owned()
}
fn five() -> f64 {
    5.0
}
fn ten() -> u64 {
    10
}

walker!(
    /// Reports 1.
    #[walker(websocket)]
    Noop {} |this, here, cx| { cx.report(1)?; DONE }
);
walker!(
    /// Reports 1 to anybody.
    #[walker(public)]
    NoopPublic {} |this, here, cx| { cx.report(1)?; DONE }
);
walker!(
    /// Reports n.
    Typed { n: i64, #[serde(default = "x")] s: String } |this, here, cx| { cx.report(this.n)?; DONE }
);
walker!(
    /// Hangs ten items under the root.
    Create10 {} |this, here, cx| {
        for _ in 0..10 {
            cx.attach(&here, Item::default())?;
        }
        DONE
    }
);
walker!(
    /// Reports the number of out-neighbours without visiting them.
    Listing {} |this, here, cx| { let count = cx.count(here.out()).await?; cx.report(count)?; DONE }
);
walker!(
    /// Reports the first item.
    FirstItem {} |this, here, cx| { let first = cx.first(here.out().node::<Item>()).await?; cx.report(first)?; DONE }
);
walker!(
    /// Fails.
    Boom {} |this, here, _cx| {
        Err(fail("boom"))
    }
);
walker!(
    /// Sums in a loop.
    Burn { #[serde(default = "million")] loops: u64 } |this, here, cx| { cx.report(burn(this.loops))?; DONE }
);
walker!(
    /// Does nothing, later.
    #[walker(async)]
    ANoop { #[serde(default)] tag: String } |this, here, _cx| {
        DONE
    }
);
walker!(
    /// Sums in a loop, later.
    #[walker(async)]
    ABurn { loops: u64 } |this, here, cx| { cx.report(burn(this.loops))?; DONE }
);
walker!(
    /// Reports its tag after a while.
    #[walker(async)]
    ASleep { #[serde(default = "five")] secs: f64, #[serde(default)] tag: String } |this, here, cx| {
        let span = Duration::try_from_secs_f64(this.secs).map_err(|_| fail("secs must be a span of time"))?;
        tokio::time::sleep(span).await;
        cx.report(&this.tag)?;
        DONE
    }
);
walker!(
    /// Fails, later.
    #[walker(async)]
    ARaise { tag: String } |this, here, _cx| {
        Err(fail(format!("raised {}", this.tag)))
    }
);
walker!(
    /// Hangs one item under the root, later.
    #[walker(async)]
    ACreate {} |this, here, cx| { cx.attach(&here, Item::default())?; DONE }
);
walker!(
    /// Sends numbered progress to a client or a channel, later.
    #[walker(async)]
    AProgress {
        #[serde(default)] client: String,
        #[serde(default)] channel: String,
        #[serde(default = "ten")] steps: u64,
        #[serde(default)] gap: f64,
    } |this, here, cx| {
        progress(cx, &this.client, &this.channel, this.steps, this.gap).await?;
        DONE
    }
);
walker!(
    /// Sends numbered progress to a client or a channel.
    SProgress {
        #[serde(default)] client: String,
        #[serde(default)] channel: String,
        #[serde(default = "ten")] steps: u64,
        #[serde(default)] gap: f64,
    } |this, here, cx| {
        progress(cx, &this.client, &this.channel, this.steps, this.gap).await?;
        DONE
    }
);
walker!(
    /// Reports status, http_status, reports and error of a run, or null.
    ResultOf { id: String } |this, here, cx| {
        let record = match this.id.parse::<WalkerId>() {
            Ok(id) => cx.record(&id).await?,
            Err(_) => None,
        };
        cx.report(record.map(|record| {
            let schedule = record.schedule;
            json!({
                "status": schedule.status,
                "http_status": schedule.http_status,
                "reports": schedule.reports,
                "error": schedule.error,
            })
        }))?;
        DONE
    }
);
walker!(
    /// Reports the caller's own runs, counted by status.
    TallyAsync { #[serde(default)] name: String } |this, here, cx| {
        let name = (!this.name.is_empty()).then(|| this.name.parse()).transpose().map_err(|_| {
            fail("name must be a walker's: letters, digits and '_', not beginning with a digit")
        })?;
        let mut counts = BTreeMap::<&str, u64>::new();
        let mut before: Option<WalkerId> = None;
        loop {
            let page = cx.records(name.clone(), None, before.as_ref(), 500).await?;
            for record in &page.walkers {
                let status = match record.schedule.status {
                    Status::Pending => "pending",
                    Status::Running => "running",
                    Status::Completed => "completed",
                    Status::Failed => "failed",
                };
                *counts.entry(status).or_default() += 1;
            }
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        cx.report(counts)?;
        DONE
    }
);
walker!(
    /// Answers on the WebSocket.
    #[walker(websocket)]
    WsEcho { #[serde(default)] data: Value } |this, here, cx| {
        cx.notify_self(&json!({ "type": "echo", "data": this.data }));
        cx.report(&this.data)?;
        DONE
    }
);

async fn progress(cx: &mut Context, client: &str, channel: &str, steps: u64, gap: f64) -> Outcome {
    let gap = Duration::try_from_secs_f64(gap).map_err(|_| fail("gap must be a span of time"))?;
    for step in 0..steps {
        let frame = json!({ "type": "progress", "step": step, "sent": epoch_seconds(cx) });
        if !client.is_empty() {
            cx.notify_clients(&[client], &frame);
        }
        if !channel.is_empty() {
            cx.notify_channels(&[channel], &frame);
        }
        if !gap.is_zero() {
            tokio::time::sleep(gap).await;
        }
    }
    DONE
}

/// Hangs `count` items under the root, some thousands in a commit.
#[derive(Walker, Serialize, Deserialize)]
struct Seed {
    count: u64,
    #[serde(default)]
    #[walker(excluded)]
    made: u64,
}

#[abilities]
impl Seed {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.then("batch")
    }
    #[step]
    async fn batch(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let batch = (self.count - self.made).min(4000);
        for _ in 0..batch {
            cx.attach(&here, Item::default())?;
        }
        self.made += batch;
        if self.made < self.count {
            cx.checkpoint();
            return cx.then("batch");
        }
        cx.report(self.made)?;
        DONE
    }
}

/// Visits the items under the root and reports how many there are.
#[derive(Walker, Serialize, Deserialize)]
struct Tally {
    #[serde(default)]
    #[walker(excluded)]
    items: u64,
}

#[abilities]
impl Tally {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn item(&mut self, _here: Here<Item>, _cx: &mut Context) -> Outcome {
        self.items += 1;
        DONE
    }
    #[exit]
    async fn end(&mut self, _here: Here<Any>, cx: &mut Context) -> Outcome {
        cx.report(self.items)?;
        DONE
    }
}

/// Adds one to the item that it is called on, and reports it.
#[derive(Walker, Serialize, Deserialize)]
#[walker(entry = "node")]
struct Bump {}

#[abilities]
impl Bump {
    #[entry]
    async fn item(&mut self, here: Here<Item>, cx: &mut Context) -> Outcome {
        here.edit().val += 1;
        cx.report(&here)?;
        DONE
    }
}

/// Removes the caller's graph and reports how many things that were.
#[derive(Walker, Serialize, Deserialize)]
struct Wipe {
    #[serde(default)]
    #[walker(excluded)]
    removed: u64,
}

#[abilities]
impl Wipe {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.then("batch")
    }
    #[step]
    async fn batch(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let nodes = cx.list(here.out()).await?;
        let count = nodes.len().min(4000);
        for node in nodes.iter().take(count) {
            // What a node leads to hangs from the root from now on, until its turn comes.
            for next in cx.list(node.out()).await? {
                cx.connect(&here, &next)?;
            }
            cx.destroy(node)?;
        }
        self.removed += u64::try_from(count)?;
        if nodes.is_empty() {
            cx.report(self.removed)?;
            return DONE;
        }
        cx.checkpoint();
        cx.then("batch")
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new()
        .walker::<Noop>()
        .walker::<NoopPublic>()
        .walker::<Typed>()
        .walker::<Create10>()
        .walker::<Seed>()
        .walker::<Tally>()
        .walker::<Listing>()
        .walker::<FirstItem>()
        .walker::<Bump>()
        .walker::<Wipe>()
        .walker::<Boom>()
        .walker::<Burn>()
        .walker::<ANoop>()
        .walker::<ABurn>()
        .walker::<ASleep>()
        .walker::<ARaise>()
        .walker::<ACreate>()
        .walker::<AProgress>()
        .walker::<SProgress>()
        .walker::<ResultOf>()
        .walker::<TallyAsync>()
        .walker::<WsEcho>()
        .serve()
        .await
}
