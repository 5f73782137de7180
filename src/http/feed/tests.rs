use tokio::sync::Semaphore;

use super::*;
use crate::{
    config::Config,
    env::Env,
    prelude::*,
    runtime::{Spawn, Spawned},
    testing::Bench,
};

static GATE: Semaphore = Semaphore::const_new(0);

/// Logs many lines in one commit, when the test lets it.
#[derive(Walker, Serialize, Deserialize)]
#[walker(crate = "crate", async)]
struct Chatter {
    lines: u64,
}

#[abilities(crate = "crate")]
impl Chatter {
    #[entry]
    async fn chat(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        GATE.acquire().await?.forget();
        for line in 0..self.lines {
            cx.log(line.to_string())?;
        }
        DONE
    }
}

#[tokio::test]
async fn a_slow_subscriber_is_sent_back_to_the_store() {
    let config = Config { subscriber_lag_max: 4, ..Config::default() };
    let types = |types: &mut crate::registry::Registry| _ = types.walker::<Chatter>();
    let bench = Bench::build(types, config, Env::manual(walkabout_schema::Timestamp::from_millis(0), 1))
        .await
        .unwrap();
    let caller = bench.register().await;
    // More than two pages.
    let fields = [("lines".to_owned(), json!(PAGE * 2 + 10))].into_iter().collect();
    let spawn = Spawn {
        walker: "chatter".to_owned(),
        node: None,
        caller: caller.clone(),
        fields,
        files: Vec::new(),
        client_id: None,
        request_key: None,
    };
    let Spawned::Accepted { id, .. } = bench.runtime.spawn(spawn).await.unwrap() else {
        panic!("it is async")
    };

    let mut feed = Feed::open(bench.runtime.clone(), caller.clone(), &id, 0).await.unwrap().unwrap();
    let mut told = Vec::new();
    while feed.stage != Stage::Live {
        told.push(feed.next().await.unwrap().unwrap());
    }
    let mut frames = bench.runtime.follow(&caller, &id).await.unwrap().unwrap();
    GATE.add_permits(1);
    // It closes behind the last frame.
    while !matches!(frames.recv().await, Err(RecvError::Closed)) {}
    assert_eq!(feed.stage, Stage::Live, "it has not been asked since");
    assert!(feed.live.len() > 4, "the frames have passed it by");
    while let Some(item) = feed.next().await.unwrap() {
        told.push(item);
    }
    let numbers: Vec<u64> = told
        .iter()
        .map(|item| match item {
            Item::Event { seq, .. } => *seq,
            Item::Gap { .. } => panic!("nothing is missing"),
        })
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let Some(Item::Event { text, .. }) = told.last() else { panic!("something was told") };
    let last: EventFrame = serde_json::from_str(text).unwrap();
    assert!(last.event.is_final(), "{text}");
}
