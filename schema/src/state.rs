//! The states of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Status;

/// The finer state of a run. What leads from one to another stands in `docs/runs.md`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// To begin at a time that is still to come.
    Scheduled,
    /// Due, and waiting for a runner.
    Queued,
    /// Taken by a runner; nothing of the attempt is durable yet.
    Starting,
    /// An attempt is under way.
    Running,
    /// Waits for a timer, for an outside answer, or to be tried again. Holds nothing meanwhile.
    Waiting,
    /// Held by somebody until it is resumed.
    Paused,
    /// Its walker or its fields are unknown to this program. A later one takes it up again.
    Incompatible,
    /// Ended well. Final.
    Succeeded,
    /// Ended with an error. Final.
    Failed,
    /// Ended by its deadline. Final.
    TimedOut,
    /// Ended by who asked for it. Final.
    Cancelled,
}

impl State {
    /// All of them, in the order of a run's life.
    pub const ALL: [Self; 11] = [
        Self::Scheduled,
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::Waiting,
        Self::Paused,
        Self::Incompatible,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Incompatible => "incompatible",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The word that `schedule.status` shows for it.
    pub fn status(self) -> Status {
        match self {
            Self::Scheduled | Self::Queued | Self::Starting => Status::Pending,
            Self::Running | Self::Waiting | Self::Paused | Self::Incompatible => Status::Running,
            Self::Succeeded => Status::Completed,
            Self::Failed | Self::TimedOut | Self::Cancelled => Status::Failed,
        }
    }

    /// True for states that never change again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::TimedOut | Self::Cancelled)
    }

    /// True while an attempt is under way.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Running, Self::Completed, Self::Failed];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Jac Cloud's word for it.
    pub fn jac_cloud(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "STARTED",
            Self::Completed => "COMPLETED",
            Self::Failed => "ERROR",
        }
    }

    /// The status of either word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word || status.jac_cloud() == word)
    }
}
