//! Every setting, described once: the struct, its defaults, and the table that flags, variables, the file and the page below are made from.
#![doc = include_str!("docs/settings.md")]

#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only the command line sets by text"))]
mod setting;

#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only the server signs anybody in"))]
mod sso;

#[cfg(feature = "http")]
mod file;
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only the command line reads variables"))]
mod jac_cloud;
#[cfg(feature = "http")]
mod layers;
#[cfg(feature = "http")]
#[cfg(test)]
mod tests;
mod words;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use tracing::level_filters::LevelFilter;

use self::setting::{Written, bytes, flag, list, millis, number, seconds, table, text};
use crate::{Error, Result};

pub use self::words::{LogFormat, StatusWords};

pub(crate) use self::setting::Setting;
#[cfg(feature = "http")]
pub(crate) use self::sso::known_as;
pub use self::sso::{Provider, Providers};

#[cfg(feature = "http")]
pub use self::layers::Settled;
#[cfg(feature = "http")]
pub(crate) use self::{
    layers::{Given, variables},
    setting::Kind,
};

/// Makes `Config` with its documentation and defaults, and `SETTINGS`, one for each field.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $field:ident $(as $name:ident)?: $of:ty = $default:expr, $form:expr;
    )+) => {
        /// The settings of one runtime and its server. Sizes are bytes.
        ///
        /// Secrets do not show in its `Debug`.
        #[derive(Clone)]
        pub struct Config {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nSetting `", settings!(@name $field $($name)?), "`, default `", stringify!($default), "`.")]
                pub $field: $of,
            )+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        /// One for each field of [`Config`], in their order.
        pub(crate) static SETTINGS: &[Setting] = &[$(
            Setting {
                name: settings!(@name $field $($name)?),
                meaning: concat!($($doc),+),
                form: $form,
                get: |config, unit| config.$field.write(unit),
                set: |config, value, unit| config.$field.put(value, unit),
            }
        ),+];
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:ident) => { stringify!($name) };
}

