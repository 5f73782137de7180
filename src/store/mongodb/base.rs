//! The database as this store lays it out: collections, indexes, and how its errors are to be taken.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::{
    Client, ClientSession, Collection, Database, IndexModel,
    error::{Error as DriverError, ErrorKind},
    gridfs::GridFsBucket,
    options::{ClientOptions, GridFsBucketOptions, IndexOptions, ReadConcern, WriteConcern},
};
use walkabout_schema::FORMAT;

use super::Options;
use crate::store::{Error, Result};

/// The first wire version with a `bulkWrite` over several collections: that of MongoDB 8.0.
const WIRE_VERSION_MIN: i32 = 25;
/// How long a server is looked for before a request fails.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// How long what a commit left for the resolution of its outcome is kept, in seconds.
const COMMITS_KEPT: u64 = 24 * 3600;
/// How long the place of a process that is gone is kept, in seconds.
const PROCESSES_KEPT: u64 = 3600;

/// A collection. The documents of the first four are those of [`walkabout_schema`]; see `src/docs/scale.md` for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    Node,
    Edge,
    Object,
    Walker,
    Checkpoint,
    Segment,
    Event,
    User,
    Identity,
    Request,
    Commit,
    Process,
    Meta,
}

impl Place {
    const ALL: [Self; 13] = [
        Self::Node,
        Self::Edge,
        Self::Object,
        Self::Walker,
        Self::Checkpoint,
        Self::Segment,
        Self::Event,
        Self::User,
        Self::Identity,
        Self::Request,
        Self::Commit,
        Self::Process,
        Self::Meta,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Edge => "edge",
            Self::Object => "object",
            Self::Walker => "walker",
            Self::Checkpoint => "checkpoint",
            Self::Segment => "segment",
            Self::Event => "event",
            Self::User => "user",
            Self::Identity => "identity",
            Self::Request => "request",
            Self::Commit => "commit",
            Self::Process => "process",
            Self::Meta => "meta",
        }
    }
}

/// An index, and the question that it answers.
struct Index {
    place: Place,
    name: &'static str,
    keys: fn() -> Document,
    /// Only documents that have this field.
    having: Option<&'static str>,
    unique: bool,
    expires_after: Option<u64>,
}

impl Index {
    const fn of(place: Place, name: &'static str, keys: fn() -> Document) -> Self {
        Self { place, name, keys, having: None, unique: false, expires_after: None }
    }
}

/// All but those of the ids. A test shows with `explain` that each question is answered by its index.
const INDEXES: [Index; 11] = [
    // The links of a node, of one edge type or of all, in their order.
    Index::of(Place::Edge, "links_out", || doc! { "out": 1, "name": 1, "_id": 1 }),
    Index::of(Place::Edge, "links_in", || doc! { "in": 1, "name": 1, "_id": 1 }),
    // The runs of a root, newest first.
    Index::of(Place::Walker, "runs_of_root", || doc! { "root": 1, "_id": -1 }),
    // Those that ended in one way.
    Index::of(
        Place::Walker,
        "runs_of_root_by_status",
        || doc! { "root": 1, "schedule.status": 1, "_id": -1 },
    ),
    // Open runs that may be due whatever the time is.
    Index {
        having: Some("live.state"),
        ..Index::of(Place::Walker, "open_runs", || doc! { "live.state": 1, "_id": 1 })
    },
    // Open runs that are due at a time.
    Index {
        having: Some("live.more.timer"),
        ..Index::of(Place::Walker, "sleepers", || doc! { "live.more.timer": 1, "_id": 1 })
    },
    Index { unique: true, ..Index::of(Place::User, "address", || doc! { "email": 1 }) },
    Index::of(Place::User, "users_of_root", || doc! { "root_id": 1, "_id": 1 }),
    Index { expires_after: Some(0), ..Index::of(Place::Request, "forgotten", || doc! { "until": 1 }) },
    Index { expires_after: Some(COMMITS_KEPT), ..Index::of(Place::Commit, "forgotten", || doc! { "at": 1 }) },
    Index {
        expires_after: Some(PROCESSES_KEPT),
        ..Index::of(Place::Process, "forgotten", || doc! { "until": 1 })
    },
];

/// A connection to the database.
pub(super) struct Base {
    client: Client,
    database: Database,
    prefix: String,
    /// See [`Options::patience`].
    pub(super) patience: Duration,
}

impl Base {
    /// Connects, and makes what is not there yet.
    pub(super) async fn connect(wanted: &Options) -> Result<Self> {
        let mut options = ClientOptions::parse(&wanted.uri).await.map_err(|error| {
            Error::Open(format!("the address of the MongoDB store does not read: {}", said(&error)))
        })?;
        options.app_name.get_or_insert_with(|| "walkabout".to_owned());
        options.server_selection_timeout.get_or_insert(FOUND_WITHIN);
        // Who reads elsewhere would read what is over.
        options.selection_criteria = None;
        options.write_concern = Some(durable());
        options.read_concern = Some(ReadConcern::majority());
        let database = options.default_database.clone().unwrap_or_else(|| wanted.database.clone());
        let client = Client::with_options(options).map_err(|error| Error::Open(said(&error)))?;
        let database = client.database(&database);
        let prefix = wanted.name.as_ref().map(|name| format!("{name}_")).unwrap_or_default();
        let base = Self { client, database, prefix, patience: wanted.patience };
        base.check_server().await?;
        base.prepare().await?;
        Ok(base)
    }

