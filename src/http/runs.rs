//! Reading runs: records, lists, events, files.

use std::{convert::Infallible, path::Path as FilePath};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event as Sse, KeepAlive, Sse as SseResponse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use walkabout_schema::{Name, Status, WalkerId, wire::EventFrame};

use super::{
    Shared, extract,
    problem::{Invalid, Problem},
};
use crate::runtime::{Caller, Runtime};

/// A record; unknown, foreign and malformed ids look alike.
pub(crate) async fn record(
    State(state): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = extract::caller(&state, &headers).await?;
    if !id.contains(':') {
        // A walker's name: it is called by POST.
        return Err(if state.runtime.spec(&id).is_some_and(|spec| !spec.is_private()) {
            Problem::Detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed".to_owned())
        } else {
            Problem::NotFound
        });
    }
    let id: WalkerId = id.parse().map_err(|_| Problem::NotFound)?;
    let record = state.runtime.record(&caller, &id).await?.ok_or(Problem::NotFound)?;
    Ok(Json(record).into_response())
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    status: Option<String>,
    name: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

fn invalid(parameter: &str, kind: &str, msg: String, input: &str) -> Problem {
    Problem::Invalid(vec![Invalid::new(kind, vec![json!("query"), json!(parameter)], &msg, json!(input))])
}

fn number(parameter: &str, text: Option<&str>, default: u64, max: u64) -> Result<u64, Problem> {
    let Some(text) = text else { return Ok(default) };
    let bad =
        || invalid(parameter, "int_parsing", format!("Input should be a whole number from 0 to {max}"), text);
    text.parse::<u64>().ok().filter(|number| *number <= max).ok_or_else(bad)
}

/// The caller's own runs.
pub(crate) async fn list(
    State(state): State<Shared>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = extract::user(&state, &headers).await?;
    let status = query.status.as_deref().map(|text| {
        let parsed = serde_json::from_value::<Status>(Value::from(text));
        let msg = "Input should be 'pending', 'running', 'completed' or 'failed'".to_owned();
        parsed.map_err(|_| invalid("status", "enum", msg, text))
    });
    let name = query.name.as_deref().map(|text| {
        Name::new(text).map_err(|error| invalid("name", "value_error", format!("Value error, {error}"), text))
    });
    let after = query.after.as_deref().map(|text| {
        text.parse::<WalkerId>()
            .map_err(|error| invalid("after", "value_error", format!("Value error, {error}"), text))
    });
    let limit = number("limit", query.limit.as_deref(), 50, 500)?;
    let limit = usize::try_from(limit).unwrap_or(50).max(1);
    let page = state
        .runtime
        .records(&caller, name.transpose()?, status.transpose()?, after.transpose()?, limit)
        .await?;
    Ok(Json(page).into_response())
}

#[derive(Deserialize)]
pub(crate) struct EventsQuery {
    after: Option<String>,
    limit: Option<String>,
}

/// Events by number: a page, or a stream for who accepts one.
pub(crate) async fn events(
    State(state): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = extract::caller(&state, &headers).await?;
    let id: WalkerId = id.parse().map_err(|_| Problem::NotFound)?;
    let after = number("after", query.after.as_deref(), 0, u64::MAX)?;
    let limit = usize::try_from(number("limit", query.limit.as_deref(), 100, 1000)?).unwrap_or(100).max(1);
    let wants = |header| headers.get(header).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if wants(header::ACCEPT).is_some_and(|accept| accept.contains("text/event-stream")) {
        let after = wants(header::HeaderName::from_static("last-event-id"))
            .and_then(|id| id.parse().ok())
            .unwrap_or(after);
        let feed = Feed::open(&state.runtime, caller, id, after).await?.ok_or(Problem::NotFound)?;
        return Ok(SseResponse::new(frames(feed)).keep_alive(KeepAlive::default()).into_response());
    }
    let page = state.runtime.events(&caller, &id, after, limit).await?.ok_or(Problem::NotFound)?;
    Ok(Json(page).into_response())
}

fn frames(feed: Feed) -> impl Stream<Item = Result<Sse, Infallible>> {
    stream::unfold(feed, |mut feed| async move {
        let item = feed.next().await?;
        Some((Ok(item.sse()), feed))
    })
}

/// One thing that a follower gets.
pub(crate) enum Item {
    /// An event, as its WebSocket frame.
    Event { seq: u64, text: std::sync::Arc<str> },
    /// Events before this number are no longer kept.
    Gap { first: u64 },
}

impl Item {
    fn sse(&self) -> Sse {
        match self {
            Self::Event { seq, text } => Sse::default().id(seq.to_string()).data(&**text),
            Self::Gap { first } => Sse::default().data(json!({ "type": "gap", "first": first }).to_string()),
        }
    }
}

/// The events of a run from a number on: from the store, then live, without a gap or a repetition. Ends after the last one.
pub(crate) struct Feed {
    runtime: Runtime,
    caller: Caller,
    id: WalkerId,
    after: u64,
    live: tokio::sync::broadcast::Receiver<crate::publish::Frame>,
    ready: std::collections::VecDeque<Item>,
    must_read: bool,
    is_over: bool,
}

/// Events read from the store at once.
const PAGE: usize = 256;

impl Feed {
    /// None when the run is unknown or the caller may not read it.
    pub(crate) async fn open(
        runtime: &Runtime,
        caller: Caller,
        id: WalkerId,
        after: u64,
    ) -> Result<Option<Self>, crate::Error> {
        // Follow first: what happens while the store is read waits in the receiver.
        let Some(live) = runtime.follow(&caller, &id).await? else { return Ok(None) };
        let (runtime, ready) = (runtime.clone(), std::collections::VecDeque::new());
        Ok(Some(Self { runtime, caller, id, after, live, ready, must_read: true, is_over: false }))
    }

    /// The next item; none after the last event of the run, or when the store fails.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing: the number of the last item given is kept.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            if self.is_over {
                return None;
            }
            if self.must_read {
                self.read().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(frame) if frame.seq <= self.after => {}
                Ok(frame) if frame.seq == self.after + 1 => {
                    self.after = frame.seq;
                    self.is_over = frame.last;
                    return Some(Item::Event { seq: frame.seq, text: frame.text });
                }
                // Lagged, or a number was passed over: the store has what is missing.
                Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => self.must_read = true,
            }
        }
    }

    async fn read(&mut self) -> Option<()> {
        let page = self.runtime.events(&self.caller, &self.id, self.after, PAGE).await.ok()??;
        if page.first > self.after + 1 {
            self.ready.push_back(Item::Gap { first: page.first });
        }
        for event in page.events {
            self.after = event.seq;
            self.is_over = event.event.is_final();
            let (seq, frame) = (event.seq, EventFrame::new(self.id.clone(), event));
            let text = serde_json::to_string(&frame).ok()?.into();
            self.ready.push_back(Item::Event { seq, text });
        }
        // With nothing more in the store what comes next comes live.
        self.must_read = page.next.is_some();
        Some(())
    }
}

/// A file that a run wrote. Never shown in the page of the server: a walker's file is not the server's word.
pub(crate) async fn file(
    State(state): State<Shared>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = extract::caller(&state, &headers).await?;
    let id: WalkerId = id.parse().map_err(|_| Problem::NotFound)?;
    let path = state.runtime.file(&caller, &id, &name).await?.ok_or(Problem::NotFound)?;
    let file = tokio::fs::File::open(&path).await.map_err(|_| Problem::NotFound)?;
    let length = file.metadata().await.map_err(|_| Problem::NotFound)?.len();
    let chunks = stream::unfold(file, |mut file| async move {
        use tokio::io::AsyncReadExt;
        let mut chunk = vec![0; 64 << 10];
        match file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                Some((Ok(chunk), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, content_type(&name).to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(chunks.boxed())).into_response())
}

fn content_type(name: &str) -> &'static str {
    match FilePath::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("pdf") => "application/pdf",
        Some("json") => "application/json",
        Some("csv") => "text/csv; charset=utf-8",
        Some("txt" | "html" | "htm" | "svg" | "js") => "text/plain; charset=utf-8",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}
