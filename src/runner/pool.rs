//! Threads for walkers, apart from those that serve.

use std::{sync::Arc, thread};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::{Error, Result};

/// A piece of work; it runs to its end on one thread.
pub(crate) type Job = BoxFuture<'static, ()>;

/// Gives the next job, waiting for one; `None` when there will be no more.
pub(crate) type Source = Arc<dyn Fn() -> BoxFuture<'static, Option<Job>> + Send + Sync>;

/// Threads, each with an executor of its own, that take jobs from one source. A job that hogs its thread delays only what that
/// thread has already begun.
pub(crate) struct Pool {
    threads: Vec<thread::JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads. At most `per_thread_max` jobs are under way on one at once.
    pub(crate) fn start(name: &str, threads: usize, per_thread_max: usize, source: &Source) -> Result<Self> {
        let mut handles = Vec::new();
        for index in 0..threads.max(1) {
            let source = Arc::clone(source);
            let no_thread =
                |source| Error::Io { context: "a walker thread cannot be started".to_owned(), source };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
            let slots = Arc::new(Semaphore::new(per_thread_max.max(1)));
            let handle = thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || runtime.block_on(pull(source, slots, per_thread_max.max(1))))
                .map_err(no_thread)?;
            handles.push(handle);
        }
        Ok(Self { threads: handles })
    }

    /// True when every thread has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.threads.iter().all(thread::JoinHandle::is_finished)
    }
}

async fn pull(source: Source, slots: Arc<Semaphore>, per_thread_max: usize) {
    loop {
        // The semaphore is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let Some(job) = source().await else { break };
        tokio::spawn(async move {
            job.await;
            drop(slot);
        });
    }
    // What is under way is finished before the thread ends.
    drop(slots.acquire_many(u32::try_from(per_thread_max).unwrap_or(u32::MAX)).await);
}
