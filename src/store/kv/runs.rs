//! What happens to runs outside of commits: submission, claim, progress, and what others want of them.

use uuid::Uuid;
use walkabout_schema::{ErrorCode, Event, EventKind, Key, Name, State, Timestamp, Walker};

use super::{
    apply::{self, end_unheld, put_events, put_live, under_way},
    codec::{self, Answer, Live, More},
    engine::{Range, Space},
    keys,
    stage::Stage,
    writer::Shared,
};
use crate::{
    run::lifecycle::{self, Step},
    store::{Act, Acted, Due, RequestKey, Result, RunEvents, Submission, Submitted, Token},
};

/// How many requests are forgotten, at most, when a new one comes.
const FORGOTTEN_AT_ONCE: usize = 4;

/// A run about to be stored, encoded.
#[derive(Clone)]
pub(crate) struct NewRun {
    id: Uuid,
    root: Uuid,
    name: Name,
    document: Vec<u8>,
    live: Live,
    encoded_live: Vec<u8>,
    /// Its place in the index of due runs.
    timer: Option<Timestamp>,
    accepted: Event,
    event: Vec<u8>,
    index: Vec<u8>,
    key: Option<RequestKey>,
}

impl NewRun {
    pub(crate) fn new(submission: &Submission) -> Result<Self> {
        let Submission { walker, key } = submission;
        let (id, root, name) = (walker.id.0, walker.owner(), walker.name.clone());
        let accepted = Event { seq: 1, at: walker.run.created_at, attempt: 0, event: EventKind::Accepted };
        let (due_at, deadline) = (walker.run.next_attempt_at, walker.run.deadline);
        let more = More { due_at, deadline, ..More::default() };
        let mut live = Live {
            root: Key(root),
            name: name.clone(),
            state: walker.run.state,
            attempt: 0,
            lost: 0,
            conflicts: 0,
            epoch: 0,
            counter: 0,
            started_at: None,
            executed_at: None,
            seq: 1,
            checkpointed: false,
            segmented: false,
            goes_on: false,
            progress: serde_json::Value::Null,
            more: (more != More::default()).then(|| Box::new(more)),
        };
        let timer = live.wakes_at();
        if timer.is_some() {
            live.more_mut().timer = timer;
        }
        Ok(Self {
            id,
            root,
            document: codec::encode(walker)?,
            encoded_live: codec::encode(&live)?,
            timer,
            live,
            event: codec::encode(&accepted)?,
            index: keys::status_and_name(walker.schedule.status, &name),
            accepted,
            name,
            key: key.clone(),
        })
    }

    /// The length of the record.
    pub(crate) fn bytes(&self) -> usize {
        self.document.len()
    }
}

/// Stores a run, unless its request is known.
pub(crate) fn submit(
    shared: &Shared,
    stage: &mut Stage,
    swept: &mut Vec<u8>,
    run: NewRun,
) -> Result<(Submitted, Option<RunEvents>)> {
    let NewRun { id, root, name, document, live, encoded_live, timer, accepted, event, index, key } = run;
    if let Some(key) = key {
        if let Some(known) = known(shared, stage, &key, accepted.at)? {
            return Ok((known, None));
        }
        remember(shared, stage, swept, id, &key, accepted.at)?;
    }
    stage.put(Space::Walker, id.as_bytes().to_vec(), document);
    stage.put(Space::Event, keys::event(id, 1), event);
    stage.put(Space::ByRoot, keys::by_root(root, true, id), index);
    stage.put(Space::Live, id.as_bytes().to_vec(), encoded_live);
    match timer {
        None => stage.remember_live(id, live),
        Some(at) => stage.put(Space::Due, keys::due(at, id), root.as_bytes().to_vec()),
    }
    Ok((Submitted::New, Some(RunEvents { id, name, events: vec![accepted] })))
}

/// Uses up what can be used once. False when it was used before.
pub(crate) fn spend(
    shared: &Shared,
    stage: &mut Stage,
    swept: &mut Vec<u8>,
    key: &RequestKey,
    now: Timestamp,
) -> Result<bool> {
    let is_spent = known(shared, stage, key, now)?.is_some();
    if !is_spent {
        remember(shared, stage, swept, Uuid::nil(), key, now)?;
    }
    Ok(!is_spent)
}

