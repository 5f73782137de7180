//! The committer: all writes of this process, in groups that share one transaction.
//!
//! What the members of a group rely on is fetched, the rules of [`kv`](crate::store::kv) examine one member after the other, and what
//! was found good is written at once. Several processes write to one database: a group that meets another's is undone by the
//! database, and done again.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError},
};

use bson::{Document, doc};
use mongodb::ClientSession;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};
use uuid::Uuid;

use super::{
    base::{self, Base, Place, Tried, Tries},
    documents::{self, Expected, Ops},
    fetched::{Fetched, Need},
    lease::Lease,
};
use crate::{
    env::Env,
    store::{
        Error, Result, RunEvents,
        kv::{
            engine::Space,
            stage::{Stage, Touched},
            writer::{Fault, Shared},
        },
    },
};

/// Members of one group at most.
const GROUP_MAX: usize = 512;
/// Bytes of one group at most, beside a member that is larger by itself.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// Members waiting at most; beyond it callers wait.
pub(super) const QUEUE_MAX: usize = 8192;
/// How long the outcome of a commit is asked for.
const RESOLVED_WITHIN: Duration = Duration::from_secs(60);
/// The shortest wait before a group is tried again; it doubles from then on.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a group that met another's is tried as it is.
const CROSSED_MAX: u32 = 2;
/// The number of a stage that remembers no earlier changes of links: so all are compared.
const NO_MEMORY: u64 = u64::MAX / 2;

/// A write, and who waits for it.
pub(super) trait Member: Send {
    /// What it will write, in bytes, about.
    fn bytes(&self) -> usize;
    /// What it will read, as far as is known.
    fn needs(&self) -> Vec<Need>;
    /// Examines it against what was fetched and the members before it, and stages it when it is good. It may be asked again.
    fn examine(&mut self, shared: &Shared, stage: &mut Stage) -> Examined;
    /// Answers, once its group is written, or could not be.
    fn settle(self: Box<Self>, failure: Option<&Error>);
}

/// What became of a member under examination.
pub(super) enum Examined {
    Good(Option<RunEvents>),
    Refused,
}

/// A rule, as a member.
pub(super) struct Asked<T, F> {
    bytes: usize,
    needs: Vec<Need>,
    rule: F,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> Asked<T, F>
where
    T: Send + 'static,
    F: FnMut(&Shared, &mut Stage) -> Result<(T, Option<RunEvents>)> + Send + 'static,
{
    pub(super) fn member(
        bytes: usize,
        needs: Vec<Need>,
        rule: F,
    ) -> (Box<dyn Member>, oneshot::Receiver<Result<T>>) {
        let (answer, receive) = oneshot::channel();
        (Box::new(Self { bytes, needs, rule, result: None, answer }), receive)
    }
}

impl<T, F> Member for Asked<T, F>
where
    T: Send + 'static,
    F: FnMut(&Shared, &mut Stage) -> Result<(T, Option<RunEvents>)> + Send + 'static,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn needs(&self) -> Vec<Need> {
        self.needs.clone()
    }

    fn examine(&mut self, shared: &Shared, stage: &mut Stage) -> Examined {
        let (result, examined) = match stage.examine(|stage| (self.rule)(shared, stage)) {
            Ok((answer, events)) => (Ok(answer), Examined::Good(events)),
            Err(error) => (Err(error), Examined::Refused),
        };
        self.result = Some(result);
        examined
    }

    fn settle(self: Box<Self>, failure: Option<&Error>) {
        let result = match (self.result, failure) {
            (Some(Err(refused)), None) => Err(refused),
            (Some(Ok(answer)), None) => Ok(answer),
            (_, Some(failure)) => Err(again(failure)),
            (None, None) => Err(Error::Unavailable("it was not examined".to_owned())),
        };
        // Nobody waits any more when the send fails.
        drop(self.answer.send(result));
    }
}

/// The failure of a group, for one of its members.
fn again(failure: &Error) -> Error {
    match failure {
        Error::OutcomeUnknown(why) => Error::OutcomeUnknown(why.clone()),
        Error::Damaged(why) => Error::Damaged(why.clone()),
        other => Error::Unavailable(other.to_string()),
    }
}

/// What the committer is told.
pub(super) enum Message {
    Write(Box<dyn Member>),
    /// That nothing more will come.
    Close(oneshot::Sender<()>),
}

