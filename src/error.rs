//! The one error type that users of the library meet.

use serde_json::Value;
use walkabout_schema::{ElementId, ErrorCode, NodeId, State, WalkerId};

use crate::{store, walker::Part};

/// What can go wrong, gathered from every module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No walker of this name can be called this way.
    #[error("no walker is named {0:?}")]
    UnknownWalker(String),
    /// Some fields of the request do not fit the walker.
    #[error("{} field(s) do not fit the walker", .0.len())]
    Invalid(Vec<FieldError>),
    /// The caller may not spawn on this node.
    #[error("no access to {0}")]
    EntryForbidden(NodeId),
    /// What the caller calls with is for other walkers or nodes.
    #[error("the key is for other walkers or nodes")]
    OutOfScope,
    /// The entry node does not exist.
    #[error("no node {0}")]
    EntryNotFound(ElementId),
    /// A plain walker failed, or an attempt could not be committed.
    #[error("{message}")]
    Walker {
        /// Why.
        code: ErrorCode,
        /// A safe sentence: what failed and where.
        message: String,
        /// The run, when there is a record of it.
        run: Option<WalkerId>,
    },
    /// The run may be read by the caller, and no more.
    #[error("the run is not the caller's to act on")]
    NotAllowed,
    /// A run cannot be acted on this way in the state that it is in.
    #[error("a run that is {} cannot be {wanted}", .state.as_str())]
    RunState {
        /// What was asked for.
        wanted: &'static str,
        /// What it is.
        state: State,
    },
    /// The caller's own name for a request stands for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A traverse looked at more than `traverse_items_max` nodes and edges, or its answer would be too long.
    #[error("the traverse reaches more than traverse_items_max elements, or its answer would be too long")]
    TraverseTooLarge,
    /// More was asked at once than the configured bound.
    #[error("too much at once: {0}")]
    Busy(String),
    /// Walkers hold as many threads as can be made up for.
    #[error("{0} threads are held by walkers that never await")]
    Hogged(usize),
    /// A mail was not sent. The sentence is safe.
    #[error("{0}")]
    MailNotSent(String),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The application cannot be built as it is written.
    #[error("{0}")]
    Build(String),
    /// A setting does not make sense.
    #[error("{0}")]
    Config(String),
    /// The operating system said no.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// One field that does not fit, in the shape that Jac Cloud's clients read.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What is wrong, as a slug: `missing`, `int_type`, …
    pub kind: String,
    /// In which part of the request.
    pub part: Part,
    /// Where in it: member names and list positions.
    pub loc: Vec<Value>,
    /// What is wrong, as a sentence.
    pub msg: String,
    /// What was given; null when that is nothing, or too much to be shown.
    pub input: Value,
    /// More about it; null when there is no more.
    pub ctx: Value,
}

/// The result of the library's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A stable slug; each has a page under `docs/errors`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownWalker(_) => "unknown-walker",
            Self::Invalid(_) => "invalid-fields",
            Self::EntryForbidden(_) => "entry-forbidden",
            Self::OutOfScope => "out-of-scope",
            Self::EntryNotFound(_) => "entry-not-found",
            Self::Walker { code, .. } => code.as_str(),
            Self::NotAllowed => "not-allowed",
            Self::RunState { .. } => "run-state",
            Self::KeyReused => "key-reused",
            Self::TraverseTooLarge => "traverse-too-large",
            Self::Busy(_) => "busy",
            Self::Hogged(_) => "hogged",
            Self::MailNotSent(_) => "mail-not-sent",
            Self::Store(store::Error::Conflict(_)) => "conflict",
            Self::Store(store::Error::NotANumber { .. }) => "walker-failed",
            Self::Store(store::Error::LeaseLost) => "lease-lost",
            Self::Store(store::Error::OutcomeUnknown(_)) => "outcome-unknown",
            Self::Store(store::Error::Full(_)) => "store-full",
            Self::Store(store::Error::Unavailable(_) | store::Error::Closed) => "store-unavailable",
            Self::Store(store::Error::Open(_)) => "store-open",
            Self::Store(store::Error::Damaged(_)) => "store-damaged",
            Self::Build(_) => "build",
            Self::Config(_) => "config",
            Self::Io { .. } => "io",
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Busy(_)
                | Self::Hogged(_)
                | Self::MailNotSent(_)
                | Self::Store(
                    store::Error::Conflict(_)
                        | store::Error::Full(_)
                        | store::Error::Unavailable(_)
                        | store::Error::Closed
                )
                | Self::Walker { code: ErrorCode::Conflict, .. }
        )
    }
}
