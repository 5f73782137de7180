//! What others want of runs, over HTTP.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use walkabout_schema::{Name, State, Status, WalkerId};

use super::{
    Server, extract,
    openapi::{Describe, Place, Refused, Types},
    problem::{Detail, Refusal, answer},
    runs::RUNS,
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
    Ok(answer(StatusCode::OK, &Done { walker_id: id, result: governed.as_str(), state }))
}

/// What came of an act.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Governed")]
struct Done {
    walker_id: WalkerId,
    /// `done`, or how far it is.
    result: &'static str,
    /// The state of the run now; null when it may not be read any more.
    state: Option<State>,
}

/// How `POST /walker/{walker_id}/{verb}` is documented.
pub(crate) fn describe_one(types: &mut Types, verb: Verb) -> Describe {
    let (summary, about) = match verb {
        Verb::Cancel => ("Cancel a run", "It ends as cancelled, at its next await at the latest."),
        Verb::Pause => ("Pause a run", "It is held at its next checkpoint until it is resumed."),
        Verb::Resume => ("Resume a run", "A run that is paused goes on."),
        Verb::Retry => {
            ("Begin a run again", "A run that has ended is submitted once more, as a run of its own.")
        }
        Verb::Complete => ("Answer a run", "Gives the answer that a run waits for."),
    };
    let (id, token) = (types.sent::<WalkerId>(), json!({ "type": "string" }));
    let about_token = "What the submission of a run that nobody owns was answered with.";
    let operation = Describe::new(RUNS, summary)
        .about(about)
        .anybody()
        .takes(Place::Path, "walker_id", id, true, "The run.")
        .takes(Place::Header, "X-Run-Token", token, false, about_token)
        .refuses(&[Refused::Forbidden, Refused::NotFound, Refused::Conflict])
        .writes();
    match verb {
        Verb::Retry => {
            let accepted = types.sent::<walkers::Accepted<'_>>();
            operation.answers(200, "The new run.", accepted)
        }
        _ => {
            let done = types.sent::<Done>();
            let operation = operation.answers(200, "What came of it.", done);
            if verb == Verb::Complete { operation.body(types.read::<Completion>(), true) } else { operation }
        }
    }
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
    let walkers = many
        .runs
        .into_iter()
        .map(|(walker_id, governed)| OneOfMany { walker_id, result: governed.map(Governed::as_str) });
    let next = many.next;
    Ok(answer(StatusCode::OK, &DoneToMany { dry_run, walkers: walkers.collect(), next }))
}

/// What came of an act on many runs.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "GovernedMany")]
struct DoneToMany {
    /// Nothing was done.
    dry_run: bool,
    /// The runs that are meant, some at a time.
    walkers: Vec<OneOfMany>,
    /// What to give as `after` for the next ones; null when there are no more.
    next: Option<WalkerId>,
}

/// One of them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "GovernedOne")]
struct OneOfMany {
    walker_id: WalkerId,
    /// What came of it; null when nothing was done.
    result: Option<&'static str>,
}

/// A [`Selection`], as documents show it: something has to be said.
fn selection_schema(types: &mut Types) -> Value {
    let truth = json!({ "type": "boolean", "default": false });
    let or_null = |schema| json!({ "anyOf": [schema, { "type": "null" }] });
    let properties = json!({
        "all": truth,
        "name": or_null(types.sent::<Name>()),
        "status": or_null(types.sent::<Status>()),
        "state": or_null(types.sent::<State>()),
        "dry_run": truth,
        "after": or_null(types.sent::<WalkerId>()),
    });
    let said = |name: &str| json!({ "required": [name], "properties": { name: { "type": "string" } } });
    let all = json!({ "required": ["all"], "properties": { "all": { "const": true } } });
    let schema = json!({
        "type": "object", "properties": properties, "additionalProperties": false,
        "anyOf": [all, said("name"), said("status"), said("state")],
    });
    types.named("Selection", schema)
}

/// How `POST /walkers/{verb}` is documented.
pub(crate) fn describe_many(types: &mut Types, verb: Verb) -> Describe {
    let summary = match verb {
        Verb::Cancel => "Cancel own runs",
        Verb::Pause => "Pause own runs",
        _ => "Resume own runs",
    };
    let selection = selection_schema(types);
    let done = types.sent::<DoneToMany>();
    Describe::new(RUNS, summary)
        .about("Acts on the caller's own open runs of a name, a status or a state; with `dry_run` it only lists them.")
        .login()
        .body(selection, true)
        .answers(200, "What came of it.", done)
        .writes()
}

fn read<T: DeserializeOwned>(body: Value) -> Result<T, Refusal> {
    T::deserialize(&body).map_err(|error| {
        Refusal::detail(Detail::new("value_error", vec!["body".into()], error.to_string()).input(body))
    })
}

fn run_token(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-run-token")?.to_str().ok()
}
