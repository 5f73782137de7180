//! The one committer: all writes of a store pass through its thread, in groups that share one sync.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};
use uuid::Uuid;
use walkabout_schema::{Timestamp, User};

use super::{
    apply::{self, Prepared},
    cache::Cache,
    codec::{self, Live},
    engine::{Engine, Space},
    keys,
    runs::{self, NewRun, Taken},
    stage::{Stage, Touched},
};
use crate::store::{
    Act, Acted, Element, Error, EventSink, Limits, Registered, RequestKey, Result, RunEvents, Submitted,
    Token,
};

/// Members of one group at most.
pub(crate) const GROUP_MAX: usize = 1024;
/// Bytes of one group at most, about; one member alone may have more.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// Members waiting at most; beyond it callers wait.
pub(crate) const QUEUE_MAX: usize = 8192;
/// How long a claimed attempt may write nothing before its `started` event is written alone.
pub(crate) const UNSAID: Duration = Duration::from_millis(5);
/// How many groups pass between two looks at the free room of the disk.
const GROUPS_PER_LOOK: u64 = 64;
/// How long a full store goes without a look when nobody writes: it is refused work, so it has to notice by itself.
const LOOK_WHILE_FULL: Duration = Duration::from_secs(1);

/// A write with the place for its answer.
pub(crate) enum Member {
    Keep {
        name: String,
        fresh: Vec<u8>,
        answer: oneshot::Sender<Result<Vec<u8>>>,
    },
    Register {
        user: UserWrite,
        root: Option<NewRoot>,
        answer: oneshot::Sender<Result<Registered>>,
    },
    ChangeUser {
        user: UserWrite,
        answer: oneshot::Sender<Result<bool>>,
    },
    Spend {
        key: RequestKey,
        now: Timestamp,
        answer: oneshot::Sender<Result<bool>>,
    },
    RemoveUser {
        user: UserGone,
        run: Option<Box<NewRun>>,
        answer: oneshot::Sender<Result<bool>>,
    },
    Submit {
        run: Box<NewRun>,
        answer: oneshot::Sender<Result<Submitted>>,
    },
    Claim {
        id: Uuid,
        now: Timestamp,
        answer: oneshot::Sender<Result<Taken>>,
    },
    Act {
        id: Uuid,
        now: Timestamp,
        act: Act,
        answer: oneshot::Sender<Result<Option<Acted>>>,
    },
    Progress {
        id: Uuid,
        token: Token,
        now: Timestamp,
        data: serde_json::Value,
        answer: oneshot::Sender<Result<u64>>,
    },
    Commit {
        now: Timestamp,
        commit: Box<Prepared>,
        answer: oneshot::Sender<Result<()>>,
    },
    Close {
        answer: oneshot::Sender<Result<()>>,
    },
}

/// What the committer shares with the readers.
pub(crate) struct Shared {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) cache: Cache,
    /// The last group that is applied.
    pub(crate) published: AtomicU64,
    pub(crate) sink: Mutex<Option<EventSink>>,
    /// Why no more writes are taken.
    pub(crate) fault: Mutex<Option<Fault>>,
    pub(crate) limits: Limits,
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Poisoned(String),
    Full(String),
    Closed,
}

impl Fault {
    pub(crate) fn error(&self) -> Error {
        match self {
            Self::Poisoned(why) => Error::Unavailable(why.clone()),
            Self::Full(why) => Error::Full(why.clone()),
            Self::Closed => Error::Closed,
        }
    }
}

