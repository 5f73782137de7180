//! Steps, nested walkers, and attempts that fail.

use walkabout::{prelude::*, testing::Bench};

use super::{Counter, Increment, Item, small_bench};

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Paged {
    #[serde(default)]
    page: u64,
}

#[abilities]
impl Paged {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.checkpoint();
        cx.then("next")
    }
    #[step]
    async fn next(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Item { n: self.page })?;
        self.page += 1;
        cx.report(self.page)?;
        cx.progress(json!({ "page": self.page }));
        cx.checkpoint();
        if self.page < 5 { cx.then("next") } else { DONE }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_commit_one_by_one() {
    let bench = Bench::new(|types| {
        types.walker::<Paged>();
    })
    .await;
    let user = bench.register().await;
    let ran = bench.run(&user, Paged::default()).await;
    assert_eq!(ran.error, None);
    assert_eq!(ran.walker.unwrap().page, 5);
    assert_eq!(ran.reports, [1, 2, 3, 4, 5].map(|n| json!(n)));
    assert_eq!(bench.count::<Item>(&user).await, 5);
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Panics {}

#[abilities]
impl Panics {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Item { n: 1 })?;
        cx.report(1)?;
        let numbers: Vec<u64> = Vec::new();
        cx.report(numbers[cx.path().len()])?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_attempt_and_nothing_else() {
    let bench = Bench::new(|types| {
        types.walker::<Panics>().walker::<Increment>();
    })
    .await;
    let user = bench.register().await;
    let ran = bench.run(&user, Panics {}).await;
    assert_eq!(ran.error.as_deref(), Some("walker panics panicked"));
    assert!(ran.reports.is_empty());
    assert_eq!(bench.count::<Item>(&user).await, 0, "the graph is as it was");
    assert_eq!(bench.run(&user, Increment::default()).await.error, None);
}

#[derive(Walker, Serialize, Deserialize, Default)]
struct Outer {}

#[abilities]
impl Outer {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let counter = cx.attach(&here, Counter::default())?;
        counter.edit().value = 41;
        let inner = cx.spawn(Bump {}, &counter).await?;
        cx.report(json!({ "inner": inner.reports, "seen": counter.read().value }))?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(private)]
struct Bump {}

#[abilities]
impl Bump {
    #[entry]
    async fn counter(&mut self, here: Here<Counter>, cx: &mut Context) -> Outcome {
        here.edit().value += 1;
        cx.report(&here)?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_walker_and_its_caller_see_one_value() {
    let bench = Bench::new(|types| {
        types.walker::<Outer>().walker::<Bump>();
    })
    .await;
    let ran = bench.run(&bench.register().await, Outer {}).await;
    assert_eq!(ran.error, None);
    assert_eq!(ran.reports[1]["seen"], 42);
    assert_eq!(ran.reports[1]["inner"][0]["context"], json!({ "value": 42 }));
}

/// Notes the key of every ability, step and nested walker. Its second step is disturbed once.
#[derive(Walker, Serialize, Deserialize, Default)]
struct Keys {
    #[serde(default)]
    page: u64,
}

static KEYS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// Two permits: it has read; it may go on.
static HAS_READ: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

static GO_ON: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

impl Keys {
    async fn note(&self, here: &Here<Root>, cx: &mut Context, nested: usize) -> Result<(), Failure> {
        KEYS.lock().unwrap().push(cx.idempotency_key());
        for _ in 0..nested {
            cx.spawn(Key {}, here).await?;
        }
        Ok(())
    }
}

#[abilities]
impl Keys {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        self.note(&here, cx, 3).await?;
        cx.checkpoint();
        cx.then("page")
    }
    #[step]
    async fn page(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        self.page += 1;
        self.note(&here, cx, 1).await?;
        let counter = cx.first(here.out().node::<Counter>()).await?.ok_or_else(|| fail("gone"))?;
        counter.edit().value += 1;
        if self.page == 2 {
            HAS_READ.add_permits(1);
            GO_ON.acquire().await?.forget();
        }
        cx.checkpoint();
        if self.page < 3 { cx.then("page") } else { DONE }
    }
    #[exit]
    async fn leave(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        self.note(&here, cx, 0).await?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(private)]
struct Key {}

#[abilities]
impl Key {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        KEYS.lock().unwrap().push(cx.idempotency_key());
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_of_one_place_in_one_errand() {
    let bench = Bench::new(|types| {
        types.walker::<Keys>().walker::<Key>();
    })
    .await;
    let user = bench.register().await;
    bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                cx.attach(&root, Counter::default()).map(drop)
            })
        })
        .await
        .unwrap();
    let disturb = async {
        HAS_READ.acquire().await.unwrap().forget();
        bench
            .graph(&user, |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    let counter =
                        cx.first(root.out().node::<Counter>()).await?.ok_or_else(|| fail("gone"))?;
                    counter.edit().value += 1;
                    Ok(())
                })
            })
            .await
            .unwrap();
        GO_ON.add_permits(2);
    };
    let (ran, ()) = tokio::join!(bench.run(&user, Keys::default()), disturb);
    assert_eq!(ran.error, None);
    let keys = KEYS.lock().unwrap().clone();
    // start and three, then one and one a page; the second page twice; leave.
    assert_eq!(keys.len(), 4 + 2 + 2 + 2 + 2 + 1);
    assert_eq!(keys[6..8], keys[8..10], "the same when it repeats, from a checkpoint inside a visit");
    let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len() - 2, "{keys:#?}");
}

/// Says much, twice, with a checkpoint between.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Talks {
    report: bool,
}

impl Talks {
    fn talk(&self, cx: &mut Context) -> Result<(), Failure> {
        let text = "-".repeat(3000);
        if self.report { cx.report(text) } else { cx.log(text) }
    }
}

#[abilities]
impl Talks {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        self.talk(cx)?;
        cx.checkpoint();
        cx.then("again")
    }
    #[step]
    async fn again(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        self.talk(cx)?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_begins_anew_at_a_checkpoint_and_reports_go_on() {
    let bench = small_bench(|types| {
        types.walker::<Talks>();
    })
    .await;
    let user = bench.register().await;
    assert_eq!(bench.run(&user, Talks { report: false }).await.error, None);
    let refused = bench.run(&user, Talks { report: true }).await;
    assert_eq!(refused.record.unwrap().run.error_code, Some(walkabout::schema::ErrorCode::CommitTooLarge));
    assert!(refused.error.unwrap().contains("commit_bytes_max is 4096"));
}
