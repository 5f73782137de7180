//! What the simulated users run. Every effect carries the tag of the submission that it comes from.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use walkabout::{prelude::*, registry::Registry, schema::Timestamp};

pub fn register(types: &mut Registry) {
    types.walker::<Increment>().walker::<Count>().walker::<Steps>().walker::<Build>().walker::<Destroy>();
    types.walker::<Nest>().walker::<See>().walker::<Plainly>().walker::<Audit>();
    types.walker::<Again>().walker::<Later>().walker::<Quit>().walker::<Doze>().walker::<Ask>();
    types.walker::<Browse>().walker::<Brief>().walker::<Hang>();
}

#[derive(Node, Serialize, Deserialize, Default)]
pub struct Ledger {
    #[serde(default)]
    value: i64,
    #[serde(default)]
    tags: Vec<u64>,
}

#[derive(Node, Serialize, Deserialize)]
pub struct Mark {
    tag: u64,
}

#[derive(Node, Serialize, Deserialize)]
pub struct Item {
    tag: u64,
    #[serde(default)]
    seen: Vec<u64>,
}

#[derive(Node, Serialize, Deserialize)]
pub struct Tomb {
    of: String,
    tag: u64,
}

thread_local! {
    static UNDER_WAY: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    static WRONG: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The latest that the wall clock ever was.
    static LATEST: Cell<Timestamp> = Cell::new(Timestamp::from_millis(0));
    /// How often a run snoozed.
    static SNOOZED: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// What an ability of this thread found wrong.
pub fn wrong() -> Option<String> {
    WRONG.with_borrow_mut(Option::take)
}

/// A seed begins.
pub fn reset() {
    UNDER_WAY.with_borrow_mut(BTreeSet::clear);
    SNOOZED.with_borrow_mut(BTreeMap::clear);
    WRONG.set(None);
    LATEST.set(Timestamp::from_millis(0));
}

/// A process begins: what ran in the last one is gone.
pub fn begin() {
    UNDER_WAY.with_borrow_mut(BTreeSet::clear);
}

/// The wall clock shows this.
pub fn clock(now: Timestamp) {
    LATEST.set(LATEST.get().max(now));
}

/// The latest that the wall clock ever was.
pub fn latest() -> Timestamp {
    LATEST.get()
}

/// Held while an ability of a run is under way: two of one run at once are a violation.
struct Alone(Option<String>);

impl Alone {
    fn enter(cx: &Context) -> Self {
        let run = cx.walker_id().map(|id| id.to_string());
        if let Some(run) = &run
            && !UNDER_WAY.with_borrow_mut(|under_way| under_way.insert(run.clone()))
        {
            WRONG.set(Some(format!("{run} runs twice at once")));
        }
        Self(run)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(run) = &self.0 {
            UNDER_WAY.with_borrow_mut(|under_way| under_way.remove(run));
        }
    }
}

async fn enter(here: &Here<Root>, cx: &mut Context, tag: u64) -> Result<i64, Failure> {
    let ledger = cx.first_or_create(here.out().node::<Ledger>(), Ledger::default).await?;
    tokio::time::sleep(Duration::from_millis(tag % 4)).await;
    let mut ledger = ledger.edit();
    ledger.value += 1;
    ledger.tags.push(tag);
    Ok(ledger.value)
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Increment {
    tag: u64,
    #[serde(default)]
    fate: u64,
}

#[abilities]
impl Increment {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let _alone = Alone::enter(cx);
        enter(&here, cx, self.tag * 100).await?;
        cx.progress(json!({ "tag": self.tag }));
        cx.report(self.tag)?;
        match self.fate {
            1 => Err(fail("simulated")),
            2 => panic!("simulated"),
            _ => DONE,
        }
    }
}

/// Adds without reading.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Count {
    tag: u64,
}

#[abilities]
impl Count {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let ledgers = here.out().node::<Ledger>();
        match cx.first(ledgers.clone()).await? {
            Some(ledger) => cx.add(&ledger, "value", 1)?,
            // Unless another makes one meanwhile: then this attempt repeats.
            None => drop(cx.first_or_create(ledgers, || Ledger { value: 1, tags: Vec::new() }).await?),
        }
        cx.attach(&here, Mark { tag: self.tag })?;
        DONE
    }
}

/// One entry a step, each with a checkpoint; fails or panics at one of them.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Steps {
    tag: u64,
    n: u64,
    #[serde(default)]
    fate: u64,
    #[serde(default)]
    at: u64,
}

