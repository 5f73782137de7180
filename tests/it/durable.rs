//! How runs are governed: retries, deadlines, cancel, pause, waits, checkpoint policies, repeated requests.

use std::{
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};

use walkabout::{
    Error,
    config::Config,
    env::Env,
    govern::{Governed, Governor},
    prelude::*,
    runtime::{Act, Caller, RunFilter, Spawn, Spawned},
    schema::{ErrorCode, EventKind, State, Timestamp, WalkerId, wire::Record},
    testing::Bench,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) async fn submit(bench: &Bench, caller: &Caller, walker: &str, fields: Value) -> WalkerId {
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    let caller = caller.clone();
    let walker = walker.to_owned();
    let spawn =
        Spawn { walker, node: None, caller, fields, files: Vec::new(), client_id: None, request_key: None };
    match bench.runtime.spawn(spawn).await.unwrap() {
        Spawned::Accepted { id, .. } => id,
        Spawned::Done { .. } => panic!("not async"),
    }
}

/// Waits until the record of a run is as wanted.
async fn until(bench: &Bench, caller: &Caller, id: &WalkerId, wanted: impl Fn(&Record) -> bool) -> Record {
    let mut frames = bench.runtime.follow(caller, id).await.unwrap().unwrap();
    loop {
        let record = bench.runtime.record(caller, id).await.unwrap().unwrap();
        if wanted(&record) {
            return record;
        }
        assert!(!record.run.state.is_final(), "{record:?}");
        drop(frames.recv().await);
    }
}

pub(crate) async fn until_state(bench: &Bench, caller: &Caller, id: &WalkerId, state: State) -> Record {
    until(bench, caller, id, |record| record.run.state == state).await
}

async fn events(bench: &Bench, caller: &Caller, id: &WalkerId) -> Vec<EventKind> {
    let page = bench.runtime.events(caller, id, 0, 1000).await.unwrap().unwrap();
    assert!(page.events.iter().zip(1..).all(|(event, number)| event.seq == number));
    page.events.into_iter().map(|event| event.event).collect()
}

pub(crate) async fn act(
    bench: &Bench,
    caller: &Caller,
    id: &WalkerId,
    act: Act,
) -> Result<Option<Governed>, Error> {
    bench.runtime.act(Governor { caller, run_token: None }, id, act).await
}

fn cancel() -> Act {
    Act::Cancel { reason: "enough".to_owned() }
}

#[derive(Node, Serialize, Deserialize, Default)]
struct Place {
    #[serde(default)]
    visits: u64,
}

/// Fails in the ways that it is told, one after the other.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, retry(attempts = 3, delay = "10s", backoff = "exponential", jitter = 0.0, never_on = "gone"))]
struct Flaky {
    ways: Vec<String>,
    /// How far it is; only checkpoints move it.
    #[serde(default)]
    way: usize,
}

#[abilities]
impl Flaky {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        let record = cx.record(&cx.walker_id().unwrap()).await?.unwrap();
        // Every attempt begins with the fields of the last checkpoint: what was tried before stands in the record.
        let tried = usize::try_from(record.run.retries)?;
        match self.ways.get(tried).map(String::as_str) {
            Some("fail") => Err(fail("it failed")),
            Some("gone") => Err(fail("it is gone").kind("gone")),
            Some("for_good") => Err(fail("no more").for_good()),
            Some("later") => Err(fail("not yet").retry_after(100 * SECOND)),
            Some("panic") => panic!("it panics"),
            Some("cancel") => cx.cancel("nobody wants it"),
            _ => DONE,
        }
    }
}

