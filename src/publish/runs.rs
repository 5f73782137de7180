//! Events of runs, live.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use uuid::Uuid;
use walkabout_schema::{WalkerId, wire::EventFrame};

use crate::{ids::IdMap, store::RunEvents};

/// One event of a run, written once and shared by all its subscribers.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The event's number.
    pub seq: u64,
    /// True for the last event of the run.
    pub last: bool,
    /// The WebSocket frame.
    pub text: Arc<str>,
}

/// Who follows which run. A cheap handle.
///
/// A follower that lags more than the configured bound gets `Lagged` from its receiver and reads what it missed from the store.
#[derive(Clone)]
pub struct Runs {
    followed: Arc<Mutex<IdMap<broadcast::Sender<Frame>>>>,
    lag_max: usize,
}

impl Runs {
    pub(crate) fn new(lag_max: usize) -> Self {
        Self { followed: Arc::default(), lag_max: lag_max.max(1) }
    }

    /// Follows a run from now on. Subscribe first, then read the store, then skip live frames whose number was read.
    pub(crate) fn follow(&self, run: Uuid) -> broadcast::Receiver<Frame> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = followed.get(&run) {
            return sender.subscribe();
        }
        // Runs whose followers have all gone are dropped here, so the map is bounded by the followers.
        if followed.len() % 64 == 63 {
            followed.retain(|_, sender| sender.receiver_count() > 0);
        }
        let (sender, receiver) = broadcast::channel(self.lag_max);
        followed.insert(run, sender);
        receiver
    }

    /// Sends all followers to the store: events may have passed them by.
    pub(crate) fn unsettle(&self) {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes events that became durable. Called by the store, in order.
    pub(crate) fn publish(&self, events: &RunEvents) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = followed.get(&events.id).cloned() else { return };
        let finished = events.events.iter().any(|event| event.event.is_final());
        if finished || sender.receiver_count() == 0 {
            followed.remove(&events.id);
        }
        drop(followed);
        for event in &events.events {
            let last = event.event.is_final();
            let frame = EventFrame::new(WalkerId::new(events.name.clone(), events.id), event.clone());
            match serde_json::to_string(&frame) {
                // A send fails only when nobody follows any more.
                Ok(text) => drop(sender.send(Frame { seq: event.seq, last, text: text.into() })),
                Err(error) => tracing::error!(%error, "an event cannot be written as JSON"),
            }
        }
    }
}
