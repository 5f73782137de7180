//! Every refusal, and the one place that turns errors into status codes and bodies.
//!
//! The shapes are those that Jac Cloud's clients read: `detail` for what the server refuses, `errors` for
//! what failed inside, `message` for a login that does not fit. The text of an inner error is logged and
//! never sent.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use walkabout_schema::{ErrorCode, NodeId, State, WalkerId};

use super::shapes::{Failed, Message, NoAccess, NoEntry, Refused, Unprocessable};
use crate::{Error, FieldError, store};

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Nothing is served there, or nothing that the caller may know of.
    NotFound,
    /// Something is served there, by these methods. The router itself says which when this is empty.
    MethodNotAllowed(&'static str),
    /// The body has more bytes than this.
    TooLarge(usize),
    /// A multipart body that is none.
    BadForm(&'static str),
    /// The client ended the request before its body was complete.
    BodyBroken,
    /// The body took longer than is allowed.
    TooSlow,
    /// Only a WebSocket can be opened there.
    UpgradeRequired,
    /// A caller with a token is asked for, and there is none.
    NotAuthenticated,
    /// The `Authorization` header is not a bearer token.
    BadScheme,
    /// The token, or the webhook key, is not valid, or not any more.
    Unauthorized,
    /// A token is in the query, where it is not taken.
    QueryToken,
    /// What was given does not fit.
    Unprocessable(Vec<Detail>),
    /// What is to be made cannot be beside what is there.
    Clash(&'static str),
    /// Address and password do not belong together.
    BadLogin,
    /// The address is to be verified first.
    NotVerified,
    /// There is nothing to verify.
    AlreadyVerified,
    /// Too many mails went to this address lately.
    TooManyMails,
    /// What user management could not do, in its words.
    NotDone(&'static str),
    /// Too many logins of this address failed lately.
    TooManyLogins,
    /// Nobody signs in this way here.
    NotOffered,
    /// A provider of single sign-on is away, or says what cannot be trusted.
    BadProvider,
    /// What the engine said.
    Engine(Error),
}

impl Refusal {
    /// One thing that does not fit.
    pub(crate) fn detail(detail: Detail) -> Self {
        Self::Unprocessable(vec![detail])
    }

    /// Both, or everything that does not fit of them.
    pub(crate) fn both<A, B>(one: Result<A, Self>, other: Result<B, Self>) -> Result<(A, B), Self> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(Self::Unprocessable(mut wrong)), Err(Self::Unprocessable(more))) => {
                wrong.extend(more);
                Err(Self::Unprocessable(wrong))
            }
            (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// One thing that does not fit, in Pydantic's shape.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ValidationError")]
pub(crate) struct Detail {
    /// What is wrong, as a slug.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Where: `body`, `query` or `path` first, then member names and positions.
    pub(crate) loc: Vec<Value>,
    /// What is wrong, as a sentence.
    pub(crate) msg: String,
    /// What was given.
    pub(crate) input: Value,
    /// More about it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(crate) ctx: Value,
}

impl Detail {
    /// Without `input` and `ctx`.
    pub(crate) fn new(kind: &str, loc: Vec<Value>, msg: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), loc, msg: msg.into(), input: Value::Null, ctx: Value::Null }
    }

    /// Shows what was given.
    #[must_use]
    pub(crate) fn input(mut self, input: Value) -> Self {
        self.input = input;
        self
    }

    /// Says more.
    #[must_use]
    pub(crate) fn ctx(mut self, ctx: Value) -> Self {
        self.ctx = ctx;
        self
    }

    /// A required member that was not given.
    pub(crate) fn missing(loc: Vec<Value>, input: Value) -> Self {
        Self::new("missing", loc, "Field required").input(input)
    }

    /// A field that the engine refused; over HTTP with the part of the request that it came in.
    pub(crate) fn field(error: FieldError, over_http: bool) -> Self {
        let FieldError { part, kind, loc, msg, input, ctx } = error;
        let part = over_http.then(|| Value::from(part.as_str()));
        Self { kind, loc: part.into_iter().chain(loc).collect(), msg, input, ctx }
    }
}

/// What an error of the engine looks like from outside.
#[derive(Debug, PartialEq)]
pub(crate) enum Problem {
    /// Nothing is there.
    NotFound,
    /// The caller may not enter at this node.
    EntryForbidden(NodeId),
    /// The key is for other walkers or nodes.
    OutOfScope,
    /// What was given does not fit.
    Invalid(Vec<FieldError>),
    /// A run failed. `message` is safe to send.
    Failed { status: StatusCode, code: &'static str, message: String, run: Option<WalkerId> },
    /// The run cannot be acted on this way.
    RunState { code: &'static str, detail: String, state: State },
    /// The server cannot do it now, or at all.
    Refused { status: StatusCode, code: &'static str, detail: &'static str },
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = error.code();
        let refused = |status, detail| Self::Refused { status, code, detail };
        let problem = match &error {
            Error::UnknownWalker(_) | Error::EntryNotFound(_) => return Self::NotFound,
            Error::EntryForbidden(node) => return Self::EntryForbidden(node.clone()),
            Error::OutOfScope => return Self::OutOfScope,
            Error::Invalid(fields) => return Self::Invalid(fields.clone()),
            Error::Walker { code: failure, message, run } => Self::Failed {
                status: match failure {
                    ErrorCode::Conflict | ErrorCode::Cancelled => StatusCode::CONFLICT,
                    ErrorCode::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                },
                code,
                message: message.clone(),
                run: run.clone(),
            },
            Error::NotAllowed => refused(
                StatusCode::FORBIDDEN,
                "This run is not yours to act on. Send the run_token of its submission as X-Run-Token.",
            ),
            Error::RunState { state, .. } => {
                return Self::RunState { code, detail: error.to_string(), state: *state };
            }
            Error::KeyReused => refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "This Idempotency-Key was used for another request.",
            ),
            Error::TraverseTooLarge => refused(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE),
            Error::Busy(_) | Error::Hogged(_) => {
                refused(StatusCode::SERVICE_UNAVAILABLE, "The server is busy. Try again later.")
            }
            Error::MailNotSent(_) => {
                refused(StatusCode::SERVICE_UNAVAILABLE, "The mail could not be sent. Try again later.")
            }
            Error::Store(inner) => match inner {
                store::Error::Conflict(_) => Self::Failed {
                    status: StatusCode::CONFLICT,
                    code,
                    message: "Others changed the same elements at the same time.".to_owned(),
                    run: None,
                },
                store::Error::OutcomeUnknown(_) => {
                    refused(StatusCode::SERVICE_UNAVAILABLE, "Whether the request took effect is not known.")
                }
                store::Error::Full(_) => {
                    refused(StatusCode::INSUFFICIENT_STORAGE, "There is no room to store anything new.")
                }
                store::Error::Unavailable(_) | store::Error::Closed => {
                    refused(StatusCode::SERVICE_UNAVAILABLE, "The store is not available. Try again later.")
                }
                store::Error::NotANumber { .. }
                | store::Error::LeaseLost
                | store::Error::Open(_)
                | store::Error::Damaged(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL),
            },
            Error::Build(_) | Error::Config(_) | Error::Io { .. } => {
                refused(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
            }
        };
        tracing::warn!(%error, code, "a request failed");
        problem
    }
}

/// What is said of a traverse beyond its bounds.
pub(crate) const TOO_LARGE: &str = "The traverse reaches too many elements. Ask for less depth, name node_types or edge_types, or \
    read what there is up to the bound from /util/traverse-stream.";

const INTERNAL: &str = "The request failed inside the server.";

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => detail(StatusCode::NOT_FOUND, "Not Found"),
            Self::MethodNotAllowed(allow) => {
                let response = detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
                if allow.is_empty() { response } else { with_header(response, header::ALLOW, allow) }
            }
            Self::TooLarge(max) => {
                detail(StatusCode::PAYLOAD_TOO_LARGE, &format!("Request body is larger than {max} bytes"))
            }
            Self::BadForm(why) => detail(StatusCode::BAD_REQUEST, why),
            Self::BodyBroken => detail(StatusCode::BAD_REQUEST, "The request body ended early"),
            Self::TooSlow => detail(StatusCode::REQUEST_TIMEOUT, "The request body took too long"),
            Self::UpgradeRequired => with_header(
                detail(StatusCode::UPGRADE_REQUIRED, "A WebSocket is expected here"),
                header::UPGRADE,
                "websocket",
            ),
            Self::NotAuthenticated => detail(StatusCode::FORBIDDEN, "Not authenticated"),
            Self::BadScheme => detail(StatusCode::FORBIDDEN, "Invalid authentication credentials"),
            Self::Unauthorized => with_header(
                detail(StatusCode::UNAUTHORIZED, "Unauthorized"),
                header::WWW_AUTHENTICATE,
                "Bearer",
            ),
            Self::QueryToken => detail(
                StatusCode::FORBIDDEN,
                "A token in the query is not taken here: bring a ticket (POST /user/ticket), or the token as a \
                 subprotocol (bearer.<token>)",
            ),
            Self::Unprocessable(details) => {
                answer(StatusCode::UNPROCESSABLE_ENTITY, &Unprocessable { detail: details })
            }
            Self::Clash(why) => detail(StatusCode::CONFLICT, why),
            Self::BadLogin => {
                answer(StatusCode::BAD_REQUEST, &Message { message: "Invalid Email/Password!" })
            }
            Self::NotVerified => {
                detail(StatusCode::BAD_REQUEST, "Account not yet verified! Resending verification code...")
            }
            Self::AlreadyVerified => {
                answer(StatusCode::BAD_REQUEST, &Message { message: "Account is already verified!" })
            }
            Self::TooManyMails => with_header(
                detail(
                    StatusCode::TOO_MANY_REQUESTS,
                    "Too many mails to this address. Try again in a quarter of an hour.",
                ),
                header::RETRY_AFTER,
                "900",
            ),
            Self::NotDone(message) => answer(StatusCode::FORBIDDEN, &Message { message }),
            Self::TooManyLogins => with_header(
                detail(StatusCode::TOO_MANY_REQUESTS, "Too many failed logins. Try again in a minute."),
                header::RETRY_AFTER,
                "60",
            ),
            Self::NotOffered => {
                answer(StatusCode::NOT_IMPLEMENTED, &json!({ "message": "Feature not yet implemented!" }))
            }
            Self::BadProvider => detail(
                StatusCode::BAD_GATEWAY,
                "The sign-in provider did not answer as it should. Try again later.",
            ),
            Self::Engine(error) => Problem::from(error).into_response(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => Refusal::NotFound.into_response(),
            Self::OutOfScope => detail(StatusCode::FORBIDDEN, "Forbidden"),
            Self::EntryForbidden(node) => {
                let error = format!("You don't have access on target entry {node}!");
                answer(StatusCode::FORBIDDEN, &NoEntry { detail: NoAccess { error } })
            }
            Self::Invalid(fields) => {
                let details = fields.into_iter().map(|field| Detail::field(field, true)).collect();
                Refusal::Unprocessable(details).into_response()
            }
            Self::Failed { status, code, message, run } => {
                let mut response = answer(status, &Failed { errors: [&message], code, run: run.as_ref() });
                if let Some(run) = run {
                    response.extensions_mut().insert(run);
                }
                response
            }
            Self::RunState { code, detail, state } => {
                let refused = Refused { detail: &detail, code: Some(code), state: Some(state) };
                answer(StatusCode::CONFLICT, &refused)
            }
            Self::Refused { status, code, detail } => {
                let response = answer(status, &Refused { detail, code: Some(code), state: None });
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    with_header(response, header::RETRY_AFTER, "1")
                } else {
                    response
                }
            }
        }
    }
}

