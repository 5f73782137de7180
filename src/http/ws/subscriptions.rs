//! What a connection hears of runs: the events of those that it follows, and the ends of those that it waits for.

use std::{collections::HashMap, sync::Arc};

use axum::extract::ws::Message;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
};
use uuid::Uuid;
use walkabout_schema::WalkerId;

use crate::http::{
    Server,
    done::frame,
    feed::{Feed, Item},
    problem::Problem,
};
use crate::runtime::Spawned;

/// Runs that one connection may follow or wait for at once.
const SUBSCRIPTIONS_MAX: usize = 1000;
/// Runs that have ended and whose reports are read for one connection at once: each may take some MiB.
const READS_MAX: usize = 4;

/// What a subscription hands to its connection.
pub(super) struct Told {
    of: Wish,
    /// Which subscription of this run: frames of one that was replaced are dropped.
    generation: u64,
    what: What,
}

enum What {
    Message(Message),
    Over,
}

/// What is to be heard of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wish {
    Events(Uuid),
    End(Uuid),
}

/// A run whose end is waited for.
pub(super) struct Ending {
    pub(super) server: Arc<Server>,
    pub(super) id: WalkerId,
}

/// The runs that a connection follows.
pub(super) struct Subscriptions {
    of: HashMap<Wish, (u64, AbortHandle, WalkerId)>,
    reads: Arc<Semaphore>,
    tasks: JoinSet<()>,
    generation: u64,
    told: mpsc::Sender<Told>,
}

impl Subscriptions {
    pub(super) fn new(told: mpsc::Sender<Told>) -> Self {
        let reads = Arc::new(Semaphore::new(READS_MAX));
        Self { of: HashMap::new(), reads, tasks: JoinSet::new(), generation: 0, told }
    }

    /// What is said instead when one more run cannot be followed.
    pub(super) fn refused(&self, feed: &Feed) -> Option<Value> {
        let is_known = self.of.contains_key(&Wish::Events(feed.id().uuid()));
        (!is_known && self.is_full()).then(|| {
            let error = format!("A connection follows at most {SUBSCRIPTIONS_MAX} runs.");
            json!({ "type": "subscribe", "walker_id": feed.id(), "error": error })
        })
    }

    fn is_full(&self) -> bool {
        self.of.len() >= SUBSCRIPTIONS_MAX
    }

    /// Passes on what a feed gives, in place of an earlier subscription to the same run.
    pub(super) fn follow(&mut self, feed: Feed) {
        let id = feed.id().clone();
        let (wish, generation, told) = self.begin(Wish::Events(id.uuid()));
        let task = self.tasks.spawn(pass_on(feed, wish, generation, told));
        self.of.insert(wish, (generation, task, id));
    }

    /// Passes on what comes of a run at its end.
    pub(super) fn wait(&mut self, ending: Ending) {
        let (wish, generation, told) = self.begin(Wish::End(ending.id.uuid()));
        let (is_full, reads, id) = (self.is_full(), Arc::clone(&self.reads), ending.id.clone());
        let task = self.tasks.spawn(async move {
            if !is_full {
                // What goes wrong here goes wrong once more below.
                drop(ending.server.runtime.over(&ending.id).await);
            }
            // Held until the connection has taken it. The semaphore is never closed.
            let _read = reads.acquire().await;
            let message = if is_full { too_many(&ending) } else { end_of(&ending).await };
            let tell = async |what| told.send(Told { of: wish, generation, what }).await;
            if tell(What::Message(message)).await.is_ok() {
                // The connection may be gone, and then nobody needs to know.
                let _ = tell(What::Over).await;
            }
        });
        self.of.insert(wish, (generation, task, id));
    }

    fn begin(&mut self, wish: Wish) -> (Wish, u64, mpsc::Sender<Told>) {
        self.end(wish);
        self.generation += 1;
        (wish, self.generation, self.told.clone())
    }

