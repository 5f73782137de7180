//! The command line: what an application's binary takes, `follow`, the client side of the WebSocket, and what acts on runs.

mod govern;

use std::{
    ffi::OsString, io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, str::FromStr, time::Duration,
};

use clap::{Args, Parser, Subcommand};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        http::{HeaderValue, Request, header::AUTHORIZATION},
    },
};
use walkabout_schema::{EventKind, WalkerId, wire::EventFrame};

use crate::config::Config;

pub use govern::{ActArgs, CompleteArgs, Filter, RetryArgs, RunsArgs, Server, act, complete, retry, runs};

/// What the arguments ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves HTTP and WebSocket
    Serve(Box<ServeArgs>),
    /// Prints the events of a run until it ends
    Follow(FollowArgs),
    /// Lists own runs, newest first
    Runs(RunsArgs),
    /// Ends one run, or those of a filter
    Cancel(ActArgs),
    /// Holds one run, or those of a filter
    Pause(ActArgs),
    /// Lets one run go on, or those of a filter
    Resume(ActArgs),
    /// Begins a run again that has ended
    Retry(RetryArgs),
    /// Gives a run the answer that it waits for
    Complete(CompleteArgs),
}

/// Serves walkers over user-rooted graphs.
#[derive(Debug, Parser)]
#[command(version, after_help = "Without a subcommand it serves; `serve --help` lists the settings.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl Command {
    /// Reads the arguments of this process. Ends it, with a message, when they do not fit or help was asked
    /// for.
    pub fn parse() -> Self {
        Self::try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// Reads arguments, the program's name first.
    ///
    /// # Errors
    /// What clap says about them, help included.
    pub fn try_parse_from(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut args: Vec<OsString> = args.into_iter().collect();
        let first = args.get(1).and_then(|text| text.to_str());
        // Flags of `serve` may stand alone. Help and version are those of the whole program.
        let is_own = |text: &str| matches!(text, "-h" | "--help" | "-V" | "--version");
        if first.is_none_or(|text| text.starts_with('-') && !is_own(text)) {
            args.insert(args.len().min(1), "serve".into());
        }
        Ok(Cli::try_parse_from(args)?.command)
    }
}

