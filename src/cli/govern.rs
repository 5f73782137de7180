//! What an operator asks of runs: the client side of the routes that act on them.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use walkabout_schema::{
    WalkerId,
    wire::{Record, RecordPage},
};

use super::trust::Trust;

/// Which server, and on whose behalf.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// The server
    #[arg(long, env = "WALKABOUT_URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// The token of a login
    #[arg(long, env = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file of certificates that sign for the server, in the place of the authorities of the web
    #[arg(long, env = "WALKABOUT_CA")]
    pub ca: Option<PathBuf>,
    /// The run_token that an anonymous submission was answered with
    #[arg(long, env = "RUN_TOKEN", hide_env_values = true)]
    pub run_token: Option<String>,
}

/// Which of the caller's own runs.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    /// Only this walker
    #[arg(long)]
    pub name: Option<String>,
    /// Only this status: pending, running, completed or failed
    #[arg(long)]
    pub status: Option<String>,
    /// Only this state, as docs/runs.md has them
    #[arg(long)]
    pub state: Option<String>,
}

impl Filter {
    fn members(&self) -> Map<String, Value> {
        let given = [("name", &self.name), ("status", &self.status), ("state", &self.state)];
        given.iter().filter_map(|(name, value)| Some(((*name).to_owned(), json!(value.as_ref()?)))).collect()
    }
}

/// What `runs` takes.
#[derive(Debug, Clone, Args)]
pub struct RunsArgs {
    /// Which
    #[command(flatten)]
    pub filter: Filter,
    /// How many, at most 500
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
    /// Where
    #[command(flatten)]
    pub server: Server,
}

/// What `cancel`, `pause` and `resume` take.
#[derive(Debug, Clone, Args)]
pub struct ActArgs {
    /// One run; without it, those of the filter
    pub walker_id: Option<WalkerId>,
    /// Which
    #[command(flatten)]
    pub filter: Filter,
    /// All open runs
    #[arg(long)]
    pub all: bool,
    /// Only list them
    #[arg(long)]
    pub dry_run: bool,
    /// Where
    #[command(flatten)]
    pub server: Server,
}

/// What `retry` takes.
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// The run, which has ended
    pub walker_id: WalkerId,
    /// Where
    #[command(flatten)]
    pub server: Server,
}

/// What `complete` takes.
#[derive(Debug, Clone, Args)]
pub struct CompleteArgs {
    /// The run
    pub walker_id: WalkerId,
    /// What it waits for
    #[arg(value_name = "FOR")]
    pub name: String,
    /// The answer, as JSON
    #[arg(value_parser = value)]
    pub value: Value,
    /// Where
    #[command(flatten)]
    pub server: Server,
}

fn value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("it should be JSON, a text in its quotes: {error}"))
}

/// One line for every run: id, state, attempt, when it was submitted, and why it failed.
pub async fn runs(args: RunsArgs) -> ExitCode {
    let RunsArgs { filter, limit, server } = args;
    let members = filter.members();
    let query = members.iter().map(|(name, value)| format!("&{name}={}", value.as_str().unwrap_or_default()));
    let path = format!("/walkers?limit={limit}{}", query.collect::<String>());
    answered(call(server, path, None).await, |page| {
        let page = RecordPage::deserialize(page);
        page.map_or_else(|_| Vec::new(), |page| page.walkers.iter().map(run_line).collect())
    })
}

fn run_line(record: &Record) -> String {
    let Record { id, schedule, run, .. } = record;
    let error = schedule.error.as_ref().map(|error| format!(" {}", error.escape_debug()));
    let (state, attempt, created_at) = (run.state.as_str(), run.attempt, run.created_at);
    format!("{id} {state} {attempt} {created_at}{}", error.unwrap_or_default())
}

/// Cancels, pauses or resumes one run, or those of a filter: one line for each, with what became of it.
pub async fn act(verb: &'static str, args: ActArgs) -> ExitCode {
    let ActArgs { walker_id, filter, all, dry_run, server } = args;
    let (path, body) = match walker_id {
        Some(id) => (format!("/walker/{id}/{verb}"), json!({})),
        None => {
            let mut body = filter.members();
            body.insert("all".to_owned(), json!(all));
            body.insert("dry_run".to_owned(), json!(dry_run));
            (format!("/walkers/{verb}"), Value::Object(body))
        }
    };
    answered(call(server, path, Some(body)).await, |answer| {
        let line = |run: &Value| {
            let result = run["result"].as_str().unwrap_or("-");
            format!("{} {result}", run["walker_id"].as_str().unwrap_or_default())
        };
        match answer["walkers"].as_array() {
            Some(many) => many.iter().map(line).collect(),
            None => vec![line(answer)],
        }
    })
}

/// Begins a run again that has ended, and prints the id of the new one.
pub async fn retry(args: RetryArgs) -> ExitCode {
    let path = format!("/walker/{}/retry", args.walker_id);
    answered(call(args.server, path, Some(json!({}))).await, |answer| {
        vec![answer["walker_id"].as_str().unwrap_or_default().to_owned()]
    })
}

/// Gives a run the answer that it waits for.
pub async fn complete(args: CompleteArgs) -> ExitCode {
    let path = format!("/walker/{}/complete", args.walker_id);
    let body = json!({ "for": args.name, "value": args.value });
    answered(call(args.server, path, Some(body)).await, |answer| {
        vec![answer["result"].as_str().unwrap_or_default().to_owned()]
    })
}

/// Sends a request; what the server said, or why there is nothing.
async fn call(server: Server, path: String, body: Option<Value>) -> Result<Value, String> {
    let sent = tokio::task::spawn_blocking(move || {
        let Server { url, token, ca, run_token } = server;
        let trust = Trust::of(ca.as_deref())?;
        let url = format!("{}{path}", url.trim_end_matches('/'));
        let agent = ureq::Agent::new_with_config(
            ureq::config::Config::builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .tls_config(trust.http())
                .build(),
        );
        let bearer = token.map(|token| format!("Bearer {token}"));
        let answer = match body {
            None => headed(agent.get(&url), bearer, run_token).call(),
            Some(body) => headed(agent.post(&url), bearer, run_token)
                .content_type("application/json")
                .send(body.to_string().as_bytes()),
        };
        let mut answer = answer.map_err(|error| format!("{url}: {error}; {}", super::cure(&url)))?;
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(|error| format!("{url}: {error}; {}", super::cure(&url)))?;
        if answer.status().is_success() {
            serde_json::from_str(&text).map_err(|_| format!("{url} does not answer with JSON"))
        } else {
            Err(format!("{}: {text}", answer.status()))
        }
    });
    sent.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn headed<B>(
    request: ureq::RequestBuilder<B>,
    bearer: Option<String>,
    run_token: Option<String>,
) -> ureq::RequestBuilder<B> {
    let request = match bearer {
        Some(bearer) => request.header("authorization", bearer),
        None => request,
    };
    match run_token {
        Some(token) => request.header("x-run-token", token),
        None => request,
    }
}

/// Prints lines, or why there are none. The exit code is 0, or 2 when the server refuses or cannot be reached.
fn answered(result: Result<Value, String>, lines: impl FnOnce(&Value) -> Vec<String>) -> ExitCode {
    match result {
        Ok(answer) => {
            for line in lines(&answer) {
                super::print(&line);
            }
            ExitCode::SUCCESS
        }
        Err(reason) => {
            // Nothing can be done about a closed stderr.
            let _ = writeln!(std::io::stderr(), "{reason}");
            ExitCode::from(2)
        }
    }
}
