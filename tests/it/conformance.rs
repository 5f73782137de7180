//! The contract of a store, run in full by every store.

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
    elements_and_versions(store, &env).await;
    snapshots_stand_still(store, &env).await;
    links_follow_edges(store, &env).await;
    guards_hold(store, &env).await;
    additions_never_conflict(store, &env).await;
    users_are_unique(store, &env).await;
    users_change_one_at_a_time(store, &env).await;
    an_identity_is_of_one_user(store, &env).await;
    what_is_spent_is_spent_once(store, &env).await;
    users_go_with_the_submission_of_a_run(store, &env).await;
    of_two_who_need_each_other_one_stays(store, &env).await;
    secrets_are_kept(store).await;
    a_run_goes_from_submission_to_its_end(store, &env).await;
    stale_tokens_are_refused(store, &env).await;
    a_lost_attempt_counts_until_the_next_checkpoint(store, &env).await;
    segments_come_and_go_with_checkpoints(store, &env).await;
    a_refused_commit_leaves_nothing(store, &env).await;
    runs_are_listed_newest_first(store, &env).await;
    concurrent_commits_do_not_lose_updates(store, &env).await;
    a_record_and_its_events_agree(store, &env).await;
    a_silent_attempt_says_that_it_started(store, &env).await;
    sleepers_are_due_at_their_time(store, &env).await;
    an_answer_wakes_who_waits_for_it(store, &env).await;
    others_cancel_pause_and_resume(store, &env).await;
    a_wish_outlives_the_attempt_that_was_asked(store, &env).await;
    a_pause_that_was_taken_back_holds_nothing(store, &env).await;
    deadlines_end_runs_that_nobody_holds(store, &env).await;
    a_held_run_is_due_at_its_deadline(store, &env).await;
    a_repeated_request_is_known(store, &env).await;
    requests_are_forgotten_also_when_the_clock_steps_back(store, &env).await;
    a_cancel_right_behind_a_claim_is_in_the_record(store, &env).await;
}

async fn elements_and_versions(store: &Shared, env: &Env) {
    let item = node(env, Some(env.id()), &json!({ "a": 1 }));
    let id = item.id;
    commit(store, env, vec![put(item, None)], vec![]).await.unwrap();
    let read = load(store, Kind::Node, id).await.unwrap();
    assert_eq!((read.version, value(&read)), (1, json!({ "a": 1 })));
    assert!(load(store, Kind::Object, id).await.is_none(), "an id has one kind");
    assert!(load(store, Kind::Node, env.id()).await.is_none());
    commit(store, env, vec![put(changed(&read, &json!({ "a": 2 })), Some(1))], vec![]).await.unwrap();
    let again = commit(store, env, vec![put(changed(&read, &json!({ "a": 3 })), Some(1))], vec![]).await;
    assert_eq!(conflicts(again), [id]);
    assert_eq!(value(&load(store, Kind::Node, id).await.unwrap()), json!({ "a": 2 }));
    let delete = |expected| vec![Change::Delete { kind: Kind::Node, id, expected }];
    assert_eq!(conflicts(commit(store, env, delete(1), vec![]).await), [id]);
    commit(store, env, delete(2), vec![]).await.unwrap();
    assert!(load(store, Kind::Node, id).await.is_none());
    assert_eq!(conflicts(commit(store, env, delete(2), vec![]).await), [id]);
}

async fn snapshots_stand_still(store: &Shared, env: &Env) {
    let item = node(env, Some(env.id()), &json!({ "a": 1 }));
    let id = item.id;
    commit(store, env, vec![put(item, None)], vec![]).await.unwrap();
    let before = store.snapshot().await.unwrap();
    let read = load(store, Kind::Node, id).await.unwrap();
    commit(store, env, vec![put(changed(&read, &json!({ "a": 2 })), Some(1))], vec![]).await.unwrap();
    for _ in 0..2 {
        let seen = before.elements(Kind::Node, &[id]).await.unwrap().pop().unwrap().unwrap();
        assert_eq!(value(&seen), json!({ "a": 1 }));
        assert_eq!(value(&load(store, Kind::Node, id).await.unwrap()), json!({ "a": 2 }));
    }
}

async fn links_follow_edges(store: &Shared, env: &Env) {
    let root = node(env, None, &json!({}));
    let items: Vec<Element> = (0..3).map(|n| node(env, Some(root.id), &json!({ "n": n }))).collect();
    let edges = [
        edge(env, &root, &items[0], "Likes", false),
        edge(env, &root, &items[1], "", false),
        edge(env, &root, &items[2], "Likes", true),
    ];
    let (root_id, ids): (Uuid, Vec<Uuid>) = (root.id, edges.iter().map(|edge| edge.id).collect());
    let targets: Vec<Uuid> = items.iter().map(|item| item.id).collect();
    let mut changes = vec![put(root, None)];
    changes.extend(items.into_iter().chain(edges).map(|element| put(element, None)));
    commit(store, env, changes, vec![]).await.unwrap();
    let links = async |node, direction, kind: Option<&str>| {
        let snapshot = store.snapshot().await.unwrap();
        let links = snapshot.links(node, direction, kind.map(name)).await.unwrap();
        links.iter().map(|link| (link.edge, link.far.id)).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(
            links(root_id, Direction::Out, Some("Likes")).await,
            [(ids[0], targets[0]), (ids[2], targets[2])]
        );
        assert_eq!(links(root_id, Direction::Out, Some("")).await, [(ids[1], targets[1])]);
        assert_eq!(links(root_id, Direction::Out, None).await.len(), 3);
        assert_eq!(links(root_id, Direction::In, None).await, [(ids[2], targets[2])], "an undirected edge");
        assert_eq!(links(targets[2], Direction::Out, None).await, [(ids[2], root_id)]);
        assert_eq!(links(targets[0], Direction::In, None).await, [(ids[0], root_id)]);
        assert_eq!(links(targets[0], Direction::Out, None).await, []);
    }
    commit(store, env, vec![Change::Delete { kind: Kind::Node, id: targets[0], expected: 1 }], vec![])
        .await
        .unwrap();
    assert!(load(store, Kind::Edge, ids[0]).await.is_none(), "a node takes its edges along");
    assert_eq!(links(root_id, Direction::Out, None).await.len(), 2);
    commit(store, env, vec![Change::Delete { kind: Kind::Edge, id: ids[2], expected: 1 }], vec![])
        .await
        .unwrap();
    assert_eq!(links(root_id, Direction::In, None).await, []);
    assert_eq!(links(targets[2], Direction::Out, None).await, []);
    // No edge to what is gone.
    let root = load(store, Kind::Node, root_id).await.unwrap();
    let gone = Element { id: targets[0], ..node(env, Some(root_id), &json!({})) };
    let refused = commit(store, env, vec![put(edge(env, &root, &gone, "", false), None)], vec![]).await;
    assert_eq!(conflicts(refused), [targets[0]]);
}

