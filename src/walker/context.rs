//! What a walker can do besides changing its own fields.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;
use walkabout_schema::{
    ElementId, Kind, Level, Name, NodeId, Status, Timestamp, WalkerId,
    wire::{Record, RecordPage},
};

use super::{
    Any, Archetype, Body, Edge, Failure, Flow, Here, Node, Object, Outcome, Place, Query, Response, Upload,
    Walker, fail,
    here::{Data, Slot},
    outcome::{Suspend, Wait},
};
use crate::{
    files::Opened,
    graph::forbidden,
    publish::Target,
    run::retry::Wish,
    runner::{Attempt, Turn},
    store::RunFilter,
    walk::{Location, Walk},
};

/// The walker's side of the runtime: one per walker and attempt, handed to every ability.
///
/// Changes made through it are seen at once by this attempt, and by nobody else before the commit. What an ability awaits is not
/// saved: after a crash the attempt goes on from its last checkpoint, so what was done *outside* since then may be done again.
pub struct Context {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) walk: Walk,
    pub(crate) turn: Turn,
    pub(crate) depth: usize,
}

/// What the stop flag of [`Context::compute`] says.
#[derive(Clone, Default)]
pub struct Stopped(Arc<AtomicBool>);

impl Stopped {
    /// True once nobody waits for the result any more; a long computation looks now and then.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct StopOnDrop(Stopped);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A file that a walker wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Where it is served: `/files/<walker id>/<name>`.
    pub url: String,
    /// Where it lies, when that is on the local disk: for the user that the server runs as.
    pub path: Option<PathBuf>,
}

/// What a nested walker left.
#[derive(Debug)]
pub struct Spawned<W> {
    /// The walker, with its fields as it left them.
    pub walker: W,
    /// What it reported. These reports are also those of the run.
    pub reports: Vec<Value>,
}

fn location(slot: &Slot) -> Location {
    Location { kind: slot.kind, id: slot.id, name: slot.name.clone() }
}

/// Moving.
impl Context {
    /// Puts what a query finds at the end of the frontier. `Flow::added` says how many there were.
    ///
    /// # Errors
    /// When the frontier would pass its bound, or an element does not load.
    pub async fn visit<T: Place>(&mut self, query: Query<T>) -> Outcome {
        self.put(None, query).await
    }

    /// Puts what a query finds in the frontier before the element at `index`; 0 is the next one to be visited.
    ///
    /// # Errors
    /// As [`Context::visit`].
    pub async fn visit_at<T: Place>(&mut self, index: usize, query: Query<T>) -> Outcome {
        self.put(Some(index), query).await
    }

    async fn put<T: Place>(&mut self, index: Option<usize>, query: Query<T>) -> Outcome {
        let found = self.attempt.graph.find(&query.from, &query.hops, query.edges).await?;
        let node = |found: &crate::graph::Found| Location {
            kind: Kind::Node,
            id: found.node.id,
            name: found.node.name.clone(),
        };
        let added = if query.edges {
            let elements = found.iter().flat_map(|found| {
                [Location { kind: Kind::Edge, id: found.edge, name: found.edge_name.clone() }, node(found)]
            });
            self.walk.visit(index, elements)
        } else {
            self.walk.visit(index, found.iter().map(node))
        };
        self.check_frontier()?;
        Ok(Flow { added, ..Flow::default() })
    }

    /// Puts one element at the end of the frontier.
    ///
    /// # Errors
    /// When it may not be read, or the frontier would pass its bound.
    pub fn visit_one<T>(&mut self, here: &Here<T>) -> Outcome {
        if here.slot.level() < Level::Read {
            return Err(forbidden("READ", &here.slot));
        }
        let added = self.walk.visit(None, [location(&here.slot)]);
        self.check_frontier()?;
        Ok(Flow { added, ..Flow::default() })
    }

    fn check_frontier(&self) -> Result<(), Failure> {
        let (waiting, bound) = (self.walk.waiting(), self.attempt.engine.config.frontier_max);
        if waiting > bound {
            let code = walkabout_schema::ErrorCode::LimitExceeded;
            return Err(Failure::coded(
                code,
                format!("{waiting} elements wait to be visited; frontier_max is {bound}"),
            ));
        }
        Ok(())
    }

