//! What walkers do to a graph.

use walkabout::{
    prelude::*,
    runtime::{Caller, Spawn, Spawned},
    testing::Bench,
};

#[derive(Node, Serialize, Deserialize, Default)]
struct Counter {
    #[serde(default)]
    value: i64,
}

#[derive(Node, Serialize, Deserialize)]
struct Item {
    n: u64,
}

/// Adds one to the counter under the root.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Increment {
    #[serde(default)]
    #[walker(excluded)]
    seen: i64,
}

#[abilities]
impl Increment {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let counter = cx.first_or_create(here.out().node::<Counter>(), Counter::default).await?;
        counter.edit().value += 1;
        self.seen = counter.read().value;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
struct Total {}

#[abilities]
impl Total {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn counter(&mut self, here: Here<Counter>, cx: &mut Context) -> Outcome {
        cx.report(here.read().value)?;
        DONE
    }
}

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

async fn submit(bench: &Bench, caller: &Caller, walker: &str) -> walkabout::schema::WalkerId {
    let spawn = Spawn {
        walker: walker.to_owned(),
        node: None,
        caller: caller.clone(),
        fields: serde_json::Map::new(),
        client_id: None,
    };
    match bench.runtime.spawn(spawn).await.unwrap() {
        Spawned::Accepted(id) => id,
        Spawned::Done { .. } => panic!("not async"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_increments_are_a_thousand() {
    let bench = Bench::new(|types| {
        types.walker::<Increment>().walker::<Total>();
    })
    .await;
    let user = bench.register().await;
    let mut ids = Vec::new();
    for _ in 0..1000 {
        ids.push(submit(&bench, &user, "increment").await);
    }
    let mut attempts = 0;
    for id in &ids {
        let record = bench.finished(&user, id).await;
        assert_eq!(record.schedule.error, None);
        attempts += 1 + record.run.conflicts;
    }
    assert_eq!(bench.run(&user, Total {}).await.reports, [json!(1000)]);
    assert_eq!(bench.count::<Counter>(&user).await, 1);
    assert!(attempts <= 2000, "{attempts} attempts");
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
