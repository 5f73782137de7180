//! Handles on elements of the graph, as one attempt sees them.

use std::{
    any::Any as StdAny,
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::{Map, Value};
use uuid::Uuid;
use walkabout_schema::{Access, ElementId, Fields, Kind, Level, Name};

use super::{
    Any, Failure, Query,
    archetype::{Archetype, Held, Place},
    fail,
};
use crate::{
    access::{Basis, Judged, unregistered},
    store::{Direction, Element, Ends},
};

/// The attempt's one copy of an element. What never changes stands beside what may.
pub struct Slot {
    pub(crate) kind: Kind,
    pub(crate) id: Uuid,
    pub(crate) name: Name,
    pub(crate) owner: Option<Uuid>,
    pub(crate) ends: Option<Ends>,
    /// What the acting root may do with it, as it was read.
    judged: Judged,
    /// The run acts as the system root since then.
    raised: AtomicBool,
    /// As it was read; none for a new element.
    pub(crate) base: Option<Arc<Element>>,
    /// Guards of `read` and `edit` are on this. Whoever would wait for one may be its holder, so nobody waits.
    data: RwLock<Data>,
    state: Mutex<SlotState>,
}

/// What the attempt did to an element, but for its fields. Locked for a moment only, so that a guard on the fields is in nobody's way.
#[derive(Default)]
pub(crate) struct SlotState {
    /// The access, once it was changed.
    pub(crate) access: Option<Access>,
    /// `edit` was called.
    pub(crate) edited: bool,
    pub(crate) deleted: bool,
    pub(crate) touched: bool,
    pub(crate) adds: Vec<(String, i64)>,
    /// Stands in the list of what the commit must look at.
    pub(crate) listed: bool,
}

#[derive(Default)]
pub(crate) enum Data {
    /// Only in `base`, encoded. Of a new element: it has no fields.
    #[default]
    Encoded,
    /// Decoded, and shared with other attempts.
    Shared(Arc<dyn StdAny + Send + Sync>),
    /// The attempt's own.
    Own(Box<dyn Held>),
}

impl SlotState {
    /// True when the commit has to look at it.
    pub(crate) fn is_changed(&self) -> bool {
        self.listed || self.edited || self.touched || self.access.is_some() || !self.adds.is_empty()
    }
}

impl Slot {
    /// An element as it is stored, with what the acting root may do with it.
    pub(crate) fn stored(element: Arc<Element>, judged: Judged) -> Self {
        Self {
            kind: element.kind,
            id: element.id,
            name: element.name.clone(),
            owner: element.owner,
            ends: element.ends.clone(),
            judged,
            raised: AtomicBool::new(false),
            base: Some(element),
            data: RwLock::default(),
            state: Mutex::default(),
        }
    }

    /// A new element, which the commit must look at.
    pub(crate) fn fresh(
        kind: Kind,
        id: Uuid,
        name: Name,
        owner: Uuid,
        ends: Option<Ends>,
        data: Data,
    ) -> Self {
        let state = SlotState { edited: true, listed: true, ..SlotState::default() };
        Self {
            kind,
            id,
            name,
            owner: Some(owner),
            ends,
            judged: Judged::OWN,
            raised: AtomicBool::new(false),
            base: None,
            data: RwLock::new(data),
            state: Mutex::new(state),
        }
    }

    fn judged(&self) -> Judged {
        if self.raised.load(Ordering::Relaxed) { Judged::OWN } else { self.judged }
    }

    /// What the acting root may do with it.
    pub(crate) fn level(&self) -> Level {
        self.judged().level
    }

    /// What that rests on.
    pub(crate) fn basis(&self) -> Basis {
        self.judged().basis
    }

    /// From now on the acting root is the system root.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fields; none while a guard of `edit` is held.
    pub(crate) fn try_read(&self) -> Option<RwLockReadGuard<'_, Data>> {
        match self.data.try_read() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[track_caller]
    fn read(&self) -> RwLockReadGuard<'_, Data> {
        self.try_read().unwrap_or_else(|| self.held("read while the guard of its edit()"))
    }

    #[track_caller]
    fn write(&self) -> RwLockWriteGuard<'_, Data> {
        match self.data.try_write() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => self.held("edited while a guard of its read() or edit()"),
        }
    }

    /// Panics, as `RefCell` does: who waited would wait for ever.
    #[track_caller]
    fn held(&self, what: &str) -> ! {
        panic!(
            "{} cannot be {what} is held: let the guard go first: `let value = here.read().value;`, then use `value`",
            self.element_id()
        )
    }

    pub(crate) fn element_id(&self) -> ElementId {
        ElementId::new(self.kind, self.name.clone(), self.id)
    }

    /// Makes the fields readable as `T`.
    pub(crate) fn decode<T: Archetype>(&self) -> Result<(), Failure> {
        // Judged as if there were no rule.
        if self.basis() == Basis::Blocks && T::access().is_some() {
            return Err(unregistered::<T>());
        }
        let is_ready = match &*self.read() {
            Data::Shared(value) => Some((**value).is::<T>()),
            Data::Own(value) => Some(value.as_any().is::<T>()),
            Data::Encoded => None,
        };
        match is_ready {
            Some(true) => return Ok(()),
            Some(false) => {
                return Err(fail(format!("{} is held as another type than {}", self.element_id(), T::NAME)));
            }
            None => {}
        }
        let Some(base) = &self.base else {
            return Err(fail(format!("{} has no fields", self.element_id())));
        };
        let shared = match base.decoded.get::<T>() {
            Some(value) => Arc::clone(value),
            None => {
                let value: T = self.decode_base(base)?;
                let value: Arc<dyn StdAny + Send + Sync> = Arc::new(value);
                base.decoded.keep(Arc::clone(&value));
                value
            }
        };
        *self.write() = Data::Shared(shared);
        Ok(())
    }

    fn decode_base<T: Archetype>(&self, base: &Element) -> Result<T, Failure> {
        base.fields.decode().map_err(|error| {
            tracing::error!(element = %self.element_id(), %error, "stored fields do not fit their type");
            fail(format!("the stored fields of {} do not fit the type {}", self.element_id(), T::NAME))
        })
    }

    /// The fields as they stand now, encoded.
    #[track_caller]
    pub(crate) fn encode(&self) -> Result<Fields, bson::error::Error> {
        match (&*self.read(), &self.base) {
            (Data::Own(value), _) => value.encode(),
            (_, Some(base)) => Ok(base.fields.clone()),
            (_, None) => Ok(Fields::default()),
        }
    }

    /// The access as it stands now.
    pub(crate) fn access(&self) -> Access {
        let changed = self.state().access.clone();
        changed.or_else(|| self.base.as_ref().map(|base| base.access.clone())).unwrap_or_default()
    }
}

