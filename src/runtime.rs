//! The runtime: what the outside can ask of it. Everything that `http` does goes through here.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;
use walkabout_schema::{
    Access, ErrorCode, Kind, Level, Name, NodeId, PUBLIC_ROOT, Reply, SYSTEM_ROOT, State, Timestamp, Walker,
    WalkerId,
    wire::{EventPage, Record, RecordPage},
};

use crate::{
    Error, Result,
    config::Config,
    env::Env,
    files::{self, Content, Folder, Opened, Received, Spool},
    publish::{Frame, Runs, Sockets},
    registry::Registry,
    runner::{
        Bounds, Contention, DueQueue, End, Ended, Engine, Ground, Job, Label, Pool, Source, Supervisor,
        Taken, Timekeeper, UnderWay, Unended, sentence,
    },
    store::{
        self, Change, Claimed, Commit, Due, Element, LOOK_AGAIN, RunEvents, Stirred, Store, Submission,
        Submitted, no_fields,
    },
    submit::{self, Checked},
    users::ForgetUser,
    walker::{Body, DecodedCell, Response, Spec, fail},
};
#[cfg(feature = "http")]
use crate::{FieldError, route::Route, walker::Arrived};

/// A suspect that has run for this long without taking the process down makes room for the next.
const SUSPICION: Duration = Duration::from_secs(5);

pub use crate::store::{Act, RunFilter};

/// How many of the runs that a stop waits for are named in the log.
const TOLD: usize = 20;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The root that the caller acts as.
    pub root: Uuid,
    /// May read everybody's runs.
    pub admin: bool,
    /// What the caller is kept to; none for who may do all that the root may.
    pub scope: Option<Arc<Scope>>,
}

/// What a webhook key is for. An empty list leaves all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Its own id: callers of one root with scopes of two ids name their requests apart.
    pub id: Uuid,
    /// The walkers that may be called, by names or aliases.
    pub walkers: Vec<String>,
    /// The types of the nodes that may be entered at, by the names that their ids have; `root` is a root.
    pub nodes: Vec<String>,
}

impl Caller {
    /// A caller without a token.
    pub fn public() -> Self {
        Self::user(PUBLIC_ROOT)
    }
    /// A user.
    pub fn user(root: Uuid) -> Self {
        Self { root, admin: false, scope: None }
    }
    /// True for a caller without a token.
    pub fn is_public(&self) -> bool {
        self.root == PUBLIC_ROOT
    }
}

/// One request to run a walker.
#[derive(Debug)]
pub struct Spawn {
    /// The walker's name.
    pub walker: String,
    /// The node to begin at; none for the caller's root.
    pub node: Option<NodeId>,
    /// On whose behalf.
    pub caller: Caller,
    /// The fields, by their wire names.
    pub fields: Map<String, Value>,
    /// The files that came along.
    pub files: Vec<Received>,
    /// The WebSocket that asks, for `notify_self`.
    pub client_id: Option<String>,
    /// The caller's own name for the request, at most [`REQUEST_KEY_MAX`] bytes. The same request under the same name is not run again
    /// while the name is kept: it is answered like the first.
    pub request_key: Option<String>,
}

/// Bytes of a caller's own name for a request.
pub const REQUEST_KEY_MAX: usize = 255;

/// What became of a [`Spawn`].
#[derive(Debug)]
pub enum Spawned {
    /// A plain walker ended.
    Done {
        /// 200, or what the walker set.
        status: u16,
        /// What it reported.
        reports: Vec<Value>,
        /// What it gave in the place of its reports.
        response: Option<Response>,
        /// True when this is what came of an earlier request of the same name.
        repeated: bool,
    },
    /// An async walker is stored and will run.
    Accepted {
        /// Its id.
        id: WalkerId,
        /// What allows to cancel, pause, answer and retry it, when nobody owns it.
        run_token: Option<String>,
        /// True when this is what came of an earlier request of the same name.
        repeated: bool,
    },
}

/// The running engine. A cheap handle.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    due: Arc<DueQueue>,
    stopping: watch::Sender<bool>,
    /// Makes the tokens of runs that nobody owns.
    token_key: [u8; 32],
    pools: Pools,
}

/// Where walkers run. In the order in which they go.
struct Pools {
    plain: Pool,
    asynchronous: Pool,
    _supervisor: Option<Supervisor>,
    _ground: Option<Ground>,
}

