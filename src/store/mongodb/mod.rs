//! The store on MongoDB: several processes, one graph.
//!
//! The rules of commits, claims and events are those of `kv`, run over what a transaction has read; see `group`. What is
//! particular to a database that several processes share stands here: a `lease` by the clock of the server instead of a lock on a
//! folder, and `others`, whose events are heard and whose runs are taken up when they are gone.

mod base;
mod documents;
mod fetched;
mod files;
mod group;
mod lease;
mod others;
mod snapshot;
mod strays;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bson::{Document, RawDocumentBuf, doc};
use futures_util::{TryStreamExt, future::BoxFuture};
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use uuid::Uuid;
use walkabout_schema::{Checkpoint, Fields, Items, Kind, Segment, State, Status, Timestamp, User, Walker};

use self::{
    base::{Base, Place, Tried, Tries},
    documents::{bson_id, date, event_id, id_in},
    fetched::{Fetched, Need},
    files::MongoFiles,
    group::{Asked, Committer, Message, QUEUE_MAX, Waiting},
    lease::Lease,
    others::{Bell, Others, Sink},
    snapshot::MongoSnapshot,
    strays::Strays,
};
use super::{
    Act, Acted, Change, Claim, Claimed, Commit, Due, Element, Error, EventSink, Events, Guard, Limits,
    OpenRuns, PAGE_BYTES_MAX, Registered, RequestKey, Result, RunEvents, RunFilter, Runs, Snapshot, Stirred,
    Store, Submission, Submitted, Then, Token,
    kv::{
        apply::{self, Prepared},
        codec::{self, FieldsOnly, Live},
        engine::Space,
        keys, let_go_of,
        records::Records,
        runs::{self, NewRun, Taken},
        stage::Stage,
        writer::{self, Fault, NewRoot, Shared, UNSAID, UserGone, UserWrite},
    },
};
use crate::{
    config::Config,
    env::Env,
    files::Files,
    ids::IdMap,
    run::lifecycle::{self, Step},
};

/// The bytes of a write that never has many, about.
const SMALL: usize = 1024;

/// How often a record is read whose checkpoint goes meanwhile: that happens once in its life.
const READS_MAX: usize = 3;

/// Where a database is, and how this process takes part in it.
#[derive(Clone)]
pub struct Options {
    /// `mongodb://…` or `mongodb+srv://…`. The database is that of its path.
    pub uri: String,
    /// The database, when the path names none.
    pub database: String,
    /// Begins the names of the collections, so that applications can share a database.
    pub name: Option<String>,
    /// How long a process may be silent before others take up its runs.
    pub lease: Duration,
    /// How long a write is tried while the database does not answer or others are in its way, and how long any answer is waited for.
    pub patience: Duration,
}

impl Options {
    /// A database, with the defaults for the rest.
    pub fn of(uri: impl Into<String>) -> Self {
        let Config { database, lease, patience, .. } = Config::default();
        Self { uri: uri.into(), database, name: None, lease, patience }
    }
}

/// A store on MongoDB. One of several, each in its process, over one database.
struct MongoStore {
    base: Arc<Base>,
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    messages: mpsc::Sender<Message>,
    records: Records,
    unsaid: Arc<Unsaid>,
    bell: Arc<Bell>,
    others: Arc<Sink>,
    /// Claims so far.
    counter: AtomicU64,
    tasks: Mutex<JoinSet<()>>,
}

