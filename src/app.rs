//! An application: what is registered, and how it is served.

use std::{io::Write, process::ExitCode, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    Error, Result,
    cli::{self, AdminArgs, AdminCommand, Command},
    config::{Config, LogFormat, Settled},
    env::Env,
    http, log,
    mail::{Letter, Mail},
    registry::Registry,
    runtime::Runtime,
    store::{self, Registered, Store},
    users::{Registration, register_administrator},
    walker::{Node, Walker},
};

/// An application of walkers.
///
/// ```no_run
/// # use walkabout::prelude::*;
/// # #[derive(Walker, Serialize, Deserialize)] struct Greet {}
/// # #[abilities] impl Greet { #[entry] async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome { DONE } }
/// #[tokio::main]
/// async fn main() -> std::process::ExitCode {
///     walkabout::Walkabout::new().walker::<Greet>().serve().await
/// }
/// ```
#[derive(Default)]
pub struct Walkabout {
    registry: Registry,
    config: Config,
    hints: Vec<String>,
}

impl Walkabout {
    /// An application without walkers, with default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a walker, and the types that it stands on.
    #[must_use]
    pub fn walker<W: Walker>(mut self) -> Self {
        self.registry.walker::<W>();
        self
    }

    /// Adds a node type that no walker stands on by its type.
    #[must_use]
    pub fn node<N: Node>(mut self) -> Self {
        self.registry.node::<N>();
        self
    }

    /// Says what users have beside address and password: the fields of a struct. Those without a default are required at the
    /// registration. They are part of what a login answers as `user` and of its token, so they are no place for secrets, and take 2 KiB
    /// at most; walkers read them by [`Context::user`](crate::walker::Context::user).
    ///
    /// ```no_run
    /// # use walkabout::prelude::*;
    /// #[derive(Serialize, Deserialize)]
    /// struct Account { name: String, #[serde(default)] newsletter: bool }
    ///
    /// # async fn serve() -> std::process::ExitCode {
    /// walkabout::Walkabout::new().user::<Account>().serve().await
    /// # }
    /// ```
    #[must_use]
    pub fn user<T: Serialize + DeserializeOwned + 'static>(mut self) -> Self {
        self.registry.user::<T>();
        self
    }

    /// Writes the letters that users get, with the codes that verify an address or set a password, in words of your own. Whom they go to
    /// is not theirs to say.
    ///
    /// ```no_run
    /// # async fn serve() -> std::process::ExitCode {
    /// use walkabout::mail::Mail;
    ///
    /// walkabout::Walkabout::new()
    ///     .letters(|letter| Mail::new("Willkommen", format!("Dein Code: {}", letter.code)))
    ///     .serve()
    ///     .await
    /// # }
    /// ```
    #[must_use]
    pub fn letters(mut self, write: fn(&Letter) -> Mail) -> Self {
        self.registry.letters(write);
        self
    }

    /// Adds a group of walkers: any function that fills a registry.
    #[must_use]
    pub fn register(mut self, group: impl FnOnce(&mut Registry)) -> Self {
        group(&mut self.registry);
        self
    }

    /// Sets what the application is called in API documents, and its version, as `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>, version: impl Into<String>) -> Self {
        self.registry.title(title, version);
        self
    }

    /// Replaces the settings that hold where neither the command line nor the environment nor a file says otherwise.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds lines that are printed once the server is ready; `{url}` stands for its address.
    #[must_use]
    pub fn hint(mut self, lines: impl Into<String>) -> Self {
        self.hints.push(lines.into());
        self
    }

    /// Starts the runtime on the store in the data folder, without a server.
    ///
    /// # Errors
    /// When what was registered does not fit together, or the store cannot be opened.
    pub async fn start(self) -> Result<Runtime> {
        let env = Env::system();
        let store = open(&self.config, &env).await?;
        Runtime::start(self.config, env, store, self.registry).await
    }

    /// Does what the command line says: serves when it says nothing.
    ///
    /// Settings are those of flags, of the environment, of a file, of [`Walkabout::config`], or the defaults, in this order.
    pub async fn serve(self) -> ExitCode {
        let command = Command::parse();
        let settled = match &command {
            Command::Serve(args) | Command::Config(args) => args.settle(self.config.clone()),
            Command::Admin(admin) => admin.settings().settle(self.config.clone()),
            _ => Ok(Settled::default()),
        };
        let settled = match settled {
            Ok(settled) => settled,
            Err(error) => return refuse(&error),
        };
        if let Err(error) = log::begin(&settled.config) {
            return refuse(&error);
        }
        let is_json = settled.config.log_format == LogFormat::Ecs;
        for warning in &settled.warnings {
            tracing::warn!("{warning}");
        }
        match command {
            Command::Follow(args) => cli::follow(args).await,
            Command::Runs(args) => cli::runs(args).await,
            Command::Cancel(args) => cli::act("cancel", args).await,
            Command::Pause(args) => cli::act("pause", args).await,
            Command::Resume(args) => cli::act("resume", args).await,
            Command::Retry(args) => cli::retry(args).await,
            Command::Complete(args) => cli::complete(args).await,
            Command::Config(_) => {
                say(settled.to_string().trim_end());
                ExitCode::SUCCESS
            }
            Command::Admin(AdminCommand::Create(args)) => {
                match make_administrator(&settled.config, &self.registry, &args).await {
                    Ok(email) => {
                        say(&format!("{email} is an administrator of the system"));
                        ExitCode::SUCCESS
                    }
                    Err(error) => refuse(&error),
                }
            }
            Command::Serve(_) => match self.config(settled.config).run().await {
                Ok(()) => ExitCode::SUCCESS,
                // Lines of the log stay JSON where they are; elsewhere one for people is enough.
                Err(error) if is_json && tracing::enabled!(tracing::Level::ERROR) => {
                    tracing::error!(%error, "the server ends");
                    ExitCode::FAILURE
                }
                Err(error) => refuse(&error),
            },
        }
    }

    async fn run(mut self) -> Result<()> {
        let (listen, data) = (self.config.listen, self.config.data.clone());
        let hints = std::mem::take(&mut self.hints);
        let tls = http::Tls::of(&self.config)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let files = cli::raise_open_files();
        tracing::info!(files, "open files allowed");
        let context = format!("{listen} cannot be listened on: choose another address with --listen");
        let listener = TcpListener::bind(listen).await.map_err(|source| Error::Io { context, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Io { context: "the address".to_owned(), source })?;
        let runtime = self.start().await?;
        let is_new = runtime.config().token_secret.is_none() && runtime.secret("jwt", 32).await?.1;
        // Before anybody is told that it is ready: until then a signal ends the process as a kill does.
        let stop = signals();
        say(&format!(
            "walkabout is ready at {scheme}://{address}, data in {}, {files} open files; try GET /readyz, POST /user/register",
            data.display()
        ));
        if is_new {
            say("the secret for login tokens was made and is kept in the store");
        }
        for lines in hints {
            say(&lines.replace("{url}", &format!("{scheme}://{address}")));
        }
        // While connections end, runs reach their checkpoints.
        let draining = runtime.clone();
        let stop = async move {
            stop.await;
            draining.drain();
        };
        let result = tokio::select! {
            result = http::serve_with(tls, listener, runtime.clone(), stop) => result,
            error = sick(&runtime) => Err(error),
        };
        runtime.stop().await?;
        result
    }
}