/// Keeps what a request led to, and forgets some whose time is over.
fn remember(
    shared: &Shared,
    stage: &mut Stage,
    swept: &mut Vec<u8>,
    id: Uuid,
    key: &RequestKey,
    now: Timestamp,
) -> Result<()> {
    forget(shared, stage, swept, now)?;
    let value = [&id.as_bytes()[..], &key.request, &key.until.millis().to_be_bytes()].concat();
    stage.put(Space::Request, keys::request(&key.key), value);
    stage.put(Space::Request, keys::request_end(key.until, &key.key), Vec::new());
    // Behind the cursor nobody would find it: the clock may have stepped back.
    let before = keys::request_end(key.until, &[0; 32]);
    if before < *swept {
        *swept = before;
    }
    Ok(())
}

/// What a request of this key led to, when that is not forgotten.
fn known(shared: &Shared, stage: &Stage, key: &RequestKey, now: Timestamp) -> Result<Option<Submitted>> {
    let kept = stage.get(&*shared.engine, Space::Request, &keys::request(&key.key))?;
    let parsed = kept.as_deref().and_then(|kept| {
        let (run, rest) = kept.split_first_chunk::<16>()?;
        let (request, until) = rest.split_first_chunk::<32>()?;
        Some((*run, *request, Timestamp::from_millis(i64::from_be_bytes(*until.first_chunk()?))))
    });
    Ok(parsed.filter(|(_, _, until)| *until > now).map(|(run, request, _)| match request == key.request {
        true => Submitted::Known(Uuid::from_bytes(run)),
        false => Submitted::Reused,
    }))
}

/// Forgets requests whose time is over: more than come, so that they do not gather.
fn forget(shared: &Shared, stage: &mut Stage, swept: &mut Vec<u8>, now: Timestamp) -> Result<()> {
    let mut range = Range::prefix(b"x").before(keys::request_end(now, &[0; 32]));
    if !swept.is_empty() {
        range = range.after(swept.clone());
    }
    for (end, _) in shared.engine.scan(Space::Request, range, false, FORGOTTEN_AT_ONCE)? {
        if let Some(key) = keys::request_of_end(&end) {
            // A younger request may have taken the key over.
            let is_over = stage.get(&*shared.engine, Space::Request, &keys::request(key))?;
            let until = is_over.as_deref().and_then(|kept| kept.get(48..)?.first_chunk::<8>().copied());
            if until.is_some_and(|until| i64::from_be_bytes(until) <= now.millis()) {
                stage.remove(Space::Request, keys::request(key));
            }
        }
        stage.remove(Space::Request, end.clone());
        *swept = end;
    }
    Ok(())
}

/// What a claim found.
pub(crate) enum Taken {
    Run(Box<Live>),
    Early(Due),
    Nothing,
}

