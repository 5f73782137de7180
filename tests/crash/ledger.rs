//! What clients of the ledger were told, and whether a server holds to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use rand::Rng;
use serde_json::{Value, json};

use crate::{program::PATIENCE, support::Client};

/// The walkers of the workload, and how many entries each leaves.
pub const WALKERS: [(&str, u64); 6] = [
    ("record", 1),
    ("record_in_steps", 4),
    ("record_nested", 3),
    ("record_retried", 1),
    ("record_asleep", 2),
    ("record_in_visits", 4),
];
/// One that makes the files of the store grow.
pub const LARGE: (&str, u64) = ("record_large", 1);

/// A run that was asked for.
#[derive(Clone)]
struct Asked {
    user: usize,
    entries: u64,
}

/// A run that was answered with its id.
#[derive(Clone)]
struct Answered {
    n: u64,
    user: usize,
    /// What the moment's mark was: an operation of the program, say.
    mark: u64,
}

#[derive(Default)]
struct Told {
    asked: BTreeMap<u64, Asked>,
    answered: BTreeMap<String, Answered>,
    /// By user, the walkers that were found complete.
    found: BTreeSet<(usize, u64)>,
    /// By run and number, each event as it was first seen, with the mark of that moment.
    events: BTreeMap<String, BTreeMap<u64, (Value, u64)>>,
}

/// What the clients know.
#[derive(Clone)]
pub struct Ledger {
    users: Vec<Client>,
    /// The mark of the moment when the users had been told that they are registered.
    pub registered: u64,
    told: Arc<Mutex<Told>>,
}

/// What came back for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Accepted,
    /// Refused, with this status.
    Refused(u16),
    /// The server went away before it answered.
    Gone,
}

/// A mark that does not matter.
pub fn unmarked() -> u64 {
    0
}

impl Ledger {
    /// Registers two users.
    pub async fn register(url: &str, mark: impl Fn() -> u64) -> Self {
        Self::register_many(url, 2, mark).await
    }

