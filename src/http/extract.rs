//! What handlers take from a request: the caller and the body.

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, header},
};
use serde_json::{Map, Value, json};

use super::{
    Shared, json,
    problem::{Invalid, Problem},
};
use crate::runtime::Caller;

/// The bytes of a body, up to the bound. A larger one is refused, whatever its length header says.
pub(crate) async fn bytes(state: &Shared, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let bound = state.runtime.config().body_bytes_max;
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > bound) {
        return Err(Problem::TooLarge(bound));
    }
    to_bytes(body, bound).await.map_err(|_| Problem::TooLarge(bound))
}

/// The members of a JSON body; none for an empty one.
pub(crate) fn members(state: &Shared, bytes: &[u8]) -> Result<Option<Map<String, Value>>, Problem> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match json::parse(bytes, state.runtime.config().json_depth_max)? {
        Value::Object(members) => Ok(Some(members)),
        other => {
            let msg = "Input should be a valid dictionary";
            Err(Problem::Invalid(vec![Invalid::new("dict_type", vec![json!("body")], msg, other)]))
        }
    }
}

/// Whoever a token names; the public root without one.
pub(crate) async fn caller(state: &Shared, headers: &HeaderMap) -> Result<Caller, Problem> {
    match headers.get(header::AUTHORIZATION) {
        None => Ok(Caller::public()),
        Some(value) => {
            let value = value.to_str().map_err(|_| Problem::WrongScheme)?;
            let (scheme, token) = value.split_once(' ').ok_or(Problem::WrongScheme)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(Problem::WrongScheme);
            }
            state.users.caller(&state.runtime, token.trim()).await
        }
    }
}

/// Whoever a token names; refused without one.
pub(crate) async fn user(state: &Shared, headers: &HeaderMap) -> Result<Caller, Problem> {
    if headers.get(header::AUTHORIZATION).is_none() {
        return Err(Problem::NotAuthenticated);
    }
    caller(state, headers).await
}
