//! The rules of runs, as pure functions: which state follows which, and what becomes of a failed attempt.
//!
//! Nothing here awaits, reads a clock, knows a store or an executor. The store's committer asks [`lifecycle`] before it writes a
//! transition; the runner asks [`retry`] what an attempt's end means.

pub(crate) mod lifecycle;
pub(crate) mod retry;