    /// Leaves an element out of all later visits of this walker.
    pub fn ignore<T>(&mut self, here: &Here<T>) {
        self.walk.ignore(here.slot.id);
    }

    /// Ends the traversal after this ability: `return cx.disengage()`.
    pub fn disengage(&mut self) -> Outcome {
        self.walk.disengage();
        Ok(Flow { disengage: true, ..Flow::default() })
    }

    /// Goes on here in another ability of this walker: `return cx.then("page")`. A step of its own: a checkpoint asked for before
    /// stands between the two.
    pub fn then(&mut self, ability: &'static str) -> Outcome {
        Ok(Flow { then: Some(ability), ..Flow::default() })
    }

    /// Waits for a while: `return cx.sleep(span).then("ability")`. Only in the outermost walker of an async run.
    pub fn sleep(&mut self, span: Duration) -> Wait {
        self.sleep_until(self.now().plus(span))
    }

    /// Waits for a time, as [`Context::sleep`].
    pub fn sleep_until(&mut self, at: Timestamp) -> Wait {
        Wait(Suspend::Sleep(at))
    }

    /// Waits for an answer from outside, under a name that says what it is: `return cx.wait_for("approval").then("approved")`. The
    /// answer comes with `POST /walker/{walker_id}/complete`; the ability finds it in [`Context::answer`]. Only in the outermost walker
    /// of an async run.
    pub fn wait_for(&mut self, name: impl Into<String>) -> Wait {
        Wait(Suspend::Await { name: name.into(), until: None })
    }

    /// What was answered to the last [`Context::wait_for`]; none when it waited long enough. It is there until the next checkpoint.
    pub fn answer(&self) -> Option<Value> {
        self.attempt.answer.clone()
    }

    /// Gives this attempt up and takes it up again after a while, from its last checkpoint: `return cx.snooze(span)`. No attempt of the
    /// retry policy is spent. A plain walker just fails.
    ///
    /// # Errors
    /// Always: that is how the attempt ends.
    pub fn snooze(&mut self, span: Duration) -> Outcome {
        let message = "the walker asked to be taken up again later".to_owned();
        Err(fail(message).wishing(Wish::Snooze(span)))
    }

    /// Ends the run as cancelled, with a reason that the caller may read: `return cx.cancel("the order is gone")`. What was done since
    /// the last checkpoint is not kept.
    ///
    /// # Errors
    /// Always: that is how the attempt ends.
    pub fn cancel(&mut self, reason: impl Into<String>) -> Outcome {
        Err(Failure::coded(walkabout_schema::ErrorCode::Cancelled, reason).wishing(Wish::Cancel))
    }

    /// True once somebody asked for the end of this run, or its time is over. The attempt ends by itself at its next visit or `await`;
    /// a long computation that does neither looks here now and then.
    pub fn cancelled(&self) -> bool {
        self.attempt.under_way.end().is_some()
    }

    /// Asks for a commit at the end of this visit or step. A later attempt goes on from there.
    pub fn checkpoint(&mut self) {
        self.attempt.book().checkpoint = true;
    }

    /// The ids of the last elements visited, newest last; 64 at most.
    pub fn path(&self) -> Vec<ElementId> {
        self.walk.path().map(|at| ElementId::new(at.kind, at.name.clone(), at.id)).collect()
    }

    /// Runs another walker from an element, inside this attempt: one commit, one fate.
    ///
    /// # Errors
    /// When it fails, is not registered, or walkers are nested deeper than `spawn_depth_max`.
    pub async fn spawn<W: Walker, T>(&mut self, walker: W, at: &Here<T>) -> Result<Spawned<W>, Failure> {
        let bound = self.attempt.engine.config.spawn_depth_max;
        if self.depth >= bound {
            let code = walkabout_schema::ErrorCode::LimitExceeded;
            return Err(Failure::coded(
                code,
                format!("walkers are nested deeper than spawn_depth_max {bound}"),
            ));
        }
        if at.slot.level() < Level::Read {
            return Err(forbidden("READ", &at.slot));
        }
        let engine = Arc::clone(&self.attempt.engine);
        let Some(kind) = engine.registry.of_type::<W>() else {
            return Err(fail(format!("walker {} is not registered: add .walker::<…>() for it", W::NAME)));
        };
        let before = self.attempt.book().reports.len();
        let mut cx = Self {
            attempt: Arc::clone(&self.attempt),
            walk: Walk::starting_at(crate::runner::start(&at.slot)),
            turn: self.turn.inside(self.walk.visits()),
            depth: self.depth + 1,
        };
        let mut walker = walker;
        match Box::pin(crate::runner::travel(&mut cx, kind, &mut walker, None)).await {
            Ok(()) => {}
            Err(crate::runner::Stop::Failed(failure)) => return Err(failure),
            // Only the outermost walker lets go of a run.
            Err(crate::runner::Stop::Released(_)) => return Err(fail("a nested walker was interrupted")),
        }
        let reports = self.attempt.book().reported_from(before);
        Ok(Spawned { walker, reports })
    }
}