/// Opens the store in a database, or makes one.
///
/// # Errors
/// [`Error::Open`] when the address does not read, the server does not answer or is too old, or the format is newer than this program.
pub async fn open(options: &Options, limits: Limits, env: Env) -> Result<Arc<dyn Store>> {
    let base = Arc::new(Base::connect(options).await?);
    let lease = Arc::new(Lease::take(&base, options.lease).await?);
    let fetched = Fetched::default();
    // Others change what the engine holds: nothing is cached.
    let shared = Arc::new(Shared::new(Box::new(fetched.clone()), 0, 0, limits));
    let (messages, queue) = mpsc::channel(QUEUE_MAX);
    let committer = Committer {
        base: Arc::clone(&base),
        shared: Arc::clone(&shared),
        fetched,
        lease: Arc::clone(&lease),
        env: env.clone(),
        session: None,
        left_open: None,
        group: 0,
        deferred: Waiting::default(),
    };
    let (bell, sink, unsaid) = (Arc::<Bell>::default(), Arc::<Sink>::default(), Arc::<Unsaid>::default());
    let others = Arc::new(Others {
        base: Arc::clone(&base),
        lease: Arc::clone(&lease),
        env: env.clone(),
        bell: Arc::clone(&bell),
        sink: Arc::clone(&sink),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(committer.run(queue));
    tasks.spawn(Arc::clone(&others).keep_lease());
    tasks.spawn(Arc::clone(&others).look());
    tasks.spawn(others.listen());
    tasks.spawn(Strays { base: Arc::clone(&base), files: MongoFiles::new(&base), env }.remove());
    tasks.spawn(Arc::clone(&unsaid).say(messages.clone()));
    Ok(Arc::new(MongoStore {
        base,
        shared,
        lease,
        messages,
        records: Records::default(),
        unsaid,
        bell,
        others: sink,
        counter: AtomicU64::new(0),
        tasks: Mutex::new(tasks),
    }))
}

/// Claims whose attempts have written nothing yet: their first event is written alone after a moment.
#[derive(Default)]
struct Unsaid {
    claims: Mutex<Claims>,
    notify: Notify,
}

#[derive(Default)]
struct Claims {
    open: IdMap<Token>,
    order: VecDeque<(Instant, Uuid, Token)>,
}

impl Unsaid {
    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: Uuid, token: Token) {
        let mut claims = self.claims();
        claims.open.insert(id, token);
        claims.order.push_back((Instant::now(), id, token));
        drop(claims);
        self.notify.notify_one();
    }

    /// The attempt writes something itself.
    fn remove(&self, id: Uuid, token: Token) {
        let mut claims = self.claims();
        if claims.open.get(&id) == Some(&token) {
            claims.open.remove(&id);
        }
    }

    async fn say(self: Arc<Self>, messages: mpsc::Sender<Message>) {
        loop {
            let notified = self.notify.notified();
            let first = self.claims().order.front().map(|(claimed, ..)| *claimed);
            match first {
                None => notified.await,
                Some(claimed) => tokio::time::sleep_until(claimed + UNSAID).await,
            }
            let now = Instant::now();
            loop {
                let next = {
                    let mut claims = self.claims();
                    let due = claims.order.pop_front_if(|(claimed, ..)| now >= *claimed + UNSAID);
                    due.map(|(_, id, token)| {
                        let is_silent = claims.open.get(&id) == Some(&token);
                        if is_silent {
                            claims.open.remove(&id);
                        }
                        (id, token, is_silent)
                    })
                };
                let Some((id, token, is_silent)) = next else { break };
                if is_silent {
                    let rule = move |shared: &Shared, stage: &mut Stage| {
                        runs::say_started(shared, stage, id, token).map(|events| ((), events))
                    };
                    let (member, _) = Asked::member(SMALL, vec![Need::live(id)], rule);
                    if messages.send(Message::Write(member)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl MongoStore {
    /// Waits for what is read, as long as patience lasts.
    async fn read<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        Ok(self.base.bounded(async { Ok(answer.await?) }).await?)
    }

    /// Has a rule examined and written with others.
    async fn ask<T: Send + 'static>(
        &self,
        bytes: usize,
        needs: Vec<Need>,
        rule: impl FnMut(&Shared, &mut Stage) -> Result<(T, Option<RunEvents>)> + Send + 'static,
    ) -> Result<T> {
        self.shared.check()?;
        let (member, answer) = Asked::member(bytes, needs, rule);
        self.messages.send(Message::Write(member)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn find_one(
        &self,
        place: Place,
        filter: Document,
        only: Option<Document>,
    ) -> Tries<Option<RawDocumentBuf>> {
        let collection = self.base.collection::<RawDocumentBuf>(place);
        let mut find = collection.find_one(filter);
        if let Some(only) = only {
            find = find.projection(only);
        }
        Ok(find.await?)
    }

    async fn checkpoint(&self, id: Uuid) -> Result<Option<RawDocumentBuf>> {
        Ok(self.find_one(Place::Checkpoint, doc! { "_id": bson_id(id) }, None).await?)
    }

    /// The rest of a claimed run. Nobody else changes it while the claim holds.
    async fn claimed(&self, id: Uuid, live: &Live) -> Result<Claimed> {
        let mut walker = match self.records.take(id) {
            Some(walker) => walker,
            None => {
                let only = doc! { "live": 0 };
                match self.find_one(Place::Walker, doc! { "_id": bson_id(id) }, Some(only)).await? {
                    Some(document) => codec::decode(document.as_bytes())?,
                    None => return Err(Error::Damaged(format!("the record of run {id} is gone"))),
                }
            }
        };
        live.show_claimed(&mut walker);
        let checkpoint = if live.checkpointed { self.checkpoint(id).await? } else { None };
        let checkpoint =
            checkpoint.map(|document| codec::decode::<Checkpoint>(document.as_bytes())).transpose()?;
        let segments = match &checkpoint {
            Some(checkpoint) if live.segmented => self.segments(id, checkpoint).await?,
            _ => BTreeMap::new(),
        };
        let answer = live.more().answer.as_ref().map(|answer| answer.value.clone());
        let token = live.token();
        self.records.hold(token, walker.clone());
        self.unsaid.add(id, token);
        Ok(Claimed::Taken(Box::new(Claim { token, walker, checkpoint, segments, answer })))
    }

    /// All segments that a checkpoint names.
    async fn segments(&self, run: Uuid, checkpoint: &Checkpoint) -> Result<BTreeMap<u64, Items>> {
        let numbers: Vec<u64> = checkpoint.segments().into_iter().collect();
        let mut segments = BTreeMap::new();
        for some in numbers.chunks(100) {
            let id = |number: &u64| doc! { "run": bson_id(run), "number": number.cast_signed() };
            let filter = doc! { "_id": { "$in": some.iter().map(id).collect::<Vec<_>>() } };
            let found = self.base.collection::<RawDocumentBuf>(Place::Segment).find(filter).await;
            let found: Vec<RawDocumentBuf> =
                found.map_err(Tried::from)?.try_collect().await.map_err(Tried::from)?;
            for document in found {
                let Segment { id, items } = codec::decode(document.as_bytes())?;
                segments.insert(id.number, items);
            }
        }
        match numbers.iter().find(|number| !segments.contains_key(number)) {
            Some(number) => Err(Error::Damaged(format!("segment {number} of run {run} is gone"))),
            None => Ok(segments),
        }
    }

    /// A record as it stands. One that ends while it is read is read again.
    async fn walker(&self, id: Uuid) -> Result<Option<Walker>> {
        for _ in 0..READS_MAX {
            let found = self.find_one(Place::Walker, doc! { "_id": bson_id(id) }, None).await?;
            let Some(document) = found else { return Ok(None) };
            let (mut walker, is_checkpointed) = documents::walker(&document)?;
            if !is_checkpointed {
                return Ok(Some(walker));
            }
            let only = Some(doc! { "fields": 1 });
            let fields = self.find_one(Place::Checkpoint, doc! { "_id": bson_id(id) }, only).await?;
            if let Some(fields) = fields {
                walker.archetype = codec::decode::<FieldsOnly>(fields.as_bytes())?.fields;
                return Ok(Some(walker));
            }
        }
        Err(Error::Damaged(format!("the checkpoint of run {id} is gone")))
    }

    async fn list(&self, root: Uuid, filter: RunFilter, before: Option<Uuid>, limit: usize) -> Result<Runs> {
        let wanted = wanted(root, &filter, before);
        let collection = self.base.collection::<RawDocumentBuf>(Place::Walker);
        let number = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let find = collection.find(wanted).sort(doc! { "_id": -1 }).limit(number).batch_size(256);
        let mut cursor = find.await.map_err(Tried::from)?;
        let (mut runs, mut bytes) = (Runs::default(), 0);
        let mut checkpointed = Vec::new();
        while let Some(document) = cursor.try_next().await.map_err(Tried::from)? {
            bytes += document.as_bytes().len();
            if runs.walkers.len() == limit || (!runs.walkers.is_empty() && bytes > PAGE_BYTES_MAX) {
                runs.more = true;
                break;
            }
            let (walker, is_checkpointed) = documents::walker(&document)?;
            checkpointed.extend(is_checkpointed.then(|| bson_id(walker.id.0)));
            runs.walkers.push(walker);
        }
        if !checkpointed.is_empty() {
            self.show_checkpoints(&mut runs.walkers, checkpointed).await?;
        }
        Ok(runs)
    }

    async fn show_checkpoints(&self, walkers: &mut [Walker], ids: Vec<bson::Bson>) -> Result<()> {
        let collection = self.base.collection::<RawDocumentBuf>(Place::Checkpoint);
        let find = collection.find(doc! { "_id": { "$in": ids } }).projection(doc! { "fields": 1 });
        let found: Vec<RawDocumentBuf> =
            find.await.map_err(Tried::from)?.try_collect().await.map_err(Tried::from)?;
        let mut fields: IdMap<Fields> = IdMap::default();
        for document in &found {
            fields.insert(id_in(document, "_id")?, codec::decode::<FieldsOnly>(document.as_bytes())?.fields);
        }
        for walker in walkers {
            if let Some(fields) = fields.remove(&walker.id.0) {
                walker.archetype = fields;
            }
        }
        Ok(())
    }

    async fn due(&self, filter: Document, sort: Document, limit: usize) -> Tries<Vec<RawDocumentBuf>> {
        let collection = self.base.collection::<RawDocumentBuf>(Place::Walker);
        let find = collection.find(filter).sort(sort).limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let parts =
            doc! { "live.root": 1, "live.state": 1, "live.epoch": 1, "live.lost": 1, "live.more.timer": 1 };
        Ok(find.projection(parts).await?.try_collect().await?)
    }

    /// Hands back what is under way, so that a stop does not count as a crash, and gives up the lease.
    async fn hand_back(&self) -> Tries<()> {
        let me = self.lease.number().cast_signed();
        for state in State::ALL.into_iter().filter(|state| state.is_under_way()) {
            let Some(back) = lifecycle::next(state, Step::HandBack) else { continue };
            let walkers = self.base.collection::<Document>(Place::Walker);
            let mine = doc! { "live.state": state.as_str(), "live.epoch": me };
            let change = doc! { "$set": { "live.state": back.as_str(), "live.goes_on": true } };
            walkers.update_many(mine, change).await?;
        }
        self.lease.end(&self.base).await
    }
}

/// Which runs of a root are listed.
fn wanted(root: Uuid, filter: &RunFilter, before: Option<Uuid>) -> Document {
    let mut wanted = doc! { "root": bson_id(root) };
    if let Some(before) = before {
        wanted.insert("_id", doc! { "$lt": bson_id(before) });
    }
    if let Some(name) = &filter.name {
        wanted.insert("name", name.as_str());
    }
    let states = State::ALL.into_iter().filter(|state| {
        filter.state.is_none_or(|wanted| wanted == *state)
            && filter.status.is_none_or(|wanted| wanted == state.status())
    });
    let states: Vec<State> = states.collect();
    if states.len() == State::ALL.len() {
        return wanted;
    }
    let (ended, open): (Vec<State>, Vec<State>) = states.into_iter().partition(|state| state.is_final());
    let words = |states: &[State]| states.iter().map(|state| state.as_str()).collect::<Vec<_>>();
    // Of an open run the state stands in its live part.
    if ended.is_empty() {
        wanted.insert("live.state", doc! { "$in": words(&open) });
    } else {
        // A status or a state that an ended run has, no open one has.
        let status = match ended.iter().any(|state| state.status() == Status::Completed) {
            true => "completed",
            false => "failed",
        };
        wanted.insert("schedule.status", status);
        wanted.insert("run.state", doc! { "$in": words(&ended) });
    }
    wanted
}

/// What a commit reads to be examined.
fn needs_of(commit: &Commit) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut made = std::collections::HashSet::new();
    if let Some(run) = &commit.run {
        needs.push(Need::live(run.id));
    }
    for guard in &commit.guards {
        match guard {
            Guard::Version { kind, id, .. } | Guard::Access { kind, id, .. } => {
                needs.push(Need::element(*kind, *id));
            }
            Guard::Links { node, direction, edge_name, .. } => {
                needs.push(Need::links(*node, Some((*direction, edge_name.as_ref()))));
                needs.push(Need::element(Kind::Node, *node));
            }
        }
    }
    for change in &commit.changes {
        match change {
            Change::Put { element, expected: None } => {
                made.insert(element.id);
                for end in element.ends.iter().flat_map(|ends| [&ends.source, &ends.target]) {
                    if !made.contains(&end.id) {
                        needs.push(Need::element(Kind::Node, end.id));
                    }
                }
                if element.owner.is_none() {
                    needs.push(Need::element(element.kind, element.id));
                }
            }
            Change::Put { element, expected: Some(_) } => {
                needs.push(Need::element(element.kind, element.id));
            }
            Change::Delete { kind, id, .. } => {
                needs.push(Need::element(*kind, *id));
                if *kind == Kind::Node {
                    needs.push(Need::links(*id, None));
                }
            }
            Change::Add { kind, id, .. } => needs.push(Need::element(*kind, *id)),
        }
    }
    needs
}

impl Store for MongoStore {
    fn publish_to(&self, sink: EventSink) {
        *self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    fn hear(&self, sink: EventSink) {
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    fn stirred(&self) -> BoxFuture<'_, Stirred> {
        Box::pin(self.bell.heard())
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Arc<dyn Snapshot>>> {
        Box::pin(async {
            let snapshot: Arc<dyn Snapshot> = Arc::new(MongoSnapshot::open(&self.base).await?);
            Ok(snapshot)
        })
    }

    fn keep(&self, name: &str, fresh: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>>> {
        let name = name.to_owned();
        let needs = vec![Need::Value(Space::Meta, keys::secret(&name))];
        Box::pin(self.ask(SMALL, needs, move |shared, stage| {
            writer::keep(shared, stage, &name, fresh.clone()).map(|kept| (kept, None))
        }))
    }

    fn register(&self, user: User, root: Option<Arc<Element>>) -> BoxFuture<'_, Result<Registered>> {
        Box::pin(async move {
            let (user, root) = (UserWrite::new(&user)?, root.map(NewRoot::new).transpose()?);
            let needs = user.reads().map(|key| Need::Value(Space::User, key)).collect();
            let rule = move |shared: &Shared, stage: &mut Stage| {
                writer::register(shared, stage, user.clone(), root.clone())
                    .map(|registered| (registered, None))
            };
            self.ask(SMALL, needs, rule).await
        })
    }

    fn change_user(&self, user: User) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            let user = UserWrite::change(user)?;
            let needs = user.reads().map(|key| Need::Value(Space::User, key)).collect();
            let rule = move |shared: &Shared, stage: &mut Stage| {
                writer::change_user(shared, stage, user.clone()).map(|changed| (changed, None))
            };
            self.ask(SMALL, needs, rule).await
        })
    }

    fn remove_user(
        &self,
        user: User,
        stays: Option<User>,
        then: Option<Submission>,
    ) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            let run = then.as_ref().map(NewRun::new).transpose()?;
            let user = UserGone::new(&user, stays.as_ref());
            let reads = user.user.reads().map(|key| Need::Value(Space::User, key));
            let stays = user
                .stays()
                .into_iter()
                .flat_map(|(root, key)| [Need::element(Kind::Node, root), Need::Value(Space::User, key)]);
            let needs = reads.chain(stays).collect();
            let bytes = run.as_ref().map_or(SMALL, NewRun::bytes);
            let rule = move |shared: &Shared, stage: &mut Stage| {
                writer::remove_user(shared, stage, user.clone(), run.clone())
            };
            self.ask(bytes, needs, rule).await
        })
    }

    fn user(&self, email: &str) -> BoxFuture<'_, Result<Option<User>>> {
        let filter = doc! { "email": email };
        Box::pin(self.read(async move {
            let found = self.find_one(Place::User, filter, None).await?;
            found.map(|document| codec::decode(document.as_bytes())).transpose()
        }))
    }

    fn users_of(&self, root: Uuid) -> BoxFuture<'_, Result<Vec<User>>> {
        Box::pin(self.read(async move {
            let collection = self.base.collection::<RawDocumentBuf>(Place::User);
            let find = collection.find(doc! { "root_id": bson_id(root) }).sort(doc! { "_id": 1 });
            let found: Vec<RawDocumentBuf> =
                find.await.map_err(Tried::from)?.try_collect().await.map_err(Tried::from)?;
            found.iter().map(|document| codec::decode(document.as_bytes())).collect()
        }))
    }

    fn user_of_identity(&self, provider: &str, id: &str) -> BoxFuture<'_, Result<Option<User>>> {
        let (provider, id) = (provider.to_owned(), id.to_owned());
        Box::pin(self.read(async move {
            let key = documents::identity_id(&keys::identity(&provider, &id))?;
            let Some(found) = self.find_one(Place::Identity, doc! { "_id": key }, None).await? else {
                return Ok(None);
            };
            let email = found
                .get_str("email")
                .map_err(|_| Error::Damaged("an identity has no address".to_owned()))?;
            let found = self.find_one(Place::User, doc! { "email": email }, None).await?;
            let user = found.map(|document| codec::decode::<User>(document.as_bytes())).transpose()?;
            // Between the two the user may have let go of it.
            Ok(user.filter(|user| user.sso.get(&provider).is_some_and(|identity| identity.id == id)))
        }))
    }

    fn spend(&self, key: [u8; 32], now: Timestamp, until: Timestamp) -> BoxFuture<'_, Result<bool>> {
        let needs = vec![Need::Value(Space::Request, keys::request(&key))];
        let key = RequestKey { key, request: [0; 32], until };
        Box::pin(self.ask(SMALL, needs, move |shared, stage| {
            runs::spend(shared, stage, &mut Vec::new(), &key, now).map(|spent| (spent, None))
        }))
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<Submitted>> {
        Box::pin(async move {
            let run = NewRun::new(&submission)?;
            let id = submission.walker.id.0;
            let needs = submission.key.iter().map(|key| Need::Value(Space::Request, keys::request(&key.key)));
            let needs = needs.collect();
            let bytes = run.bytes();
            self.records.submit(submission.walker, bytes);
            let rule = move |shared: &Shared, stage: &mut Stage| {
                runs::submit(shared, stage, &mut Vec::new(), run.clone())
            };
            let submitted = self.ask(bytes, needs, rule).await;
            if !matches!(submitted, Ok(Submitted::New)) {
                drop(self.records.take(id));
            }
            submitted
        })
    }

    fn open_runs(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<OpenRuns>> {
        Box::pin(self.read(async move {
            let states = State::ALL
                .into_iter()
                .filter(|state| state.is_under_way() || matches!(state, State::Queued | State::Incompatible));
            let states: Vec<&str> = states.map(State::as_str).collect();
            let mut filter = doc! { "live.state": { "$in": states } };
            if let Some(after) = after {
                filter.insert("_id", doc! { "$gt": bson_id(after) });
            }
            let found = self.due(filter, doc! { "_id": 1 }, limit).await?;
            let mut open = OpenRuns::default();
            let is_full = found.len() >= limit;
            for document in &found {
                let id = id_in(document, "_id")?;
                let part = Part::of(document)?;
                let is_lost = part.state.is_under_way() && !self.lease.is_alive(part.epoch);
                let is_parked = part.state == State::Incompatible && part.epoch < self.lease.number();
                if is_lost || is_parked || part.state == State::Queued {
                    let lost = part.lost + u32::from(is_lost);
                    open.due.push(Due { id, root: part.root.0, lost, at: Timestamp::default() });
                }
                open.next = is_full.then_some(id);
            }
            Ok(open)
        }))
    }

    fn sleepers(&self, after: Option<(Timestamp, Uuid)>, limit: usize) -> BoxFuture<'_, Result<Vec<Due>>> {
        Box::pin(self.read(async move {
            let timer = "live.more.timer";
            let filter = match after {
                Some((at, id)) => doc! { "$or": [
                    { timer: { "$gt": date(at) } },
                    { timer: date(at), "_id": { "$gt": bson_id(id) } },
                ] },
                None => doc! { timer: { "$exists": true } },
            };
            let found = self.due(filter, doc! { timer: 1, "_id": 1 }, limit).await?;
            let due = found.iter().map(|document| {
                let part = Part::of(document)?;
                let at = part.more.and_then(|more| more.timer).unwrap_or_default();
                Ok(Due { id: id_in(document, "_id")?, root: part.root.0, lost: 0, at })
            });
            due.collect()
        }))
    }

    fn claim(&self, id: Uuid, now: Timestamp) -> BoxFuture<'_, Result<Claimed>> {
        Box::pin(async move {
            let counter = self.counter.fetch_add(1, Ordering::SeqCst) + 1;
            let token = Token { epoch: self.lease.number(), counter };
            let lease = Arc::clone(&self.lease);
            let rule = move |shared: &Shared, stage: &mut Stage| {
                runs::claim(shared, stage, id, token, now, |live| match live.state.is_under_way() {
                    true => !lease.is_alive(live.epoch),
                    false => live.epoch < token.epoch,
                })
            };
            match self.ask(SMALL, vec![Need::live(id)], rule).await? {
                Taken::Run(live) => match self.read(self.claimed(id, &live)).await {
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
            let needs = vec![Need::live(id)];
            let acted = self
                .ask(SMALL, needs, move |shared, stage| runs::act(shared, stage, id, now, act.clone()))
                .await?;
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
            self.unsaid.remove(id, token);
            let bytes = data.to_string().len();
            let rule = move |shared: &Shared, stage: &mut Stage| {
                let (seq, events) = runs::progress(shared, stage, id, token, now, data.clone())?;
                Ok((seq, Some(events)))
            };
            self.ask(bytes, vec![Need::live(id)], rule).await
        })
    }

    fn commit(&self, now: Timestamp, commit: Commit) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let held = commit.run.as_ref().map(|run| (run.id, run.token));
            let goes_on = commit.run.as_ref().is_none_or(|run| matches!(run.then, Then::Checkpoint(_)));
            let needs = needs_of(&commit);
            let record = || {
                let record = held.and_then(|(id, token)| self.records.held(id, token));
                record.ok_or(Error::LeaseLost)
            };
            let commit = Prepared::new(commit, record)?;
            let bytes = commit.bytes();
            if let Some((id, token)) = held {
                self.unsaid.remove(id, token);
            }
            let rule = move |shared: &Shared, stage: &mut Stage| {
                apply::commit(shared, stage, now, commit.clone()).map(|events| ((), events))
            };
            let committed = self.ask(bytes, needs, rule).await;
            let is_over = match &committed {
                Ok(()) => !goes_on,
                Err(error) => matches!(error, Error::LeaseLost),
            };
            if let Some((id, token)) = held.filter(|_| is_over) {
                self.records.release(id, token);
            }
            committed
        })
    }

    fn run(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Walker>>> {
        Box::pin(self.read(self.walker(id)))
    }

    fn runs(
        &self,
        root: Uuid,
        filter: RunFilter,
        before: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Runs>> {
        Box::pin(self.read(self.list(root, filter, before, limit)))
    }

    fn events(&self, id: Uuid, after: u64, limit: usize) -> BoxFuture<'_, Result<Events>> {
        Box::pin(self.read(async move {
            let collection = self.base.collection::<RawDocumentBuf>(Place::Event);
            let range =
                |from: u64| doc! { "_id": { "$gt": event_id(id, from), "$lte": event_id(id, u64::MAX) } };
            let edge = async |order: i32| -> Tries<u64> {
                let find =
                    collection.find_one(range(0)).sort(doc! { "_id": order }).projection(doc! { "_id": 1 });
                let found = find.await?;
                let key = found.map(|found| documents::run_and_seq(&found)).transpose()?;
                Ok(key.map_or(0, |(_, seq)| seq))
            };
            // The last first: an event that comes meanwhile is read, or found by the next page.
            let last = edge(-1).await?;
            let number = i64::try_from(limit).unwrap_or(i64::MAX);
            let find = collection.find(range(after)).sort(doc! { "_id": 1 }).limit(number).batch_size(256);
            let mut cursor = find.await.map_err(Tried::from)?;
            let (mut events, mut bytes) = (Vec::new(), 0);
            while let Some(document) = cursor.try_next().await.map_err(Tried::from)? {
                bytes += document.as_bytes().len();
                events.push(documents::event(&document)?);
                if bytes > PAGE_BYTES_MAX {
                    break;
                }
            }
            let last = events.last().map_or(last, |event: &walkabout_schema::Event| event.seq.max(last));
            Ok(Events { events, first: edge(1).await?, last })
        }))
    }

    fn files(&self) -> Option<Arc<dyn Files>> {
        Some(Arc::new(MongoFiles::new(&self.base)))
    }

    fn health(&self) -> Result<()> {
        self.shared.health()?;
        let age = self.lease.age();
        if age > self.lease.span() {
            return Err(Error::Unavailable(format!("the database has not answered for {} s", age.as_secs())));
        }
        Ok(())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.shared.is_closed() {
                return Ok(());
            }
            let lost = self.shared.check();
            self.shared.set_fault(Some(Fault::Closed));
            let (answer, written) = oneshot::channel();
            if self.messages.send(Message::Close(answer)).await.is_ok() {
                drop(written.await);
            }
            let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            tasks.shutdown().await;
            lost?;
            Ok(self.base.bounded(self.hand_back()).await?)
        })
    }
}

/// The live part of a run as the due queue sees it.
#[derive(serde::Deserialize)]
struct Part {
    root: walkabout_schema::Key,
    state: State,
    epoch: u64,
    lost: u32,
    more: Option<Timed>,
}

#[derive(serde::Deserialize)]
struct Timed {
    timer: Option<Timestamp>,
}

impl Part {
    fn of(document: &RawDocumentBuf) -> Result<Self> {
        let live = document.get_document("live").map_err(|_| Error::Damaged("an open run".to_owned()))?;
        codec::decode(live.as_bytes())
    }
}