pub(super) struct Committer {
    pub(super) base: Arc<Base>,
    pub(super) shared: Arc<Shared>,
    pub(super) fetched: Fetched,
    pub(super) lease: Arc<Lease>,
    pub(super) env: Env,
    pub(super) session: Option<ClientSession>,
    /// The session of a transaction that may still be open, and keep what it touched locked. Nobody else may get it before.
    pub(super) left_open: Option<ClientSession>,
    /// Groups so far.
    pub(super) group: i64,
    pub(super) deferred: Waiting,
}

/// A write that somebody is in the way of, perhaps for as long as a lease lasts.
pub(super) struct Deferred {
    member: Box<dyn Member>,
    begun: Instant,
    pause: Duration,
}

/// Writes that wait, by when they are tried again.
#[derive(Default)]
pub(super) struct Waiting {
    by_time: BTreeMap<(Instant, u64), Deferred>,
    number: u64,
}

impl Waiting {
    fn insert(&mut self, again: Instant, deferred: Deferred) {
        self.number += 1;
        self.by_time.insert((again, self.number), deferred);
    }

    fn next(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((again, _), _)| *again)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Deferred> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

/// A group that was found good.
struct Found {
    ops: Ops,
    events: Vec<RunEvents>,
}

impl Drop for Committer {
    /// Nobody answers any more after a panic: the store must not look well then.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.give_up(&Error::Unavailable("the committer panicked".to_owned()));
        }
    }
}

