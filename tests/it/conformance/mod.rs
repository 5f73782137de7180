//! The contract of a store, run in full by every store.

mod elements;
mod opening;
mod runs;
mod users;
mod waits;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use uuid::Uuid;
use walkabout::{
    env::Env,
    schema::{
        Access, Checkpoint, ErrorCode, EventKind, Fields, Identity, Items, Key, Kind, Level, Name, NodeId,
        Part, Run, Schedule, Session, State, Status, Timestamp, User, Walker,
    },
    store::{
        Act, Acted, Change, Claim, Claimed, Commit, Direction, Due, Element, End, Ends, Error, Finish, Guard,
        Limits, Registered, Release, RequestKey, RunCommit, RunFilter, Snapshot, Stand, Store, Submission,
        Submitted, Then, embedded, memory, mongodb, sim::Disk,
    },
};

use crate::database::database;

type Shared = Arc<dyn Store>;

fn env() -> Env {
    Env::manual(Timestamp::from_millis(1_767_225_600_000), 7)
}

fn name(text: &str) -> Name {
    if text.is_empty() { Name::empty() } else { Name::new(text).unwrap() }
}

fn node(env: &Env, owner: Option<Uuid>, fields: &Value) -> Element {
    Element {
        kind: Kind::Node,
        id: env.id(),
        name: if owner.is_some() { name("Item") } else { Name::empty() },
        owner,
        access: Access::private(),
        version: 1,
        ends: None,
        fields: Fields::encode(fields).unwrap(),
        decoded: Default::default(),
    }
}

fn edge(env: &Env, from: &Element, to: &Element, kind: &str, undirected: bool) -> Element {
    let end = |node: &Element| End { id: node.id, name: node.name.clone(), owner: node.owner };
    Element {
        kind: Kind::Edge,
        name: name(kind),
        ends: Some(Ends { source: end(from), target: end(to), undirected }),
        ..node(env, from.owner.or(Some(from.id)), &json!({}))
    }
}

fn changed(element: &Element, fields: &Value) -> Element {
    Element {
        kind: element.kind,
        id: element.id,
        name: element.name.clone(),
        owner: element.owner,
        access: element.access.clone(),
        version: element.version + 1,
        ends: element.ends.clone(),
        fields: Fields::encode(fields).unwrap(),
        decoded: Default::default(),
    }
}

fn put(element: Element, expected: Option<u64>) -> Change {
    Change::Put { element: Arc::new(element), expected }
}

fn walker(env: &Env, root: Uuid) -> Walker {
    let now = env.now();
    let run: Run = serde_json::from_value(json!({
        "state": "queued", "attempt": 0, "progress": null, "result": null,
        "created_at": now, "started_at": null, "finished_at": null,
    }))
    .unwrap();
    Walker {
        id: Key(env.id()),
        name: name("job"),
        root: Some(Key(root)),
        access: Access::private(),
        archetype: Fields::encode(&json!({ "n": 1 })).unwrap(),
        input: None,
        version: 1,
        schedule: Schedule {
            status: Status::Pending,
            node_id: NodeId::root(root),
            root_id: NodeId::root(root),
            execute_date: now,
            executed_date: None,
            http_status: None,
            reports: Vec::new(),
            custom: Value::Null,
            error: None,
        },
        run,
    }
}

async fn commit(store: &Shared, env: &Env, changes: Vec<Change>, guards: Vec<Guard>) -> Result<(), Error> {
    store.commit(env.now(), Commit { run: None, changes, guards }).await
}

async fn load(store: &Shared, kind: Kind, id: Uuid) -> Option<Arc<Element>> {
    store.snapshot().await.unwrap().elements(kind, &[id]).await.unwrap().pop().unwrap()
}

fn value(element: &Element) -> Value {
    element.fields.decode().unwrap()
}

fn conflicts(result: Result<(), Error>) -> Vec<Uuid> {
    match result {
        Err(Error::Conflict(ids)) => ids,
        other => panic!("no conflict: {other:?}"),
    }
}

/// Everything that a store promises.
async fn exercise(store: &Shared) {
    let env = env();
    elements::elements_and_versions(store, &env).await;
    elements::snapshots_stand_still(store, &env).await;
    elements::links_follow_edges(store, &env).await;
    elements::guards_hold(store, &env).await;
    elements::additions_never_conflict(store, &env).await;
    users::users_are_unique(store, &env).await;
    users::users_change_one_at_a_time(store, &env).await;
    users::an_identity_is_of_one_user(store, &env).await;
    users::what_is_spent_is_spent_once(store, &env).await;
    users::users_go_with_the_submission_of_a_run(store, &env).await;
    users::of_two_who_need_each_other_one_stays(store, &env).await;
    users::secrets_are_kept(store).await;
    runs::a_run_goes_from_submission_to_its_end(store, &env).await;
    runs::stale_tokens_are_refused(store, &env).await;
    runs::a_lost_attempt_counts_until_the_next_checkpoint(store, &env).await;
    runs::segments_come_and_go_with_checkpoints(store, &env).await;
    elements::a_refused_commit_leaves_nothing(store, &env).await;
    runs::runs_are_listed_newest_first(store, &env).await;
    elements::concurrent_commits_do_not_lose_updates(store, &env).await;
    runs::a_record_and_its_events_agree(store, &env).await;
    runs::a_silent_attempt_says_that_it_started(store, &env).await;
    waits::sleepers_are_due_at_their_time(store, &env).await;
    waits::an_answer_wakes_who_waits_for_it(store, &env).await;
    waits::others_cancel_pause_and_resume(store, &env).await;
    waits::a_wish_outlives_the_attempt_that_was_asked(store, &env).await;
    waits::a_pause_that_was_taken_back_holds_nothing(store, &env).await;
    waits::deadlines_end_runs_that_nobody_holds(store, &env).await;
    waits::a_held_run_is_due_at_its_deadline(store, &env).await;
    runs::a_repeated_request_is_known(store, &env).await;
    runs::requests_are_forgotten_also_when_the_clock_steps_back(store, &env).await;
    waits::a_cancel_right_behind_a_claim_is_in_the_record(store, &env).await;
}

