//! Multipart bodies: their files go to disk as they come, and are never whole in memory.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    http::{HeaderMap, header},
};
use futures_util::Stream;
use multer::{Field, Multipart};

use super::{
    Server,
    places::{Place, Who},
    problem::Refusal,
};
use crate::{
    Error,
    config::Config,
    files::{Received, Spooling},
    store,
    walker::{FieldKind, Part, Spec},
};

/// Files of one request.
const FILES_MAX: usize = 100;
/// Parts of one request.
const PARTS_MAX: usize = 1000;
/// Bytes that the parser gets at once.
const PIECE: usize = 16 << 10;
/// What it may hold before it gives anything: the headers of a part, say.
const HELD_MAX: usize = 4 * PIECE;
/// The longest boundary, by RFC 2046.
const BOUNDARY_MAX: usize = 70;
/// The longest name and the longest media type of a file, in bytes.
const NAME_MAX: usize = 255;
/// The part that has the other fields.
const BODY: &str = "body";

/// What a multipart body has.
pub(crate) struct Form {
    /// It is kept until the walker has ended, or has what it was sent.
    pub(crate) _place: Place,
    /// The part `body`, with the other fields as JSON.
    pub(crate) body: Vec<u8>,
    /// The files, in order.
    pub(crate) files: Vec<Received>,
}

/// Whether a walker takes files from its caller.
pub(crate) fn takes_files(spec: &Spec) -> bool {
    spec.fields.iter().any(|field| is_file(spec, field.name))
}

fn is_file(spec: &Spec, name: &str) -> bool {
    let field = spec.field_of(name).filter(|field| field.kind != FieldKind::Excluded);
    field.is_some_and(|field| matches!(field.part, Part::File | Part::Files))
}

/// Whether a body is multipart.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("multipart/form-data"))
    })
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// Reads a multipart body, as large and for as long as the settings allow. Files that the walker does not take, and parts that are
/// neither, are read and thrown away.
pub(crate) async fn read(
    server: &Server,
    spec: &Spec,
    who: Who,
    headers: &HeaderMap,
    body: Body,
) -> Result<Form, Refusal> {
    let config = server.runtime.config();
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > config.upload_bytes_max) && headers.contains_key(header::EXPECT) {
        return Err(Refusal::TooLarge(config.upload_bytes_max));
    }
    let place = server.places.take(who)?;
    let boundary = multer::parse_boundary(content_type(headers).unwrap_or_default()).ok();
    let boundary = boundary.filter(|boundary| boundary.len() <= BOUNDARY_MAX);
    let boundary = boundary.ok_or(Refusal::BadForm("Missing boundary in multipart."))?;
    let pace = Arc::new(Pace::default());
    let pieces = Gently {
        body: body.into_data_stream(),
        left: config.upload_bytes_max.saturating_mul(2),
        waiting: Vec::new(),
        is_over: false,
        pace: Arc::clone(&pace),
    };
    let form = Form { _place: place, body: Vec::new(), files: Vec::new() };
    let mut reading = Reading { server, spec, read: 0, refused: None, form, pace };
    let all = reading.all(Multipart::new(pieces, boundary));
    let read = tokio::time::timeout(config.upload_time_max, all).await.unwrap_or(Err(Refusal::TooSlow));
    match (reading.refused, read) {
        // Also when the rest was not read to its end.
        (Some(refusal), _) | (None, Err(refusal)) => Err(refusal),
        (None, Ok(())) => Ok(reading.form),
    }
}

struct Reading<'s> {
    server: &'s Server,
    spec: &'s Spec,
    read: usize,
    /// Why the rest is only thrown away.
    refused: Option<Refusal>,
    form: Form,
    pace: Arc<Pace>,
}