impl Pools {
    fn start(config: &Config, env: &Env) -> Result<Self> {
        let ground = Ground::start()?;
        let plain = Pool::start("plain", bounds(config, config.sync_threads), &ground, env)?;
        let asynchronous = Pool::start("async", bounds(config, config.async_threads), &ground, env)?;
        let crews = [&plain, &asynchronous].into_iter().filter_map(Pool::crew).map(Arc::clone).collect();
        let supervisor = Some(Supervisor::start(crews, config.hog_after)?);
        Ok(Self { plain, asynchronous, _supervisor: supervisor, _ground: Some(ground) })
    }

    /// Without threads: walkers are tasks of the present executor.
    fn inline(config: &Config) -> Self {
        Self {
            plain: Pool::inline(bounds(config, config.sync_threads)),
            asynchronous: Pool::inline(bounds(config, config.async_threads)),
            _supervisor: None,
            _ground: None,
        }
    }

    fn all(&self) -> [&Pool; 2] {
        [&self.plain, &self.asynchronous]
    }
}

fn bounds(config: &Config, threads: usize) -> Bounds {
    Bounds {
        threads,
        per_thread_max: config.attempts_per_thread_max,
        waiting_max: config.sync_queue_max,
        hog_after: config.hog_after,
        hogged_max: config.hogged_threads_max,
    }
}

impl Runtime {
    /// Starts the pools and takes up what the store has open.
    ///
    /// # Errors
    /// When the store or the operating system refuses.
    pub(crate) async fn start(
        config: Config,
        env: Env,
        store: Arc<dyn Store>,
        registry: Registry,
    ) -> Result<Self> {
        let pools = Pools::start(&config, &env)?;
        Self::begin(config, env, store, registry, pools).await
    }

    /// As [`Runtime::start`], without threads: walkers are tasks of the executor that this is awaited in.
    ///
    /// # Errors
    /// When the store refuses.
    pub(crate) async fn start_inline(
        config: Config,
        env: Env,
        store: Arc<dyn Store>,
        registry: Registry,
    ) -> Result<Self> {
        let pools = Pools::inline(&config);
        Self::begin(config, env, store, registry, pools).await
    }

    async fn begin(
        config: Config,
        env: Env,
        store: Arc<dyn Store>,
        mut registry: Registry,
        pools: Pools,
    ) -> Result<Self> {
        config.check()?;
        registry.walker::<ForgetUser>();
        registry.settle(&config)?;
        registry.check()?;
        let runs = Runs::new(config.subscriber_lag_max);
        let published = runs.clone();
        store.publish_to(Arc::new(move |events| published.publish(events)));
        ensure_roots(&env, &store).await?;
        let token_key = token_key(&env, &store).await?;
        let engine = Arc::new(Engine {
            sockets: Sockets::new(config.socket_queue_max, config.sockets_max),
            files: store.files().unwrap_or_else(|| Folder::open(&config.data)),
            #[cfg(feature = "mail")]
            mail: crate::mail::Mailer::open(&config, &env)?,
            contention: Contention::default(),
            keeper: Timekeeper::default(),
            runs,
            registry,
            env,
            store: Arc::clone(&store),
            config,
        });
        hear_others(&engine);
        let config = &engine.config;
        let (stopping, _) = watch::channel(false);
        let due = Arc::new(DueQueue::new(store, config.due_window, config.lost_max));
        take_from_others(&engine, &due, &stopping);
        keep_time(&engine, &due, &stopping);
        pools.asynchronous.pull(claim_source(&engine, &due, &stopping));
        Ok(Self { inner: Arc::new(Inner { engine, due, stopping, token_key, pools }) })
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.inner.engine
    }

    pub(crate) fn queue(&self) -> &DueQueue {
        &self.inner.due
    }

    pub(crate) fn token_key(&self) -> &[u8; 32] {
        &self.inner.token_key
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.inner.engine.config
    }

    /// Clock, chance and ids.
    pub fn env(&self) -> &Env {
        &self.inner.engine.env
    }

    /// The open WebSockets.
    pub fn sockets(&self) -> &Sockets {
        &self.inner.engine.sockets
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.inner.engine.env.now()
    }

    /// How a walker is called; none for an unknown one.
    pub fn spec(&self, walker: &str) -> Option<&Spec> {
        self.inner.engine.registry.get(walker).map(|kind| &kind.spec)
    }