/// Lets the clock jump to whenever the run is due, until it has ended.
async fn over_time(bench: &Bench, caller: &Caller, id: &WalkerId) -> (Record, Vec<u64>) {
    let mut waits = Vec::new();
    loop {
        let waiting = |record: &Record| record.run.state == State::Waiting || record.run.state.is_final();
        let record = until(bench, caller, id, waiting).await;
        if record.run.state.is_final() {
            return (record, waits);
        }
        let span = record.run.next_attempt_at.unwrap().since(bench.runtime.now());
        waits.push(span.as_secs());
        bench.advance(span);
        until(bench, caller, id, |now| now.run.next_attempt_at != record.run.next_attempt_at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_are_tried_again_as_the_policy_says() {
    let bench = Bench::new(|types| _ = types.walker::<Flaky>()).await;
    let user = bench.register().await;
    let run = async |ways: &[&str]| {
        let id = submit(&bench, &user, "flaky", json!({ "ways": ways })).await;
        let (record, waits) = over_time(&bench, &user, &id).await;
        (record.run.state, record.run.attempt, waits)
    };
    assert_eq!(run(&["fail", "panic"]).await, (State::Succeeded, 3, vec![10, 20]));
    assert_eq!(run(&["fail", "fail", "fail"]).await, (State::Failed, 3, vec![10, 20]));
    assert_eq!(run(&["gone"]).await, (State::Failed, 1, vec![]));
    assert_eq!(run(&["for_good"]).await, (State::Failed, 1, vec![]));
    assert_eq!(run(&["later", "fail"]).await, (State::Succeeded, 3, vec![100, 20]));
    assert_eq!(run(&["later", "later", "later"]).await, (State::Failed, 3, vec![100, 100]));
    assert_eq!(run(&["fail", "cancel"]).await, (State::Cancelled, 2, vec![10]));
    // Only what succeeded left something.
    assert_eq!(bench.count::<Place>(&user).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_between_attempts_says_why_and_when() {
    let bench = Bench::new(|types| _ = types.walker::<Flaky>()).await;
    let user = bench.register().await;
    let id = submit(&bench, &user, "flaky", json!({ "ways": ["fail"] })).await;
    let record = until_state(&bench, &user, &id, State::Waiting).await;
    assert_eq!(record.schedule.error.as_deref(), Some("it failed"));
    assert_eq!(record.run.error_code, Some(ErrorCode::WalkerFailed));
    assert_eq!(record.run.next_attempt_at, Some(bench.runtime.now().plus(10 * SECOND)));
    let (record, _) = over_time(&bench, &user, &id).await;
    assert_eq!(
        (record.schedule.error, record.run.error_code, record.run.next_attempt_at),
        (None, None, None)
    );
    let at = bench.runtime.now();
    let error = "it failed".to_owned();
    let told = events(&bench, &user, &id).await;
    assert_eq!(
        told,
        [
            EventKind::Accepted,
            EventKind::Started,
            EventKind::Retrying { error, code: ErrorCode::WalkerFailed, at },
            EventKind::Started,
            EventKind::Completed
        ]
    );
}

/// Snoozes until its number of snoozes is in its own record.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Sleepyhead {}

#[abilities]
impl Sleepyhead {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        if cx.now().millis() < 1_767_225_600_000 + 300_000 { cx.snooze(MINUTE) } else { DONE }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snooze_spends_no_attempt_and_leaves_nothing() {
    let bench = Bench::new(|types| _ = types.walker::<Sleepyhead>()).await;
    let user = bench.register().await;
    let id = submit(&bench, &user, "sleepyhead", json!({})).await;
    for _ in 0..5 {
        let record = until_state(&bench, &user, &id, State::Waiting).await;
        assert_eq!((record.run.attempt, record.run.retries, record.schedule.error), (1, 0, None));
        bench.advance(MINUTE);
        until(&bench, &user, &id, |now| now.run.next_attempt_at != record.run.next_attempt_at).await;
    }
    let record = bench.finished(&user, &id).await;
    assert_eq!((record.run.state, record.run.attempt), (State::Succeeded, 1));
    assert_eq!(bench.count::<Place>(&user).await, 1);
}

/// Closed until a test opens it; who waits here yields its thread to nobody.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

static GATE: Gate = Gate { open: Mutex::new(false), opened: Condvar::new() };
static GATE_OF_VISITS: Gate = Gate { open: Mutex::new(false), opened: Condvar::new() };
static GATE_OF_PLAIN: Gate = Gate { open: Mutex::new(false), opened: Condvar::new() };

/// Makes a place, then waits for ever: for an event that never comes, or without giving its thread back.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, timeout = "30s")]
struct Stuck {
    yields: bool,
}

#[abilities]
impl Stuck {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        cx.progress(json!("begun"));
        if self.yields {
            std::future::pending::<()>().await;
        } else {
            tokio::task::yield_now().await;
            GATE.pass();
        }
        DONE
    }
}

fn begun(record: &Record) -> bool {
    record.run.progress == json!("begun")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_at_its_deadline_whether_it_yields_or_not() {
    let bench = Bench::new(|types| _ = types.walker::<Stuck>()).await;
    let user = bench.register().await;
    let yields = submit(&bench, &user, "stuck", json!({ "yields": true })).await;
    let never = submit(&bench, &user, "stuck", json!({ "yields": false })).await;
    for id in [&yields, &never] {
        let record = until(&bench, &user, id, begun).await;
        assert_eq!(record.run.deadline, Some(bench.runtime.now().plus(30 * SECOND)));
    }
    bench.advance(30 * SECOND);
    let record = bench.finished(&user, &yields).await;
    assert_eq!((record.run.state, record.schedule.http_status), (State::TimedOut, Some(504)));
    assert!(record.schedule.error.unwrap().contains("deadline"));
    // It is asked when the timekeeper looks, and ended a second later.
    let ended = async {
        loop {
            bench.advance(SECOND);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        record = bench.finished(&user, &never) => assert_eq!(record.run.state, State::TimedOut),
        () = ended => {}
    }
    GATE.open();
    let last = submit(&bench, &user, "stuck", json!({ "yields": true })).await;
    until(&bench, &user, &last, begun).await;
    let page = bench.runtime.events(&user, &never, 0, 100).await.unwrap().unwrap();
    assert!(page.events.last().unwrap().event.is_final(), "what it wrote late was refused");
    assert_eq!(bench.count::<Place>(&user).await, 0, "and so was what it made");
}

/// Has half a minute, and holds the only place meanwhile.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, timeout = "30s", checkpoint = "visits(1)")]
struct Sole {}

#[abilities]
impl Sole {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.progress(json!("begun"));
        GATE_OF_SOLE.acquire().await?.forget();
        cx.then("end")
    }
    #[step]
    async fn end(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

static GATE_OF_SOLE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

#[tokio::test(flavor = "multi_thread")]
async fn a_held_run_keeps_its_deadline_when_others_crowd_the_queue() {
    let config = Config {
        due_window: 1,
        async_threads: 1,
        attempts_per_thread_max: 1,
        disk_free_min: 0,
        ..Config::default()
    };
    let env = Env::manual(Timestamp::from_millis(1_767_225_600_000), 1);
    let bench = Bench::build(|types| _ = types.walker::<Sole>(), config, env).await.unwrap();
    let user = bench.register().await;
    let held = submit(&bench, &user, "sole", json!({})).await;
    until(&bench, &user, &held, begun).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(submit(&bench, &user, "sole", json!({})).await);
    }
    assert_eq!(act(&bench, &user, &held, Act::Pause).await.unwrap(), Some(Governed::Asked));
    GATE_OF_SOLE.add_permits(1);
    until_state(&bench, &user, &held, State::Paused).await;
    GATE_OF_SOLE.add_permits(others.len());
    for id in &others {
        assert_eq!(bench.finished(&user, id).await.run.state, State::Succeeded);
    }
    bench.advance(30 * SECOND);
    let ended = tokio::time::timeout(10 * SECOND, bench.finished(&user, &held)).await;
    assert_eq!(ended.map(|record| record.run.state).ok(), Some(State::TimedOut));
}

static CLOCK_OF_LATE: OnceLock<Env> = OnceLock::new();

/// Is done when its time is over, and nobody has told it.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, timeout = "30s", retry(attempts = 2))]
struct Late {
    fails: bool,
}

#[abilities]
impl Late {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        CLOCK_OF_LATE.get().unwrap().advance(30 * SECOND);
        if self.fails { Err(fail("too late")) } else { DONE }
    }
}

#[tokio::test]
async fn a_run_that_is_done_after_its_deadline_is_timed_out() {
    let env = Env::manual(Timestamp::from_millis(1_767_225_600_000), 1);
    assert!(CLOCK_OF_LATE.set(env.clone()).is_ok());
    let config = Config { disk_free_min: 0, ..Config::default() };
    let bench = Bench::inline(|types| _ = types.walker::<Late>(), config, env).await.unwrap();
    let user = bench.register().await;
    for fails in [false, true] {
        let id = submit(&bench, &user, "late", json!({ "fails": fails })).await;
        let run = bench.finished(&user, &id).await.run;
        assert_eq!((run.state, run.retries), (State::TimedOut, 0), "fails: {fails}");
    }
    assert_eq!(bench.count::<Place>(&user).await, 0);
}

/// Its first attempt hangs in a visit.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, visit_timeout = "5s", retry(attempts = 2, delay = "0s", after_timeout))]
struct HangsOnce {}

#[abilities]
impl HangsOnce {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        let record = cx.record(&cx.walker_id().unwrap()).await?.unwrap();
        if record.run.retries == 0 {
            cx.progress(json!("begun"));
            std::future::pending::<()>().await;
        }
        DONE
    }
}

/// Has half a minute, and lets go of it.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, timeout = "30s", checkpoint = "visits(1)")]
struct Hurried {
    way: String,
}

#[abilities]
impl Hurried {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.progress(json!("begun"));
        match self.way.as_str() {
            "sleep" => cx.sleep(60 * MINUTE).then("end"),
            "wait" => cx.wait_for("nobody").then("end"),
            _ => {
                GATE_OF_HURRY.acquire().await?.forget();
                cx.then("end")
            }
        }
    }
    #[step]
    async fn end(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

static GATE_OF_HURRY: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_what_nobody_holds() {
    let bench = Bench::new(|types| _ = types.walker::<Hurried>()).await;
    let user = bench.register().await;
    for way in ["sleep", "wait", "hold"] {
        let id = submit(&bench, &user, "hurried", json!({ "way": way })).await;
        if way == "hold" {
            until(&bench, &user, &id, begun).await;
            assert_eq!(act(&bench, &user, &id, Act::Pause).await.unwrap(), Some(Governed::Asked));
            GATE_OF_HURRY.add_permits(1);
        }
        let state = if way == "hold" { State::Paused } else { State::Waiting };
        until_state(&bench, &user, &id, state).await;
        bench.advance(30 * SECOND);
        let ended = tokio::time::timeout(MINUTE, bench.finished(&user, &id)).await;
        assert_eq!(ended.unwrap().run.state, State::TimedOut, "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_took_too_long_is_tried_again_when_asked() {
    let bench = Bench::new(|types| _ = types.walker::<HangsOnce>()).await;
    let user = bench.register().await;
    let id = submit(&bench, &user, "hangs_once", json!({})).await;
    until(&bench, &user, &id, begun).await;
    bench.advance(5 * SECOND);
    let record = bench.finished(&user, &id).await;
    assert_eq!((record.run.state, record.run.attempt, record.run.retries), (State::Succeeded, 2, 1));
    assert_eq!(bench.count::<Place>(&user).await, 1);
}

/// A visit that never ends, of a walker that holds its thread.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, visit_timeout = "5s")]
struct Hog {}

#[abilities]
impl Hog {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.progress(json!("begun"));
        tokio::task::yield_now().await;
        GATE_OF_VISITS.pass();
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_never_yields_is_ended_without_it() {
    let bench = Bench::new(|types| _ = types.walker::<Hog>()).await;
    let user = bench.register().await;
    let id = submit(&bench, &user, "hog", json!({})).await;
    until(&bench, &user, &id, begun).await;
    let clock = async {
        loop {
            bench.advance(SECOND);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        record = bench.finished(&user, &id) => assert_eq!(record.run.state, State::TimedOut),
        () = clock => {}
    }
    GATE_OF_VISITS.open();
}

/// A plain walker that takes too long.
#[derive(Walker, Serialize, Deserialize)]
#[walker(timeout = "5s")]
struct Slow {
    yields: bool,
}

#[abilities]
impl Slow {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        if self.yields {
            std::future::pending::<()>().await;
        } else {
            GATE_OF_PLAIN.pass();
        }
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_walker_is_answered_for_at_its_deadline() {
    let bench = Bench::new(|types| _ = types.walker::<Slow>()).await;
    let user = bench.register().await;
    for yields in [true, false] {
        let Value::Object(fields) = json!({ "yields": yields }) else { unreachable!() };
        let walker = "slow".to_owned();
        let caller = user.clone();
        let spawn = Spawn {
            walker,
            node: None,
            caller,
            fields,
            files: Vec::new(),
            client_id: None,
            request_key: None,
        };
        let clock = async {
            loop {
                bench.advance(SECOND);
                tokio::task::yield_now().await;
            }
        };
        let ended = tokio::select! {
            ended = bench.runtime.spawn(spawn) => ended,
            () = clock => unreachable!(),
        };
        assert_eq!(ended.unwrap_err().code(), "timed-out");
    }
    GATE_OF_PLAIN.open();
    assert_eq!(bench.count::<Place>(&user).await, 0);
}

/// Waits for ever, in a walker that it spawned.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Outer {}

#[abilities]
impl Outer {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        cx.progress(json!("begun"));
        cx.spawn(Inner {}, &here).await?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize)]
struct Inner {}

#[abilities]
impl Inner {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        std::future::pending().await
    }
}

fn waits(types: &mut walkabout::registry::Registry) {
    types.walker::<Outer>().walker::<Inner>().walker::<Asks>().walker::<Flaky>();
}

/// Asks somebody, then says what the answer was.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Asks {
    #[serde(default)]
    patience_s: Option<u64>,
}

#[abilities]
impl Asks {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        cx.report("asked")?;
        let wait = cx.wait_for("approval");
        let wait = match self.patience_s {
            Some(patience) => wait.until(cx.now().plus(Duration::from_secs(patience))),
            None => wait,
        };
        wait.then("answered")
    }
    #[step]
    async fn answered(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let answer = cx.answer();
        cx.report(json!({ "answer": answer }))?;
        cx.sleep(MINUTE).then("later")
    }
    #[step]
    async fn later(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(cx.answer().is_none())?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_in_every_state_and_again() {
    let bench = Bench::new(waits).await;
    let user = bench.register().await;
    let under_way = submit(&bench, &user, "outer", json!({})).await;
    until(&bench, &user, &under_way, begun).await;
    let waiting = submit(&bench, &user, "asks", json!({})).await;
    until_state(&bench, &user, &waiting, State::Waiting).await;
    let retrying = submit(&bench, &user, "flaky", json!({ "ways": ["fail"] })).await;
    until_state(&bench, &user, &retrying, State::Waiting).await;
    let paused = submit(&bench, &user, "asks", json!({})).await;
    until_state(&bench, &user, &paused, State::Waiting).await;
    assert_eq!(act(&bench, &user, &paused, Act::Pause).await.unwrap(), Some(Governed::Done));
    for (id, first) in [
        (&under_way, Governed::Asked),
        (&waiting, Governed::Done),
        (&retrying, Governed::Done),
        (&paused, Governed::Done),
    ] {
        assert_eq!(act(&bench, &user, id, cancel()).await.unwrap(), Some(first));
        let record = bench.finished(&user, id).await;
        assert_eq!((record.run.state, record.schedule.http_status), (State::Cancelled, Some(409)));
        assert_eq!(act(&bench, &user, id, cancel()).await.unwrap(), Some(Governed::Already));
        let refused = act(&bench, &user, id, Act::Pause).await.unwrap_err();
        assert_eq!(refused.code(), "run-state");
    }
    // What stood at a checkpoint stays, what did not is gone.
    assert_eq!(bench.count::<Place>(&user).await, 2);
    let stranger = bench.register().await;
    assert_eq!(act(&bench, &stranger, &waiting, cancel()).await.unwrap(), None, "it is nobody else's");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_cancelled_by_a_filter_after_a_look() {
    let bench = Bench::new(waits).await;
    let user = bench.register().await;
    let mut ids = Vec::new();
    for walker in ["asks", "asks", "flaky"] {
        let id = submit(&bench, &user, walker, json!({ "ways": ["fail"] })).await;
        until_state(&bench, &user, &id, State::Waiting).await;
        ids.push(id);
    }
    let other = bench.register().await;
    let others = submit(&bench, &other, "asks", json!({})).await;
    until_state(&bench, &other, &others, State::Waiting).await;
    let filter = RunFilter { name: Some("asks".parse().unwrap()), ..RunFilter::default() };
    let on = async |is_dry_run| {
        let many =
            bench.runtime.act_on_many(&user, filter.clone(), &cancel(), is_dry_run, None).await.unwrap();
        many.runs
    };
    assert_eq!(on(true).await, [(ids[1].clone(), None), (ids[0].clone(), None)]);
    until_state(&bench, &user, &ids[0], State::Waiting).await;
    let done = Some(Governed::Done);
    assert_eq!(on(false).await, [(ids[1].clone(), done), (ids[0].clone(), done)]);
    assert_eq!(on(false).await, []);
    until_state(&bench, &user, &ids[2], State::Waiting).await;
    until_state(&bench, &other, &others, State::Waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walker_waits_for_an_answer_and_sleeps() {
    let bench = Bench::new(waits).await;
    let user = bench.register().await;
    let id = submit(&bench, &user, "asks", json!({})).await;
    let record = until_state(&bench, &user, &id, State::Waiting).await;
    assert_eq!(record.run.waits_for.as_deref(), Some("approval"));
    assert_eq!(bench.count::<Place>(&user).await, 1, "what came before the wait is committed");
    let answer = |name: &str| Act::Answer { name: name.to_owned(), value: json!({ "yes": true }) };
    let refused = act(&bench, &user, &id, answer("other")).await.unwrap_err();
    assert!(matches!(refused, Error::RunState { state: State::Waiting, .. }));
    assert_eq!(act(&bench, &user, &id, answer("approval")).await.unwrap(), Some(Governed::Done));
    until(&bench, &user, &id, |record| {
        record.run.state == State::Waiting && record.run.next_attempt_at.is_some()
    })
    .await;
    bench.advance(MINUTE);
    let record = bench.finished(&user, &id).await;
    assert_eq!(record.schedule.reports, [json!("asked"), json!({ "answer": { "yes": true } }), json!(true)]);
    assert_eq!((record.run.attempt, record.run.lost), (1, 0));
    let impatient = submit(&bench, &user, "asks", json!({ "patience_s": 5 })).await;
    let (record, waits) = over_time(&bench, &user, &impatient).await;
    assert_eq!((record.schedule.reports[1].clone(), waits), (json!({ "answer": null }), vec![5, 60]));
}

static STEPS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

/// Visits all places, one for each permit.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, checkpoint = "visits(2)")]
struct Rounds {
    #[serde(default)]
    seen: u64,
}

#[abilities]
impl Rounds {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn place(&mut self, here: Here<Place>, cx: &mut Context) -> Outcome {
        self.seen += 1;
        cx.progress(json!(self.seen));
        STEPS.acquire().await?.forget();
        here.edit().visits += 1;
        DONE
    }
}

async fn places(bench: &Bench, caller: &Caller, count: usize) {
    bench
        .graph(caller, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                for _ in 0..count {
                    cx.attach(&root, Place::default())?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
}

async fn visited(bench: &Bench, caller: &Caller) -> Vec<u64> {
    bench
        .graph(caller, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let places = cx.list(root.out().node::<Place>()).await?;
                Ok(places.iter().map(|place| place.read().visits).collect())
            })
        })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_walker_stands_where_it_was() {
    let bench = Bench::new(|types| _ = types.walker::<Rounds>()).await;
    let user = bench.register().await;
    places(&bench, &user, 7).await;
    let id = submit(&bench, &user, "rounds", json!({})).await;
    STEPS.add_permits(3);
    until(&bench, &user, &id, |record| record.run.progress == json!(4)).await;
    assert_eq!(visited(&bench, &user).await, [1, 1, 1, 0, 0, 0, 0], "the root and three places");
    assert_eq!(act(&bench, &user, &id, Act::Pause).await.unwrap(), Some(Governed::Asked));
    STEPS.add_permits(1);
    let record = until_state(&bench, &user, &id, State::Paused).await;
    assert_eq!((record.context["seen"].clone(), record.run.attempt), (json!(4), 1));
    assert_eq!(visited(&bench, &user).await, [1, 1, 1, 1, 0, 0, 0]);
    assert_eq!(act(&bench, &user, &id, Act::Resume).await.unwrap(), Some(Governed::Done));
    STEPS.add_permits(3);
    let record = bench.finished(&user, &id).await;
    assert_eq!((record.context["seen"].clone(), record.run.attempt), (json!(7), 1));
    assert_eq!(visited(&bench, &user).await, [1; 7]);
    let told = events(&bench, &user, &id).await;
    let checkpoints = told.iter().filter(|event| **event == EventKind::Checkpoint).count();
    assert_eq!(checkpoints, 3, "{told:?}");
    assert!(told.contains(&EventKind::Paused) && told.contains(&EventKind::Resumed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walker_that_is_all_or_nothing_goes_back_to_its_start_when_it_is_held() {
    let bench = Bench::new(waits).await;
    let user = bench.register().await;
    let id = submit(&bench, &user, "outer", json!({})).await;
    until(&bench, &user, &id, begun).await;
    assert_eq!(act(&bench, &user, &id, Act::Pause).await.unwrap(), Some(Governed::Asked));
    assert_eq!(act(&bench, &user, &id, Act::Pause).await.unwrap(), Some(Governed::Already));
    bench.advance(10 * SECOND);
    until_state(&bench, &user, &id, State::Paused).await;
    assert_eq!(bench.count::<Place>(&user).await, 0);
    act(&bench, &user, &id, Act::Resume).await.unwrap();
    until_state(&bench, &user, &id, State::Running).await;
    act(&bench, &user, &id, cancel()).await.unwrap();
    assert_eq!(bench.finished(&user, &id).await.run.state, State::Cancelled);
}

/// Visits all places, and has the clock moved by a minute at each.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, checkpoint = "every(2m)")]
struct Hours {
    #[serde(default)]
    seen: u64,
}

#[abilities]
impl Hours {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn place(&mut self, _here: Here<Place>, cx: &mut Context) -> Outcome {
        self.seen += 1;
        cx.progress(json!(self.seen));
        HOURS.acquire().await?.forget();
        DONE
    }
}

static HOURS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_made_by_the_clock() {
    let bench = Bench::new(|types| _ = types.walker::<Hours>()).await;
    let user = bench.register().await;
    places(&bench, &user, 6).await;
    let id = submit(&bench, &user, "hours", json!({})).await;
    for seen in 1..=6 {
        until(&bench, &user, &id, |record| record.run.progress == json!(seen)).await;
        bench.advance(MINUTE);
        HOURS.add_permits(1);
    }
    bench.finished(&user, &id).await;
    let told = events(&bench, &user, &id).await;
    assert_eq!(told.iter().filter(|event| **event == EventKind::Checkpoint).count(), 3);
}

/// Counts its own calls in the graph.
#[derive(Walker, Serialize, Deserialize)]
struct Plain {
    n: u64,
}

#[abilities]
impl Plain {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Place::default())?;
        cx.status(201)?;
        cx.report(self.n)?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_the_same_name_is_run_once() {
    let bench = Bench::new(|types| _ = types.walker::<Plain>().walker::<Flaky>()).await;
    let bench = Arc::new(bench);
    let user = bench.register().await;
    let request = |walker: &str, fields: Value, caller: &Caller| {
        let Value::Object(fields) = fields else { unreachable!() };
        let (bench, caller, walker) = (Arc::clone(&bench), caller.clone(), walker.to_owned());
        let request_key = Some("mine".to_owned());
        async move {
            bench
                .runtime
                .spawn(Spawn {
                    walker,
                    node: None,
                    caller,
                    fields,
                    files: Vec::new(),
                    client_id: None,
                    request_key,
                })
                .await
        }
    };
    let same: Vec<_> = (0..50).map(|_| tokio::spawn(request("plain", json!({ "n": 7 }), &user))).collect();
    let mut repeated = 0;
    for one in same {
        let Spawned::Done { status, reports, repeated: again, .. } = one.await.unwrap().unwrap() else {
            panic!()
        };
        assert_eq!((status, reports), (201, vec![json!(7)]));
        repeated += u32::from(again);
    }
    assert_eq!((repeated, bench.count::<Place>(&user).await), (49, 1));
    let other = request("plain", json!({ "n": 8 }), &user).await.unwrap_err();
    assert_eq!(other.code(), "key-reused");
    let Spawned::Accepted { id, .. } = request("flaky", json!({ "ways": [] }), &user).await.unwrap() else {
        panic!("another route")
    };
    let again = request("flaky", json!({ "ways": [] }), &user).await.unwrap();
    let Spawned::Accepted { id: known, run_token: None, repeated: true } = again else { panic!("{again:?}") };
    assert_eq!(known, id);
    let stranger = bench.register().await;
    request("plain", json!({ "n": 8 }), &stranger).await.unwrap();
    assert_eq!(bench.count::<Place>(&stranger).await, 1);
    bench.advance(24 * 60 * MINUTE);
    let late = request("plain", json!({ "n": 8 }), &user).await.unwrap();
    assert!(matches!(late, Spawned::Done { repeated: false, .. }), "it is forgotten after a day");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_is_retried_as_a_new_one() {
    let bench = Bench::new(waits).await;
    let user = bench.register().await;
    let id = submit(&bench, &user, "asks", json!({ "patience_s": 9 })).await;
    until_state(&bench, &user, &id, State::Waiting).await;
    let by = Governor { caller: &user, run_token: None };
    assert_eq!(bench.runtime.retry(by, &id).await.unwrap_err().code(), "run-state");
    act(&bench, &user, &id, cancel()).await.unwrap();
    let (again, _) = bench.runtime.retry(by, &id).await.unwrap().unwrap();
    let record = until_state(&bench, &user, &again, State::Waiting).await;
    assert_eq!((record.run.retry_of, record.context["patience_s"].clone()), (Some(id), json!(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_has_no_more_rights_than_who_asks_for_it() {
    let bench = Bench::new(waits).await;
    let user = bench.register().await;
    let admin = Caller { admin: true, ..user.clone() };
    let id = submit(&bench, &admin, "asks", json!({})).await;
    act(&bench, &user, &id, cancel()).await.unwrap();
    bench.finished(&user, &id).await;
    for (by, keeps) in [(&admin, true), (&user, false)] {
        let by = Governor { caller: by, run_token: None };
        let (again, _) = bench.runtime.retry(by, &id).await.unwrap().unwrap();
        let record = bench.runtime.record(&user, &again).await.unwrap().unwrap();
        assert_eq!(record.run.admin, keeps);
    }
}

/// Anybody may call it.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, public)]
struct Open {}

#[abilities]
impl Open {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.wait_for("x").then("end")
    }
    #[step]
    async fn end(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_submitted_anonymously_proves_it_by_the_token() {
    let bench = Bench::new(|types| _ = types.walker::<Open>()).await;
    let user = bench.register().await;
    let caller = Caller::public();
    let (walker, fields) = ("open".to_owned(), serde_json::Map::new());
    let spawn =
        Spawn { walker, node: None, caller, fields, files: Vec::new(), client_id: None, request_key: None };
    let Spawned::Accepted { id, run_token: Some(token), .. } = bench.runtime.spawn(spawn).await.unwrap()
    else {
        panic!("it has a token")
    };
    let public = Caller::public();
    until_state(&bench, &public, &id, State::Waiting).await;
    for caller in [&public, &user] {
        for wrong in [None, Some("x"), Some("00000000000000000000000000000000")] {
            let by = Governor { caller, run_token: wrong };
            assert_eq!(bench.runtime.act(by, &id, cancel()).await.unwrap_err().code(), "not-allowed");
        }
    }
    let by = Governor { caller: &public, run_token: Some(&token) };
    assert_eq!(bench.runtime.act(by, &id, cancel()).await.unwrap(), Some(Governed::Done));
    assert_eq!(bench.finished(&public, &id).await.run.state, State::Cancelled);
}