impl Shared {
    /// For the groups after one that is written.
    pub(crate) fn new(engine: Box<dyn Engine>, group: u64, cache_bytes_max: usize, limits: Limits) -> Self {
        Self {
            engine,
            cache: Cache::new(cache_bytes_max),
            published: AtomicU64::new(group),
            sink: Mutex::new(None),
            fault: Mutex::new(None),
            limits,
        }
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Why no more writes are taken.
    pub(crate) fn check(&self) -> Result<()> {
        match self.fault() {
            None => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }

    /// As [`Shared::check`]; what cannot pass is told apart.
    pub(crate) fn health(&self) -> Result<()> {
        match self.fault() {
            Some(Fault::Poisoned(why)) => Err(Error::OutcomeUnknown(why)),
            _ => self.check(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.fault(), Some(Fault::Closed))
    }

    /// Takes no more writes: nobody knows what is on disk.
    pub(crate) fn give_up(&self, error: &Error) {
        tracing::error!(%error, "a write failed: its outcome is unknown, no more writes are taken");
        self.set_fault(Some(Fault::Poisoned("an earlier write failed".to_owned())));
    }
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    epoch: u64,
    counter: u64,
    stage: Stage,
    /// The last group that was synced. Later ones are on disk or not.
    synced: u64,
    /// Bytes written since the last look at the disk.
    unlooked: u64,
    /// Claims of the last moment, oldest first: their `started` events may still be to write.
    unsaid: VecDeque<(Instant, Uuid, Token)>,
    /// Up to where requests are forgotten whose time is over.
    swept: Vec<u8>,
}

/// What has to be done for a member once its group is on disk.
type Answer = Box<dyn FnOnce(Option<&Error>) + Send>;

/// One group on its way.
#[derive(Default)]
struct Group {
    answers: Vec<Answer>,
    events: Vec<RunEvents>,
    needs_sync: bool,
}

impl Writer {
    /// For the groups after one that is synced.
    pub(crate) fn new(shared: Arc<Shared>, epoch: u64, group: u64) -> Self {
        let stage = Stage::after(group);
        Self {
            shared,
            epoch,
            counter: 0,
            stage,
            synced: group,
            unlooked: 0,
            unsaid: VecDeque::new(),
            swept: Vec::new(),
        }
    }

    /// Takes members until all senders are gone or the store is closed.
    pub(crate) async fn run(mut self, mut members: mpsc::Receiver<Member>) {
        let mut batch = Vec::with_capacity(GROUP_MAX);
        loop {
            batch.clear();
            let due = self.wakes_at();
            let next = members.recv_many(&mut batch, GROUP_MAX);
            let received = match due {
                None => Some(next.await),
                Some(due) => tokio::time::timeout_at(due, next).await.ok(),
            };
            if received == Some(0) {
                break;
            }
            let (mut group, mut bytes, mut closing) = (Group::default(), 0, Vec::new());
            for member in batch.drain(..) {
                if let Member::Close { answer } = member {
                    closing.push(answer);
                    continue;
                }
                bytes += member.bytes();
                if bytes > GROUP_BYTES_MAX {
                    self.write(std::mem::take(&mut group));
                    bytes = member.bytes();
                }
                self.admit(member, &mut group);
            }
            self.say_started(&mut group);
            self.write(group);
            if !closing.is_empty() {
                let closed = self.close();
                for answer in closing {
                    let closed =
                        closed.as_ref().copied().map_err(|error| Error::Unavailable(error.to_string()));
                    drop(answer.send(closed));
                }
                break;
            }
        }
    }

    /// When there is something to do even if no member comes.
    fn wakes_at(&self) -> Option<Instant> {
        let unsaid = self.unsaid.front().map(|(claimed, ..)| *claimed + UNSAID);
        let look = self.is_full().then(|| Instant::now() + LOOK_WHILE_FULL);
        unsaid.into_iter().chain(look).min()
    }

    fn is_full(&self) -> bool {
        matches!(self.shared.fault(), Some(Fault::Full(_)))
    }

    /// Checks one member against the store and the group so far, and adds it to the group when it is good.
    fn admit(&mut self, member: Member, group: &mut Group) {
        match self.shared.fault() {
            None => {}
            // What adds nothing still goes on when the disk is full, so that runs can end.
            Some(Fault::Full(_)) if !member.adds_data() => {}
            Some(fault) => return member.refuse(fault.error()),
        }
        let (shared, stage) = (Arc::clone(&self.shared), &mut self.stage);
        let mut needs_sync = true;
        let (settled, events) = match member {
            Member::Keep { name, fresh, answer } => {
                (settle(answer, stage.examine(|stage| keep(&shared, stage, &name, fresh))), None)
            }
            Member::Register { user, root, answer } => {
                let registered = stage.examine(|stage| register(&shared, stage, user, root));
                (settle(answer, registered), None)
            }
            Member::ChangeUser { user, answer } => {
                (settle(answer, stage.examine(|stage| change_user(&shared, stage, user))), None)
            }
            Member::Spend { key, now, answer } => {
                let swept = &mut self.swept;
                let spent = stage.examine(|stage| runs::spend(&shared, stage, swept, &key, now));
                (settle(answer, spent), None)
            }
            Member::RemoveUser { user, run, answer } => {
                let removed = stage.examine(|stage| remove_user(&shared, stage, user, run.map(|run| *run)));
                let (removed, events) = parts(removed);
                (settle(answer, removed), events.flatten())
            }
            Member::Submit { run, answer } => {
                let swept = &mut self.swept;
                let submitted = stage.examine(|stage| runs::submit(&shared, stage, swept, *run));
                let (submitted, events) = parts(submitted);
                (settle(answer, submitted), events.flatten())
            }
            Member::Claim { id, now, answer } => {
                self.counter += 1;
                let token = Token { epoch: self.epoch, counter: self.counter };
                let is_left = |live: &Live| live.epoch < token.epoch;
                let claimed = stage.examine(|stage| runs::claim(&shared, stage, id, token, now, is_left));
                let (claimed, events) = parts(claimed);
                if let Ok(Taken::Run(_)) = &claimed {
                    self.unsaid.push_back((Instant::now(), id, token));
                }
                // A run that it ended is told of.
                needs_sync = events.as_ref().is_some_and(Option::is_some);
                (settle(answer, claimed), events.flatten())
            }
            Member::Act { id, now, act, answer } => {
                let (acted, events) = parts(stage.examine(|stage| runs::act(&shared, stage, id, now, act)));
                (settle(answer, acted), events.flatten())
            }
            Member::Progress { id, token, now, data, answer } => {
                let told = stage.examine(|stage| runs::progress(&shared, stage, id, token, now, data));
                let (seq, events) = parts(told);
                (settle(answer, seq), events)
            }
            Member::Commit { now, commit, answer } => {
                let done = stage.examine(|stage| apply::commit(&shared, stage, now, *commit));
                let (done, events) = parts(done.map(|events| ((), events)));
                (settle(answer, done), events.flatten())
            }
            Member::Close { answer } => (settle(answer, Ok(())), None),
        };
        if settled.is_good {
            group.needs_sync |= needs_sync;
            group.events.extend(events);
        }
        group.answers.push(settled.answer);
    }

    /// Adds the `started` events of attempts that have written nothing for a while.
    fn say_started(&mut self, group: &mut Group) {
        let now = Instant::now();
        while let Some((_, id, token)) = self.unsaid.pop_front_if(|(claimed, ..)| now >= *claimed + UNSAID) {
            let shared = &self.shared;
            match self.stage.examine(|stage| runs::say_started(shared, stage, id, token)) {
                Ok(None) => {}
                Ok(Some(events)) => {
                    group.events.push(events);
                    group.needs_sync = true;
                }
                Err(error) => tracing::error!(run = %id, %error, "a started event cannot be written"),
            }
        }
    }

    /// Writes a group, then answers its members, then publishes its events.
    fn write(&mut self, group: Group) {
        let Group { answers, events, needs_sync } = group;
        let mut failure = None;
        if let Some(fault @ Fault::Poisoned(_)) = self.shared.fault() {
            failure = Some(Error::OutcomeUnknown(fault.error().to_string()));
        } else if !self.stage.is_empty()
            && let Err(error) = self.apply(needs_sync)
        {
            self.shared.give_up(&error);
            failure = Some(Error::OutcomeUnknown(error.to_string()));
        }
        if failure.is_none() {
            // Before the answers: who hears that a run ended finds its last event published.
            let sink = self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(sink) = sink {
                for events in &events {
                    sink(events);
                }
            }
        }
        for answer in answers {
            answer(failure.as_ref());
        }
        let much = self.shared.limits.disk_free_min / 4;
        if self.stage.number().is_multiple_of(GROUPS_PER_LOOK) || self.unlooked > much || self.is_full() {
            self.unlooked = 0;
            self.look_at_disk();
        }
    }

    /// Writes what is staged, and shows it to the readers.
    fn apply(&mut self, sync: bool) -> Result<()> {
        let number = self.stage.number();
        let (batch, touched) = self.stage.take(self.synced)?;
        let Touched { elements, linked } = touched;
        self.unlooked += batch
            .iter()
            .map(|(_, key, value)| (key.len() + value.as_ref().map_or(0, Vec::len)) as u64)
            .sum::<u64>();
        self.shared.cache.touch(elements.keys().chain(&linked).copied(), number);
        self.shared.engine.apply(batch, sync)?;
        if sync {
            self.synced = number;
        }
        self.shared.cache.enter(elements.into_values().flatten(), number);
        self.shared.published.store(number, Ordering::SeqCst);
        Ok(())
    }

    /// Refuses what adds data when little room is left, and takes it again when there is more.
    pub(crate) fn look_at_disk(&self) {
        let bound = self.shared.limits.disk_free_min;
        let free = self.shared.engine.free_bytes().unwrap_or(u64::MAX);
        match self.shared.fault() {
            None if free < bound => {
                let why = format!("{free} bytes are free on the disk of the store; at least {bound} must be");
                tracing::error!("{why}");
                self.shared.set_fault(Some(Fault::Full(why)));
            }
            Some(Fault::Full(_)) if free >= bound => self.shared.set_fault(None),
            _ => {}
        }
    }

    /// Hands back what is under way, so that a stop does not count as a crash, and closes the engine.
    fn close(&mut self) -> Result<()> {
        let lost = self.shared.fault().filter(|fault| matches!(fault, Fault::Poisoned(_)));
        self.shared.set_fault(Some(Fault::Closed));
        if let Some(fault) = lost {
            return Err(fault.error());
        }
        self.stage.hand_back(self.epoch);
        if !self.stage.is_empty() {
            self.apply(true)?;
        }
        self.shared.engine.close(self.stage.number() - 1)
    }
}

impl Drop for Writer {
    /// Nobody answers any more after a panic: the store must not look well then.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.give_up(&Error::Unavailable("the committer panicked".to_owned()));
        }
    }
}

impl Member {
    fn adds_data(&self) -> bool {
        match self {
            Self::Keep { .. } | Self::Register { .. } | Self::Submit { .. } => true,
            Self::Commit { commit, .. } => commit.adds_data(),
            // Else nobody could log in to make room, or end a login that was stolen. It is bounded.
            Self::ChangeUser { .. } | Self::Spend { .. } => false,
            // It makes room.
            Self::RemoveUser { .. } => false,
            Self::Claim { .. } | Self::Act { .. } | Self::Progress { .. } | Self::Close { .. } => false,
        }
    }

