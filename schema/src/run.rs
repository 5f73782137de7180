//! The record of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{NodeId, State, Timestamp, WalkerId};

/// The four words of `schedule.status`. Those of Jac Cloud are read as well.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted, not yet begun.
    #[serde(alias = "PENDING")]
    Pending,
    /// An attempt was begun and the run has not ended.
    #[serde(alias = "STARTED")]
    Running,
    /// Ended well.
    #[serde(alias = "COMPLETED")]
    Completed,
    /// Ended otherwise; `schedule.error` says how.
    #[serde(alias = "ERROR")]
    Failed,
}

/// The nine fields that Jac Cloud's clients read, filled from submission to the end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Schedule {
    /// Where the run stands.
    pub status: Status,
    /// The node that it was spawned on.
    pub node_id: NodeId,
    /// The root that it acts as.
    pub root_id: NodeId,
    /// When it is or was due.
    pub execute_date: Timestamp,
    /// When the last attempt began.
    pub executed_date: Option<Timestamp>,
    /// Null until the end; then 200 or the walker's own, 500 failed, 504 timed out, 409 cancelled.
    pub http_status: Option<u16>,
    /// What it reported; empty until the commit that carries it.
    pub reports: Vec<Value>,
    /// What the walker set with `set_custom`.
    pub custom: Value,
    /// What failed and where, in one safe sentence.
    pub error: Option<String>,
}

/// What a record keeps beside `schedule`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The finer state.
    pub state: State,
    /// The number of the present or last attempt. It goes on after a conflict, a wait, a pause or a stop; a new one begins after a
    /// failure or a crash.
    pub attempt: u32,
    /// How many attempts failed and were followed by another.
    #[serde(default)]
    pub retries: u32,
    /// How often an attempt was repeated because another walker had changed what it read.
    #[serde(default)]
    pub conflicts: u32,
    /// How many attempts in a row ended with the process, since the last checkpoint.
    #[serde(default)]
    pub lost: u32,
    /// The latest progress.
    pub progress: Value,
    /// What it gave as its custom response, or where that is; else its single report, or the list of reports, or null.
    pub result: Value,
    /// Its custom response, when it gave one.
    #[serde(default)]
    pub response: Option<Reply>,
    /// The slug of the error, see `docs/errors`. While the run waits to be tried again: that of the last attempt.
    #[serde(default)]
    pub error_code: Option<ErrorCode>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When the first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it goes on by itself: the time of a timer or of the next attempt.
    #[serde(default)]
    pub next_attempt_at: Option<Timestamp>,
    /// The outside answer that it waits for.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// When it is ended, however far it is.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// When somebody asked for its end.
    #[serde(default)]
    pub cancel_requested_at: Option<Timestamp>,
    /// When somebody asked for a pause that is not reached yet, or is in force.
    #[serde(default)]
    pub pause_requested_at: Option<Timestamp>,
    /// The run that this one repeats.
    #[serde(default)]
    pub retry_of: Option<WalkerId>,
    /// The caller's own id of the request.
    #[serde(default)]
    pub request_id: Option<String>,
    /// It was submitted by an administrator.
    #[serde(default)]
    pub admin: bool,
}

/// A custom response of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// Its media type.
    pub content_type: String,
    /// Its other headers: names and values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The HTTP status that it came with.
    #[serde(default)]
    pub status: Option<u16>,
    /// The file of the run that has its body; none when that is the result, as JSON.
    #[serde(default)]
    pub file: Option<String>,
}

/// Why a run failed, as a stable slug.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The walker's own code failed.
    WalkerFailed,
    /// The walker's code panicked.
    WalkerPanicked,
    /// It changed something that it may only read.
    Forbidden,
    /// One commit carried too much.
    CommitTooLarge,
    /// It lost against other walkers too often.
    Conflict,
    /// The process ended during its attempts too often.
    Lost,
    /// A bound on visits or the frontier was passed.
    LimitExceeded,
    /// Its walker or its fields are unknown to this program.
    Incompatible,
    /// It, or one of its visits, took too long.
    TimedOut,
    /// Somebody, or the walker itself, asked for its end.
    Cancelled,
    /// It answered with JSON that is not what its `response_model` says.
    InvalidResponse,
}

impl ErrorCode {
    /// The slug.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WalkerFailed => "walker-failed",
            Self::WalkerPanicked => "walker-panicked",
            Self::Forbidden => "forbidden",
            Self::CommitTooLarge => "commit-too-large",
            Self::Conflict => "conflict",
            Self::Lost => "lost",
            Self::LimitExceeded => "limit-exceeded",
            Self::Incompatible => "incompatible",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
            Self::InvalidResponse => "invalid-response",
        }
    }
}
