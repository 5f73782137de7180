//! Trying walkers without a server: a runtime on the memory store, with a clock that the test moves.
//!
//! ```
//! use walkabout::{prelude::*, testing::Bench};
//!
//! #[derive(Walker, Serialize, Deserialize)]
//! struct Greet { name: String }
//!
//! #[abilities]
//! impl Greet {
//!     #[entry] async fn greet(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
//!         cx.report(format!("hello {}", self.name))?;
//!         DONE
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let bench = Bench::new(|types| { types.walker::<Greet>(); }).await;
//! let ran = bench.run(&bench.user(), Greet { name: "Ann".into() }).await;
//! assert_eq!(ran.reports, [json!("hello Ann")]);
//! # });
//! ```

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use walkabout_schema::{NodeId, Status, Timestamp, WalkerId, wire::Record};

use crate::{
    Error, Result, commit,
    config::Config,
    env::Env,
    registry::Registry,
    runner::{Attempt, Book, Origin, Turn, UnderWay},
    runtime::{Caller, Runtime, Spawn, Spawned},
    store::{self, Commit, Store},
    walk::Walk,
    walker::{Context, Failure, Spec, Walker},
};

/// A runtime for one test.
pub struct Bench {
    /// The runtime, for what the bench has no word for.
    pub runtime: Runtime,
    folder: Option<std::path::PathBuf>,
}

/// How a walker ended on a bench.
#[derive(Debug)]
pub struct Ran<W> {
    /// The fields as it left them; for a plain walker as it was given.
    pub walker: Option<W>,
    /// What it reported.
    pub reports: Vec<Value>,
    /// 200, or what it set, or 500.
    pub status: u16,
    /// Why it failed.
    pub error: Option<String>,
    /// The record of an async walker.
    pub record: Option<Record>,
}

#[expect(clippy::expect_used, reason = "a test that cannot set up its bench has to stop")]
impl Bench {
    /// A bench with these types, on an empty memory store, at 2026-01-01T00:00:00Z.
    ///
    /// # Panics
    /// When the types do not fit together.
    pub async fn new(register: impl FnOnce(&mut Registry)) -> Self {
        let start = Timestamp::from_millis(1_767_225_600_000);
        let config = Config { disk_free_min: 0, ..Config::default() };
        Self::build(register, config, Env::manual(start, 1)).await.expect("the bench is set up")
    }

    /// A bench with settings and an environment of its own.
    ///
    /// # Errors
    /// When the types do not fit together.
    pub async fn build(register: impl FnOnce(&mut Registry), config: Config, env: Env) -> Result<Self> {
        let (config, store, registry, folder) = Self::prepare(register, config)?;
        Ok(Self { runtime: Runtime::start(config, env, store, registry).await?, folder: Some(folder) })
    }

    /// As [`Bench::build`], with walkers that are tasks of the present executor in place of threads.
    ///
    /// # Errors
    /// When the types do not fit together.
    pub async fn inline(register: impl FnOnce(&mut Registry), config: Config, env: Env) -> Result<Self> {
        let (config, store, registry, folder) = Self::prepare(register, config)?;
        Ok(Self { runtime: Runtime::start_inline(config, env, store, registry).await?, folder: Some(folder) })
    }

    /// As [`Bench::inline`], on a store that is there already.
    ///
    /// # Errors
    /// When the types do not fit together, or the store refuses.
    pub async fn inline_on(
        store: Arc<dyn Store>,
        register: impl FnOnce(&mut Registry),
        config: Config,
        env: Env,
    ) -> Result<Self> {
        let mut registry = Registry::default();
        register(&mut registry);
        Ok(Self { runtime: Runtime::start_inline(config, env, store, registry).await?, folder: None })
    }

    fn prepare(
        register: impl FnOnce(&mut Registry),
        mut config: Config,
    ) -> Result<(Config, Arc<dyn Store>, Registry, std::path::PathBuf)> {
        let mut registry = Registry::default();
        register(&mut registry);
        let folder = std::env::temp_dir().join(format!("walkabout-bench-{}", Env::system().random_hex(8)));
        config.data.clone_from(&folder);
        let limits = store::Limits {
            events_per_run_max: config.events_per_run_max,
            cache_bytes_max: config.cache_bytes_max,
            disk_free_min: 0,
        };
        let store: Arc<dyn Store> = store::memory::open(limits)?;
        Ok((config, store, registry, folder))
    }

