//! What the caller of a walker gets when it has ended: its reports in an envelope, or what it gave in their place.

use std::io::Write;

use axum::{
    body,
    extract::ws::Message,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response as Answer,
};
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use walkabout_schema::ErrorCode;

use super::{
    problem::{answer, json_bytes},
    shapes::Failed,
};
use crate::walker::{Body, Response};

/// The answer to a request, under that status.
pub(crate) fn done(status: u16, reports: &[Value], response: Option<Response>) -> Answer {
    let (code, is_empty) = match status {
        // These cannot have a body.
        204 | 205 | 304 => (StatusCode::from_u16(status).unwrap_or(StatusCode::NO_CONTENT), true),
        // Nor can an answer end with these: a client would wait for the rest. This is the nearest that has no body.
        100..200 => (StatusCode::NO_CONTENT, true),
        _ => (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), false),
    };
    let mut answer = match response {
        Some(response) => custom(code, response),
        None => match envelope(status, reports) {
            Ok(bytes) => json_bytes(code, bytes),
            Err(error) => return unwritable(&error),
        },
    };
    if is_empty {
        *answer.body_mut() = body::Body::empty();
        answer.headers_mut().remove(header::CONTENT_TYPE);
        answer.headers_mut().remove(header::CONTENT_LENGTH);
    }
    answer
}

fn unwritable(error: &serde_json::Error) -> Answer {
    tracing::error!(%error, "reports cannot be written as JSON");
    let code = ErrorCode::WalkerFailed.as_str();
    let failed = Failed { errors: ["The reports are no JSON."], code, run: None };
    answer(StatusCode::INTERNAL_SERVER_ERROR, &failed)
}

/// A custom response. What stands in it was checked when the walker gave it.
fn custom(code: StatusCode, response: Response) -> Answer {
    let Response { content_type, headers, body, status: _ } = response;
    let mut length = None;
    let body = match body {
        Body::Json(value) => match serde_json::to_vec(&value) {
            Ok(bytes) => body::Body::from(bytes),
            Err(error) => return unwritable(&error),
        },
        Body::Bytes(bytes) => body::Body::from(bytes),
        Body::Stream(pieces) => body::Body::from_stream(pieces),
        Body::Kept(opened) => {
            length = Some(opened.length);
            body::Body::from_stream(opened.pieces)
        }
    };
    let mut answer = Answer::new(body);
    *answer.status_mut() = code;
    let fields = answer.headers_mut();
    // The type that the walker named counts, whatever a browser makes of the bytes.
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.extend(length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))));
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            fields.append(name, value);
        }
    }
    if let Ok(value) = HeaderValue::try_from(content_type) {
        fields.insert(header::CONTENT_TYPE, value);
    }
    answer
}

/// What a plain walker is answered with, for documents.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ContextResponse {
    /// 200, or what the walker set; that of the answer itself.
    status: u16,
    /// What it reported, in order.
    reports: Vec<Value>,
}

/// The body of a plain walker's answer, a [`ContextResponse`] written straight to bytes.
pub(crate) fn envelope(status: u16, reports: &[Value]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64);
    write!(bytes, "{{\"status\":{status},\"reports\":").map_err(serde_json::Error::io)?;
    serde_json::to_writer(&mut bytes, reports)?;
    bytes.push(b'}');
    Ok(bytes)
}

/// The answer to an event of a WebSocket, at most so long: JSON and texts as JSON, anything else as a binary frame.
///
/// # Errors
/// A sentence for the client.
pub(crate) async fn frame(
    status: u16,
    reports: &[Value],
    response: Option<Response>,
    max: usize,
) -> Result<Message, String> {
    let no_json = |error: serde_json::Error| {
        tracing::error!(%error, "reports cannot be written as JSON");
        "The reports are no JSON.".to_owned()
    };
    let Some(response) = response else {
        let bytes = envelope(status, reports).map_err(no_json)?;
        return Ok(Message::Text(String::from_utf8_lossy(&bytes).into_owned().into()));
    };
    let mut pieces = match response.body {
        Body::Json(value) => return Ok(Message::Text(value.to_string().into())),
        Body::Bytes(bytes) => return shown(&response.content_type, bytes, max),
        Body::Stream(pieces) => pieces,
        Body::Kept(opened) => opened.pieces,
    };
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            tracing::warn!(%error, "a response broke off");
            "The response broke off.".to_owned()
        })?;
        whole.extend_from_slice(&piece);
        if whole.len() > max {
            break;
        }
    }
    shown(&response.content_type, whole, max)
}

/// A text as JSON, anything else as it is.
fn shown(content_type: &str, bytes: Vec<u8>, max: usize) -> Result<Message, String> {
    if bytes.len() > max {
        return Err(format!("The response has more than {max} bytes: ask for it over HTTP."));
    }
    if !content_type.starts_with("text/") {
        return Ok(Message::Binary(bytes.into()));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Message::Text(Value::from(text).to_string().into())),
        Err(bytes) => Ok(Message::Binary(bytes.into_bytes().into())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_answers() {
        assert_eq!(envelope(200, &[]).unwrap(), br#"{"status":200,"reports":[]}"#);
        assert_eq!(envelope(201, &[json!({ "a": 1 })]).unwrap(), br#"{"status":201,"reports":[{"a":1}]}"#);
        for (status, wanted) in [(200, 200), (418, 418), (204, 204), (304, 304), (101, 204), (0, 500)] {
            assert_eq!(done(status, &[], None).status().as_u16(), wanted);
        }
        assert!(!done(204, &[], None).headers().contains_key("content-type"));
        assert!(!done(304, &[], Some(Response::text("a"))).headers().contains_key("content-type"));
    }

    #[tokio::test]
    async fn frames() {
        let shown = async |response| match frame(200, &[], Some(response), 8).await {
            Ok(Message::Text(text)) => text.to_string(),
            Ok(Message::Binary(bytes)) => format!("{:?}", bytes.to_vec()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => error,
        };
        assert_eq!(shown(Response::json([1, 2]).unwrap()).await, "[1,2]");
        assert_eq!(shown(Response::html("<p>")).await, "\"<p>\"");
        assert_eq!(shown(Response::bytes("image/png", [1, 2])).await, "[1, 2]");
        let pieces = || futures_util::stream::iter([Ok(b"ab".to_vec()), Ok(b"cd".to_vec())]);
        assert_eq!(shown(Response::stream("text/plain", pieces())).await, "\"abcd\"");
        let endless = futures_util::stream::repeat_with(|| Ok(b"ab".to_vec()));
        assert!(shown(Response::stream("text/plain", endless)).await.contains("more than 8 bytes"));
    }
}
