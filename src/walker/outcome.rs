//! How an ability ends.

use std::{borrow::Cow, fmt, time::Duration};

use walkabout_schema::{ErrorCode, Timestamp};

use crate::{run::retry::Wish, runner::End, store};

/// What an ability returns.
pub type Outcome = Result<Flow, Failure>;

/// How the traversal goes on after an ability that did not fail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flow {
    pub(crate) added: usize,
    pub(crate) disengage: bool,
    pub(crate) then: Option<&'static str>,
    pub(crate) suspend: Option<Suspend>,
}

/// What a walker waits for before it goes on in `then`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Suspend {
    Sleep(Timestamp),
    Await { name: String, until: Option<Timestamp> },
}

/// A wait that an ability ends with: it still has to say where the walker goes on.
#[derive(Debug, Clone)]
#[must_use = "return it with `.then(\"ability\")`: a wait ends the visit"]
pub struct Wait(pub(crate) Suspend);

impl Wait {
    /// Waits no longer than until this time. The ability then finds no answer.
    pub fn until(mut self, at: Timestamp) -> Self {
        match &mut self.0 {
            Suspend::Sleep(until) => *until = at.min(*until),
            Suspend::Await { until, .. } => *until = Some(at),
        }
        self
    }

    /// Goes on here in another ability of this walker once the wait is over. Everything so far is committed, and while it waits the
    /// walker holds no thread, no task and no memory.
    pub fn then(self, ability: &'static str) -> Outcome {
        Ok(Flow { then: Some(ability), suspend: Some(self.0), ..Flow::default() })
    }
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
pub const DONE: Outcome = Ok(Flow { added: 0, disengage: false, then: None, suspend: None });

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
    /// What is to become of the run, where anybody said so.
    terms: Option<Box<Terms>>,
}

#[derive(Default)]
struct Terms {
    /// What the application calls this kind of error, for the walker's retry policy.
    kind: Option<Cow<'static, str>>,
    /// What the ability wants.
    wish: Wish,
    /// The attempt was ended from outside.
    end: Option<End>,
}

impl Failure {
    pub(crate) fn coded(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::bare(code) }
    }

    fn bare(code: ErrorCode) -> Self {
        Self { code, message: None, source: None, store: None, terms: None }
    }

    /// The attempt was ended from outside.
    pub(crate) fn ended(end: End) -> Self {
        let mut failure = Self::coded(end.code(), end.sentence());
        failure.terms().end = Some(end);
        failure
    }

    fn terms(&mut self) -> &mut Terms {
        self.terms.get_or_insert_default()
    }

    /// Says what is to become of the run.
    pub(crate) fn wishing(mut self, wish: Wish) -> Self {
        self.terms().wish = wish;
        self
    }

    /// What is to become of the run.
    pub(crate) fn wish(&self) -> Wish {
        self.terms.as_ref().map_or(Wish::Policy, |terms| terms.wish)
    }

    /// Why the attempt was ended from outside.
    pub(crate) fn end(&self) -> Option<End> {
        self.terms.as_ref()?.end
    }

    /// Names the kind of error, for `on` and `never_on` of the walker's retry policy.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<Cow<'static, str>>) -> Self {
        self.terms().kind = Some(kind.into());
        self
    }

    /// Asks for another attempt after this long, whatever kind of error it is: as many as the walker's retry policy allows, and ten in
    /// all without one. A plain walker just fails.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        self.wishing(Wish::RetryAfter(delay))
    }

    /// Ends the run, whatever the walker's retry policy says.
    #[must_use]
    pub fn for_good(self) -> Self {
        self.wishing(Wish::FailForGood)
    }

    /// What the retry policy goes by.
    pub(crate) fn kind_of(&self) -> &str {
        let kind = self.terms.as_ref().and_then(|terms| terms.kind.as_deref());
        kind.unwrap_or_else(|| self.code.as_str())
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
        Self { message, store: Some(error), ..Self::bare(code) }
    }

    /// The walker answers with what its type does not say, for this reason. Another attempt would do so again.
    pub(crate) fn of_model(why: String) -> Self {
        let message =
            "the walker's answer is not what its response_model says; the server's log has the details";
        Self { source: Some(why.into()), ..Self::coded(ErrorCode::InvalidResponse, message) }.for_good()
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
        use store::Error::{Closed, LeaseLost, OutcomeUnknown};
        matches!(self.store, Some(LeaseLost | OutcomeUnknown(_) | Closed))
    }

    /// The store could not be reached. What the attempt wanted to write is not written, and was no fault of it.
    pub(crate) fn is_cut_off(&self) -> bool {
        matches!(self.store, Some(store::Error::Unavailable(_)))
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
        Self { source: Some(Box::new(error)), ..Self::bare(ErrorCode::WalkerFailed) }
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