impl Problem {
    /// The WebSocket frame that answers an event of type `event`.
    pub(crate) fn frame(self, event: &str) -> Value {
        match self {
            Self::NotFound => json!({ "type": event, "error": "Not Found" }),
            Self::OutOfScope => json!({ "type": event, "error": "Forbidden" }),
            Self::EntryForbidden(node) => json!({
                "type": event, "error": format!("You don't have access on target entry {node}!"),
            }),
            Self::Invalid(fields) => {
                let details: Vec<_> = fields.into_iter().map(|field| Detail::field(field, false)).collect();
                json!({ "error": details })
            }
            Self::Failed { code, message, run, .. } => {
                json!({ "type": event, "error": message, "code": code, "run": run })
            }
            Self::RunState { code, detail, .. } => {
                json!({ "type": event, "error": detail, "code": code })
            }
            Self::Refused { code, detail, .. } => json!({ "type": event, "error": detail, "code": code }),
        }
    }
}

/// A JSON answer.
pub(crate) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => json_bytes(status, bytes),
        Err(error) => {
            // Maps with keys that are no text, say: nothing of ours, but a value of a walker may try.
            tracing::error!(%error, "an answer cannot be written as JSON");
            json_bytes(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("{{\"detail\":\"{INTERNAL}\"}}").into_bytes(),
            )
        }
    }
}

