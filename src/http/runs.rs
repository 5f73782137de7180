//! What can be read of runs: records, events, files.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use walkabout_schema::{
    Name, State, Status, WalkerId,
    wire::{EventPage, Record, RecordPage},
};

use super::{
    Server,
    extract::{self, Parameters, Segments},
    feed::{Feed, Item},
    openapi::{Describe, Place, Refused, Types},
    problem::{Refusal, answer},
};
use crate::{config::StatusWords, files::Opened, runtime::RunFilter};

/// Records in a page of `GET /walkers` when none are asked for, and at most.
const RECORDS: (usize, usize) = (50, 500);
/// Events in a page, and at most.
const EVENTS: (usize, usize) = (1000, 1000);
/// How often a silent event stream says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /walker/{walker_id}`. Unknown, foreign and malformed ids are told apart by nobody.
pub(crate) async fn record(
    Shared(server): Shared<Arc<Server>>,
    Segments(walker): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if !walker.contains(':') {
        return Err(Refusal::NotFound);
    }
    let caller = extract::anybody(&server, &headers).await?;
    let id: WalkerId = walker.parse().map_err(|_| Refusal::NotFound)?;
    let record = server.runtime.record(&caller, &id).await?.ok_or(Refusal::NotFound)?;
    Ok(answer_with_records(&server, &record))
}

/// The tag of operations on runs.
pub(crate) const RUNS: &str = "Run APIs";

/// How `GET /walker/{walker_id}` is documented.
pub(crate) fn describe_record(types: &mut Types) -> Describe {
    let (id, record) = (types.sent::<WalkerId>(), types.sent::<Record>());
    Describe::new(RUNS, "Show a run")
        .anybody()
        .takes(Place::Path, "walker_id", id, true, "The run.")
        .answers(200, "Its record.", record)
        .refuses(&[Refused::NotFound])
        .reads_store()
}

/// Any other method there: of a run's id, or of the name of a walker that there is not.
pub(crate) async fn no_record(Segments(walker): Segments<String>) -> Refusal {
    if walker.contains(':') { Refusal::MethodNotAllowed("GET,HEAD") } else { Refusal::NotFound }
}

/// `GET /walkers?status=&state=&name=&after=&limit=`: own runs, newest first.
pub(crate) async fn list(
    Shared(server): Shared<Arc<Server>>,
    parameters: Result<Parameters, Refusal>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = extract::user(&server, &headers).await?;
    let parameters = parameters?;
    let status = parameters.read(
        "status",
        "enum",
        "Input should be 'pending', 'running', 'completed' or 'failed'",
        Status::parse,
    )?;
    let state = parameters.read("state", "enum", &one_of_states(), State::parse)?;
    let name = parameters
        .read("name", "value_error", "Input should be the name of a walker", |text| Name::new(text).ok())?;
    let after = parameters
        .read("after", "value_error", "Input should be w:<name>:<uuid>", |text| text.parse().ok())?;
    let limit = limit(&parameters, RECORDS)?;
    let filter = RunFilter { name, status, state };
    Ok(answer_with_records(&server, &server.runtime.records(&caller, filter, after, limit).await?))
}

/// What is said of a state that is none, in Pydantic's words.
fn one_of_states() -> String {
    let [words @ .., last] = State::ALL.map(|state| format!("'{}'", state.as_str()));
    format!("Input should be {} or {last}", words.join(", "))
}

/// An answer with records: one, or a page of them. Their `schedule.status` is in the words of the settings.
fn answer_with_records(server: &Server, body: &impl Serialize) -> Response {
    if server.runtime.config().status_words == StatusWords::Own {
        return answer(StatusCode::OK, body);
    }
    let Ok(mut body) = serde_json::to_value(body) else { return answer(StatusCode::OK, body) };
    match body.get_mut("walkers").and_then(Value::as_array_mut) {
        Some(records) => records.iter_mut().for_each(translate),
        None => translate(&mut body),
    }
    answer(StatusCode::OK, &body)
}

fn translate(record: &mut Value) {
    let Some(status) = record.pointer_mut("/schedule/status") else { return };
    if let Some(own) = status.as_str().and_then(Status::parse) {
        *status = own.jac_cloud().into();
    }
}