/// Asking the graph.
impl Context {
    /// The acting root: the caller's, until [`Context::elevate`].
    ///
    /// # Errors
    /// When it does not load.
    pub async fn root(&mut self) -> Result<Here<super::Root>, Failure> {
        let root = self.attempt.graph.actor();
        let slot = self.attempt.graph.element(Kind::Node, root).await?;
        slot.map(Here::new).ok_or_else(|| fail(format!("the root {} does not exist", NodeId::root(root))))
    }

    /// Everything that a query finds, in order of creation of the edges that lead there.
    ///
    /// # Errors
    /// When something does not load.
    pub async fn list<T: Place>(&mut self, query: Query<T>) -> Result<Vec<Here<T>>, Failure> {
        let found = self.attempt.graph.find(&query.from, &query.hops, query.edges).await?;
        let (kind, ids): (Kind, Vec<_>) = if query.edges {
            (Kind::Edge, found.iter().map(|found| found.edge).collect())
        } else {
            (Kind::Node, found.iter().map(|found| found.node.id).collect())
        };
        self.attempt.graph.load(kind, &ids).await?;
        let mut list = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(slot) = self.attempt.graph.element(kind, id).await? {
                T::prepare(&slot)?;
                list.push(Here::new(slot));
            }
        }
        Ok(list)
    }

    /// The first element that a query finds.
    ///
    /// # Errors
    /// When something does not load.
    pub async fn first<T: Place>(&mut self, query: Query<T>) -> Result<Option<Here<T>>, Failure> {
        let found = self.attempt.graph.find(&query.from, &query.hops, query.edges).await?;
        for found in found {
            let (kind, id) = if query.edges { (Kind::Edge, found.edge) } else { (Kind::Node, found.node.id) };
            if let Some(slot) = self.attempt.graph.element(kind, id).await? {
                T::prepare(&slot)?;
                return Ok(Some(Here::new(slot)));
            }
        }
        Ok(None)
    }

    /// How many elements a query finds. Nodes are not loaded unless a filter or the access of others' needs it; edges are.
    ///
    /// # Errors
    /// When something does not load.
    pub async fn count<T: Place>(&mut self, query: Query<T>) -> Result<usize, Failure> {
        Ok(self.attempt.graph.find(&query.from, &query.hops, query.edges).await?.len())
    }

    /// The node, edge or object of an id, when it exists, is of the type, and may be read: the three refusals look alike, and so does
    /// the id of a walker, whose record [`Context::record`] gives.
    ///
    /// # Errors
    /// When it does not load.
    pub async fn get<T: Place>(&mut self, id: &ElementId) -> Result<Option<Here<T>>, Failure> {
        match self.attempt.graph.readable(id.kind(), id.uuid()).await? {
            Some(slot) => Here::<Any>::new(slot).cast::<T>(),
            None => Ok(None),
        }
    }

    /// The record of a run, when it exists and may be read.
    ///
    /// # Errors
    /// When it does not load.
    pub async fn record(&mut self, id: &WalkerId) -> Result<Option<Record>, Failure> {
        let engine = Arc::clone(&self.attempt.engine);
        engine.record(self.attempt.graph.actor(), id).await.map_err(Failure::of_store)
    }

    /// The acting root's own runs, newest first, those older than `before`; at most `limit`, and fewer when they are large. The
    /// page's `next` is the `before` of the next one.
    ///
    /// # Errors
    /// When they do not load.
    pub async fn records(
        &mut self,
        name: Option<Name>,
        status: Option<Status>,
        before: Option<&WalkerId>,
        limit: usize,
    ) -> Result<RecordPage, Failure> {
        let engine = Arc::clone(&self.attempt.engine);
        let root = self.attempt.graph.actor();
        let before = before.map(WalkerId::uuid);
        engine
            .records(root, RunFilter { name, status, state: None }, before, limit)
            .await
            .map_err(Failure::of_store)
    }
}

