//! Who may do what with which element, on every store.

use std::sync::Arc;

use tokio::sync::Notify;
use walkabout::{
    Error,
    config::Config,
    env::Env,
    govern::Governor,
    prelude::*,
    registry::Registry,
    runtime::{Caller, Spawn, Spawned},
    schema::{EdgeId, ElementId, ErrorCode, Kind, Level, Name, NodeId, ObjectId},
    store::{Act, Limits, Store, embedded, memory, mongodb},
    testing::Bench,
    walker::Asker,
};

use crate::database::database;

#[derive(Node, Serialize, Deserialize, Clone)]
struct Note {
    text: String,
}

/// What the rule of an element says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Says {
    /// Nothing: the permission blocks decide.
    Nothing,
    /// What these say.
    AsTheBlocks,
    This(Level),
    Panics,
}

impl Says {
    fn rule(self, asker: &Asker) -> Option<Level> {
        match self {
            Self::Nothing => None,
            Self::AsTheBlocks => Some(asker.level()),
            Self::This(level) => Some(level),
            Self::Panics => panic!("a rule panics, as it was told to"),
        }
    }
}

#[derive(Node, Serialize, Deserialize)]
#[node(access = |page, asker| page.says.rule(asker), alias = "Leaf")]
struct Page {
    says: Says,
}

#[derive(Edge, Serialize, Deserialize)]
#[edge(access = |bond, asker| bond.says.rule(asker))]
struct Bond {
    says: Says,
}

#[derive(Object, Serialize, Deserialize)]
#[object(access = Self::access_of)]
struct Paper {
    says: Says,
}

impl Paper {
    fn access_of(&self, asker: &Asker) -> Option<Level> {
        self.says.rule(asker)
    }
}

/// A run that its rule shows to others.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, access = |show, asker| show.says.rule(asker))]
struct Show {
    says: Says,
}