/// The settings that `serve` takes; each is also an environment variable. What is not given stays as it was.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Where to serve; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, env = "WALKABOUT_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// A MongoDB database that several processes share, as mongodb://… [default: the embedded store]
    #[arg(long, env = "WALKABOUT_STORE", hide_env_values = true, value_name = "URI")]
    pub store: Option<String>,
    /// Begins the names of the collections there, so that applications can share a database
    #[arg(long, env = "WALKABOUT_NAME", value_name = "NAME", value_parser = prefix)]
    pub name: Option<String>,
    /// How long a process that shares a database may be silent before others take up its runs, in milliseconds [default: 10000]
    #[arg(long, env = "WALKABOUT_LEASE_MS", value_name = "MS", value_parser = clap::value_parser!(u64).range(1000..))]
    pub lease_ms: Option<u64>,
    /// How long a write is tried while that database does not answer, in milliseconds [default: 30000]
    #[arg(long, env = "WALKABOUT_PATIENCE_MS", value_name = "MS", value_parser = clap::value_parser!(u64).range(1000..))]
    pub patience_ms: Option<u64>,
    /// The folder of the store [default: walkabout-data]
    #[arg(long, env = "WALKABOUT_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// The folder of datasets, for walkers that read some [default: datasets in the folder of the store]
    #[arg(long, env = "WALKABOUT_DATASETS", value_name = "FOLDER")]
    pub datasets: Option<PathBuf>,
    /// The API that sync_with_external_system pages through
    #[arg(long, env = "WALKABOUT_EXTERNAL_API", value_name = "URL")]
    pub external_api: Option<String>,
    /// Threads for async walkers [default: the cores, at least 2]
    #[arg(long, env = "WALKABOUT_ASYNC_THREADS", value_name = "N", value_parser = at_least_one::<usize>)]
    pub async_threads: Option<usize>,
    /// Threads for plain walkers [default: the cores, at least 2]
    #[arg(long, env = "WALKABOUT_SYNC_THREADS", value_name = "N", value_parser = at_least_one::<usize>)]
    pub sync_threads: Option<usize>,
    /// How long a walker may hold its thread before another takes its place, in milliseconds [default: 1000]
    #[arg(long, env = "WALKABOUT_HOG_AFTER_MS", value_name = "MS", value_parser = at_least_one::<u64>)]
    pub hog_after_ms: Option<u64>,
    /// Threads of each kind that are replaced while walkers hold them [default: 32]
    #[arg(long, env = "WALKABOUT_HOGGED_THREADS_MAX", value_name = "N", value_parser = at_least_one::<usize>)]
    pub hogged_threads_max: Option<usize>,
    /// Open WebSockets [default: 20000]
    #[arg(long, env = "WALKABOUT_SOCKETS_MAX", value_name = "N", value_parser = at_least_one::<usize>)]
    pub sockets_max: Option<usize>,
    /// The largest WebSocket frame [default: 1048576]
    #[arg(long, env = "WALKABOUT_FRAME_BYTES_MAX", value_name = "N", value_parser = at_least_one::<usize>)]
    pub frame_bytes_max: Option<usize>,
    /// The largest request body [default: 2097152]
    #[arg(long, env = "WALKABOUT_BODY_BYTES_MAX", value_name = "BYTES", value_parser = at_least_one::<usize>)]
    pub body_bytes_max: Option<usize>,
    /// How long a request body may take to arrive, in seconds [default: 30]
    #[arg(long, env = "WALKABOUT_BODY_TIME_MAX_S", value_name = "S", value_parser = at_least_one::<u64>)]
    pub body_time_max_s: Option<u64>,
    /// The largest file that a walker may write [default: 67108864]
    #[arg(long, env = "WALKABOUT_FILE_BYTES_MAX", value_name = "BYTES", value_parser = at_least_one::<usize>)]
    pub file_bytes_max: Option<usize>,
    /// Nodes and edges that one traverse may look at [default: 100000]
    #[arg(long, env = "WALKABOUT_TRAVERSE_ITEMS_MAX", value_name = "N", value_parser = at_least_one::<usize>)]
    pub traverse_items_max: Option<usize>,
    /// The newest events kept of a run [default: 10000]
    #[arg(long, env = "WALKABOUT_EVENTS_PER_RUN_MAX", value_name = "N", value_parser = at_least_one::<u64>)]
    pub events_per_run_max: Option<u64>,
    /// How long a login lasts, in seconds [default: 43200]
    #[arg(long, env = "WALKABOUT_TOKEN_LIFETIME_S", value_name = "S", value_parser = at_least_one::<u64>)]
    pub token_lifetime_s: Option<u64>,
    /// Attempts in a row, without a checkpoint between, that may end with the process before a run fails as lost [default: 3]
    #[arg(long, env = "WALKABOUT_LOST_MAX", value_name = "N", value_parser = at_least_one::<u32>)]
    pub lost_max: Option<u32>,
    /// How long an attempt may go on after its cancel or pause was asked for, in milliseconds [default: 10000]
    #[arg(long, env = "WALKABOUT_CANCEL_GRACE_MS", value_name = "MS")]
    pub cancel_grace_ms: Option<u64>,
    /// How long attempts may take to reach a checkpoint when the process stops, in milliseconds [default: 10000]
    #[arg(long, env = "WALKABOUT_STOP_GRACE_MS", value_name = "MS")]
    pub stop_grace_ms: Option<u64>,
    /// How long an Idempotency-Key is kept, in seconds [default: 86400]
    #[arg(long, env = "WALKABOUT_IDEMPOTENCY_KEEP_S", value_name = "S", value_parser = at_least_one::<u64>)]
    pub idempotency_keep_s: Option<u64>,
    /// Let walkers call addresses of private networks
    #[arg(long, env = "WALKABOUT_ALLOW_PRIVATE_ADDRESSES")]
    pub allow_private_addresses: bool,
}

