//! Walkers that hold their threads, beside others.

use std::{
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use walkabout::{
    config::Config,
    env::Env,
    http,
    prelude::*,
    runtime::{Caller, Spawn, Spawned},
    schema::{Status, Timestamp},
    testing::Bench,
};

/// Opens once; who waits for it holds its thread.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn block(&self) {
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
    }
}

/// The gates of the tests, by number: a walker carries no more than data.
fn gate(number: usize) -> Arc<Gate> {
    static GATES: OnceLock<Mutex<Vec<Arc<Gate>>>> = OnceLock::new();
    let mut gates = GATES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    while gates.len() <= number {
        gates.push(Arc::default());
    }
    Arc::clone(&gates[number])
}

/// Blocks its thread until its gate opens.
#[derive(Walker, Serialize, Deserialize)]
struct PlainHog {
    gate: usize,
}

#[abilities]
impl PlainHog {
    #[entry]
    async fn hold(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        gate(self.gate).block();
        cx.report("free")?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct AsyncHog {
    gate: usize,
}

#[abilities]
impl AsyncHog {
    #[entry]
    async fn hold(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        gate(self.gate).block();
        cx.report("free")?;
        DONE
    }
}

/// Awaits a timer and a task of its own.
#[derive(Walker, Serialize, Deserialize)]
struct PlainGood {}

#[abilities]
impl PlainGood {
    #[entry]
    async fn wait(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(waited().await)?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct AsyncGood {}

#[abilities]
impl AsyncGood {
    #[entry]
    async fn wait(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(waited().await)?;
        DONE
    }
}

async fn waited() -> u64 {
    tokio::time::sleep(Duration::from_millis(2)).await;
    tokio::spawn(async { 7 }).await.unwrap()
}

/// Two threads of each kind.
async fn bench(hogged_threads_max: usize) -> Bench {
    let config = Config {
        async_threads: 2,
        sync_threads: 2,
        hog_after: Duration::from_millis(40),
        hogged_threads_max,
        disk_free_min: 0,
        ..Config::default()
    };
    let register = |types: &mut walkabout::registry::Registry| {
        types.walker::<PlainHog>().walker::<AsyncHog>().walker::<PlainGood>().walker::<AsyncGood>();
    };
    Bench::build(register, config, Env::manual(Timestamp::from_millis(1_767_225_600_000), 1)).await.unwrap()
}

fn spawn(walker: &str, caller: &Caller, fields: Value) -> Spawn {
    let Value::Object(fields) = fields else { panic!("no fields") };
    Spawn {
        walker: walker.to_owned(),
        node: None,
        caller: caller.clone(),
        fields,
        files: Vec::new(),
        client_id: None,
        request_key: None,
    }
}

/// Waits until a number of threads is hogged: what the supervisor finds can only be looked at.
async fn hogged(bench: &Bench, number: usize) {
    let reached = async {
        while bench.runtime.hogged() != number {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("as many threads are hogged");
}

async fn readyz(bench: &Bench) -> (u16, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving =
        tokio::spawn(http::serve(listener, bench.runtime.clone(), async move { drop(stopped.await) }));
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let answer = client.get(url).send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    drop((client, stop));
    serving.await.unwrap().unwrap();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn others_go_on_beside_plain_walkers_that_never_yield() {
    let bench = bench(8).await;
    let user = bench.register().await;
    let hogs: Vec<_> = (0..4)
        .map(|_| {
            let (runtime, spawn) = (bench.runtime.clone(), spawn("plain_hog", &user, json!({ "gate": 0 })));
            tokio::spawn(async move { runtime.spawn(spawn).await })
        })
        .collect();
    for _ in 0..100 {
        let ran = bench.run(&user, PlainGood {}).await;
        assert_eq!((ran.error, ran.reports), (None, vec![json!(7)]));
    }
    hogged(&bench, 4).await;
    gate(0).open();
    for hog in hogs {
        let ended = hog.await.unwrap().unwrap();
        assert_eq!(reports(ended), [json!("free")]);
    }
    hogged(&bench, 0).await;
    assert_eq!(bench.run(&user, PlainGood {}).await.reports, [json!(7)]);
}

/// What a plain walker reported that ended well.
fn reports(spawned: Spawned) -> Vec<Value> {
    let Spawned::Done { status: 200, reports, response: None, repeated: false } = spawned else {
        panic!("{spawned:?}")
    };
    reports
}

#[tokio::test(flavor = "multi_thread")]
async fn others_go_on_beside_async_walkers_that_never_yield() {
    let bench = bench(8).await;
    let user = bench.register().await;
    let mut ids = Vec::new();
    for (walker, number) in [("async_good", 50), ("async_hog", 4), ("async_good", 50)] {
        for _ in 0..number {
            let fields = if walker == "async_hog" { json!({ "gate": 1 }) } else { json!({}) };
            match bench.runtime.spawn(spawn(walker, &user, fields)).await.unwrap() {
                Spawned::Accepted { id, .. } => ids.push((walker, id)),
                Spawned::Done { .. } => panic!("not async"),
            }
        }
    }
    for (_, id) in ids.iter().filter(|(walker, _)| *walker == "async_good") {
        assert_eq!(bench.finished(&user, id).await.schedule.reports, [json!(7)]);
    }
    hogged(&bench, 4).await;
    gate(1).open();
    for (_, id) in &ids {
        assert_eq!(bench.finished(&user, id).await.schedule.status, Status::Completed);
    }
    hogged(&bench, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_not_ready_while_no_more_hogs_can_be_made_up_for() {
    let bench = bench(2).await;
    let user = bench.register().await;
    assert_eq!(readyz(&bench).await, (200, String::new()));
    let mut hogs = Vec::new();
    for number in 1..=4 {
        let (runtime, spawn) = (bench.runtime.clone(), spawn("plain_hog", &user, json!({ "gate": 2 })));
        hogs.push(tokio::spawn(async move { runtime.spawn(spawn).await }));
        hogged(&bench, number).await;
        let expected = if number < 2 { (200, "") } else { (503, "hogged") };
        assert_eq!(readyz(&bench).await, (expected.0, expected.1.to_owned()));
    }
    // Two of the four were replaced; of the other pool nothing is held.
    match bench.runtime.spawn(spawn("async_good", &user, json!({}))).await.unwrap() {
        Spawned::Accepted { id, .. } => {
            assert_eq!(bench.finished(&user, &id).await.schedule.reports, [json!(7)])
        }
        Spawned::Done { .. } => panic!("not async"),
    }
    let (runtime, good) = (bench.runtime.clone(), spawn("plain_good", &user, json!({})));
    let waiting = tokio::spawn(async move { runtime.spawn(good).await });
    gate(2).open();
    for hog in hogs {
        hog.await.unwrap().unwrap();
    }
    assert_eq!(reports(waiting.await.unwrap().unwrap()), [json!(7)]);
    hogged(&bench, 0).await;
    assert_eq!(readyz(&bench).await, (200, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_no_hog() {
    let bench = bench(8).await;
    let user = bench.register().await;
    let Spawned::Accepted { id, .. } =
        bench.runtime.spawn(spawn("async_hog", &user, json!({ "gate": 3 }))).await.unwrap()
    else {
        panic!("not async")
    };
    hogged(&bench, 1).await;
    let begun = Env::system().instant();
    bench.runtime.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    let record = bench.runtime.record(&user, &id).await.unwrap().unwrap();
    assert_eq!(record.schedule.status, Status::Pending, "it is due again at the next start");
    gate(3).open();
    hogged(&bench, 0).await;
}

#[tokio::test]
async fn an_inline_bench_needs_no_threads_for_its_walkers() {
    let register = |types: &mut walkabout::registry::Registry| {
        types.walker::<PlainGood>().walker::<AsyncGood>();
    };
    let start = Timestamp::from_millis(1_767_225_600_000);
    let bench = Bench::inline(register, Config::default(), Env::manual(start, 1)).await.unwrap();
    let user = bench.register().await;
    assert_eq!(bench.run(&user, PlainGood {}).await.reports, [json!(7)]);
    assert_eq!(bench.run(&user, AsyncGood {}).await.reports, [json!(7)]);
    bench.runtime.stop().await.unwrap();
}

/// Tells when it is dropped.
struct Token(tokio::sync::mpsc::Sender<()>);

static HELD: Mutex<Vec<Token>> = Mutex::new(Vec::new());

/// Takes a token, and never ends.
#[derive(Walker, Serialize, Deserialize)]
struct Endless {}

#[abilities]
impl Endless {
    #[entry]
    async fn wait(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        let token = HELD.lock().unwrap().pop().expect("a token is left");
        token.0.send(()).await?;
        std::future::pending::<()>().await;
        drop(token);
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_runtime_leaves_nothing_under_way() {
    let bench = Bench::new(|types| _ = types.walker::<Endless>()).await;
    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    HELD.lock().unwrap().push(Token(send));
    let (runtime, endless) = (bench.runtime.clone(), spawn("endless", &bench.user(), json!({})));
    let asking = tokio::spawn(async move { runtime.spawn(endless).await });
    assert_eq!(receive.recv().await, Some(()), "it is under way");
    asking.abort();
    drop(asking.await);
    drop(bench);
    assert_eq!(receive.recv().await, None, "what it held is dropped");
}