    /// A new user with an empty graph.
    pub async fn register(&self) -> Caller {
        let email = format!("{}@example.com", self.runtime.env().id().simple());
        self.runtime.register(email.clone(), "no password".to_owned()).await.expect("the user is stored");
        let user = self.runtime.user(&email).await.expect("the store answers").expect("the user is stored");
        Caller::user(user.root_id.0)
    }

    /// The caller of everything that needs no user of its own: the system root.
    pub fn user(&self) -> Caller {
        Caller::user(walkabout_schema::SYSTEM_ROOT)
    }

    /// Moves the clock.
    pub fn advance(&self, span: Duration) {
        self.runtime.env().advance(span);
    }

    /// Changes or reads the graph as a caller, in one commit.
    ///
    /// # Errors
    /// What the closure or the commit fails with.
    pub async fn graph<T>(
        &self,
        caller: &Caller,
        work: impl for<'a> FnOnce(&'a mut Context) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let engine = self.runtime.engine();
        let origin = Origin {
            actor: caller.root,
            admin: caller.admin,
            client_id: None,
            serial: engine.env.id(),
            uploads: Arc::default(),
            answer: None,
        };
        let under_way = Arc::new(UnderWay::new(&Spec::new(), None, 0, None, Arc::default()));
        let attempt = Arc::new(Attempt::new(engine, origin, under_way, Book::default()));
        let mut cx =
            Context { attempt: Arc::clone(&attempt), walk: Walk::default(), turn: Turn::default(), depth: 0 };
        let value = work(&mut cx).await?;
        let (changes, guards) = commit::gather(&attempt.graph, &engine.config)?;
        let commit = Commit { run: None, changes, guards };
        engine.store.commit(engine.env.now(), commit).await.map_err(Failure::of_store)?;
        Ok(value)
    }

    /// Runs a walker on the caller's root to its end.
    pub async fn run<W: Walker>(&self, caller: &Caller, walker: W) -> Ran<W> {
        self.run_at(caller, None, walker).await
    }

    /// Runs a walker on a node to its end. Excluded fields begin with their defaults, as they do for a caller.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn run_at<W: Walker>(&self, caller: &Caller, node: Option<NodeId>, walker: W) -> Ran<W> {
        let fields: Map<String, Value> = match serde_json::to_value(&walker) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let spawn = Spawn {
            walker: W::NAME.to_owned(),
            node,
            caller: caller.clone(),
            fields,
            files: Vec::new(),
            client_id: None,
            request_key: None,
        };
        match self.runtime.spawn(spawn).await {
            Ok(Spawned::Done { status, reports, .. }) => {
                Ran { walker: Some(walker), reports, status, error: None, record: None }
            }
            Ok(Spawned::Accepted { id, .. }) => {
                let record = self.finished(caller, &id).await;
                Ran {
                    walker: serde_json::from_value(Value::Object(record.context.clone())).ok(),
                    reports: record.schedule.reports.clone(),
                    status: record.schedule.http_status.unwrap_or_default(),
                    error: record.schedule.error.clone(),
                    record: Some(record),
                }
            }
            Err(error) => {
                let status = if matches!(error, Error::Walker { .. }) { 500 } else { 400 };
                Ran {
                    walker: None,
                    reports: Vec::new(),
                    status,
                    error: Some(error.to_string()),
                    record: None,
                }
            }
        }
    }

    /// Waits until a run has ended, and gives its record.
    ///
    /// # Panics
    /// When there is no such run, or the store fails.
    pub async fn finished(&self, caller: &Caller, id: &WalkerId) -> Record {
        let mut frames =
            self.runtime.follow(caller, id).await.expect("the store answers").expect("the run may be read");
        loop {
            let record =
                self.runtime.record(caller, id).await.expect("the store answers").expect("the run exists");
            if matches!(record.schedule.status, Status::Completed | Status::Failed) {
                return record;
            }
            // An error is a lag, or the end: the record tells.
            drop(frames.recv().await);
        }
    }

    /// How many elements of a node type hang directly from a caller's root.
    pub async fn count<N: crate::walker::Node>(&self, caller: &Caller) -> usize {
        let counted = self
            .graph(caller, |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    cx.count(root.out().node::<N>()).await
                })
            })
            .await;
        counted.expect("the graph can be read")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            // Walkers that write no files never made it.
            drop(std::fs::remove_dir_all(folder));
        }
    }
}
