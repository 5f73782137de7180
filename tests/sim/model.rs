//! What must hold, from what the users were told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use walkabout::{
    runtime::Caller,
    schema::{State, Status, Timestamp, WalkerId, wire::Record},
};

use crate::walkers::{self, ATTEMPTS, PATIENCE};

/// Attempts in a row that end with their process, at which a run fails.
const LOST: u64 = 3;

/// What a user knows of one submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// No answer, or one that says so.
    Nothing,
    Accepted(WalkerId),
    /// It was refused: nothing may be there of it.
    Refused,
    /// A plain walker ended, well or not.
    Ended(bool),
}

/// What somebody wants of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verb {
    Cancel,
    Pause,
    Resume,
}

#[derive(Debug, Clone)]
pub struct Submission {
    pub user: usize,
    pub walker: &'static str,
    pub n: u64,
    pub fate: u64,
    pub known: Known,
    /// The run that a retry by hand took the place of.
    pub before: Option<WalkerId>,
    /// Somebody has asked for a retry by hand.
    pub is_retried: bool,
}

/// What users want of one run.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Somebody may have asked for its end.
    pub cancel_sent: bool,
    /// It was told to have ended so.
    cancelled: bool,
    /// Somebody may have asked for a pause.
    pub pause_sent: bool,
    /// It is paused, and nobody has asked for anything else since: which of its pauses that is.
    held: Option<u64>,
    pauses: u64,
}

impl Wishes {
    fn hold(&mut self) {
        if self.held.is_none() {
            self.pauses += 1;
            self.held = Some(self.pauses);
        }
    }
}

/// The resumes of one user: while one may be under way nobody knows what is held.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resumes {
    sent: u64,
    answered: u64,
}

/// A run that can write nothing, and the pause that holds it: 0 when it has ended.
pub type Still = (String, u64);

#[derive(Default)]
pub struct Model {
    pub wishes: BTreeMap<String, Wishes>,
    resumes: BTreeMap<usize, Resumes>,
    /// Acts on many runs of a user that are under way: each may find what its submission was not answered for yet.
    broad: Vec<(usize, Verb)>,
    /// Entries of runs that can write none any more, or not while a pause holds them: that pause, and how many.
    fixed: BTreeMap<u64, (Still, u64)>,
    pub users: Vec<Caller>,
    pub submissions: BTreeMap<u64, Submission>,
    /// The submissions under a name, each with its first answer.
    pub keyed: BTreeMap<u64, Option<String>>,
    /// Those of which an answer said that it was the first.
    begun: BTreeSet<u64>,
    /// The events of followed runs, as they were seen first.
    pub seen: BTreeMap<String, Vec<Value>>,
    ended: BTreeMap<String, Value>,
    /// The number of each run's latest attempt.
    attempts: BTreeMap<String, u32>,
    /// What runs were answered with, and whether that was taken; none when nobody knows.
    pub answers: BTreeMap<String, BTreeMap<u64, Option<bool>>>,
    pub log: Vec<String>,
    pub violation: Option<String>,
}