    /// Names and specs, by name.
    pub fn specs(&self) -> Vec<(Name, &Spec)> {
        self.inner.engine.registry.walkers().map(|kind| (kind.name.clone(), &kind.spec)).collect()
    }

    /// What was registered.
    #[cfg(feature = "http")]
    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.engine.registry
    }

    /// What of the fields does not fit a walker.
    #[cfg(feature = "http")]
    pub(crate) fn unfit(
        &self,
        walker: &str,
        mut fields: Map<String, Value>,
        files: Vec<Received>,
    ) -> Vec<FieldError> {
        let Some(kind) = self.inner.engine.registry.get(walker) else { return Vec::new() };
        Arrived::of(&kind.spec, files).fill(&kind.spec, &mut fields, None);
        kind.build(fields).err().unwrap_or_default()
    }

    /// Where what comes in by pieces goes.
    #[cfg(feature = "http")]
    pub(crate) fn spools(&self) -> files::Spools {
        self.inner.engine.files.spools()
    }

    /// Where walkers are called over HTTP.
    #[cfg(feature = "http")]
    pub(crate) fn routes(&self) -> Vec<Route> {
        // They were found good when the runtime was started.
        self.inner.engine.registry.routes().flatten().flatten().collect()
    }

    /// Runs a plain walker, or stores an async one. Checked in this order: the walker, its fields, the entry node, what the
    /// caller is kept to, access to the node.
    ///
    /// # Errors
    /// [`Error::UnknownWalker`], [`Error::Invalid`], [`Error::EntryNotFound`], [`Error::OutOfScope`], [`Error::EntryForbidden`],
    /// [`Error::Busy`], [`Error::KeyReused`];
    /// [`Error::Walker`] when a plain walker failed; [`Error::Store`] when the run could not be stored.
    ///
    /// # Cancel safety
    /// A walker that was begun runs to its end. A dropped submission may or may not have been stored.
    pub async fn spawn(&self, spawn: Spawn) -> Result<Spawned> {
        let engine = &self.inner.engine;
        if *self.inner.stopping.borrow() {
            return Err(Error::Busy("the server is stopping".to_owned()));
        }
        let request_id = spawn.request_key.clone();
        let Checked { errand, begun, key, files } = submit::check(engine, spawn).await?;
        if errand.kind.spec.asynchronous || key.is_some() {
            let is_async = errand.kind.spec.asynchronous;
            let mut walker = submit::record(engine, &errand, begun.fields);
            walker.run.request_id = request_id;
            let due = Due { id: walker.id.0, root: errand.actor, lost: 0, at: Timestamp::default() };
            let (id, repeated) = self.submit(Submission { walker, key }, due, files).await?;
            if !is_async {
                return self.ended(&id, repeated).await;
            }
            // Given once: who repeats a request under a name that others may guess does not get it.
            let run_token = (errand.actor == PUBLIC_ROOT && !repeated).then(|| self.run_token(&id));
            return Ok(Spawned::Accepted { id, run_token, repeated });
        }
        let (send, receive) = tokio::sync::oneshot::channel();
        errand.under_way.door.answer_to(send);
        let for_job = Arc::clone(engine);
        let name = errand.kind.name.clone();
        let label = Label::Plain(name.clone());
        let job: Job = Box::pin(async move {
            let under_way = Arc::clone(&errand.under_way);
            let entry = under_way.is_timed().then(|| for_job.keeper.enter(None));
            if let Some(entry) = &entry {
                entry.begin(&under_way, for_job.env.now());
            }
            let ended = for_job.run_errand(&errand, begun).await;
            // Its files are gone when its caller hears of the end.
            drop(errand);
            under_way.door.answer(ended.map_err(|unended| match unended {
                Unended::Failed { failure, .. } => failure,
                // It has no record to be let go with.
                Unended::Released(_) => fail("the walker was interrupted"),
            }));
        });
        if !self.inner.pools.plain.spawn(label, job) {
            return Err(Error::Busy("too many walkers wait for a thread".to_owned()));
        }
        match receive.await {
            Ok(Ok(ended)) => {
                let Ended { status, reports, response } = ended;
                Ok(Spawned::Done { status, reports, response, repeated: false })
            }
            Ok(Err(failure)) => {
                tracing::warn!(walker = %name, error = ?failure, "a plain walker failed");
                let message = sentence(&failure, &name);
                Err(match failure.store {
                    // No fault of the walker: the caller hears what can be done about it.
                    Some(
                        store @ (store::Error::Full(_)
                        | store::Error::OutcomeUnknown(_)
                        | store::Error::Unavailable(_)
                        | store::Error::Closed),
                    ) => Error::Store(store),
                    _ => Error::Walker { code: failure.code, message, run: None },
                })
            }
            Err(_) => Err(Error::Busy("the server is stopping".to_owned())),
        }
    }

    /// Does a part of a traverse where plain walkers run, and gives what came of it.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let (send, receive) = tokio::sync::oneshot::channel();
        // Who asked may be gone by then.
        let job: Job = Box::pin(async move { drop(send.send(work.await)) });
        if !self.inner.pools.plain.spawn(Label::Traverse, job) {
            return Err(Error::Busy("too many walkers wait for a thread".to_owned()));
        }
        receive.await.map_err(|_| Error::Busy("the server is stopping".to_owned()))
    }

    /// Stores a run, and queues it. Gives the run that the request led to, and whether that is an earlier one.
    pub(crate) async fn submit(
        &self,
        submission: Submission,
        due: Due,
        files: Vec<(String, Spool)>,
    ) -> Result<(WalkerId, bool)> {
        let (id, now) = (submission.walker.walker_id(), submission.walker.run.created_at);
        // A task of its own: when the caller goes away meanwhile, what is stored is still queued.
        let (engine, queue) = (Arc::clone(&self.inner.engine), Arc::clone(&self.inner.due));
        let submitted = tokio::spawn(async move {
            let names: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
            let stored = match keep(&engine, due.id, files).await {
                Ok(()) => engine.store.submit(submission).await.map_err(Error::from),
                Err(error) => Err(error),
            };
            match &stored {
                Ok(Submitted::New) => queue.push(&due, now),
                // It may be there all the same.
                Err(Error::Store(store::Error::OutcomeUnknown(_) | store::Error::Closed)) => {}
                Ok(Submitted::Known(_) | Submitted::Reused) | Err(_) => remove(&engine, due.id, names).await,
            }
            stored
        });
        match submitted.await.map_err(|_| Error::Busy("the server is stopping".to_owned()))?? {
            Submitted::New => Ok((id, false)),
            // The name of the walker is part of what the key stands for.
            Submitted::Known(known) => Ok((WalkerId::new(id.name().clone(), known), true)),
            Submitted::Reused => Err(Error::KeyReused),
        }
    }

    /// Waits for the end of a run, and holds nothing of it.
    #[cfg(feature = "http")]
    pub(crate) async fn over(&self, id: &WalkerId) -> Result<()> {
        // What is read here is let go: who wants it reads it again.
        self.ended(id, false).await.map(drop).or_else(|error| match error {
            Error::Walker { .. } => Ok(()),
            other => Err(other),
        })
    }

    /// Waits for the end of a run.
    pub(crate) async fn ended(&self, id: &WalkerId, repeated: bool) -> Result<Spawned> {
        let engine = &self.inner.engine;
        let mut stopping = self.inner.stopping.subscribe();
        loop {
            let mut frames = engine.runs.follow(id.uuid());
            let gone = || Error::Store(store::Error::Damaged(format!("the record of {id} is gone")));
            let Walker { schedule, run, .. } = engine.store.run(id.uuid()).await?.ok_or_else(gone)?;
            if run.state == State::Succeeded {
                let (status, reports) = (schedule.http_status.unwrap_or(200), schedule.reports);
                let response = self.response(id, run.response, run.result).await?;
                return Ok(Spawned::Done { status, reports, response, repeated });
            }
            if run.state.is_final() {
                let code = run.error_code.unwrap_or(ErrorCode::WalkerFailed);
                let message = schedule.error.unwrap_or_default();
                return Err(Error::Walker { code, message, run: Some(id.clone()) });
            }
            // An error is a lag, or the end: the record tells.
            let last = async { while frames.recv().await.is_ok_and(|frame| !frame.last) {} };
            tokio::select! {
                () = last => {}
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Err(Error::Busy("the server is stopping".to_owned()));
                }
            }
        }
    }

    /// What a run gave in the place of its reports.
    async fn response(&self, id: &WalkerId, reply: Option<Reply>, result: Value) -> Result<Option<Response>> {
        let Some(reply) = reply else { return Ok(None) };
        let body = match &reply.file {
            None => Body::Json(result),
            Some(name) => {
                let opened = self.inner.engine.files.open(id.uuid(), name.clone()).await?;
                let gone = || Error::Store(store::Error::Damaged(format!("the file {name} of {id} is gone")));
                Body::Kept(opened.ok_or_else(gone)?)
            }
        };
        Ok(Some(Response::again(reply, body)))
    }

    /// The record of a run; none when it is unknown or the caller may not read it.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn record(&self, caller: &Caller, id: &WalkerId) -> Result<Option<Record>> {
        let actor = if caller.admin { walkabout_schema::SYSTEM_ROOT } else { caller.root };
        Ok(self.inner.engine.record(actor, id).await?)
    }

    /// The caller's runs, newest first, those older than `before`.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn records(
        &self,
        caller: &Caller,
        filter: RunFilter,
        before: Option<WalkerId>,
        limit: usize,
    ) -> Result<RecordPage> {
        let before = before.map(|id| id.uuid());
        Ok(self.inner.engine.records(caller.root, filter, before, limit).await?)
    }

    /// A run that the caller may read.
    pub(crate) async fn readable(&self, caller: &Caller, id: &WalkerId) -> Result<Option<Walker>> {
        let engine = &self.inner.engine;
        let actor = if caller.admin { walkabout_schema::SYSTEM_ROOT } else { caller.root };
        match engine.store.run(id.uuid()).await? {
            Some(walker) if engine.may_read(actor, &walker).await? => Ok(Some(walker)),
            _ => Ok(None),
        }
    }

    /// Events above `after`, at most `limit`; none when the run is unknown or the caller may not read it.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn events(
        &self,
        caller: &Caller,
        id: &WalkerId,
        after: u64,
        limit: usize,
    ) -> Result<Option<EventPage>> {
        if self.readable(caller, id).await?.is_none() {
            return Ok(None);
        }
        let kept = self.inner.engine.store.events(id.uuid(), after, limit).await?;
        let next = kept.events.last().map(|event| event.seq).filter(|seq| *seq < kept.last);
        Ok(Some(EventPage { events: kept.events, first: kept.first, next }))
    }

    /// Live events of a run; none when it is unknown or the caller may not read it.
    /// Follow first, then read [`Runtime::events`], then skip live frames whose number was read.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn follow(&self, caller: &Caller, id: &WalkerId) -> Result<Option<broadcast::Receiver<Frame>>> {
        if self.readable(caller, id).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.inner.engine.runs.follow(id.uuid())))
    }

    /// A run's file; none when it is unknown or the caller may not read the run.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn file(&self, caller: &Caller, id: &WalkerId, name: &str) -> Result<Option<Opened>> {
        if !files::is_name(name) || self.readable(caller, id).await?.is_none() {
            return Ok(None);
        }
        self.inner.engine.files.open(id.uuid(), name.to_owned()).await
    }

    /// A secret of the store, made at its first use. True when it was made now.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn secret(&self, name: &str, bytes: usize) -> Result<(Vec<u8>, bool)> {
        let mut fresh = vec![0; bytes];
        self.inner.engine.env.random(&mut fresh);
        let kept = self.inner.engine.store.keep(name, fresh.clone()).await?;
        let is_new = kept == fresh;
        Ok((kept, is_new))
    }

    /// Why the runtime takes no work now.
    ///
    /// # Errors
    /// The reason.
    pub fn health(&self) -> Result<()> {
        if *self.inner.stopping.borrow() {
            return Err(Error::Busy("the server is stopping".to_owned()));
        }
        let crews = self.inner.pools.all().into_iter().filter_map(Pool::crew);
        if let Some(crew) = crews.into_iter().find(|crew| crew.is_exhausted()) {
            return Err(Error::Hogged(crew.hogged()));
        }
        Ok(self.inner.engine.store.health()?)
    }

    /// How many threads are held now by walkers that have not awaited anything for `hog_after`.
    pub fn hogged(&self) -> usize {
        self.inner.pools.all().into_iter().filter_map(Pool::crew).map(|crew| crew.hogged()).sum()
    }

    /// How many due runs wait in memory.
    pub fn due(&self) -> usize {
        self.inner.due.len()
    }

    /// Takes no more work from now on, and asks attempts to stop at their next checkpoint. [`Runtime::stop`] follows.
    pub fn drain(&self) {
        if self.inner.stopping.send_replace(true) {
            return;
        }
        self.inner.pools.plain.close();
        let engine = &self.inner.engine;
        let grace = engine.config.stop_grace;
        let told = engine.keeper.stop(engine.env.now().plus(grace));
        if !told.is_empty() {
            let some: Vec<String> = told.iter().take(TOLD).map(ToString::to_string).collect();
            tracing::warn!(runs = told.len(), first = some.join(" "), ?grace, "waiting for checkpoints");
        }
    }

    /// Takes no more work, gives attempts `stop_grace` to end or to reach a checkpoint, and closes the store. What did neither is handed
    /// back: it goes on from its last checkpoint at the next start, and spends no attempt.
    ///
    /// # Errors
    /// When the store cannot be closed.
    pub async fn stop(&self) -> Result<()> {
        self.drain();
        let engine = &self.inner.engine;
        let grace = engine.config.stop_grace;
        let ended = async {
            while !self.inner.pools.all().into_iter().all(Pool::is_finished) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        drop(tokio::time::timeout(grace, ended).await);
        let left = engine.keeper.under_way();
        if left > 0 {
            tracing::warn!(
                runs = left,
                "handed back: they go on from their last checkpoints at the next start"
            );
        }
        Ok(self.inner.engine.store.close().await?)
    }
}

