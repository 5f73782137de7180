//! How a user goes: the account at once, and what hung from its root soon after.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use walkabout_schema::{
    Access, Fields, Key, Kind, Name, NodeId, SYSTEM_ROOT, Status, Timestamp, User, Walker,
};

use crate::{
    Error, Result,
    runner::Engine,
    runtime::{Act, Runtime},
    store::{self, Acted, Due, LOOK_AGAIN, RunFilter, Submission, new_run},
    submit::new_schedule,
    walker::{
        self, Abilities, Archetype, Checkpoints, Context, DONE, Failure, FieldKind, Here, Outcome, Place,
        Retry, Slot, Spec, fail,
    },
};

/// Why the runs of a user who is gone have ended.
const REASON: &str = "the user is gone";
/// Edges that are cut in one commit.
const CUT_MAX: usize = 5000;
/// Runs that are looked at together.
const PAGE: usize = 100;
/// How long after the first look a second one follows. A token may be good for a second in other processes, and what a plain walker does is
/// under way without a record.
const SETTLED: Duration = Duration::from_secs(5);

/// What became of the wish that a user be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is.
    Done,
    /// There was none of that address and id.
    Unknown,
    /// Nobody could govern the system any more.
    LastAdministrator,
}

impl Runtime {
    /// Removes a user with all logins, tickets and keys. The user's runs are ended, and what hangs from its root is destroyed, by a run
    /// that is submitted in the same step. What is of the system's root stays.
    ///
    /// # Errors
    /// When the store refuses, or others never stop changing the user.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have removed the user.
    pub async fn remove_user(&self, email: &str, id: Uuid) -> Result<Removed> {
        for _ in 0..self.config().conflicts_max {
            let user = self.user(email).await?.filter(|user| user.id.0 == id);
            let Some(user) = user else { return Ok(Removed::Unknown) };
            let stays = if user.is_admin { self.another_administrator(&user).await? } else { None };
            if user.is_admin && stays.is_none() {
                return Ok(Removed::LastAdministrator);
            }
            // A task of its own: when the caller goes away meanwhile, the run that is stored is still queued.
            let runtime = self.clone();
            let removed = tokio::spawn(async move { runtime.remove(user, stays).await });
            if removed.await.map_err(|_| Error::Busy("the server is stopping".to_owned()))?? {
                return Ok(Removed::Done);
            }
        }
        Err(store::Error::Conflict(Vec::new()).into())
    }

    async fn another_administrator(&self, user: &User) -> Result<Option<User>> {
        let mut all = self.users_of(user.root_id.0).await?.into_iter();
        Ok(all.find(|other| other.is_admin && other.id != user.id))
    }

    /// False when the user was changed meanwhile, or who has to stay is gone.
    async fn remove(&self, user: User, stays: Option<User>) -> Result<bool> {
        let (engine, root) = (self.engine(), user.root_id.0);
        // All administrators act as the one root.
        let is_shared = root == SYSTEM_ROOT;
        let walker = if is_shared { None } else { Some(record(engine, root)?) };
        let due = walker.as_ref().map(|walker| Due {
            id: walker.id.0,
            root: SYSTEM_ROOT,
            lost: 0,
            at: Timestamp::default(),
        });
        let then = walker.map(|walker| Submission { walker, key: None });
        if !engine.store.remove_user(user, stays, then).await? {
            return Ok(false);
        }
        if let Some(due) = due {
            self.queue().push(&due, engine.env.now());
        }
        Ok(true)
    }
}

impl Engine {
    /// Ends all runs of a root. Gives how many there were; some of them are only asked.
    async fn end_runs(&self, root: Uuid) -> store::Result<usize> {
        let mut open = 0;
        // Whichever way a run goes meanwhile, it is met.
        for status in [Status::Pending, Status::Running, Status::Pending] {
            let filter = RunFilter { status: Some(status), ..RunFilter::default() };
            let mut before = None;
            loop {
                let page = self.store.runs(root, filter.clone(), before, PAGE).await?;
                for run in &page.walkers {
                    self.end_run(run.id.0).await?;
                }
                open += page.walkers.len();
                before = page.walkers.last().map(|run| run.id.0);
                if !page.more || before.is_none() {
                    break;
                }
            }
        }
        Ok(open)
    }