impl Model {
    pub fn violate(&mut self, what: String) {
        self.log.push(format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
    }

    /// A process begins: what was under way in the last one is not any more.
    pub fn begin(&mut self) {
        self.broad.clear();
        for resumes in self.resumes.values_mut() {
            resumes.answered = resumes.sent;
        }
    }

    fn resumes(&self, user: usize) -> Resumes {
        self.resumes.get(&user).copied().unwrap_or_default()
    }

    /// The runs of a user that it knows.
    fn runs_of(&self, user: usize) -> Vec<String> {
        let of = self.submissions.values().filter(|submission| submission.user == user);
        of.filter_map(|submission| match &submission.known {
            Known::Accepted(id) => Some(id.to_string()),
            _ => None,
        })
        .collect()
    }

    fn wish(&mut self, run: &str, verb: Verb) {
        let wishes = self.wishes.entry(run.to_owned()).or_default();
        match verb {
            Verb::Cancel => wishes.cancel_sent = true,
            Verb::Pause => wishes.pause_sent = true,
            Verb::Resume => wishes.held = None,
        }
    }

    /// A submission was accepted.
    pub fn accepted(&mut self, user: usize, run: &str) {
        for (_, verb) in self.broad.clone().into_iter().filter(|(of, _)| *of == user) {
            self.wish(run, verb);
        }
    }

    /// A user acts on a run, or on many.
    pub fn acts(&mut self, user: usize, run: Option<&str>, verb: Verb) -> Resumes {
        if verb == Verb::Resume {
            self.resumes.entry(user).or_default().sent += 1;
        }
        match run {
            Some(run) => self.wish(run, verb),
            None => {
                self.broad.push((user, verb));
                for run in self.runs_of(user) {
                    self.wish(&run, verb);
                }
            }
        }
        self.resumes(user)
    }

    /// It is answered: with the runs that are so now.
    pub fn acted(&mut self, user: usize, is_broad: bool, verb: Verb, asked: Resumes, done: &[String]) {
        self.log.push(format!("{user} did {verb:?} to {done:?}"));
        if verb == Verb::Resume {
            self.resumes.entry(user).or_default().answered += 1;
        }
        let position = self.broad.iter().position(|one| *one == (user, verb));
        if let Some(position) = position.filter(|_| is_broad) {
            self.broad.remove(position);
        }
        let is_still = asked.sent == asked.answered && self.resumes(user) == asked;
        for run in done {
            self.wish(run, verb);
            let wishes = self.wishes.entry(run.clone()).or_default();
            match verb {
                Verb::Cancel => wishes.cancelled = true,
                Verb::Pause if is_still => wishes.hold(),
                Verb::Pause => {}
                Verb::Resume => {}
            }
        }
    }

    /// What a record shows is what was told of it.
    fn governed(&mut self, id: &str, state: State) {
        let user = self
            .submissions
            .values()
            .find(|one| matches!(&one.known, Known::Accepted(known) if known.to_string() == id));
        let has_deadline = user.is_some_and(|one| one.walker == "brief");
        let resumes = user.map(|one| self.resumes(one.user)).unwrap_or_default();
        let wishes = self.wishes.entry(id.to_owned()).or_default();
        let known = wishes.clone();
        if state == State::Paused && resumes.sent == resumes.answered {
            wishes.hold();
        }
        if known.cancelled && state != State::Cancelled {
            self.violate(format!("{id} was cancelled and is {state:?}"));
        }
        let may_be_held = match state {
            State::Paused => true,
            State::Cancelled => known.cancel_sent,
            State::TimedOut => has_deadline,
            _ => false,
        };
        if known.held.is_some() && !may_be_held {
            self.violate(format!("{id} was paused, nobody resumed it, and it is {state:?}"));
        }
        if state == State::Paused && !known.pause_sent {
            self.violate(format!("{id} is paused, and nobody asked for it"));
        }
    }

    /// From now on everything is resumed, also what nobody knows of yet.
    pub fn resume_all(&mut self) {
        for wishes in self.wishes.values_mut() {
            wishes.held = None;
        }
    }

    /// The runs of a user that can write nothing, by their submissions.
    pub fn still(&self, user: usize) -> BTreeMap<u64, Still> {
        let of_user = self.submissions.iter().filter(|(_, submission)| submission.user == user);
        let still = of_user.filter_map(|(tag, submission)| {
            let Known::Accepted(id) = &submission.known else { return None };
            let id = id.to_string();
            let pause = if self.ended.contains_key(&id) { 0 } else { self.wishes.get(&id)?.held? };
            Some((*tag, (id, pause)))
        });
        still.collect()
    }

    fn attempt(&mut self, run: &str, attempt: u32) {
        let known = self.attempts.entry(run.to_owned()).or_default();
        let before = std::mem::replace(known, attempt.max(*known));
        if before > attempt {
            self.violate(format!("{run} was at attempt {before} and is at {attempt}"));
        }
    }

    /// A run was given an answer; whether it was taken, when that is known.
    pub fn answered(&mut self, run: &str, value: u64, taken: Option<bool>) {
        self.log.push(format!("{run} answered {value}: {taken:?}"));
        let answers = self.answers.entry(run.to_owned()).or_default();
        answers.insert(value, taken);
        if answers.values().filter(|taken| **taken == Some(true)).count() > 1 {
            self.violate(format!("{run} took two answers"));
        }
    }

    /// A request under a name got an answer: every time the same, and after the first as a repetition where that is told.
    pub fn keyed_answer(&mut self, tag: u64, known: Known, answer: String, repeated: Option<bool>) {
        self.log.push(format!("{tag} under its name: {answer}, repeated {repeated:?}"));
        let first = self.keyed.entry(tag).or_default();
        match first.clone() {
            None => *first = Some(answer),
            Some(first) if first != answer => {
                return self.violate(format!("request {tag} was answered {first} and is answered {answer}"));
            }
            Some(_) => {}
        }
        if repeated == Some(false) && !self.begun.insert(tag) {
            return self.violate(format!("request {tag} is begun twice"));
        }
        if let Known::Accepted(id) = &known {
            // It may have been there for long, and many were paused meanwhile.
            self.wish(&id.to_string(), Verb::Pause);
        }
        if let Some(submission) = self.submissions.get_mut(&tag) {
            submission.known = known;
        }
    }

    /// A follower got an event.
    pub fn event(&mut self, run: &str, seq: u64, event: Value) {
        let seen = self.seen.entry(run.to_owned()).or_default();
        let (index, length) = (seq as usize - 1, seen.len());
        let known = seen.get(index).cloned();
        match known {
            Some(known) if known == event => {}
            Some(known) => self.violate(format!("event {seq} of {run} was {known} and is {event}")),
            None if index == length => {
                seen.push(event.clone());
                self.log.push(format!("{run} {seq} {event}"));
            }
            None => self.violate(format!("event {seq} of {run} follows {length}")),
        }
    }

    /// Somebody read a record; none when it is not there.
    pub fn record(&mut self, id: &WalkerId, record: Option<&Record>) {
        let Some(record) = record else { return self.violate(format!("{id} was accepted and is gone")) };
        let text = serde_json::to_value(record).unwrap();
        let id = id.to_string();
        self.governed(&id, record.run.state);
        // Nothing of an attempt that starts is durable yet.
        if record.run.state != State::Starting {
            self.attempt(&id, record.run.attempt);
        }
        match self.ended.get(&id).cloned() {
            Some(known) if known != text => self.violate(format!("{id} ended as {known} and is {text}")),
            Some(_) => {}
            None if matches!(record.schedule.status, Status::Completed | Status::Failed) => {
                self.log.push(format!("{id} ended {:?} {:?}", record.schedule.status, record.schedule.error));
                self.ended.insert(id, text);
            }
            None => {}
        }
    }

    /// The graph of a user is there as its submissions ended; those that did not may be there.
    pub fn audit(&mut self, user: usize, still: &BTreeMap<u64, Still>, reports: &[Value]) {
        let found = Found::read(reports);
        self.log.push(format!(
            "audit {user}: {} entries, {} marks, {} items",
            found.entries.len(),
            found.marks.len(),
            found.items.len()
        ));
        if let Err(what) = found
            .agrees()
            .and_then(|()| self.fits(user, &found))
            .and_then(|()| self.stays(user, still, &found))
        {
            self.violate(format!("user {user}: {what}; {}", Value::Array(reports.to_vec())));
        }
    }

    /// What was still before the audit began, and is now, has written nothing since the last one.
    fn stays(&mut self, user: usize, before: &BTreeMap<u64, Still>, found: &Found) -> Result<(), String> {
        let now = self.still(user);
        for (tag, still) in before.iter().filter(|(tag, still)| now.get(tag) == Some(still)) {
            let entries = found.entries.range(tag * 100..tag * 100 + 100).count() as u64;
            let known = self.fixed.insert(*tag, (still.clone(), entries));
            if let Some((_, known)) = known.filter(|(held, known)| held == still && *known != entries) {
                return Err(format!("{tag} has ended or is held, had {known} entries and has {entries}"));
            }
        }
        Ok(())
    }

    fn fits(&self, user: usize, found: &Found) -> Result<(), String> {
        let of = |tag: u64| self.submissions.get(&tag).filter(|submission| submission.user == user);
        let tags = found.entries.keys().map(|entry| entry / 100).chain(found.marks.keys().copied());
        for tag in tags.chain(found.built.keys().copied()) {
            of(tag).ok_or_else(|| format!("{tag} is there and was never submitted by this user"))?;
        }
        for (tag, submission) in &self.submissions {
            if submission.user == user {
                self.fits_one(*tag, submission, found)
                    .map_err(|what| format!("{tag} {submission:?}: {what}"))?;
            }
        }
        Ok(())
    }

    fn fits_one(&self, tag: u64, submission: &Submission, found: &Found) -> Result<(), String> {
        let record = match &submission.known {
            Known::Accepted(id) => self.ended.get(&id.to_string()),
            _ => None,
        };
        let completed = match &submission.known {
            Known::Nothing => None,
            Known::Refused => Some(false),
            Known::Ended(completed) => Some(*completed),
            Known::Accepted(_) => record.map(|record| record["schedule"]["status"] == "completed"),
        };
        let entries: Vec<u64> =
            found.entries.range(tag * 100..tag * 100 + 100).map(|(entry, _)| entry % 100).collect();
        let has_mark = found.marks.contains_key(&tag);
        let built = found.built.get(&tag).copied().unwrap_or(0);
        if !entries.iter().copied().eq(0..entries.len() as u64) {
            return Err(format!("entries {entries:?}"));
        }
        let most = match submission.walker {
            "ask" | "quit" => 2,
            _ => submission.n,
        };
        if let (Some(record), Known::Accepted(id)) = (record, &submission.known) {
            self.ended_well(submission, &id.to_string(), record, entries.len() as u64)?;
        }
        let is_cancelled = record.is_some_and(|record| record["run"]["state"] == "cancelled");
        let (most_entries, marks, items) = match submission.walker {
            "increment" | "plainly" | "again" | "later" | "hang" => (1, false, 0),
            "nest" => (1, true, 0),
            "count" => (0, true, 0),
            "steps" | "doze" | "ask" | "quit" | "brief" => (most, false, 0),
            "build" => (0, false, submission.n),
            _ => (0, false, 0),
        };
        let whole = (entries.len() as u64, has_mark, built) == (most_entries, marks, items);
        let nothing = entries.is_empty() && !has_mark && built == 0;
        let has_parts = matches!(submission.walker, "steps" | "doze" | "ask" | "quit" | "brief");
        // The last visit of a brief one has a checkpoint as well: then only its end is to come.
        let is_whole_part = submission.walker == "brief" && entries.len() as u64 == most;
        let part = has_parts && ((entries.len() as u64) < most || is_whole_part);
        // A failed run of steps has those before the last.
        let simulated = record.is_some_and(|record| {
            record["schedule"]["error"]
                .as_str()
                .is_some_and(|error| error.contains("simulated") || error.contains("panicked"))
        });
        match completed {
            None if whole || nothing || part => Ok(()),
            Some(true) if whole => Ok(()),
            Some(false) if is_cancelled && (part || nothing) => Ok(()),
            Some(false) if part && simulated => {
                if entries.len() as u64 == most - 1 {
                    Ok(())
                } else {
                    Err("other steps than those before it failed".to_owned())
                }
            }
            Some(false) if nothing || part => Ok(()),
            _ => Err(format!(
                "completed {completed:?}, but entries {entries:?}, mark {has_mark}, {built} items"
            )),
        }
    }
}

/// How a run has to end when nobody does anything about it.
enum End {
    Well,
    Failed(&'static str),
    Cancelled,
    /// Only its deadline ends it.
    Never,
}

impl Submission {
    fn end(&self) -> End {
        match (self.walker, self.fate) {
            ("brief", 2) if self.n > 1 => End::Never,
            ("brief", 3) => End::Never,
            ("brief", _) => End::Well,
            ("again", 0 | 2) if self.n < ATTEMPTS => End::Well,
            ("again", 0) | ("nest", 2) => End::Failed("walker-failed"),
            ("ask", _) => End::Well,
            ("quit", _) => End::Cancelled,
            (_, 0) => End::Well,
            (_, 2) => End::Failed("walker-panicked"),
            _ => End::Failed("walker-failed"),
        }
    }

