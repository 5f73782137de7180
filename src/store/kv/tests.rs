use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use tokio::sync::{Semaphore, broadcast::error::RecvError};
use walkabout_schema::{Access, ErrorCode, Fields, Key, Part};

use super::*;
use crate::{
    config::Config,
    env::Env,
    prelude::*,
    registry::Registry,
    runtime::{Caller, Runtime, Spawn, Spawned, root_element},
    store::{Change, Finish, Release, RequestKey, RunCommit, Stand, memory::MemoryEngine},
};

/// A memory engine whose writes can be made to fail, and whose disk to be full.
#[derive(Default)]
struct Failing {
    inner: MemoryEngine,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    fails: AtomicBool,
    panics: AtomicBool,
    /// Free bytes less than there could be.
    used: AtomicU64,
    writes: AtomicUsize,
    looks: AtomicUsize,
    /// Checkpoints and records that cannot be read, the next ones.
    unread: AtomicUsize,
    /// So are they read then, as nonsense, in place of not at all.
    damages: AtomicBool,
}

/// What was written, read as the engine is told to.
struct FailingView {
    inner: Arc<dyn View>,
    told: Arc<Told>,
}

impl View for FailingView {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let concerns = matches!(space, Space::Checkpoint | Space::Walker);
        let take = |left: usize| left.checked_sub(1).filter(|_| concerns);
        match self.told.unread.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Err(_) => self.inner.get(space, key),
            Ok(_) if self.told.damages.load(Ordering::SeqCst) => Ok(Some(Bytes::from(&b"nonsense"[..]))),
            Ok(_) => Err(Error::Unavailable("the disk said no".to_owned())),
        }
    }
    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<engine::Pair>> {
        self.inner.scan(space, range, reverse, limit)
    }
}

fn failing(limits: Limits) -> (KvStore, Arc<Told>) {
    let engine = Failing::default();
    let told = Arc::clone(&engine.told);
    let found = look(&engine).unwrap();
    (KvStore::start(Box::new(engine), &found, limits).unwrap(), told)
}

impl View for Failing {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        View::get(&self.inner, space, key)
    }
    fn scan(&self, space: Space, range: Range, reverse: bool, limit: usize) -> Result<Vec<engine::Pair>> {
        View::scan(&self.inner, space, range, reverse, limit)
    }
}

impl Engine for Failing {
    fn snapshot(&self) -> Arc<dyn View> {
        Arc::new(FailingView { inner: self.inner.snapshot(), told: Arc::clone(&self.told) })
    }
    fn apply(&self, batch: Vec<engine::Write>, sync: bool) -> Result<()> {
        self.told.writes.fetch_add(1, Ordering::SeqCst);
        assert!(!self.told.panics.load(Ordering::SeqCst), "the engine panics");
        if self.told.fails.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("the disk said no".to_owned()));
        }
        self.inner.apply(batch, sync)
    }
    fn free_bytes(&self) -> Option<u64> {
        self.told.looks.fetch_add(1, Ordering::SeqCst);
        Some(u64::MAX - self.told.used.load(Ordering::SeqCst))
    }
    fn close(&self, group: u64) -> Result<()> {
        self.inner.close(group)
    }
}

fn fresh_node(id: u128) -> Commit {
    let element = root_element(Uuid::from_u128(id), Access::private());
    let change = Change::Put { element: Arc::new(element), expected: None };
    Commit { changes: vec![change], ..Commit::default() }
}