    async fn end_run(&self, run: Uuid) -> store::Result<()> {
        let now = self.env.now();
        let act = Act::Cancel { reason: REASON.to_owned() };
        if let Some(Acted::Asked(_)) = self.store.act(run, now, act).await? {
            self.keeper.cancel(run, now.plus(self.config.cancel_grace));
        }
        Ok(())
    }
}

/// The first record of the run that destroys what hangs from a root. It is the system's: the root has nobody any more.
fn record(engine: &Engine, root: Uuid) -> Result<Walker> {
    let now = engine.env.now();
    let forget = ForgetUser { root: root.simple().to_string(), began: false, again: false };
    let unwritten =
        |error| Error::Io { context: "writing a run".to_owned(), source: std::io::Error::other(error) };
    Ok(Walker {
        id: Key(engine.env.id()),
        name: Name::new(ForgetUser::NAME).map_err(|error| Error::Build(error.to_string()))?,
        root: Some(Key(SYSTEM_ROOT)),
        access: Access::private(),
        archetype: Fields::encode(&forget).map_err(unwritten)?,
        input: None,
        version: 1,
        schedule: new_schedule(now, NodeId::root(root), NodeId::root(SYSTEM_ROOT)),
        run: new_run(now, false),
    })
}

/// Destroys what a root owns and what hangs together with it by what it owns. What belongs to others stays, and the root itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct ForgetUser {
    /// The root's UUID.
    root: String,
    /// What hangs from the root is in the frontier.
    #[serde(default)]
    began: bool,
    /// It is the second look.
    #[serde(default)]
    again: bool,
}

impl Archetype for ForgetUser {
    const KIND: Kind = Kind::Walker;
    const NAME: &'static str = "walkabout_forget_user";
}

impl walker::Walker for ForgetUser {
    fn spec() -> Spec {
        let retry = Retry::exponential(20, Duration::from_secs(1), Duration::from_secs(3600));
        Spec::new()
            .asynchronous()
            .private()
            .unnoticed()
            .checkpoints(Checkpoints::Visits(100))
            .retry(retry)
            .describe("Destroys what hangs from the root of a user who is gone.")
            .field("root", FieldKind::Required)
            .field("began", FieldKind::Excluded)
            .field("again", FieldKind::Excluded)
    }

    fn abilities(on: &mut Abilities<Self>) {
        on.entry("arrive", Self::arrive);
        on.step("begin", Self::begin);
        on.step("cut", Self::cut);
    }
}

impl ForgetUser {
    async fn arrive(&mut self, here: Here<AnyNode>, cx: &mut Context) -> Outcome {
        let root = Uuid::try_parse(&self.root).map_err(|_| fail("the root is no id"))?;
        if here.uuid() != root {
            if here.slot.owner == Some(root) {
                cx.visit(here.both()).await?;
                cx.destroy(&here)?;
            }
            return DONE;
        }
        if self.began { self.cut(here, cx).await } else { self.begin(here, cx).await }
    }

    async fn begin(&mut self, root: Here<AnyNode>, cx: &mut Context) -> Outcome {
        // What is still under way may add to what is destroyed here, so it goes on once there is nothing.
        if cx.attempt.engine.end_runs(root.uuid()).await.map_err(Failure::of_store)? > 0 {
            return cx.sleep(LOOK_AGAIN).then("begin");
        }
        self.began = true;
        cx.visit(root.both()).await?;
        // Once more, behind all that hangs from it, and not for each of those.
        let again = cx.visit_one(&root);
        cx.ignore(&root);
        again
    }

    /// Removes the edges that lead from the root to what stays.
    async fn cut(&mut self, root: Here<AnyNode>, cx: &mut Context) -> Outcome {
        let edges = cx.list(root.both().edges()).await?;
        for edge in edges.iter().take(CUT_MAX) {
            cx.destroy(edge)?;
        }
        if edges.len() > CUT_MAX {
            cx.checkpoint();
            return cx.then("cut");
        }
        if self.again {
            return DONE;
        }
        (self.began, self.again) = (false, true);
        cx.sleep(SETTLED).then("begin")
    }
}

/// Any node, whatever its type: a place that each visit arrives at.
pub(crate) struct AnyNode;

impl Place for AnyNode {
    fn matches(kind: Kind, _: &Name) -> bool {
        kind == Kind::Node
    }
    fn describe() -> &'static str {
        "any node"
    }
    fn prepare(_: &Slot) -> Result<(), Failure> {
        Ok(())
    }
}