/// Changing the graph.
impl Context {
    fn make<T: Archetype>(&self, value: T) -> Result<Arc<Slot>, Failure> {
        self.attempt.graph.create(T::KIND, self.name_of::<T>()?, None, Data::Own(Box::new(value)))
    }

    /// The name of a type that elements may be made of.
    fn name_of<T: Archetype>(&self) -> Result<Name, Failure> {
        self.attempt.graph.rules().check::<T>()?;
        Ok(Name::new(T::NAME)?)
    }

    /// A new node, owned by the acting root. It hangs from nothing until it is connected.
    ///
    /// # Errors
    /// When the type's name is no name, when it has an access rule and is not registered, or the commit would pass `commit_changes_max`.
    pub fn create<N: Node>(&mut self, node: N) -> Result<Here<N>, Failure> {
        self.make(node).map(Here::new)
    }

    /// A new saved object, owned by the acting root.
    ///
    /// # Errors
    /// As [`Context::create`].
    pub fn save<O: Object>(&mut self, object: O) -> Result<Here<O>, Failure> {
        self.make(object).map(Here::new)
    }

    /// A new node, with a plain edge to it from a node that is here.
    ///
    /// # Errors
    /// Without CONNECT access to `from`.
    pub fn attach<T, N: Node>(&mut self, from: &Here<T>, node: N) -> Result<Here<N>, Failure> {
        let node = self.create(node)?;
        self.connect(from, &node)?;
        Ok(node)
    }

    /// The first node that a query of one hop finds; when there is none, a new one, connected by a plain edge. However many
    /// walkers do this at once, one makes it and the others find it; nor do others make a node fit meanwhile that did not.
    ///
    /// # Errors
    /// For a query of more than one hop, or with a type of edge; without CONNECT access; or when a filter left out more than
    /// `commit_changes_max` nodes.
    pub async fn first_or_create<N: Node>(
        &mut self,
        query: Query<N>,
        make: impl FnOnce() -> N,
    ) -> Result<Here<N>, Failure> {
        let ([from], [hop]) = (&*query.from, &*query.hops) else {
            return Err(fail("first_or_create takes a query of one hop from one node"));
        };
        if hop.edge.is_some_and(|names| !names.name.is_empty()) || query.edges {
            return Err(fail("first_or_create makes plain edges: leave out the type of edge"));
        }
        let (from, hop) = (*from, hop.clone());
        if let Some(found) = self.first(query).await? {
            return Ok(found);
        }
        self.attempt.graph.guard_links(&[from], &hop).await?;
        self.attempt.graph.guard_refused(&[from], &hop).await?;
        let Some(origin) = self.attempt.graph.element(Kind::Node, from).await? else {
            return Err(fail("the node of the query does not exist"));
        };
        let node = self.create(make())?;
        let (source, target) = match hop.directions {
            [crate::store::Direction::In] => (&node.slot, &origin),
            _ => (&origin, &node.slot),
        };
        self.attempt.graph.connect(source, target, Name::empty(), false, Data::Encoded)?;
        Ok(node)
    }

    /// A plain edge from one node to another.
    ///
    /// # Errors
    /// Without CONNECT access to both, or when one was destroyed.
    pub fn connect<A, B>(&mut self, from: &Here<A>, to: &Here<B>) -> Result<Here<super::Plain>, Failure> {
        self.attempt.graph.connect(&from.slot, &to.slot, Name::empty(), false, Data::Encoded).map(Here::new)
    }

    /// An edge with a type of its own.
    ///
    /// # Errors
    /// As [`Context::connect`].
    pub fn connect_with<A, B, E: Edge>(
        &mut self,
        from: &Here<A>,
        to: &Here<B>,
        edge: E,
    ) -> Result<Here<E>, Failure> {
        let data = Data::Own(Box::new(edge));
        let name = self.name_of::<E>()?;
        self.attempt.graph.connect(&from.slot, &to.slot, name, false, data).map(Here::new)
    }

