//! Who may do what with an element or a run: the one place where a level is decided.
//!
//! Owner and system root may do everything. Of others a type may decide by its fields, with an [`AccessRule`]; where it does not, the
//! permission blocks of the element and of its owner root do. The graph asks for every element that it loads, the engine for records.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use uuid::Uuid;
use walkabout_schema::{Access, ErrorCode, Fields, Kind, Level, Name, NodeId, Walker, decide, owns};

use crate::{
    store::Element,
    walker::{Archetype, DecodedCell, Failure, fail},
};

/// Who asks for access, as an [`AccessRule`] sees it. It is neither the owner of the element nor the system root: these are not asked
/// about.
#[derive(Debug, Clone)]
pub struct Asker {
    root: NodeId,
    level: Level,
}

impl Asker {
    /// The root that asks.
    pub fn root(&self) -> &NodeId {
        &self.root
    }

    /// What it may do as the permission blocks have it: what was granted on the element, and on the root that owns it.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// What a root may do with an element, as its fields say; none where the permission blocks decide. A level that it gives is final.
pub type AccessRule<T> = fn(&T, &Asker) -> Option<Level>;

/// The rule of a type that the engine does not know. Fails when the fields do not fit the type.
type Rule = Arc<dyn Fn(&Subject<'_>, &Asker) -> Result<Option<Level>, bson::error::Error> + Send + Sync>;

/// The rules of all types, by the names under which these are stored.
#[derive(Clone, Default)]
pub(crate) struct Rules(HashMap<(Kind, Name), Rule>);

/// What access is asked to.
pub(crate) struct Subject<'a> {
    kind: Kind,
    name: &'a Name,
    id: Uuid,
    owner: Option<Uuid>,
    access: &'a Access,
    fields: &'a Fields,
    decoded: Option<&'a DecodedCell>,
}

impl<'a> From<&'a Element> for Subject<'a> {
    fn from(element: &'a Element) -> Self {
        Self {
            kind: element.kind,
            name: &element.name,
            id: element.id,
            owner: element.owner,
            access: &element.access,
            fields: &element.fields,
            decoded: Some(&element.decoded),
        }
    }
}

impl<'a> From<&'a Walker> for Subject<'a> {
    fn from(walker: &'a Walker) -> Self {
        Self {
            kind: Kind::Walker,
            name: &walker.name,
            id: walker.id.0,
            owner: Some(walker.owner()),
            access: &walker.access,
            fields: &walker.archetype,
            decoded: None,
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) level: Level,
    pub(crate) basis: Basis,
}

impl Judged {
    /// Of who owns the element, or acts as the system root.
    pub(crate) const OWN: Self = Self { level: Level::Write, basis: Basis::Owner };
}

/// What a level rests on: what must still hold when something is done by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Nothing that changes.
    Owner,
    /// The permission blocks of the element and of its owner root.
    Blocks,
    /// The rule of its type: its fields, and the blocks, for which the rule may have asked.
    Rule,
}

impl Rules {
    /// Adds the rule of a type, when it has one.
    pub(crate) fn add<T: Archetype>(&mut self) {
        let Some(rule) = T::access() else { return };
        let rule: Rule = Arc::new(move |subject, asker| {
            let known = subject.decoded.and_then(DecodedCell::get::<T>);
            if let Some(value) = known.and_then(|known| known.downcast_ref::<T>()) {
                return Ok(rule(value, asker));
            }
            let value: Arc<T> = Arc::new(subject.fields.decode()?);
            let level = rule(&value, asker);
            if let Some(decoded) = subject.decoded {
                decoded.keep(value);
            }
            Ok(level)
        });
        // What is no name is told of the type itself.
        let names = std::iter::once(T::NAME).chain(T::ALIASES.iter().copied()).flat_map(Name::new);
        self.0.extend(names.map(|name| ((T::KIND, name), Arc::clone(&rule))));
    }

    /// Refuses a type with a rule that nobody told of: others would find its elements, and not the rule.
    pub(crate) fn check<T: Archetype>(&self) -> Result<(), Failure> {
        let is_known = || {
            let name = Name::new(T::NAME).ok()?;
            self.0.get(&(T::KIND, name))
        };
        if T::access().is_none() || is_known().is_some() { Ok(()) } else { Err(unregistered::<T>()) }
    }

    /// What root `actor` may do with an element; `owners` is the access of the root that owns it, when there is one.
    ///
    /// # Errors
    /// When the rule of its type panics. One that the fields do not fit gives nothing to others.
    pub(crate) fn judge(
        &self,
        actor: Uuid,
        subject: &Subject<'_>,
        owners: Option<&Access>,
    ) -> Result<Judged, Failure> {
        let Subject { kind, name, id, owner, access, .. } = *subject;
        if owns(actor, id, owner) {
            return Ok(Judged::OWN);
        }
        let blocks = decide(actor, id, owner, access, owners);
        let rule = if self.0.is_empty() { None } else { self.0.get(&(kind, name.clone())) };
        let Some(rule) = rule else { return Ok(Judged { level: blocks, basis: Basis::Blocks }) };
        let asker = Asker { root: NodeId::root(actor), level: blocks };
        let level = match catch_unwind(AssertUnwindSafe(|| rule(subject, &asker))) {
            Ok(Ok(given)) => given.unwrap_or(blocks),
            Ok(Err(error)) => {
                tracing::error!(%id, %name, %error, "stored fields do not fit the access rule of their type");
                Level::NoAccess
            }
            Err(_) => {
                let message = format!("the access rule of {name} panicked");
                return Err(Failure::coded(ErrorCode::WalkerPanicked, message));
            }
        };
        Ok(Judged { level, basis: Basis::Rule })
    }
}

/// Why an element of a type cannot be handled.
pub(crate) fn unregistered<T: Archetype>() -> Failure {
    let (word, name) = (T::KIND.word(), T::NAME);
    fail(format!("{name} has an access rule and is not registered: add types.{word}::<{name}>()"))
}