fn prefix(text: &str) -> Result<String, String> {
    let fits = (1..=40).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits.then(|| text.to_owned()).ok_or_else(|| "it should be 1 to 40 letters, digits and '_'".to_owned())
}

fn at_least_one<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number >= T::from(1));
    number.ok_or_else(|| "it should be a whole number from 1".to_owned())
}

impl ServeArgs {
    /// Writes what was given into the settings.
    pub fn apply(&self, config: &mut Config) {
        fn set<T: Clone>(setting: &mut T, given: &Option<T>) {
            if let Some(given) = given {
                *setting = given.clone();
            }
        }
        set(&mut config.listen, &self.listen);
        config.store = self.store.clone().or_else(|| config.store.take());
        config.name = self.name.clone().or_else(|| config.name.take());
        set(&mut config.lease, &self.lease_ms.map(Duration::from_millis));
        set(&mut config.patience, &self.patience_ms.map(Duration::from_millis));
        set(&mut config.data, &self.data);
        config.datasets = self.datasets.clone().or_else(|| config.datasets.take());
        config.external_api = self.external_api.clone().or_else(|| config.external_api.take());
        set(&mut config.async_threads, &self.async_threads);
        set(&mut config.sync_threads, &self.sync_threads);
        set(&mut config.hog_after, &self.hog_after_ms.map(Duration::from_millis));
        set(&mut config.hogged_threads_max, &self.hogged_threads_max);
        set(&mut config.sockets_max, &self.sockets_max);
        set(&mut config.frame_bytes_max, &self.frame_bytes_max);
        set(&mut config.body_bytes_max, &self.body_bytes_max);
        set(&mut config.body_time_max, &self.body_time_max_s.map(Duration::from_secs));
        set(&mut config.file_bytes_max, &self.file_bytes_max);
        set(&mut config.traverse_items_max, &self.traverse_items_max);
        set(&mut config.events_per_run_max, &self.events_per_run_max);
        set(&mut config.token_lifetime, &self.token_lifetime_s.map(Duration::from_secs));
        set(&mut config.lost_max, &self.lost_max);
        set(&mut config.cancel_grace, &self.cancel_grace_ms.map(Duration::from_millis));
        set(&mut config.stop_grace, &self.stop_grace_ms.map(Duration::from_millis));
        set(&mut config.idempotency_keep, &self.idempotency_keep_s.map(Duration::from_secs));
        config.allow_private_addresses |= self.allow_private_addresses;
    }
}

/// What `follow` takes.
#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// The run, as its submission answered it: `w:<name>:<uuid>`
    pub walker_id: WalkerId,
    /// The server
    #[arg(long, env = "WALKABOUT_URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// The token of a login; without one only runs submitted without one can be read
    #[arg(long, env = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The number of the last event already seen
    #[arg(long, default_value_t = 0)]
    pub after: u64,
}

/// Raises this process's limit of open files as far as it may: every connection is one. Gives what it is now.
pub fn raise_open_files() -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            tracing::info!(limit, "open files");
            limit
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            rlimit::Resource::NOFILE.get_soft().unwrap_or_default()
        }
    }
}

/// The ends of `follow`, by their exit codes.
enum End {
    /// 0
    Completed,
    /// 1
    Failed,
    /// 2, with the reason.
    Refused(String),
}

/// Prints one line for every event of a run, until the last.
///
/// The exit code is 0 when the run completed, 1 when it failed, and 2 when the server refuses or cannot be
/// reached. A connection that breaks is opened again, from the last number seen.
pub async fn follow(args: FollowArgs) -> ExitCode {
    match follow_to_end(args).await {
        End::Completed => ExitCode::SUCCESS,
        End::Failed => ExitCode::from(1),
        End::Refused(reason) => {
            // Nothing can be done about a closed stderr.
            let _ = writeln!(std::io::stderr(), "{reason}");
            ExitCode::from(2)
        }
    }
}

/// Tries after a connection broke, without an event in between.
const TRIES_MAX: u32 = 10;
/// The server pings every 20 seconds: after this long without a frame it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

