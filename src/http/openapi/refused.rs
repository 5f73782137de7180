//! The refusals that operations share: the statuses and shapes of `problem`.

use serde_json::{Value, json};

use super::parts::Types;
use crate::http::shapes;

/// Why a request is refused, as far as a client can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Broken,
    Unauthorized,
    Forbidden,
    NoEntry,
    NotFound,
    Slow,
    Conflict,
    TooLarge,
    Invalid,
    KeyReused,
    TooMany,
    Failed,
    WalkerFailed,
    Unavailable,
    TimedOut,
    Full,
}

impl Refused {
    const ALL: [Self; 16] = [
        Self::Broken,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NoEntry,
        Self::NotFound,
        Self::Slow,
        Self::Conflict,
        Self::TooLarge,
        Self::Invalid,
        Self::KeyReused,
        Self::TooMany,
        Self::Failed,
        Self::WalkerFailed,
        Self::Unavailable,
        Self::TimedOut,
        Self::Full,
    ];

    /// Each with its name among the components.
    pub(super) fn all() -> impl Iterator<Item = (&'static str, Self)> {
        Self::ALL.into_iter().map(|refused| (refused.name(), refused))
    }

    pub(super) fn reference(self) -> String {
        format!("#/components/responses/{}", self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Broken => "Broken",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NoEntry => "NoEntry",
            Self::NotFound => "NotFound",
            Self::Slow => "Slow",
            Self::Conflict => "Conflict",
            Self::TooLarge => "TooLarge",
            Self::Invalid => "Invalid",
            Self::KeyReused => "KeyReused",
            Self::TooMany => "TooMany",
            Self::Failed => "Failed",
            Self::WalkerFailed => "WalkerFailed",
            Self::Unavailable => "Unavailable",
            Self::TimedOut => "TimedOut",
            Self::Full => "Full",
        }
    }

    pub(super) fn status(self) -> u16 {
        match self {
            Self::Broken => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::NoEntry => 403,
            Self::NotFound => 404,
            Self::Slow => 408,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Invalid | Self::KeyReused => 422,
            Self::TooMany => 429,
            Self::Failed | Self::WalkerFailed => 500,
            Self::Unavailable => 503,
            Self::TimedOut => 504,
            Self::Full => 507,
        }
    }

    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Broken => "The request ended before its body did.",
            Self::Unauthorized => "The token, or the key, is not good, or not any more.",
            Self::Forbidden => "There is no token, or no key, or it does not allow this.",
            Self::NoEntry => "The caller has no access to the entry node.",
            Self::NotFound => "There is no such thing, or none that the caller may know of.",
            Self::Slow => "The body took too long to arrive.",
            Self::Conflict => {
                "Others changed the same at the same time, or the state of the run does not allow it."
            }
            Self::TooLarge => "The body, or what is asked for, is too large.",
            Self::Invalid => "What was given does not fit.",
            Self::KeyReused => "The idempotency key was used for another request.",
            Self::TooMany => "Too many attempts have failed lately.",
            Self::Failed => "The request failed inside the server.",
            Self::WalkerFailed => "The walker failed.",
            Self::Unavailable => "The server is busy, or its store cannot be reached. Try again later.",
            Self::TimedOut => "The walker took too long.",
            Self::Full => "There is no room to store anything new.",
        }
    }

    pub(super) fn schema(self) -> Value {
        let component = match self {
            Self::Invalid => "HTTPValidationError",
            Self::NoEntry => "EntryRefusal",
            Self::WalkerFailed | Self::TimedOut => "Failure",
            Self::Conflict => return json!({ "anyOf": [reference("Refusal"), reference("Failure")] }),
            _ => "Refusal",
        };
        reference(component)
    }
}

fn reference(component: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{component}") })
}

/// Has the shapes of refusals among the schemas.
pub(super) fn define(types: &mut Types) {
    types.sent::<shapes::Refused<'_>>();
    types.sent::<shapes::NoEntry>();
    types.sent::<shapes::Unprocessable>();
    types.sent::<shapes::Failed<'_>>();
    types.sent::<shapes::Message<'_>>();
}
