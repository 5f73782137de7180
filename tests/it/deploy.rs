//! New code over stored runs.

use std::{path::Path, time::Duration};

use walkabout::{
    Walkabout,
    config::Config,
    env::Env,
    prelude::*,
    registry::Registry,
    runtime::{Caller, RunFilter, Runtime, Spawn, Spawned},
    schema::{State, Timestamp, WalkerId, wire::Record},
    store::{Limits, sim::Disk},
    testing::Bench,
};

/// A generation of an application: the same names, other code.
mod first {
    use super::*;

    /// Notes every step in the graph.
    #[derive(Node, Serialize, Deserialize)]
    pub struct Note {
        pub text: String,
    }

    /// Waits half way, with a field that a later version does not know and one that is renamed.
    #[derive(Walker, Serialize, Deserialize)]
    #[walker(async)]
    pub struct Migrant {
        pub label: String,
        #[serde(default)]
        pub dropped: u64,
    }

    #[abilities]
    impl Migrant {
        #[entry]
        async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            self.dropped = 7;
            cx.attach(&here, Note { text: "first".to_owned() })?;
            cx.wait_for("deploy").then("end")
        }
        #[step]
        async fn end(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
            DONE
        }
    }
}

/// Fields renamed, dropped and added; goes on where the first version stood.
mod second {
    use super::*;

    #[derive(Walker, Serialize, Deserialize)]
    #[walker(async)]
    pub struct Migrant {
        #[serde(alias = "label")]
        pub title: String,
        #[serde(default)]
        pub added: Option<u64>,
    }

    #[abilities]
    impl Migrant {
        #[entry]
        async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            cx.attach(&here, first::Note { text: "again".to_owned() })?;
            cx.wait_for("deploy").then("end")
        }
        #[step]
        async fn end(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            cx.attach(&here, first::Note { text: self.title.clone() })?;
            cx.report(self.added)?;
            DONE
        }
    }
}

/// A field that is needed and was never stored.
mod broken {
    use super::*;

    #[derive(Walker, Serialize, Deserialize)]
    #[walker(async)]
    pub struct Migrant {
        pub needed: u64,
    }

    #[abilities]
    impl Migrant {
        #[entry]
        async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
            DONE
        }
    }
}

/// The ability that comes next is gone.
mod stepless {
    use super::*;

    #[derive(Walker, Serialize, Deserialize)]
    #[walker(async)]
    pub struct Migrant {
        pub label: String,
    }

    #[abilities]
    impl Migrant {
        #[entry]
        async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
            DONE
        }
    }
}

/// Another version of the code, which begins again.
mod third {
    use super::*;

    #[derive(Walker, Serialize, Deserialize)]
    #[walker(async, version = 3)]
    pub struct Migrant {
        pub label: String,
        #[serde(default)]
        pub dropped: u64,
    }

    #[abilities]
    impl Migrant {
        #[entry]
        async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            let text = format!("anew {} {:?}", self.dropped, cx.answer());
            cx.attach(&here, first::Note { text })?;
            DONE
        }
    }
}

/// Another version of the code, which goes on.
mod fourth {
    use super::*;

    #[derive(Walker, Serialize, Deserialize)]
    #[walker(async, version = 4, resumes = "1, 2, 3")]
    pub struct Migrant {
        pub label: String,
    }

    #[abilities]
    impl Migrant {
        #[entry]
        async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            cx.attach(&here, first::Note { text: "again".to_owned() })?;
            DONE
        }
        #[step]
        async fn end(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            cx.attach(&here, first::Note { text: "went on".to_owned() })?;
            DONE
        }
    }
}

/// Reports the notes.
#[derive(Walker, Serialize, Deserialize)]
struct Notes {}

#[abilities]
impl Notes {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        for note in cx.list(here.out().node::<first::Note>()).await? {
            cx.report(note.read().text.clone())?;
        }
        DONE
    }
}

/// A plain walker of the first program.
#[derive(Walker, Serialize, Deserialize)]
struct Jot {}

#[abilities]
impl Jot {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, first::Note { text: "old".to_owned() })?;
        DONE
    }
}

/// The type of those notes under another name, in the next program.
#[derive(Node, Serialize, Deserialize)]
#[node(alias = "Note", abilities)]
struct Memo {
    text: String,
}

#[abilities(node)]
impl Memo {
    #[entry]
    async fn any_in(here: Here<Self>, _by: Visitor<'_>, cx: &mut Context) -> Outcome {
        cx.report(format!("any {}", here.read().text))?;
        DONE
    }
    #[entry]
    async fn reader_in(here: Here<Self>, _by: &mut Reader, cx: &mut Context) -> Outcome {
        cx.report(format!("reader {}", here.read().text))?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize)]
struct Reader {}