/// Takes a run for an attempt. `is_left` tells of one that another process left: the one that holds it is gone, or an older program parked
/// it.
pub(crate) fn claim(
    shared: &Shared,
    stage: &mut Stage,
    id: Uuid,
    token: Token,
    now: Timestamp,
    is_left: impl Fn(&Live) -> bool,
) -> Result<(Taken, Option<RunEvents>)> {
    let nothing = Ok((Taken::Nothing, None));
    let Some(mut live) = stage.live(&*shared.engine, id)? else { return nothing };
    let is_left = is_left(&live);
    if live.state.is_under_way() && !is_left {
        return nothing;
    }
    if let Some(end) = wanted_end(&live, now) {
        return Ok((Taken::Nothing, Some(end_unheld(shared, stage, now, id, live, end)?)));
    }
    let due_at = match live.state {
        State::Scheduled | State::Waiting | State::Paused => live.wakes_at(),
        State::Incompatible if !is_left => live.wakes_at(),
        _ => Some(now),
    };
    let Some(due_at) = due_at else { return nothing };
    if due_at > now {
        return Ok((Taken::Early(Due { id, root: live.root.0, lost: live.lost, at: due_at }), None));
    }
    if let Some(held) = hold_lost(&mut live) {
        let events = vec![apply::number(&mut live, now, held)];
        put_events(stage, &shared.limits, id, &events)?;
        let (name, wakes_at) = (live.name.clone(), live.wakes_at());
        let due = wakes_at.map(|at| Due { id, root: live.root.0, lost: live.lost, at });
        put_live(stage, id, live);
        return Ok((due.map_or(Taken::Nothing, Taken::Early), Some(RunEvents { id, name, events })));
    }
    let Some(state) = lifecycle::next(live.state, Step::Claim) else { return nothing };
    // Found under way though its process is gone: that attempt ended with it.
    if live.state.is_under_way() {
        live.lost += 1;
        live.goes_on = false;
    }
    live.state = state;
    live.attempt += u32::from(!live.goes_on);
    (live.epoch, live.counter) = (token.epoch, token.counter);
    live.started_at = live.started_at.or(Some(now));
    live.executed_at = Some(now);
    let claimed = Box::new(live.clone());
    if let Some(more) = &mut live.more {
        // The answer stays until a checkpoint is past it.
        (more.due_at, more.error, more.waits_for) = (None, None, None);
    }
    put_live(stage, id, live);
    Ok((Taken::Run(claimed), None))
}

/// Holds a run that was asked to pause while it was under way, and whose attempt went with its process before it did.
fn hold_lost(live: &mut Live) -> Option<EventKind> {
    live.more().pause_requested_at?;
    if live.state.is_under_way() {
        (live.lost, live.goes_on) = (live.lost + 1, false);
    }
    apply::hold(live)
}

/// Why a run that nobody holds has to be ended instead of taken up.
fn wanted_end(live: &Live, now: Timestamp) -> Option<(ErrorCode, String)> {
    let More { deadline, cancel_requested_at, .. } = live.more();
    if cancel_requested_at.is_some() {
        return Some((ErrorCode::Cancelled, "the run was cancelled".to_owned()));
    }
    let deadline = deadline.filter(|deadline| *deadline <= now)?;
    Some((ErrorCode::TimedOut, format!("the run had not ended by its deadline {deadline}")))
}

pub(crate) fn act(
    shared: &Shared,
    stage: &mut Stage,
    id: Uuid,
    now: Timestamp,
    act: Act,
) -> Result<(Option<Acted>, Option<RunEvents>)> {
    let Some(mut live) = stage.live(&*shared.engine, id)? else {
        let Some(document) = stage.get(&*shared.engine, Space::Walker, id.as_bytes())? else {
            return Ok((None, None));
        };
        let walker: Walker = codec::decode(&document)?;
        return Ok((Some(Acted::Refused(walker.run.state)), None));
    };
    let (acted, event) = match act {
        Act::Cancel { reason } if !live.state.is_under_way() => {
            let events = end_unheld(shared, stage, now, id, live, (ErrorCode::Cancelled, reason))?;
            return Ok((Some(Acted::Done), Some(events)));
        }
        Act::Cancel { .. } => ask_for_end(&mut live, now),
        Act::Pause => pause(&mut live, id, now),
        Act::Resume => resume(&mut live, id),
        Act::Answer { name, value } => answer(&mut live, id, name, value),
    };
    let Some(event) = event else { return Ok((Some(acted), None)) };
    let mut events: Vec<Event> = apply::say_started(&mut live).into_iter().collect();
    events.push(apply::number(&mut live, now, event));
    let acted = if matches!(acted, Acted::Asked(_)) { Acted::Asked(live.seq) } else { acted };
    put_events(stage, &shared.limits, id, &events)?;
    let events = RunEvents { id, name: live.name.clone(), events };
    put_live(stage, id, live);
    Ok((Some(acted), Some(events)))
}

type Told = (Acted, Option<EventKind>);

fn ask_for_end(live: &mut Live, now: Timestamp) -> Told {
    let more = live.more_mut();
    if more.cancel_requested_at.is_some() {
        return (Acted::Already, None);
    }
    more.cancel_requested_at = Some(now);
    (Acted::Asked(0), Some(EventKind::CancelRequested))
}