/// Makes an administrator in the store of the settings, and gives the address.
async fn make_administrator(config: &Config, types: &Registry, args: &AdminArgs) -> Result<String> {
    types.check()?;
    let env = Env::system();
    let fields = args.own_fields(&types.own_fields)?;
    let (email, password) = args.account()?;
    let password = http::users::hash(&env, &password)?;
    let store = open(config, &env).await?;
    let registration = Registration { fields, ..Registration::new(email.clone(), password) };
    let registered = register_administrator(&*store, &env, registration).await;
    store.close().await?;
    match registered? {
        Registered::New => Ok(email),
        Registered::Taken => Err(Error::Config(format!("{email} is registered already"))),
    }
}

fn refuse(error: &Error) -> ExitCode {
    drop(writeln!(std::io::stderr().lock(), "walkabout: {error}"));
    ExitCode::FAILURE
}

fn say(line: &str) {
    // Nobody reads when standard output is closed.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// Ends when the store has lost a write: nothing can be promised any more, so the process has to go.
async fn sick(runtime: &Runtime) -> Error {
    let mut look = tokio::time::interval(std::time::Duration::from_millis(500));
    loop {
        look.tick().await;
        if let Err(error @ Error::Store(store::Error::OutcomeUnknown(_))) = runtime.health() {
            return error;
        }
    }
}

/// Takes SIGINT and SIGTERM from now on. Ends at the first; at the second the process ends at once, and loses nothing.
fn signals() -> impl Future<Output = ()> {
    let taken = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        match taken {
            (Ok(interrupt), Ok(terminate)) => stopped(interrupt, terminate).await,
            _ => std::future::pending().await,
        }
    }
}

async fn stopped(mut interrupt: Signal, mut terminate: Signal) {
    let mut next = async move || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    next().await;
    tokio::spawn(async move {
        next().await;
        std::process::exit(130);
    });
}

/// The store that the settings name.
async fn open(config: &Config, env: &Env) -> Result<Arc<dyn Store>> {
    let limits = store::Limits {
        events_per_run_max: config.events_per_run_max,
        cache_bytes_max: config.cache_bytes_max,
        disk_free_min: config.disk_free_min,
    };
    let Some(uri) = &config.store else { return Ok(store::embedded::open(&config.data, limits)?) };
    #[cfg(feature = "mongodb")]
    if uri.starts_with("mongodb://") || uri.starts_with("mongodb+srv://") {
        let options = store::mongodb::Options {
            uri: uri.clone(),
            database: config.database.clone(),
            name: config.name.clone(),
            lease: config.lease,
            patience: config.patience,
        };
        return Ok(store::mongodb::open(&options, limits, env.clone()).await?);
    }
    // An address may hold a password.
    let scheme = uri.split_once("://").map_or("", |(scheme, _)| scheme);
    Err(store::Error::Open(format!(
        "no store of this program begins with {scheme:?}: it should be mongodb:// or mongodb+srv://, and the program built with the feature mongodb"
    ))
    .into())
}