/// How `GET /walkers` is documented.
pub(crate) fn describe_list(types: &mut Types) -> Describe {
    let (status, state) = (types.sent::<Status>(), types.sent::<State>());
    let (name, after, page) = (types.sent::<Name>(), types.sent::<WalkerId>(), types.sent::<RecordPage>());
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": RECORDS.1, "default": RECORDS.0 });
    Describe::new(RUNS, "List own runs")
        .about("The newest first.")
        .login()
        .takes(Place::Query, "status", status, false, "Those that `schedule.status` is this of.")
        .takes(Place::Query, "state", state, false, "Those that are in this state.")
        .takes(Place::Query, "name", name, false, "Those of this walker.")
        .takes(Place::Query, "after", after, false, "Those behind this one: `next` of the page before.")
        .takes(Place::Query, "limit", limit, false, "How many at most.")
        .answers(200, "A page of records.", page)
        .refuses(&[Refused::Invalid])
        .reads_store()
}

fn limit(parameters: &Parameters, (usual, max): (usize, usize)) -> Result<usize, Refusal> {
    let msg = format!("Input should be an integer from 1 to {max}");
    let given = parameters.read("limit", "int_range", &msg, |text| {
        text.parse().ok().filter(|limit| (1..=max).contains(limit))
    })?;
    Ok(given.unwrap_or(usual))
}

/// `GET /walker/{walker_id}/events`: a page by `after` and `limit`, or a stream when `Accept` asks for one. A browser's `EventSource`
/// can set no header, and brings a `ticket`.
pub(crate) async fn events(
    Shared(server): Shared<Arc<Server>>,
    Segments(walker): Segments<String>,
    parameters: Result<Parameters, Refusal>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let ticket = parameters.as_ref().ok().and_then(|parameters| parameters.text("ticket"));
    let (caller, token) = match ticket {
        Some(ticket) => {
            extract::by_ticket(&server, ticket).await.map(|(caller, token)| (caller, Some(token)))?
        }
        None => {
            let token = extract::token(&headers).ok().map(str::to_owned);
            (extract::anybody(&server, &headers).await?, token)
        }
    };
    let id: WalkerId = walker.parse().map_err(|_| Refusal::NotFound)?;
    let parameters = parameters?;
    let msg = "Input should be a whole number from 0";
    let after = parameters.read("after", "int_parsing", msg, |text| text.parse().ok())?.unwrap_or(0);
    if wants_stream(&headers) {
        // A browser that reconnects repeats the query of its first request, so the header counts.
        let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let feed = Feed::open(server.runtime.clone(), caller, &id, seen.unwrap_or(after)).await?;
        return stream_events(server, feed.ok_or(Refusal::NotFound)?, token).await;
    }
    let limit = limit(&parameters, EVENTS)?;
    let page = server.runtime.events(&caller, &id, after, limit).await?.ok_or(Refusal::NotFound)?;
    Ok(answer(StatusCode::OK, &page))
}

/// How `GET /walker/{walker_id}/events` is documented.
pub(crate) fn describe_events(types: &mut Types) -> Describe {
    let (id, page) = (types.sent::<WalkerId>(), types.sent::<EventPage>());
    let number = json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX, "default": 0 });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": EVENTS.1, "default": EVENTS.0 });
    let text = json!({ "type": "string" });
    Describe::new(RUNS, "Show or follow the events of a run")
        .about("A page, or a stream of server-sent events when `Accept` asks for `text/event-stream`.")
        .anybody()
        .takes(Place::Path, "walker_id", id, true, "The run.")
        .takes(Place::Query, "after", number.clone(), false, "Those with higher numbers.")
        .takes(Place::Query, "limit", limit, false, "How many of a page at most.")
        .takes(Place::Query, "ticket", text.clone(), false, "Stands for a login, once: see `/user/ticket`.")
        .takes(Place::Header, "Last-Event-ID", number, false, "Of a stream: the last number that was seen.")
        .sends(200, "The events.", vec![("application/json", page), ("text/event-stream", text)])
        .ends(204, "The run has ended, and a stream has nothing more to tell.")
        .refuses(&[Refused::NotFound, Refused::Invalid])
        .reads_store()
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|one| one.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("text/event-stream")))
}

