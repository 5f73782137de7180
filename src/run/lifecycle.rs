//! The one state machine of a run.
//!
//! [`next`] is all of it. The table and the diagram in `src/docs/runs.md` are written from it, and a test compares them.

use walkabout_schema::State;

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A runner takes it: it is due, or was under way in a process that is gone.
    Claim,
    /// The first thing of its attempt becomes durable.
    Begin,
    /// The attempt stands at a checkpoint and goes on.
    Checkpoint,
    /// The attempt lets go until a timer, an answer, or the next attempt.
    Wait,
    /// The attempt lets go because the process stops, or for another thread.
    HandBack,
    /// The attempt lets go because somebody asked for a pause, or nobody had begun it.
    Pause,
    /// Nobody holds it any more, and it was due.
    Resume,
    /// Nobody holds it any more, and it waited.
    ResumeWaiting,
    /// Nobody holds it any more, and its time is still to come.
    ResumeScheduled,
    /// What it waited for is there.
    Answer,
    /// The program does not know its walker or its fields.
    Park,
    /// It ends well.
    Succeed,
    /// It ends with an error.
    Fail,
    /// Its time is over.
    TimeOut,
    /// Somebody, or the walker, wants its end.
    Cancel,
}

/// The state after a step; none when the step cannot be taken. Final states have none.
///
/// Who takes the step checks what the state does not say: a claim is for a run that is due, or whose attempt is of an earlier epoch;
/// the steps of an attempt need its token.
pub(crate) fn next(state: State, step: Step) -> Option<State> {
    use State::{
        Cancelled, Failed, Incompatible, Paused, Queued, Running, Scheduled, Starting, Succeeded, TimedOut,
        Waiting,
    };
    match (state, step) {
        (Scheduled | Queued | Starting | Running | Waiting | Incompatible, Step::Claim) => Some(Starting),
        (Starting | Running, Step::Begin | Step::Checkpoint) => Some(Running),
        (Starting | Running, Step::Wait) => Some(Waiting),
        (Starting | Running, Step::HandBack) => Some(Queued),
        (Scheduled | Queued | Starting | Running | Waiting | Incompatible, Step::Pause) => Some(Paused),
        (Waiting, Step::Answer) => Some(Queued),
        (Starting | Running, Step::Park) => Some(Incompatible),
        (Starting | Running, Step::Succeed) => Some(Succeeded),
        (Starting | Running, Step::Fail) => Some(Failed),
        (_, Step::TimeOut) if !state.is_final() => Some(TimedOut),
        (_, Step::Cancel) if !state.is_final() => Some(Cancelled),
        (Paused, Step::Resume) => Some(Queued),
        (Paused, Step::ResumeWaiting) => Some(Waiting),
        (Paused, Step::ResumeScheduled) => Some(Scheduled),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// All of them, in the order of the documentation.
    const STEPS: [Step; 15] = [
        Step::Claim,
        Step::Begin,
        Step::Checkpoint,
        Step::Wait,
        Step::HandBack,
        Step::Pause,
        Step::Resume,
        Step::ResumeWaiting,
        Step::ResumeScheduled,
        Step::Answer,
        Step::Park,
        Step::Succeed,
        Step::Fail,
        Step::TimeOut,
        Step::Cancel,
    ];

    impl Step {
        /// Its words in the documentation: who takes it, and what for.
        fn words(self) -> [&'static str; 2] {
            match self {
                Self::Claim => ["runner", "takes it: it is due, or its attempt went with a process"],
                Self::Begin => ["attempt", "the first of it is durable"],
                Self::Checkpoint => ["attempt", "commits, and goes on"],
                Self::Wait => ["attempt", "lets go until a timer, an answer, or the next attempt"],
                Self::HandBack => ["attempt", "lets go because the process stops"],
                Self::Pause => ["attempt or caller", "holds it"],
                Self::Resume => ["caller", "lets it go on, when it was due"],
                Self::ResumeWaiting => ["caller", "lets it go on, when it waited"],
                Self::ResumeScheduled => ["caller", "lets it go on, when its time is still to come"],
                Self::Answer => ["caller", "gives what it waited for"],
                Self::Park => ["attempt", "the program does not know its walker or its fields"],
                Self::Succeed => ["attempt", "ends well"],
                Self::Fail => ["attempt", "ends with an error"],
                Self::TimeOut => ["attempt or clock", "its time is over"],
                Self::Cancel => ["attempt or caller", "ends it"],
            }
        }
    }

    fn table() -> String {
        let mut text = "| step | taken by | what happens | from | to |\n|---|---|---|---|---|\n".to_owned();
        for step in STEPS {
            let [who, what] = step.words();
            let moves = State::ALL.into_iter().filter_map(|from| Some((from, next(from, step)?)));
            let (from, to): (Vec<_>, Vec<_>) = moves.unzip();
            assert!(!to.is_empty() && to.iter().all(|one| *one == to[0]), "{step:?} leads to one state");
            let from: Vec<_> = from.iter().map(|state| format!("`{}`", state.as_str())).collect();
            let to = to[0].as_str();
            writeln!(text, "| {step:?} | {who} | {what} | {} | `{to}` |", from.join(", ")).unwrap();
        }
        text
    }

    fn diagram() -> String {
        let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> queued\n    [*] --> scheduled\n".to_owned();
        for from in State::ALL {
            for to in State::ALL {
                let steps: Vec<_> = STEPS
                    .into_iter()
                    .filter(|step| next(from, *step) == Some(to))
                    .map(|step| format!("{step:?}"))
                    .collect();
                if !steps.is_empty() {
                    let (from, to) = (from.as_str(), to.as_str());
                    writeln!(text, "    {from} --> {to}: {}", steps.join(", ")).unwrap();
                }
            }
            if from.is_final() {
                writeln!(text, "    {} --> [*]", from.as_str()).unwrap();
            }
        }
        text + "```\n"
    }

    #[test]
    fn the_documentation_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/runs.md");
        let mut text = std::fs::read_to_string(path).unwrap();
        for (name, wanted) in [("diagram", diagram()), ("table", table())] {
            let begin = format!("<!-- {name} of the code -->\n");
            let end = format!("<!-- end of the {name} -->");
            let at = text.find(&begin).unwrap() + begin.len();
            let to = text.find(&end).unwrap();
            if std::env::var_os("UPDATE_SCHEMAS").is_some() {
                text.replace_range(at..to, &wanted);
                std::fs::write(path, &text).unwrap();
                continue;
            }
            assert!(text[at..to] == wanted, "runs.md has drifted: run the tests once with UPDATE_SCHEMAS=1");
        }
    }

    #[test]
    fn final_states_are_final() {
        for state in State::ALL.into_iter().filter(|state| state.is_final()) {
            assert!(STEPS.into_iter().all(|step| next(state, step).is_none()), "{state:?}");
        }
    }

    #[test]
    fn every_state_is_reached_and_every_open_one_can_end() {
        let entries = [State::Queued, State::Scheduled];
        for state in State::ALL {
            let leads_here = |from: State| STEPS.into_iter().any(|step| next(from, step) == Some(state));
            assert!(entries.contains(&state) || State::ALL.into_iter().any(leads_here), "{state:?}");
            assert_eq!(next(state, Step::Cancel).is_some(), !state.is_final(), "{state:?}");
            assert_eq!(next(state, Step::TimeOut).is_some(), !state.is_final(), "{state:?}");
        }
    }
}