async fn claimed(store: &Shared, env: &Env, root: Uuid) -> Claim {
    let walker = walker(env, root);
    let id = walker.id.0;
    store.submit(Submission { key: None, walker }).await.unwrap();
    take(store, env, id).await
}

async fn take(store: &Shared, env: &Env, id: Uuid) -> Claim {
    match store.claim(id, env.now()).await.unwrap() {
        Claimed::Taken(claim) => *claim,
        other => panic!("not taken: {other:?}"),
    }
}

async fn is_taken(store: &Shared, env: &Env, id: Uuid) -> bool {
    matches!(store.claim(id, env.now()).await.unwrap(), Claimed::Taken(_))
}

/// Lets go of a claimed run.
async fn release(store: &Shared, env: &Env, claim: &Claim, to: Release) {
    let then = Then::Release { checkpoint: None, to };
    let run = RunCommit { id: claim.walker.id.0, token: claim.token, events: vec![], then, conflicts: 0 };
    store.commit(env.now(), Commit { run: Some(run), ..Commit::default() }).await.unwrap();
}

async fn state(store: &Shared, id: Uuid) -> State {
    store.run(id).await.unwrap().unwrap().run.state
}

fn finish(claim: &Claim, env: &Env, error: Option<&str>) -> RunCommit {
    let finish = Finish {
        at: env.now(),
        fields: Fields::encode(&json!({ "n": 2 })).unwrap(),
        http_status: if error.is_some() { 500 } else { 200 },
        reports: if error.is_some() { vec![] } else { vec![json!("r")] },
        custom: Value::Null,
        result: json!("r"),
        response: None,
        error: error.map(|error| (ErrorCode::WalkerFailed, error.to_owned())),
    };
    let last = match error {
        None => EventKind::Completed,
        Some(error) => EventKind::Failed { error: error.to_owned(), code: ErrorCode::WalkerFailed },
    };
    RunCommit {
        id: claim.walker.id.0,
        token: claim.token,
        events: vec![last],
        then: Then::Finish(Box::new(finish)),
        conflicts: 3,
    }
}

fn elements(ids: std::ops::Range<u128>) -> Items {
    Items::Elements(ids.map(|id| NodeId::new(name("Item"), Uuid::from_u128(id)).into()).collect())
}

/// A checkpoint whose frontier is made of these parts: number, from, to.
fn frontier(next_segment: u64, parts: &[(u64, u64, u64)]) -> Checkpoint {
    let part = |&(number, from, to): &(u64, u64, u64)| Part::Segment { number, from, to };
    Checkpoint { frontier: parts.iter().map(part).collect(), next_segment, ..Checkpoint::default() }
}

fn standing(claim: &Claim, stand: Stand) -> RunCommit {
    let then = Then::Checkpoint(Box::new(stand));
    let events = vec![EventKind::Checkpoint];
    RunCommit { id: claim.walker.id.0, token: claim.token, events, then, conflicts: 0 }
}

/// Lets go of a run, and takes it again.
async fn again(store: &Shared, env: &Env, claim: &Claim) -> Claim {
    release(store, env, claim, Release::Queue).await;
    take(store, env, claim.walker.id.0).await
}

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

fn limits() -> Limits {
    Limits { disk_free_min: 0, ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_keeps_the_contract() {
    exercise(&memory::open(limits()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    exercise(&embedded::open(folder.path(), limits()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mongodb_store_keeps_the_contract() {
    let Some(uri) = database() else { return };
    let options = mongodb::Options::of(uri);
    exercise(&mongodb::open(&options, limits(), Env::system()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_make_room() {
    let store = memory::open(Limits { events_per_run_max: 3, ..limits() }).unwrap();
    let env = env();
    let claim = claimed(&store, &env, env.id()).await;
    for n in 0..5 {
        store.progress(claim.walker.id.0, claim.token, env.now(), json!(n)).await.unwrap();
    }
    let kept = store.events(claim.walker.id.0, 0, 100).await.unwrap();
    assert_eq!((kept.events.len(), kept.first, kept.last), (3, 5, 7));
}