async fn guards_hold(store: &Shared, env: &Env) {
    let root = node(env, None, &json!({}));
    let id = root.id;
    commit(store, env, vec![put(root, None)], vec![]).await.unwrap();
    let read = load(store, Kind::Node, id).await.unwrap();
    let version = |expected| vec![Guard::Version { kind: Kind::Node, id, expected }];
    commit(store, env, vec![], version(1)).await.unwrap();
    assert_eq!(conflicts(commit(store, env, vec![], version(2)).await), [id]);
    let access = |expected| vec![Guard::Access { kind: Kind::Node, id, expected }];
    commit(store, env, vec![], access(Access::private())).await.unwrap();
    assert_eq!(conflicts(commit(store, env, vec![], access(Access::everybody(Level::Read))).await), [id]);
    let before = store.snapshot().await.unwrap();
    let links = async |seen: Arc<dyn Snapshot>| {
        let expected = seen.links(id, Direction::Out, None).await.unwrap();
        vec![Guard::Links {
            node: id,
            direction: Direction::Out,
            edge_name: None,
            expected,
            seen: seen.number(),
        }]
    };
    commit(store, env, vec![], links(Arc::clone(&before)).await).await.unwrap();
    let item = node(env, Some(id), &json!({}));
    let made = edge(env, &read, &item, "", false);
    let (edge_id, far) = (made.id, item.id);
    let guard = links(Arc::clone(&before)).await;
    commit(store, env, vec![put(item, None), put(made, None)], guard).await.unwrap();
    assert_eq!(conflicts(commit(store, env, vec![], links(Arc::clone(&before)).await).await), [id]);
    let after = store.snapshot().await.unwrap();
    commit(store, env, vec![], links(Arc::clone(&after)).await).await.unwrap();
    // Of another type: the guard of one type does not mind.
    let item = node(env, Some(id), &json!({}));
    let other = edge(env, &read, &item, "Likes", false);
    commit(store, env, vec![put(item, None), put(other, None)], vec![]).await.unwrap();
    assert_eq!(conflicts(commit(store, env, vec![], links(Arc::clone(&after)).await).await), [id]);
    let plain = Guard::Links {
        node: id,
        direction: Direction::Out,
        edge_name: Some(Name::empty()),
        expected: after.links(id, Direction::Out, Some(Name::empty())).await.unwrap(),
        seen: after.number(),
    };
    commit(store, env, vec![], vec![plain]).await.unwrap();
    let found = store.snapshot().await.unwrap().links(id, Direction::Out, None).await.unwrap();
    assert_eq!((found[0].edge, found[0].far.id), (edge_id, far), "in order of name");
}

async fn additions_never_conflict(store: &Shared, env: &Env) {
    let item = node(env, Some(env.id()), &json!({ "kept": "x" }));
    let id = item.id;
    commit(store, env, vec![put(item, None)], vec![]).await.unwrap();
    let add = || Change::Add { kind: Kind::Node, id, field: "n".to_owned(), by: 2 };
    for _ in 0..3 {
        commit(store, env, vec![add(), add()], vec![]).await.unwrap();
    }
    let read = load(store, Kind::Node, id).await.unwrap();
    assert_eq!(value(&read), json!({ "kept": "x", "n": 12 }));
    let text = Change::Add { kind: Kind::Node, id, field: "kept".to_owned(), by: 1 };
    let refused = commit(store, env, vec![add(), text], vec![]).await;
    assert!(matches!(&refused, Err(Error::NotANumber { id: of, .. }) if *of == id), "{refused:?}");
    assert_eq!(value(&load(store, Kind::Node, id).await.unwrap())["n"], 12);
}

fn user(env: &Env, email: &str) -> User {
    User {
        id: Key(env.id()),
        email: email.to_owned(),
        password: "hash".to_owned(),
        root_id: Key(env.id()),
        is_activated: true,
        is_admin: false,
        created_at: env.now(),
        version: 1,
        sessions: Vec::new(),
        tickets: Vec::new(),
        webhook_keys: Vec::new(),
        sso: BTreeMap::new(),
        is_verified: false,
        fields: walkabout_schema::Fields::default(),
    }
}

async fn users_change_one_at_a_time(store: &Shared, env: &Env) {
    let root = Arc::new(node(env, None, &json!({})));
    let bob = user(env, "bob@example.com");
    assert!(!store.change_user(bob.clone()).await.unwrap(), "there is none");
    store.register(bob.clone(), Some(root)).await.unwrap();
    let session = |state: &str| Session { state: state.to_owned(), ends_at: env.now() };
    let changes = (0..20).map(|n| {
        let changed = User { sessions: vec![session(&n.to_string())], ..bob.clone() };
        store.change_user(changed)
    });
    let changed = futures_util::future::join_all(changes).await;
    assert_eq!(changed.iter().filter(|changed| *changed.as_ref().unwrap()).count(), 1);
    let stored = store.user("bob@example.com").await.unwrap().unwrap();
    assert_eq!((stored.version, stored.sessions.len()), (2, 1));
    assert_eq!(User { version: 1, sessions: Vec::new(), ..stored.clone() }, bob);
    assert_eq!(store.users_of(bob.root_id.0).await.unwrap(), std::slice::from_ref(&stored));
    let another = User { id: Key(env.id()), ..stored.clone() };
    assert!(!store.change_user(another).await.unwrap(), "of that address is another user");
    let emptied = User { sessions: Vec::new(), password: "other".to_owned(), ..stored };
    assert!(store.change_user(emptied.clone()).await.unwrap());
    let stored = store.user("bob@example.com").await.unwrap();
    assert_eq!(stored, Some(User { version: 3, ..emptied }));
}

async fn users_go_with_the_submission_of_a_run(store: &Shared, env: &Env) {
    let gus = user(env, "gus@example.com");
    assert_eq!(store.register(gus.clone(), None).await.unwrap(), Registered::New);
    let run = || Submission { walker: walker(env, Uuid::nil()), key: None };
    let (stale, of_another) = (User { version: 2, ..gus.clone() }, User { id: Key(env.id()), ..gus.clone() });
    for user in [stale, of_another, user(env, "nobody@example.com")] {
        let run = run();
        let id = run.walker.id.0;
        assert!(!store.remove_user(user, None, Some(run)).await.unwrap());
        assert!(store.run(id).await.unwrap().is_none(), "nothing is submitted");
    }
    assert_eq!(store.user("gus@example.com").await.unwrap(), Some(gus.clone()));
    let run = run();
    let id = run.walker.id.0;
    assert!(store.remove_user(gus.clone(), None, Some(run)).await.unwrap());
    assert_eq!(store.user("gus@example.com").await.unwrap(), None);
    assert_eq!(store.users_of(gus.root_id.0).await.unwrap(), []);
    assert_eq!(store.run(id).await.unwrap().unwrap().run.state, State::Queued);
    let claim = take(store, env, id).await;
    let ended = Commit { run: Some(finish(&claim, env, None)), ..Commit::default() };
    store.commit(env.now(), ended).await.unwrap();
    assert!(
        !store.change_user(gus.clone()).await.unwrap()
            && !store.remove_user(gus.clone(), None, None).await.unwrap()
    );

    // The address is free again, also for who comes at the same moment.
    let mut before = user(env, "gus@example.com");
    assert_eq!(store.register(before.clone(), None).await.unwrap(), Registered::New);
    for _ in 0..20 {
        let next = user(env, "gus@example.com");
        let (removed, registered) =
            tokio::join!(store.remove_user(before.clone(), None, None), store.register(next.clone(), None));
        assert!(removed.unwrap());
        if registered.unwrap() == Registered::Taken {
            assert_eq!(store.register(next.clone(), None).await.unwrap(), Registered::New);
        }
        assert_eq!(store.user("gus@example.com").await.unwrap(), Some(next.clone()));
        assert_eq!(store.users_of(before.root_id.0).await.unwrap(), []);
        before = next;
    }
    assert!(store.remove_user(before, None, None).await.unwrap());
}