    /// An edge with a type of its own that can be walked both ways.
    ///
    /// # Errors
    /// As [`Context::connect`].
    pub fn join_with<A, B, E: Edge>(
        &mut self,
        one: &Here<A>,
        other: &Here<B>,
        edge: E,
    ) -> Result<Here<E>, Failure> {
        let data = Data::Own(Box::new(edge));
        let name = self.name_of::<E>()?;
        self.attempt.graph.connect(&one.slot, &other.slot, name, true, data).map(Here::new)
    }

    /// Removes every edge from one node to another that may be read. Gives how many there were.
    ///
    /// # Errors
    /// Without WRITE access to one of them.
    pub async fn disconnect<A, B>(&mut self, from: &Here<A>, to: &Here<B>) -> Result<usize, Failure> {
        let target = to.slot.id;
        let edges = self.list(from.out().edges()).await?;
        let mut count = 0;
        for edge in edges {
            let leads_there = edge.slot.ends.as_ref().is_some_and(|ends| {
                ends.target.id == target || (ends.undirected && ends.source.id == target)
            });
            if leads_there {
                self.attempt.graph.destroy(&edge.slot)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Destroys an element. A node takes its edges along, also those that others connect meanwhile.
    ///
    /// # Errors
    /// Without WRITE access, or for a root.
    pub fn destroy<T>(&mut self, here: &Here<T>) -> Result<(), Failure> {
        self.attempt.graph.destroy(&here.slot)
    }

    /// Adds to a number field, whatever it is by the time of the commit: never a conflict. The value is not to be seen before.
    /// A missing field counts as 0. When it holds something else by then, the commit is refused and the attempt fails.
    ///
    /// # Errors
    /// Without WRITE access, for a name that is none, or for an element that is new since the last checkpoint: its fields are set
    /// with [`Here::edit`].
    pub fn add<T>(&mut self, here: &Here<T>, field: &str, by: i64) -> Result<(), Failure> {
        if here.slot.level() < Level::Write {
            return Err(forbidden("WRITE", &here.slot));
        }
        if field.contains('\0') {
            return Err(fail(format!("{field:?} is no name of a field: it has a NUL in it")));
        }
        if here.slot.base.is_none() {
            return Err(fail(format!("{} is new: set its field with edit()", here.id())));
        }
        self.attempt.graph.count_change()?;
        here.slot.state().adds.push((field.to_owned(), by));
        self.attempt.graph.guard_access(&here.slot);
        Ok(())
    }

    /// Makes the commit fail, and the attempt repeat, when an element that was only read has changed by then.
    pub fn touch<T>(&mut self, here: &Here<T>) {
        here.slot.state().touched = true;
    }

    /// Gives everybody a level on an element.
    ///
    /// # Errors
    /// Without WRITE access.
    pub fn grant<T>(&mut self, here: &Here<T>, level: Level) -> Result<(), Failure> {
        self.change_access(&here.slot, |access| access.all = level)
    }

    /// Takes back what everybody was given; entries of single roots stay.
    ///
    /// # Errors
    /// Without WRITE access.
    pub fn revoke<T>(&mut self, here: &Here<T>) -> Result<(), Failure> {
        self.change_access(&here.slot, |access| access.all = Level::NoAccess)
    }

    /// Gives one root a level on an element, stronger than what everybody has.
    ///
    /// # Errors
    /// Without WRITE access.
    pub fn allow_root<T>(&mut self, here: &Here<T>, root: &NodeId, level: Level) -> Result<(), Failure> {
        let root = NodeId::root(root.uuid());
        self.change_access(&here.slot, |access| {
            access.roots.anchors.insert(root, level);
        })
    }

    /// Removes the entry of one root.
    ///
    /// # Errors
    /// Without WRITE access.
    pub fn disallow_root<T>(&mut self, here: &Here<T>, root: &NodeId) -> Result<(), Failure> {
        let root = NodeId::root(root.uuid());
        self.change_access(&here.slot, |access| {
            access.roots.anchors.remove(&root);
        })
    }

    /// Lets the rest of the run act as the system root: everything may be read and changed, and what is made from here on belongs to
    /// the system root, so that its maker finds it later only by what is granted then. [`Context::root`] is the system's as well: keep
    /// a handle on that of the caller. It holds for walkers inside this one and for those that it is inside, and over checkpoints,
    /// waits and crashes. An attempt that begins again before the next checkpoint is not elevated until it says so again.
    ///
    /// The run itself stays the caller's, and [`Context::is_admin`] says what it said.
    pub fn elevate(&mut self) {
        self.attempt.graph.elevate();
    }

    fn change_access(
        &self,
        slot: &Arc<Slot>,
        change: impl FnOnce(&mut walkabout_schema::Access),
    ) -> Result<(), Failure> {
        if slot.level() < Level::Write {
            return Err(forbidden("WRITE", slot));
        }
        let mut access = slot.access();
        change(&mut access);
        slot.state().access = Some(access);
        Ok(())
    }
}

fn check_status(status: u16) -> Result<(), Failure> {
    if !(200..600).contains(&status) {
        return Err(fail(format!("{status} is no HTTP status for an answer: use 200 to 599")));
    }
    Ok(())
}

/// What in a JSON value BSON has no form for.
fn unstorable(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) if number.is_u64() && !number.is_i64() => Some(format!("the number {number}")),
        Value::Array(items) => items.iter().find_map(unstorable),
        Value::Object(members) => members.iter().find_map(|(name, value)| match name.contains('\0') {
            true => Some(format!("the name {name:?}")),
            false => unstorable(value),
        }),
        _ => None,
    }
}

/// Telling the outside.
impl Context {
    /// Reports a value to the caller. A handle is reported as `{"id", "context"}`, at any depth.
    ///
    /// # Errors
    /// When the value has no JSON form, or, in an async walker, cannot be stored: a number beyond 64 bits with a sign, or a
    /// name with a NUL in it; when the run's reports, with the lines logged since the last checkpoint, would pass
    /// `commit_bytes_max`.
    pub fn report(&mut self, value: impl Serialize) -> Result<(), Failure> {
        let value = serde_json::to_value(value)?;
        self.check_storable(&value)?;
        self.attempt.report(value)
    }