    pub(super) fn unfollow(&mut self, run: Uuid) {
        self.end(Wish::Events(run));
    }

    fn end(&mut self, wish: Wish) {
        if let Some((_, task, _)) = self.of.remove(&wish) {
            task.abort();
        }
        self.reap();
    }

    /// Ends all. Gives what is said of the runs that are waited for no longer.
    pub(super) fn end_all(&mut self) -> Vec<Value> {
        let waits = self.of.drain().filter(|(wish, _)| matches!(wish, Wish::End(_)));
        let error = "The connection goes on for another user, and waits for this run no longer.";
        let said = waits.map(|(_, (_, _, id))| json!({ "type": "walker", "walker_id": id, "error": error }));
        let said = said.collect();
        self.tasks.abort_all();
        self.reap();
        said
    }

    /// What to send, unless its subscription is no more.
    pub(super) fn take(&mut self, told: Told) -> Option<Message> {
        let current = self.of.get(&told.of).is_some_and(|(generation, ..)| *generation == told.generation);
        match told.what {
            What::Message(message) => current.then_some(message),
            What::Over => {
                if current {
                    self.of.remove(&told.of);
                }
                self.reap();
                None
            }
        }
    }

    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }
}

fn text(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

/// One subscription: waits for the run, then for room in its own connection's queue, and for nothing else.
async fn pass_on(mut feed: Feed, of: Wish, generation: u64, told: mpsc::Sender<Told>) {
    let tell = async |what| told.send(Told { of, generation, what }).await;
    loop {
        let message = match feed.next().await {
            Ok(Some(Item::Event { text, .. })) => Message::Text((&*text).into()),
            // Whoever had the last event already must not wait for it.
            Ok(None) if !feed.told_end() => {
                let _ = tell(What::Message(Message::Text(confirmed("unsubscribed", feed.id()).into()))).await;
                break;
            }
            Ok(Some(Item::Gap { first })) => {
                text(&json!({ "type": "gap", "walker_id": feed.id(), "first": first }))
            }
            Ok(None) => break,
            Err(error) => {
                let frame = named(Problem::from(error).frame("subscribe"), feed.id());
                // The connection may be gone, and then nobody needs to know.
                let _ = tell(What::Message(text(&frame))).await;
                break;
            }
        };
        if tell(What::Message(message)).await.is_err() {
            return;
        }
    }
    let _ = tell(What::Over).await;
}

/// Says of which run a frame is.
fn named(mut frame: Value, id: &WalkerId) -> Value {
    if let Value::Object(members) = &mut frame {
        members.insert("walker_id".to_owned(), json!(id));
    }
    frame
}

fn too_many(ending: &Ending) -> Message {
    let error =
        format!("A connection waits for at most {SUBSCRIPTIONS_MAX} runs. This one was begun all the same.");
    text(&json!({ "type": "walker", "walker_id": ending.id, "error": error }))
}

/// What came of a run, as over HTTP, with its id.
async fn end_of(Ending { server, id }: &Ending) -> Message {
    let spawned = server.runtime.ended(id, false).await;
    let (status, reports, response) = match spawned {
        Ok(Spawned::Done { status, reports, response, .. }) => (status, reports, response),
        Ok(Spawned::Accepted { .. }) => return text(&json!({ "status": 200, "walker_id": id })),
        Err(error) => return text(&named(Problem::from(error).frame("walker"), id)),
    };
    if response.is_none() {
        return text(&json!({ "status": status, "reports": reports, "walker_id": id }));
    }
    match frame(status, &reports, response, server.runtime.config().frame_bytes_max).await {
        Ok(message) => message,
        Err(error) => text(&json!({ "type": "walker", "walker_id": id, "error": error })),
    }
}

pub(super) fn confirmed(word: &str, id: &WalkerId) -> String {
    json!({ "type": word, "walker_id": id }).to_string()
}
