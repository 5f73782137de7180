//! What walkers do to a graph.

mod at_once;
mod attempts;
mod bounds;
mod elements;
mod guards;
mod types;

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

async fn submit(bench: &Bench, caller: &Caller, walker: &str) -> walkabout::schema::WalkerId {
    let spawn = Spawn {
        walker: walker.to_owned(),
        node: None,
        caller: caller.clone(),
        fields: serde_json::Map::new(),
        files: Vec::new(),
        client_id: None,
        request_key: None,
    };
    match bench.runtime.spawn(spawn).await.unwrap() {
        Spawned::Accepted { id, .. } => id,
        Spawned::Done { .. } => panic!("not async"),
    }
}

async fn small_bench(register: impl FnOnce(&mut walkabout::registry::Registry)) -> Bench {
    let config = walkabout::config::Config {
        commit_changes_max: 8,
        commit_bytes_max: 4096,
        disk_free_min: 0,
        ..Default::default()
    };
    let env = walkabout::env::Env::manual(walkabout::schema::Timestamp::from_millis(1_767_225_600_000), 1);
    Bench::build(register, config, env).await.unwrap()
}