    /// How much it writes, about.
    fn bytes(&self) -> usize {
        match self {
            Self::Register { user, root, .. } => {
                user.document.len() + root.as_ref().map_or(0, |root| root.document.len())
            }
            Self::ChangeUser { user, .. } => user.document.len(),
            Self::RemoveUser { run, .. } => run.as_ref().map_or(0, |run| run.bytes()),
            Self::Submit { run, .. } => run.bytes(),
            Self::Commit { commit, .. } => commit.bytes(),
            Self::Keep { .. }
            | Self::Spend { .. }
            | Self::Claim { .. }
            | Self::Act { .. }
            | Self::Progress { .. }
            | Self::Close { .. } => 0,
        }
    }

    fn refuse(self, error: Error) {
        // Nobody waits any more when a send fails.
        match self {
            Self::Keep { answer, .. } => drop(answer.send(Err(error))),
            Self::Register { answer, .. } => drop(answer.send(Err(error))),
            Self::ChangeUser { answer, .. }
            | Self::Spend { answer, .. }
            | Self::RemoveUser { answer, .. } => drop(answer.send(Err(error))),
            Self::Claim { answer, .. } => drop(answer.send(Err(error))),
            Self::Act { answer, .. } => drop(answer.send(Err(error))),
            Self::Progress { answer, .. } => drop(answer.send(Err(error))),
            Self::Submit { answer, .. } => drop(answer.send(Err(error))),
            Self::Commit { answer, .. } | Self::Close { answer } => drop(answer.send(Err(error))),
        }
    }
}

/// An answer, and what goes with it when it is good.
fn parts<T, E>(result: Result<(T, E)>) -> (Result<T>, Option<E>) {
    match result {
        Ok((answer, events)) => (Ok(answer), Some(events)),
        Err(error) => (Err(error), None),
    }
}

/// A member that was examined.
struct Settled {
    is_good: bool,
    answer: Answer,
}

/// Every answer waits for its group: who is told of a conflict must find what it lost against.
fn settle<T: Send + 'static>(answer: oneshot::Sender<Result<T>>, result: Result<T>) -> Settled {
    let is_good = result.is_ok();
    let answer: Answer = Box::new(move |failure| {
        let result = match (result, failure) {
            (Ok(_), Some(error)) => Err(Error::OutcomeUnknown(error.to_string())),
            (result, _) => result,
        };
        // Nobody waits any more when the send fails.
        drop(answer.send(result));
    });
    Settled { is_good, answer }
}

