//! Threads for walkers, apart from those that serve.
//!
//! The jobs of a pool wait in one queue, from which each of its threads takes the next that can go on. So a job that holds its thread
//! for long delays no other: its thread is marked, and another takes its place until it ends. [`Supervisor`](super::Supervisor) sees
//! to that.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use futures_util::future::BoxFuture;
use slab::Slab;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{
    ready::Ready,
    seat::{Label, Seat},
};
use crate::{Error, Result, env::Env};

/// A piece of work. Any thread of its pool may take it further.
pub(crate) type Job = BoxFuture<'static, ()>;

/// Gives the next job, waiting for one; `None` when there will be no more.
pub(crate) type Source = Arc<dyn Fn() -> BoxFuture<'static, Option<(Label, Job)>> + Send + Sync>;

/// How much a pool does at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Threads that are not hogged.
    pub(crate) threads: usize,
    /// Jobs under way, for each of these threads.
    pub(crate) per_thread_max: usize,
    /// Jobs given by [`Pool::spawn`] that wait for others to end.
    pub(crate) waiting_max: usize,
    /// A poll that takes longer is a hog.
    pub(crate) hog_after: Duration,
    /// Hogged threads that are replaced.
    pub(crate) hogged_max: usize,
}

/// What the jobs of all pools wait on: timers and sockets, apart from those of the server. What a job gives to `tokio::spawn` runs
/// here too, and nobody watches for how long.
pub(crate) struct Ground {
    runtime: Option<tokio::runtime::Runtime>,
}

/// One of these may be held by what a walker gave to `tokio::spawn`: the other still wakes the sleepers.
const GROUND_THREADS: usize = 2;

impl Ground {
    pub(crate) fn start() -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(GROUND_THREADS).thread_name("ground").enable_all();
        Ok(Self { runtime: Some(builder.build().map_err(no_thread)?) })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Without waiting: this may be dropped where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) fn no_thread(source: std::io::Error) -> Error {
    Error::Io { context: "a thread for walkers cannot be started".to_owned(), source }
}

/// Where jobs run. When it is dropped, those under way are dropped too, at their next await.
pub(crate) struct Pool {
    place: Place,
    /// Jobs that were given and have not ended.
    room: Arc<Semaphore>,
    /// Jobs that have begun.
    slots: Arc<Semaphore>,
}

#[derive(Clone)]
enum Place {
    Threads(Arc<Crew>),
    Inline(Arc<Mutex<JoinSet<()>>>),
}

impl Pool {
    /// A pool with threads of its own.
    pub(crate) fn start(name: &'static str, bounds: Bounds, ground: &Ground, env: &Env) -> Result<Self> {
        let Some(runtime) = &ground.runtime else {
            return Err(no_thread(std::io::ErrorKind::NotConnected.into()));
        };
        let crew = Arc::new(Crew::new(name, bounds, runtime.handle().clone(), env.clone()));
        crew.fill()?;
        Ok(Self::at(Place::Threads(crew), bounds))
    }

    /// A pool without threads: its jobs are tasks of the executor that it is made in.
    pub(crate) fn inline(bounds: Bounds) -> Self {
        Self::at(Place::Inline(Arc::default()), bounds)
    }

    fn at(place: Place, bounds: Bounds) -> Self {
        let slots = bounds.threads.max(1).saturating_mul(bounds.per_thread_max.max(1));
        let slots = slots.min(Semaphore::MAX_PERMITS / 2);
        let room = slots + bounds.waiting_max.min(Semaphore::MAX_PERMITS / 2);
        Self { place, room: Arc::new(Semaphore::new(room)), slots: Arc::new(Semaphore::new(slots)) }
    }

    /// Takes a job, when there is room for it. True when it was taken.
    pub(crate) fn spawn(&self, label: Label, job: Job) -> bool {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return false };
        let slots = Arc::clone(&self.slots);
        self.place.start(label, async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            job.await;
            drop(room);
        });
        true
    }

    /// Takes jobs from a source until it has no more.
    pub(crate) fn pull(&self, source: Source) {
        let (place, slots) = (self.place.clone(), Arc::clone(&self.slots));
        self.place.start(Label::Queue, async move {
            while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
                let Some((label, job)) = source().await else { break };
                place.start(label, with_slot(job, slot));
            }
        });
    }

    /// Takes no more jobs.
    pub(crate) fn close(&self) {
        self.room.close();
    }

    /// True when nothing is under way but hogs.
    pub(crate) fn is_finished(&self) -> bool {
        match &self.place {
            Place::Threads(crew) => crew.under_way().len() <= crew.hogged(),
            Place::Inline(tasks) => {
                let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
                while tasks.try_join_next().is_some() {}
                tasks.is_empty()
            }
        }
    }

    /// The threads, when it has some.
    pub(crate) fn crew(&self) -> Option<&Arc<Crew>> {
        match &self.place {
            Place::Threads(crew) => Some(crew),
            Place::Inline(_) => None,
        }
    }
}

async fn with_slot(job: Job, slot: OwnedSemaphorePermit) {
    job.await;
    drop(slot);
}