#[tokio::test]
async fn after_a_failed_write_nothing_more_is_written() {
    let (store, told) = failing(Limits::default());
    let now = Timestamp::from_millis(0);
    store.commit(now, fresh_node(1)).await.unwrap();
    told.fails.store(true, Ordering::SeqCst);
    assert!(matches!(store.commit(now, fresh_node(2)).await, Err(Error::OutcomeUnknown(_))));
    told.fails.store(false, Ordering::SeqCst);
    let before = told.writes.load(Ordering::SeqCst);
    assert!(matches!(store.commit(now, fresh_node(3)).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.health(), Err(Error::OutcomeUnknown(_))));
    assert_eq!(told.writes.load(Ordering::SeqCst), before);
    let ids = [1, 2, 3].map(Uuid::from_u128);
    let read = store.snapshot().await.unwrap().elements(Kind::Node, &ids).await.unwrap();
    assert_eq!(read.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
    // Who ends with it must not look well.
    assert!(matches!(store.close().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_full_store_notices_by_itself_that_there_is_room_again() {
    let (store, told) = failing(Limits { disk_free_min: 1 << 20, ..Limits::default() });
    told.used.store(u64::MAX, Ordering::SeqCst);
    // A quarter of what must be free, in few groups.
    let secret = store.keep("large", vec![0; 300_000]).await;
    assert!(secret.is_ok(), "{secret:?}");
    while store.health().is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(store.health(), Err(Error::Full(_))));
    told.used.store(0, Ordering::SeqCst);
    while store.health().is_err() {
        tokio::task::yield_now().await;
    }
    store.keep("more", vec![0]).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_committer_is_seen() {
    let (store, told) = failing(Limits::default());
    told.panics.store(true, Ordering::SeqCst);
    assert!(store.keep("a", vec![0]).await.is_err());
    while store.health().is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(store.health(), Err(Error::OutcomeUnknown(_))));
    assert!(store.keep("b", vec![0]).await.is_err());
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let engine = MemoryEngine::default();
    let format = u64::from(FORMAT) + 1;
    let newer = (Space::Meta, keys::META_FORMAT.to_vec(), Some(format.to_be_bytes().to_vec()));
    engine.apply(vec![newer], true).unwrap();
    let refused = look(&engine).err().unwrap().to_string();
    assert!(refused.contains("newer program"), "{refused}");
}

#[test]
fn a_marker_is_found_only_whole() {
    let marker = Marker { group: 77, synced: 75 };
    let bytes = marker.encode();
    assert_eq!(Marker::parse(&bytes), Some(marker));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Marker::parse(&damaged), None, "bit {bit}");
    }
}

/// Makes a node, once the test has let it go on.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(crate = "crate", async)]
struct Maker {}

#[derive(Node, Serialize, Deserialize, Default)]
#[node(crate = "crate")]
struct Made {}

static BEGUN: Semaphore = Semaphore::const_new(0);
static GO_ON: Semaphore = Semaphore::const_new(0);

#[abilities(crate = "crate")]
impl Maker {
    #[entry]
    async fn make(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        BEGUN.add_permits(1);
        GO_ON.acquire().await?.forget();
        let made = cx.create(Made {})?;
        cx.connect(&here, &made)?;
        DONE
    }
}

#[tokio::test]
async fn a_run_that_finds_no_room_waits_for_some() {
    let (store, told) = failing(Limits { disk_free_min: 1, ..Limits::default() });
    let store: Arc<dyn Store> = Arc::new(store);
    let mut registry = Registry::default();
    registry.walker::<Maker>();
    let now = Timestamp::from_millis(0);
    let runtime =
        Runtime::start(Config::default(), Env::manual(now, 1), Arc::clone(&store), registry).await.unwrap();
    let caller = Caller::user(walkabout_schema::SYSTEM_ROOT);
    let spawn = Spawn {
        walker: "maker".to_owned(),
        node: None,
        caller: caller.clone(),
        fields: serde_json::Map::new(),
        files: Vec::new(),
        client_id: None,
        request_key: None,
    };
    let Spawned::Accepted { id, .. } = runtime.spawn(spawn).await.unwrap() else { panic!("it is async") };
    BEGUN.acquire().await.unwrap().forget();
    told.used.store(u64::MAX, Ordering::SeqCst);
    let mut refused = 0;
    for n in 1000.. {
        match store.commit(now, fresh_node(n)).await {
            Ok(()) => {}
            Err(Error::Full(_)) if refused == 0 => refused += 1,
            Err(Error::Full(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    // The store looks behind each refusal: behind the last one, perhaps not yet, and behind that of the attempt.
    let before = told.looks.load(Ordering::SeqCst);
    GO_ON.add_permits(1);
    while told.looks.load(Ordering::SeqCst) < before + 2 {
        tokio::task::yield_now().await;
    }
    let mut frames = runtime.follow(&caller, &id).await.unwrap().unwrap();
    told.used.store(0, Ordering::SeqCst);
    while store.commit(now, fresh_node(u128::MAX)).await.is_err() {}
    BEGUN.acquire().await.unwrap().forget();
    GO_ON.add_permits(1);
    while !matches!(frames.recv().await, Err(RecvError::Closed)) {}
    let record = runtime.record(&caller, &id).await.unwrap().unwrap();
    assert_eq!((record.run.state, record.run.attempt), (State::Succeeded, 1), "{:?}", record.schedule.error);
    runtime.stop().await.unwrap();
}

async fn claimed(store: &KvStore, id: Uuid) -> Claim {
    let now = Timestamp::from_millis(0);
    let walker = job(id.as_u128(), None);
    store.submit(Submission { key: None, walker }).await.unwrap();
    let Claimed::Taken(claim) = store.claim(id, now).await.unwrap() else { panic!("not taken") };
    *claim
}

async fn commit_run(store: &KvStore, claim: &Claim, event: EventKind, then: Then) {
    let run =
        RunCommit { id: claim.walker.id.0, token: claim.token, events: vec![event], then, conflicts: 0 };
    let commit = Commit { run: Some(run), ..Commit::default() };
    store.commit(Timestamp::from_millis(0), commit).await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_run_that_has_ended_stays_but_its_record_and_events() {
    let (store, _) = failing(Limits::default());
    let view = || store.shared.engine.snapshot();
    let count = |space| view().scan(space, Range::prefix(&[]), false, usize::MAX).unwrap().len();
    let now = Timestamp::from_millis(0);
    for (id, is_cancelled) in [(1, false), (2, true)] {
        let claim = claimed(&store, Uuid::from_u128(id)).await;
        let items = Items::Keys(vec![Key(Uuid::from_u128(9)); 3]);
        let ignored = vec![Part::Segment { number: 7, from: 1, to: 3 }];
        let checkpoint = Checkpoint { ignored, next_segment: 8, ..Checkpoint::default() };
        let stand = Stand { checkpoint, fresh: [(7, items)].into(), gone: vec![] };
        commit_run(&store, &claim, EventKind::Checkpoint, Then::Checkpoint(Box::new(stand))).await;
        check::check(&*view()).unwrap();
        assert_eq!((count(Space::Segment), count(Space::Checkpoint)), (1, 1));
        if is_cancelled {
            let act = Act::Cancel { reason: String::new() };
            store.act(claim.walker.id.0, now, act).await.unwrap();
            let then = Then::Release { checkpoint: None, to: Release::Queue };
            commit_run(&store, &claim, EventKind::Checkpoint, then).await;
        } else {
            let (code, error) = (ErrorCode::WalkerFailed, "why".to_owned());
            let finish = Finish::failed(now, Fields::default(), code, error.clone());
            let event = EventKind::Failed { error, code };
            commit_run(&store, &claim, event, Then::Finish(Box::new(finish))).await;
        }
        check::check(&*view()).unwrap();
        assert_eq!((count(Space::Segment), count(Space::Checkpoint), count(Space::Live)), (0, 0, 0));
    }
}

/// A run of nobody's, with no fields.
fn job(id: u128, deadline: Option<Timestamp>) -> Walker {
    let (now, nobody) = (Timestamp::from_millis(1000), walkabout_schema::NodeId::root(Uuid::nil()));
    let mut run = crate::store::new_run(now, false);
    run.deadline = deadline;
    Walker {
        id: walkabout_schema::Key(Uuid::from_u128(id)),
        name: Name::new("job").unwrap(),
        root: Some(walkabout_schema::Key(Uuid::nil())),
        access: Access::private(),
        archetype: crate::store::no_fields(),
        input: None,
        version: 1,
        schedule: crate::submit::new_schedule(now, nobody.clone(), nobody),
        run,
    }
}

#[tokio::test]
async fn the_record_of_a_run_that_a_claim_ended_is_not_kept_decoded() {
    let (store, _) = failing(Limits::default());
    let deadline = Timestamp::from_millis(2000);
    store.submit(Submission { walker: job(1, Some(deadline)), key: None }).await.unwrap();
    let id = Uuid::from_u128(1);
    assert!(matches!(store.claim(id, deadline).await.unwrap(), Claimed::Nothing));
    assert!(store.records.take(id).is_none());
}

#[tokio::test]
async fn a_request_is_forgotten_also_when_the_clock_stepped_back_before_it() {
    let (store, _) = failing(Limits::default());
    let submit = async |id: u8, at: i64| {
        let mut walker = job(u128::from(id), None);
        walker.run.created_at = Timestamp::from_millis(at);
        let until = Timestamp::from_millis(at + 1000);
        let key = RequestKey { key: [id; 32], request: [0; 32], until };
        assert_eq!(store.submit(Submission { walker, key: Some(key) }).await.unwrap(), Submitted::New);
    };
    let kept = |id: u8| View::get(&*store.shared.engine, Space::Request, &keys::request(&[id; 32])).unwrap();
    submit(1, 50_000).await;
    submit(2, 60_000).await;
    assert!(kept(1).is_none() && kept(2).is_some());
    submit(3, 10_000).await;
    submit(4, 20_000).await;
    assert!(kept(3).is_none(), "its time is over");
    submit(5, 70_000).await;
    assert!(kept(2).is_none() && kept(4).is_none());
}

#[tokio::test]
async fn a_claim_that_cannot_be_read_takes_nothing() {
    let (store, told) = failing(Limits::default());
    let (id, now) = (Uuid::from_u128(1), Timestamp::from_millis(2000));
    store.submit(Submission { walker: job(1, None), key: None }).await.unwrap();
    drop(store.records.take(id));
    told.unread.store(1, Ordering::SeqCst);
    assert!(matches!(store.claim(id, now).await, Err(Error::Unavailable(_))));
    assert_eq!(store.open_runs(None, 10).await.unwrap().due.len(), 1, "it is due as before");
    told.damages.store(true, Ordering::SeqCst);
    told.unread.store(1, Ordering::SeqCst);
    assert!(matches!(store.claim(id, now).await, Err(Error::Damaged(_))));
    let run = store.run(id).await.unwrap().unwrap().run;
    assert_eq!((run.state, run.attempt), (State::Incompatible, 1), "it would not get better");
}

#[tokio::test]
async fn a_cancelled_run_whose_record_is_damaged_stops_nobody_else() {
    let (store, _) = failing(Limits::default());
    let now = Timestamp::from_millis(2000);
    let claim = claimed(&store, Uuid::from_u128(1)).await;
    let id = claim.walker.id.0;
    let nonsense = (Space::Walker, id.as_bytes().to_vec(), Some(b"nonsense".to_vec()));
    store.shared.engine.apply(vec![nonsense], true).unwrap();
    let cancel = Act::Cancel { reason: String::new() };
    assert!(matches!(store.act(id, now, cancel).await.unwrap(), Some(Acted::Asked(_))));
    let let_go = async |event, to| {
        let then = Then::Release { checkpoint: None, to };
        let run = RunCommit { id, token: claim.token, events: vec![event], then, conflicts: 0 };
        store.commit(now, Commit { run: Some(run), ..Commit::default() }).await
    };
    let before = store.events(id, 0, 10).await.unwrap().last;
    assert!(matches!(let_go(EventKind::Checkpoint, Release::Queue).await, Err(Error::Damaged(_))));
    store.commit(now, fresh_node(7)).await.unwrap();
    assert_eq!(store.events(id, 0, 10).await.unwrap().last, before, "nothing of what was refused is there");
    let error = "its record is damaged".to_owned();
    let_go(EventKind::Incompatible { error: error.clone() }, Release::Park { error }).await.unwrap();
    store.health().unwrap();
}

/// Sleeps once, then ends.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(crate = "crate", async, visit_timeout = "10s")]
struct Dozer {
    #[serde(default)]
    hogs: bool,
}

static LET_GO: AtomicBool = AtomicBool::new(false);

#[abilities(crate = "crate")]
impl Dozer {
    #[entry]
    async fn doze(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.sleep(std::time::Duration::from_secs(1)).then("end")
    }
    #[step]
    async fn end(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        if self.hogs {
            cx.progress(json!("hogs"));
            tokio::task::yield_now().await;
            while !LET_GO.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        DONE
    }
}

/// A run of it that sleeps, on a runtime of its own.
async fn dozing(hogs: bool) -> (Runtime, Arc<Told>, walkabout_schema::WalkerId) {
    let (store, told) = failing(Limits::default());
    let mut registry = Registry::default();
    registry.walker::<Dozer>();
    let env = Env::manual(Timestamp::from_millis(0), 1);
    let runtime = Runtime::start(Config::default(), env, Arc::new(store), registry).await.unwrap();
    let caller = Caller::user(walkabout_schema::SYSTEM_ROOT);
    let serde_json::Value::Object(fields) = json!({ "hogs": hogs }) else { panic!("fields have names") };
    let walker = "dozer".to_owned();
    let spawn =
        Spawn { walker, node: None, caller, fields, files: Vec::new(), client_id: None, request_key: None };
    let Spawned::Accepted { id, .. } = runtime.spawn(spawn).await.unwrap() else { panic!("it is async") };
    until(&runtime, &id, |run| run.state == State::Waiting).await;
    (runtime, told, id)
}

async fn until(
    runtime: &Runtime,
    id: &walkabout_schema::WalkerId,
    wanted: impl Fn(&walkabout_schema::Run) -> bool,
) {
    let caller = Caller::user(walkabout_schema::SYSTEM_ROOT);
    let mut frames = runtime.follow(&caller, id).await.unwrap().unwrap();
    while !wanted(&runtime.record(&caller, id).await.unwrap().unwrap().run) {
        drop(frames.recv().await);
    }
}

#[tokio::test]
async fn a_run_that_could_not_be_claimed_is_claimed_later() {
    let (runtime, told, id) = dozing(false).await;
    let caller = Caller::user(walkabout_schema::SYSTEM_ROOT);
    let mut frames = runtime.follow(&caller, &id).await.unwrap().unwrap();
    told.unread.store(1, Ordering::SeqCst);
    runtime.env().advance(std::time::Duration::from_secs(1));
    let ended = async { while !matches!(frames.recv().await, Err(RecvError::Closed)) {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends");
    assert_eq!(told.unread.load(Ordering::SeqCst), 0);
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_run_that_could_not_be_ended_without_its_attempt_is_ended_later() {
    let (runtime, told, id) = dozing(true).await;
    let caller = Caller::user(walkabout_schema::SYSTEM_ROOT);
    let second = std::time::Duration::from_secs(1);
    runtime.env().advance(second);
    until(&runtime, &id, |run| run.progress == json!("hogs")).await;
    let mut frames = runtime.follow(&caller, &id).await.unwrap().unwrap();
    told.unread.store(1, Ordering::SeqCst);
    let ended = async { while !matches!(frames.recv().await, Err(RecvError::Closed)) {} };
    let ticks = async {
        loop {
            runtime.env().advance(second);
            tokio::task::yield_now().await;
        }
    };
    let ended = async {
        tokio::select! { () = ended => {}, () = ticks => {} }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends");
    let record = runtime.record(&caller, &id).await.unwrap().unwrap();
    assert_eq!(record.run.state, State::TimedOut);
    LET_GO.store(true, Ordering::SeqCst);
    runtime.stop().await.unwrap();
}
