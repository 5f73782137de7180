//! The command line, the same for the stock program and for an application's own.

use std::{io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, http::HeaderValue};

use crate::config::Config;

/// What a program is asked to do.
#[derive(Debug, Parser)]
#[command(version, about = "Runs walkers over user-rooted graphs, durably.")]
pub struct Cli {
    /// None: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// For serving without the word.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve HTTP and WebSocket. The default.
    Serve(ServeArgs),
    /// Follow one run: print its events until it ends. Exit code 0 when it completed, 1 when it failed, 2 when it cannot be followed.
    Follow(FollowArgs),
}

/// Settings of a server.
#[derive(Debug, Default, Clone, Args)]
pub struct ServeArgs {
    /// Address and port; port 0 takes a free one. [default: 127.0.0.1:8000]
    #[arg(long, env = "WALKABOUT_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// The folder of the store. [default: walkabout-data]
    #[arg(long, env = "WALKABOUT_DATA")]
    pub data: Option<PathBuf>,
    /// Threads for async walkers. [default: the machine's cores]
    #[arg(long, env = "WALKABOUT_ASYNC_THREADS")]
    pub async_threads: Option<usize>,
    /// Threads for plain walkers. [default: the machine's cores]
    #[arg(long, env = "WALKABOUT_SYNC_THREADS")]
    pub sync_threads: Option<usize>,
    /// Where datasets lie, for walkers that read some. [default: <data>/datasets]
    #[arg(long, env = "WALKABOUT_DATASETS")]
    pub datasets: Option<PathBuf>,
    /// The API that sync_with_external_system pages through.
    #[arg(long, env = "WALKABOUT_EXTERNAL_API")]
    pub external_api: Option<String>,
    /// Let walkers call addresses of private networks.
    #[arg(long, env = "WALKABOUT_ALLOW_PRIVATE_ADDRESSES")]
    pub allow_private_addresses: bool,
}

/// Which run to follow.
#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// The run: w:<name>:<uuid>.
    pub walker_id: String,
    /// The server.
    #[arg(long, env = "WALKABOUT_URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// A login token, for a run that belongs to a user.
    #[arg(long, env = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Begin after this event.
    #[arg(long, default_value_t = 0)]
    pub after: u64,
}

impl ServeArgs {
    /// Puts what was given over the settings.
    pub fn apply(&self, config: &mut Config) {
        config.listen = self.listen.unwrap_or(config.listen);
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        config.datasets = self.datasets.clone().or_else(|| config.datasets.clone());
        config.external_api = self.external_api.clone().or_else(|| config.external_api.clone());
        config.async_threads = self.async_threads.unwrap_or(config.async_threads).max(1);
        config.sync_threads = self.sync_threads.unwrap_or(config.sync_threads).max(1);
        config.allow_private_addresses |= self.allow_private_addresses;
    }
}

/// Raises the limit of open files as far as the system lets; gives what there is now.
pub fn raise_open_files() -> u64 {
    rlimit::increase_nofile_limit(1 << 20).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        rlimit::Resource::NOFILE.get().map_or(0, |(soft, _)| soft)
    })
}

pub(crate) fn say(line: &str) {
    // Nobody reads when standard output is closed.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

fn complain(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// How following went on one connection.
enum Followed {
    Ended(ExitCode),
    Dropped(String),
}

/// Prints the events of a run until it ends; connects again with the last number when the connection drops.
pub async fn follow(args: FollowArgs) -> ExitCode {
    let mut after = args.after;
    let mut tries = 0;
    loop {
        let before = after;
        match follow_once(&args, &mut after).await {
            Followed::Ended(code) => return code,
            Followed::Dropped(why) => {
                tries = if after > before { 0 } else { tries + 1 };
                if tries >= 5 {
                    complain(&format!("{} cannot be followed at {}: {why}", args.walker_id, args.url));
                    return ExitCode::from(2);
                }
                tokio::time::sleep(Duration::from_millis(200 << tries)).await;
            }
        }
    }
}

async fn follow_once(args: &FollowArgs, after: &mut u64) -> Followed {
    let url = format!("{}/websocket", args.url.trim_end_matches('/').replacen("http", "ws", 1));
    let mut request = match url.into_client_request() {
        Ok(request) => request,
        Err(error) => return Followed::Dropped(error.to_string()),
    };
    if let Some(token) = &args.token {
        let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}")) else {
            complain("the token has characters that no token has");
            return Followed::Ended(ExitCode::from(2));
        };
        request.headers_mut().insert("authorization", value);
    }
    let mut socket = match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(error) => return Followed::Dropped(error.to_string()),
    };
    let subscribe = json!({ "type": "subscribe", "walker_id": args.walker_id, "after": *after });
    if let Err(error) = socket.send(Message::text(subscribe.to_string())).await {
        return Followed::Dropped(error.to_string());
    }
    while let Some(message) = socket.next().await {
        let text = match message {
            Ok(Message::Text(text)) => text,
            Ok(_) => continue,
            Err(error) => return Followed::Dropped(error.to_string()),
        };
        let frame: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(error) = frame.get("error") {
            complain(error.as_str().unwrap_or("the server refused"));
            return Followed::Ended(ExitCode::from(2));
        }
        let field = |name: &str| frame.get(name).cloned().unwrap_or_default();
        match field("type").as_str() {
            Some("gap") => say(&format!("events before number {} are no longer kept", field("first"))),
            Some("event") => {
                *after = field("seq").as_u64().unwrap_or(*after);
                let event = field("event");
                let kind = event.get("type").and_then(Value::as_str).unwrap_or("?").to_owned();
                let rest = ["data", "value", "message", "error"].iter().find_map(|name| event.get(*name));
                let rest = rest.map(|value| format!("  {value}")).unwrap_or_default();
                say(&format!("{}  {:>4}  {kind}{rest}", field("at").as_str().unwrap_or("?"), *after));
                match &*kind {
                    "completed" => return Followed::Ended(ExitCode::SUCCESS),
                    "failed" => return Followed::Ended(ExitCode::FAILURE),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Followed::Dropped("the connection ended".to_owned())
}