async fn of_two_who_need_each_other_one_stays(store: &Shared, env: &Env) {
    let root = Arc::new(node(env, None, &json!({})));
    let administrator = |email: &str| User { is_admin: true, root_id: Key(root.id), ..user(env, email) };
    let (one, other) = (administrator("olga@example.com"), administrator("otto@example.com"));
    let plain = User { is_admin: false, ..administrator("olaf@example.com") };
    let elsewhere = User { root_id: Key(env.id()), ..administrator("oscar@example.com") };
    for (user, root) in [(&one, Some(root.clone())), (&plain, None), (&elsewhere, None)] {
        assert_eq!(store.register(user.clone(), root).await.unwrap(), Registered::New);
    }
    // These are none, or not of that root.
    for stays in [&one, &other, &plain, &elsewhere] {
        assert!(!store.remove_user(one.clone(), Some(stays.clone()), None).await.unwrap(), "{}", stays.email);
    }
    for _ in 0..20 {
        assert_eq!(store.register(other.clone(), None).await.unwrap(), Registered::New);
        let removed = tokio::join!(
            store.remove_user(one.clone(), Some(other.clone()), None),
            store.remove_user(other.clone(), Some(one.clone()), None),
        );
        let (gone, stays) = match (removed.0.unwrap(), removed.1.unwrap()) {
            (true, false) => (&one, &other),
            (false, true) => (&other, &one),
            both => panic!("{both:?}"),
        };
        assert_eq!(store.user(&gone.email).await.unwrap(), None);
        assert_eq!(store.user(&stays.email).await.unwrap().as_ref(), Some(stays));
        if gone.email == one.email {
            assert_eq!(store.register(one.clone(), None).await.unwrap(), Registered::New);
            assert!(store.remove_user(other.clone(), Some(one.clone()), None).await.unwrap());
        }
    }
}

async fn users_are_unique(store: &Shared, env: &Env) {
    let root = || Arc::new(node(env, None, &json!({})));
    let ann = user(env, "ann@example.com");
    assert_eq!(store.register(ann.clone(), Some(root())).await.unwrap(), Registered::New);
    let other_root = root();
    let again_user = user(env, "ann@example.com");
    let again = store.register(again_user.clone(), Some(Arc::clone(&other_root))).await.unwrap();
    assert_eq!(again, Registered::Taken);
    assert_eq!(store.user("ann@example.com").await.unwrap(), Some(ann.clone()));
    assert_eq!(store.user("Ann@example.com").await.unwrap(), None);
    assert!(load(store, Kind::Node, other_root.id).await.is_none(), "nothing was written");
    assert_eq!(store.users_of(again_user.root_id.0).await.unwrap(), []);
    let (mut one, mut two) = (user(env, "one@example.com"), user(env, "two@example.com"));
    (one.root_id, two.root_id) = (ann.root_id, ann.root_id);
    for user in [&two, &one] {
        store.register(user.clone(), None).await.unwrap();
    }
    let of_ann = ann.root_id.0;
    let all = [ann, one, two.clone()];
    assert_eq!(store.users_of(of_ann).await.unwrap(), all, "all that act as one root");
    let moved = User { root_id: Key(env.id()), ..two };
    assert!(store.change_user(moved.clone()).await.unwrap());
    assert_eq!(store.users_of(of_ann).await.unwrap(), all[..2]);
    assert_eq!(store.users_of(moved.root_id.0).await.unwrap(), [User { version: 2, ..moved }]);
}

async fn an_identity_is_of_one_user(store: &Shared, env: &Env) {
    let at_home =
        |id: &str| Identity { id: id.to_owned(), email: "x@example.com".to_owned(), issuer: String::new() };
    let with = |user: &User, sso: &[(&str, &str)]| User {
        sso: sso.iter().map(|(provider, id)| ((*provider).to_owned(), at_home(id))).collect(),
        ..user.clone()
    };
    let known = async |provider: &str, id: &str| {
        store.user_of_identity(provider, id).await.unwrap().map(|user| user.email)
    };
    let [cat, dan, eve] = ["cat", "dan", "eve"].map(|name| user(env, &format!("{name}@example.com")));
    let cat = with(&cat, &[("home", "1"), ("work", "1")]);
    assert_eq!(store.register(cat.clone(), None).await.unwrap(), Registered::New);
    assert_eq!(store.user_of_identity("home", "1").await.unwrap(), Some(cat.clone()));
    assert_eq!((known("home", "2").await, known("hom", "e1").await), (None, None));
    assert_eq!(store.register(with(&dan, &[("work", "1")]), None).await.unwrap(), Registered::Taken);
    assert_eq!(store.user(&dan.email).await.unwrap(), None, "nothing was written");

    for user in [&dan, &eve] {
        store.register(user.clone(), None).await.unwrap();
    }
    let taken = store.change_user(with(&dan, &[("home", "1"), ("work", "2")])).await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
    assert_eq!((known("home", "1").await, known("work", "2").await), (Some(cat.email.clone()), None));
    // Of many at once one has it.
    let both = [&dan, &eve].map(|user| store.change_user(with(user, &[("home", "3")])));
    let both = futures_util::future::join_all(both).await;
    assert_eq!(both.iter().filter(|changed| matches!(changed, Ok(true))).count(), 1, "{both:?}");
    assert_eq!(
        both.iter().filter(|changed| matches!(changed, Err(Error::Conflict(_)))).count(),
        1,
        "{both:?}"
    );
    let owner = known("home", "3").await.unwrap();
    assert!([&dan.email, &eve.email].contains(&&owner));

    // One that is given up is free, the others stay, and a user who has it keeps it over other changes.
    let cat = store.user(&cat.email).await.unwrap().unwrap();
    assert!(store.change_user(with(&cat, &[("work", "1")])).await.unwrap());
    assert_eq!((known("home", "1").await, known("work", "1").await), (None, Some(cat.email.clone())));
    let cat = store.user(&cat.email).await.unwrap().unwrap();
    assert!(store.change_user(User { is_verified: true, ..cat.clone() }).await.unwrap());
    let owner = store.user(&owner).await.unwrap().unwrap();
    assert!(store.change_user(with(&owner, &[("home", "1")])).await.unwrap());
    assert_eq!((known("home", "1").await, known("home", "3").await), (Some(owner.email), None));
    assert_eq!(known("work", "1").await, Some(cat.email.clone()));
    // Who goes gives up all.
    let cat = store.user(&cat.email).await.unwrap().unwrap();
    assert!(store.remove_user(cat, None, None).await.unwrap());
    assert_eq!(known("work", "1").await, None);
    let heir = with(&user(env, "heir@example.com"), &[("work", "1")]);
    assert_eq!(store.register(heir, None).await.unwrap(), Registered::New);
}

async fn what_is_spent_is_spent_once(store: &Shared, env: &Env) {
    let until = env.now().plus(std::time::Duration::from_secs(600));
    let spends = (0..20).map(|_| store.spend([7; 32], env.now(), until));
    let spent = futures_util::future::join_all(spends).await;
    assert_eq!(spent.iter().filter(|spent| *spent.as_ref().unwrap()).count(), 1);
    assert!(store.spend([8; 32], env.now(), until).await.unwrap(), "another is another");
    assert!(!store.spend([7; 32], env.now(), until).await.unwrap());
}

