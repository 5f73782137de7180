//! What walkers and nodes do, registered by name.
//!
//! An ability is an `async fn`. The traits here box its future, which is why plain functions can be registered; nobody
//! implements them by hand.

use std::{any::Any as StdAny, marker::PhantomData, sync::Arc};

use futures_util::future::BoxFuture;
use walkabout_schema::{Fields, Kind, Name};

use super::{Archetype, Context, Here, Outcome, Walker, archetype::Place, here::Slot};
use crate::registry::Registry;

/// A walker of a type that the engine does not know.
pub(crate) trait AnyWalker: Send + Sync {
    fn encode(&self) -> Result<Fields, bson::error::Error>;
    fn as_any_mut(&mut self) -> &mut dyn StdAny;
    fn name(&self) -> &'static str;
}

impl<W: Walker> AnyWalker for W {
    fn encode(&self) -> Result<Fields, bson::error::Error> {
        Fields::encode(self)
    }
    fn as_any_mut(&mut self) -> &mut dyn StdAny {
        self
    }
    fn name(&self) -> &'static str {
        W::NAME
    }
}

/// The walker that came by, of whatever type: what an untyped ability of a node gets.
pub struct Visitor<'a>(&'a mut dyn AnyWalker);

impl Visitor<'_> {
    /// The walker's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The walker, when it is of this type.
    pub fn cast<W: Walker>(&mut self) -> Option<&mut W> {
        self.0.as_any_mut().downcast_mut()
    }
}

/// An `async fn(&mut W, Here<P>, &mut Context) -> Outcome`.
#[diagnostic::on_unimplemented(
    message = "this function is not an ability of `{W}`",
    note = "write it as `async fn name(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome`, with the type to stand on \
            in place of `Root`, and hold nothing that is not `Send` (such as what `edit()` gives) over an `.await`"
)]
pub trait WalkerAbility<'a, W: 'a, P>: Send + Sync + 'static {
    /// The function's own future.
    type Future: Future<Output = Outcome> + Send + 'a;
    /// Calls the function.
    fn call(&self, walker: &'a mut W, here: Here<P>, cx: &'a mut Context) -> Self::Future;
}

impl<'a, W: 'a, P, F, R> WalkerAbility<'a, W, P> for F
where
    F: Fn(&'a mut W, Here<P>, &'a mut Context) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'a,
{
    type Future = R;
    fn call(&self, walker: &'a mut W, here: Here<P>, cx: &'a mut Context) -> R {
        self(walker, here, cx)
    }
}

/// An `async fn(Here<N>, &mut W, &mut Context) -> Outcome`.
#[diagnostic::on_unimplemented(
    message = "this function is not an ability of a node",
    note = "write it as `async fn name(here: Here<Self>, by: &mut TheWalker, cx: &mut Context) -> Outcome`"
)]
pub trait PlaceAbility<'a, N, W: 'a>: Send + Sync + 'static {
    /// The function's own future.
    type Future: Future<Output = Outcome> + Send + 'a;
    /// Calls the function.
    fn call(&self, here: Here<N>, walker: &'a mut W, cx: &'a mut Context) -> Self::Future;
}

impl<'a, N, W: 'a, F, R> PlaceAbility<'a, N, W> for F
where
    F: Fn(Here<N>, &'a mut W, &'a mut Context) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'a,
{
    type Future = R;
    fn call(&self, here: Here<N>, walker: &'a mut W, cx: &'a mut Context) -> R {
        self(here, walker, cx)
    }
}

/// An `async fn(Here<N>, Visitor<'_>, &mut Context) -> Outcome`.
pub trait AnyPlaceAbility<'a, N>: Send + Sync + 'static {
    /// The function's own future.
    type Future: Future<Output = Outcome> + Send + 'a;
    /// Calls the function.
    fn call(&self, here: Here<N>, walker: Visitor<'a>, cx: &'a mut Context) -> Self::Future;
}

impl<'a, N, F, R> AnyPlaceAbility<'a, N> for F
where
    F: Fn(Here<N>, Visitor<'a>, &'a mut Context) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'a,
{
    type Future = R;
    fn call(&self, here: Here<N>, walker: Visitor<'a>, cx: &'a mut Context) -> R {
        self(here, walker, cx)
    }
}

type Call = dyn for<'a> Fn(&'a mut dyn AnyWalker, &Arc<Slot>, &'a mut Context) -> BoxFuture<'a, Outcome>
    + Send
    + Sync;

/// One ability, its types erased.
#[derive(Clone)]
pub(crate) struct Ability {
    pub(crate) name: &'static str,
    pub(crate) when: When,
    /// True for abilities on any place (of walkers) or for any walker (of nodes).
    pub(crate) untyped: bool,
    pub(crate) place: fn(Kind, &Name) -> bool,
    /// The walker's name, for a typed ability of a node.
    pub(crate) visitor: Option<&'static str>,
    pub(crate) call: Arc<Call>,
}

