//! Path queries: which nodes lie along which edges.

use std::{marker::PhantomData, sync::Arc};

use uuid::Uuid;
use walkabout_schema::{Kind, Name};

use super::{
    Any, Failure, Here,
    archetype::{Archetype, Edge, Node, Place},
    here::Slot,
};
use crate::store::Direction;

/// Whether an element fits.
pub(crate) type Filter = Arc<dyn Fn(&Arc<Slot>) -> Result<bool, Failure> + Send + Sync>;

/// A path from some nodes over one or more hops. Targets without READ access are left out.
///
/// ```ignore
/// cx.visit(here.out().edge::<Flight>().node::<Airport>().filter(|airport| airport.state == "CA")).await
/// ```
#[must_use = "a query does nothing until it is given to `cx`"]
pub struct Query<T = Any> {
    pub(crate) from: Vec<Uuid>,
    pub(crate) hops: Vec<Hop>,
    /// True when the edges of the last hop are wanted, not its nodes.
    pub(crate) edges: bool,
    _place: PhantomData<fn() -> T>,
}

#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) directions: &'static [Direction],
    pub(crate) edge: Option<Names>,
    pub(crate) edge_filters: Vec<Filter>,
    pub(crate) node: Option<fn(Kind, &Name) -> bool>,
    pub(crate) node_filters: Vec<Filter>,
}

/// A type's name with its aliases.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
}

impl<T> Clone for Query<T> {
    fn clone(&self) -> Self {
        Self { from: self.from.clone(), hops: self.hops.clone(), edges: self.edges, _place: PhantomData }
    }
}

impl Query<Any> {
    pub(crate) fn from(node: Uuid) -> Self {
        Self { from: vec![node], hops: Vec::new(), edges: false, _place: PhantomData }
    }
}

impl<T> Query<T> {
    pub(crate) fn hop(mut self, directions: &'static [Direction]) -> Query<Any> {
        self.hops.push(Hop {
            directions,
            edge: None,
            edge_filters: Vec::new(),
            node: None,
            node_filters: Vec::new(),
        });
        self.retype()
    }

    fn retype<P>(self) -> Query<P> {
        Query { from: self.from, hops: self.hops, edges: self.edges, _place: PhantomData }
    }

    /// One hop more, along edges that begin at what was reached.
    pub fn out(self) -> Query<Any> {
        self.hop(&[Direction::Out])
    }

    /// One hop more, along edges that end at what was reached.
    pub fn incoming(self) -> Query<Any> {
        self.hop(&[Direction::In])
    }

    /// One hop more, in either direction.
    pub fn both(self) -> Query<Any> {
        self.hop(&[Direction::Out, Direction::In])
    }

    /// Only along edges of this type.
    pub fn edge<E: Edge>(mut self) -> Self {
        if let Some(hop) = self.hops.last_mut() {
            hop.edge = Some(Names { name: E::NAME, aliases: E::ALIASES });
        }
        self
    }

    /// Only along plain edges: those without a type.
    pub fn plain(mut self) -> Self {
        if let Some(hop) = self.hops.last_mut() {
            hop.edge = Some(Names { name: "", aliases: &[] });
        }
        self
    }

    /// Only along edges of this type that may be read and whose fields fit.
    pub fn edge_where<E: Edge>(self, fits: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        let mut query = self.edge::<E>();
        if let Some(hop) = query.hops.last_mut() {
            hop.edge_filters.push(on_fields(fits));
        }
        query
    }

    /// Only nodes of this type.
    pub fn node<N: Node>(mut self) -> Query<N> {
        if let Some(hop) = self.hops.last_mut() {
            hop.node = Some(<N as Place>::matches);
        }
        self.retype()
    }

    /// The edges of the last hop that may be read, instead of its nodes. A visit of an edge is followed by one of its target.
    pub fn edges(mut self) -> Query<Any> {
        self.edges = true;
        self.retype()
    }
}

impl<N: Node> Query<N> {
    /// Only nodes whose fields fit.
    pub fn filter(mut self, fits: impl Fn(&N) -> bool + Send + Sync + 'static) -> Self {
        if let Some(hop) = self.hops.last_mut() {
            hop.node_filters.push(on_fields(fits));
        }
        self
    }
}

fn on_fields<T: Archetype>(fits: impl Fn(&T) -> bool + Send + Sync + 'static) -> Filter {
    Arc::new(move |slot| {
        if !T::matches(slot.kind, &slot.name) {
            return Ok(false);
        }
        T::prepare(slot)?;
        Ok(fits(&Here::<T>::new(Arc::clone(slot)).read()))
    })
}
