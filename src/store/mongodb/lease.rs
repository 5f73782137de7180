//! This process among those that share the database: its number, its lease, and which of the others are gone.
//!
//! A process holds one lease for all its runs, by the clock of the server. When it is over, others take the runs up; what the process still
//! writes for them is refused by their tokens. The number is the first part of every token, and no two processes ever
//! have the same.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::options::ReturnDocument;
use tokio::time::Instant;

use super::base::{Base, Place, Tried, Tries};
use crate::store::Error;

/// How often a lease is renewed while it lasts.
pub(super) const RENEWALS: u32 = 4;

pub(super) struct Lease {
    number: u64,
    span: Duration,
    alive: Mutex<Alive>,
    /// The one that writes for this process.
    session: Mutex<Option<Document>>,
}

struct Alive {
    processes: HashSet<u64>,
    /// The number of the last process when the lease before this one was taken: who came later may not have shown itself yet.
    newest: u64,
    /// The same when this one was taken.
    counted: u64,
    /// Those that are gone, and have nothing open any more.
    undone: HashSet<u64>,
    renewed: Instant,
}

impl Lease {
    /// Takes a number and a first lease.
    pub(super) async fn take(base: &Base, span: Duration) -> Tries<Self> {
        let number = next_number(base).await?;
        let lease = Self {
            number,
            span,
            alive: Mutex::new(Alive {
                processes: HashSet::new(),
                newest: number,
                counted: number,
                undone: HashSet::new(),
                renewed: Instant::now(),
            }),
            session: Mutex::default(),
        };
        lease.renew(base).await?;
        Ok(lease)
    }

    /// The number of this process.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn span(&self) -> Duration {
        self.span
    }

    /// Whether a process has a lease, as far as this one knows.
    pub(super) fn is_alive(&self, process: u64) -> bool {
        let alive = self.alive();
        process == self.number() || process > alive.newest || alive.processes.contains(&process)
    }

    /// How long ago the lease was renewed.
    pub(super) fn age(&self) -> Duration {
        self.alive().renewed.elapsed()
    }

    fn alive(&self) -> std::sync::MutexGuard<'_, Alive> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews the lease, and looks at those of the others. True when one of them is gone since the last look.
    pub(super) async fn renew(&self, base: &Base) -> Tries<bool> {
        let begun = Instant::now();
        self.show(base).await?;
        let counted = last_number(base).await?;
        let processes = base.collection::<Document>(Place::Process);
        let living = processes.find(doc! { "$expr": { "$gt": ["$until", "$$NOW"] } });
        let living: Vec<Document> = living.await?.try_collect().await?;
        let living: HashSet<u64> =
            living.iter().filter_map(|process| process.get_i64("_id").ok()).map(i64::cast_unsigned).collect();
        // Another process may, or the server after a minute.
        let undone = self.undo(base, &living).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what a process that is gone left open is not undone");
            self.alive().undone.clone()
        });
        let mut alive = self.alive();
        let mut gone = alive.processes.difference(&living).chain(undone.difference(&alive.undone));
        let is_one_gone = gone.next().is_some();
        let newest = alive.counted;
        *alive = Alive { processes: living, newest, counted, undone, renewed: begun };
        Ok(is_one_gone)
    }

    /// Writes the lease.
    async fn show(&self, base: &Base) -> Tries<()> {
        let processes = base.collection::<Document>(Place::Process);
        let milliseconds = i64::try_from(self.span.as_millis()).unwrap_or(i64::MAX);
        let until =
            doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "millisecond", "amount": milliseconds } };
        let me = doc! { "_id": self.number.cast_signed() };
        let mut mine = doc! { "until": until };
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(session) = session {
            mine.insert("session", doc! { "$literal": session });
        }
        processes.update_one(me, vec![doc! { "$set": mine }]).upsert(true).await?;
        Ok(())
    }

    /// Tells the others which session writes for this process.
    pub(super) async fn hold(&self, base: &Base, session: &Document) -> Tries<()> {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        let me = doc! { "_id": self.number().cast_signed() };
        let processes = base.collection::<Document>(Place::Process);
        processes.update_one(me, doc! { "$set": { "session": session } }).await?;
        Ok(())
    }

    /// Undoes the transactions of processes that are gone: until then what they had written to is locked, for up to a minute.
    async fn undo(&self, base: &Base, living: &HashSet<u64>) -> Tries<HashSet<u64>> {
        let all = base.collection::<Document>(Place::Process).find(doc! {}).await?;
        let all: Vec<Document> = all.try_collect().await?;
        let mut undone = self.alive().undone.clone();
        let number = |process: &Document| process.get_i64("_id").map(i64::cast_unsigned).unwrap_or_default();
        let is_fresh = |number: u64| !living.contains(&number) && !undone.contains(&number);
        let gone: Vec<&Document> = all.iter().filter(|process| is_fresh(number(process))).collect();
        let sessions: Vec<&Document> =
            gone.iter().filter_map(|process| process.get_document("session").ok()).collect();
        if !sessions.is_empty() {
            base.admin().run_command(doc! { "killSessions": sessions }).await?;
        }
        let gone: Vec<u64> = gone.into_iter().map(number).collect();
        undone.extend(gone);
        // Those that the database has forgotten need not be remembered, and who came back may go again.
        undone
            .retain(|process| !living.contains(process) && all.iter().any(|known| number(known) == *process));
        Ok(undone)
    }

    /// Gives the lease back.
    pub(super) async fn end(&self, base: &Base) -> Tries<()> {
        let me = doc! { "_id": self.number.cast_signed() };
        base.collection::<Document>(Place::Process).delete_one(me).await?;
        Ok(())
    }
}

/// The number of the last process so far.
async fn last_number(base: &Base) -> Tries<u64> {
    let meta = base.collection::<Document>(Place::Meta);
    let counted = meta.find_one(doc! { "_id": "process" }).await?;
    let number = counted.and_then(|counted| counted.get_i64("value").ok());
    Ok(number.map(i64::cast_unsigned).unwrap_or_default())
}

async fn next_number(base: &Base) -> Tries<u64> {
    let meta = base.collection::<Document>(Place::Meta);
    let counted = meta
        .find_one_and_update(doc! { "_id": "process" }, doc! { "$inc": { "value": 1_i64 } })
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    let number = counted.and_then(|counted| counted.get_i64("value").ok());
    let missing = || Tried::Refused(Error::Damaged("the number of the last process".to_owned()));
    number.map(i64::cast_unsigned).ok_or_else(missing)
}
