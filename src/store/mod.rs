//! What every store does, in the words of the domain.
//!
//! A store keeps elements (nodes, edges, objects), users, runs with their records, checkpoints and events. A segment of a checkpoint is
//! there exactly as long as the checkpoint of an open run names it. Each method is one
//! atomic step. What a method has answered is durable; what is not durable cannot be read. `tests/it/conformance.rs` is the contract:
//! every store runs all of it.
//!
//! Called by `submit`, `runner` and `runtime`; never by `http`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::RawDocumentBuf;
use futures_util::future::BoxFuture;
use serde_json::Value;
use uuid::Uuid;
use walkabout_schema::{
    Access, Checkpoint, ErrorCode, Event, EventKind, Fields, Items, Kind, Name, Reply, Run, State, Status,
    Timestamp, User, Walker,
};

use crate::{files::Files, run::lifecycle::Step, walker::DecodedCell};

#[cfg(feature = "embedded")]
pub mod embedded;
mod kv;
pub mod memory;
#[cfg(feature = "mongodb")]
pub mod mongodb;
pub mod sim;

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another walker changed what this commit read. Nothing was written; a new attempt may succeed.
    #[error("{} element(s) changed since they were read", .0.len())]
    Conflict(Vec<Uuid>),
    /// A number was to be added to a field that holds something else. Nothing was written.
    #[error("field {field:?} of element {id} holds no number: `add` needs one")]
    NotANumber {
        /// The element.
        id: Uuid,
        /// The field.
        field: String,
    },
    /// The token is not that of the run's present attempt. Nothing was written, and nothing of this attempt ever will be.
    #[error("the attempt's lease is lost")]
    LeaseLost,
    /// A write or its sync failed, so nobody knows whether it will be there after a restart. The store takes no more writes.
    #[error("the outcome of the write is unknown: {0}")]
    OutcomeUnknown(String),
    /// The disk has less free room than the configured bound. Nothing was written.
    #[error("not stored: {0}")]
    Full(String),
    /// The store cannot be reached. Nothing was written; it may be later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store was closed: this process stops. Nothing was written.
    #[error("the store is closed")]
    Closed,
    /// The files cannot be opened or hold what this program cannot read. Nothing was changed.
    #[error("{0}")]
    Open(String),
    /// A stored document does not decode.
    #[error("a stored document is damaged: {0}")]
    Damaged(String),
}

/// The result of a store's method.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One element as it stands in the store, shared between all that read it.
#[derive(Debug)]
pub struct Element {
    /// Node, edge or object.
    pub kind: Kind,
    /// Its UUID.
    pub id: Uuid,
    /// The name of its type; empty for roots and plain edges.
    pub name: Name,
    /// The owner root; none for a root.
    pub owner: Option<Uuid>,
    /// Who else may do what.
    pub access: Access,
    /// 1 when new, one more with every change.
    pub version: u64,
    /// The ends of an edge; none for others.
    pub ends: Option<Ends>,
    /// The `has` fields.
    pub fields: Fields,
    /// The fields as the type that last asked for them, decoded once and shared.
    pub decoded: DecodedCell,
}

/// The ends of an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// Where it begins.
    pub source: End,
    /// Where it ends.
    pub target: End,
    /// True when it may be walked both ways.
    pub undirected: bool,
}

/// A node as an edge knows it. Name and owner of a node never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The node.
    pub id: Uuid,
    /// Its type's name.
    pub name: Name,
    /// Its owner root; none when it is a root itself.
    pub owner: Option<Uuid>,
}

/// Which way an edge is walked from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Along edges that begin at the node, and undirected ones.
    Out,
    /// Along edges that end at the node, and undirected ones.
    In,
}

/// One entry of the adjacency index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The edge.
    pub edge: Uuid,
    /// The name of the edge's type.
    pub edge_name: Name,
    /// The node at the other end.
    pub far: End,
}

/// A consistent view at one moment.
pub trait Snapshot: Send + Sync {
    /// Rises with what was written: two views of one number are equal. A store that remembers what changed since a number need not
    /// compare what was read at it.
    fn number(&self) -> u64;

    /// Loads elements of one kind, in the order of `ids`; `None` where there is none, as there is no walker: it is no element. `ids` is
    /// at most a few thousand.
    fn elements(&self, kind: Kind, ids: &[Uuid]) -> BoxFuture<'_, Result<Vec<Option<Arc<Element>>>>>;