/// Keeps the files that came with a run.
async fn keep(engine: &Engine, run: Uuid, files: Vec<(String, Spool)>) -> Result<()> {
    for (name, spool) in files {
        engine.files.save(run, name, Content::Spool(spool)).await.map_err(|failure| match failure.store {
            Some(store) => Error::Store(store),
            None => {
                let source = std::io::Error::other(format!("{failure:?}"));
                Error::Io { context: "keeping a file that was sent".to_owned(), source }
            }
        })?;
    }
    Ok(())
}

/// Removes the files of a run that there is not after all.
async fn remove(engine: &Engine, run: Uuid, names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    if let Err(error) = engine.files.remove(run, names).await {
        tracing::warn!(%run, %error, "files of a run that was not accepted stay");
    }
}

/// Gives due runs to the async pool: each is claimed by its job.
fn claim_source(engine: &Arc<Engine>, due: &Arc<DueQueue>, stopping: &watch::Sender<bool>) -> Source {
    let (engine, due, stopping) = (Arc::clone(engine), Arc::clone(due), stopping.subscribe());
    Arc::new(move || {
        let (engine, due, mut stopping) = (Arc::clone(&engine), Arc::clone(&due), stopping.clone());
        Box::pin(async move {
            let next = async {
                engine.room().await;
                due.pop().await
            };
            let run = tokio::select! {
                biased;
                // An error means that the runtime is gone.
                _ = stopping.wait_for(|stopping| *stopping) => return None,
                run = next => run,
            };
            let (queue, id) = (Arc::clone(&due), run.due.id);
            let job: Job = Box::pin(async move {
                let again = take_up(&engine, run).await;
                queue.ended(id, &again, engine.env.now());
            });
            Some((Label::Run(id), job))
        })
    })
}