async fn secrets_are_kept(store: &Shared) {
    assert_eq!(store.keep("a", vec![1]).await.unwrap(), [1]);
    assert_eq!(store.keep("a", vec![2]).await.unwrap(), [1]);
    assert_eq!(store.keep("b", vec![3]).await.unwrap(), [3]);
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

async fn a_run_goes_from_submission_to_its_end(store: &Shared, env: &Env) {
    let root = env.id();
    let walker = walker(env, root);
    let id = walker.id.0;
    store.submit(Submission { key: None, walker: walker.clone() }).await.unwrap();
    assert_eq!(store.run(id).await.unwrap().unwrap(), walker);
    assert!(load(store, Kind::Walker, id).await.is_none(), "a run is no element");
    let before = Uuid::from_u128(id.as_u128() - 1);
    assert!(
        store
            .open_runs(Some(before), 10)
            .await
            .unwrap()
            .due
            .iter()
            .any(|due| due.id == id && due.root == root)
    );
    assert!(store.open_runs(Some(id), 1000).await.unwrap().due.iter().all(|due| due.id > id));
    let claim = take(store, env, id).await;
    assert!(!is_taken(store, env, id).await, "it is under way");
    let record = store.run(id).await.unwrap().unwrap();
    assert!(record.run.state.is_under_way());
    assert_eq!(record.run.attempt, 1);
    assert!(record.schedule.executed_date.is_some() && claim.checkpoint.is_none());
    assert_eq!(store.progress(id, claim.token, env.now(), json!(50)).await.unwrap(), 3);
    let record = store.run(id).await.unwrap().unwrap();
    assert_eq!((record.run.state, record.schedule.status), (State::Running, Status::Running));
    assert_eq!(record.run.progress, json!(50));
    let mut checkpoint = Checkpoint { visits: 5, ..Default::default() };
    checkpoint.fields = Fields::encode(&json!({ "n": 9 })).unwrap();
    let then = Then::Checkpoint(Box::new(checkpoint.clone().into()));
    let item = node(env, Some(root), &json!({}));
    let item_id = item.id;
    let run = RunCommit { id, token: claim.token, events: vec![EventKind::Checkpoint], then, conflicts: 0 };
    store
        .commit(env.now(), Commit { run: Some(run), changes: vec![put(item, None)], guards: vec![] })
        .await
        .unwrap();
    assert!(load(store, Kind::Node, item_id).await.is_some());
    let record = store.run(id).await.unwrap().unwrap();
    assert_eq!(record.archetype.decode::<Value>().unwrap(), json!({ "n": 9 }), "as the checkpoint has it");
    let error = (ErrorCode::WalkerFailed, "once more".to_owned());
    release(store, env, &claim, Release::Retry { until: env.now(), error }).await;
    let record = store.run(id).await.unwrap().unwrap();
    assert_eq!((record.run.state, record.run.retries), (State::Waiting, 1));
    assert_eq!(record.schedule.error.as_deref(), Some("once more"));
    let again = take(store, env, id).await;
    assert_eq!(again.checkpoint, Some(checkpoint));
    assert_eq!((again.walker.run.attempt, again.walker.run.lost), (2, 0));
    assert!(again.token > claim.token);
    let run = Some(finish(&again, env, None));
    store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    let record = store.run(id).await.unwrap().unwrap();
    assert_eq!((record.run.state, record.schedule.status), (State::Succeeded, Status::Completed));
    assert_eq!(record.archetype.decode::<Value>().unwrap(), json!({ "n": 2 }));
    assert_eq!(record.input.unwrap().decode::<Value>().unwrap(), json!({ "n": 1 }), "as it was submitted");
    assert_eq!((record.schedule.error, record.run.error_code), (None, None));
    assert_eq!((record.schedule.reports, record.run.conflicts), (vec![json!("r")], 3));
    assert_eq!(record.run.progress, json!(50));
    assert!(!is_taken(store, env, id).await, "what has ended is not claimed");
    assert!(store.open_runs(Some(before), 10).await.unwrap().due.iter().all(|due| due.id != id));
    let kept = store.events(id, 0, 100).await.unwrap();
    let numbers: Vec<u64> = kept.events.iter().map(|event| event.seq).collect();
    assert_eq!((numbers, kept.first, kept.last), ((1..=6).collect(), 1, 6));
    assert_eq!(store.events(id, 4, 1).await.unwrap().events[0].seq, 5);

    let failing = claimed(store, env, root).await;
    let run = Some(finish(&failing, env, Some("why")));
    store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    let record = store.run(failing.walker.id.0).await.unwrap().unwrap();
    assert_eq!((record.schedule.status, record.schedule.error.as_deref()), (Status::Failed, Some("why")));
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

async fn a_lost_attempt_counts_until_the_next_checkpoint(store: &Shared, env: &Env) {
    let counts = |claim: &Claim| (claim.walker.run.attempt, claim.walker.run.lost);
    let first = claimed(store, env, env.id()).await;
    let id = first.walker.id.0;
    release(store, env, &first, Release::Lost).await;
    let second = take(store, env, id).await;
    assert_eq!(counts(&second), (2, 1));
    let third = again(store, env, &second).await;
    assert_eq!(counts(&third), (2, 1), "what was handed back is the same attempt");
    let run = Some(standing(&third, Checkpoint::default().into()));
    store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    release(store, env, &third, Release::Lost).await;
    assert_eq!(counts(&take(store, env, id).await), (3, 1), "it got further");
}

async fn segments_come_and_go_with_checkpoints(store: &Shared, env: &Env) {
    let claim = claimed(store, env, env.id()).await;
    let other = claimed(store, env, env.id()).await;
    assert!(claim.segments.is_empty());
    let keys = Items::Keys(vec![Key(env.id()), Key(env.id())]);
    let reports = Items::Reports(vec![json!({ "b": 1, "a": [null, 2.5] }), json!("x")]);
    let mut checkpoint = frontier(4, &[(0, 0, 100), (1, 3, 20), (0, 100, 150)]);
    checkpoint.ignored = vec![Part::Segment { number: 2, from: 0, to: 2 }, Part::Inline(vec![Key(env.id())])];
    checkpoint.reports = vec![Part::Inline(vec![json!(0)]), Part::Segment { number: 3, from: 1, to: 2 }];
    let fresh = BTreeMap::from([(0, elements(0..150)), (1, elements(200..220)), (2, keys), (3, reports)]);
    let stand = Stand { checkpoint: checkpoint.clone(), fresh: fresh.clone(), gone: vec![] };
    let run = Some(standing(&claim, stand));
    store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    // Another run has numbers of its own.
    let stand =
        Stand { checkpoint: frontier(2, &[(1, 0, 5)]), fresh: [(1, elements(0..5))].into(), gone: vec![] };
    let run = Some(standing(&other, stand));
    store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    let claim = again(store, env, &claim).await;
    assert_eq!((claim.checkpoint.as_ref(), &claim.segments), (Some(&checkpoint), &fresh));

    // A commit that is refused leaves none, and takes none.
    let next = || frontier(5, &[(0, 7, 150), (4, 0, 9)]);
    let stale = Guard::Version { kind: Kind::Node, id: env.id(), expected: 1 };
    let stand = Stand { checkpoint: next(), fresh: [(4, elements(0..9))].into(), gone: vec![1, 2, 3] };
    let run = Some(standing(&claim, stand));
    let refused = store.commit(env.now(), Commit { run, guards: vec![stale], ..Commit::default() }).await;
    assert_eq!(conflicts(refused).len(), 1);
    let claim = again(store, env, &claim).await;
    assert_eq!((claim.checkpoint.as_ref(), &claim.segments), (Some(&checkpoint), &fresh));

    // What the next checkpoint does not name is gone; what it goes on to name was not written again. It may let go of the run.
    let stand = Stand { checkpoint: next(), fresh: [(4, elements(50..59))].into(), gone: vec![1, 2, 3] };
    let then = Then::Release { checkpoint: Some(Box::new(stand)), to: Release::Queue };
    let run = RunCommit { then, ..standing(&claim, Stand::default()) };
    store.commit(env.now(), Commit { run: Some(run), ..Commit::default() }).await.unwrap();
    let claim = take(store, env, claim.walker.id.0).await;
    let left = BTreeMap::from([(0, elements(0..150)), (4, elements(50..59))]);
    assert_eq!((claim.checkpoint.as_ref(), &claim.segments), (Some(&next()), &left));

    // The end of a run is nothing to another.
    let run = Some(finish(&claim, env, None));
    store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    let other = again(store, env, &other).await;
    assert_eq!(other.segments, [(1, elements(0..5))].into());
    store.act(other.walker.id.0, env.now(), Act::Cancel { reason: String::new() }).await.unwrap();
}

async fn stale_tokens_are_refused(store: &Shared, env: &Env) {
    let old = claimed(store, env, env.id()).await;
    let id = old.walker.id.0;
    release(store, env, &old, Release::Queue).await;
    let told = store.progress(id, old.token, env.now(), json!(1)).await;
    assert!(matches!(told, Err(Error::LeaseLost)), "it let go");
    let new = take(store, env, id).await;
    assert_eq!(new.walker.run.attempt, 1, "who hands a run back spends no attempt");
    let told = store.progress(id, old.token, env.now(), json!(1)).await;
    assert!(matches!(told, Err(Error::LeaseLost)));
    let item = node(env, Some(env.id()), &json!({}));
    let item_id = item.id;
    let late = Commit { run: Some(finish(&old, env, None)), changes: vec![put(item, None)], guards: vec![] };
    assert!(matches!(store.commit(env.now(), late).await, Err(Error::LeaseLost)));
    assert!(load(store, Kind::Node, item_id).await.is_none());
    let done = || Commit { run: Some(finish(&new, env, None)), ..Commit::default() };
    store.commit(env.now(), done()).await.unwrap();
    assert!(matches!(store.commit(env.now(), done()).await, Err(Error::LeaseLost)), "a run ends once");
}

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

async fn sleepers(store: &Shared, after: Option<(Timestamp, Uuid)>) -> Vec<Due> {
    store.sleepers(after, 1000).await.unwrap()
}

async fn sleepers_are_due_at_their_time(store: &Shared, env: &Env) {
    let root = env.id();
    let (early, late) = (claimed(store, env, root).await, claimed(store, env, root).await);
    let until = env.now().plus(MINUTE);
    release(store, env, &late, Release::Sleep { until: until.plus(MINUTE) }).await;
    release(store, env, &early, Release::Sleep { until }).await;
    let (early, late) = (early.walker.id.0, late.walker.id.0);
    assert_eq!(state(store, early).await, State::Waiting);
    let open = store.open_runs(None, 10_000).await.unwrap();
    assert!(open.due.iter().all(|due| due.id != early && due.id != late), "they are not due");
    let found: Vec<Uuid> = sleepers(store, None).await.iter().map(|due| due.id).collect();
    assert_eq!(found, [early, late], "in order of time");
    let found = sleepers(store, Some((until, early))).await;
    assert_eq!((found.len(), found[0].id, found[0].root), (1, late, root));
    let Claimed::Early(due) = store.claim(early, env.now()).await.unwrap() else { panic!("it is early") };
    assert_eq!((due.id, due.at), (early, until));
    env.advance(MINUTE);
    let claim = take(store, env, early).await;
    assert_eq!((claim.walker.run.attempt, claim.walker.run.next_attempt_at), (1, None));
    assert_eq!(sleepers(store, None).await.len(), 1);
    store.act(late, env.now(), Act::Cancel { reason: "enough".to_owned() }).await.unwrap();
    assert!(sleepers(store, None).await.is_empty());
}

async fn an_answer_wakes_who_waits_for_it(store: &Shared, env: &Env) {
    let claim = claimed(store, env, env.id()).await;
    let id = claim.walker.id.0;
    release(store, env, &claim, Release::Await { name: "price".to_owned(), until: None }).await;
    assert_eq!(store.run(id).await.unwrap().unwrap().run.waits_for.as_deref(), Some("price"));
    assert!(!is_taken(store, env, id).await, "nothing is there yet");
    let answer = |name: &str, value| Act::Answer { name: name.to_owned(), value };
    let act = async |act| store.act(id, env.now(), act).await.unwrap();
    assert_eq!(act(answer("other", json!(1))).await, Some(Acted::Refused(State::Waiting)));
    assert!(matches!(act(answer("price", Value::Null)).await, Some(Acted::Due(due)) if due.id == id));
    assert_eq!(act(answer("price", json!(2))).await, Some(Acted::Refused(State::Queued)), "the first wins");
    let claim = take(store, env, id).await;
    assert_eq!(claim.answer, Some(Value::Null), "null is an answer");
    release(store, env, &claim, Release::Queue).await;
    assert_eq!(take(store, env, id).await.answer, Some(Value::Null), "until a checkpoint is past it");
    assert_eq!(store.act(env.id(), env.now(), Act::Pause).await.unwrap(), None, "no such run");
}

async fn others_cancel_pause_and_resume(store: &Shared, env: &Env) {
    let cancel = || Act::Cancel { reason: "enough".to_owned() };
    let claim = claimed(store, env, env.id()).await;
    let id = claim.walker.id.0;
    let act = async |act| store.act(id, env.now(), act).await.unwrap().unwrap();
    assert_eq!(act(Act::Resume).await, Acted::Already);
    assert!(matches!(act(Act::Pause).await, Acted::Asked(_)));
    assert_eq!(act(Act::Pause).await, Acted::Already);
    release(store, env, &claim, Release::Pause).await;
    assert_eq!((state(store, id).await, is_taken(store, env, id).await), (State::Paused, false));
    assert!(matches!(act(Act::Resume).await, Acted::Due(_)));
    let claim = take(store, env, id).await;
    assert_eq!(claim.walker.run.pause_requested_at, None);
    let until = env.now().plus(MINUTE);
    release(store, env, &claim, Release::Sleep { until }).await;
    assert_eq!(act(Act::Pause).await, Acted::Done);
    env.advance(2 * MINUTE);
    assert!(!is_taken(store, env, id).await, "a held run does not wake");
    assert!(matches!(act(Act::Resume).await, Acted::Due(due) if due.at == until));
    let claim = take(store, env, id).await;
    assert!(matches!(act(cancel()).await, Acted::Asked(_)));
    assert_eq!(act(cancel()).await, Acted::Already);
    release(store, env, &claim, Release::Queue).await;
    assert!(!is_taken(store, env, id).await, "it is ended instead");
    let record = store.run(id).await.unwrap().unwrap();
    assert_eq!((record.run.state, record.schedule.status), (State::Cancelled, Status::Failed));
    assert_eq!((record.schedule.http_status, record.run.error_code), (Some(409), Some(ErrorCode::Cancelled)));
    assert!(record.run.cancel_requested_at.is_some());
    assert_eq!(act(cancel()).await, Acted::Refused(State::Cancelled));
    let events = store.events(id, 0, 100).await.unwrap();
    assert!(events.events.iter().zip(1..).all(|(event, number)| event.seq == number));
    assert!(events.events.last().unwrap().event.is_final());
}

/// An attempt may let go by itself after the wish was written, and before it hears of it.
async fn a_wish_outlives_the_attempt_that_was_asked(store: &Shared, env: &Env) {
    let claim = claimed(store, env, env.id()).await;
    let id = claim.walker.id.0;
    let act = async |act| store.act(id, env.now(), act).await.unwrap().unwrap();
    assert!(matches!(act(Act::Pause).await, Acted::Asked(_)));
    let until = env.now().plus(MINUTE);
    release(store, env, &claim, Release::Sleep { until }).await;
    assert_eq!(state(store, id).await, State::Paused);
    assert!(matches!(act(Act::Resume).await, Acted::Due(due) if due.at == until), "it slept");
    env.advance(MINUTE);
    let claim = take(store, env, id).await;
    assert!(matches!(act(Act::Pause).await, Acted::Asked(_)));
    release(store, env, &claim, Release::Queue).await;
    assert_eq!((state(store, id).await, is_taken(store, env, id).await), (State::Paused, false));
    assert!(matches!(act(Act::Resume).await, Acted::Due(_)));
    let claim = take(store, env, id).await;
    let reason = "enough".to_owned();
    assert!(matches!(act(Act::Cancel { reason }).await, Acted::Asked(_)));
    release(store, env, &claim, Release::Await { name: "x".to_owned(), until: None }).await;
    assert_eq!(state(store, id).await, State::Cancelled, "nobody would wake it");
    let events = store.events(id, 0, 100).await.unwrap().events;
    assert!(events.iter().zip(1..).all(|(event, number)| event.seq == number), "{events:?}");
    assert_eq!(events.iter().filter(|event| event.event == EventKind::Paused).count(), 2, "{events:?}");
    assert!(events.last().unwrap().event.is_final());
}

async fn a_pause_that_was_taken_back_holds_nothing(store: &Shared, env: &Env) {
    let claim = claimed(store, env, env.id()).await;
    let id = claim.walker.id.0;
    let act = async |act| store.act(id, env.now(), act).await.unwrap().unwrap();
    assert!(matches!(act(Act::Pause).await, Acted::Asked(_)));
    assert!(matches!(act(Act::Resume).await, Acted::Asked(_)));
    // The attempt had heard of the pause alone.
    release(store, env, &claim, Release::Pause).await;
    assert_eq!((state(store, id).await, is_taken(store, env, id).await), (State::Queued, true));
}

async fn deadlines_end_runs_that_nobody_holds(store: &Shared, env: &Env) {
    let mut waiting = walker(env, env.id());
    waiting.run.deadline = Some(env.now().plus(MINUTE));
    let id = waiting.id.0;
    store.submit(Submission { walker: waiting, key: None }).await.unwrap();
    let claim = take(store, env, id).await;
    release(store, env, &claim, Release::Await { name: "x".to_owned(), until: None }).await;
    assert_eq!(sleepers(store, None).await.iter().filter(|due| due.id == id).count(), 1);
    env.advance(MINUTE);
    assert!(!is_taken(store, env, id).await);
    let record = store.run(id).await.unwrap().unwrap();
    assert_eq!((record.run.state, record.schedule.http_status), (State::TimedOut, Some(504)));
}

async fn a_held_run_is_due_at_its_deadline(store: &Shared, env: &Env) {
    let mut queued = walker(env, env.id());
    let deadline = env.now().plus(MINUTE);
    queued.run.deadline = Some(deadline);
    let id = queued.id.0;
    store.submit(Submission { walker: queued, key: None }).await.unwrap();
    let paused = store.act(id, env.now(), Act::Pause).await.unwrap().unwrap();
    assert!(matches!(&paused, Acted::Due(due) if due.at == deadline), "{paused:?}: nobody else would know");
    env.advance(MINUTE);
    assert!(!is_taken(store, env, id).await);
    assert_eq!(state(store, id).await, State::TimedOut);
}

/// As in a server: the claim is written, and its answer not read yet.
async fn a_cancel_right_behind_a_claim_is_in_the_record(store: &Shared, env: &Env) {
    let walker = walker(env, env.id());
    let id = walker.id.0;
    store.submit(Submission { walker, key: None }).await.unwrap();
    let mut claiming = store.claim(id, env.now());
    // The committer may be quicker: then there is nothing between.
    let early = futures_util::FutureExt::now_or_never(&mut claiming);
    let cancel = Act::Cancel { reason: "enough".to_owned() };
    assert!(matches!(store.act(id, env.now(), cancel).await.unwrap(), Some(Acted::Asked(_))));
    let claim = match early {
        Some(claimed) => claimed,
        None => claiming.await,
    };
    let Claimed::Taken(claim) = claim.unwrap() else { panic!("it is due") };
    let run = Some(finish(&claim, env, Some("no")));
    store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    let record = store.run(id).await.unwrap().unwrap();
    assert_eq!((record.run.state, record.run.cancel_requested_at), (State::Failed, Some(env.now())));
}

async fn a_repeated_request_is_known(store: &Shared, env: &Env) {
    let submit = async |key: u8, request: u8| {
        let walker = walker(env, env.id());
        let id = walker.id.0;
        let key = RequestKey { key: [key; 32], request: [request; 32], until: env.now().plus(MINUTE) };
        (id, store.submit(Submission { walker, key: Some(key) }).await.unwrap())
    };
    let (first, new) = submit(1, 1).await;
    assert_eq!(new, Submitted::New);
    let (other, known) = submit(1, 1).await;
    assert_eq!(known, Submitted::Known(first));
    assert!(store.run(other).await.unwrap().is_none() && !is_taken(store, env, other).await);
    assert_eq!(submit(1, 2).await.1, Submitted::Reused);
    assert_eq!(submit(2, 2).await.1, Submitted::New);
    env.advance(MINUTE);
    assert_eq!(submit(1, 2).await.1, Submitted::New, "it is forgotten by now");
    assert!(matches!(submit(1, 2).await.1, Submitted::Known(_)));
}

async fn requests_are_forgotten_also_when_the_clock_steps_back(store: &Shared, env: &Env) {
    let submit = async |key: u8| {
        let until = env.now().plus(MINUTE);
        let key = RequestKey { key: [key; 32], request: [0; 32], until };
        store.submit(Submission { walker: walker(env, env.id()), key: Some(key) }).await.unwrap()
    };
    env.advance(60 * MINUTE);
    assert_eq!(submit(11).await, Submitted::New);
    env.advance(10 * MINUTE);
    assert_eq!(submit(12).await, Submitted::New, "behind it the first is forgotten");
    env.step_back(60 * MINUTE);
    assert_eq!(submit(13).await, Submitted::New);
    assert!(matches!(submit(13).await, Submitted::Known(_)));
    env.advance(60 * MINUTE);
}

async fn a_refused_commit_leaves_nothing(store: &Shared, env: &Env) {
    let item = node(env, Some(env.id()), &json!({}));
    let id = item.id;
    let missing = env.id();
    let changes = vec![put(item, None), Change::Delete { kind: Kind::Node, id: missing, expected: 1 }];
    assert_eq!(conflicts(commit(store, env, changes, vec![]).await), [missing]);
    assert!(load(store, Kind::Node, id).await.is_none());
}

async fn runs_are_listed_newest_first(store: &Shared, env: &Env) {
    let root = env.id();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(claimed(store, env, root).await.walker.id.0);
    }
    ids.reverse();
    let list = async |filter: RunFilter, before, limit| {
        let runs = store.runs(root, filter, before, limit).await.unwrap();
        assert_eq!(runs.more, runs.walkers.len() == limit);
        runs.walkers.iter().map(|run| run.id.0).collect::<Vec<_>>()
    };
    assert_eq!(list(RunFilter::default(), None, 10).await, ids);
    assert_eq!(list(RunFilter::default(), Some(ids[1]), 2).await, ids[2..4]);
    let paused = RunFilter { state: Some(State::Paused), ..RunFilter::default() };
    assert_eq!(list(paused, None, 10).await, Vec::<Uuid>::new());
    let named = |text| RunFilter { name: Some(name(text)), ..RunFilter::default() };
    assert_eq!(list(named("job"), None, 10).await, ids);
    assert_eq!(list(named("other"), None, 10).await, Vec::<Uuid>::new());
}

async fn concurrent_commits_do_not_lose_updates(store: &Shared, env: &Env) {
    let item = node(env, Some(env.id()), &json!({ "n": 0 }));
    let id = item.id;
    commit(store, env, vec![put(item, None)], vec![]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, env) = (Arc::clone(store), env.clone());
        tasks.spawn(async move {
            for _ in 0..25 {
                loop {
                    let read = load(&store, Kind::Node, id).await.unwrap();
                    let n = value(&read)["n"].as_i64().unwrap();
                    let change = put(changed(&read, &json!({ "n": n + 1 })), Some(read.version));
                    match commit(&store, &env, vec![change], vec![]).await {
                        Ok(()) => break,
                        Err(Error::Conflict(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(value(&load(store, Kind::Node, id).await.unwrap()), json!({ "n": 200 }));
}

fn limits() -> Limits {
    Limits { disk_free_min: 0, ..Limits::default() }
}

/// Who reads that a run has ended finds its last event: subscribers rely on it.
async fn a_record_and_its_events_agree(store: &Shared, env: &Env) {
    for _ in 0..20 {
        let claims = futures_util::future::join_all((0..100).map(|_| claimed(store, env, env.id()))).await;
        // Many ends in one group: the more there is to apply, the longer could a reader see half of it.
        let readers: Vec<_> = claims
            .iter()
            .step_by(10)
            .map(|claim| {
                let (store, id) = (Arc::clone(store), claim.walker.id.0);
                tokio::spawn(async move {
                    while !store.run(id).await.unwrap().unwrap().run.state.is_final() {
                        tokio::task::yield_now().await;
                    }
                    store.events(id, 0, 10).await.unwrap().events.pop().unwrap()
                })
            })
            .collect();
        let ends = claims.iter().map(|claim| {
            let run = Some(finish(claim, env, None));
            store.commit(env.now(), Commit { run, ..Commit::default() })
        });
        for end in futures_util::future::join_all(ends).await {
            end.unwrap();
        }
        for reader in readers {
            assert!(reader.await.unwrap().event.is_final());
        }
    }
}

async fn a_silent_attempt_says_that_it_started(store: &Shared, env: &Env) {
    let claim = claimed(store, env, env.id()).await;
    let id = claim.walker.id.0;
    let events = loop {
        let events = store.events(id, 0, 10).await.unwrap().events;
        if events.len() > 1 {
            break events;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((events[1].seq, events[1].attempt, &events[1].event), (2, 1, &EventKind::Started));
    assert_eq!(store.progress(id, claim.token, env.now(), json!(1)).await.unwrap(), 3);
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

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let store = embedded::open(folder.path(), limits()).unwrap();
    let refused = embedded::open(folder.path(), limits()).err().unwrap().to_string();
    assert!(refused.contains("another process has it open"), "{refused}");
    let claim = claimed(&store, &env, env.id()).await;
    let id = claim.walker.id.0;
    store.close().await.unwrap();
    assert!(matches!(store.run(id).await, Ok(Some(_))));
    let closed = store.submit(Submission { key: None, walker: walker(&env, env.id()) }).await;
    assert!(matches!(closed, Err(Error::Closed)));
    drop(store);
    let store = open_again(folder.path()).await;
    let due = store.open_runs(None, 10).await.unwrap();
    // A clean stop is no crash: what was under way was handed back.
    assert_eq!((due.due[0].id, due.due[0].lost), (id, 0));
    assert_eq!(store.run(id).await.unwrap().unwrap().schedule.status, Status::Pending);
    let again = take(&store, &env, id).await;
    assert_eq!((again.walker.run.attempt, again.walker.run.lost), (1, 0));
    assert!(again.token > claim.token, "tokens rise over restarts");
    assert!(matches!(store.progress(id, claim.token, env.now(), json!(1)).await, Err(Error::LeaseLost)));
}

/// The committer's thread lets go of the files a moment after the last handle.
/// A store on a simulated disk, opened after whatever was open there was killed.
fn after_a_kill(disk: &Disk) -> Shared {
    disk.open(limits()).unwrap()
}

#[tokio::test]
async fn what_an_earlier_process_lost_is_not_handed_back_by_a_later_one() {
    let (disk, env) = (Disk::new(1), env());
    let store = after_a_kill(&disk);
    let id = claimed(&store, &env, env.id()).await.walker.id.0;
    let store = after_a_kill(&disk);
    for act in [Act::Pause, Act::Resume] {
        assert!(matches!(store.act(id, env.now(), act).await.unwrap(), Some(Acted::Asked(_))));
    }
    store.close().await.unwrap();
    let run = take(&after_a_kill(&disk), &env, id).await.walker.run;
    assert_eq!((run.attempt, run.lost), (2, 1));
}

#[tokio::test]
async fn the_last_record_counts_lost_attempts_from_the_last_checkpoint_on() {
    for stands in [false, true] {
        let (disk, env) = (Disk::new(1), env());
        let store = after_a_kill(&disk);
        let id = claimed(&store, &env, env.id()).await.walker.id.0;
        let store = after_a_kill(&disk);
        let claim = take(&store, &env, id).await;
        if stands {
            let checkpoint = Checkpoint { fields: claim.walker.archetype.clone(), ..Checkpoint::default() };
            let then = Then::Checkpoint(Box::new(checkpoint.into()));
            let run = Some(RunCommit { then, ..finish(&claim, &env, None) });
            store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
        }
        let run = Some(finish(&claim, &env, None));
        store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
        assert_eq!(store.run(id).await.unwrap().unwrap().run.lost, u32::from(!stands));
    }
}

/// A program that cannot run it parks it after its pause was asked for; the next one can.
#[tokio::test]
async fn who_asked_for_a_pause_gets_it_when_the_run_was_parked() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let store = embedded::open(folder.path(), limits()).unwrap();
    let claim = claimed(&store, &env, env.id()).await;
    let id = claim.walker.id.0;
    assert!(matches!(store.act(id, env.now(), Act::Pause).await.unwrap(), Some(Acted::Asked(_))));
    release(&store, &env, &claim, Release::Park { error: "no such walker".to_owned() }).await;
    assert_eq!(state(&store, id).await, State::Incompatible, "it says why it does not go on");
    store.close().await.unwrap();
    drop(store);
    let store = open_again(folder.path()).await;
    assert_eq!((is_taken(&store, &env, id).await, state(&store, id).await), (false, State::Paused));
    assert!(matches!(store.act(id, env.now(), Act::Resume).await.unwrap(), Some(Acted::Due(_))));
    assert_eq!(take(&store, &env, id).await.walker.run.attempt, 1);
}

async fn open_again(folder: &std::path::Path) -> Shared {
    loop {
        match embedded::open(folder, limits()) {
            Ok(store) => return store,
            Err(error) if error.to_string().contains("another process") => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_is_new_and_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let store = embedded::open(folder.path(), limits()).unwrap();
    let claim = claimed(&store, &env, env.id()).await;
    store.close().await.unwrap();
    drop(store);
    drop(open_again(folder.path()).await);
    let full = loop {
        match embedded::open(folder.path(), Limits { disk_free_min: u64::MAX, ..Limits::default() }) {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let refused = full.submit(Submission { key: None, walker: walker(&env, env.id()) }).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    let id = claim.walker.id.0;
    let again = take(&full, &env, id).await;
    let run = Some(finish(&again, &env, None));
    full.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    assert_eq!(full.run(id).await.unwrap().unwrap().schedule.status, Status::Completed);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The one journal of a store.
fn journal(folder: &std::path::Path) -> std::path::PathBuf {
    let mut journals: Vec<_> = std::fs::read_dir(folder.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .collect();
    assert_eq!(journals.len(), 1);
    journals.pop().unwrap()
}

/// The position of every tag byte: of each batch's begin, of its items, of its end.
fn tags(journal: &[u8]) -> Vec<usize> {
    let number = |at: usize, bytes: usize| {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(&journal[at..at + bytes]);
        u64::from_le_bytes(wide) as usize
    };
    let mut tags = Vec::new();
    let mut at = 0;
    while at < journal.len() {
        let length = match journal[at] {
            1 => 1 + 4 + 8,
            2 => {
                let (key, value) = (number(at + 11, 2), number(at + 17, 4));
                1 + 1 + 1 + 8 + 2 + 4 + 4 + key + value
            }
            3 => 1 + 8 + 4,
            4 => 1 + 8,
            _ => break,
        };
        tags.push(at);
        at += length;
    }
    tags
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_noticed_and_nothing_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let live = folder.path().join("live");
    std::fs::create_dir(&live).unwrap();
    let store = embedded::open(&live, limits()).unwrap();
    let root = env.id();
    let mut ids = Vec::new();
    for n in 0..20 {
        let item = node(&env, Some(root), &json!({ "n": n }));
        ids.push(item.id);
        commit(&store, &env, vec![put(item, None)], vec![]).await.unwrap();
    }
    // As a kill would leave it.
    let killed = folder.path().join("killed");
    copy(&live, &killed);
    let journal = journal(&killed);
    let mut whole = std::fs::read(&journal).unwrap();
    // Most of a journal is room set aside: some of it is enough, so many cases take less time.
    whole.truncate(whole.iter().rposition(|byte| *byte != 0).unwrap() + 4096);
    std::fs::write(&journal, &whole).unwrap();
    let tags = tags(&whole);
    assert!(tags.len() > 60, "{} tags in {} bytes", tags.len(), whole.len());
    let (mut refused, mut opened) = (0, 0);
    for &tag in &tags {
        let case = folder.path().join(format!("case-{tag}"));
        copy(&killed, &case);
        let path = case.join("store").join(journal.file_name().unwrap());
        let mut bytes = whole.clone();
        bytes[tag] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        match embedded::open(&case, limits()) {
            Ok(store) => {
                let found = store.snapshot().await.unwrap().elements(Kind::Node, &ids).await.unwrap();
                let there = found.iter().flatten().count();
                assert!(there + 1 >= ids.len(), "tag {tag}: {there} of {} without a word", ids.len());
                opened += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(case.to_str().unwrap()), "{text}");
                assert!(std::fs::read(&path).unwrap() == bytes, "tag {tag}: the journal is as it was");
                refused += 1;
            }
        }
        // Thread and files of this case are let go of by the system; its folder goes with the test's.
    }
    assert!(refused > tags.len() / 2, "{refused} refused, {opened} opened");
}

/// Where every batch begins, and how many groups before the last may be unsynced by what that one says.
fn batches(journal: &[u8]) -> (Vec<usize>, u64) {
    let starts: Vec<usize> = tags(journal).into_iter().filter(|at| journal[*at] == 1).collect();
    let last = &journal[*starts.last().unwrap()..];
    let magic = b"\xf7WKBTGR\x01";
    let at = last.windows(magic.len()).position(|bytes| bytes == magic).unwrap() + magic.len();
    let number = |at: usize| u64::from_be_bytes(last[at..at + 8].try_into().unwrap());
    (starts, number(at) - number(at + 8) - 1)
}

/// A store as a power loss leaves it, with a journal to spoil: three nodes, three claims that are not synced, one more node.
async fn unsynced_claims(folder: &std::path::Path) -> (Vec<Uuid>, Vec<u8>, Vec<usize>) {
    let env = env();
    for attempt in 0.. {
        let live = folder.join(format!("live-{attempt}"));
        std::fs::create_dir(&live).unwrap();
        let store = embedded::open(&live, limits()).unwrap();
        let walkers: Vec<_> = (0..3).map(|_| walker(&env, env.id())).collect();
        for walker in &walkers {
            store.submit(Submission { key: None, walker: walker.clone() }).await.unwrap();
        }
        let mut ids = Vec::new();
        for n in 0..4 {
            if n == 3 {
                for walker in &walkers {
                    take(&store, &env, walker.id.0).await;
                }
            }
            let item = node(&env, Some(env.id()), &json!({ "n": n }));
            ids.push(item.id);
            commit(&store, &env, vec![put(item, None)], vec![]).await.unwrap();
        }
        let killed = folder.join("killed");
        copy(&live, &killed);
        let bytes = std::fs::read(journal(&killed)).unwrap();
        let (starts, unsynced) = batches(&bytes);
        // When this thread was held up, a `started` event came in between and was synced.
        if unsynced == 3 {
            return (ids, bytes, starts);
        }
    }
    unreachable!()
}

async fn there(store: &Shared, ids: &[Uuid]) -> Vec<bool> {
    let found = store.snapshot().await.unwrap().elements(Kind::Node, ids).await.unwrap();
    found.iter().map(Option::is_some).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_may_take_pages_of_what_was_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let (ids, whole, starts) = unsynced_claims(folder.path()).await;
    let spoil = |case: &str, batch: usize| {
        let case = folder.path().join(case);
        copy(&folder.path().join("killed"), &case);
        let mut bytes = whole.clone();
        bytes[starts[batch]..starts[batch + 1]].fill(0);
        std::fs::write(journal(&case), bytes).unwrap();
        embedded::open(&case, limits())
    };
    let last = starts.len() - 1;
    let store = spoil("first claim", last - 3).unwrap();
    assert_eq!(there(&store, &ids).await, [true, true, true, false]);
    let refused = spoil("synced", last - 4).err().unwrap().to_string();
    assert!(refused.contains("is damaged"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_journal_is_noticed_after_a_clean_stop() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let store = embedded::open(folder.path(), limits()).unwrap();
    for _ in 0..10 {
        commit(&store, &env, vec![put(node(&env, Some(env.id()), &json!({})), None)], vec![]).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    // The engine tidies up until it lets go of the lock.
    let lock = std::fs::File::open(folder.path().join("lock")).unwrap();
    while lock.try_lock().is_err() {
        tokio::task::yield_now().await;
    }
    let cut = folder.path().join("cut");
    std::fs::create_dir(&cut).unwrap();
    for part in ["store", "clean-stop"] {
        let (from, to) = (folder.path().join(part), cut.join(part));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
    let journal = journal(&cut);
    let bytes = std::fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(&journal, &bytes[..used / 2]).unwrap();
    let refused = embedded::open(&cut, limits()).err().unwrap().to_string();
    assert!(refused.contains("is gone") || refused.contains("damaged"), "{refused}");
    assert_eq!(std::fs::read(&journal).unwrap().len(), used / 2);
}
