//! A store over an ordered key-value engine: the rules of commits, claims and events, the group commit, the cache.
//!
//! [`embedded`](super::embedded) and [`memory`](super::memory) put their engines under it. Reads go to a snapshot or the cache;
//! every write goes through the one committer of [`writer`].

pub(crate) mod apply;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod codec;
pub(crate) mod engine;
pub(crate) mod keys;
pub(crate) mod records;
pub(crate) mod runs;
pub(crate) mod stage;
pub(crate) mod writer;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
};

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::Duration,
};
use uuid::Uuid;
use walkabout_schema::{
    Checkpoint, Event, EventKind, FORMAT, Items, Kind, Name, Segment, State, Status, Timestamp, User, Walker,
};

use self::{
    apply::Prepared,
    codec::{FieldsOnly, Live},
    engine::{Bytes, Engine, Range, Space, View},
    keys::Marker,
    records::Records,
    runs::{NewRun, Taken},
    writer::{Member, NewRoot, QUEUE_MAX, Shared, UserGone, UserWrite, Writer},
};
use super::{
    Act, Acted, Claim, Claimed, Commit, Direction, Due, Element, Error, EventSink, Events, Limits, Link,
    OpenRuns, PAGE_BYTES_MAX, Registered, Release, RequestKey, Result, RunCommit, RunFilter, Runs, Snapshot,
    Store, Submission, Submitted, Then, Token,
};
use crate::files::{Files, Folder};

/// Events that are read from the engine at once.
const EVENTS_AT_ONCE: usize = 32;

/// A store over an [`Engine`].
pub(crate) struct KvStore {
    shared: Arc<Shared>,
    members: mpsc::Sender<Member>,
    records: Records,
    epoch: u64,
    /// Where the files of runs are, when that folder is this store's alone.
    files: Option<Arc<Folder>>,
}

/// What an engine says of the store in it.
pub(crate) struct Found {
    /// The number of the last group; 0 for a new store.
    pub(crate) group: u64,
    epoch: u64,
}

/// Looks at what an engine holds.
///
/// # Errors
/// [`Error::Open`] for a store of a newer format, or one that is damaged.
pub(crate) fn look(engine: &dyn Engine) -> Result<Found> {
    let number = |key: &[u8]| -> Result<Option<u64>> {
        let Some(bytes) = engine.get(Space::Meta, key)? else { return Ok(None) };
        let bytes: [u8; 8] =
            (*bytes).try_into().map_err(|_| Error::Damaged("a number of the store".to_owned()))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    };
    if let Some(format) = number(keys::META_FORMAT)?.filter(|format| *format > u64::from(FORMAT)) {
        return Err(Error::Open(format!(
            "its format is {format}, and this program reads up to {FORMAT}: use the newer program that wrote it"
        )));
    }
    let group = match engine.get(Space::Meta, keys::META_GROUP)? {
        None => 0,
        Some(marker) => {
            let damaged = || Error::Damaged("the number of the last commit group".to_owned());
            Marker::parse(&marker).ok_or_else(damaged)?.group
        }
    };
    Ok(Found { group, epoch: number(keys::META_EPOCH)?.unwrap_or(0) })
}