impl Committer {
    /// Takes members until all senders are gone or the store is closed.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(GROUP_MAX);
        loop {
            batch.clear();
            let next = messages.recv_many(&mut batch, GROUP_MAX);
            let received = match self.deferred.next() {
                None => Some(next.await),
                Some(again) => tokio::time::timeout_at(again, next).await.ok(),
            };
            if received == Some(0) {
                break;
            }
            self.write_deferred().await;
            let (mut members, mut bytes, mut closing) = (Vec::with_capacity(batch.len()), 0, Vec::new());
            for message in batch.drain(..) {
                match message {
                    Message::Write(member) => {
                        bytes += member.bytes();
                        if bytes > GROUP_BYTES_MAX {
                            self.write_all(std::mem::take(&mut members)).await;
                            bytes = member.bytes();
                        }
                        members.push(member);
                    }
                    Message::Close(answer) => closing.push(answer),
                }
            }
            self.write_all(members).await;
            if !closing.is_empty() {
                while let Some(again) = self.deferred.next() {
                    tokio::time::sleep_until(again).await;
                    self.write_deferred().await;
                }
                for answer in closing {
                    // Nobody waits any more when the send fails.
                    let _ = answer.send(());
                }
                break;
            }
        }
    }

    /// Writes members together. Those that cannot go with the others go alone, and those that somebody is in the way of wait for that.
    async fn write_all(&mut self, members: Vec<Box<dyn Member>>) {
        let mut parts = vec![members];
        while let Some(mut members) = parts.pop() {
            if members.is_empty() {
                continue;
            }
            match self.write(&mut members).await {
                Err(Tried::Refused(error)) if members.len() > 1 => {
                    tracing::warn!(%error, members = members.len(), "a group is refused: its members go one by one");
                    parts.extend(members.into_iter().rev().map(|member| vec![member]));
                }
                Err(Tried::Crossed(_)) if members.len() > 1 => {
                    let later = members.split_off(members.len() / 2);
                    parts.extend([later, members]);
                }
                Err(Tried::Crossed(why)) => {
                    for member in members {
                        self.defer(Deferred { member, begun: Instant::now(), pause: PAUSE_MIN }, &why);
                    }
                }
                written => settle(&self.shared, members, written),
            }
        }
    }

    /// Writes those whose time has come again, each alone: what one waits for does not hold up another.
    async fn write_deferred(&mut self) {
        let now = Instant::now();
        while let Some(Deferred { member, begun, pause }) = self.deferred.pop_due(now) {
            let mut alone = vec![member];
            match self.try_write(&mut alone).await {
                Err(Tried::Crossed(why) | Tried::Away(why)) if begun.elapsed() < self.base.patience => {
                    let pause = (pause * 2).min(PAUSE_MAX);
                    for member in alone {
                        self.defer(Deferred { member, begun, pause }, &why);
                    }
                }
                written => settle(&self.shared, alone, written),
            }
        }
    }

    fn defer(&mut self, deferred: Deferred, why: &str) {
        tracing::debug!(why, "a write waits until nobody is in its way");
        let again = Instant::now() + deferred.pause.mul_f64(0.5 + self.env.chance());
        self.deferred.insert(again, deferred);
    }

    /// Writes a group; again when another was in its way for a moment, or the database was.
    async fn write(&mut self, members: &mut [Box<dyn Member>]) -> Tries<()> {
        let begun = Instant::now();
        let (mut pause, mut crossed) = (PAUSE_MIN, 0);
        loop {
            match self.try_write(members).await {
                Err(Tried::Crossed(_)) if crossed < CROSSED_MAX => crossed += 1,
                Err(Tried::Away(why)) if begun.elapsed() < self.base.patience => {
                    tracing::warn!(why, "the database is not there; a group is tried again");
                }
                written => return written,
            }
            // Two processes in each other's way must not meet again at once.
            tokio::time::sleep(pause.mul_f64(0.5 + self.env.chance())).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_write(&mut self, members: &mut [Box<dyn Member>]) -> Tries<()> {
        let base = Arc::clone(&self.base);
        if let Some(session) = &self.left_open {
            base.bounded(base.kill(session.id())).await?;
            self.left_open = None;
        }
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                let session = base.session().await?;
                // Before it writes: what it leaves open when the process is gone has to be undone by others.
                base.bounded(self.lease.hold(&base, session.id())).await?;
                session
            }
        };
        let written = match base.bounded(self.send_in(&mut session, members)).await {
            Ok((events, id)) => self.commit(&mut session, id).await.map(|()| events),
            Err(error) => Err(error),
        };
        match written {
            Ok(events) => {
                self.session = Some(session);
                // Before the answers: who hears that a run ended finds its last event published.
                self.publish(&events);
                Ok(())
            }
            Err(error) => {
                let aborted = base.bounded(async { Ok(session.abort_transaction().await?) }).await;
                match aborted {
                    Ok(()) => self.session = Some(session),
                    Err(_) => self.left_open = Some(session),
                }
                Err(error)
            }
        }
    }

    /// Examines members in a transaction, and sends what they write. Gives the id of the group, when it writes something.
    async fn send_in(
        &mut self,
        session: &mut ClientSession,
        members: &mut [Box<dyn Member>],
    ) -> Tries<(Vec<RunEvents>, Option<Document>)> {
        self.base.begin(session).await?;
        let Found { ops, events } = self.examine(session, members).await?;
        if ops.ops.is_empty() {
            return Ok((events, None));
        }
        self.group += 1;
        let id = doc! { "process": self.lease.number().cast_signed(), "group": self.group };
        self.send(session, ops, &id).await?;
        Ok((events, Some(id)))
    }

    fn publish(&self, events: &[RunEvents]) {
        let sink = self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            for events in events {
                sink(events);
            }
        }
    }

    /// Lets the rules examine all members, over what they want to read.
    async fn examine(
        &mut self,
        session: &mut ClientSession,
        members: &mut [Box<dyn Member>],
    ) -> Tries<Found> {
        if let Some(fault @ Fault::Poisoned(_)) = self.shared.fault() {
            return Err(fault.error().into());
        }
        self.fetched.clear();
        let mut needs: HashSet<Need> = members.iter().flat_map(|member| member.needs()).collect();
        if needs.is_empty() {
            // Not every server takes the moment of a transaction from a write.
            self.base.touch(session).await?;
        }
        loop {
            self.fetched.fetch(&self.base, session, needs).await?;
            let mut stage = Stage::after(NO_MEMORY);
            let (mut events, mut relied_on) = (Vec::new(), HashSet::new());
            for member in &mut *members {
                self.fetched.reset_reads();
                if let Examined::Good(told) = member.examine(&self.shared, &mut stage) {
                    events.extend(told);
                    let (reads, scanned) = self.fetched.take_reads();
                    relied_on.extend(reads);
                    let nodes = scanned.into_iter().map(|id: Uuid| id.as_bytes().to_vec());
                    // Of a node that is gone nothing can be relied on.
                    let nodes = nodes.filter(|key| self.fetched.has(Space::Node, key));
                    relied_on.extend(nodes.map(|key| (Space::Node, key)));
                }
            }
            needs = self.fetched.take_missing();
            if needs.is_empty() {
                return self.found(&mut stage, events, relied_on);
            }
        }
    }

    fn found(
        &self,
        stage: &mut Stage,
        events: Vec<RunEvents>,
        relied_on: HashSet<(Space, Vec<u8>)>,
    ) -> Tries<Found> {
        if stage.is_empty() {
            return Ok(Found { ops: Ops::default(), events });
        }
        let (batch, Touched { elements, .. }) = stage.take(0)?;
        let group = documents::Group {
            batch,
            elements: &elements,
            fetched: &self.fetched,
            relied_on,
            by: self.lease.number(),
        };
        Ok(Found { ops: documents::ops(group)?, events })
    }

    /// Sends the writes of a group, and what tells later that it was committed.
    async fn send(&mut self, session: &mut ClientSession, mut ops: Ops, id: &Document) -> Tries<()> {
        ops.remember(id, bson::DateTime::from_millis(self.env.now().millis()))?;
        for (command, expected) in documents::commands(&self.base, ops) {
            let done = self.base.admin().run_raw_command(command).session(&mut *session).await?;
            check(&done, expected)?;
        }
        Ok(())
    }

    /// Commits, and finds out whether that happened when nobody says so. Also what wrote nothing is committed: what was read is then on
    /// the disks of most servers, and what is answered stays true.
    async fn commit(&mut self, session: &mut ClientSession, id: Option<Document>) -> Tries<()> {
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let committing = async { Ok(session.commit_transaction().await) };
            let unknown = match self.base.bounded(committing).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if is_undone(&error) => return Err(error.into()),
                Ok(Err(error)) => error.to_string(),
                Err(silent) => silent.to_string(),
            };
            // Where nothing was written nothing is unknown.
            let Some(id) = &id else { return Err(Tried::Away(unknown)) };
            tracing::warn!(why = unknown, "the outcome of a commit is unknown; it is asked for");
            if begun.elapsed() >= self.base.patience {
                return self.resolve(session.id(), id).await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Finds out whether a group was committed: by its id, which only one of the two can write.
    async fn resolve(&mut self, session: &Document, id: &Document) -> Tries<()> {
        let (base, begun) = (Arc::clone(&self.base), Instant::now());
        let undone = || Err(Tried::Crossed("the transaction was not committed".to_owned()));
        loop {
            match base.bounded(self.void(session, id)).await {
                Ok(true) => return undone(),
                Ok(false) => return Ok(()),
                Err(error) => tracing::warn!(%error, "whether a commit happened is still unknown"),
            }
            if begun.elapsed() >= RESOLVED_WITHIN {
                return Err(Tried::Unknown("the database does not say whether a commit happened".to_owned()));
            }
            tokio::time::sleep(PAUSE_MAX).await;
        }
    }

    /// Writes the id of a group in place of the group. False when the group has written it.
    async fn void(&mut self, session: &Document, id: &Document) -> Tries<bool> {
        // What is still open would be in the way.
        self.base.kill(session).await?;
        let commits = self.base.collection::<Document>(Place::Commit);
        let at = bson::DateTime::from_millis(self.env.now().millis());
        match commits.insert_one(doc! { "_id": id, "at": at, "void": true }).await {
            Ok(_) => return Ok(true),
            Err(error) if base::is_duplicate(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let found = commits.find_one(doc! { "_id": id }).await?;
        let gone = || Tried::Away("the id of a group is not to be seen yet".to_owned());
        Ok(found.ok_or_else(gone)?.contains_key("void"))
    }
}

fn settle(shared: &Shared, members: Vec<Box<dyn Member>>, written: Tries<()>) {
    let failure = written.err().map(Error::from);
    if let Some(error @ Error::OutcomeUnknown(_)) = &failure {
        shared.give_up(error);
    }
    for member in members {
        member.settle(failure.as_ref());
    }
}

/// True when the server says that a transaction never happened, and never will.
fn is_undone(error: &mongodb::error::Error) -> bool {
    error.contains_label(mongodb::error::TRANSIENT_TRANSACTION_ERROR)
        && !error.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT)
}

/// Checks what the server answered to a `bulkWrite`.
fn check(done: &Document, expected: Expected) -> Tries<()> {
    let number = |name: &str| {
        done.get_i64(name).or_else(|_| done.get_i32(name).map(i64::from)).or_else(|_| {
            // A server may count in doubles.
            #[expect(clippy::cast_possible_truncation, reason = "a count of documents")]
            done.get_f64(name).map(|count| count as i64)
        })
    };
    if number("nErrors").unwrap_or_default() > 0 {
        let first = done.get_document("cursor").ok().and_then(|cursor| {
            cursor.get_array("firstBatch").ok()?.iter().find_map(|item| {
                let item = item.as_document()?;
                Some((item.get_i32("code").ok()?, item.get_str("errmsg").unwrap_or_default().to_owned()))
            })
        });
        let (code, why) = first.unwrap_or_default();
        return Err(match code {
            code if base::is_crossed(code) => Tried::Crossed(why),
            _ => Tried::Refused(Error::Damaged(format!("the database refuses a write: {why}"))),
        });
    }
    let did = Expected {
        inserted: number("nInserted").unwrap_or_default(),
        matched: number("nMatched").unwrap_or_default(),
    };
    if did != expected {
        return Err(Tried::Crossed(format!("{did:?} documents were written instead of {expected:?}")));
    }
    Ok(())
}