/// A handle on one element: cheap to clone, and all handles on an element in one attempt see the same value.
///
/// Serialised, it is Jac Cloud's `{"id": "n:City:…", "context": {…}}`.
pub struct Here<T = Any> {
    pub(crate) slot: Arc<Slot>,
    _place: PhantomData<fn() -> T>,
}

impl<T> Clone for Here<T> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.slot))
    }
}

impl<T> fmt::Debug for Here<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.slot.element_id(), f)
    }
}

impl<T> Here<T> {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        Self { slot, _place: PhantomData }
    }

    /// The element's id.
    pub fn id(&self) -> ElementId {
        self.slot.element_id()
    }

    /// The id's UUID.
    pub fn uuid(&self) -> Uuid {
        self.slot.id
    }

    /// The name of its type; empty for roots and plain edges.
    pub fn name(&self) -> &Name {
        &self.slot.name
    }

    /// What the acting root may do with it.
    pub fn level(&self) -> Level {
        self.slot.level()
    }

    /// This element as one of a type, when it is of that type.
    ///
    /// # Errors
    /// When the stored fields do not fit the type.
    pub fn cast<P: Place>(&self) -> Result<Option<Here<P>>, Failure> {
        if !P::matches(self.slot.kind, &self.slot.name) {
            return Ok(None);
        }
        P::prepare(&self.slot)?;
        Ok(Some(Here::new(Arc::clone(&self.slot))))
    }

    /// The same element, its type forgotten.
    pub fn any(&self) -> Here<Any> {
        Here::new(Arc::clone(&self.slot))
    }

    /// The ends of an edge: source and target.
    pub fn ends(&self) -> Option<(Uuid, Uuid)> {
        self.slot.ends.as_ref().map(|ends| (ends.source.id, ends.target.id))
    }

    /// The fields as JSON.
    ///
    /// # Errors
    /// When they do not decode.
    ///
    /// # Panics
    /// As [`Here::read`].
    #[track_caller]
    pub fn fields(&self) -> Result<Map<String, Value>, Failure> {
        Ok(self.slot.encode()?.decode()?)
    }

    /// What can be reached along edges that begin here.
    pub fn out(&self) -> Query<Any> {
        Query::from(self.slot.id).hop(&[Direction::Out])
    }

    /// What can be reached along edges that end here.
    pub fn incoming(&self) -> Query<Any> {
        Query::from(self.slot.id).hop(&[Direction::In])
    }

    /// What can be reached along edges in either direction.
    pub fn both(&self) -> Query<Any> {
        Query::from(self.slot.id).hop(&[Direction::Out, Direction::In])
    }
}