settings! {
    /// Where HTTP and WebSocket are served; port 0 takes a free one.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8000)),
        text("ADDRESS:PORT", "an address with a port, as 127.0.0.1:8000").jac_cloud_as(&["UV_HOST", "UV_PORT"], jac_cloud::listen);
    /// A PEM file of certificates, the server's own first: with it HTTP and WebSocket are served over TLS. Read again when it changes.
    tls_cert: Option<PathBuf> = None,
        text("FILE", "a file").by_default("none, and there is no TLS").jac_cloud(&["UV_SSL_CERTFILE"]);
    /// The PEM file of its private key, without a password.
    tls_key: Option<PathBuf> = None,
        text("FILE", "a file").by_default("the file of the certificate").jac_cloud(&["UV_SSL_KEYFILE"]);
    /// A MongoDB database that several processes share, as `mongodb://…` or `mongodb+srv://…`. Without it the store is embedded.
    store: Option<String> = None,
        text("URI", "an address that begins with mongodb:// or mongodb+srv://").check(setting::is_store).shows_no_password().by_default("none, and the store is embedded")
            .jac_cloud(&["DATABASE_HOST"]);
    /// The database there, when the address names none.
    database: String = "walkabout".to_owned(),
        text("NAME", "1 to 63 letters, digits, '-' and '_'").check(setting::is_database).jac_cloud(&["DATABASE_NAME"]);
    /// Begins the names of the collections there, so that applications can share a database.
    name: Option<String> = None,
        text("NAME", "1 to 40 letters, digits and '_'").check(setting::is_prefix).by_default("none");
    /// How long a process that shares a database may be silent before others take up its runs.
    lease as lease_ms: Duration = Duration::from_secs(10), millis().from(1000);
    /// How long a write is tried while that database does not answer, or others are in the way.
    patience as patience_ms: Duration = Duration::from_secs(30), millis().from(1000);
    /// The folder of the embedded store and of the files that walkers write; with a database both are there.
    data: PathBuf = PathBuf::from("walkabout-data"), text("FOLDER", "a folder").jac_cloud(&["DATABASE_PATH"]);
    /// The folder of datasets, for walkers that read some.
    datasets: Option<PathBuf> = None, text("FOLDER", "a folder").by_default("datasets in the data folder");
    /// The API that `sync_with_external_system` pages through.
    external_api: Option<String> = None, text("URL", "an address").shows_no_password().by_default("none");
    /// Origins whose pages may call this server from a browser, as `https://example.com`; `*` is all of them.
    allow_origins: Vec<String> = Vec::new(),
        list("ORIGINS", "origins as https://example.com, or *").check(setting::is_origin).jac_cloud(&["ALLOW_ORIGINS"]);
    /// Methods that those pages may use; `*` is all of them.
    allow_methods: Vec<String> = vec!["*".to_owned()],
        list("METHODS", "methods as GET, or *").check(setting::is_token).jac_cloud(&["ALLOW_METHODS"]);
    /// Headers that those pages may send; `*` is all of them.
    allow_headers: Vec<String> = vec!["*".to_owned()],
        list("HEADERS", "names of headers as Authorization, or *").check(setting::is_token).jac_cloud(&["ALLOW_HEADERS"]);
    /// Whether the API documents and their viewer are served: `/openapi.json`, `/openapi.yaml`, `/asyncapi.json`, `/docs`.
    docs: bool = true, flag();
    /// Signs login tokens. Processes that share a database need the same. Without it one is made and kept in the store.
    token_secret: Option<String> = None,
        text("SECRET", "at least 32 bytes").check(setting::is_long_secret).is_secret().by_default("made once, and kept in the store")
            .jac_cloud(&["TOKEN_SECRET"]);
    /// How long a login lasts.
    token_lifetime as token_lifetime_s: Duration = Duration::from_secs(12 * 3600),
        seconds().from(1).jac_cloud_as(&["TOKEN_TIMEOUT"], jac_cloud::hours);
    /// Whether a WebSocket may bring its token in the query, where the logs of others see it.
    allow_query_token: bool = false, flag();
    /// How mail is sent: `smtps://user:password@host`, `smtp://host?tls=required`, or `file:///folder`, where each is written into a file.
    /// Without it none is, and the address of a user is not verified.
    mail_url: Option<String> = None,
        text("URL", "an address that begins with smtps://, smtp:// or file:///").check(setting::is_mail_url).shows_no_password().by_default("none");
    /// Whom mails come from: `no-reply@example.com`, perhaps with a name before it.
    mail_from: Option<String> = None, text("ADDRESS", "an address, as Us <no-reply@example.com>").check(setting::is_mailbox).by_default("none");
    /// What links in mails begin with, as `https://app.example.com`: `/verify?code=…` and `/reset_password?code=…` are below it. Without it a
    /// mail has the code alone.
    mail_links: Option<String> = None,
        text("URL", "an address that begins with https:// or http://").check(setting::is_web_address).by_default("none");
    /// Whether users log in only when their address is verified.
    restrict_unverified_user: bool = false, flag().jac_cloud(&["RESTRICT_UNVERIFIED_USER"]);
    /// How long a code is good that verifies an address.
    verification_code_lifetime as verification_code_lifetime_s: Duration = Duration::from_secs(24 * 3600),
        seconds().from(1).jac_cloud_as(&["VERIFICATION_CODE_TIMEOUT"], jac_cloud::hours);
    /// How long a code is good that sets a password.
    reset_code_lifetime as reset_code_lifetime_s: Duration = Duration::from_secs(24 * 3600),
        seconds().from(1).jac_cloud_as(&["RESET_CODE_TIMEOUT"], jac_cloud::hours);
    /// How long it may take to send a mail.
    mail_time_max as mail_time_max_s: Duration = Duration::from_secs(30), seconds().from(1).to(3600);
    /// Whether walkers that do not say `auth` or `public` ask for a login.
    require_auth_by_default: bool = true, flag().jac_cloud(&["REQUIRE_AUTH_BY_DEFAULT"]);
    /// Whether walkers that do not say how they are called have no endpoint.
    disable_auto_endpoint: bool = false, flag().jac_cloud(&["DISABLE_AUTO_ENDPOINT"]);
    /// In which words `schedule.status` is told: `own`, or `jac_cloud` for `PENDING`, `STARTED`, `COMPLETED` and `ERROR`. Both are always
    /// taken.
    status_words: StatusWords = StatusWords::Own, text("WORDS", "own or jac_cloud");
    /// The providers that users may sign in with, a table each, by the names that they have in paths: `[sso.google]` has `client_id` and
    /// `client_secret`.
    sso: Providers = Providers::new(),
        table("TABLES", "tables by the names of providers, in TOML", sso::unfit).by_default("none")
            .jac_cloud_as(&jac_cloud::PROVIDERS, jac_cloud::providers);
    /// What begins the addresses that providers send browsers back to: `/<platform>/<operation>/callback` comes after it.
    sso_host: String = "http://localhost:8000/sso".to_owned(),
        text("URL", "an address as https://example.com/sso").check(sso::is_address).jac_cloud(&["SSO_HOST"]);
    /// Other addresses that providers may send browsers back to, when `redirect_uri` asks for one of them.
    sso_redirects: Vec<String> = Vec::new(),
        list("URLS", "addresses of pages").check(sso::is_address);
    /// What is logged of all that `RUST_LOG` does not name, as `walkabout=debug`: `off`, `error`, `warn`, `info`, `debug` or `trace`.
    log_level: LevelFilter = LevelFilter::WARN,
        text("LEVEL", "off, error, warn, info, debug or trace").jac_cloud_as(&["LOGGER_LEVEL"], jac_cloud::level);
    /// How the log is written on standard error: `text`, or `ecs` for one JSON object a line with the names of the Elastic Common Schema.
    log_format: LogFormat = LogFormat::Text, text("FORMAT", "text or ecs");
    /// Whether the log has a line for each request, at `info`.
    log_requests: bool = true, flag().jac_cloud(&["UV_ACCESS_LOG"]);
    /// Threads for async walkers.
    async_threads: usize = cores(), number().from(1).to(10_000).by_default("the cores of the machine, at least 2");
    /// Threads for plain walkers.
    sync_threads: usize = cores(), number().from(1).to(10_000).by_default("the cores of the machine, at least 2");
    /// Attempts under way at once, for each of these threads.
    attempts_per_thread_max: usize = 512, number().from(1).to(1_000_000);
    /// How long a walker may go without awaiting anything before another thread takes the place of its own.
    hog_after as hog_after_ms: Duration = Duration::from_secs(1), millis().from(1);
    /// Threads of each kind that are replaced while walkers hold them; when as many are held the server is not ready.
    hogged_threads_max: usize = 32, number().from(1).to(10_000);
    /// Plain walkers waiting for a thread; beyond it the answer is 503.
    sync_queue_max: usize = 4096, number();
    /// Due runs held in memory; the rest wait in the store.
    due_window: usize = 65_536, number().from(1);
    /// Changes in one commit, and nodes that one `first_or_create` may leave out by a filter.
    commit_changes_max: usize = 10_000, number().from(1);
    /// Bytes in one commit, and apart from these in the reports of a run with its log since the last checkpoint.
    commit_bytes_max: usize = 8 << 20, bytes().from(1);
    /// Elements visited by one run.
    visits_max: u64 = 100_000_000, number().from(1);
    /// Elements waiting in one frontier.
    frontier_max: usize = 4_000_000, number().from(1);
    /// What a piece of a frontier, of ignores or of reports may take to be kept in a checkpoint itself; larger ones are written
    /// once, beside it.
    inline_bytes_max: usize = 4 << 10, bytes();
    /// Repetitions of one attempt after conflicts; beyond it the run fails as `conflict`.
    conflicts_max: u32 = 1000, number().to(1_000_000);
    /// Attempts in a row, without a checkpoint between, that end with the process; then the run fails as `lost`.
    lost_max: u32 = 3, number().from(1).to(1_000_000);
    /// How long an attempt may go on after its cancel or pause was asked for, before it is ended without it.
    cancel_grace as cancel_grace_ms: Duration = Duration::from_secs(10), millis();
    /// How long attempts may take to reach a checkpoint when the process stops.
    stop_grace as stop_grace_ms: Duration = Duration::from_secs(10),
        millis().jac_cloud_as(&["UV_TIMEOUT_GRACEFUL_SHUTDOWN"], jac_cloud::seconds);
    /// How long an `Idempotency-Key` is kept.
    idempotency_keep as idempotency_keep_s: Duration = Duration::from_secs(24 * 3600), seconds().from(1);
    /// Walkers inside walkers.
    spawn_depth_max: usize = 32, number();
    /// The shortest span between two kept progress events of one run; the last one is always kept.
    progress_interval as progress_interval_ms: Duration = Duration::from_millis(50), millis();
    /// The newest events kept of a run.
    events_per_run_max: u64 = 10_000, number().from(1);
    /// Frames that a slow subscriber may lag behind before it is replayed from the store.
    subscriber_lag_max: usize = 256, number().from(1).to(1 << 20);
    /// Frames waiting for one WebSocket; beyond it pushes to that socket are dropped.
    socket_queue_max: usize = 256, number().from(1).to(1 << 20);
    /// Open WebSockets.
    sockets_max: usize = 20_000, number().from(1);
    /// The largest WebSocket frame.
    frame_bytes_max: usize = 1 << 20, bytes().from(1).jac_cloud(&["UV_WS_MAX_SIZE"]);
    /// Open connections, WebSockets among them. When there are as many, the oldest that are idle are closed for new ones. The files that
    /// the process may open (`ulimit -n`), less a quarter, bound them as well.
    connections_max: usize = 30_000, number().from(1).to(10_000_000);
    /// How long the head of a request may take to arrive. A connection is closed that has asked nothing for as long; a proxy should
    /// close its own before.
    head_time_max as head_time_max_s: Duration = Duration::from_secs(30), seconds().from(1);
    /// The largest request body.
    body_bytes_max: usize = 2 << 20, bytes().from(1);
    /// How long a request body may take to arrive.
    body_time_max as body_time_max_s: Duration = Duration::from_secs(30), seconds().from(1);
    /// How deep JSON may nest.
    json_depth_max: usize = 127, number().from(1).to(127);
    /// What a request with files may have in all: the files and the other fields.
    upload_bytes_max: usize = 256 << 20, bytes().from(1);
    /// How long a request with files may take to arrive.
    upload_time_max as upload_time_max_s: Duration = Duration::from_secs(600), seconds().from(1);
    /// The largest file that a walker may write, or be sent.
    file_bytes_max: usize = 64 << 20, bytes().from(1);
    /// Nodes and edges that one traverse may look at. As many as by default are some 15 MB as an answer, held beside those of others.
    traverse_items_max: usize = 100_000, number().from(1);
    /// Bytes of decoded elements kept in memory.
    cache_bytes_max: usize = 64 << 20, bytes();
    /// Below this much free room on the disk nothing new is accepted.
    disk_free_min: u64 = 64 << 20, bytes();
    /// Whether walkers may call addresses of private networks.
    allow_private_addresses: bool = false, flag();
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

impl Config {
    /// Whether each value is within its bounds, and all fit together.
    ///
    /// # Errors
    /// [`Error::Config`] with all that are not.
    pub(crate) fn check(&self) -> Result<()> {
        let faults = SETTINGS.iter().flat_map(|setting| setting.faults(self));
        let faults: Vec<String> = faults.chain(self.apart().map(|fault| fault.words)).collect();
        if faults.is_empty() { Ok(()) } else { Err(Error::Config(faults.join("\n"))) }
    }

    /// What does not fit together.
    fn apart(&self) -> impl Iterator<Item = Apart> {
        let providers = sso::faults(&self.sso);
        let providers =
            providers.map(|(name, words)| Apart { of: format!("sso.{name}"), with: "sso", words });
        let key = (self.tls_key.is_some() && self.tls_cert.is_none()).then(|| Apart {
            of: "tls_key".to_owned(),
            with: "tls_cert",
            words: "tls_key is set, and tls_cert is not".to_owned(),
        });
        #[cfg(feature = "mail")]
        let mail = crate::mail::fault(self);
        #[cfg(not(feature = "mail"))]
        let mail = None;
        let mail = mail.map(|words| Apart { of: "mail_url".to_owned(), with: "mail_from", words });
        key.into_iter().chain(mail).chain(providers)
    }
}

/// Settings of which each fits, and both do not.
#[cfg_attr(
    not(feature = "http"),
    expect(dead_code, reason = "only the command line knows where settings come from")
)]
struct Apart {
    /// The one that is told, or the provider.
    of: String,
    /// The other one.
    with: &'static str,
    /// A sentence.
    words: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Config");
        for setting in SETTINGS {
            shown.field(setting.name, &setting.shown(self));
        }
        shown.finish()
    }
}