    /// The links of a node in one direction, of one edge type or of all: in order of edge name, then of the edges' ids.
    /// Empty for an unknown node. An undirected edge stands in both directions of both its ends.
    fn links(
        &self,
        node: Uuid,
        direction: Direction,
        edge_name: Option<Name>,
    ) -> BoxFuture<'_, Result<Arc<[Link]>>>;
}

/// One change of an element.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new or changed element. `expected` is the version that was read, none for a new one; `element.version` the new one.
    Put {
        /// The element as it shall stand.
        element: Arc<Element>,
        /// The version that it replaces.
        expected: Option<u64>,
    },
    /// Removes an element; a node takes its edges with it, also those that the attempt never saw. Removing what is already gone is a conflict.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its UUID.
        id: Uuid,
        /// The version that was read.
        expected: u64,
    },
    /// Adds to a number, whatever it is by now; a missing field counts as 0. Never conflicts unless the element is gone or the field is no number.
    Add {
        /// The kind of the element.
        kind: Kind,
        /// Its UUID.
        id: Uuid,
        /// A field at the top level.
        field: String,
        /// What to add.
        by: i64,
    },
}

/// Something that a commit relied on.
#[derive(Debug, Clone)]
pub enum Guard {
    /// The element still has this version.
    Version {
        /// Its kind.
        kind: Kind,
        /// Its UUID.
        id: Uuid,
        /// The version that was read.
        expected: u64,
    },
    /// The element still exists with this access.
    Access {
        /// Its kind.
        kind: Kind,
        /// Its UUID.
        id: Uuid,
        /// The access that was read.
        expected: Access,
    },
    /// The links of a node in a direction are still those that were read: no more, no fewer.
    Links {
        /// The node.
        node: Uuid,
        /// The direction that was read.
        direction: Direction,
        /// The edge type that was read, or all.
        edge_name: Option<Name>,
        /// The links that were there, in the order of [`Snapshot::links`].
        expected: Arc<[Link]>,
        /// The [`Snapshot::number`] of the view that they were read from.
        seen: u64,
    },
}

/// Proof of being the present attempt of a run. No two claims of a run ever have the same; those of one process only rise, over
/// restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Rises with every opening of the store; no two processes have the same.
    pub epoch: u64,
    /// Rises with every claim.
    pub counter: u64,
}

/// A run about to be stored.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The whole first record: state queued, or scheduled for its `next_attempt_at`; attempt 0.
    pub walker: Walker,
    /// What makes a repetition of the request known.
    pub key: Option<RequestKey>,
}

/// The caller's own name for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Digest of caller, route and the key itself.
    pub key: [u8; 32],
    /// Digest of what was asked.
    pub request: [u8; 32],
    /// Until when it is kept.
    pub until: Timestamp,
}

/// What became of a [`Submission`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is stored.
    New,
    /// The same was asked before under this key: this run. Nothing was written.
    Known(Uuid),
    /// Something else was asked before under this key. Nothing was written.
    Reused,
}

/// A run taken for an attempt.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What every write of the attempt must carry.
    pub token: Token,
    /// The record, already showing this attempt as running.
    pub walker: Walker,
    /// Where the last checkpoint left it.
    pub checkpoint: Option<Checkpoint>,
    /// All the segments that the checkpoint names, by number.
    pub segments: BTreeMap<u64, Items>,
    /// What it waited for, when that is there.
    pub answer: Option<Value>,
}

/// What a claim found.
#[derive(Debug, Clone)]
pub enum Claimed {
    /// The run, for an attempt.
    Taken(Box<Claim>),
    /// It is not due before this time.
    Early(Due),
    /// It has ended, waits for somebody, or is not there.
    Nothing,
}

/// What a commit says about its run.
#[derive(Debug, Clone)]
pub struct RunCommit {
    /// The run.
    pub id: Uuid,
    /// The attempt's token.
    pub token: Token,
    /// What happened since the last commit, in order; numbered by the store.
    pub events: Vec<EventKind>,
    /// How the run goes on.
    pub then: Then,
    /// How often the attempt was repeated so far because of conflicts.
    pub conflicts: u32,
}

/// A checkpoint, and how the segments of its run change with it: all in the same step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stand {
    /// Replaces the one before.
    pub checkpoint: Checkpoint,
    /// The segments that it names and the one before did not, by number. Numbers of a run only rise: none of them was there before.
    pub fresh: BTreeMap<u64, Items>,
    /// The segments that the one before named and it does not: they are removed.
    pub gone: Vec<u64>,
}

impl From<Checkpoint> for Stand {
    /// One that names no segments, after one that named none.
    fn from(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, ..Self::default() }
    }
}

