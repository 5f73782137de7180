//! What one thread of a pool does now, for those who look from outside.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;
use walkabout_schema::Name;

/// What a job is called in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Label {
    /// What fetches due runs.
    Queue,
    /// The plain walker of this name.
    Plain(Name),
    /// The run of this id.
    Run(Uuid),
    /// A part of a traverse.
    Traverse,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue => f.write_str("the queue of due runs"),
            Self::Plain(name) => write!(f, "the plain walker {name}"),
            Self::Run(id) => write!(f, "the run {id}"),
            Self::Traverse => f.write_str("a traverse"),
        }
    }
}

/// One poll of a job, which goes on now.
struct Poll {
    label: Label,
    began: Instant,
    is_hog: bool,
}

/// The place of one thread.
#[derive(Default)]
pub(crate) struct Seat {
    poll: Mutex<Option<Poll>>,
}

impl Seat {
    fn poll(&self) -> MutexGuard<'_, Option<Poll>> {
        self.poll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poll begins.
    pub(crate) fn begin(&self, label: Label, now: Instant) {
        *self.poll() = Some(Poll { label, began: now, is_hog: false });
    }

    /// The poll is over; its label and its beginning when it was a hog.
    pub(crate) fn end(&self) -> Option<(Label, Instant)> {
        self.poll().take().filter(|poll| poll.is_hog).map(|poll| (poll.label, poll.began))
    }

    /// Marks a poll that takes longer than a bound. Gives its label when it was not marked before.
    pub(crate) fn mark(&self, now: Instant, hog_after: Duration) -> Option<Label> {
        let mut poll = self.poll();
        let poll = poll.as_mut().filter(|poll| !poll.is_hog)?;
        poll.is_hog = now.saturating_duration_since(poll.began) > hog_after;
        poll.is_hog.then(|| poll.label.clone())
    }

    pub(crate) fn is_hogged(&self) -> bool {
        self.poll().as_ref().is_some_and(|poll| poll.is_hog)
    }
}