impl KvStore {
    /// Raises the epoch, durably, and starts the committer.
    pub(crate) fn start(engine: Box<dyn Engine>, found: &Found, limits: Limits) -> Result<Self> {
        let (store, writer, queue) = Self::prepare(engine, found, limits)?;
        let not_started =
            |error: std::io::Error| Error::Open(format!("its committer cannot be started: {error}"));
        let executor =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(not_started)?;
        thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || executor.block_on(writer.run(queue)))
            .map_err(not_started)?;
        Ok(store)
    }

    /// As [`KvStore::start`], with a committer that is a task of the present executor. Before it takes what has come it waits as
    /// long as `lag` says.
    pub(crate) fn start_inline(
        engine: Box<dyn Engine>,
        found: &Found,
        limits: Limits,
        lag: impl Fn() -> Duration + Send + 'static,
    ) -> Result<Self> {
        let (store, writer, mut queue) = Self::prepare(engine, found, limits)?;
        let (slow, delayed) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            while let Some(member) = queue.recv().await {
                let lag = lag();
                if !lag.is_zero() {
                    tokio::time::sleep(lag).await;
                }
                if slow.send(member).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(writer.run(delayed));
        Ok(store)
    }

    fn prepare(
        engine: Box<dyn Engine>,
        found: &Found,
        limits: Limits,
    ) -> Result<(Self, Writer, mpsc::Receiver<Member>)> {
        let (epoch, group) = (found.epoch + 1, found.group + 1);
        // What an engine recovers when it opens is on disk.
        let marker = Marker { group, synced: found.group };
        let batch = vec![
            (Space::Meta, keys::META_FORMAT.to_vec(), Some(u64::from(FORMAT).to_be_bytes().to_vec())),
            (Space::Meta, keys::META_EPOCH.to_vec(), Some(epoch.to_be_bytes().to_vec())),
            (Space::Meta, keys::META_GROUP.to_vec(), Some(marker.encode())),
        ];
        engine.apply(batch, true)?;
        let shared = Arc::new(Shared::new(engine, group, limits.cache_bytes_max, limits));
        let writer = Writer::new(Arc::clone(&shared), epoch, group);
        writer.look_at_disk();
        let (members, queue) = mpsc::channel(QUEUE_MAX);
        Ok((Self { shared, members, records: Records::default(), epoch, files: None }, writer, queue))
    }

    /// Keeps the files of runs in a folder that nobody else has.
    #[cfg(feature = "embedded")]
    pub(crate) fn with_files(self, files: Arc<Folder>) -> Self {
        Self { files: Some(files), ..self }
    }

    /// Removes the files of runs without a record, in the background: the process that kept them ended before it submitted the run. To
    /// be called before there can be files of a run that is not submitted yet.
    #[cfg(feature = "embedded")]
    pub(crate) fn remove_strays(&self) {
        let Some(files) = self.files.clone() else { return };
        let (listed, shared) = (files.runs(), Arc::downgrade(&self.shared));
        let remove = move || {
            let mut removed = 0;
            for run in listed? {
                // The store goes when it is closed, whatever is left to be looked at.
                let Some(shared) = shared.upgrade() else { break };
                if shared.engine.snapshot().get(Space::Walker, run.as_bytes())?.is_none() {
                    files.forget(run)?;
                    removed += 1;
                }
            }
            Ok(removed)
        };
        let started = thread::Builder::new().name("files".to_owned()).spawn(move || {
            let removed: Result<usize, Box<dyn std::error::Error>> = remove();
            match removed {
                Ok(0) => {}
                Ok(runs) => tracing::info!(runs, "files of runs that were never accepted are removed"),
                Err(error) => tracing::warn!(%error, "files of runs that were never accepted may stay"),
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "files of runs that were never accepted may stay");
        }
    }

    async fn ask<T>(&self, member: impl FnOnce(oneshot::Sender<Result<T>>) -> Member) -> Result<T> {
        let (send, receive) = oneshot::channel();
        self.members.send(member(send)).await.map_err(|_| Error::Closed)?;
        receive.await.map_err(|_| Error::Closed)?
    }

    /// A record with its length in bytes. That of an open run shows the fields at its last checkpoint.
    fn walker(view: &dyn View, id: Uuid) -> Result<Option<(Walker, usize)>> {
        let Some(document) = view.get(Space::Walker, id.as_bytes())? else { return Ok(None) };
        let mut walker: Walker = codec::decode(&document)?;
        let mut length = document.len();
        if let Some(live) = view.get(Space::Live, id.as_bytes())? {
            let live: Live = codec::decode(&live)?;
            live.merge_into(&mut walker);
            let checkpoint =
                if live.checkpointed { view.get(Space::Checkpoint, id.as_bytes())? } else { None };
            if let Some(checkpoint) = checkpoint {
                walker.archetype = codec::decode::<FieldsOnly>(&checkpoint)?.fields;
                length += walker.archetype.0.as_bytes().len();
            }
        }
        Ok(Some((walker, length)))
    }

    /// The rest of a claimed run. Nobody else changes it while the claim holds.
    fn claimed(&self, id: Uuid, live: &Live) -> Result<Claimed> {
        let view = self.shared.engine.snapshot();
        let read = |space| view.get(space, id.as_bytes());
        let mut walker = match self.records.take(id) {
            Some(walker) => walker,
            None => match read(Space::Walker)? {
                Some(document) => codec::decode(&document)?,
                None => return Err(Error::Damaged(format!("the record of run {id} is gone"))),
            },
        };
        live.show_claimed(&mut walker);
        let checkpoint = if live.checkpointed { read(Space::Checkpoint)? } else { None };
        let checkpoint = checkpoint.map(|bytes| codec::decode::<Checkpoint>(&bytes)).transpose()?;
        let segments = match &checkpoint {
            Some(checkpoint) if live.segmented => Self::segments(&*view, id, checkpoint)?,
            _ => BTreeMap::new(),
        };
        let answer = live.more().answer.as_ref().map(|answer| answer.value.clone());
        let token = live.token();
        self.records.hold(token, walker.clone());
        Ok(Claimed::Taken(Box::new(Claim { token, walker, checkpoint, segments, answer })))
    }

    /// All segments that a checkpoint names.
    fn segments(view: &dyn View, id: Uuid, checkpoint: &Checkpoint) -> Result<BTreeMap<u64, Items>> {
        let read = |number| {
            let gone = || Error::Damaged(format!("segment {number} of run {id} is gone"));
            let document = view.get(Space::Segment, &keys::segment(id, number))?.ok_or_else(gone)?;
            Ok((number, codec::decode::<Segment>(&document)?.items))
        };
        checkpoint.segments().into_iter().map(read).collect()
    }

    fn list(
        view: &dyn View,
        root: Uuid,
        filter: &RunFilter,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<Runs> {
        let is_open = |status| matches!(status, Status::Pending | Status::Running);
        let (mut open, mut ended) = (Newest::of(root, true, before), Newest::of(root, false, before));
        match filter.status.or(filter.state.map(State::status)) {
            Some(status) if is_open(status) => ended.is_over = true,
            Some(_) => open.is_over = true,
            None => {}
        }
        let (mut walkers, mut bytes) = (Vec::new(), 0);
        loop {
            let (from_open, from_ended) = (open.peek(view)?, ended.peek(view)?);
            let newest = if from_open > from_ended { &mut open } else { &mut ended };
            let Some((id, value)) = newest.next(view)? else { return Ok(Runs { walkers, more: false }) };
            let (status, name) =
                value.split_first().ok_or_else(|| Error::Damaged("an index of runs".to_owned()))?;
            if filter.name.as_ref().is_some_and(|wanted| wanted.as_str().as_bytes() != name) {
                continue;
            }
            // The index knows how a run ended; whether an open one was begun stands in its live part.
            let wanted = filter.status.filter(|wanted| !is_open(*wanted));
            if wanted.is_some_and(|wanted| keys::status_byte(wanted) != *status) {
                continue;
            }
            let walker = Self::walker(view, id)?;
            let is_wanted = |walker: &Walker| {
                filter.status.is_none_or(|wanted| walker.schedule.status == wanted)
                    && filter.state.is_none_or(|wanted| walker.run.state == wanted)
            };
            let Some((walker, length)) = walker.filter(|(walker, _)| is_wanted(walker)) else {
                continue;
            };
            bytes += length;
            if walkers.len() == limit || (!walkers.is_empty() && bytes > PAGE_BYTES_MAX) {
                return Ok(Runs { walkers, more: true });
            }
            walkers.push(walker);
        }
    }
}

fn sleeper(key: &[u8], root: &[u8]) -> Result<Due> {
    let (at, id) = keys::parse_due(key)?;
    let root = Uuid::from_slice(root).map_err(|_| Error::Damaged("the root of a due run".to_owned()))?;
    Ok(Due { id, root, lost: 0, at })
}

/// Lets go of a run whose claim cannot be read: nobody else would. What is damaged is parked, as that does not pass. Gives the error back.
pub(crate) async fn let_go_of(
    store: &dyn Store,
    id: Uuid,
    live: &Live,
    now: Timestamp,
    error: Error,
) -> Error {
    let (event, to) = match &error {
        Error::Damaged(_) => {
            let error = "what is stored of this run cannot be read".to_owned();
            (EventKind::Incompatible { error: error.clone() }, Release::Park { error })
        }
        _ => (EventKind::Checkpoint, Release::Queue),
    };
    let then = Then::Release { checkpoint: None, to };
    let (token, conflicts) = (live.token(), live.conflicts);
    let run = RunCommit { id, token, events: vec![event], then, conflicts };
    if let Err(error) = super::let_go(store, now, run).await {
        tracing::error!(run = %id, %error, "a run that cannot be read is not let go");
    }
    error
}

/// The open or the ended runs of a root, newest first, read page by page.
struct Newest {
    range: Range,
    page: VecDeque<(Uuid, Bytes)>,
    is_over: bool,
}

impl Newest {
    const PAGE: usize = 64;

    fn of(root: Uuid, is_open: bool, before: Option<Uuid>) -> Self {
        let range = Range::prefix(&keys::runs(root, is_open));
        let range = match before {
            Some(before) => range.before(keys::by_root(root, is_open, before)),
            None => range,
        };
        Self { range, page: VecDeque::new(), is_over: false }
    }

    fn peek(&mut self, view: &dyn View) -> Result<Option<Uuid>> {
        if self.page.is_empty() && !self.is_over {
            let page = view.scan(Space::ByRoot, self.range.clone(), true, Self::PAGE)?;
            self.is_over = page.len() < Self::PAGE;
            if let Some((last, _)) = page.last() {
                self.range = self.range.clone().before(last.clone());
            }
            for (key, value) in page {
                self.page.push_back((keys::run_of(&key)?, value));
            }
        }
        Ok(self.page.front().map(|(id, _)| *id))
    }

    fn next(&mut self, view: &dyn View) -> Result<Option<(Uuid, Bytes)>> {
        self.peek(view)?;
        Ok(self.page.pop_front())
    }
}

struct KvSnapshot {
    shared: Arc<Shared>,
    view: Arc<dyn View>,
    number: u64,
}

impl KvSnapshot {
    fn element(&self, kind: Kind, id: Uuid) -> Result<Option<Arc<Element>>> {
        // The document of a walker is that of its run.
        if kind == Kind::Walker {
            return Ok(None);
        }
        if let Some(cached) = self.shared.cache.element(id, self.number) {
            return Ok(cached.filter(|element| element.kind == kind));
        }
        let stored = self.view.get(keys::space_of(kind), id.as_bytes())?;
        let element = stored.map(|bytes| codec::decode_element(kind, &bytes).map(Arc::new)).transpose()?;
        if element.is_some() {
            self.shared.cache.fill_element(id, self.number, element.clone());
        }
        Ok(element)
    }

    fn read_links(&self, node: Uuid, direction: Direction, edge_name: Option<Name>) -> Result<Arc<[Link]>> {
        if let Some(cached) = self.shared.cache.links(node, direction, edge_name.as_ref(), self.number) {
            return Ok(cached);
        }
        let prefix = keys::links(node, direction, edge_name.as_ref());
        let found = self.view.scan(Space::Link, Range::prefix(&prefix), false, usize::MAX)?;
        let mut names = codec::no_names();
        let links: Result<Vec<Link>> =
            found.iter().map(|(key, value)| keys::parse_link(key, value, &mut names)).collect();
        let links: Arc<[Link]> = links?.into();
        self.shared.cache.fill_links(node, direction, edge_name, self.number, &links);
        Ok(links)
    }
}

impl Snapshot for KvSnapshot {
    fn number(&self) -> u64 {
        self.number
    }

    fn elements(&self, kind: Kind, ids: &[Uuid]) -> BoxFuture<'_, Result<Vec<Option<Arc<Element>>>>> {
        let elements = ids.iter().map(|id| self.element(kind, *id)).collect();
        Box::pin(std::future::ready(elements))
    }

    fn links(
        &self,
        node: Uuid,
        direction: Direction,
        edge_name: Option<Name>,
    ) -> BoxFuture<'_, Result<Arc<[Link]>>> {
        Box::pin(std::future::ready(self.read_links(node, direction, edge_name)))
    }
}

