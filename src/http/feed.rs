//! The events of one run as a subscriber reads them: what is kept, then live, without a gap or a repetition.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::broadcast::{Receiver, error::RecvError};
use walkabout_schema::{WalkerId, wire::EventFrame};

use crate::{
    Error, Result,
    publish::Frame,
    runtime::{Caller, Runtime},
};

/// Events read from the store at once.
const PAGE: usize = 256;

/// One thing to tell a subscriber.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// The events between the last one told and this number are not kept any more.
    Gap {
        /// The oldest that is.
        first: u64,
    },
    /// An event, as the text of an `EventFrame`.
    Event {
        /// Its number.
        seq: u64,
        /// The frame.
        text: Arc<str>,
    },
}

/// Reads the events of a run from a number on.
///
/// It is pulled: a subscriber that does not read holds nothing but its place, and is sent back to the store
/// when the live frames have passed it by.
pub(crate) struct Feed {
    runtime: Runtime,
    caller: Caller,
    id: WalkerId,
    /// The highest number told.
    last: u64,
    live: Receiver<Frame>,
    waiting: VecDeque<Item>,
    stage: Stage,
    /// The run's last event is told, or waits here.
    told_end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The store may hold more than was told.
    Replay,
    /// Everything further comes live.
    Live,
    /// The last event was told, or there is nothing more.
    Over,
}

impl Feed {
    /// Events with numbers above `after`; none when there is no such run that the caller may read.
    pub(crate) async fn open(
        runtime: Runtime,
        caller: Caller,
        id: &WalkerId,
        after: u64,
    ) -> Result<Option<Self>> {
        // Followed before anything is read: what becomes durable meanwhile waits in the receiver.
        let Some(live) = runtime.follow(&caller, id).await? else { return Ok(None) };
        // The name in a given id is not trusted; that of the record is.
        let Some(record) = runtime.record(&caller, id).await? else { return Ok(None) };
        let stage = Stage::Replay;
        Ok(Some(Self {
            runtime,
            caller,
            id: record.id,
            last: after,
            live,
            waiting: VecDeque::new(),
            stage,
            told_end: false,
        }))
    }

    /// True when the run's last event was among what was told; else who asked has it already.
    pub(crate) fn told_end(&self) -> bool {
        self.told_end
    }

    /// Whether the run is over and nothing is left to tell.
    pub(crate) async fn is_over(&mut self) -> Result<bool> {
        if self.stage == Stage::Replay && self.waiting.is_empty() {
            self.replay().await?;
        }
        Ok(self.stage == Stage::Over && self.waiting.is_empty())
    }

    /// The run.
    pub(crate) fn id(&self) -> &WalkerId {
        &self.id
    }

    /// The next thing to tell; none after the run's last event.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Ok(Some(item));
            }
            match self.stage {
                Stage::Over => return Ok(None),
                Stage::Replay => self.replay().await?,
                Stage::Live => self.listen().await?,
            }
        }
    }

    /// Reads one page of the store.
    async fn replay(&mut self) -> Result<()> {
        if self.read().await? || self.stage == Stage::Over {
            return Ok(());
        }
        // Nothing above `last`. When the run has ended, nothing ever will be: look once more, for it may have
        // ended just now.
        let record = self.runtime.record(&self.caller, &self.id).await?;
        if record.is_none_or(|record| record.run.state.is_final()) {
            if !self.read().await? {
                self.stage = Stage::Over;
            }
        } else {
            self.stage = Stage::Live;
        }
        Ok(())
    }

    /// Puts a page in the queue; false when there was none.
    async fn read(&mut self) -> Result<bool> {
        let Some(page) = self.runtime.events(&self.caller, &self.id, self.last, PAGE).await? else {
            self.stage = Stage::Over;
            return Ok(false);
        };
        let mut read = false;
        for event in page.events {
            if event.seq <= self.last {
                continue;
            }
            if event.seq > self.last.saturating_add(1) {
                self.waiting.push_back(Item::Gap { first: event.seq });
            }
            (self.last, read) = (event.seq, true);
            if event.event.is_final() {
                (self.stage, self.told_end) = (Stage::Over, true);
            }
            let text = serde_json::to_string(&EventFrame::new(self.id.clone(), event)).map_err(unwritable)?;
            self.waiting.push_back(Item::Event { seq: self.last, text: text.into() });
        }
        Ok(read)
    }

    /// Waits for one live frame.
    async fn listen(&mut self) -> Result<()> {
        match self.live.recv().await {
            Ok(frame) => {
                if frame.seq == self.last.saturating_add(1) {
                    (self.last, self.told_end) = (frame.seq, frame.last);
                    self.waiting.push_back(Item::Event { seq: frame.seq, text: frame.text });
                } else if frame.seq > self.last {
                    // Between two followings a frame may have passed: it is in the store.
                    self.stage = Stage::Replay;
                    return Ok(());
                }
                // Also when its number was told before, or is below what the subscriber asked for.
                if frame.last {
                    self.stage = Stage::Over;
                }
            }
            Err(RecvError::Lagged(_)) => self.stage = Stage::Replay,
            Err(RecvError::Closed) => {
                let Some(live) = self.runtime.follow(&self.caller, &self.id).await? else {
                    self.stage = Stage::Over;
                    return Ok(());
                };
                (self.live, self.stage) = (live, Stage::Replay);
            }
        }
        Ok(())
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::Io { context: "writing an event as JSON".to_owned(), source: std::io::Error::other(error) }
}

#[cfg(test)]
mod tests;
