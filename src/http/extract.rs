//! What handlers receive: path segments, bounded bodies, callers.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Server, json,
    problem::{Detail, Refusal},
    tokens::Login,
};
use crate::{
    Error,
    config::Config,
    input::{self, Input},
    runtime::Caller,
    walker::Spec,
};

/// Segments of the path, decoded. What is not UTF-8 names nothing.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Server>> for Segments<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Server>) -> Result<Self, Refusal> {
        let Path(segments) = Path::from_request_parts(parts, state).await.map_err(|_| Refusal::NotFound)?;
        Ok(Self(segments))
    }
}

/// The query, by name. An empty value counts as absent; of two of one name the later one stands.
pub(crate) struct Parameters(BTreeMap<String, String>);

impl FromRequestParts<Arc<Server>> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Server>) -> Result<Self, Refusal> {
        let query = Query::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let Query(mut values) = query.map_err(|_| {
            Refusal::detail(Detail::new("query_invalid", vec!["query".into()], "The query cannot be read"))
        })?;
        values.retain(|_, value| !value.is_empty());
        Ok(Self(values))
    }
}

impl Parameters {
    /// One parameter as it was written.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// One parameter, read by `read`; refused as `kind` with `msg` when that gives nothing.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        kind: &str,
        msg: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => {
                let detail = Detail::new(kind, vec!["query".into(), name.into()], msg).input(text.into());
                Err(Refusal::detail(detail))
            }
        }
    }
}

/// Reads the body, at most as large and for as long as the settings allow.
pub(crate) async fn bytes(headers: &HeaderMap, body: Body, config: &Config) -> Result<Bytes, Refusal> {
    let whole = whole(headers, body, config.body_bytes_max);
    tokio::time::timeout(config.body_time_max, whole).await.unwrap_or(Err(Refusal::TooSlow))
}

/// One that came in a single piece, as nearly all do, is not copied.
async fn whole(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, Refusal> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    // Who waits to be told to go on is told no before anything is sent.
    if length.is_some_and(|length| length > max) && headers.contains_key(header::EXPECT) {
        return Err(Refusal::TooLarge(max));
    }
    let mut pieces = body.into_data_stream();
    let Some(first) = pieces.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(|_| Refusal::BodyBroken)?;
    let mut read = first.len();
    let mut whole: Option<Vec<u8>> = None;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Refusal::BodyBroken)?;
        read = read.saturating_add(piece.len());
        if read > max {
            // A client that is still sending would see a reset instead of the answer, so a little more is
            // read and thrown away.
            whole = None;
            if read > max.saturating_mul(DRAIN) {
                break;
            }
            continue;
        }
        whole.get_or_insert_with(|| first.to_vec()).extend_from_slice(&piece);
    }
    if read > max {
        return Err(Refusal::TooLarge(max));
    }
    Ok(whole.map_or(first, Bytes::from))
}

/// How many times the largest body is read before the connection of who sends more is cut.
const DRAIN: usize = 32;

/// Reads a body as a JSON object.
///
/// An empty one is an empty object, unless a member is `required`.
pub(crate) fn object(bytes: &[u8], depth_max: usize, required: bool) -> Result<Map<String, Value>, Refusal> {
    members(json(bytes, depth_max)?, required).map_err(|detail| Refusal::detail(*detail))
}

/// Reads a body as JSON; none when it is empty.
pub(crate) fn json(bytes: &[u8], depth_max: usize) -> Result<Option<Value>, Refusal> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    json::parse(bytes, depth_max, Some("body")).map(Some).map_err(|detail| Refusal::detail(*detail))
}

/// The members of a body. One that is not there has none, unless a member is `required`.
pub(crate) fn members(body: Option<Value>, required: bool) -> Result<Map<String, Value>, Box<Detail>> {
    match body {
        None if required => Err(Box::new(Detail::missing(vec!["body".into()], Value::Null))),
        None => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members),
        Some(other) => {
            let msg = "Input should be a valid dictionary or object to extract fields from";
            Err(Box::new(Detail::new("model_attributes_type", vec!["body".into()], msg).input(other)))
        }
    }
}

