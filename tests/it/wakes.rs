//! That no run stays asleep when it has to be woken.

use std::time::Duration;

use walkabout::{prelude::*, runtime::Act, schema::State, testing::Bench};

use crate::durable::{act, submit, until_state};

const SECOND: Duration = Duration::from_secs(1);

/// Waits once.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Waiter {}

#[abilities]
impl Waiter {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.wait_for("approval").then("later")
    }
    #[step]
    async fn later(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_when_its_caller_has_gone_away() {
    let bench = Bench::new(|types| _ = types.walker::<Waiter>()).await;
    let user = bench.register().await;
    loop {
        let id = submit(&bench, &user, "waiter", json!({})).await;
        until_state(&bench, &user, &id, State::Waiting).await;
        let answer = Act::Answer { name: "approval".to_owned(), value: json!(true) };
        let is_dropped = tokio::select! {
            biased;
            // The store may be quick.
            _ = act(&bench, &user, &id, answer) => false,
            () = std::future::ready(()) => true,
        };
        let ended = tokio::time::timeout(10 * SECOND, bench.finished(&user, &id)).await;
        assert_eq!(ended.map(|record| record.run.state).ok(), Some(State::Succeeded));
        if is_dropped {
            break;
        }
    }
}
