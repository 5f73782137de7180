//! What others want of runs: their end, a pause, an answer, another try.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;
use walkabout_schema::{ErrorCode, Event, EventKind, PUBLIC_ROOT, State, Timestamp, Walker, WalkerId};

use crate::{
    Error, Result,
    run::lifecycle,
    runner::Engine,
    runtime::{Caller, Runtime},
    store::{self, Act, Acted, Due, RunFilter, Submission},
    submit,
};

/// Runs that one call may act on, at most.
pub const ACTED_MAX: usize = 1000;

/// Bytes of a run token: as many as those of a UUID, whose text form it has.
const TOKEN_BYTES: usize = 16;

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Governed {
    /// It is so now.
    Done,
    /// The attempt under way is asked.
    Asked,
    /// It was so before.
    Already,
}

impl Governed {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Asked => "asked",
            Self::Already => "already",
        }
    }
}

/// Whoever acts on runs: a caller, who may know the token of a run that was submitted anonymously.
#[derive(Debug, Clone, Copy)]
pub struct Governor<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What the submission was answered with.
    pub run_token: Option<&'a str>,
}

/// Runs that an act was meant for.
#[derive(Debug, Clone, Default)]
pub struct Many {
    /// Each with what became of it; none in a dry run, and where the state did not allow it any more.
    pub runs: Vec<(WalkerId, Option<Governed>)>,
    /// What to begin the next call after; none when there are no more.
    pub next: Option<WalkerId>,
}

impl Runtime {
    /// Acts on a run. `None` when it is unknown or the caller may not read it.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] for who may read it and no more; [`Error::RunState`] when its state does not allow it; what the store says.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have acted.
    pub async fn act(&self, by: Governor<'_>, id: &WalkerId, act: Act) -> Result<Option<Governed>> {
        let Some(walker) = self.governed(by, id).await? else { return Ok(None) };
        self.act_on(&walker, act).await.map(Some)
    }

    /// Acts on the caller's own open runs, newest first, those older than `before`: at most [`ACTED_MAX`] in one call.
    ///
    /// # Errors
    /// What the store says; what was done until then is done.
    pub async fn act_on_many(
        &self,
        caller: &Caller,
        filter: RunFilter,
        act: &Act,
        is_dry_run: bool,
        before: Option<WalkerId>,
    ) -> Result<Many> {
        let mut many = Many::default();
        let mut before = before.map(|id| id.uuid());
        loop {
            let left = ACTED_MAX - many.runs.len();
            let page = self.engine().store.runs(caller.root, filter.clone(), before, left.min(100)).await?;
            let last = page.walkers.last().map(Walker::walker_id);
            for walker in page.walkers.iter().filter(|walker| !walker.run.state.is_final()) {
                let governed = match is_dry_run {
                    true => None,
                    false => match self.act_on(walker, act.clone()).await {
                        Ok(governed) => Some(governed),
                        Err(Error::RunState { .. }) => None,
                        Err(error) => return Err(error),
                    },
                };
                many.runs.push((walker.walker_id(), governed));
            }
            let Some(last) = last.filter(|_| page.more) else { return Ok(many) };
            if many.runs.len() >= ACTED_MAX {
                many.next = Some(last);
                return Ok(many);
            }
            before = Some(last.uuid());
        }
    }

    /// Begins a run again that has ended: a new run with the fields of its submission. Gives its id, and its token when nobody owns it.
    /// `None` when it is unknown or the caller may not read it.
    ///
    /// # Errors
    /// As [`Runtime::act`]; [`Error::UnknownWalker`] when the walker is gone, [`Error::Walker`] when the fields do not fit it any more.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have stored a run.
    pub async fn retry(&self, by: Governor<'_>, id: &WalkerId) -> Result<Option<(WalkerId, Option<String>)>> {
        let Some(walker) = self.governed(by, id).await? else { return Ok(None) };
        let state = walker.run.state;
        if !state.is_final() {
            return Err(Error::RunState { wanted: "retried", state });
        }
        let engine = self.engine();
        let kind = engine.registry.get(walker.name.as_str());
        let kind = kind.ok_or_else(|| Error::UnknownWalker(walker.name.to_string()))?;
        let fields = walker.input.clone().unwrap_or_else(|| walker.archetype.clone());
        kind.restore(&fields).map_err(|_| Error::Walker {
            code: ErrorCode::Incompatible,
            message: format!("the fields of this run do not fit walker {} any more", walker.name),
            run: Some(id.clone()),
        })?;
        let again = submit::again(engine, kind, &walker, fields, by.caller.admin);
        let due = Due { id: again.id.0, root: walker.owner(), lost: 0, at: Timestamp::default() };
        let (id, _) = self.submit(Submission { walker: again, key: None }, due, Vec::new()).await?;
        let run_token = (walker.owner() == PUBLIC_ROOT).then(|| self.run_token(&id));
        Ok(Some((id, run_token)))
    }

