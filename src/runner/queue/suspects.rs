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
    assert!(queue.fetch().await && queue.fetch_sleepers().await);
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