async fn follow_to_end(args: FollowArgs) -> End {
    let request = match request(&args) {
        Ok(request) => request,
        Err(reason) => return End::Refused(reason),
    };
    let mut last = args.after;
    let mut tries = 0;
    let mut connected = false;
    loop {
        let before = last;
        let broken = match attend(&args, request.clone(), &mut last, &mut connected).await {
            Ok(end) => return end,
            Err(broken) => broken,
        };
        // A server that was never there will not come by waiting; one that was may be starting again.
        tries = if last > before { 1 } else { tries + 1 };
        if !connected || tries > TRIES_MAX {
            return End::Refused(format!("cannot follow at {}: {broken}", args.url));
        }
        let delay = Duration::from_millis(200).saturating_mul(1 << tries.min(5)).min(Duration::from_secs(5));
        tokio::time::sleep(delay).await;
    }
}

fn request(args: &FollowArgs) -> Result<Request<()>, String> {
    let base = args.url.trim_end_matches('/');
    let Some(address) = base.strip_prefix("http://").or_else(|| base.strip_prefix("ws://")) else {
        return Err(format!("{base:?} is not an address that can be followed: it should begin with http://"));
    };
    let mut request = format!("ws://{address}/websocket")
        .into_client_request()
        .map_err(|error| format!("{base:?} is not an address that can be followed: {error}"))?;
    if let Some(token) = args.token.as_deref().and_then(|text| text.split_whitespace().next_back()) {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| "the token holds characters that no token has".to_owned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// One connection: until the run's last event, or until it breaks, with the reason.
async fn attend(
    args: &FollowArgs,
    request: Request<()>,
    last: &mut u64,
    connected: &mut bool,
) -> Result<End, String> {
    let connecting = tokio::time::timeout(CONNECT_MAX, connect_async(request)).await;
    let (mut socket, _) = match connecting {
        Ok(Ok(open)) => open,
        Ok(Err(tungstenite::Error::Http(answer))) if !answer.status().is_server_error() => {
            return Ok(End::Refused(format!("{} answers {}", args.url, answer.status())));
        }
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("it does not answer".to_owned()),
    };
    *connected = true;
    let subscribe = json!({ "type": "subscribe", "walker_id": args.walker_id, "after": *last });
    socket.send(Message::Text(subscribe.to_string().into())).await.map_err(|error| error.to_string())?;
    loop {
        let message = tokio::time::timeout(SILENCE_MAX, socket.next()).await;
        let text = match message {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Close(_))) | None) => {
                return Err("the server closed the connection".to_owned());
            }
            Ok(Some(Ok(_))) => continue,
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Err(_) => return Err("the server is silent".to_owned()),
        };
        if let Some(end) = heard(args, text.as_str(), last) {
            // The server learns of the end either way.
            let _ = socket.close(None).await;
            return Ok(end);
        }
    }
}

/// One frame; the end when it is the last.
fn heard(args: &FollowArgs, text: &str, last: &mut u64) -> Option<End> {
    let frame: Value = serde_json::from_str(text).ok()?;
    match frame.get("type").and_then(Value::as_str) {
        Some("event") => {}
        Some("gap") => {
            print(&format!("… events before {} are not kept any more", frame.get("first")?));
            return None;
        }
        // The last event was before `--after`.
        Some("unsubscribed") => {
            let done = format!(
                "the run has ended, and event {last} was its last: GET /walker/{} has the rest",
                args.walker_id
            );
            return Some(End::Refused(done));
        }
        Some("subscribe") => {
            let error = frame.get("error").and_then(Value::as_str).unwrap_or("the server refuses");
            let hint = if args.token.is_none() { " Does it need --token?" } else { "" };
            return Some(End::Refused(format!("{error}{hint}")));
        }
        _ => return None,
    }
    let Ok(frame) = serde_json::from_value::<EventFrame>(frame.clone()) else {
        // A kind that this program does not know yet: shown as it came.
        *last = frame.get("seq").and_then(Value::as_u64).unwrap_or(*last);
        print(text);
        return None;
    };
    *last = frame.seq;
    print(&line(&frame));
    match frame.event {
        EventKind::Completed => Some(End::Completed),
        EventKind::Failed { .. } => Some(End::Failed),
        _ => None,
    }
}