    /// Tells followers how far the walker is: at once, not at the commit. Of many in a short time the latest is kept; the last
    /// always. A later attempt may tell it again. What cannot be stored (see [`Context::report`]) is told as a line of the log.
    pub fn progress(&mut self, data: Value) {
        match self.check_storable(&data) {
            Ok(()) => self.attempt.progress(data),
            // A log that takes no more lines has said enough.
            Err(refused) => drop(self.log(format!("not told: {}", refused.message().unwrap_or_default()))),
        }
    }

    /// Plain walkers store none of what they tell.
    fn check_storable(&self, value: &Value) -> Result<(), Failure> {
        match self.attempt.run.as_ref().and_then(|_| unstorable(value)) {
            None => Ok(()),
            Some(what) => Err(fail(format!("{what} cannot be stored: make it a text, or leave it out"))),
        }
    }

    /// Writes a line to the run's log; published with the commit.
    ///
    /// # Errors
    /// When the lines since the last checkpoint, with the run's reports, would pass `commit_bytes_max`.
    pub fn log(&mut self, message: impl Into<String>) -> Result<(), Failure> {
        self.attempt.log(message.into())
    }

    /// The HTTP status of the answer, instead of 200. Values outside 200 to 599 are refused.
    ///
    /// # Errors
    /// For a number that is no final HTTP status.
    pub fn status(&mut self, status: u16) -> Result<(), Failure> {
        check_status(status)?;
        self.attempt.book().status = Some(status);
        Ok(())
    }

    /// What readers find as `schedule.custom`.
    ///
    /// # Errors
    /// When it cannot be stored: see [`Context::report`].
    pub fn set_custom(&mut self, custom: Value) -> Result<(), Failure> {
        self.check_storable(&custom)?;
        self.attempt.book().custom = custom;
        Ok(())
    }

    /// Answers the caller with something else than `{"status","reports"}`: a page, bytes, a stream, any JSON. The last call counts, and
    /// one of a walker inside this one is the run's. It is sent when everything is committed, and not at all when the run fails.
    ///
    /// Of an async walker, and of one whose caller named the request, the body is kept before this answers: JSON as the run's result,
    /// all else as a file of the run, of which the result tells the place: `{"url","content_type","bytes"}`.
    ///
    /// # Errors
    /// For a status or a header that cannot be sent, JSON that cannot be stored (see [`Context::report`]) or is not what the
    /// `response_model` of the walker that was called says, a body over `file_bytes_max`, or when the disk refuses.
    pub async fn respond(&mut self, response: Response) -> Result<(), Failure> {
        response.check()?;
        if let Body::Json(value) = &response.body {
            self.check_storable(value)?;
        }
        if let Some(status) = response.status {
            check_status(status)?;
        }
        let attempt = Arc::clone(&self.attempt);
        attempt.respond(response).await
    }

