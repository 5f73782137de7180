//! The forms of answers that say no, and of those that say little: what `problem` and handlers write, and what the API documents show.

use schemars::JsonSchema;
use serde::Serialize;
use walkabout_schema::{State, WalkerId};

use super::problem::Detail;

/// A refusal of the server.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Refusal")]
pub(crate) struct Refused<'a> {
    /// Why, as a sentence.
    pub(crate) detail: &'a str,
    /// Why, as a slug, where there are several reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'a str>,
    /// The state of the run, where that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<State>,
}

/// The caller may not enter at a node.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EntryRefusal")]
pub(crate) struct NoEntry {
    pub(crate) detail: NoAccess,
}

/// Why not.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NoAccess {
    /// A sentence that names the node.
    pub(crate) error: String,
}

/// All that does not fit.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HTTPValidationError")]
pub(crate) struct Unprocessable {
    pub(crate) detail: Vec<Detail>,
}

/// What failed inside.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Failure")]
pub(crate) struct Failed<'a> {
    /// One sentence that is safe to show.
    pub(crate) errors: [&'a str; 1],
    /// Why, as a slug.
    pub(crate) code: &'a str,
    /// The run, when there is a record of it.
    pub(crate) run: Option<&'a WalkerId>,
}

/// What came of it, in a sentence.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Message<'a> {
    pub(crate) message: &'a str,
}
