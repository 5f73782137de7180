//! How an ability ends.

use std::fmt;

use walkabout_schema::ErrorCode;

use crate::store;

/// What an ability returns.
pub type Outcome = Result<Flow, Failure>;

/// How the traversal goes on after an ability that did not fail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flow {
    pub(crate) added: usize,
    pub(crate) disengage: bool,
    pub(crate) then: Option<&'static str>,
}

impl Flow {
    /// Goes on with what comes next.
    pub fn done() -> Self {
        Self::default()
    }

    /// How many elements the visit that made this put in the frontier.
    pub fn added(&self) -> usize {
        self.added
    }
}

/// Goes on with what comes next: `return DONE`.
pub const DONE: Outcome = Ok(Flow { added: 0, disengage: false, then: None });

/// Why an ability failed.
///
/// Made by [`fail`] with a sentence that the caller of the walker may read, or by `?` from any error; then the caller reads only
/// where it failed, and the log has the rest.
pub struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// The ids that another walker changed: the attempt is to be repeated.
    pub(crate) conflict: Option<Vec<uuid::Uuid>>,
    /// The lease is lost: nothing of this attempt may be written any more.
    pub(crate) fenced: bool,
}

impl Failure {
    pub(crate) fn coded(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), source: None, conflict: None, fenced: false }
    }

    /// The sentence for the caller, when there is one.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The slug.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    pub(crate) fn of_store(error: store::Error) -> Self {
        match error {
            store::Error::Conflict(ids) => Self {
                conflict: Some(ids),
                ..Self::coded(ErrorCode::Conflict, "another walker changed the same elements")
            },
            store::Error::LeaseLost => {
                Self { fenced: true, ..Self::coded(ErrorCode::Lost, "the attempt's lease is lost") }
            }
            other => Self {
                code: ErrorCode::WalkerFailed,
                message: Some("the store is not available".to_owned()),
                source: Some(Box::new(other)),
                conflict: None,
                fenced: true,
            },
        }
    }
}

/// Fails an ability with a sentence that the caller may read: what failed and how to mend it; never a secret.
///
/// ```
/// # use walkabout::prelude::*;
/// fn check(rows: usize) -> Result<(), Failure> {
///     if rows == 0 { Err(fail("the dataset has no rows")) } else { Ok(()) }
/// }
/// # assert!(check(0).is_err());
/// ```
pub fn fail(message: impl Into<String>) -> Failure {
    Failure::coded(ErrorCode::WalkerFailed, message)
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            code: ErrorCode::WalkerFailed,
            message: None,
            source: Some(Box::new(error)),
            conflict: None,
            fenced: false,
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.message, &self.source) {
            (Some(message), Some(source)) => write!(f, "{message}: {source}"),
            (Some(message), None) => f.write_str(message),
            (None, Some(source)) => write!(f, "{source}"),
            (None, None) => f.write_str(self.code.as_str()),
        }
    }
}
