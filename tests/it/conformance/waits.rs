//! Runs that wait, are held, and end at their time.

use super::*;

pub(super) async fn sleepers(store: &Shared, after: Option<(Timestamp, Uuid)>) -> Vec<Due> {
    store.sleepers(after, 1000).await.unwrap()
}

pub(super) async fn sleepers_are_due_at_their_time(store: &Shared, env: &Env) {
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

pub(super) async fn an_answer_wakes_who_waits_for_it(store: &Shared, env: &Env) {
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

pub(super) async fn others_cancel_pause_and_resume(store: &Shared, env: &Env) {
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
pub(super) async fn a_wish_outlives_the_attempt_that_was_asked(store: &Shared, env: &Env) {
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

pub(super) async fn a_pause_that_was_taken_back_holds_nothing(store: &Shared, env: &Env) {
    let claim = claimed(store, env, env.id()).await;
    let id = claim.walker.id.0;
    let act = async |act| store.act(id, env.now(), act).await.unwrap().unwrap();
    assert!(matches!(act(Act::Pause).await, Acted::Asked(_)));
    assert!(matches!(act(Act::Resume).await, Acted::Asked(_)));
    // The attempt had heard of the pause alone.
    release(store, env, &claim, Release::Pause).await;
    assert_eq!((state(store, id).await, is_taken(store, env, id).await), (State::Queued, true));
}

pub(super) async fn deadlines_end_runs_that_nobody_holds(store: &Shared, env: &Env) {
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

pub(super) async fn a_held_run_is_due_at_its_deadline(store: &Shared, env: &Env) {
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
pub(super) async fn a_cancel_right_behind_a_claim_is_in_the_record(store: &Shared, env: &Env) {
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