#[abilities]
impl Reader {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn read(&mut self, here: Here<Memo>, cx: &mut Context) -> Outcome {
        cx.report(format!("read {}", here.read().text))?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_type_keeps_its_abilities() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = start::<Jot>(folder.path()).await;
    spawn(&runtime, "jot", json!({})).await;
    runtime.stop().await.unwrap();
    drop(runtime);
    let runtime = start_only(folder.path(), |types| _ = types.walker::<Reader>()).await;
    let Spawned::Done { reports, .. } = spawn(&runtime, "reader", json!({})).await else {
        panic!("it is plain")
    };
    assert_eq!(json!(reports), json!(["read old", "any old", "reader old"]));
    runtime.stop().await.unwrap();
}

/// Two types cannot be that of the same elements.
#[tokio::test]
async fn a_name_is_of_one_type() {
    let both = Bench::build(
        |types| _ = types.node::<first::Note>().walker::<Reader>(),
        Config::default(),
        Env::system(),
    );
    let Err(error) = both.await else { panic!("it was built") };
    assert_eq!(error.to_string(), "Note is a node type and an alias of node type Memo");
}

const CALLER: Caller = Caller { root: walkabout::schema::SYSTEM_ROOT, admin: false, scope: None };

async fn start<W: walkabout::walker::Walker>(folder: &Path) -> Runtime {
    start_with(folder, |types| _ = types.walker::<W>()).await
}

async fn start_with(folder: &Path, walkers: impl Fn(&mut walkabout::registry::Registry)) -> Runtime {
    start_only(folder, |types| {
        types.walker::<Notes>();
        walkers(types);
    })
    .await
}

async fn start_only(folder: &Path, walkers: impl Fn(&mut walkabout::registry::Registry)) -> Runtime {
    let config = Config { data: folder.to_owned(), disk_free_min: 0, ..Config::default() };
    let app = || Walkabout::new().config(config.clone()).register(|types| walkers(types));
    loop {
        match app().start().await {
            Ok(runtime) => return runtime,
            // The engine of the program before tidies up until it lets go of the lock.
            Err(error) if error.to_string().contains("another process has it open") => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn spawn(runtime: &Runtime, walker: &str, fields: Value) -> Spawned {
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    let (walker, caller) = (walker.to_owned(), CALLER);
    let spawn =
        Spawn { walker, node: None, caller, fields, files: Vec::new(), client_id: None, request_key: None };
    runtime.spawn(spawn).await.unwrap()
}

async fn until(runtime: &Runtime, id: &WalkerId, state: State) -> Record {
    let mut frames = runtime.follow(&CALLER, id).await.unwrap().unwrap();
    loop {
        let record = runtime.record(&CALLER, id).await.unwrap().unwrap();
        if record.run.state == state {
            return record;
        }
        assert!(!record.run.state.is_final(), "{record:?}");
        drop(frames.recv().await);
    }
}

/// A run of the first version that waits, in a store that is closed by now.
async fn waiting(folder: &Path) -> WalkerId {
    let runtime = start::<first::Migrant>(folder).await;
    let Spawned::Accepted { id, .. } = spawn(&runtime, "migrant", json!({ "label": "moved" })).await else {
        panic!("it is async")
    };
    let record = until(&runtime, &id, State::Waiting).await;
    assert_eq!(record.context["dropped"], 7);
    runtime.stop().await.unwrap();
    id
}

async fn answer(runtime: &Runtime, id: &WalkerId) {
    use walkabout::{govern::Governor, runtime::Act};
    let act = Act::Answer { name: "deploy".to_owned(), value: json!(1) };
    runtime.act(Governor { caller: &CALLER, run_token: None }, id, act).await.unwrap().unwrap();
}

async fn notes(runtime: &Runtime) -> Value {
    match spawn(runtime, "notes", json!({})).await {
        Spawned::Done { reports, .. } => Value::Array(reports),
        Spawned::Accepted { .. } => panic!("it is plain"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_may_be_added_dropped_and_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let id = waiting(folder.path()).await;
    let runtime = start::<second::Migrant>(folder.path()).await;
    answer(&runtime, &id).await;
    let record = until(&runtime, &id, State::Succeeded).await;
    assert_eq!(
        (record.context["title"].clone(), record.schedule.reports),
        (json!("moved"), vec![json!(null)])
    );
    assert_eq!(notes(&runtime).await, json!(["first", "moved"]), "it went on where it was");
    runtime.stop().await.unwrap();
}

async fn parked<W: walkabout::walker::Walker>(folder: &Path, id: &WalkerId, why: &str, wakes: bool) {
    let runtime = start::<W>(folder).await;
    if wakes {
        answer(&runtime, id).await;
    }
    // The program before may have parked it too, for another reason.
    let mut frames = runtime.follow(&CALLER, id).await.unwrap().unwrap();
    loop {
        let record = runtime.record(&CALLER, id).await.unwrap().unwrap();
        let error = record.schedule.error.unwrap_or_default();
        if record.run.state == State::Incompatible && error.contains(why) {
            break;
        }
        assert!(!record.run.state.is_final(), "{error}");
        drop(frames.recv().await);
    }
    let filter = RunFilter { state: Some(State::Incompatible), ..RunFilter::default() };
    let listed = runtime.records(&CALLER, filter, None, 10).await.unwrap().walkers;
    assert_eq!(listed.iter().map(|record| &record.id).collect::<Vec<_>>(), [id]);
    runtime.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_parked_by_every_program_that_cannot_run_it_and_taken_up_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let id = waiting(folder.path()).await;
    parked::<broken::Migrant>(folder.path(), &id, "do not fit", true).await;
    parked::<Notes>(folder.path(), &id, "not registered", false).await;
    parked::<stepless::Migrant>(folder.path(), &id, "no ability", false).await;
    let runtime = start::<second::Migrant>(folder.path()).await;
    let record = until(&runtime, &id, State::Succeeded).await;
    assert_eq!((record.schedule.error, record.run.attempt, record.run.lost), (None, 1, 0));
    assert_eq!(notes(&runtime).await, json!(["first", "moved"]));
    runtime.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_another_version_is_left_unless_the_walker_takes_it_up() {
    for (goes_on, wanted) in [(false, json!(["first", "anew 0 None"])), (true, json!(["first", "went on"]))] {
        let folder = tempfile::tempdir().unwrap();
        let id = waiting(folder.path()).await;
        let runtime = match goes_on {
            true => start::<fourth::Migrant>(folder.path()).await,
            false => start::<third::Migrant>(folder.path()).await,
        };
        answer(&runtime, &id).await;
        until(&runtime, &id, State::Succeeded).await;
        assert_eq!(notes(&runtime).await, wanted);
        runtime.stop().await.unwrap();
    }
}

/// Sleeps over and over, with things that wait, are ignored and reported.
mod sleeper {
    use super::*;

    macro_rules! generation {
        ($name:ident, $version:literal) => {
            pub mod $name {
                use super::*;

                #[derive(Walker, Serialize, Deserialize)]
                #[walker(async, version = $version)]
                pub struct Sleeper {}

                #[abilities]
                impl Sleeper {
                    #[entry]
                    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
                        let note = cx.attach(&here, first::Note { text: String::new() })?;
                        for n in 0..10 {
                            cx.visit_one(&note)?;
                            cx.report(n)?;
                        }
                        cx.ignore(&note);
                        cx.sleep(Duration::from_secs(3600)).then("start_again")
                    }
                    #[step]
                    async fn start_again(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
                        cx.sleep(Duration::from_secs(3600)).then("start_again")
                    }
                }
            }
        };
    }
    generation!(one, 1);
    generation!(two, 2);
}

/// Opens a disk with one generation, and waits until a run sleeps longer than to a time. Gives until when it sleeps.
async fn sleeps(
    disk: &Disk,
    register: impl FnOnce(&mut Registry),
    now: Timestamp,
    id: Option<WalkerId>,
) -> (WalkerId, Timestamp) {
    let config = Config { inline_bytes_max: 0, disk_free_min: 0, ..Config::default() };
    let store = disk.open(Limits { disk_free_min: 0, ..Limits::default() }).unwrap();
    let bench = Bench::inline_on(store, register, config, Env::manual(now, 5)).await.unwrap();
    let user = bench.user();
    let id = match id {
        Some(id) => id,
        None => {
            let spawn = Spawn {
                walker: "sleeper".to_owned(),
                node: None,
                caller: user.clone(),
                fields: serde_json::Map::new(),
                files: Vec::new(),
                client_id: None,
                request_key: None,
            };
            let Spawned::Accepted { id, .. } = bench.runtime.spawn(spawn).await.unwrap() else {
                unreachable!()
            };
            id
        }
    };
    loop {
        let record = bench.runtime.record(&user, &id).await.unwrap().unwrap();
        assert!(!record.run.state.is_final(), "{record:?}");
        if let Some(until) = record.run.next_attempt_at.filter(|until| *until > now) {
            bench.runtime.stop().await.unwrap();
            return (id, until);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_run_that_begins_again_leaves_no_segments_behind() {
    let disk = Disk::new(1);
    let start = Timestamp::from_millis(1_767_225_600_000);
    let (id, until) = sleeps(
        &disk,
        |types| {
            types.walker::<sleeper::one::Sleeper>();
        },
        start,
        None,
    )
    .await;
    let entries = disk.check().unwrap();
    let second = |types: &mut Registry| {
        types.walker::<sleeper::two::Sleeper>();
    };
    let (_, later) = sleeps(&disk, second, until, Some(id)).await;
    assert!(later > until);
    // Twelve events (resumed, ten reports, waiting), and the two links of another note; as many segments as before.
    let more = disk.check().unwrap() - entries;
    assert_eq!(more, 14);
}
