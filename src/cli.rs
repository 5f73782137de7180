//! The command line: what an application's binary takes, `follow`, the client side of the WebSocket, and what acts on runs.

mod admin;
mod govern;
mod trust;

use std::{ffi::OsString, io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Arg, ArgMatches, Args, FromArgMatches, Parser, Subcommand, value_parser};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::{
    Connector, connect_async_tls_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        http::{HeaderValue, Request, header::AUTHORIZATION},
    },
};
use walkabout_schema::{EventKind, WalkerId, wire::EventFrame};

use self::trust::Trust;
use crate::config::{Config, Given, Kind, SETTINGS, Setting, Settled, variables};

pub use admin::{AdminArgs, AdminCommand};
pub use govern::{ActArgs, CompleteArgs, Filter, RetryArgs, RunsArgs, Server, act, complete, retry, runs};

/// What the arguments ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves HTTP and WebSocket
    Serve(ServeArgs),
    /// Prints each setting with where it comes from, as a file of settings; takes the flags of serve
    Config(ServeArgs),
    /// Acts on a store without asking a server
    #[command(subcommand)]
    Admin(AdminCommand),
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

/// What `serve` and `config` take: a flag for each setting, and the file.
///
/// Texts are read when they are [settled](ServeArgs::settle), as those of the file and of the environment are.
#[derive(Debug, Clone, Default)]
pub struct ServeArgs(Given);

impl ServeArgs {
    /// Finds the settings that hold: flags, variables, the file, those of the application, defaults.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with all that does not fit.
    pub fn settle(&self, application: Config) -> crate::Result<Settled> {
        Settled::of(application, &self.0, &variables())
    }
}

/// The name of the argument for the file, which no setting has.
const FILE: &str = "config";

impl Args for ServeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new(FILE).long(FILE).value_name("FILE").value_parser(value_parser!(PathBuf)).help(
            "The file of settings [default: walkabout.toml in the working directory, if it is there] [env: WALKABOUT_CONFIG]",
        );
        SETTINGS.iter().fold(command.arg(file), |command, setting| command.arg(argument(setting)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let text = |setting: &Setting| matches.get_one::<String>(setting.name).cloned();
        let flags = SETTINGS.iter().filter_map(|setting| Some((setting.name, text(setting)?))).collect();
        Ok(Self(Given { flags, file: matches.get_one(FILE).cloned() }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let default = setting.default_words();
    // Units stand in the placeholder.
    let help = format!(
        "{} [default: {default}] [env: {}]",
        setting.meaning().trim_end_matches('.'),
        setting.variable()
    );
    let argument =
        Arg::new(setting.name).long(setting.flag()).value_name(setting.form.placeholder).help(help);
    if setting.form.kind == Kind::Truth {
        // Alone it is true.
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument
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
    /// A file of certificates that sign for the server, in the place of the authorities of the web
    #[arg(long, env = "WALKABOUT_CA")]
    pub ca: Option<PathBuf>,
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
    let connector = Trust::of(args.ca.as_deref()).and_then(|trust| trust.socket());
    let (request, connector) = match request(&args).and_then(|request| Ok((request, connector?))) {
        Ok(known) => known,
        Err(reason) => return End::Refused(reason),
    };
    let mut last = args.after;
    let mut tries = 0;
    let mut connected = false;
    loop {
        let before = last;
        let broken =
            match attend(&args, (request.clone(), connector.clone()), &mut last, &mut connected).await {
                Ok(end) => return end,
                Err(broken) => broken,
            };
        // A server that was never there will not come by waiting; one that was may be starting again.
        tries = if last > before { 1 } else { tries + 1 };
        if !connected || tries > TRIES_MAX {
            return End::Refused(format!("cannot follow at {}: {broken}; {}", args.url, cure(&args.url)));
        }
        let delay = Duration::from_millis(200).saturating_mul(1 << tries.min(5)).min(Duration::from_secs(5));
        tokio::time::sleep(delay).await;
    }
}

/// What may help where a server cannot be reached.
fn cure(url: &str) -> &'static str {
    if url.starts_with("https://") || url.starts_with("wss://") {
        "is it there, as --url says, does it speak TLS, and is it signed for by the authorities of the web, or by those of --ca?"
    } else {
        "is it there, as --url says? One that speaks TLS has https:// there"
    }
}

fn request(args: &FollowArgs) -> Result<Request<()>, String> {
    let base = args.url.trim_end_matches('/');
    let (scheme, address) = match base.split_once("://") {
        Some(("http" | "ws", address)) => ("ws", address),
        Some(("https" | "wss", address)) => ("wss", address),
        _ => {
            return Err(format!(
                "{base:?} is not an address that can be followed: it should begin with http:// or https://"
            ));
        }
    };
    let mut request = format!("{scheme}://{address}/websocket")
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
    (request, connector): (Request<()>, Connector),
    last: &mut u64,
    connected: &mut bool,
) -> Result<End, String> {
    let connecting = connect_async_tls_with_config(request, None, false, Some(connector));
    let connecting = tokio::time::timeout(CONNECT_MAX, connecting).await;
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
            let Command::Serve(ServeArgs(given)) = parse(args).unwrap() else { panic!("{args:?}") };
            assert_eq!(given.flags, [("listen", "127.0.0.1:0".to_owned())].into());
        }
        assert!(matches!(parse(&[]), Ok(Command::Serve(..))));
        let version = parse(&["--version"]).unwrap_err().to_string();
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        assert!(parse(&["--async-treads", "0"]).is_err());
        assert!(parse(&["unknown"]).is_err());
    }

    #[test]
    fn what_is_true_or_false_may_stand_alone() {
        for (text, wanted) in
            [("--allow-private-addresses", "true"), ("--allow-private-addresses=false", "false")]
        {
            let Command::Config(ServeArgs(given)) = parse(&["config", text]).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(given.flags, [("allow_private_addresses", wanted.to_owned())].into());
        }
    }

    #[test]
    fn following_takes_an_id() {
        let id = "w:greet:01890000000070008000000000000001";
        let Command::Follow(args) = parse(&["follow", id, "--after", "3"]).unwrap() else {
            panic!("not follow")
        };
        assert_eq!((args.after, args.url.as_str()), (3, "http://127.0.0.1:8000"));
        assert_eq!(request(&args).unwrap().uri(), "ws://127.0.0.1:8000/websocket");
        let args = FollowArgs { url: "https://x/".into(), ..args };
        assert_eq!(request(&args).unwrap().uri(), "wss://x/websocket");
        assert!(request(&FollowArgs { url: "ftp://x".into(), ..args }).is_err());
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
