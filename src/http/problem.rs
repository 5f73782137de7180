//! The one place that gives errors their HTTP status and shape.
//!
//! Jac Cloud's shapes: `detail` for refusals of the framework, `message` for those of user management, `errors` for a walker that
//! failed. No inner text goes out with a 5xx; the log has it.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use walkabout_schema::ErrorCode;

use crate::{Error, FieldError, store};

/// A request that is not answered as asked.
#[derive(Debug)]
pub(crate) enum Problem {
    /// 403: no token where one is needed.
    NotAuthenticated,
    /// 403: another scheme than Bearer.
    WrongScheme,
    /// 401: a token that is not, or no longer, good.
    Unauthorized,
    /// 404.
    NotFound,
    /// 413.
    TooLarge(usize),
    /// 422: what does not fit, and where.
    Invalid(Vec<Invalid>),
    /// 400 and the like of user management.
    Message(StatusCode, &'static str),
    /// A refusal with a sentence as its detail.
    Detail(StatusCode, String),
    /// What the runtime says.
    Runtime(Error),
}

/// One thing that does not fit, in Pydantic's shape.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Invalid {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) loc: Vec<Value>,
    pub(crate) msg: String,
    pub(crate) input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ctx: Option<Value>,
}

impl Invalid {
    pub(crate) fn new(kind: &str, loc: Vec<Value>, msg: &str, input: Value) -> Self {
        Self { kind: kind.to_owned(), loc, msg: msg.to_owned(), input, ctx: None }
    }

    /// A field of a walker, under the place that its members came from.
    pub(crate) fn of_field(place: Option<&str>, error: FieldError) -> Self {
        let loc = place.map(Value::from).into_iter().chain(error.loc).collect();
        Self { kind: error.kind, loc, msg: error.msg, input: error.input, ctx: None }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Runtime(error)
    }
}

fn detail(status: StatusCode, text: &str) -> (StatusCode, Value) {
    (status, json!({ "detail": text }))
}

/// Status and body of an error of the runtime.
fn of_runtime(error: Error) -> (StatusCode, Value) {
    let code = error.code();
    let coded = |status: StatusCode, text: &str| (status, json!({ "detail": text, "code": code }));
    match error {
        Error::UnknownWalker(_) | Error::EntryNotFound(_) => detail(StatusCode::NOT_FOUND, "Not Found"),
        Error::Invalid(errors) => {
            let errors: Vec<_> =
                errors.into_iter().map(|error| Invalid::of_field(Some("body"), error)).collect();
            (StatusCode::UNPROCESSABLE_ENTITY, json!({ "detail": errors }))
        }
        Error::EntryForbidden(id) => {
            let text = format!("You don't have access on target entry {id}!");
            (StatusCode::FORBIDDEN, json!({ "detail": { "error": text } }))
        }
        Error::Walker { code, message, run } => {
            let status = match code {
                ErrorCode::Conflict => StatusCode::CONFLICT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, json!({ "errors": [message], "code": code, "run": run }))
        }
        Error::Busy(why) => coded(StatusCode::SERVICE_UNAVAILABLE, &why),
        Error::Store(store::Error::Full(_)) => {
            coded(StatusCode::INSUFFICIENT_STORAGE, "there is too little room on the server's disk")
        }
        Error::Store(store::Error::OutcomeUnknown(_)) => {
            coded(StatusCode::SERVICE_UNAVAILABLE, "the outcome is unknown: look before you send it again")
        }
        Error::Store(store::Error::Unavailable(_)) => {
            coded(StatusCode::SERVICE_UNAVAILABLE, "the store is not available")
        }
        Error::Store(store::Error::Conflict(_)) => coded(StatusCode::CONFLICT, "changed by others meanwhile"),
        Error::Store(store::Error::LeaseLost | store::Error::Open(_) | store::Error::Damaged(_))
        | Error::Build(_)
        | Error::Config(_)
        | Error::Io { .. } => coded(StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
    }
}

impl Problem {
    fn parts(self) -> (StatusCode, Value) {
        match self {
            Self::NotAuthenticated => detail(StatusCode::FORBIDDEN, "Not authenticated"),
            Self::WrongScheme => detail(StatusCode::FORBIDDEN, "Invalid authentication credentials"),
            Self::Unauthorized => detail(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::NotFound => detail(StatusCode::NOT_FOUND, "Not Found"),
            Self::TooLarge(bound) => {
                detail(StatusCode::PAYLOAD_TOO_LARGE, &format!("Request body is larger than {bound} bytes"))
            }
            Self::Invalid(errors) => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "detail": errors })),
            Self::Message(status, message) => (status, json!({ "message": message })),
            Self::Detail(status, text) => detail(status, &text),
            Self::Runtime(error) => {
                let shown = format!("{error:?}");
                let (status, body) = of_runtime(error);
                if status.is_server_error() {
                    tracing::warn!(error = shown, status = status.as_u16(), "a request failed");
                }
                (status, body)
            }
        }
    }

    /// The sentence and the rest, for a WebSocket: what has no status there.
    pub(crate) fn into_frame(self, event: &str) -> Value {
        match self {
            Self::Invalid(errors) => json!({ "error": errors }),
            Self::Runtime(Error::UnknownWalker(_)) => {
                json!({ "type": event, "error": "Invalid request! Please use valid walker event!" })
            }
            Self::Runtime(Error::Invalid(errors)) => {
                let errors: Vec<_> =
                    errors.into_iter().map(|error| Invalid::of_field(Some("context"), error)).collect();
                json!({ "error": errors })
            }
            Self::Runtime(Error::EntryForbidden(id)) => {
                json!({ "type": event, "error": format!("You don't have access on target entry {id}!") })
            }
            Self::Runtime(Error::Walker { code, message, run }) => {
                json!({ "type": event, "error": message, "code": code, "run": run })
            }
            other => {
                let (_, mut body) = other.parts();
                let text = body.get_mut("detail").or(None).map_or(Value::from("internal error"), Value::take);
                json!({ "type": event, "error": text })
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, body) = self.parts();
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(crate) async fn not_found() -> Problem {
    Problem::NotFound
}

pub(crate) async fn method_not_allowed() -> Problem {
    Problem::Detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed".to_owned())
}