/// Claims a due run and runs it. Gives when it is due again.
async fn take_up(engine: &Arc<Engine>, Taken { due, alone }: Taken) -> Vec<Due> {
    let entry = engine.keeper.enter(Some(due.id));
    match engine.store.claim(due.id, engine.env.now()).await {
        Ok(Claimed::Taken(claim)) => {
            let mut running = std::pin::pin!(engine.run_claimed(*claim, &entry));
            if alone.is_some() {
                tokio::select! {
                    biased;
                    again = &mut running => return again,
                    () = tokio::time::sleep(SUSPICION) => drop(alone),
                }
            }
            running.await
        }
        Ok(Claimed::Early(due)) => vec![due],
        Ok(Claimed::Nothing) => Vec::new(),
        Err(error) => {
            tracing::error!(run = %due.id, %error, "a due run cannot be claimed");
            if engine.is_lost_on(&error) {
                return Vec::new();
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            // As it was, or queued when it was claimed by then.
            vec![Due { at: Timestamp::default(), ..due.clone() }, due]
        }
    }
}

/// Passes on what other processes tell of runs: to who follows them here, and to attempts that are under way here.
fn hear_others(engine: &Arc<Engine>) {
    // The store belongs to the engine, not the other way round.
    let engine_here = Arc::downgrade(engine);
    let sink = move |events: &RunEvents| {
        let Some(engine) = engine_here.upgrade() else { return };
        engine.runs.publish(events);
        for event in &events.events {
            engine.wish(events.id, event);
        }
    };
    engine.store.hear(Arc::new(sink));
}

/// Looks for what other processes left to do, until the runtime stops.
fn take_from_others(engine: &Arc<Engine>, due: &Arc<DueQueue>, stopping: &watch::Sender<bool>) {
    let (engine, queue, mut stopped) = (Arc::clone(engine), Arc::clone(due), stopping.subscribe());
    tokio::spawn(async move {
        let take = async {
            loop {
                match engine.store.stirred().await {
                    Stirred::Due => queue.look_again(),
                    Stirred::Left => queue.look_at_all(),
                    Stirred::Missed => {
                        engine.runs.unsettle();
                        engine.look_for_wishes().await;
                    }
                }
            }
        };
        tokio::select! {
            () = take => {}
            // An error means that the runtime is gone.
            _ = stopped.wait_for(|stopping| *stopping) => {}
        }
    });
}

/// Lets sleepers in when their time has come, and ends attempts whose time is over, until the runtime stops.
fn keep_time(engine: &Arc<Engine>, due: &Arc<DueQueue>, stopping: &watch::Sender<bool>) {
    let (for_sleepers, queue, mut stopped) = (Arc::clone(engine), Arc::clone(due), stopping.subscribe());
    tokio::spawn(async move {
        let wake = async {
            loop {
                queue.wake(&for_sleepers.env).await;
            }
        };
        tokio::select! {
            () = wake => {}
            // An error means that the runtime is gone.
            _ = stopped.wait_for(|stopping| *stopping) => {}
        }
    });
    let (engine, queue, mut gone) = (Arc::clone(engine), Arc::clone(due), stopping.subscribe());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = engine.keeper.wait(&engine.env) => {}
                // Attempts are watched until the end, also while the runtime stops.
                () = async { while gone.changed().await.is_ok() {} } => break,
            }
            for (under_way, end) in engine.keeper.look(engine.env.now()) {
                // Each by itself: while the store is away, the time of the others goes on.
                let ended = end_alone(Arc::clone(&engine), Arc::clone(&queue), under_way, end);
                let mut gone = gone.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = ended => {}
                        () = async { while gone.changed().await.is_ok() {} } => {}
                    }
                });
            }
        }
    });
}

