//! What others want of runs, over HTTP.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use walkabout_schema::{Name, State, Status, WalkerId};

use super::{
    Server, extract,
    problem::{Detail, Refusal, answer},
    walkers,
};
use crate::{
    govern::{Governed, Governor},
    runtime::{Act, RunFilter},
};

/// What can be asked of a run by a path of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Cancel,
    Pause,
    Resume,
    Retry,
    Complete,
}

impl Verb {
    /// What it asks of the store; none for those that need more.
    fn act(self) -> Option<Act> {
        match self {
            Self::Cancel => Some(Act::Cancel { reason: "the run was cancelled".to_owned() }),
            Self::Pause => Some(Act::Pause),
            Self::Resume => Some(Act::Resume),
            Self::Retry | Self::Complete => None,
        }
    }
}

/// `POST /walker/{walker_id}/{verb}`.
pub(crate) async fn one(
    server: Arc<Server>,
    walker: String,
    verb: Verb,
    request: Request,
) -> Result<Response, Refusal> {
    if !walker.contains(':') {
        return Err(Refusal::NotFound);
    }
    let (parts, body) = request.into_parts();
    let caller = extract::anybody(&server, &parts.headers).await?;
    let id: WalkerId = walker.parse().map_err(|_| Refusal::NotFound)?;
    let by = Governor { caller: &caller, run_token: run_token(&parts.headers) };
    let act = match verb.act() {
        Some(act) => act,
        None if verb == Verb::Retry => {
            let (again, run_token) = server.runtime.retry(by, &id).await?.ok_or(Refusal::NotFound)?;
            return Ok(answer(StatusCode::OK, &walkers::accepted(&again, run_token)));
        }
        None => {
            let config = server.runtime.config();
            let bytes = extract::bytes(&parts.headers, body, config).await?;
            let Completion { name, value } =
                read(extract::object(&bytes, config.json_depth_max, true)?.into())?;
            Act::Answer { name, value }
        }
    };
    let governed = server.runtime.act(by, &id, act).await?.ok_or(Refusal::NotFound)?;
    let state = server.runtime.record(&caller, &id).await?.map(|record| record.run.state);
    let done = json!({ "walker_id": id, "result": governed.as_str(), "state": state });
    Ok(answer(StatusCode::OK, &done))
}

/// What a run waits for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Completion {
    #[serde(rename = "for")]
    name: String,
    #[serde(default)]
    value: Value,
}

/// Which of the caller's own open runs are meant. Something has to be said, so that nobody cancels all by a mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Selection {
    #[serde(default)]
    all: bool,
    #[serde(default)]
    name: Option<Name>,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    after: Option<WalkerId>,
}

/// `POST /walkers/{verb}`: acts on the caller's own open runs.
pub(crate) async fn many(server: Arc<Server>, verb: Verb, request: Request) -> Result<Response, Refusal> {
    let act = verb.act().ok_or(Refusal::NotFound)?;
    let (parts, body) = request.into_parts();
    let caller = extract::user(&server, &parts.headers).await?;
    let config = server.runtime.config();
    let bytes = extract::bytes(&parts.headers, body, config).await?;
    let selection: Selection = read(extract::object(&bytes, config.json_depth_max, true)?.into())?;
    let Selection { all, name, status, state, dry_run, after } = selection;
    if !all && name.is_none() && status.is_none() && state.is_none() {
        let msg = "Say which runs: name, status or state; or all: true";
        return Err(Refusal::detail(Detail::new("missing", vec!["body".into()], msg)));
    }
    let filter = RunFilter { name, status, state };
    let many = server.runtime.act_on_many(&caller, filter, &act, dry_run, after).await?;
    let walkers: Vec<Value> = many
        .runs
        .iter()
        .map(|(id, governed)| json!({ "walker_id": id, "result": governed.map(Governed::as_str) }))
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "dry_run": dry_run, "walkers": walkers, "next": many.next })))
}

fn read<T: DeserializeOwned>(body: Value) -> Result<T, Refusal> {
    T::deserialize(&body).map_err(|error| {
        Refusal::detail(Detail::new("value_error", vec!["body".into()], error.to_string()).input(body))
    })
}

fn run_token(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-run-token")?.to_str().ok()
}