pub(crate) fn keep(shared: &Shared, stage: &mut Stage, name: &str, fresh: Vec<u8>) -> Result<Vec<u8>> {
    let key = keys::secret(name);
    if let Some(kept) = stage.get(&*shared.engine, Space::Meta, &key)? {
        return Ok(kept.to_vec());
    }
    stage.put(Space::Meta, key, fresh.clone());
    Ok(fresh)
}

pub(crate) fn register(
    shared: &Shared,
    stage: &mut Stage,
    user: UserWrite,
    root: Option<NewRoot>,
) -> Result<Registered> {
    for key in user.reads() {
        if stage.get(&*shared.engine, Space::User, &key)?.is_some() {
            return Ok(Registered::Taken);
        }
    }
    user.put(stage);
    if let Some(NewRoot { root, document }) = root {
        stage.put_element(root, document);
    }
    Ok(Registered::New)
}

/// A root that is not there yet.
#[derive(Clone)]
pub(crate) struct NewRoot {
    root: Arc<Element>,
    /// The root, encoded.
    document: Vec<u8>,
}

impl NewRoot {
    pub(crate) fn new(root: Arc<Element>) -> Result<Self> {
        let document = codec::encode_element(&root)?;
        Ok(Self { root, document })
    }
}

/// A user, as it is to be stored.
#[derive(Clone)]
pub(crate) struct UserWrite {
    email: String,
    id: Uuid,
    root: Uuid,
    /// The version of the one that it takes the place of.
    before: u64,
    /// Where its identities lead to it.
    identities: Vec<Vec<u8>>,
    /// The user, encoded.
    pub(crate) document: Vec<u8>,
}