    /// Sends a frame to the WebSocket that called; without effect when none did.
    pub fn notify_self(&mut self, data: &Value) {
        if let Some(client) = &self.attempt.client_id {
            self.attempt.engine.sockets.push(&[Target::Client(client.clone())], data);
        }
    }

    /// Sends a frame to connections by their client ids: at once, at most once, and again by a later attempt.
    pub fn notify_clients<S: AsRef<str>>(&mut self, clients: &[S], data: &Value) {
        let targets: Vec<_> = clients.iter().map(|id| Target::Client(id.as_ref().to_owned())).collect();
        self.attempt.engine.sockets.push(&targets, data);
    }

    /// Sends a frame to all connections of some roots.
    pub fn notify_users(&mut self, roots: &[NodeId], data: &Value) {
        let targets: Vec<_> = roots.iter().map(|id| Target::Root(id.uuid())).collect();
        self.attempt.engine.sockets.push(&targets, data);
    }

    /// Sends a frame to all connections of some channels.
    pub fn notify_channels<S: AsRef<str>>(&mut self, channels: &[S], data: &Value) {
        let targets: Vec<_> = channels.iter().map(|id| Target::Channel(id.as_ref().to_owned())).collect();
        self.attempt.engine.sockets.push(&targets, data);
    }

    /// Writes a file of this run, served at `/files/<walker id>/<name>` to who may read the run. Whole and synced when this
    /// answers; a file of the same name is replaced. It stays when the attempt fails.
    ///
    /// # Errors
    /// In a plain walker, for a name that is none, for a file over `file_bytes_max`, or when the disk refuses.
    pub async fn file(&mut self, name: &str, bytes: Vec<u8>) -> Result<Saved, Failure> {
        let attempt = Arc::clone(&self.attempt);
        attempt.save_file(name, bytes).await
    }

    /// Opens a file that the caller sent, or one of an earlier run that may be read: `cx.open(&self.photo).await?.bytes().await?`, or
    /// piece by piece.
    ///
    /// # Errors
    /// When it is gone, or cannot be read.
    pub async fn open(&mut self, upload: &Upload) -> Result<Opened, Failure> {
        let attempt = Arc::clone(&self.attempt);
        attempt.open_upload(upload).await
    }

    /// Runs a computation on the pool for such, so that it holds up no other walker.
    ///
    /// # Errors
    /// When it panics.
    ///
    /// # Cancel safety
    /// When the future is dropped the computation goes on until it looks at its [`Stopped`].
    pub async fn compute<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Stopped) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (send, receive) = tokio::sync::oneshot::channel();
        let stopped = Stopped::default();
        let _stop = StopOnDrop(stopped.clone());
        rayon::spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&stopped)));
            // Nobody waits any more when the send fails.
            drop(send.send(result));
        });
        match receive.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) | Err(_) => {
                Err(Failure::coded(walkabout_schema::ErrorCode::WalkerPanicked, "a computation panicked"))
            }
        }
    }

    /// The run's id; none for a plain walker.
    pub fn walker_id(&self) -> Option<WalkerId> {
        self.attempt.run.as_ref().map(|run| run.id.clone())
    }

    /// A key for calls to other systems. No other visit, ability, step or nested walker has it, and this one has it again whenever an
    /// attempt repeats it. An ability that makes several calls adds to it what tells them apart.
    pub fn idempotency_key(&self) -> String {
        let key = self.turn.key(self.walk.visits());
        match &self.attempt.run {
            Some(run) => format!("{}{key}", run.id),
            None => format!("{}{key}", self.attempt.serial),
        }
    }

    /// Whether the caller is an administrator.
    pub fn is_admin(&self) -> bool {
        self.attempt.admin
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.attempt.engine.env.now()
    }

    /// The settings of the runtime.
    pub fn config(&self) -> &crate::config::Config {
        &self.attempt.engine.config
    }
}
