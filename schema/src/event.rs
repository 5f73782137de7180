//! What happens to a run, as one numbered sequence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;

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
    /// The run ended well.
    Completed,
    /// The run failed.
    Failed {
        /// The safe sentence of `schedule.error`.
        error: String,
    },
}

impl EventKind {
    /// True for the two last events of a run.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed { .. })
    }
}