impl UserWrite {
    /// One that is not there yet.
    pub(crate) fn new(user: &User) -> Result<Self> {
        let (document, identities) = (codec::encode(user)?, identities(user));
        let (email, id, root) = (user.email.clone(), user.id.0, user.root_id.0);
        Ok(Self { email, id, root, before: 0, identities, document })
    }

    /// One that is given as it was read and changed, in the place of what was read.
    pub(crate) fn change(mut user: User) -> Result<Self> {
        let before = user.version;
        user.version += 1;
        Ok(Self { before, ..Self::new(&user)? })
    }

    /// Where it is stored.
    pub(crate) fn key(&self) -> Vec<u8> {
        self.email.as_bytes().to_vec()
    }

    /// Where it and its identities are stored: what has to be read to examine it.
    pub(crate) fn reads(&self) -> impl Iterator<Item = Vec<u8>> {
        self.identities.iter().cloned().chain([self.key()])
    }

    fn put(self, stage: &mut Stage) {
        let key = self.key();
        for identity in self.identities {
            stage.put(Space::User, identity, self.email.clone().into_bytes());
        }
        stage.put(Space::User, keys::user_of(self.root, self.id), self.email.into_bytes());
        stage.put(Space::User, key, self.document);
    }
}

/// A user that is to be removed.
#[derive(Clone)]
pub(crate) struct UserGone {
    /// As it was read. It is not written.
    pub(crate) user: UserWrite,
    /// Address and id of an administrator of the same root who has to stay.
    stays: Option<(String, Uuid)>,
}

