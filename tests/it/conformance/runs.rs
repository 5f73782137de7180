//! Runs from their submission to their end, with records and events.

use super::*;

pub(super) async fn a_run_goes_from_submission_to_its_end(store: &Shared, env: &Env) {
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

pub(super) async fn a_lost_attempt_counts_until_the_next_checkpoint(store: &Shared, env: &Env) {
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

pub(super) async fn segments_come_and_go_with_checkpoints(store: &Shared, env: &Env) {
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

pub(super) async fn stale_tokens_are_refused(store: &Shared, env: &Env) {
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

pub(super) async fn a_repeated_request_is_known(store: &Shared, env: &Env) {
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

pub(super) async fn requests_are_forgotten_also_when_the_clock_steps_back(store: &Shared, env: &Env) {
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

pub(super) async fn runs_are_listed_newest_first(store: &Shared, env: &Env) {
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

/// Who reads that a run has ended finds its last event: subscribers rely on it.
pub(super) async fn a_record_and_its_events_agree(store: &Shared, env: &Env) {
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

pub(super) async fn a_silent_attempt_says_that_it_started(store: &Shared, env: &Env) {
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
