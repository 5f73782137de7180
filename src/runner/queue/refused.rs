//! That a look into the store which fails, or is given up, is not the last one.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use serde_json::Value;
use walkabout_schema::{User, Walker};

use super::*;
use crate::store::{
    Act, Acted, Claimed, Commit, Element, Error, EventSink, Events, Limits, Registered, RunFilter, Runs,
    Snapshot, Submission, Submitted, Token, memory,
};

/// The memory store, whose list of open runs is refused or never comes, as often as it is told.
struct Shy {
    inner: Arc<dyn Store>,
    refuses: AtomicUsize,
    hangs: AtomicUsize,
    asked: AtomicUsize,
}

fn takes_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Store for Shy {
    fn open_runs(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<OpenRuns>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if takes_one(&self.refuses) {
            return Box::pin(async { Err(Error::Unavailable("the disk said no".to_owned())) });
        }
        if takes_one(&self.hangs) {
            return Box::pin(std::future::pending());
        }
        self.inner.open_runs(after, limit)
    }

    fn publish_to(&self, sink: EventSink) {
        self.inner.publish_to(sink);
    }
    fn snapshot(&self) -> BoxFuture<'_, Result<Arc<dyn Snapshot>>> {
        self.inner.snapshot()
    }
    fn keep(&self, name: &str, fresh: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>>> {
        self.inner.keep(name, fresh)
    }
    fn register(&self, user: User, root: Option<Arc<Element>>) -> BoxFuture<'_, Result<Registered>> {
        self.inner.register(user, root)
    }
    fn change_user(&self, user: User) -> BoxFuture<'_, Result<bool>> {
        self.inner.change_user(user)
    }
    fn remove_user(
        &self,
        user: User,
        stays: Option<User>,
        then: Option<Submission>,
    ) -> BoxFuture<'_, Result<bool>> {
        self.inner.remove_user(user, stays, then)
    }
    fn user(&self, email: &str) -> BoxFuture<'_, Result<Option<User>>> {
        self.inner.user(email)
    }
    fn users_of(&self, root: Uuid) -> BoxFuture<'_, Result<Vec<User>>> {
        self.inner.users_of(root)
    }
    fn user_of_identity(&self, provider: &str, id: &str) -> BoxFuture<'_, Result<Option<User>>> {
        self.inner.user_of_identity(provider, id)
    }
    fn spend(&self, key: [u8; 32], now: Timestamp, until: Timestamp) -> BoxFuture<'_, Result<bool>> {
        self.inner.spend(key, now, until)
    }
    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<Submitted>> {
        self.inner.submit(submission)
    }
    fn sleepers(&self, after: Option<(Timestamp, Uuid)>, limit: usize) -> BoxFuture<'_, Result<Vec<Due>>> {
        self.inner.sleepers(after, limit)
    }
    fn claim(&self, id: Uuid, now: Timestamp) -> BoxFuture<'_, Result<Claimed>> {
        self.inner.claim(id, now)
    }
    fn act(&self, id: Uuid, now: Timestamp, act: Act) -> BoxFuture<'_, Result<Option<Acted>>> {
        self.inner.act(id, now, act)
    }
    fn progress(&self, id: Uuid, token: Token, now: Timestamp, data: Value) -> BoxFuture<'_, Result<u64>> {
        self.inner.progress(id, token, now, data)
    }
    fn commit(&self, now: Timestamp, commit: Commit) -> BoxFuture<'_, Result<()>> {
        self.inner.commit(now, commit)
    }
    fn run(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Walker>>> {
        self.inner.run(id)
    }
    fn runs(
        &self,
        root: Uuid,
        filter: RunFilter,
        before: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Runs>> {
        self.inner.runs(root, filter, before, limit)
    }
    fn events(&self, id: Uuid, after: u64, limit: usize) -> BoxFuture<'_, Result<Events>> {
        self.inner.events(id, after, limit)
    }
    fn health(&self) -> Result<()> {
        self.inner.health()
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.close()
    }
}

fn run(id: u128) -> Walker {
    let now = Timestamp::from_millis(1000);
    Walker {
        id: walkabout_schema::Key(Uuid::from_u128(id)),
        name: walkabout_schema::Name::new("job").unwrap(),
        root: Some(walkabout_schema::Key(Uuid::nil())),
        access: walkabout_schema::Access::private(),
        archetype: crate::store::no_fields(),
        input: None,
        version: 1,
        schedule: crate::submit::new_schedule(
            now,
            walkabout_schema::NodeId::root(Uuid::nil()),
            walkabout_schema::NodeId::root(Uuid::nil()),
        ),
        run: crate::store::new_run(now, false),
    }
}

/// A queue on a store that has one run open, and has not looked yet.
async fn queue(refuses: usize, hangs: usize) -> (DueQueue, Arc<Shy>) {
    let inner: Arc<dyn Store> = memory::open(Limits::default()).unwrap();
    inner.submit(Submission { walker: run(1), key: None }).await.unwrap();
    let (refuses, hangs) = (AtomicUsize::new(refuses), AtomicUsize::new(hangs));
    let store = Arc::new(Shy { inner, refuses, hangs, asked: AtomicUsize::new(0) });
    let shared: Arc<dyn Store> = Arc::<Shy>::clone(&store);
    (DueQueue::new(shared, 10, 3), store)
}

async fn comes(queue: &DueQueue) -> Option<Uuid> {
    let popped = tokio::time::timeout(Duration::from_secs(10), queue.pop()).await;
    popped.ok().map(|popped| popped.due.id)
}

#[tokio::test]
async fn a_look_that_failed_is_followed_by_another_though_nothing_comes() {
    let (queue, store) = queue(2, 0).await;
    assert_eq!(comes(&queue).await, Some(Uuid::from_u128(1)));
    assert_eq!(store.asked.load(Ordering::SeqCst), 3, "no more often than it waits");
}

#[tokio::test]
async fn a_look_that_was_given_up_is_followed_by_another() {
    let (queue, store) = queue(0, 1).await;
    assert!(futures_util::FutureExt::now_or_never(queue.pop()).is_none());
    assert_eq!(store.asked.load(Ordering::SeqCst), 1);
    assert_eq!(comes(&queue).await, Some(Uuid::from_u128(1)));
}