/// How a run goes on after a commit.
#[derive(Debug, Clone)]
pub enum Then {
    /// It stands here; a later attempt goes on from this.
    Checkpoint(Box<Stand>),
    /// The attempt lets go of the run: its token is worth nothing any more.
    Release {
        /// Where the run stands now; none when it stands where it stood.
        checkpoint: Option<Box<Stand>>,
        /// How it goes on.
        to: Release,
    },
    /// It is over. Its checkpoint and all its segments are removed.
    Finish(Box<Finish>),
}

/// How a run goes on that its attempt let go of. None of these but `Retry` spends the attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Release {
    /// Due at once.
    Queue,
    /// Due at once, and the attempt counts as lost, as if its process had ended.
    Lost,
    /// Held until somebody resumes it.
    Pause,
    /// Due at a time.
    Sleep {
        /// The time.
        until: Timestamp,
    },
    /// Due when somebody answers, or at a time.
    Await {
        /// What is waited for.
        name: String,
        /// The time.
        until: Option<Timestamp>,
    },
    /// Due at a time, for another attempt.
    Retry {
        /// The time.
        until: Timestamp,
        /// Why this one failed.
        error: (ErrorCode, String),
    },
    /// Due at the next opening of the store.
    Park {
        /// Why this program cannot run it.
        error: String,
    },
}

/// What somebody outside wants of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Its end. An attempt under way is only asked.
    Cancel {
        /// The safe sentence that its record shows.
        reason: String,
    },
    /// That it is held. An attempt under way is only asked.
    Pause,
    /// That it is no longer held.
    Resume,
    /// The answer that it waits for.
    Answer {
        /// What is waited for.
        name: String,
        /// Any value.
        value: Value,
    },
}

/// What an [`Act`] did.
#[derive(Debug, Clone, PartialEq)]
pub enum Acted {
    /// It is as it was wanted now.
    Done,
    /// The attempt under way is asked; its runner should hear of it. With the number of the event that says so: of several words the
    /// one with the highest number is the last.
    Asked(u64),
    /// It is due now, or at another time.
    Due(Due),
    /// It was so before. Nothing was written.
    Already,
    /// It cannot be done in this state. Nothing was written.
    Refused(State),
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct Finish {
    /// When.
    pub at: Timestamp,
    /// The fields as the walker left them.
    pub fields: Fields,
    /// Its `schedule.http_status`.
    pub http_status: u16,
    /// All reports of the run; empty when it failed.
    pub reports: Vec<Value>,
    /// What `set_custom` left.
    pub custom: Value,
    /// The run's result.
    pub result: Value,
    /// What it gave in the place of its reports.
    pub response: Option<Reply>,
    /// None when it ended well. `TimedOut` and `Cancelled` have states of their own.
    pub error: Option<(ErrorCode, String)>,
}

/// All changes since the last checkpoint, written together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The run, when there is a record of it.
    pub run: Option<RunCommit>,
    /// In the order in which they were made.
    pub changes: Vec<Change>,
    /// What must still hold.
    pub guards: Vec<Guard>,
}

/// A run that has not ended, as the due queue sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The run.
    pub id: Uuid,
    /// The root that takes turns with others.
    pub root: Uuid,
    /// How many of its attempts in a row ended with their process, the last one included.
    pub lost: u32,
    /// When it is due; the beginning of time when it is due already.
    pub at: Timestamp,
}

/// A page of open runs.
#[derive(Debug, Clone, Default)]
pub struct OpenRuns {
    /// Those that are due, by id.
    pub due: Vec<Due>,
    /// What to begin the next page after; none when this is the last.
    pub next: Option<Uuid>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only these walkers.
    pub name: Option<Name>,
    /// Only this status.
    pub status: Option<Status>,
    /// Only this state.
    pub state: Option<State>,
}

/// A page of runs.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    /// The newest first.
    pub walkers: Vec<Walker>,
    /// There are older ones.
    pub more: bool,
}

/// What a page of runs or events holds at most, beside one that is larger by itself, in bytes as stored.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

/// The kept events of a run.
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// In order of their numbers.
    pub events: Vec<Event>,
    /// The number of the oldest kept event; 0 when there is none.
    pub first: u64,
    /// The number of the newest event; 0 when there is none.
    pub last: u64,
}

/// How a registration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// User and root are stored.
    New,
    /// The address is taken, or an identity. Nothing was written.
    Taken,
}

/// Receives the events of runs, in order, each after it became durable. Called on the store's committing thread: must not block.
pub type EventSink = Arc<dyn Fn(&RunEvents) + Send + Sync>;

