//! Elements, versions, snapshots and links.

use super::*;

pub(super) async fn elements_and_versions(store: &Shared, env: &Env) {
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

pub(super) async fn snapshots_stand_still(store: &Shared, env: &Env) {
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

pub(super) async fn links_follow_edges(store: &Shared, env: &Env) {
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

pub(super) async fn guards_hold(store: &Shared, env: &Env) {
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

pub(super) async fn additions_never_conflict(store: &Shared, env: &Env) {
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

pub(super) async fn a_refused_commit_leaves_nothing(store: &Shared, env: &Env) {
    let item = node(env, Some(env.id()), &json!({}));
    let id = item.id;
    let missing = env.id();
    let changes = vec![put(item, None), Change::Delete { kind: Kind::Node, id: missing, expected: 1 }];
    assert_eq!(conflicts(commit(store, env, changes, vec![]).await), [missing]);
    assert!(load(store, Kind::Node, id).await.is_none());
}

pub(super) async fn concurrent_commits_do_not_lose_updates(store: &Shared, env: &Env) {
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