impl UserGone {
    pub(crate) fn new(user: &User, stays: Option<&User>) -> Self {
        let stays = stays.map(|stays| (stays.email.clone(), stays.id.0));
        let (email, id, root, before) = (user.email.clone(), user.id.0, user.root_id.0, user.version);
        let user = UserWrite { email, id, root, before, identities: identities(user), document: Vec::new() };
        Self { user, stays }
    }

    /// The root of both, and where the one who stays is stored: what has to be read beside the user.
    pub(crate) fn stays(&self) -> Option<(Uuid, Vec<u8>)> {
        self.stays.as_ref().map(|(email, _)| (self.user.root, email.as_bytes().to_vec()))
    }

    fn is_allowed(&self, shared: &Shared, stage: &Stage) -> Result<bool> {
        let Some((root, key)) = self.stays() else { return Ok(true) };
        // What is relied on is written to where a database is shared: of two who go at once, each by the other's leave, one is
        // undone and examined again.
        stage.get(&*shared.engine, Space::Node, root.as_bytes())?;
        let Some(stays) = stage.get(&*shared.engine, Space::User, &key)? else { return Ok(false) };
        let stays: User = codec::decode(&stays)?;
        let is_meant = self.stays.as_ref().is_some_and(|(_, id)| *id == stays.id.0 && *id != self.user.id);
        Ok(is_meant && stays.is_admin && stays.root_id.0 == root)
    }
}

fn identities(user: &User) -> Vec<Vec<u8>> {
    user.sso.iter().map(|(provider, identity)| keys::identity(provider, &identity.id)).collect()
}

pub(crate) fn change_user(shared: &Shared, stage: &mut Stage, mut user: UserWrite) -> Result<bool> {
    let Some(kept) = kept(shared, stage, &user)? else { return Ok(false) };
    let (before, after) = (identities(&kept), user.identities.clone());
    user.identities.retain(|identity| !before.contains(identity));
    for identity in &user.identities {
        if stage.get(&*shared.engine, Space::User, identity)?.is_some() {
            return Err(Error::Conflict(vec![user.id]));
        }
    }
    if kept.root_id.0 != user.root {
        stage.remove(Space::User, keys::user_of(kept.root_id.0, user.id));
    }
    give_up(shared, stage, before.into_iter().filter(|identity| !after.contains(identity)))?;
    user.put(stage);
    Ok(true)
}

/// Lets others have identities.
fn give_up(shared: &Shared, stage: &mut Stage, identities: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    for identity in identities {
        if stage.get(&*shared.engine, Space::User, &identity)?.is_some() {
            stage.remove(Space::User, identity);
        }
    }
    Ok(())
}

pub(crate) fn remove_user(
    shared: &Shared,
    stage: &mut Stage,
    gone: UserGone,
    run: Option<NewRun>,
) -> Result<(bool, Option<RunEvents>)> {
    let is_allowed = gone.is_allowed(shared, stage)?;
    let user = gone.user;
    let Some(kept) = kept(shared, stage, &user)?.filter(|_| is_allowed) else { return Ok((false, None)) };
    give_up(shared, stage, identities(&kept).into_iter())?;
    stage.remove(Space::User, keys::user_of(kept.root_id.0, user.id));
    stage.remove(Space::User, user.key());
    let submitted = run.map(|run| runs::submit(shared, stage, &mut Vec::new(), run)).transpose()?;
    Ok((true, submitted.and_then(|(_, events)| events)))
}

/// The user that is stored, when it is that one as it was read.
fn kept(shared: &Shared, stage: &Stage, user: &UserWrite) -> Result<Option<User>> {
    let Some(kept) = stage.get(&*shared.engine, Space::User, &user.key())? else { return Ok(None) };
    let kept: User = codec::decode(&kept)?;
    Ok((kept.id.0 == user.id && kept.version == user.before).then_some(kept))
}