impl Drop for Pool {
    fn drop(&mut self) {
        match &self.place {
            Place::Threads(crew) => crew.abandon(),
            Place::Inline(tasks) => tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all(),
        }
    }
}

impl Place {
    fn start(&self, label: Label, job: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Threads(crew) => crew.start(label, job),
            Self::Inline(tasks) => {
                let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
                while tasks.try_join_next().is_some() {}
                tasks.spawn(job);
            }
        }
    }
}

type Runnable = async_task::Runnable<Label>;
type Task = async_task::Task<(), Label>;

/// The threads of one pool, and their queue.
pub(crate) struct Crew {
    name: &'static str,
    bounds: Bounds,
    env: Env,
    ground: tokio::runtime::Handle,
    /// Jobs that can go on.
    ready: Arc<Ready<Runnable>>,
    /// Jobs that have not ended.
    under_way: Mutex<Slab<Task>>,
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    taken: Vec<Arc<Seat>>,
    started: u64,
}

impl Crew {
    fn new(name: &'static str, bounds: Bounds, ground: tokio::runtime::Handle, env: Env) -> Self {
        let (ready, under_way, seats) = Default::default();
        Self { name, bounds, env, ground, ready, under_way, seats }
    }

    fn under_way(&self) -> MutexGuard<'_, Slab<Task>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many threads are held by a job now.
    pub(crate) fn hogged(&self) -> usize {
        self.seats().hogged()
    }

    /// True when no more hogs can be made up for.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.hogged() >= self.bounds.hogged_max.max(1)
    }

    fn start(self: &Arc<Self>, label: Label, job: impl Future<Output = ()> + Send + 'static) {
        let mut under_way = self.under_way();
        let entry = under_way.vacant_entry();
        let end = UnderWay { crew: Arc::clone(self), number: entry.key() };
        let job = async move {
            job.await;
            drop(end);
        };
        let ready = Arc::clone(&self.ready);
        // A closed queue gives the job back, which drops it.
        let schedule = move |runnable| drop(ready.push(runnable));
        let builder = async_task::Builder::new().metadata(label).propagate_panic(true);
        let (runnable, task) = builder.spawn(|_| job, schedule);
        entry.insert(task);
        drop(under_way);
        runnable.schedule();
    }

    /// Marks the hogs, and sees that enough threads are there beside them.
    pub(crate) fn look(self: &Arc<Self>) {
        let now = self.env.instant();
        for seat in &self.seats().taken {
            if let Some(label) = seat.mark(now, self.bounds.hog_after) {
                tracing::warn!(pool = self.name, job = %label, "a walker holds its thread");
            }
        }
        if let Err(error) = self.fill() {
            tracing::error!(pool = self.name, %error, "a hogged thread is not replaced yet");
        }
    }

    /// Starts threads until there are enough.
    fn fill(self: &Arc<Self>) -> Result<()> {
        let mut seats = self.seats();
        while seats.taken.len() < seats.wanted(&self.bounds) && !self.ready.is_closed() {
            let (crew, seat) = (Arc::clone(self), Arc::new(Seat::default()));
            let taken = Arc::clone(&seat);
            thread::Builder::new()
                .name(format!("{}-{}", self.name, seats.started))
                .spawn(move || crew.work(&taken))
                .map_err(no_thread)?;
            seats.started += 1;
            seats.taken.push(seat);
        }
        Ok(())
    }

    /// The life of one thread.
    fn work(&self, seat: &Arc<Seat>) {
        let _entered = self.ground.enter();
        while let Some(runnable) = self.ready.pop() {
            seat.begin(runnable.metadata().clone(), self.env.instant());
            // A panic is kept in the task.
            runnable.run();
            if let Some((label, began)) = seat.end() {
                let held = self.env.instant().saturating_duration_since(began);
                tracing::warn!(pool = self.name, job = %label, ?held, "a walker gave its thread back");
                if self.seats().leave(seat, &self.bounds) {
                    return;
                }
            }
        }
        self.seats().taken.retain(|other| !Arc::ptr_eq(other, seat));
    }

    /// Drops what is under way and lets the threads end.
    fn abandon(&self) {
        self.ready.close();
        let dropped = std::mem::take(&mut *self.under_way());
        drop(dropped);
    }
}

impl Seats {
    fn hogged(&self) -> usize {
        self.taken.iter().filter(|seat| seat.is_hogged()).count()
    }

    /// How many threads there should be, hogs included.
    fn wanted(&self, bounds: &Bounds) -> usize {
        bounds.threads.max(1) + self.hogged().min(bounds.hogged_max)
    }

    /// Frees a seat when there are more than enough. True when it was freed.
    fn leave(&mut self, seat: &Arc<Seat>, bounds: &Bounds) -> bool {
        let leaves = self.taken.len() > self.wanted(bounds);
        if leaves {
            self.taken.retain(|other| !Arc::ptr_eq(other, seat));
        }
        leaves
    }
}

/// A job that has not ended. At its end, also by a panic, nothing is kept of it.
struct UnderWay {
    crew: Arc<Crew>,
    number: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let task = self.crew.under_way().try_remove(self.number);
        if let Some(task) = task {
            task.detach();
        }
    }
}

#[cfg(test)]
mod tests;