    /// How many attempts failed and were followed by another, at the end.
    fn retries(&self) -> u64 {
        match (self.walker, self.fate) {
            ("again", 0 | 2) => self.n.min(ATTEMPTS - 1),
            _ => 0,
        }
    }
}

impl Model {
    /// A run ended as its walker has to.
    fn ended_well(
        &self,
        submission: &Submission,
        id: &str,
        record: &Value,
        entries: u64,
    ) -> Result<(), String> {
        let run = &record["run"];
        let (state, code) = (run["state"].as_str().unwrap_or_default(), run["error_code"].as_str());
        let number = |name: &str| run[name].as_u64().unwrap_or_default();
        in_time(run)?;
        if code == Some("lost") {
            // One attempt in a row for each life that it was under way in.
            let holds = state == "failed" && number("lost") >= LOST && number("attempt") >= LOST;
            return if holds { Ok(()) } else { Err(format!("lost without a reason: {run}")) };
        }
        if state == "cancelled" && self.wishes.get(id).is_some_and(|wishes| wishes.cancel_sent) {
            return if code == Some("cancelled") { Ok(()) } else { Err(format!("cancelled as {code:?}")) };
        }
        let retried = submission.before.as_ref().map(|id| Value::from(id.to_string()));
        if run["retry_of"] != retried.unwrap_or_default() {
            return Err(format!("it repeats another run: {run}"));
        }
        if number("lost") >= LOST && state != "timed_out" {
            return Err(format!("an attempt was begun after {LOST} that were lost: {run}"));
        }
        let is_timed_out = state == "timed_out" && code == Some("timed-out");
        if submission.walker == "hang" {
            let holds = match state {
                "succeeded" => (submission.n..PATIENCE).contains(&number("retries")),
                _ => is_timed_out && number("retries") == PATIENCE - 1,
            };
            return if holds { Ok(()) } else { Err(format!("it did not try as often as it may: {run}")) };
        }
        if submission.walker == "brief" && is_timed_out {
            return Ok(());
        }
        let holds = match submission.end() {
            End::Never => false,
            End::Well => state == "succeeded" && code.is_none(),
            End::Failed(slug) => state == "failed" && code == Some(slug),
            End::Cancelled => state == "cancelled" && code == Some("cancelled") && entries == 1,
        };
        if !holds || number("retries") != submission.retries() {
            return Err(format!("it ended otherwise than it has to: {run}"));
        }
        if number("attempt") < 1 + number("retries") + number("lost") {
            return Err(format!("fewer attempts than were made: {run}"));
        }
        match self.answers.get(id) {
            Some(answers) if submission.walker == "ask" => answered_well(submission, answers, &run["result"]),
            _ => Ok(()),
        }
    }
}

/// A run that has a deadline is timed out when that is over before its end, and only then.
fn in_time(run: &Value) -> Result<(), String> {
    let time = |name: &str| serde_json::from_value::<Timestamp>(run[name].clone()).ok();
    let Some(deadline) = time("deadline") else { return Ok(()) };
    let holds = match run["state"].as_str() {
        // The clock may have stepped back since.
        Some("timed_out") => walkers::latest() >= deadline,
        // Who asked for it gets it, also late.
        Some("cancelled") => true,
        _ => time("finished_at").is_some_and(|finished_at| finished_at < deadline),
    };
    if holds { Ok(()) } else { Err(format!("its deadline did not end it when it was over: {run}")) }
}

/// Of several answers that one counts which was taken.
fn answered_well(
    submission: &Submission,
    answers: &BTreeMap<u64, Option<bool>>,
    result: &Value,
) -> Result<(), String> {
    let taken = answers.iter().find(|(_, taken)| **taken == Some(true)).map(|(value, _)| *value);
    let holds = match (taken, result.as_u64()) {
        (Some(taken), found) => found == Some(taken),
        (None, Some(found)) => answers.get(&found) == Some(&None),
        // It may have waited long enough.
        (None, None) => result.is_null() && submission.fate == 1,
    };
    if holds { Ok(()) } else { Err(format!("answered {answers:?}, and found {result}")) }
}

/// What an audit found under a root.
#[derive(Default)]
struct Found {
    ledgers: usize,
    value: i64,
    entries: BTreeMap<u64, usize>,
    marks: BTreeMap<u64, usize>,
    items: BTreeMap<String, Vec<u64>>,
    tombs: BTreeMap<String, usize>,
    /// Items and tombs by the submission that built them.
    built: BTreeMap<u64, u64>,
}

impl Found {
    fn read(reports: &[Value]) -> Self {
        let mut found = Self::default();
        let numbers = |value: &Value| -> Vec<u64> {
            value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
        };
        for report in reports {
            if let Some(value) = report["value"].as_i64() {
                found.ledgers += 1;
                found.value += value;
                for entry in numbers(&report["tags"]) {
                    *found.entries.entry(entry).or_default() += 1;
                }
            } else if let Some(mark) = report["mark"].as_u64() {
                *found.marks.entry(mark).or_default() += 1;
            } else if let Some(tag) = report["tag"].as_u64() {
                *found.built.entry(tag).or_default() += 1;
                match (report["item"].as_str(), report["tomb"].as_str()) {
                    (Some(item), _) => drop(found.items.insert(item.to_owned(), numbers(&report["seen"]))),
                    (_, Some(tomb)) => *found.tombs.entry(tomb.to_owned()).or_default() += 1,
                    _ => {}
                }
            }
        }
        found
    }

    fn agrees(&self) -> Result<(), String> {
        let once = |counts: &BTreeMap<u64, usize>| counts.values().all(|count| *count == 1);
        let seen_once =
            self.items.values().all(|seen| seen.iter().collect::<BTreeSet<_>>().len() == seen.len());
        let checks = [
            (self.ledgers <= 1, "two ledgers"),
            (
                self.value == (self.entries.len() + self.marks.len()) as i64,
                "a counter that is not the completed increments",
            ),
            (once(&self.entries), "an entry twice"),
            (once(&self.marks), "a mark twice"),
            (self.tombs.values().all(|count| *count == 1), "an item destroyed twice"),
            (!self.tombs.keys().any(|tomb| self.items.contains_key(tomb)), "an item that was destroyed"),
            (seen_once, "an item visited twice"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err((*what).to_owned()),
            None => Ok(()),
        }
    }
}
