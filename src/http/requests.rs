//! What is noted of every request: an id, which is answered as well, and a line of the log.
//!
//! Of what a request holds the line has method, path and id alone: neither its query, where tickets and keys may be, nor other headers
//! and the body. A webhook key in a path is left out of it.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use percent_encoding::percent_decode_str;
use tracing::{Instrument, Level, Span};
use walkabout_schema::WalkerId;

use crate::{
    env::Env,
    route::Template,
    runtime::Runtime,
    walker::{KeyPlace, Spec},
};

/// The header with the id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken from a client.
const ID_MAX: usize = 128;
/// The most bytes of a path in a line.
const PATH_MAX: usize = 1024;

/// What all requests share.
pub(crate) struct Requests {
    env: Env,
    is_logged: bool,
    /// Where in paths webhook keys stand.
    keys: Vec<BeforeKey>,
}

impl Requests {
    pub(crate) fn new(runtime: &Runtime) -> Self {
        let routes = runtime.routes();
        let before = |spec: &Spec, template: &Template| match spec.webhook_key() {
            Some(KeyPlace::Path(name)) => BeforeKey::of(template, name),
            _ => None,
        };
        let keys = routes
            .iter()
            .filter_map(|route| before(runtime.spec(route.walker.as_str())?, &route.template))
            .collect();
        Self { env: runtime.env().clone(), is_logged: runtime.config().log_requests, keys }
    }

    /// The client's id for the request, or one of ours.
    fn id(&self, headers: &HeaderMap) -> HeaderValue {
        let is_fit = |id: &&HeaderValue| id.len() <= ID_MAX && id.to_str().is_ok_and(is_visible);
        headers.get(REQUEST_ID).filter(is_fit).cloned().unwrap_or_else(|| {
            // Digits are fit for a header.
            HeaderValue::try_from(self.env.id().simple().to_string())
                .unwrap_or(const { HeaderValue::from_static("0") })
        })
    }

    /// The line of a request, when there is to be one.
    fn line(&self, request: &Request, span: &Span) -> Option<Line> {
        if !self.is_logged || !tracing::enabled!(Level::INFO) {
            return None;
        }
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        Some(Line {
            env: self.env.clone(),
            begun: self.env.instant(),
            span: span.clone(),
            method: request.method().clone(),
            path: self.shown(request.uri().path()),
            client: peer.map(|ConnectInfo(address)| address.ip()),
            is_told: false,
        })
    }

    /// A path as it may be seen.
    fn shown(&self, path: &str) -> String {
        let path = &path[..path.floor_char_boundary(PATH_MAX)];
        match self.keys.iter().find_map(|before| before.end_in(path)) {
            Some(open) => format!("{open}***"),
            None => path.to_owned(),
        }
    }
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The segments before a key; none stands for a variable.
struct BeforeKey(Vec<Option<String>>);

impl BeforeKey {
    /// Those before a variable.
    fn of(template: &Template, key: &str) -> Option<Self> {
        let number = template.variables().position(|name| name == key)? + 1;
        let shape = template.shape();
        let (before, _) = shape.split_once(&format!("/{{{number}}}"))?;
        let literal = |segment: &str| (!segment.starts_with('{')).then(|| segment.to_owned());
        Some(Self(before.split('/').skip(1).map(literal).collect()))
    }

    /// What of a path is before the key, however often its slashes are there, whatever of it is percent-encoded, slashes too, and
    /// whatever comes behind it: also a request that is misspelt holds a key.
    fn end_in<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut wanted = self.0.iter();
        let mut rest = path;
        loop {
            let (end, slash) = next_slash(rest);
            let segment = rest.get(..end)?;
            if !segment.is_empty() {
                match wanted.next() {
                    None => return path.strip_suffix(rest),
                    Some(Some(literal)) if !percent_decode_str(segment).eq(literal.bytes()) => return None,
                    Some(_) => {}
                }
            }
            rest = rest.get(end + slash..).filter(|_| slash > 0)?;
        }
    }
}

/// Where the next slash is, and how long it is; 0 at the end.
fn next_slash(path: &str) -> (usize, usize) {
    let mut places = (0..path.len()).filter_map(|at| match path.as_bytes().get(at..)? {
        [b'/', ..] => Some((at, 1)),
        [b'%', b'2', b'f' | b'F', ..] => Some((at, 3)),
        _ => None,
    });
    places.next().unwrap_or((path.len(), 0))
}

/// The line of a request; also of one whose client did not wait for the answer.
struct Line {
    env: Env,
    begun: Instant,
    span: Span,
    method: Method,
    path: String,
    /// The client, or a proxy before this server.
    client: Option<IpAddr>,
    is_told: bool,
}

impl Line {
    fn end(mut self, response: &Response) {
        let path = self.path.split('/').nth(2).and_then(|segment| segment.parse().ok());
        let run = response.extensions().get::<WalkerId>().cloned().or(path);
        self.tell(Some(response.status().as_u16()), run.as_ref());
    }

    fn tell(&mut self, status: Option<u16>, run: Option<&WalkerId>) {
        self.is_told = true;
        let took = self.env.instant().saturating_duration_since(self.begun);
        let Self { method, path, .. } = self;
        // The message stands as it is in a line for people, where some signs would end it or turn it round.
        let seen: Cow<'_, str> =
            if path.is_ascii() { path.as_str().into() } else { path.escape_debug().to_string().into() };
        self.span.in_scope(|| {
            tracing::info!(
                http.request.method = %method,
                url.path = path.as_str(),
                http.response.status_code = status,
                event.duration = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
                client.address = self.client.map(display),
                run = run.map(display),
                error = if status.is_none() { Some("the client did not wait for the answer") } else { None },
                "{method} {seen}"
            );
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(None, None);
        }
    }
}

/// Notes one request.
pub(crate) async fn note(State(requests): State<Arc<Requests>>, request: Request, next: Next) -> Response {
    let id = requests.id(request.headers());
    let span = tracing::info_span!("request", http.request.id = id.to_str().unwrap_or_default());
    let line = requests.line(&request, &span);
    let mut response = next.run(request).instrument(span).await;
    if let Some(line) = line {
        line.end(&response);
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_left_out_of_paths() {
        let before = BeforeKey(vec![Some("coins".to_owned()), None]);
        for (path, wanted) in [
            ("/coins/5/key", Some("/coins/5/")),
            ("/coins/5/key/more/", Some("/coins/5/")),
            ("//coins//5///key", Some("//coins//5///")),
            ("/%63oin%73/5/key", Some("/%63oin%73/5/")),
            ("%2Fcoins%2f5%2Fkey/more", Some("%2Fcoins%2f5%2F")),
            ("/coins/%35/k%65y", Some("/coins/%35/")),
            ("/coins/%/key", Some("/coins/%/")),
            ("/%6gcoins/5/key", None),
            ("/coins/5", None),
            ("/coins/5/", None),
            ("/other/5/key", None),
            ("/", None),
        ] {
            assert_eq!(before.end_in(path), wanted, "{path}");
        }
    }

    #[test]
    fn ids_are_short_and_visible() {
        for text in ["a", "4bf92f3577b34da6-a.b/c"] {
            assert!(is_visible(text), "{text}");
        }
        for text in ["", "a b", "a\tb", "ä"] {
            assert!(!is_visible(text), "{text}");
        }
    }
}