#[abilities]
impl Steps {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.checkpoint();
        cx.then("step")
    }
    #[step]
    async fn step(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let alone = Alone::enter(cx);
        enter(&here, cx, self.tag * 100 + self.at).await?;
        cx.progress(json!({ "at": self.at }));
        cx.report(self.at)?;
        self.at += 1;
        if self.at == self.n {
            match self.fate {
                1 => return Err(fail("simulated")),
                2 => panic!("simulated"),
                _ => return DONE,
            }
        }
        drop(alone);
        cx.checkpoint();
        cx.then("step")
    }
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Build {
    tag: u64,
    n: u64,
}

#[abilities]
impl Build {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let mut last: Option<Here<Item>> = None;
        for _ in 0..self.n {
            let item = cx.attach(&here, Item { tag: self.tag, seen: Vec::new() })?;
            if let Some(last) = &last {
                cx.connect(last, &item)?;
            }
            tokio::task::yield_now().await;
            last = Some(item);
        }
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Destroy {
    tag: u64,
}

#[abilities]
impl Destroy {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let items = cx.list(here.out().node::<Item>()).await?;
        if items.is_empty() {
            return DONE;
        }
        let item = &items[self.tag as usize % items.len()];
        let tomb = Tomb { of: item.id().to_string(), tag: item.read().tag };
        tokio::task::yield_now().await;
        cx.attach(&here, tomb)?;
        cx.destroy(item)?;
        DONE
    }
}

/// Two walkers inside one.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Nest {
    tag: u64,
    #[serde(default)]
    fate: u64,
}

#[abilities]
impl Nest {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        // In this order: what is new in a commit has no field that could be added to.
        cx.spawn(Count { tag: self.tag }, &here).await?;
        cx.spawn(Increment { tag: self.tag, fate: 0 }, &here).await?;
        if self.fate > 0 { Err(fail("simulated")) } else { DONE }
    }
}

/// Visits all items, with a checkpoint at each.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct See {
    tag: u64,
}

#[abilities]
impl See {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out().node::<Item>()).await
    }
    #[entry]
    async fn item(&mut self, here: Here<Item>, cx: &mut Context) -> Outcome {
        here.edit().seen.push(self.tag);
        cx.checkpoint();
        DONE
    }
}

/// As `Increment`, held by its request.
#[derive(Walker, Serialize, Deserialize)]
struct Plainly {
    tag: u64,
    #[serde(default)]
    fate: u64,
}

#[abilities]
impl Plainly {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let count = enter(&here, cx, self.tag * 100).await?;
        // Another one each time that it runs, so that an answer tells which run it is from.
        cx.report(count)?;
        match self.fate {
            1 => Err(fail("simulated")),
            2 => panic!("simulated"),
            _ => DONE,
        }
    }
}

/// Attempts that `Again` has.
pub const ATTEMPTS: u64 = 4;

/// Fails in its first `n` attempts: so often that it fails for good, when there are not more than these.
#[derive(Walker, Serialize, Deserialize)]
#[walker(
    async,
    retry(attempts = 4, delay = "500ms", backoff = "exponential", delay_max = "3s", never_on = "never")
)]
struct Again {
    tag: u64,
    n: u64,
    /// 1: an error that is never tried again. 2: it panics.
    #[serde(default)]
    fate: u64,
}

#[abilities]
impl Again {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let _alone = Alone::enter(cx);
        enter(&here, cx, self.tag * 100).await?;
        let id = cx.walker_id().ok_or_else(|| fail("no run"))?;
        let record = cx.record(&id).await?.ok_or_else(|| fail("no record"))?;
        if u64::from(record.run.retries) >= self.n {
            return DONE;
        }
        match self.fate {
            1 => Err(fail("simulated").kind("never")),
            2 => panic!("simulated"),
            _ => Err(fail("simulated")),
        }
    }
}

/// Snoozes as often as it is told to.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Later {
    tag: u64,
    n: u64,
}

#[abilities]
impl Later {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let _alone = Alone::enter(cx);
        enter(&here, cx, self.tag * 100).await?;
        let id = cx.walker_id().ok_or_else(|| fail("no run"))?.to_string();
        let before = SNOOZED.with_borrow_mut(|snoozed| {
            let before = snoozed.entry(id).or_default();
            *before += 1;
            *before - 1
        });
        if before < self.n { cx.snooze(Duration::from_millis(300 * self.n)) } else { DONE }
    }
}

/// Ends itself after a checkpoint.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Quit {
    tag: u64,
}

#[abilities]
impl Quit {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.tag * 100).await?;
        cx.checkpoint();
        cx.then("end")
    }
    #[step]
    async fn end(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        enter(&here, cx, self.tag * 100 + 1).await?;
        cx.cancel("simulated")
    }
}

/// One entry after each sleep.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Doze {
    tag: u64,
    n: u64,
    #[serde(default)]
    at: u64,
    #[serde(default)]
    until: i64,
}