#[abilities]
impl Show {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

/// Tells how many pages it can see from where it is called.
#[derive(Walker, Serialize, Deserialize)]
#[walker(entry = "both")]
struct Look {}

#[abilities]
impl Look {
    #[entry]
    async fn start(&mut self, here: Here<Any>, cx: &mut Context) -> Outcome {
        let found = cx.list(here.out().node::<Page>()).await?.len();
        let counted = cx.count(here.out().node::<Page>()).await?;
        let visited = cx.visit(here.out().node::<Page>()).await?.added();
        let bonds = cx.count(here.out().edge::<Bond>().edges()).await?;
        cx.report(json!([found, counted, visited, bonds]))?;
        cx.disengage()
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Sleep {}

#[abilities]
impl Sleep {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn types(types: &mut Registry) {
    types.walker::<Sleep>().walker::<Show>().walker::<Look>().walker::<Climb>().walker::<Raise>();
    types.walker::<Stay>();
    types.node::<Page>().edge::<Bond>().object::<Paper>();
}

/// Tells what it may do with an element, before it acts as the system root and after, at once and when it was waited for.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Climb {
    element: ElementId,
}

#[abilities]
impl Climb {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let before = cx.get::<Any>(&self.element).await?.map(|seen| seen.level());
        cx.elevate();
        let after = cx.get::<Any>(&self.element).await?.map(|seen| seen.level());
        cx.report([before, after])?;
        cx.wait_for("go").then("go_on")
    }
    #[step]
    async fn go_on(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let seen = cx.get::<Any>(&self.element).await?;
        let level = seen.map(|seen| seen.level());
        let note = cx.attach(&here, Note { text: "by the system".to_owned() })?;
        let root = cx.root().await?;
        cx.report(json!([level, root.id(), note.id()]))?;
        DONE
    }
}

/// Makes its caller act as the system root.
#[derive(Walker, Serialize, Deserialize)]
#[walker(private)]
struct Raise {}

#[abilities]
impl Raise {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.elevate();
        DONE
    }
}

/// Is at a note when its owner takes that back, and tells what it reads there afterwards.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, entry = "node")]
struct Stay {
    steps: bool,
}

static ARRIVED: Notify = Notify::const_new();
static TAKEN_BACK: Notify = Notify::const_new();

#[abilities]
impl Stay {
    #[entry]
    async fn arrive(&mut self, _here: Here<Note>, cx: &mut Context) -> Outcome {
        ARRIVED.notify_one();
        TAKEN_BACK.notified().await;
        cx.checkpoint();
        if self.steps { cx.then("step") } else { DONE }
    }
    #[step]
    async fn step(&mut self, here: Here<Note>, cx: &mut Context) -> Outcome {
        cx.report(&here)?;
        DONE
    }
    #[exit]
    async fn leave(&mut self, here: Here<Any>, cx: &mut Context) -> Outcome {
        cx.report(&here)?;
        DONE
    }
}

/// A bench on each store that is there, with what must outlive it.
async fn benches(register: fn(&mut Registry)) -> Vec<(Arc<Bench>, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let limits = || Limits { disk_free_min: 0, ..Limits::default() };
    let mut stores: Vec<(Arc<dyn Store>, _)> = vec![(memory::open(limits()).unwrap(), None)];
    stores.push((embedded::open(folder.path(), limits()).unwrap(), Some(folder)));
    if let Some(uri) = database() {
        let options = mongodb::Options::of(&uri);
        let store = mongodb::open(&options, limits(), Env::system()).await.unwrap();
        stores.push((store, None));
    }
    let mut benches = Vec::new();
    for (store, folder) in stores {
        let config = Config { disk_free_min: 0, ..Config::default() };
        let env = Env::system();
        benches.push((Arc::new(Bench::inline_on(store, register, config, env).await.unwrap()), folder));
    }
    benches
}

fn spawn(walker: &str, caller: &Caller, node: Option<NodeId>) -> Spawn {
    Spawn {
        walker: walker.to_owned(),
        node,
        caller: caller.clone(),
        fields: serde_json::Map::new(),
        files: Vec::new(),
        client_id: None,
        request_key: None,
    }
}

async fn level(bench: &Bench, caller: &Caller, id: &ElementId) -> Option<Level> {
    let id = id.clone();
    bench
        .graph(caller, |cx| Box::pin(async move { Ok(cx.get::<Any>(&id).await?.map(|here| here.level())) }))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_kind_names_nothing() {
    for (bench, _folder) in benches(types).await {
        let user = bench.register().await;
        let Ok(Spawned::Accepted { id: run, .. }) = bench.runtime.spawn(spawn("sleep", &user, None)).await
        else {
            panic!("not async");
        };
        bench.finished(&user, &run).await;
        let note = bench
            .graph(&user, |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    Ok(cx.attach(&root, Note { text: "x".to_owned() })?.uuid())
                })
            })
            .await
            .unwrap();
        let name = Name::new("Note").unwrap();
        let wrong: [ElementId; 5] = [
            run.clone().into(),
            NodeId::new(run.name().clone(), run.uuid()).into(),
            ElementId::new(Kind::Walker, name.clone(), note),
            EdgeId::new(name.clone(), note).into(),
            ObjectId::new(name.clone(), note).into(),
        ];
        for id in &wrong {
            assert_eq!(level(&bench, &user, id).await, None, "{id}");
        }
        assert_eq!(level(&bench, &user, &NodeId::new(name, note).into()).await, Some(Level::Write));
    }
}

/// Hangs a page from a caller's root.
async fn page(bench: &Bench, caller: &Caller, says: Says) -> ElementId {
    let make = bench.graph(caller, move |cx| {
        Box::pin(async move {
            let root = cx.root().await?;
            Ok(cx.attach(&root, Page { says })?.id())
        })
    });
    make.await.unwrap()
}