/// `<number> <time> <what>`.
fn line(frame: &EventFrame) -> String {
    let what = match &frame.event {
        EventKind::Accepted => "accepted".to_owned(),
        EventKind::Started => format!("started attempt {}", frame.attempt),
        EventKind::Progress { data } => format!("progress {data}"),
        EventKind::Report { value } => format!("report {value}"),
        EventKind::Checkpoint => "checkpoint".to_owned(),
        EventKind::Log { message } => format!("log {}", message.escape_debug()),
        EventKind::Completed => "completed".to_owned(),
        EventKind::Failed { error, .. } => format!("failed {}", error.escape_debug()),
        EventKind::Resumed => format!("resumed attempt {}", frame.attempt),
        EventKind::Waiting { until, waits_for } => {
            let until = until.map(|at| format!(" until {at}")).unwrap_or_default();
            let what = waits_for.as_ref().map(|what| format!(" for {what:?}")).unwrap_or_default();
            format!("waiting{what}{until}")
        }
        EventKind::Retrying { error, at, .. } => format!("retrying at {at} {}", error.escape_debug()),
        EventKind::CancelRequested => "cancel requested".to_owned(),
        EventKind::PauseRequested => "pause requested".to_owned(),
        EventKind::Paused => "paused".to_owned(),
        EventKind::Released => "released".to_owned(),
        EventKind::Answered { waits_for } => format!("answered {waits_for:?}"),
        EventKind::Incompatible { error } => format!("incompatible {}", error.escape_debug()),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    format!("{:>5} {} {what}", frame.seq, frame.at)
}

fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reading any more is no reason to stop: the exit code still tells how the run ended.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use walkabout_schema::{Event, Timestamp};

    use super::*;

    fn parse(args: &[&str]) -> Result<Command, clap::Error> {
        Command::try_parse_from(["walkabout"].iter().chain(args).map(OsString::from))
    }

    #[test]
    fn serving_needs_no_subcommand() {
        for args in [&["--listen", "127.0.0.1:0"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let Command::Serve(serve) = parse(args).unwrap() else { panic!("{args:?}") };
            let mut config = Config::default();
            serve.apply(&mut config);
            assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 0)));
            assert_eq!(config.data, Config::default().data);
        }
        assert!(matches!(parse(&[]), Ok(Command::Serve(..))));
        let version = parse(&["--version"]).unwrap_err().to_string();
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        assert!(parse(&["--async-threads", "0"]).is_err());
        assert!(parse(&["unknown"]).is_err());
    }

    #[test]
    fn following_takes_an_id() {
        let id = "w:greet:01890000000070008000000000000001";
        let Command::Follow(args) = parse(&["follow", id, "--after", "3"]).unwrap() else {
            panic!("not follow")
        };
        assert_eq!((args.after, args.url.as_str()), (3, "http://127.0.0.1:8000"));
        assert_eq!(request(&args).unwrap().uri(), "ws://127.0.0.1:8000/websocket");
        assert!(request(&FollowArgs { url: "https://x".into(), ..args }).is_err());
        assert!(parse(&["follow", "greet"]).is_err());
    }

    #[test]
    fn events_are_one_line() {
        let id: WalkerId = "w:greet:01890000000070008000000000000001".parse().unwrap();
        let show = |event| {
            line(&EventFrame::new(
                id.clone(),
                Event { seq: 7, at: Timestamp::from_millis(0), attempt: 1, event },
            ))
        };
        assert_eq!(
            show(EventKind::Progress { data: json!({ "a": 1 }) }),
            "    7 1970-01-01T00:00:00.000Z progress {\"a\":1}"
        );
        assert_eq!(
            show(EventKind::Failed { error: "a\nb".into(), code: walkabout_schema::ErrorCode::WalkerFailed }),
            "    7 1970-01-01T00:00:00.000Z failed a\\nb"
        );
    }
}
