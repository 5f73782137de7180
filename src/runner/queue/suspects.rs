use super::*;
use crate::store::{Limits, memory};

fn due(id: u128, at: i64) -> Due {
    Due { id: Uuid::from_u128(id), root: Uuid::nil(), lost: 0, at: Timestamp::from_millis(at) }
}

fn now() -> Timestamp {
    Timestamp::from_millis(1000)
}

/// A queue on an empty store, which it has looked at.
async fn queue(window: usize) -> DueQueue {
    let mut queue = DueQueue::new(memory::open(Limits::default()).unwrap(), window, 3);
    queue.begun -= PROBATION;
    assert!(queue.fetch().await.unwrap() && queue.fetch_sleepers().await);
    queue
}

/// As when a suspect was held at once, and nobody wants that any more.
#[tokio::test]
async fn a_suspect_that_comes_again_is_taken_up_on_an_idle_server() {
    let queue = queue(10).await;
    let pushed = async {
        tokio::task::yield_now().await;
        queue.push(&Due { lost: 2, ..due(1, 0) }, now());
    };
    let (popped, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), queue.pop()), pushed);
    assert_eq!(popped.map(|popped| popped.due.id).ok(), Some(due(1, 0).id));
}

#[tokio::test]
async fn many_sleepers_whose_time_comes_at_once_wait_in_the_store() {
    const WINDOW: usize = 4;
    let (queue, env) = (queue(WINDOW).await, Env::manual(now(), 1));
    // What it does until it waits.
    let wake = async || {
        for _ in 0..3 {
            tokio::select! {
                biased;
                () = queue.wake(&env) => {}
                () = std::future::ready(()) => {}
            }
        }
    };
    for id in 1..=40 {
        queue.push(&due(id, env.now().plus(Duration::from_secs(1)).millis()), env.now());
        if id % 4 == 0 {
            env.advance(Duration::from_secs(1));
            wake().await;
        }
    }
    let most = queue.len();
    assert!((WINDOW..=2 * WINDOW).contains(&most), "{most}");
    for _ in 0..most {
        queue.pop().await;
    }
    wake().await;
    assert_eq!(queue.len(), WINDOW, "there is room for the next ones");
}
