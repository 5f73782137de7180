//! What a walker answers with in the place of its reports.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde_json::Value;
use walkabout_schema::Reply;

use super::{Failure, fail};
use crate::files::{Opened, Pieces};

/// Headers of one answer, and bytes of all of them.
const HEADERS_MAX: usize = 64;
const HEADERS_BYTES_MAX: usize = 8 << 10;

/// What frames the answer, or is said with its type: nobody else may say it.
const RESERVED: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a walker answers with in the place of its reports: given to [`Context::respond`](super::Context::respond).
pub struct Response {
    pub(crate) status: Option<u16>,
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// What is sent.
pub(crate) enum Body {
    Json(Value),
    Bytes(Vec<u8>),
    Stream(Pieces),
    /// It was kept, and is read again.
    Kept(Opened),
}

impl Response {
    fn new(content_type: impl Into<String>, body: Body) -> Self {
        Self { status: None, content_type: content_type.into(), headers: Vec::new(), body }
    }

    /// A value, as JSON. The run's result is the value itself.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn json(value: impl Serialize) -> Result<Self, Failure> {
        Ok(Self::new("application/json", Body::Json(serde_json::to_value(value)?)))
    }

    /// A page. It is sent as it is: what others wrote into the graph has to be escaped by then.
    pub fn html(page: impl Into<String>) -> Self {
        Self::bytes("text/html; charset=utf-8", page.into())
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", text.into())
    }

    /// Bytes of a media type.
    pub fn bytes(content_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(content_type, Body::Bytes(bytes.into()))
    }

    /// Pieces of a media type, each sent when it is there. They are asked for by threads that serve others too, so the stream must not
    /// compute or block: that is for the walker to do before. A plain walker's are asked for when its changes are committed, and not at
    /// all when nobody waits any more. Those of a run that is recorded are kept in a file of it first, and are there before its end.
    /// An error cuts the answer off, or fails the attempt.
    pub fn stream(
        content_type: impl Into<String>,
        pieces: impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static,
    ) -> Self {
        Self::new(content_type, Body::Stream(pieces.boxed()))
    }

    /// Sends the caller to another place, by GET (303).
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", "").status(303).header("location", location)
    }

    /// The HTTP status, as [`Context::status`](super::Context::status).
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds a header: `cache-control`, `content-disposition` and the like, not what frames the answer. A `set-cookie` is not kept with a
    /// run that is recorded.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// What can be sent.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let kind = self.content_type.split(';').next().unwrap_or_default();
        if !is_value(&self.content_type) || !is_media_type(kind.trim_end()) {
            return Err(fail(format!("{:?} is no media type: write it as text/html", self.content_type)));
        }
        let bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.headers.len() > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
            return Err(fail(format!(
                "a response has {} headers in {bytes} bytes; at most are {HEADERS_MAX} in {HEADERS_BYTES_MAX}",
                self.headers.len()
            )));
        }
        for (name, value) in &self.headers {
            if !is_token(name) || !is_value(value) {
                return Err(fail(format!("{name:?}: {value:?} is no header")));
            }
            if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(fail(format!("the header {name} is not for walkers to set")));
            }
        }
        Ok(())
    }

    /// What is kept of it, with the name of the file that has its body.
    pub(crate) fn reply(&self, file: Option<String>) -> Reply {
        let mut headers = self.headers.clone();
        // What is kept is shown to all who may read the run, and sent again to who repeats a request.
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("set-cookie"));
        Reply { content_type: self.content_type.clone(), headers, status: self.status, file }
    }

    /// As it was given once.
    pub(crate) fn again(reply: Reply, body: Body) -> Self {
        let Reply { content_type, headers, status, file: _ } = reply;
        Self { status, content_type, headers, body }
    }
}

/// The ending of a file of this media type: one that is served as such.
pub(crate) fn extension(content_type: &str) -> &'static str {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => "json",
        "application/pdf" => "pdf",
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/plain" => "txt",
        _ => "bin",
    }
}

/// A media type of RFC 9110, §8.3.1, without parameters.
pub(crate) fn is_media_type(text: &str) -> bool {
    text.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// A token of RFC 9110, §5.6.2.
fn is_token(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_allowed)
}

/// A field value of RFC 9110, §5.5, in visible ASCII.
fn is_value(value: &str) -> bool {
    value.trim() == value && value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// A response on its way through an attempt, and those that repeat it after a conflict.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    /// Of a plain walker: there once; its status beside it.
    Once(Option<u16>, Arc<Mutex<Option<Response>>>),
    /// Of a recorded run: its body is a file of it, or the result.
    Kept(Box<Reply>),
}

impl Given {
    pub(crate) fn once(response: Response) -> Self {
        Self::Once(response.status, Arc::new(Mutex::new(Some(response))))
    }

    /// What goes to who waits for a plain walker.
    pub(crate) fn take(self) -> Option<Response> {
        match self {
            Self::Once(_, response) => response.lock().unwrap_or_else(PoisonError::into_inner).take(),
            Self::Kept(_) => None,
        }
    }

    /// What goes to the store.
    pub(crate) fn kept(self) -> Option<Reply> {
        match self {
            Self::Kept(reply) => Some(*reply),
            Self::Once(..) => None,
        }
    }

    /// The HTTP status that it came with.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Once(status, _) => *status,
            Self::Kept(reply) => reply.status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_an_answer_is_not_for_walkers() {
        let fine =
            Response::html("<p>").header("cache-control", "no-store").header("set-cookie", "a=b; HttpOnly");
        assert!(fine.check().is_ok());
        for (name, value) in [
            ("Content-Length", "1"),
            ("transfer-encoding", "chunked"),
            ("a b", "c"),
            ("", "c"),
            ("a", "b\r\nset-cookie: c"),
            ("a", "\u{fc}"),
        ] {
            assert!(Response::text("").header(name, value).check().is_err(), "{name}: {value}");
        }
        for wrong in ["html", "/", "text/", "text/html/5", "text html/5", "text/html\r\n", "; charset=a/b"] {
            assert!(Response::bytes(wrong, "").check().is_err(), "{wrong}");
        }
        assert!(Response::bytes("text/html ; charset=utf-8", "").check().is_ok());
        let many = (0..65).fold(Response::text(""), |response, n| response.header(format!("a{n}"), "b"));
        assert!(many.check().is_err());
        assert!(Response::text("").header("a", "b".repeat(9000)).check().is_err());
    }
}
