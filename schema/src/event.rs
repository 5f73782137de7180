//! What happens to a run, as one numbered sequence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ErrorCode, Timestamp};

/// One fact about a run. Numbers start at 1 and have no gaps.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number within the run.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The attempt that it belongs to; 0 before the first.
    #[serde(default)]
    pub attempt: u32,
    /// What happened.
    pub event: EventKind,
}

/// What can happen to a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// It was stored and will run.
    Accepted,
    /// An attempt began.
    Started,
    /// The walker told how far it is. Live: it may be repeated by a later attempt.
    Progress {
        /// What it told.
        data: Value,
    },
    /// A value was reported. Published with the commit that carries it.
    Report {
        /// The value.
        value: Value,
    },
    /// Everything so far was committed; a later attempt goes on from here.
    Checkpoint,
    /// The walker wrote a line to its log. Published with the commit that carries it.
    Log {
        /// The line.
        message: String,
    },
    /// The attempt went on after a wait, a pause or a stop.
    Resumed,
    /// It waits, and holds nothing meanwhile.
    Waiting {
        /// When it goes on by itself.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::text::option")]
        #[schemars(with = "Option<Timestamp>")]
        until: Option<Timestamp>,
        /// The outside answer that it waits for.
        #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
        waits_for: Option<String>,
    },
    /// The attempt failed; another follows.
    Retrying {
        /// The safe sentence of `schedule.error`.
        error: String,
        /// Its slug.
        code: ErrorCode,
        /// When the next one is due.
        #[serde(with = "crate::time::text")]
        #[schemars(with = "Timestamp")]
        at: Timestamp,
    },
    /// Somebody asked for its end.
    CancelRequested,
    /// Somebody asked for a pause.
    PauseRequested,
    /// It is held until somebody resumes it.
    Paused,
    /// Nobody holds it any more.
    Released,
    /// The answer that it waited for is there.
    Answered {
        /// What was waited for.
        #[serde(rename = "for")]
        waits_for: String,
    },
    /// This program cannot run it.
    Incompatible {
        /// Why.
        error: String,
    },
    /// The run ended well.
    Completed,
    /// The run ended otherwise.
    Failed {
        /// The safe sentence of `schedule.error`.
        error: String,
        /// Its slug: `timed-out` and `cancelled` are among them.
        #[serde(default = "walker_failed")]
        code: ErrorCode,
    },
}

fn walker_failed() -> ErrorCode {
    ErrorCode::WalkerFailed
}

impl EventKind {
    /// True for the two last events of a run.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed { .. })
    }
}