impl Reading<'_> {
    /// Reads all parts. A client that is still sending would see a reset instead of the answer, so what follows something that is
    /// refused is read as well, up to a bound.
    async fn all(&mut self, mut form: Multipart<'_>) -> Result<(), Refusal> {
        let mut parts = 0;
        while let Some(field) = self.in_time(form.next_field()).await? {
            parts += 1;
            if parts > PARTS_MAX {
                self.refused.get_or_insert(Refusal::BadForm("Too many parts in multipart."));
                break;
            }
            let done = match field.name().map(str::to_owned) {
                Some(name) if self.refused.is_none() && is_file(self.spec, &name) => {
                    self.file(name, field).await?
                }
                Some(name) if self.refused.is_none() && name == BODY => self.body(field).await?,
                _ => self.skip(field).await?,
            };
            if !done {
                break;
            }
        }
        Ok(())
    }

    /// What the parser gives next. A client that sends nothing for a while is not waited for.
    async fn in_time<T>(&self, next: impl Future<Output = multer::Result<T>>) -> Result<T, Refusal> {
        let next = tokio::time::timeout(self.config().body_time_max, self.pace.next(next)).await;
        next.map_err(|_| Refusal::TooSlow)?.map_err(|error| broken(&error))
    }

    /// The next piece of a part.
    async fn piece(&mut self, field: &mut Field<'_>) -> Result<Option<Bytes>, Refusal> {
        let piece = self.in_time(field.chunk()).await?;
        self.read = self.read.saturating_add(piece.as_ref().map_or(0, Bytes::len));
        let max = self.config().upload_bytes_max;
        if self.read > max {
            self.refused.get_or_insert(Refusal::TooLarge(max));
        }
        Ok(piece)
    }

    fn config(&self) -> &Config {
        self.server.runtime.config()
    }

    async fn body(&mut self, mut field: Field<'_>) -> Result<bool, Refusal> {
        let max = self.config().body_bytes_max;
        let mut whole = Vec::new();
        while let Some(piece) = self.piece(&mut field).await? {
            whole.extend_from_slice(&piece);
            if whole.len() > max {
                self.refused.get_or_insert(Refusal::TooLarge(max));
            }
            if self.refused.is_some() {
                return self.skip(field).await;
            }
        }
        self.form.body = whole;
        Ok(true)
    }

    async fn file(&mut self, name: String, mut field: Field<'_>) -> Result<bool, Refusal> {
        let given = clipped(field.file_name().unwrap_or_default());
        let content_type = field.content_type().map_or("application/octet-stream", |kind| kind.as_ref());
        let content_type = clipped(content_type);
        if self.form.files.len() >= FILES_MAX {
            self.refused = Some(Refusal::BadForm("Too many files in multipart."));
            return self.skip(field).await;
        }
        // What is written to disk is room that others need.
        self.server.runtime.health()?;
        let max = self.config().file_bytes_max;
        let mut spooling = Spooling::begin(self.server.runtime.spools(), max).await.map_err(unwritten)?;
        while let Some(piece) = self.piece(&mut field).await? {
            match spooling.write(&piece).await {
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    self.refused.get_or_insert(Refusal::TooLarge(max));
                }
                written => written.map_err(unwritten)?,
            }
            if self.refused.is_some() {
                return self.skip(field).await;
            }
        }
        let spool = spooling.finish().await.map_err(unwritten)?;
        self.form.files.push(Received { field: name, name: given, content_type, spool });
        Ok(true)
    }

    /// Throws a part away. False when more was sent than is read of what is refused.
    async fn skip(&mut self, mut field: Field<'_>) -> Result<bool, Refusal> {
        let drained = self.config().upload_bytes_max.saturating_mul(2);
        while self.piece(&mut field).await?.is_some() {
            if self.read > drained {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn clipped(text: &str) -> String {
    let end = (0..=NAME_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

fn broken(error: &multer::Error) -> Refusal {
    match error {
        multer::Error::StreamReadFailed(_) => Refusal::BodyBroken,
        _ => Refusal::BadForm("There was an error parsing the body"),
    }
}

fn unwritten(source: io::Error) -> Refusal {
    let error = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::Store(store::Error::Full(format!("a file that was sent: {source}")))
        }
        _ => Error::Io { context: "writing a file that was sent".to_owned(), source },
    };
    error.into()
}

/// What the parser gets. By itself it takes all that comes before it looks at any.
#[derive(Default)]
struct Pace {
    /// It may have another piece.
    is_open: AtomicBool,
    /// It had one.
    gave: AtomicBool,
    /// Bytes since it last gave something.
    held: AtomicUsize,
}

impl Pace {
    /// What the parser gives next. It gets a piece only when it can do nothing with what it has.
    async fn next<T>(&self, next: impl Future<Output = T>) -> T {
        self.held.store(0, Ordering::Relaxed);
        let mut next = std::pin::pin!(next);
        std::future::poll_fn(|cx| {
            loop {
                self.is_open.store(false, Ordering::Relaxed);
                if let Poll::Ready(given) = next.as_mut().poll(cx) {
                    return Poll::Ready(given);
                }
                self.gave.store(false, Ordering::Relaxed);
                self.is_open.store(true, Ordering::Relaxed);
                match next.as_mut().poll(cx) {
                    Poll::Pending if self.gave.load(Ordering::Relaxed) => {}
                    // Where nothing came, the body wakes this.
                    polled => return polled,
                }
            }
        })
        .await
    }
}

/// A body that gives the parser a piece when it may have one.
struct Gently {
    body: BodyDataStream,
    /// Bytes that may still come.
    left: usize,
    waiting: Vec<u8>,
    is_over: bool,
    pace: Arc<Pace>,
}

impl Gently {
    /// Gathers what is there, up to a piece.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), axum::Error> {
        while self.waiting.len() < PIECE && !self.is_over {
            match Pin::new(&mut self.body).poll_next(cx) {
                Poll::Ready(Some(piece)) => {
                    let piece = piece?;
                    self.left = self
                        .left
                        .checked_sub(piece.len())
                        .ok_or_else(|| axum::Error::new("it is too long"))?;
                    self.waiting.extend_from_slice(&piece);
                }
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

impl Stream for Gently {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.pace.is_open.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        if let Err(error) = self.gather(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        if self.waiting.is_empty() {
            return if self.is_over { Poll::Ready(None) } else { Poll::Pending };
        }
        let end = PIECE.min(self.waiting.len());
        let rest = self.waiting.split_off(end);
        let piece = std::mem::replace(&mut self.waiting, rest);
        let held = self.pace.held.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
        if held > HELD_MAX {
            return Poll::Ready(Some(Err(axum::Error::new("the headers of a part do not end"))));
        }
        self.pace.gave.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Ok(piece.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_clipped_at_a_character() {
        assert_eq!(clipped("a.txt"), "a.txt");
        assert_eq!(clipped(&"\u{e4}".repeat(200)).len(), 254);
    }

    #[test]
    fn forms_are_told_by_their_type() {
        let of = |text: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]);
        assert!(is_form(&of("Multipart/Form-Data; boundary=a")));
        assert!(!is_form(&of("application/json")) && !is_form(&HeaderMap::new()));
    }

    fn gently(pieces: Vec<Vec<u8>>, left: usize) -> (Gently, Arc<Pace>) {
        let pieces = pieces.into_iter().map(Ok::<_, io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(pieces)).into_data_stream();
        let pace = Arc::new(Pace::default());
        (Gently { body, left, waiting: Vec::new(), is_over: false, pace: Arc::clone(&pace) }, pace)
    }

    fn next(pieces: &mut Gently) -> Poll<Option<Result<usize, axum::Error>>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut *pieces).poll_next(&mut cx).is_pending(), "it may have none");
        pieces.pace.is_open.store(true, Ordering::Relaxed);
        Pin::new(pieces).poll_next(&mut cx).map(|piece| piece.map(|piece| piece.map(|piece| piece.len())))
    }

    #[tokio::test]
    async fn the_parser_never_holds_much() {
        // Small ones are put together, large ones are divided.
        let (mut pieces, _) =
            gently([vec![vec![b'a'; 100]; 10], vec![vec![b'a'; 8 * PIECE]]].concat(), usize::MAX);
        for _ in 0..4 {
            assert!(matches!(next(&mut pieces), Poll::Ready(Some(Ok(PIECE)))));
        }
        assert!(matches!(next(&mut pieces), Poll::Ready(Some(Err(_)))), "the headers of a part do not end");
        let (mut long, _) = gently(vec![vec![b'a'; 10]; 3], 25);
        assert!(matches!(next(&mut long), Poll::Ready(Some(Err(_)))), "it is too long");
        let (mut short, _) = gently(vec![vec![b'a'; 10]; 3], 30);
        assert!(matches!(next(&mut short), Poll::Ready(Some(Ok(30)))));
        assert!(matches!(next(&mut short), Poll::Ready(None)));
    }

    /// However many small parts come at once: what has been parsed is not held.
    #[tokio::test]
    async fn many_parts_are_parsed_as_they_come() {
        let part = b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n".to_vec();
        let length = part.len();
        let (pieces, pace) = gently(vec![part.repeat(1000); 100], usize::MAX);
        let mut form = Multipart::new(pieces, "X");
        let mut got = 0;
        for parsed in 1..100_000 {
            let field = pace.next(form.next_field()).await.unwrap().unwrap();
            assert_eq!(field.name(), Some("a"));
            got += pace.held.load(Ordering::Relaxed);
            assert!(got <= parsed * length + 2 * PIECE, "{got} bytes for {parsed} parts");
        }
    }
}