impl Doze {
    fn sleep(&mut self, cx: &mut Context) -> Outcome {
        let until = cx.now().plus(Duration::from_millis(400 * self.n));
        self.until = until.millis();
        cx.sleep_until(until).then("awake")
    }
}

#[abilities]
impl Doze {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        self.sleep(cx)
    }
    #[step]
    async fn awake(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let alone = Alone::enter(cx);
        if latest().millis() < self.until {
            WRONG.set(Some(format!("{:?} is awake before {}", cx.walker_id(), self.until)));
        }
        enter(&here, cx, self.tag * 100 + self.at).await?;
        self.at += 1;
        drop(alone);
        if self.at == self.n { DONE } else { self.sleep(cx) }
    }
}

/// Enters, waits for an answer, enters again and reports it.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Ask {
    tag: u64,
    n: u64,
    /// 1: it waits only so long.
    #[serde(default)]
    fate: u64,
}

#[abilities]
impl Ask {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let _alone = Alone::enter(cx);
        enter(&here, cx, self.tag * 100).await?;
        let until = cx.now().plus(Duration::from_secs(self.n));
        let wait = cx.wait_for("yes");
        if self.fate == 1 { wait.until(until).then("answered") } else { wait.then("answered") }
    }
    #[step]
    async fn answered(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let _alone = Alone::enter(cx);
        enter(&here, cx, self.tag * 100 + 1).await?;
        cx.report(cx.answer())?;
        DONE
    }
}

/// As `See`, with a checkpoint at every second visit.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, checkpoint = "visits(2)")]
struct Browse {
    tag: u64,
}

#[abilities]
impl Browse {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out().node::<Item>()).await
    }
    #[entry]
    async fn item(&mut self, here: Here<Item>, cx: &mut Context) -> Outcome {
        let _alone = Alone::enter(cx);
        here.edit().seen.push(self.tag);
        tokio::time::sleep(Duration::from_millis(self.tag % 30)).await;
        DONE
    }
}

/// One entry a step, each with a checkpoint, and not for ever.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, timeout = "20m", checkpoint = "visits(1)")]
struct Brief {
    tag: u64,
    n: u64,
    /// 1: it sleeps between steps. 2: it waits after the first for an answer that nobody gives. 3: the last step never ends.
    #[serde(default)]
    fate: u64,
    #[serde(default)]
    at: u64,
}

#[abilities]
impl Brief {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.then("step")
    }
    #[step]
    async fn step(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let _alone = Alone::enter(cx);
        enter(&here, cx, self.tag * 100 + self.at).await?;
        self.at += 1;
        match (self.at == self.n, self.fate) {
            (true, 3) => std::future::pending().await,
            (true, _) => DONE,
            (false, 1) => cx.sleep(Duration::from_secs(60 * self.n)).then("step"),
            (false, 2) => cx.wait_for("nobody").then("step"),
            (false, _) => cx.then("step"),
        }
    }
}

/// Attempts that `Hang` has.
pub const PATIENCE: u64 = 3;

/// Its first `n` attempts never end: so many that it has no other, when there are not more than these.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, visit_timeout = "30s", retry(attempts = 3, delay = "500ms", after_timeout))]
struct Hang {
    tag: u64,
    n: u64,
}

#[abilities]
impl Hang {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let _alone = Alone::enter(cx);
        enter(&here, cx, self.tag * 100).await?;
        let id = cx.walker_id().ok_or_else(|| fail("no run"))?;
        let record = cx.record(&id).await?.ok_or_else(|| fail("no record"))?;
        if u64::from(record.run.retries) < self.n {
            std::future::pending::<()>().await;
        }
        DONE
    }
}

/// Reports all that is there, of one moment.
#[derive(Walker, Serialize, Deserialize)]
struct Audit {}

#[abilities]
impl Audit {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        for ledger in cx.list(here.out().node::<Ledger>()).await? {
            let ledger = ledger.read();
            cx.report(json!({ "value": ledger.value, "tags": ledger.tags }))?;
        }
        for mark in cx.list(here.out().node::<Mark>()).await? {
            cx.report(json!({ "mark": mark.read().tag }))?;
        }
        for item in cx.list(here.out().node::<Item>()).await? {
            let id = item.id().to_string();
            let item = item.read();
            cx.report(json!({ "item": id, "tag": item.tag, "seen": item.seen }))?;
        }
        for tomb in cx.list(here.out().node::<Tomb>()).await? {
            let tomb = tomb.read();
            cx.report(json!({ "tomb": tomb.of, "tag": tomb.tag }))?;
        }
        DONE
    }
}