/// The events of a feed until its end, or that of the login which asked.
async fn stream_events(
    server: Arc<Server>,
    mut feed: Feed,
    token: Option<String>,
) -> Result<Response, Refusal> {
    if feed.is_over().await? {
        // Else a browser would come back for more for ever.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let stopping = server.stopping.clone();
    let state = (server, token, feed, stopping);
    let pieces = stream::unfold(state, |(server, token, mut feed, mut stopping)| async move {
        let next = tokio::select! {
            next = tokio::time::timeout(KEEP_ALIVE, feed.next()) => next,
            () = stopping.wait() => return None,
        };
        if let Some(token) = &token
            && let Ok(None) = server.tokens.verify(&server.runtime, token).await
        {
            return None;
        }
        let text = match next {
            Ok(Ok(Some(item))) => sent_event(&item),
            Ok(Ok(None)) => return None,
            // The stream is cut: the client comes back with the last number that it saw.
            Ok(Err(error)) => return Some((Err(error), (server, token, feed, stopping))),
            Err(_) => ":\n\n".to_owned(),
        };
        Some((Ok(text), (server, token, feed, stopping)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// One server-sent event. JSON holds no raw line break, so one `data` line takes it.
fn sent_event(item: &Item) -> String {
    match item {
        Item::Gap { first } => format!("event: gap\ndata: {{\"type\":\"gap\",\"first\":{first}}}\n\n"),
        Item::Event { seq, text } => format!("id: {seq}\nevent: {}\ndata: {text}\n\n", kind(text)),
    }
}

/// The word of an event's kind, out of its frame.
fn kind(frame: &str) -> String {
    #[derive(Deserialize)]
    struct Outer {
        event: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_str::<Outer>(frame).map_or_else(|_| "message".to_owned(), |outer| outer.event.kind)
}

/// `GET /files/{walker_id}/{name}`: a file that a run wrote, to who may read the run.
pub(crate) async fn file(
    Shared(server): Shared<Arc<Server>>,
    Segments((walker, name)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = extract::anybody(&server, &headers).await?;
    let id: WalkerId = walker.parse().map_err(|_| Refusal::NotFound)?;
    // The runtime checks names too; a path out of the folder must not even reach it.
    if name.contains(['/', '\\', '\0']) || matches!(name.as_str(), "" | "." | "..") {
        return Err(Refusal::NotFound);
    }
    let Opened { length, pieces } =
        server.runtime.file(&caller, &id, &name).await?.ok_or(Refusal::NotFound)?;
    let mut response = Response::new(Body::from_stream(pieces));
    let (kind, inline) = content_type(&name);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&disposition(&name, inline)) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// How `GET /files/{walker_id}/{name}` is documented.
pub(crate) fn describe_file(types: &mut Types) -> Describe {
    let (id, name) = (types.sent::<WalkerId>(), json!({ "type": "string", "minLength": 1 }));
    Describe::new(RUNS, "Fetch a file that a run wrote")
        .anybody()
        .takes(Place::Path, "walker_id", id, true, "The run.")
        .takes(Place::Path, "name", name, true, "The file.")
        .sends(200, "The file, as what its name says.", vec![("*/*", json!({}))])
        .refuses(&[Refused::NotFound])
        .reads_store()
}

/// By extension: what it is sent as, and whether a browser may show it. A page that a walker wrote is never
/// run as ours.
fn content_type(name: &str) -> (&'static str, bool) {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        "pdf" => ("application/pdf", true),
        "csv" => ("text/csv; charset=utf-8", true),
        "json" => ("application/json", true),
        "txt" | "md" | "log" => ("text/plain; charset=utf-8", true),
        "png" => ("image/png", true),
        "jpg" | "jpeg" => ("image/jpeg", true),
        "html" | "htm" | "xhtml" | "svg" | "xml" => ("text/plain; charset=utf-8", false),
        _ => ("application/octet-stream", false),
    }
}

/// RFC 6266: a plain name as it is, any other in the extended form.
fn disposition(name: &str, inline: bool) -> String {
    let kind = if inline { "inline" } else { "attachment" };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.bytes().all(is_plain) {
        return format!("{kind}; filename=\"{name}\"");
    }
    let mut encoded = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{kind}; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_and_typed() {
        assert_eq!(content_type("a.PDF"), ("application/pdf", true));
        assert_eq!(content_type("a.html"), ("text/plain; charset=utf-8", false));
        assert_eq!(content_type("a"), ("application/octet-stream", false));
        assert_eq!(disposition("a-1.pdf", true), "inline; filename=\"a-1.pdf\"");
        assert_eq!(disposition("a \"ü\".csv", false), "attachment; filename*=UTF-8''a%20%22%C3%BC%22.csv");
    }

    #[test]
    fn streams_are_asked_for() {
        let accept =
            |text: &str| HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(text).unwrap())]);
        assert!(wants_stream(&accept("application/json, text/event-stream;q=0.9")));
        assert!(!wants_stream(&accept("*/*")));
    }

    #[test]
    fn events_are_lines() {
        let text = r#"{"type":"event","seq":3,"event":{"type":"progress","data":1}}"#;
        let item = Item::Event { seq: 3, text: text.into() };
        assert_eq!(sent_event(&item), format!("id: 3\nevent: progress\ndata: {text}\n\n"));
        assert_eq!(
            sent_event(&Item::Gap { first: 7 }),
            "event: gap\ndata: {\"type\":\"gap\",\"first\":7}\n\n"
        );
    }
}