/// An answer that is JSON already.
pub(crate) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn detail(status: StatusCode, text: &str) -> Response {
    answer(status, &Refused { detail: text, code: None, state: None })
}

fn with_header(mut response: Response, name: HeaderName, value: &'static str) -> Response {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::walker::Part;

    fn check(error: Error, status: u16) {
        let text = error.to_string();
        let response = Refusal::from(error).into_response();
        assert_eq!(response.status().as_u16(), status, "{text}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }

    #[test]
    fn engine_errors_have_their_status() {
        let failed = |code| Error::Walker { code, message: "it failed".into(), run: None };
        check(Error::UnknownWalker("x".into()), 404);
        check(Error::Invalid(Vec::new()), 422);
        check(Error::EntryForbidden(NodeId::root(Uuid::nil())), 403);
        check(Error::EntryNotFound(NodeId::root(Uuid::nil()).into()), 404);
        check(failed(ErrorCode::WalkerFailed), 500);
        check(failed(ErrorCode::Conflict), 409);
        check(Error::TraverseTooLarge, 413);
        check(Error::Busy("queue".into()), 503);
        check(store::Error::Conflict(Vec::new()).into(), 409);
        check(store::Error::OutcomeUnknown("disk".into()).into(), 503);
        check(store::Error::Full("disk".into()).into(), 507);
        check(store::Error::Unavailable("away".into()).into(), 503);
        check(store::Error::Closed.into(), 503);
        check(store::Error::Damaged("secret".into()).into(), 500);
    }

    #[test]
    fn inner_text_is_not_sent() {
        let problem = Problem::from(Error::from(store::Error::Damaged("inner text".into())));
        assert!(!problem.frame("walker").to_string().contains("inner"));
    }

    #[test]
    fn fields_are_shown_below_their_part() {
        let error = FieldError {
            part: Part::Body,
            kind: "missing".into(),
            loc: vec!["a".into()],
            msg: "Field required".into(),
            input: json!({}),
            ctx: Value::Null,
        };
        let shown = serde_json::to_value(Detail::field(error, true)).unwrap();
        let wanted = json!({ "type": "missing", "loc": ["body", "a"], "msg": "Field required", "input": {} });
        assert_eq!(shown, wanted);
    }
}