fn pause(live: &mut Live, id: Uuid, now: Timestamp) -> Told {
    let from = live.state;
    if from == State::Paused || live.more().pause_requested_at.is_some() {
        return (Acted::Already, None);
    }
    let Some(paused) = lifecycle::next(from, Step::Pause) else { return (Acted::Refused(from), None) };
    live.more_mut().pause_requested_at = Some(now);
    if from.is_under_way() {
        return (Acted::Asked(0), Some(EventKind::PauseRequested));
    }
    live.more_mut().paused_from = Some(from);
    live.state = paused;
    // Its deadline still ends it: the queue may know it as a queued run only, or not at all.
    let due = live.wakes_at().map(|at| Acted::Due(Due { id, root: live.root.0, lost: live.lost, at }));
    (due.unwrap_or(Acted::Done), Some(EventKind::Paused))
}

fn resume(live: &mut Live, id: Uuid) -> Told {
    let from = live.state;
    if live.more().pause_requested_at.is_none() {
        return (Acted::Already, None);
    }
    let step = match live.more().paused_from {
        Some(State::Waiting) => Step::ResumeWaiting,
        Some(State::Scheduled) => Step::ResumeScheduled,
        _ => Step::Resume,
    };
    let resumed = lifecycle::next(from, step);
    let more = live.more_mut();
    (more.pause_requested_at, more.paused_from) = (None, None);
    // Under way it is only told that nobody wants the pause any more.
    let Some(resumed) = resumed else { return (Acted::Asked(0), Some(EventKind::Released)) };
    live.state = resumed;
    let at = match resumed {
        State::Queued => Some(Timestamp::default()),
        _ => live.wakes_at(),
    };
    let due = at.map(|at| Acted::Due(Due { id, root: live.root.0, lost: live.lost, at }));
    (due.unwrap_or(Acted::Done), Some(EventKind::Released))
}

fn answer(live: &mut Live, id: Uuid, name: String, value: serde_json::Value) -> Told {
    let from = live.state;
    let waits = live.more().waits_for.as_ref() == Some(&name);
    let is_waiting = from == State::Waiting;
    let is_held = from == State::Paused && live.more().paused_from == Some(State::Waiting);
    if !waits || !(is_waiting || is_held) {
        return (Acted::Refused(from), None);
    }
    let more = live.more_mut();
    more.answer = Some(Answer { value });
    (more.waits_for, more.due_at) = (None, None);
    let event = Some(EventKind::Answered { waits_for: name });
    match lifecycle::next(from, Step::Answer).filter(|_| is_waiting) {
        Some(state) => {
            live.state = state;
            let due = Due { id, root: live.root.0, lost: live.lost, at: Timestamp::default() };
            (Acted::Due(due), event)
        }
        None => {
            live.more_mut().paused_from = Some(State::Queued);
            (Acted::Done, event)
        }
    }
}

/// Writes the first event of an attempt that has written nothing else for a while.
pub(crate) fn say_started(
    shared: &Shared,
    stage: &mut Stage,
    id: Uuid,
    token: Token,
) -> Result<Option<RunEvents>> {
    let Ok(mut live) = under_way(shared, stage, id, token) else { return Ok(None) };
    let Some(event) = apply::say_started(&mut live) else { return Ok(None) };
    put_events(stage, &shared.limits, id, std::slice::from_ref(&event))?;
    let events = RunEvents { id, name: live.name.clone(), events: vec![event] };
    stage.put_live(id, live);
    Ok(Some(events))
}

pub(crate) fn progress(
    shared: &Shared,
    stage: &mut Stage,
    id: Uuid,
    token: Token,
    now: Timestamp,
    data: serde_json::Value,
) -> Result<(u64, RunEvents)> {
    let mut live = under_way(shared, stage, id, token)?;
    let mut events: Vec<Event> = apply::say_started(&mut live).into_iter().collect();
    live.progress = data.clone();
    events.push(apply::number(&mut live, now, EventKind::Progress { data }));
    put_events(stage, &shared.limits, id, &events)?;
    let told = (live.seq, RunEvents { id, name: live.name.clone(), events });
    stage.put_live(id, live);
    Ok(told)
}