    /// What proves that a run was submitted by whoever knows it. For runs of the public root.
    pub(crate) fn run_token(&self, id: &WalkerId) -> String {
        let mac = mac(self.token_key(), id).finalize().into_bytes();
        let (first, _) = mac.split_at(TOKEN_BYTES);
        Uuid::from_slice(first).unwrap_or_default().simple().to_string()
    }

    /// A run that somebody may act on.
    async fn governed(&self, by: Governor<'_>, id: &WalkerId) -> Result<Option<Walker>> {
        let Some(walker) = self.readable(by.caller, id).await? else { return Ok(None) };
        let owner = walker.owner();
        let owns = owner == by.caller.root && owner != PUBLIC_ROOT;
        let knows = owner == PUBLIC_ROOT && by.run_token.is_some_and(|token| self.is_token(token, id));
        if owns || knows || by.caller.admin { Ok(Some(walker)) } else { Err(Error::NotAllowed) }
    }

    fn is_token(&self, token: &str, id: &WalkerId) -> bool {
        let Ok(given) = Uuid::try_parse(token) else { return false };
        // In constant time.
        mac(self.token_key(), id).verify_truncated_left(given.as_bytes()).is_ok()
    }

    async fn act_on(&self, walker: &Walker, act: Act) -> Result<Governed> {
        // A task of its own: when the caller goes away meanwhile, the queue and the attempt still hear of what is stored.
        let (runtime, id, state) = (self.clone(), walker.id.0, walker.run.state);
        let acted = tokio::spawn(async move { runtime.act_and_tell(id, state, act).await });
        acted.await.map_err(|_| Error::Busy("the server is stopping".to_owned()))?
    }

    /// Acts on a run that was in this state, and tells whom it concerns.
    async fn act_and_tell(&self, id: Uuid, state: State, act: Act) -> Result<Governed> {
        let engine = self.engine();
        let now = engine.env.now();
        let acted = engine.store.act(id, now, act.clone()).await?;
        match acted {
            Some(Acted::Done) => Ok(Governed::Done),
            Some(Acted::Already) => Ok(Governed::Already),
            Some(Acted::Due(due)) => {
                self.queue().push(&due, now);
                Ok(Governed::Done)
            }
            Some(Acted::Asked(said)) => {
                let until = now.plus(engine.config.cancel_grace);
                match act {
                    Act::Cancel { .. } => engine.keeper.cancel(id, until),
                    Act::Pause => engine.keeper.pause(id, until, said),
                    Act::Resume => {
                        engine.keeper.withdraw(id, said);
                        return Ok(Governed::Done);
                    }
                    Act::Answer { .. } => {}
                }
                Ok(Governed::Asked)
            }
            Some(Acted::Refused(state)) => refused(&act, state),
            None => refused(&act, state),
        }
    }
}

impl Engine {
    /// Tells an attempt under way here, if there is one, what another process was asked for it.
    pub(crate) fn wish(&self, run: Uuid, event: &Event) {
        let until = self.env.now().plus(self.config.cancel_grace);
        match event.event {
            EventKind::CancelRequested => self.keeper.cancel(run, until),
            EventKind::PauseRequested => self.keeper.pause(run, until, event.seq),
            EventKind::Released => self.keeper.withdraw(run, event.seq),
            _ => {}
        }
    }

    /// Looks up what is wanted of the runs under way here: what others were asked for them may not have been heard.
    pub(crate) async fn look_for_wishes(&self) {
        for run in self.keeper.runs() {
            if let Err(error) = self.look_for_wishes_of(run).await {
                // What is missed now is looked up when the stream is back.
                tracing::warn!(%run, %error, "whether a run is to stop is not known");
                return;
            }
        }
    }

    async fn look_for_wishes_of(&self, run: Uuid) -> store::Result<()> {
        // Before the record is read: what is said meanwhile counts as later.
        let said = self.store.events(run, u64::MAX, 1).await?.last;
        let Some(Walker { run: wanted, .. }) = self.store.run(run).await? else { return Ok(()) };
        let until = self.env.now().plus(self.config.cancel_grace);
        if wanted.cancel_requested_at.is_some() {
            self.keeper.cancel(run, until);
        }
        match wanted.pause_requested_at {
            Some(_) => self.keeper.pause(run, until, said),
            None => self.keeper.withdraw(run, said),
        }
        Ok(())
    }
}

/// Repeating what has come true is no error.
fn refused(act: &Act, state: State) -> Result<Governed> {
    let wanted = match act {
        Act::Cancel { .. } if lifecycle::next(State::Running, lifecycle::Step::Cancel) == Some(state) => {
            return Ok(Governed::Already);
        }
        Act::Cancel { .. } => "cancelled",
        Act::Pause => "paused",
        Act::Resume => "resumed",
        Act::Answer { .. } => "answered",
    };
    Err(Error::RunState { wanted, state })
}

#[expect(clippy::expect_used, reason = "a key of any length makes an HMAC")]
fn mac(key: &[u8; 32], id: &WalkerId) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(id.uuid().as_bytes());
    mac
}