/// The login, and the body read as `T`. Who asks is looked at before what is asked.
pub(crate) async fn body<T: DeserializeOwned>(
    server: &Server,
    request: Request,
    spec: &Spec,
) -> Result<(Login, T), Refusal> {
    let (parts, body) = request.into_parts();
    let config = server.runtime.config();
    let body = json(&bytes(&parts.headers, body, config).await?, config.json_depth_max)?;
    let (_, login) = login(server, &parts.headers).await?;
    let members = members(body, true).map_err(|detail| Refusal::detail(*detail))?;
    Ok((login, input::read(Input::of(spec, members)).map_err(Error::Invalid)?))
}

/// Whoever asks, who must have a token.
pub(crate) async fn user(server: &Server, headers: &HeaderMap) -> Result<Caller, Refusal> {
    Ok(login(server, headers).await?.0)
}

/// Whoever asks, with the login, which there must be.
pub(crate) async fn login(server: &Server, headers: &HeaderMap) -> Result<(Caller, Login), Refusal> {
    let token = token(headers)?;
    server.tokens.verify(&server.runtime, token).await?.ok_or(Refusal::Unauthorized)
}

/// Whoever a ticket stands for, with the token of that login.
pub(crate) async fn by_ticket(server: &Server, ticket: &str) -> Result<(Caller, String), Refusal> {
    let token = server.tokens.redeem(&server.runtime, ticket).await?.ok_or(Refusal::Unauthorized)?;
    let (caller, _) = server.tokens.verify(&server.runtime, &token).await?.ok_or(Refusal::Unauthorized)?;
    Ok((caller, token))
}

/// The token of a request.
pub(crate) fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let header = headers.get(header::AUTHORIZATION).ok_or(Refusal::NotAuthenticated)?;
    let (scheme, token) = split(header.to_str().unwrap_or_default());
    if token.is_empty() {
        return Err(Refusal::NotAuthenticated);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::BadScheme);
    }
    Ok(token)
}

/// Whoever asks: without a token the public, with a bad one nobody.
pub(crate) async fn anybody(server: &Server, headers: &HeaderMap) -> Result<Caller, Refusal> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Ok(Caller::public());
    }
    user(server, headers).await.map_err(|refusal| match refusal {
        Refusal::NotAuthenticated | Refusal::BadScheme => Refusal::Unauthorized,
        other => other,
    })
}

fn split(header: &str) -> (&str, &str) {
    let (scheme, token) = header.trim().split_once(' ').unwrap_or((header, ""));
    (scheme, token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_objects() {
        assert_eq!(object(b" ", 8, false).unwrap(), Map::new());
        for (text, required) in [("", true), ("[]", false), ("null", false), ("{", false)] {
            assert!(matches!(object(text.as_bytes(), 8, required), Err(Refusal::Unprocessable(_))), "{text}");
        }
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let headers = HeaderMap::new();
        let config = Config { body_bytes_max: 5, ..Config::default() };
        assert_eq!(bytes(&headers, Body::from("12345"), &config).await.unwrap(), "12345");
        assert!(matches!(bytes(&headers, Body::from("123456"), &config).await, Err(Refusal::TooLarge(5))));
        let pieces = futures_util::stream::iter(["12", "34"].map(Ok::<_, std::io::Error>));
        assert_eq!(bytes(&headers, Body::from_stream(pieces), &config).await.unwrap(), "1234");
        let pieces = futures_util::stream::iter(["123", "456"].map(Ok::<_, std::io::Error>));
        assert!(matches!(
            bytes(&headers, Body::from_stream(pieces), &config).await,
            Err(Refusal::TooLarge(5))
        ));
    }
}
