//! What other processes do in the same database: their events as they become durable, and what they leave to be done.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bson::{RawDocumentBuf, doc};
use mongodb::change_stream::event::{ChangeStreamEvent, ResumeToken};
use tokio::sync::Notify;
use walkabout_schema::Name;

use super::{
    base::{Base, Place, Tried, Tries},
    documents,
    lease::{Lease, RENEWALS},
};
use crate::{
    env::Env,
    store::{Error, EventSink, Result, RunEvents, Stirred},
};

/// How long to wait, about, between two looks at what may be due.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest time between two looks that events of others ask for.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// How long to wait before a broken stream is opened again.
const REOPEN: Duration = Duration::from_millis(500);

/// What the runtime is to be told.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<BTreeSet<Stirred>>,
    notify: Notify,
}

impl Bell {
    pub(super) fn ring(&self, what: Stirred) {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
        self.notify.notify_one();
    }

    /// Waits for the next thing.
    pub(super) async fn heard(&self) -> Stirred {
        loop {
            let notified = self.notify.notified();
            let first = self.rung.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            match first {
                Some(what) => return what,
                None => notified.await,
            }
        }
    }
}

/// Where the events of others go.
pub(super) type Sink = Mutex<Option<EventSink>>;

/// Everything that goes on for as long as the store is open.
pub(super) struct Others {
    pub(super) base: Arc<Base>,
    pub(super) lease: Arc<Lease>,
    pub(super) env: Env,
    pub(super) bell: Arc<Bell>,
    pub(super) sink: Arc<Sink>,
}

impl Others {
    /// Renews the lease until the end of time.
    pub(super) async fn keep_lease(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.lease.span() / RENEWALS).await;
            // One that is not answered is asked for again while the lease still lasts.
            let renewed = tokio::time::timeout(self.lease.span() / 2, self.lease.renew(&self.base)).await;
            match renewed {
                Ok(Ok(true)) => self.bell.ring(Stirred::Left),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::error!(%error, "the lease of this process is not renewed"),
                Err(_) => tracing::error!("the lease of this process is not renewed: no answer"),
            }
        }
    }

    /// Looks for due runs now and then: also one whose process told nobody is found.
    pub(super) async fn look(self: Arc<Self>) {
        loop {
            // Not all processes at once.
            tokio::time::sleep(LOOK.mul_f64(0.5 + self.env.chance())).await;
            self.bell.ring(Stirred::Due);
        }
    }

    /// Passes the events of others on, from the moment on at which it is first polled.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut from = None;
        loop {
            if let Err(error) = self.listen_from(&mut from).await {
                tracing::warn!(%error, "the stream of events broke");
                if matches!(error, Tried::Refused(_)) {
                    // What is to be heard from there is gone, or the server has no streams.
                    from = None;
                }
            }
            // Who follows a run reads from the store meanwhile.
            self.bell.ring(Stirred::Missed);
            self.bell.ring(Stirred::Due);
            tokio::time::sleep(REOPEN).await;
        }
    }

    async fn listen_from(&self, from: &mut Option<ResumeToken>) -> Tries<()> {
        let others = doc! { "operationType": "insert", "fullDocument.by": { "$ne": self.lease.number().cast_signed() } };
        let events = self.base.collection::<RawDocumentBuf>(Place::Event);
        let watch = events.watch().pipeline([doc! { "$match": others }]).resume_after(from.clone());
        let mut stream = self.base.bounded(async { Ok(watch.await?) }).await?;
        // What came between is in the store.
        self.bell.ring(Stirred::Missed);
        let mut looked = tokio::time::Instant::now();
        while stream.is_alive() {
            // The server answers after a second also when there is nothing.
            let change = self.base.bounded(async { Ok(stream.next_if_any().await?) }).await?;
            // Also of a stream that was silent it is known how far it came.
            *from = stream.resume_token().or(from.take());
            let Some(ChangeStreamEvent { full_document: Some(document), .. }) = change else { continue };
            match told(&document) {
                Ok(events) => {
                    let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if let Some(sink) = sink {
                        sink(&events);
                    }
                }
                Err(error) => tracing::error!(%error, "an event of another process does not read"),
            }
            if looked.elapsed() >= LOOK_SOON {
                looked = tokio::time::Instant::now();
                self.bell.ring(Stirred::Due);
            }
        }
        Ok(())
    }
}

fn told(document: &RawDocumentBuf) -> Result<RunEvents> {
    let (id, _) = documents::run_and_seq(document)?;
    let name = document.get_str("name").map_err(|_| Error::Damaged("an event".to_owned()))?;
    let name = Name::new(name).map_err(|_| Error::Damaged("the walker's name in an event".to_owned()))?;
    Ok(RunEvents { id, name, events: vec![documents::event(document)?] })
}
