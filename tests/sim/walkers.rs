//! What the simulated users run. Every effect carries the tag of the submission that it comes from.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use walkabout::{prelude::*, registry::Registry};

pub fn register(types: &mut Registry) {
    types.walker::<Increment>().walker::<Count>().walker::<Steps>().walker::<Build>().walker::<Destroy>();
    types.walker::<Nest>().walker::<See>().walker::<Plainly>().walker::<Audit>();
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
    static TWICE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What ran twice at once in this thread.
pub fn twice() -> Option<String> {
    TWICE.with_borrow_mut(Option::take)
}

/// Held while an ability of a run is under way: two of one run at once are a violation.
struct Alone(Option<String>);

impl Alone {
    fn enter(cx: &Context) -> Self {
        let run = cx.walker_id().map(|id| id.to_string());
        if let Some(run) = &run
            && !UNDER_WAY.with_borrow_mut(|under_way| under_way.insert(run.clone()))
        {
            TWICE.set(Some(format!("{run} runs twice at once")));
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
        cx.spawn(Increment { tag: self.tag, fate: 0 }, &here).await?;
        cx.spawn(Count { tag: self.tag }, &here).await?;
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