/// Changes what a page says.
async fn turn(bench: &Bench, caller: &Caller, id: &ElementId, says: Says) -> Result<(), Failure> {
    let id = id.clone();
    let edit = bench.graph(caller, move |cx| {
        Box::pin(async move {
            let page = cx.get::<Page>(&id).await?.ok_or_else(|| fail("not seen"))?;
            page.edit().says = says;
            Ok(())
        })
    });
    edit.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_decides_by_its_fields() {
    for (bench, _folder) in benches(types).await {
        let (ann, bob) = (bench.register().await, bench.register().await);
        let id = page(&bench, &ann, Says::This(Level::NoAccess)).await;
        let node: NodeId = id.to_string().parse().unwrap();
        assert_eq!(level(&bench, &bob, &id).await, None);
        let refused = bench.runtime.spawn(spawn("look", &bob, Some(node.clone()))).await;
        assert!(matches!(refused, Err(Error::EntryForbidden(_))), "{refused:?}");
        for given in [Level::Read, Level::Connect, Level::Write] {
            turn(&bench, &ann, &id, Says::This(given)).await.unwrap();
            assert_eq!(level(&bench, &bob, &id).await, Some(given));
            let entered = bench.runtime.spawn(spawn("look", &bob, Some(node.clone()))).await;
            assert!(entered.is_ok(), "{entered:?}");
            let id = id.clone();
            let tried = bench.graph(&bob, move |cx| {
                Box::pin(async move {
                    let page = cx.get::<Page>(&id).await?.ok_or_else(|| fail("not seen"))?;
                    let own = cx.create(Note { text: String::new() })?;
                    let connected = cx.connect(&page, &own).is_ok();
                    let granted = cx.grant(&page, Level::NoAccess).is_ok();
                    let destroyed = cx.destroy(&page).is_ok();
                    Err::<(), _>(fail(format!("{connected} {granted} {destroyed}")))
                })
            });
            let may = |needed| given >= needed;
            let wanted = format!("{} {} {}", may(Level::Connect), may(Level::Write), may(Level::Write));
            assert_eq!(tried.await.unwrap_err().message(), Some(wanted.as_str()));
        }
        turn(&bench, &bob, &id, Says::This(Level::Read)).await.unwrap();
        let refused = turn(&bench, &bob, &id, Says::Nothing).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Forbidden);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_leave_out_what_a_rule_hides() {
    for (bench, _folder) in benches(types).await {
        let (ann, bob) = (bench.register().await, bench.register().await);
        let hub = bench
            .graph(&ann, |cx| {
                Box::pin(async move {
                    let hub = cx.create(Note { text: "hub".to_owned() })?;
                    cx.grant(&hub, Level::Read)?;
                    for says in [Says::This(Level::Read), Says::This(Level::NoAccess), Says::Nothing] {
                        let page = cx.create(Page { says })?;
                        cx.connect_with(&hub, &page, Bond { says })?;
                    }
                    Ok(hub.id())
                })
            })
            .await
            .unwrap();
        let node: NodeId = hub.to_string().parse().unwrap();
        for (caller, wanted) in [(&ann, [3; 4]), (&bob, [1; 4])] {
            let looked = bench.runtime.spawn(spawn("look", caller, Some(node.clone()))).await.unwrap();
            let Spawned::Done { reports, .. } = looked else { panic!("it is plain") };
            assert_eq!(reports, [json!(wanted)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_shows_a_run_to_others() {
    for (bench, _folder) in benches(types).await {
        let (ann, bob) = (bench.register().await, bench.register().await);
        for (says, is_shown) in [
            (json!({ "This": "READ" }), true),
            (json!("Nothing"), false),
            (json!({ "This": "NO_ACCESS" }), false),
            (json!("Panics"), false),
        ] {
            let mut spawn = spawn("show", &ann, None);
            spawn.fields.insert("says".to_owned(), says);
            let Ok(Spawned::Accepted { id, .. }) = bench.runtime.spawn(spawn).await else {
                panic!("not async")
            };
            bench.finished(&ann, &id).await;
            assert_eq!(bench.runtime.record(&bob, &id).await.unwrap().is_some(), is_shown);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_relies_on_what_a_rule_has_seen() {
    for (bench, _folder) in benches(types).await {
        let (ann, bob) = (bench.register().await, bench.register().await);
        let id = page(&bench, &ann, Says::This(Level::Connect)).await;
        let connect = async |meanwhile: Option<Says>| {
            let (at, other, owner) = (id.clone(), Arc::clone(&bench), ann.clone());
            let connect = bench.graph(&bob, move |cx| {
                Box::pin(async move {
                    let page = cx.get::<Page>(&at).await?.ok_or_else(|| fail("not seen"))?;
                    let own = cx.create(Note { text: String::new() })?;
                    cx.connect(&page, &own)?;
                    if let Some(says) = meanwhile {
                        turn(&other, &owner, &at, says).await?;
                    }
                    Ok(())
                })
            });
            connect.await.map_err(|failure| failure.code())
        };
        assert_eq!(connect(None).await, Ok(()));
        assert_eq!(connect(Some(Says::This(Level::Read))).await, Err(ErrorCode::Conflict));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_panics_fails_who_asks_and_nobody_else() {
    for (bench, _folder) in benches(types).await {
        let (ann, bob) = (bench.register().await, bench.register().await);
        let id = page(&bench, &ann, Says::Panics).await;
        let node: NodeId = id.to_string().parse().unwrap();
        let at = id.clone();
        let asked =
            bench.graph(&bob, |cx| Box::pin(async move { Ok(cx.get::<Page>(&at).await?.is_some()) })).await;
        assert_eq!(asked.unwrap_err().code(), ErrorCode::WalkerPanicked);
        let entered = bench.runtime.spawn(spawn("look", &bob, Some(node))).await;
        assert!(matches!(entered, Err(Error::Walker { code: ErrorCode::WalkerPanicked, .. })), "{entered:?}");
        assert_eq!(level(&bench, &ann, &id).await, Some(Level::Write), "the owner is not asked about");
    }
}

/// A node with a rule that no program registers.
#[derive(Node, Serialize, Deserialize)]
#[node(access = |_, _| None)]
struct Unknown {}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_with_a_rule_has_to_be_registered() {
    let bench = Bench::new(types).await;
    let user = bench.register().await;
    let made = bench.graph(&user, |cx| Box::pin(async move { cx.create(Unknown {}).map(|_| ()) })).await;
    let message = made.unwrap_err().message().unwrap_or_default().to_owned();
    assert!(message.contains("types.node::<Unknown>()"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_hand_is_judged_anew_by_the_system_root() {
    for (bench, _folder) in benches(types).await {
        let (ann, bob) = (bench.register().await, bench.register().await);
        let id = page(&bench, &ann, Says::This(Level::Read)).await;
        let hidden = page(&bench, &ann, Says::This(Level::NoAccess)).await;
        let (at, other, owner) = (id.clone(), Arc::clone(&bench), ann.clone());
        let made = bench.graph(&bob, move |cx| {
            Box::pin(async move {
                let (root, page) = (cx.root().await?, cx.get::<Page>(&at).await?);
                let page = page.ok_or_else(|| fail("not seen"))?;
                assert_eq!((page.level(), cx.get::<Page>(&hidden).await?.is_some()), (Level::Read, false));
                assert_eq!(cx.destroy(&page).unwrap_err().code(), ErrorCode::Forbidden);
                cx.spawn(Raise {}, &root).await?;
                assert_eq!((page.level(), cx.get::<Page>(&hidden).await?.is_some()), (Level::Write, true));
                page.edit().says = Says::This(Level::Connect);
                let note = cx.create(Note { text: String::new() })?;
                cx.connect(&root, &note)?;
                cx.connect(&page, &note)?;
                // It relies on nothing that the owner may take back.
                let ann = NodeId::root(owner.root);
                let share = other.graph(&owner, |cx| {
                    Box::pin(async move {
                        let root = cx.root().await?;
                        cx.allow_root(&root, &ann, Level::NoAccess)
                    })
                });
                share.await?;
                Ok(note.id())
            })
        });
        let made = made.await.unwrap();
        assert_eq!(level(&bench, &bob, &id).await, Some(Level::Connect));
        assert_eq!(level(&bench, &bob, &made).await, None, "it belongs to the system root");
        assert_eq!(level(&bench, &bench.user(), &made).await, Some(Level::Write));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stays_elevated_over_waits_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let limits = Limits { disk_free_min: 0, ..Limits::default() };
        let store = loop {
            match embedded::open(folder.path(), limits.clone()) {
                Ok(store) => break store,
                Err(error) if error.to_string().contains("another process") => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let config = Config { disk_free_min: 0, ..Config::default() };
        Bench::inline_on(store, types, config, Env::system()).await.unwrap()
    };
    let bench = start().await;
    let (ann, bob) = (bench.register().await, bench.register().await);
    let element = page(&bench, &ann, Says::Nothing).await;
    let mut spawn = spawn("climb", &bob, None);
    spawn.fields.insert("element".to_owned(), json!(element));
    let Ok(Spawned::Accepted { id, .. }) = bench.runtime.spawn(spawn).await else { panic!("not async") };
    let mut frames = bench.runtime.follow(&bob, &id).await.unwrap().unwrap();
    while bench.runtime.record(&bob, &id).await.unwrap().unwrap().run.waits_for.is_none() {
        frames.recv().await.unwrap();
    }
    bench.runtime.stop().await.unwrap();
    drop(bench);
    let bench = start().await;
    let by = Governor { caller: &bob, run_token: None };
    bench.runtime.act(by, &id, Act::Answer { name: "go".to_owned(), value: Value::Null }).await.unwrap();
    let record = bench.finished(&bob, &id).await;
    assert_eq!(record.schedule.error, None);
    let [first, second] = &record.schedule.reports[..] else { panic!("{:?}", record.schedule.reports) };
    assert_eq!(*first, json!([null, "WRITE"]));
    assert_eq!(second[0], "WRITE");
    assert_eq!(second[1], json!(NodeId::root(walkabout::schema::SYSTEM_ROOT)));
    let note: ElementId = second[2].as_str().unwrap().parse().unwrap();
    assert_eq!(level(&bench, &bob, &note).await, None);
    assert_eq!(bench.count::<Note>(&bob).await, 0, "not even below his own root");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_is_not_shown_behind_a_checkpoint() {
    for (bench, _folder) in benches(types).await {
        let (ann, bob) = (bench.register().await, bench.register().await);
        for steps in [true, false] {
            let note = bench.graph(&ann, |cx| {
                Box::pin(async move {
                    let note = cx.create(Note { text: "secret".to_owned() })?;
                    cx.grant(&note, Level::Read)?;
                    Ok(note.id())
                })
            });
            let note = note.await.unwrap();
            let mut spawn = spawn("stay", &bob, Some(note.to_string().parse().unwrap()));
            spawn.fields.insert("steps".to_owned(), json!(steps));
            let Ok(Spawned::Accepted { id, .. }) = bench.runtime.spawn(spawn).await else {
                panic!("not async")
            };
            ARRIVED.notified().await;
            let taken_back = bench.graph(&ann, |cx| {
                Box::pin(async move {
                    let note = cx.get::<Note>(&note).await?.ok_or_else(|| fail("not seen"))?;
                    cx.revoke(&note)
                })
            });
            taken_back.await.unwrap();
            TAKEN_BACK.notify_one();
            let record = bench.finished(&bob, &id).await;
            assert_eq!(record.schedule.reports, [] as [Value; 0]);
            assert_eq!(record.schedule.error.is_some(), steps, "a step needs its place");
        }
    }
}

/// The permission blocks that the table goes through: what all may do, and the entry of the root that asks.
const BLOCKS: [(Level, Option<Level>); 20] = {
    let levels = [Level::NoAccess, Level::Read, Level::Connect, Level::Write];
    let mut blocks = [(Level::NoAccess, None); 20];
    let mut at = 0;
    while at < 20 {
        let entry = at / 4;
        blocks[at] = (levels[at % 4], if entry == 0 { None } else { Some(levels[entry - 1]) });
        at += 1;
    }
    blocks
};

fn set<T>(
    cx: &mut Context,
    at: &Here<T>,
    asker: &NodeId,
    (all, entry): (Level, Option<Level>),
) -> Result<(), Failure> {
    cx.grant(at, all)?;
    entry.map_or(Ok(()), |level| cx.allow_root(at, asker, level))
}

/// An element of the table with what the asker may do with it.
type Row = (ElementId, Level);

/// Makes the part of the table that one root owns, under its own block. `every` leaves rows out.
async fn rows(
    bench: &Bench,
    owner: &Caller,
    asker: NodeId,
    owners: (Level, Option<Level>),
    every: usize,
) -> Vec<Row> {
    let says = [Level::NoAccess, Level::Read, Level::Connect, Level::Write].map(Says::This);
    let says: Vec<Says> = [Says::Nothing, Says::AsTheBlocks].into_iter().chain(says).collect();
    let made = bench.graph(owner, |cx| {
        Box::pin(async move {
            let root = cx.root().await?;
            set(cx, &root, &asker, owners)?;
            let mut rows = vec![(root.id(), owners.1.unwrap_or(owners.0))];
            let cases = says.into_iter().flat_map(|says| BLOCKS.map(|block| (says, block)));
            for (number, (says, block)) in cases.enumerate().filter(|(number, _)| number % every == 0) {
                // The sentence of the rule: the type, else the entry here, else that on the owner, else the higher of the two.
                let blocks = block.1.or(owners.1).unwrap_or(block.0.max(owners.0));
                let wanted = if let Says::This(level) = says { level } else { blocks };
                let id = match number / every % 3 {
                    0 => {
                        let page = cx.create(Page { says })?;
                        set(cx, &page, &asker, block)?;
                        page.id()
                    }
                    1 => {
                        let paper = cx.save(Paper { says })?;
                        set(cx, &paper, &asker, block)?;
                        paper.id()
                    }
                    _ => {
                        let bond = cx.connect_with(&root, &root, Bond { says })?;
                        set(cx, &bond, &asker, block)?;
                        bond.id()
                    }
                };
                assert_eq!(cx.get::<Any>(&id).await?.map(|new| new.level()), Some(Level::Write), "new");
                rows.push((id, wanted));
            }
            Ok(rows)
        })
    });
    made.await.unwrap()
}

/// What a root finds when it asks for each row.
async fn ask(bench: &Bench, caller: &Caller, rows: &[Row]) -> Vec<Level> {
    let ids: Vec<ElementId> = rows.iter().map(|(id, _)| id.clone()).collect();
    let asked = bench.graph(caller, |cx| {
        Box::pin(async move {
            let mut levels = Vec::with_capacity(ids.len());
            for id in &ids {
                let seen = cx.get::<Any>(id).await?;
                levels.push(seen.map_or(Level::NoAccess, |seen| seen.level()));
            }
            Ok(levels)
        })
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_decided_as_the_rule_says() {
    for (number, (bench, _folder)) in benches(types).await.into_iter().enumerate() {
        let asker = bench.register().await;
        // With a database each question is a journey: there some cases stand for all.
        let every = if number < 2 { 1 } else { 7 };
        for owners in BLOCKS {
            let owner = bench.register().await;
            let rows = rows(&bench, &owner, NodeId::root(asker.root), owners, every).await;
            let found = ask(&bench, &asker, &rows).await;
            for ((id, wanted), found) in rows.iter().zip(found) {
                assert_eq!(found, *wanted, "{id} below {owners:?}");
            }
            for mighty in [&owner, &bench.user()] {
                assert!(ask(&bench, mighty, &rows).await.iter().all(|level| *level == Level::Write));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_are_given_and_taken_back_by_who_may() {
    for (bench, _folder) in benches(types).await {
        let (ann, bob, eve) = (bench.register().await, bench.register().await, bench.register().await);
        let id = page(&bench, &ann, Says::Nothing).await;
        type Act = fn(&mut Context, &Here<Page>, &NodeId) -> Result<(), Failure>;
        let act = async |by: &Caller, on: &Caller, act: Act| {
            let (id, on) = (id.clone(), NodeId::root(on.root));
            let done = bench.graph(by, move |cx| {
                Box::pin(async move {
                    let page = cx.get::<Page>(&id).await?.ok_or_else(|| fail("not seen"))?;
                    act(cx, &page, &on)
                })
            });
            done.await.map_err(|failure| failure.code())
        };
        let levels = async || [level(&bench, &bob, &id).await, level(&bench, &eve, &id).await];
        act(&ann, &bob, |cx, page, _| cx.grant(page, Level::Read)).await.unwrap();
        assert_eq!(levels().await, [Some(Level::Read); 2]);
        let refused = [
            act(&bob, &bob, |cx, page, _| cx.grant(page, Level::Write)).await,
            act(&bob, &bob, |cx, page, root| cx.allow_root(page, root, Level::Write)).await,
            act(&bob, &eve, |cx, page, root| cx.disallow_root(page, root)).await,
            act(&bob, &bob, |cx, page, _| cx.revoke(page)).await,
        ];
        assert_eq!(refused, [Err(ErrorCode::Forbidden); 4]);
        act(&ann, &eve, |cx, page, root| cx.allow_root(page, root, Level::NoAccess)).await.unwrap();
        assert_eq!(levels().await, [Some(Level::Read), None]);
        act(&ann, &bob, |cx, page, root| cx.allow_root(page, root, Level::Write)).await.unwrap();
        act(&bob, &eve, |cx, page, root| cx.disallow_root(page, root)).await.unwrap();
        assert_eq!(levels().await, [Some(Level::Write), Some(Level::Read)]);
        act(&ann, &bob, |cx, page, _| cx.revoke(page)).await.unwrap();
        assert_eq!(levels().await, [Some(Level::Write), None], "the entry of a root stays");
        act(&ann, &bob, |cx, page, root| cx.disallow_root(page, root)).await.unwrap();
        assert_eq!(levels().await, [None; 2]);
    }
}