impl<T: Archetype> Here<T> {
    /// Reads the fields. The guard must not be held over an `.await` (it does not compile).
    ///
    /// # Panics
    /// While a guard of `edit` on the same element is held, also through another handle on it.
    #[track_caller]
    pub fn read(&self) -> Read<'_, T> {
        Read { guard: self.slot.read(), _type: PhantomData }
    }

    /// Changes the fields; committed with everything else. Without WRITE access the attempt fails at its commit.
    ///
    /// The guard must not be held over an `.await` (it does not compile), so no query runs meanwhile. Everything else of the context
    /// may be asked while a guard is held; only the fields of this element are closed to others: to `read`, `edit` and `fields`, and
    /// to a report of its handle.
    ///
    /// # Panics
    /// While a guard of `read` or `edit` on the same element is held, also through another handle on it. A temporary one lives to
    /// the end of its statement, so `here.edit().n = here.read().n + 1` panics, and `here.edit().n += 1` does not.
    #[track_caller]
    pub fn edit(&self) -> Edit<'_, T> {
        let mut guard = self.slot.write();
        if let (Data::Shared(_), Some(base)) = (&*guard, &self.slot.base) {
            // Decoded before, so it decodes again; were it not so, the shared value would stay and the edit be lost loudly below.
            if let Ok(own) = base.fields.decode::<T>() {
                *guard = Data::Own(Box::new(own));
            }
        }
        self.slot.state().edited = true;
        Edit { guard, _type: PhantomData }
    }
}

impl<T> Serialize for Here<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields: Map<String, Value> = self
            .slot
            .encode()
            .and_then(|fields| fields.decode())
            .map_err(|_| serde::ser::Error::custom("the fields of an element do not encode"))?;
        let mut object = serializer.serialize_struct("Element", 2)?;
        object.serialize_field("id", &self.id())?;
        object.serialize_field("context", &fields)?;
        object.end()
    }
}

/// Read access to an element's fields.
pub struct Read<'a, T> {
    guard: RwLockReadGuard<'a, Data>,
    _type: PhantomData<T>,
}

impl<T: Archetype> Deref for Read<'_, T> {
    type Target = T;
    #[expect(
        clippy::expect_used,
        reason = "a typed handle is made only after its slot was decoded to that type"
    )]
    fn deref(&self) -> &T {
        let value = match &*self.guard {
            Data::Shared(value) => value.downcast_ref::<T>(),
            Data::Own(value) => value.as_any().downcast_ref::<T>(),
            Data::Encoded => None,
        };
        value.expect("the slot holds the handle's type")
    }
}

/// Write access to an element's fields.
pub struct Edit<'a, T> {
    guard: RwLockWriteGuard<'a, Data>,
    _type: PhantomData<T>,
}

impl<T: Archetype> Deref for Edit<'_, T> {
    type Target = T;
    #[expect(clippy::expect_used, reason = "`edit` has made the value the slot's own")]
    fn deref(&self) -> &T {
        let value = match &*self.guard {
            Data::Own(value) => value.as_any().downcast_ref(),
            Data::Shared(_) | Data::Encoded => None,
        };
        value.expect("the slot owns a value of the handle's type")
    }
}

impl<T: Archetype> DerefMut for Edit<'_, T> {
    #[expect(clippy::expect_used, reason = "`edit` has made the value the slot's own")]
    fn deref_mut(&mut self) -> &mut T {
        let value = match &mut *self.guard {
            Data::Own(value) => value.as_any_mut().downcast_mut(),
            Data::Shared(_) | Data::Encoded => None,
        };
        value.expect("the slot owns a value of the handle's type")
    }
}