/// Ends an attempt without it, as soon as its run can be read.
async fn end_alone(engine: Arc<Engine>, queue: Arc<DueQueue>, under_way: Arc<UnderWay>, end: End) {
    loop {
        match engine.end_without(&under_way, end).await {
            Ok(again) => {
                if let Some(run) = &under_way.run {
                    queue.ended(run.id.uuid(), &again, engine.env.now());
                }
                return;
            }
            Err(error) if engine.is_lost_on(&error) => return,
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

pub(crate) fn root_element(id: Uuid, access: Access) -> Element {
    Element {
        kind: Kind::Node,
        id,
        name: Name::empty(),
        owner: None,
        access,
        version: 1,
        ends: None,
        fields: no_fields(),
        decoded: DecodedCell::default(),
    }
}

async fn token_key(env: &Env, store: &Arc<dyn Store>) -> Result<[u8; 32]> {
    let mut fresh = [0; 32];
    env.random(&mut fresh);
    let kept = store.keep("run-token", fresh.to_vec()).await?;
    let damaged = |_| store::Error::Damaged("the secret of run tokens".to_owned());
    Ok(kept.as_slice().try_into().map_err(damaged)?)
}

/// The two well-known roots are there from the first start on.
async fn ensure_roots(env: &Env, store: &Arc<dyn Store>) -> Result<()> {
    let wanted = [(SYSTEM_ROOT, Access::private()), (PUBLIC_ROOT, Access::everybody(Level::Write))];
    let known = store.snapshot().await?.elements(Kind::Node, &[SYSTEM_ROOT, PUBLIC_ROOT]).await?;
    for ((id, access), known) in wanted.into_iter().zip(known) {
        if known.is_none() {
            let change = Change::Put { element: Arc::new(root_element(id, access)), expected: None };
            store.commit(env.now(), Commit { changes: vec![change], ..Commit::default() }).await?;
        }
    }
    Ok(())
}