    /// Registers users.
    pub async fn register_many(url: &str, number: usize, mark: impl Fn() -> u64) -> Self {
        let mut users = Vec::new();
        for user in 0..number {
            users.push(Client::user(url, &format!("user{user}@example.com")).await);
        }
        Self { users, registered: mark(), told: Arc::default() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// A ledger of its own, which knows the same so far.
    pub fn fork(&self) -> Self {
        let told = self.told();
        let copy = Told {
            asked: told.asked.clone(),
            answered: told.answered.clone(),
            found: told.found.clone(),
            events: told.events.clone(),
        };
        Self { users: self.users.clone(), registered: self.registered, told: Arc::new(Mutex::new(copy)) }
    }

    pub fn answered(&self) -> usize {
        self.told().answered.len()
    }

    pub fn events(&self) -> usize {
        self.told().events.values().map(BTreeMap::len).sum()
    }

    fn client(&self, user: usize, url: &str) -> Client {
        let mut client = self.users[user].clone();
        url.clone_into(&mut client.url);
        client
    }

    /// Submits one walker; its id when it was accepted.
    pub async fn submit(
        &self,
        url: &str,
        (walker, entries): (&str, u64),
        mark: impl Fn() -> u64,
    ) -> (Reply, Option<String>) {
        let (n, user) = {
            let mut told = self.told();
            let n = told.asked.len() as u64;
            let user = n as usize % self.users.len();
            told.asked.insert(n, Asked { user, entries });
            (n, user)
        };
        let client = self.client(user, url);
        let request = client.request(reqwest::Method::POST, &format!("/walker/{walker}"));
        let Ok(answer) = request.json(&json!({ "n": n })).send().await else { return (Reply::Gone, None) };
        let status = answer.status().as_u16();
        let Ok(body) = answer.json::<Value>().await else { return (Reply::Gone, None) };
        if status != 200 {
            assert!(body.is_object(), "a refusal says why: {status} {body}");
            return (Reply::Refused(status), None);
        }
        let id = body["walker_id"].as_str().unwrap().to_owned();
        self.told().answered.insert(id.clone(), Answered { n, user, mark: mark() });
        (Reply::Accepted, Some(id))
    }

    /// Follows a run to its last event, which is given, or until the server goes away.
    pub async fn follow(&self, url: &str, id: &str, mark: impl Fn() -> u64) -> Option<Value> {
        let user = self.told().answered[id].user;
        let client = self.client(user, url);
        let request = client.request(reqwest::Method::GET, &format!("/walker/{id}/events"));
        let mut answer = request.header("accept", "text/event-stream").send().await.ok()?;
        assert_eq!(answer.status(), 200, "{id} was answered and is not known");
        let (mut text, mut last, mut seq) = (String::new(), None, 0);
        while let Ok(Some(piece)) = answer.chunk().await {
            text.push_str(std::str::from_utf8(&piece).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                if let Some((_, data)) = event.split_once("data: ") {
                    let frame: Value = serde_json::from_str(data).unwrap();
                    seq += 1;
                    assert_eq!(frame["seq"], seq, "the events of {id} come without a gap");
                    last = self.saw(id, frame, mark());
                }
                text = rest.to_owned();
            }
        }
        last
    }

    /// Notes an event; gives it back when it is a run's last.
    fn saw(&self, id: &str, frame: Value, mark: u64) -> Option<Value> {
        let mut told = self.told();
        let events = told.events.entry(id.to_owned()).or_default();
        let seq = frame["seq"].as_u64().unwrap_or_else(|| panic!("an event: {frame}"));
        let (before, _) = events.entry(seq).or_insert_with(|| (frame.clone(), mark));
        assert_eq!(*before, frame, "event {seq} of {id} came back with other content");
        matches!(frame["event"]["type"].as_str(), Some("completed" | "failed")).then_some(frame)
    }

    /// Several clients submit walkers, and follow some to their ends, until the server is gone or `most` are answered; a
    /// share of them is large.
    pub async fn work(
        &self,
        url: &str,
        rng: &mut impl Rng,
        (most, large): (usize, f64),
        mark: impl Fn() -> u64 + Clone + Send + Sync + 'static,
    ) {
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (this, url, mark) = (self.clone(), url.to_owned(), mark.clone());
            let draws: Vec<(bool, usize, bool)> = (0..most / 4)
                .map(|_| (rng.random_bool(large), rng.random_range(0..WALKERS.len()), rng.random()))
                .collect();
            clients.spawn(async move {
                for (is_large, walker, follows) in draws {
                    let walker = if is_large { LARGE } else { WALKERS[walker] };
                    let (reply, id) = this.submit(&url, walker, &mark).await;
                    assert!(reply == Reply::Accepted || reply == Reply::Gone, "{reply:?}");
                    let Some(id) = id else { break };
                    if follows {
                        this.follow(&url, &id, &mark).await;
                    }
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    }

    /// Whether a server holds what was told up to a mark, and each walker's effects are there once. Waits for all runs to end.
    pub async fn check(&self, url: &str, mark: u64) {
        if mark < self.registered {
            return;
        }
        let before = self.fork();
        before.told().answered.retain(|_, answered| answered.mark <= mark);
        for events in before.told().events.values_mut() {
            events.retain(|_, (_, seen)| *seen <= mark);
        }
        before.check_runs(url).await;
        for user in 0..self.users.len() {
            tokio::time::timeout(PATIENCE, before.settle(user, url)).await.expect("all runs end");
            before.audit(user, url).await;
        }
    }

    /// Every run that was answered completes, with events as they were seen.
    async fn check_runs(&self, url: &str) {
        let ids: Vec<String> = self.told().answered.keys().cloned().collect();
        for id in ids {
            let last = tokio::time::timeout(PATIENCE, self.follow(url, &id, unmarked)).await;
            let last =
                last.expect("all runs end").unwrap_or_else(|| panic!("{id} was answered and has no end"));
            assert_eq!(last["event"]["type"], "completed", "{last}");
            let told = self.told();
            let numbers: Vec<u64> = told.events[&id].keys().copied().collect();
            let expected: Vec<u64> = (1..=last["seq"].as_u64().unwrap()).collect();
            assert_eq!(numbers, expected, "the events of {id} are numbered without a gap");
        }
    }

    /// Waits for the runs that nobody was told of.
    async fn settle(&self, user: usize, url: &str) {
        let client = self.client(user, url);
        for status in ["running", "pending"] {
            loop {
                let (_, page) = client.get(&format!("/walkers?limit=1&status={status}")).await;
                let Some(open) = page["walkers"].get(0) else { break };
                let ended = client.finished(open["id"].as_str().unwrap()).await;
                assert_eq!(ended["schedule"]["status"], "completed", "{ended}");
            }
        }
    }

    /// The counter and the entries of one user.
    async fn audit(&self, user: usize, url: &str) {
        let (status, audit) = self.client(user, url).post("/walker/audit", &json!({})).await;
        assert_eq!(status, 200, "{audit}");
        let audit = &audit["reports"][0];
        let entries: Vec<(u64, u64)> = serde_json::from_value(audit["entries"].clone()).unwrap();
        assert_eq!(audit["counter"].as_u64().unwrap_or(0), entries.len() as u64, "the counter is exact");
        let mut found: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (n, part) in entries {
            assert!(found.entry(n).or_default().insert(part), "entry {part} of walker {n} is there twice");
        }
        let told = self.told();
        for (n, parts) in &found {
            let asked = told.asked.get(n).unwrap_or_else(|| panic!("nobody asked for walker {n}"));
            assert_eq!(asked.user, user, "walker {n} is at the other user");
            assert!(parts.iter().copied().eq(0..asked.entries), "walker {n} is there in part: {parts:?}");
        }
        for (id, answered) in told.answered.iter().filter(|(_, answered)| answered.user == user) {
            assert!(found.contains_key(&answered.n), "{id} was answered and left nothing");
        }
        for (_, n) in told.found.range((user, 0)..=(user, u64::MAX)) {
            assert!(found.contains_key(n), "what walker {n} left was there and is gone");
        }
    }

    /// Forgets the events and answers that were checked, so that checks do not grow with all that was before. What the walkers
    /// left has to be there still.
    pub fn forget_checked(&self) {
        let mut told = self.told();
        told.events.clear();
        let answered = std::mem::take(&mut told.answered);
        told.found.extend(answered.into_values().map(|answered| (answered.user, answered.n)));
    }
}