/// Events of one run that became durable together.
#[derive(Debug, Clone)]
pub struct RunEvents {
    /// The run.
    pub id: Uuid,
    /// The walker's name.
    pub name: Name,
    /// With their numbers.
    pub events: Vec<Event>,
}

/// What others who write to the same store may have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stirred {
    /// Runs that are due.
    Due,
    /// Everything that a process had in hand that is gone now: due runs, and those that sleep.
    Left,
    /// Events that [`Store::hear`] did not pass on.
    Missed,
}

/// Durable storage for one runtime.
///
/// # Cancel safety
/// A dropped write may or may not happen; it never happens in part.
pub trait Store: Send + Sync + 'static {
    /// Where events go once they are durable. Set once, before the first run.
    fn publish_to(&self, sink: EventSink);

    /// Where the events go that others write to the same store, once they are durable; see [`Store::stirred`] for those that are missed.
    /// Set once, before the first run. A store of one process's own has none.
    fn hear(&self, _: EventSink) {}

    /// Waits until others who write to the same store may have left something. A store of one process's own never ends this.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    fn stirred(&self) -> BoxFuture<'_, Stirred> {
        Box::pin(std::future::pending())
    }

    /// A view of the graph as it stands now.
    fn snapshot(&self) -> BoxFuture<'_, Result<Arc<dyn Snapshot>>>;

    /// Gives the bytes kept under `name`, keeping `fresh` first when there are none. For secrets made at the first start.
    fn keep(&self, name: &str, fresh: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>>>;

    /// Stores a user in one step with the user's root, unless that is there already. The address and each identity are of one user.
    fn register(&self, user: User, root: Option<Arc<Element>>) -> BoxFuture<'_, Result<Registered>>;

    /// Stores a user in the place of the one of this id and version, which it then has one more of. False when there is none: it was
    /// changed meanwhile, or is gone.
    ///
    /// # Errors
    /// [`Error::Conflict`] when an identity that the user did not have is another's.
    fn change_user(&self, user: User) -> BoxFuture<'_, Result<bool>>;

    /// Removes the user of this id and version, in one step with the submission of a run, which has no request key; and while the
    /// other one stays, when one is named: an administrator of the same root. False when there is not the one or not the other, and
    /// nothing is submitted then: a user was changed meanwhile, or is gone.
    fn remove_user(
        &self,
        user: User,
        stays: Option<User>,
        then: Option<Submission>,
    ) -> BoxFuture<'_, Result<bool>>;

    /// The user of an address, compared as it is written.
    fn user(&self, email: &str) -> BoxFuture<'_, Result<Option<User>>>;

    /// Those who act as a root, by their ids: one, or all administrators of the system. A user whom a program before this method stored
    /// may be missing until the next [`Store::change_user`].
    fn users_of(&self, root: Uuid) -> BoxFuture<'_, Result<Vec<User>>>;

    /// The user who has this identity at a provider.
    fn user_of_identity(&self, provider: &str, id: &str) -> BoxFuture<'_, Result<Option<User>>>;

    /// Uses up what can be used once, by its digest: true the first time, false from then on until `until`. It must not be good any
    /// longer than that.
    fn spend(&self, key: [u8; 32], now: Timestamp, until: Timestamp) -> BoxFuture<'_, Result<bool>>;

    /// Stores a run with its event number 1, `accepted`. Synced when this answers, also for one that is known already.
    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<Submitted>>;

    /// Runs that are due whatever the time is, by id, after the given one: those that are queued, and those that were under way or
    /// parked before this store was opened. A page looks at `limit` open runs.
    fn open_runs(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<OpenRuns>>;

    /// Runs that are due at a time, those after the given one by time and id. At most `limit`.
    fn sleepers(&self, after: Option<(Timestamp, Uuid)>, limit: usize) -> BoxFuture<'_, Result<Vec<Due>>>;

    /// Takes a run for an attempt, with the highest token yet. After a failure, or when it is found under way from an earlier epoch,
    /// that is a new attempt; else the last one goes on. One found under way counts as lost once more. A run whose deadline is over
    /// by `now`, or whose end was asked for, is ended instead. Not synced: a claim outlives the process, not a
    /// power loss, after which the run is due as if never claimed. The event `started` or `resumed` comes with the attempt's first synced
    /// write, or a moment later when there is none, so that no event is seen that a power loss could take back.
    ///
    /// # Errors
    /// When the run cannot be read; then nobody holds it. It is due again, or parked when what is stored of it is damaged.
    fn claim(&self, id: Uuid, now: Timestamp) -> BoxFuture<'_, Result<Claimed>>;

    /// Does what somebody outside wants, when the run's state allows it. `None` when there is no such run. Synced when this answers.
    fn act(&self, id: Uuid, now: Timestamp, act: Act) -> BoxFuture<'_, Result<Option<Acted>>>;

    /// Adds a `progress` event at once, outside any commit, and shows it in the record. Synced when this answers.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] for a stale token.
    fn progress(&self, id: Uuid, token: Token, now: Timestamp, data: Value) -> BoxFuture<'_, Result<u64>>;

    /// Writes a commit: all of it, or nothing. Synced when this answers.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the ids that changed; [`Error::LeaseLost`] for a stale token.
    fn commit(&self, now: Timestamp, commit: Commit) -> BoxFuture<'_, Result<()>>;

    /// The record of a run as it stands: progress included; while it is open, the fields of its last checkpoint.
    fn run(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Walker>>>;

    /// The runs of a root, newest first, those older than `before`: at most `limit`, and fewer when they are large.
    fn runs(
        &self,
        root: Uuid,
        filter: RunFilter,
        before: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Runs>>;

    /// The events of a run with numbers above `after`, at most `limit`.
    fn events(&self, id: Uuid, after: u64, limit: usize) -> BoxFuture<'_, Result<Events>>;

    /// Where the files of runs are kept, when the store has a place for them; else they lie in the data folder.
    fn files(&self) -> Option<Arc<dyn Files>> {
        None
    }

    /// Whether writes are still taken; the reason when they are not.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when none will be taken ever again: the process has to end. Everything else may pass.
    fn health(&self) -> Result<()>;

    /// Finishes what is under way and closes. Later writes fail as [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] when an earlier write failed: the outcome of that is still unknown.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

/// How long to wait before a store that could not be reached is asked again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Lets go of a run, or ends it, however long the store cannot be reached: until then nobody else takes the run up.
pub(crate) async fn let_go(store: &dyn Store, now: Timestamp, run: RunCommit) -> Result<()> {
    loop {
        let commit = Commit { run: Some(run.clone()), ..Commit::default() };
        match store.commit(now, commit).await {
            Err(Error::Unavailable(why)) if !matches!(store.health(), Err(Error::OutcomeUnknown(_))) => {
                tracing::warn!(run = %run.id, why, "a run is not let go yet");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Bounds of a store. See `config` for the settings behind them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The newest events kept of a run.
    pub events_per_run_max: u64,
    /// Bytes of decoded elements and links kept in memory.
    pub cache_bytes_max: usize,
    /// Writes are refused when the disk has less free room than this, in bytes.
    pub disk_free_min: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events_per_run_max: 10_000, cache_bytes_max: 64 << 20, disk_free_min: 64 << 20 }
    }
}

impl Finish {
    /// An end that is not well.
    pub fn failed(at: Timestamp, fields: Fields, code: ErrorCode, error: String) -> Self {
        let http_status = match code {
            ErrorCode::TimedOut => 504,
            ErrorCode::Cancelled => 409,
            _ => 500,
        };
        Self {
            at,
            fields,
            http_status,
            reports: Vec::new(),
            custom: Value::Null,
            result: Value::Null,
            response: None,
            error: Some((code, error)),
        }
    }

    /// The step that leads to it.
    pub(crate) fn step(&self) -> Step {
        match &self.error {
            None => Step::Succeed,
            Some((ErrorCode::TimedOut, _)) => Step::TimeOut,
            Some((ErrorCode::Cancelled, _)) => Step::Cancel,
            Some(_) => Step::Fail,
        }
    }
}

/// An encoded document with no fields.
pub fn no_fields() -> Fields {
    Fields(RawDocumentBuf::new())
}

/// Keeps a record's run part true to a state.
pub(crate) fn set_state(walker: &mut Walker, state: State) {
    walker.run.state = state;
    walker.schedule.status = state.status();
}

/// A run's first part before anything happened.
pub(crate) fn new_run(now: Timestamp, admin: bool) -> Run {
    Run {
        state: State::Queued,
        attempt: 0,
        conflicts: 0,
        lost: 0,
        progress: Value::Null,
        result: Value::Null,
        response: None,
        error_code: None,
        retries: 0,
        created_at: now,
        started_at: None,
        finished_at: None,
        next_attempt_at: None,
        waits_for: None,
        deadline: None,
        cancel_requested_at: None,
        pause_requested_at: None,
        retry_of: None,
        request_id: None,
        admin,
    }
}
