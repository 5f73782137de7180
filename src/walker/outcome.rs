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
    /// What the store said: it decides how the run goes on.
    pub(crate) store: Option<store::Error>,
}

impl Failure {
    pub(crate) fn coded(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), source: None, store: None }
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
        let (code, message) = match &error {
            store::Error::Conflict(_) => {
                (ErrorCode::Conflict, Some("another walker changed the same elements".to_owned()))
            }
            store::Error::LeaseLost => (ErrorCode::Lost, Some("the attempt's lease is lost".to_owned())),
            store::Error::NotANumber { .. } => (ErrorCode::WalkerFailed, Some(error.to_string())),
            _ => (ErrorCode::WalkerFailed, None),
        };
        Self { code, message, source: None, store: Some(error) }
    }

    /// The ids that other walkers changed: the attempt is to be repeated.
    pub(crate) fn conflict(&self) -> Option<&[uuid::Uuid]> {
        match &self.store {
            Some(store::Error::Conflict(ids)) => Some(ids),
            _ => None,
        }
    }

    /// Nothing was written for want of room: the attempt is to be repeated when there is some.
    pub(crate) fn lacks_room(&self) -> bool {
        matches!(self.store, Some(store::Error::Full(_)))
    }

    /// Nothing of this attempt may or can be written any more: its lease is lost, or the store takes no more writes.
    pub(crate) fn is_fenced(&self) -> bool {
        use store::Error::{LeaseLost, OutcomeUnknown, Unavailable};
        matches!(self.store, Some(LeaseLost | OutcomeUnknown(_) | Unavailable(_)))
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
        Self { code: ErrorCode::WalkerFailed, message: None, source: Some(Box::new(error)), store: None }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.message, &self.source, &self.store) {
            (Some(message), Some(source), _) => write!(f, "{message}: {source}"),
            (Some(message), None, _) => f.write_str(message),
            (None, Some(source), _) => write!(f, "{source}"),
            (None, None, Some(store)) => write!(f, "{store}"),
            (None, None, None) => f.write_str(self.code.as_str()),
        }
    }
}