/// When an ability runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Entry,
    Exit,
    Step,
}

/// A future that has already failed.
fn failed<'a>(failure: super::Failure) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(Err(failure)))
}

/// The abilities of a walker type, in order of registration.
pub struct Abilities<W> {
    pub(crate) list: Vec<Ability>,
    pub(crate) places: Vec<fn(&mut Registry)>,
    _walker: PhantomData<fn(W)>,
}

impl<W: Walker> Abilities<W> {
    pub(crate) fn collect() -> Self {
        let mut abilities = Self { list: Vec::new(), places: Vec::new(), _walker: PhantomData };
        W::abilities(&mut abilities);
        abilities
    }

    /// Runs on arriving at a matching place. On [`Any`](super::Any): once, where the walker starts.
    pub fn entry<P: Place, F: for<'a> WalkerAbility<'a, W, P>>(&mut self, name: &'static str, ability: F) {
        self.add(name, When::Entry, ability);
    }

    /// Runs on leaving a matching place. On [`Any`](super::Any): once, where the walker ends.
    pub fn exit<P: Place, F: for<'a> WalkerAbility<'a, W, P>>(&mut self, name: &'static str, ability: F) {
        self.add(name, When::Exit, ability);
    }

    /// Runs when another ability gave it the word with `cx.then(name)`.
    pub fn step<P: Place, F: for<'a> WalkerAbility<'a, W, P>>(&mut self, name: &'static str, ability: F) {
        self.add(name, When::Step, ability);
    }

    fn add<P: Place, F: for<'a> WalkerAbility<'a, W, P>>(
        &mut self,
        name: &'static str,
        when: When,
        ability: F,
    ) {
        let call: Arc<Call> = Arc::new(move |walker, slot, cx| {
            if let Err(failure) = P::prepare(slot) {
                return failed(failure);
            }
            match walker.as_any_mut().downcast_mut::<W>() {
                Some(walker) => Box::pin(ability.call(walker, Here::new(Arc::clone(slot)), cx)),
                None => failed(super::fail("the walker is held as another type")),
            }
        });
        self.places.push(P::register);
        self.list.push(Ability { name, when, untyped: P::ANY, place: P::matches, visitor: None, call });
    }
}

/// The abilities of a node or edge type, in order of registration.
pub struct NodeAbilities<N> {
    pub(crate) list: Vec<Ability>,
    _node: PhantomData<fn(N)>,
}

impl<N: Archetype> NodeAbilities<N> {
    pub(crate) fn new() -> Self {
        Self { list: Vec::new(), _node: PhantomData }
    }

    /// Runs when a walker of the type arrives.
    pub fn entry<W: Walker, F: for<'a> PlaceAbility<'a, N, W>>(&mut self, name: &'static str, ability: F) {
        self.add(name, When::Entry, ability);
    }

    /// Runs when a walker of the type leaves.
    pub fn exit<W: Walker, F: for<'a> PlaceAbility<'a, N, W>>(&mut self, name: &'static str, ability: F) {
        self.add(name, When::Exit, ability);
    }

    /// Runs when any walker arrives.
    pub fn entry_any<F: for<'a> AnyPlaceAbility<'a, N>>(&mut self, name: &'static str, ability: F) {
        self.add_any(name, When::Entry, ability);
    }

    /// Runs when any walker leaves.
    pub fn exit_any<F: for<'a> AnyPlaceAbility<'a, N>>(&mut self, name: &'static str, ability: F) {
        self.add_any(name, When::Exit, ability);
    }

    fn add<W: Walker, F: for<'a> PlaceAbility<'a, N, W>>(
        &mut self,
        name: &'static str,
        when: When,
        ability: F,
    ) {
        let call: Arc<Call> = Arc::new(move |walker, slot, cx| {
            if let Err(failure) = N::prepare(slot) {
                return failed(failure);
            }
            match walker.as_any_mut().downcast_mut::<W>() {
                Some(walker) => Box::pin(ability.call(Here::new(Arc::clone(slot)), walker, cx)),
                None => failed(super::fail("the walker is held as another type")),
            }
        });
        self.list.push(Ability {
            name,
            when,
            untyped: false,
            place: N::matches,
            visitor: Some(W::NAME),
            call,
        });
    }

    fn add_any<F: for<'a> AnyPlaceAbility<'a, N>>(&mut self, name: &'static str, when: When, ability: F) {
        let call: Arc<Call> = Arc::new(move |walker, slot, cx| {
            if let Err(failure) = N::prepare(slot) {
                return failed(failure);
            }
            Box::pin(ability.call(Here::new(Arc::clone(slot)), Visitor(walker), cx))
        });
        self.list.push(Ability { name, when, untyped: true, place: N::matches, visitor: None, call });
    }
}