    async fn check_server(&self) -> Result<()> {
        let answered = self.client.database("admin").run_command(doc! { "hello": 1 }).await;
        let hello = answered
            .map_err(|error| Error::Open(format!("the MongoDB server does not answer: {}", said(&error))))?;
        let wire = hello.get_i32("maxWireVersion").unwrap_or_default();
        if wire < WIRE_VERSION_MIN {
            return Err(Error::Open(format!(
                "the MongoDB server speaks wire version {wire}; {WIRE_VERSION_MIN} is needed, which is that of MongoDB 8.0"
            )));
        }
        if !hello.contains_key("setName") && !hello.get_str("msg").is_ok_and(|kind| kind == "isdbgrid") {
            return Err(Error::Open(
                "the MongoDB server stands alone, and has no transactions: start it with --replSet and run rs.initiate()"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Makes collections and indexes. What is there already stays.
    async fn prepare(&self) -> Result<()> {
        let open =
            |error: DriverError| Error::Open(format!("the MongoDB store is not usable: {}", said(&error)));
        // `meta` is there before a node is, so the nodes are looked at first.
        let node = self.collection::<Document>(Place::Node).find_one(doc! {}).await.map_err(open)?;
        let there = self.database.list_collection_names().await.map_err(open)?;
        if node.is_some() && !there.contains(&self.name(Place::Meta)) {
            return Err(Error::Open(
                "the MongoDB database holds nodes of another program: choose another with --database, or begin the names of collections with --name"
                    .to_owned(),
            ));
        }
        for place in Place::ALL {
            let name = self.name(place);
            // A transaction may not have to make a collection.
            if !there.contains(&name) {
                match self.database.create_collection(&name).await {
                    Err(error) if code(&error) != Some(NAMESPACE_EXISTS) => return Err(open(error)),
                    _ => {}
                }
            }
        }
        for index in INDEXES {
            let partial = index.having.map(|field| doc! { field: { "$exists": true } });
            let options = IndexOptions::builder()
                .name(index.name.to_owned())
                .unique(index.unique.then_some(true))
                .expire_after(index.expires_after.map(Duration::from_secs))
                .partial_filter_expression(partial)
                .build();
            let model = IndexModel::builder().keys((index.keys)()).options(options).build();
            self.collection::<Document>(index.place).create_index(model).await.map_err(open)?;
        }
        // Those of GridFS, which the driver makes only when the first file of all is a large one.
        for (part, keys) in
            [("files", doc! { "filename": 1, "uploadDate": 1 }), ("chunks", doc! { "files_id": 1, "n": 1 })]
        {
            let model = IndexModel::builder().keys(keys).build();
            self.of_files(part).create_index(model).await.map_err(open)?;
        }
        self.check_format().await.map_err(|error| match error {
            Tried::Refused(error) => error,
            other => Error::Open(other.to_string()),
        })
    }

    async fn check_format(&self) -> Tries<()> {
        let meta = self.collection::<Document>(Place::Meta);
        let format = i64::from(FORMAT);
        let found = meta
            .find_one_and_update(doc! { "_id": "format" }, doc! { "$setOnInsert": { "value": format } })
            .upsert(true)
            .await?;
        match found.and_then(|found| found.get_i64("value").ok()) {
            Some(newer) if newer > format => Err(Tried::Refused(Error::Open(format!(
                "the format of the MongoDB store is {newer}, and this program reads up to {format}: use the newer program that wrote it"
            )))),
            _ => Ok(()),
        }
    }

    pub(super) fn name(&self, place: Place) -> String {
        format!("{}{}", self.prefix, place.name())
    }

    /// The name of a collection, with that of its database.
    pub(super) fn full_name(&self, place: Place) -> String {
        format!("{}.{}", self.database.name(), self.name(place))
    }

    pub(super) fn collection<T: Send + Sync>(&self, place: Place) -> Collection<T> {
        self.database.collection(&self.name(place))
    }

    pub(super) fn admin(&self) -> Database {
        self.client.database("admin")
    }

    /// Where files are kept.
    pub(super) fn bucket(&self) -> GridFsBucket {
        self.database.gridfs_bucket(GridFsBucketOptions::builder().bucket_name(self.files()).build())
    }

    /// The pieces of files, as they lie there.
    pub(super) fn pieces(&self) -> Collection<Document> {
        self.of_files("chunks")
    }

    fn of_files(&self, part: &str) -> Collection<Document> {
        self.database.collection(&format!("{}.{part}", self.files()))
    }

    fn files(&self) -> String {
        format!("{}file", self.prefix)
    }

    /// Waits for an answer, as long as patience lasts: a connection that is silent need not be broken.
    pub(super) async fn bounded<T>(&self, answer: impl Future<Output = Tries<T>>) -> Tries<T> {
        let silent = || Tried::Away(format!("no answer in {} ms", self.patience.as_millis()));
        tokio::time::timeout(self.patience, answer).await.map_err(|_| silent())?
    }

    /// Ends the transaction of a session that nobody will end any more.
    pub(super) async fn kill(&self, session: &Document) -> Tries<()> {
        match self.admin().run_command(doc! { "killSessions": [session] }).await.map_err(Tried::from) {
            // Who may not do that has the server do it, after a minute.
            Err(Tried::Refused(error)) => {
                tracing::warn!(%error, "a transaction that is left open is not ended")
            }
            killed => drop(killed?),
        }
        Ok(())
    }

    pub(super) async fn session(&self) -> Tries<ClientSession> {
        Ok(self.client.start_session().await?)
    }

    /// Reads next to nothing, so that the transaction has its moment.
    pub(super) async fn touch(&self, session: &mut ClientSession) -> Tries<()> {
        self.collection::<Document>(Place::Meta).find_one(doc! { "_id": "format" }).session(session).await?;
        Ok(())
    }

    /// Begins a transaction that sees one moment, and whose writes are on the disks of most servers when it is committed.
    pub(super) async fn begin(&self, session: &mut ClientSession) -> Tries<()> {
        session.start_transaction().read_concern(ReadConcern::snapshot()).write_concern(durable()).await?;
        Ok(())
    }
}

fn durable() -> WriteConcern {
    WriteConcern::builder().w(mongodb::options::Acknowledgment::Majority).journal(true).build()
}

const NAMESPACE_EXISTS: i32 = 48;
const WRITE_CONFLICT: i32 = 112;
const NO_SUCH_TRANSACTION: i32 = 251;
/// The code of an error: a document of this id, or of another unique value, is there already.
const DUPLICATE_KEY: i32 = 11_000;

/// Why a request failed, by what is to be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Tried {
    /// Nothing was written: another transaction has its hands on the same documents.
    #[error("{0}")]
    Crossed(String),
    /// Nothing was written: the database cannot be reached, or is busy with itself.
    #[error("{0}")]
    Away(String),
    /// It may have been written or not.
    #[error("{0}")]
    Unknown(String),
    /// Nothing was written, and nothing ever will be.
    #[error("{0}")]
    Refused(Error),
}

pub(super) type Tries<T> = std::result::Result<T, Tried>;

impl From<DriverError> for Tried {
    fn from(error: DriverError) -> Self {
        use mongodb::error::{
            RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT,
        };
        let why = said(&error);
        if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
            return Self::Unknown(why);
        }
        if code(&error).is_some_and(is_crossed) {
            return Self::Crossed(why);
        }
        let is_away = error.contains_label(TRANSIENT_TRANSACTION_ERROR)
            || error.contains_label(RETRYABLE_WRITE_ERROR)
            || code(&error).is_some_and(is_passing)
            || matches!(
                *error.kind,
                ErrorKind::Io(_)
                    | ErrorKind::ConnectionPoolCleared { .. }
                    | ErrorKind::ServerSelection { .. }
                    | ErrorKind::DnsResolve { .. }
            );
        if is_away { Self::Away(why) } else { Self::Refused(Error::Damaged(why)) }
    }
}

impl From<Error> for Tried {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Tried> for Error {
    fn from(tried: Tried) -> Self {
        match tried {
            Tried::Crossed(why) | Tried::Away(why) => Self::Unavailable(why),
            Tried::Unknown(why) => Self::OutcomeUnknown(why),
            Tried::Refused(error) => error,
        }
    }
}

/// True for errors that say that another transaction was in the way.
pub(super) fn is_crossed(code: i32) -> bool {
    matches!(code, DUPLICATE_KEY | WRITE_CONFLICT | NO_SUCH_TRANSACTION)
}

/// True for errors of a server that starts, stops or is no longer the primary, and of one that is slow: the codes that the driver's
/// specification of retryable reads names, and those of time limits.
fn is_passing(code: i32) -> bool {
    matches!(
        code,
        6 | 7
            | 24
            | 43
            | 50
            | 89
            | 91
            | 133
            | 134
            | 189
            | 202
            | 237
            | 246
            | 262
            | 9001
            | 10107
            | 11600
            | 11601
            | 11602
            | 13435
            | 13436
    )
}

/// The number of an error of the server.
pub(super) fn code(error: &DriverError) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(error)) => Some(error.code),
        _ => None,
    }
}

/// True when a document of this id is there already.
pub(super) fn is_duplicate(error: &DriverError) -> bool {
    code(error) == Some(DUPLICATE_KEY)
}

/// What the driver says, for the log. It names no password: addresses in its errors carry none.
fn said(error: &DriverError) -> String {
    error.kind.to_string()
}