/// A read that is done by the time it is asked for.
fn done<'a, T: Send + 'a>(result: Result<T>) -> BoxFuture<'a, Result<T>> {
    Box::pin(std::future::ready(result))
}

impl Store for KvStore {
    fn publish_to(&self, sink: EventSink) {
        *self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Arc<dyn Snapshot>>> {
        // The number first: what a later group changes is then refused by the cache and read from the view.
        let number = self.shared.published.load(Ordering::SeqCst);
        let view = self.shared.engine.snapshot();
        done(Ok(Arc::new(KvSnapshot { shared: Arc::clone(&self.shared), view, number })))
    }

    fn keep(&self, name: &str, fresh: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>>> {
        let name = name.to_owned();
        Box::pin(self.ask(|answer| Member::Keep { name, fresh, answer }))
    }

    fn register(&self, user: User, root: Option<Arc<Element>>) -> BoxFuture<'_, Result<Registered>> {
        Box::pin(async move {
            let (user, root) = (UserWrite::new(&user)?, root.map(NewRoot::new).transpose()?);
            self.ask(|answer| Member::Register { user, root, answer }).await
        })
    }

    fn change_user(&self, user: User) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            let user = UserWrite::change(user)?;
            self.ask(|answer| Member::ChangeUser { user, answer }).await
        })
    }

    fn remove_user(
        &self,
        user: User,
        stays: Option<User>,
        then: Option<Submission>,
    ) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            let run = then.as_ref().map(NewRun::new).transpose()?.map(Box::new);
            let user = UserGone::new(&user, stays.as_ref());
            self.ask(|answer| Member::RemoveUser { user, run, answer }).await
        })
    }

    fn user(&self, email: &str) -> BoxFuture<'_, Result<Option<User>>> {
        let found = self.shared.engine.snapshot().get(Space::User, email.as_bytes());
        done(found.and_then(|bytes| bytes.map(|bytes| codec::decode(&bytes)).transpose()))
    }

    fn users_of(&self, root: Uuid) -> BoxFuture<'_, Result<Vec<User>>> {
        let view = self.shared.engine.snapshot();
        let range = Range::prefix(&keys::users_of(root));
        let addresses = view.scan(Space::User, range, false, usize::MAX);
        done(addresses.and_then(|addresses| {
            let documents = addresses.iter().map(|(_, address)| view.get(Space::User, address));
            documents.filter_map(Result::transpose).map(|document| codec::decode(&document?)).collect()
        }))
    }

    fn user_of_identity(&self, provider: &str, id: &str) -> BoxFuture<'_, Result<Option<User>>> {
        let view = self.shared.engine.snapshot();
        let address = view.get(Space::User, &keys::identity(provider, id));
        done(address.and_then(|address| {
            let Some(address) = address else { return Ok(None) };
            let document = view.get(Space::User, &address)?;
            document.map(|document| codec::decode(&document)).transpose()
        }))
    }

    fn spend(&self, key: [u8; 32], now: Timestamp, until: Timestamp) -> BoxFuture<'_, Result<bool>> {
        let key = RequestKey { key, request: [0; 32], until };
        Box::pin(self.ask(move |answer| Member::Spend { key, now, answer }))
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<Submitted>> {
        Box::pin(async move {
            // Encoded here, by the caller: the committer is the narrow place.
            let run = Box::new(NewRun::new(&submission)?);
            let id = submission.walker.id.0;
            self.records.submit(submission.walker, run.bytes());
            let submitted = self.ask(|answer| Member::Submit { run, answer }).await;
            if !matches!(submitted, Ok(Submitted::New)) {
                drop(self.records.take(id));
            }
            submitted
        })
    }

    fn open_runs(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<OpenRuns>> {
        let all = Range::prefix(&[]);
        let range = match after {
            Some(after) => all.after(after.as_bytes().to_vec()),
            None => all,
        };
        let read = || {
            let pairs = self.shared.engine.snapshot().scan(Space::Live, range, false, limit)?;
            let mut open = OpenRuns::default();
            let is_full = pairs.len() >= limit;
            for (key, value) in pairs {
                let id =
                    Uuid::from_slice(&key).map_err(|_| Error::Damaged("the id of an open run".to_owned()))?;
                let live: Live = codec::decode(&value)?;
                // Of this process's own nobody else takes what is under way or parked.
                let is_of_before = live.epoch < self.epoch;
                let is_lost = live.state.is_under_way() && is_of_before;
                let is_parked = live.state == State::Incompatible && is_of_before;
                if is_lost || is_parked || live.state == State::Queued {
                    let lost = live.lost + u32::from(is_lost);
                    open.due.push(Due { id, root: live.root.0, lost, at: Timestamp::default() });
                }
                open.next = is_full.then_some(id);
            }
            Ok(open)
        };
        done(read())
    }

    fn sleepers(&self, after: Option<(Timestamp, Uuid)>, limit: usize) -> BoxFuture<'_, Result<Vec<Due>>> {
        let all = Range::prefix(&[]);
        let range = match after {
            Some((at, id)) => all.after(keys::due(at, id)),
            None => all,
        };
        let found = self.shared.engine.snapshot().scan(Space::Due, range, false, limit);
        done(found.and_then(|pairs| pairs.iter().map(|(key, root)| sleeper(key, root)).collect()))
    }

    fn claim(&self, id: Uuid, now: Timestamp) -> BoxFuture<'_, Result<Claimed>> {
        Box::pin(async move {
            match self.ask(move |answer| Member::Claim { id, now, answer }).await? {
                Taken::Run(live) => match self.claimed(id, &live) {
                    Ok(claimed) => Ok(claimed),
                    Err(error) => Err(let_go_of(self, id, &live, now, error).await),
                },
                Taken::Early(due) => Ok(Claimed::Early(due)),
                Taken::Nothing => {
                    // The claim may have ended it.
                    drop(self.records.take(id));
                    Ok(Claimed::Nothing)
                }
            }
        })
    }

    fn act(&self, id: Uuid, now: Timestamp, act: Act) -> BoxFuture<'_, Result<Option<Acted>>> {
        Box::pin(async move {
            let acted = self.ask(move |answer| Member::Act { id, now, act, answer }).await?;
            if acted == Some(Acted::Done) {
                drop(self.records.take(id));
            }
            Ok(acted)
        })
    }

    fn progress(&self, id: Uuid, token: Token, now: Timestamp, data: Value) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            // Before the event is written: a caller that goes away meanwhile does not take it back.
            self.records.progress(id, token, data.clone());
            self.ask(move |answer| Member::Progress { id, token, now, data, answer }).await
        })
    }

    fn commit(&self, now: Timestamp, commit: Commit) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let held = commit.run.as_ref().map(|run| (run.id, run.token));
            let goes_on = commit.run.as_ref().is_none_or(|run| matches!(run.then, Then::Checkpoint(_)));
            let record = || {
                let record = held.and_then(|(id, token)| self.records.held(id, token));
                record.ok_or(Error::LeaseLost)
            };
            let commit = Box::new(Prepared::new(commit, record)?);
            self.ask(move |answer| Member::Commit { now, commit, answer }).await?;
            if let Some((id, token)) = held.filter(|_| !goes_on) {
                self.records.release(id, token);
            }
            Ok(())
        })
    }

    fn run(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Walker>>> {
        let found = Self::walker(&*self.shared.engine.snapshot(), id);
        done(found.map(|found| found.map(|(walker, _)| walker)))
    }

    fn runs(
        &self,
        root: Uuid,
        filter: RunFilter,
        before: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Runs>> {
        done(Self::list(&*self.shared.engine.snapshot(), root, &filter, before, limit))
    }

    fn events(&self, id: Uuid, after: u64, limit: usize) -> BoxFuture<'_, Result<Events>> {
        let view = self.shared.engine.snapshot();
        let edge = |reverse| -> Result<u64> {
            let found = view.scan(Space::Event, Range::prefix(id.as_bytes()), reverse, 1)?;
            let number = found.first().and_then(|(key, _)| key.get(16..)?.try_into().ok());
            Ok(number.map_or(0, u64::from_be_bytes))
        };
        let read = || {
            let (mut events, mut bytes, mut after) = (Vec::new(), 0, after);
            loop {
                let range = Range::prefix(id.as_bytes()).after(keys::event(id, after));
                let piece = EVENTS_AT_ONCE.min(limit - events.len());
                let found = view.scan(Space::Event, range, false, piece)?;
                let is_last = found.len() < piece;
                for (_, value) in found {
                    let event: Event = codec::decode(&value)?;
                    (after, bytes) = (event.seq, bytes + value.len());
                    events.push(event);
                }
                if is_last || events.len() >= limit || bytes > PAGE_BYTES_MAX {
                    break Ok(Events { events, first: edge(false)?, last: edge(true)? });
                }
            }
        };
        done(read())
    }

    fn files(&self) -> Option<Arc<dyn Files>> {
        let files = self.files.clone()?;
        Some(files)
    }

    fn health(&self) -> Result<()> {
        self.shared.health()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.shared.is_closed() {
                return Ok(());
            }
            self.ask(|answer| Member::Close { answer }).await
        })
    }
}

#[cfg(test)]
mod tests;
