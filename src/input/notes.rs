//! What did not fit, and where.

use std::cell::{Cell, RefCell};

use serde_json::Value;

use super::ERRORS_MAX;
use crate::{
    FieldError,
    walker::{Part, Spec},
};

/// What is shown of what was given, in bytes of JSON, about; over all errors of a request.
const SHOWN_MAX: usize = 64 * 1024;
/// The longest name in the location of an error, and the longest sentence, in characters. What is longer is cut off.
const TEXT_MAX: usize = 200;

/// Where a value stands: the members and positions that lead there.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    Root,
    Member(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl Path<'_> {
    /// From the outside in.
    pub(super) fn loc(&self) -> Vec<Value> {
        let (mut loc, last) = match self {
            Self::Root => return Vec::new(),
            Self::Member(within, name) => (within.loc(), Value::from(*name)),
            Self::Item(within, index) => (within.loc(), Value::from(*index)),
        };
        loc.push(last);
        loc
    }

    /// The same with short names, for those who gave long ones.
    fn shown(&self) -> Vec<Value> {
        let (mut loc, last) = match self {
            Self::Root => return Vec::new(),
            Self::Member(within, name) => (within.shown(), Value::from(clip(name))),
            Self::Item(within, index) => (within.shown(), Value::from(*index)),
        };
        loc.push(last);
        loc
    }

    /// Whether it leads to this place.
    fn is(&self, loc: &[Value]) -> bool {
        match (self, loc.split_last()) {
            (Self::Root, None) => true,
            (Self::Member(within, name), Some((Value::String(last), rest))) => {
                last == name && within.is(rest)
            }
            (Self::Item(within, index), Some((Value::Number(last), rest))) => {
                last.as_u64() == u64::try_from(*index).ok() && within.is(rest)
            }
            _ => false,
        }
    }

    /// The name, for a member of the whole.
    pub(super) fn field(&self) -> Option<&str> {
        match self {
            Self::Member(Path::Root, name) => Some(name),
            _ => None,
        }
    }
}

/// What one input brought to light. Readers share it.
pub(super) struct Notes<'s> {
    errors: RefCell<Vec<FieldError>>,
    /// What may still be shown.
    room: Cell<usize>,
    /// What stopped the last pass.
    pub(super) refused: Cell<Option<Vec<Value>>>,
    /// Where values are made up instead of read.
    made_up: Vec<Vec<Value>>,
    spec: &'s Spec,
}

impl<'s> Notes<'s> {
    pub(super) fn new(spec: &'s Spec) -> Self {
        Self {
            errors: RefCell::default(),
            room: Cell::new(SHOWN_MAX),
            refused: Cell::default(),
            made_up: Vec::new(),
            spec,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// Notes an error, once.
    pub(super) fn note(
        &self,
        kind: &str,
        msg: impl Into<String>,
        ctx: Value,
        path: &Path<'_>,
        given: &Value,
    ) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() >= ERRORS_MAX {
            return;
        }
        let loc = path.shown();
        if errors.iter().any(|error| error.loc == loc) {
            return;
        }
        let input = match weight(given, self.room.get()) {
            Some(weight) => {
                self.room.set(self.room.get() - weight);
                given.clone()
            }
            None => Value::Null,
        };
        let msg = clip(&msg.into()).to_owned();
        errors.push(FieldError { part: Part::Body, kind: kind.to_owned(), loc, msg, input, ctx });
    }

    /// Has a value made up from the next pass on. False when it is already.
    pub(super) fn make_up(&mut self, loc: Vec<Value>) -> bool {
        let is_new = !self.made_up.contains(&loc);
        if is_new {
            self.made_up.push(loc);
        }
        is_new
    }

    /// Whether the value there is made up.
    pub(super) fn is_made_up(&self, path: &Path<'_>) -> bool {
        self.made_up.iter().any(|loc| path.is(loc))
    }

    /// Members of an object that are made up, of those that a type has.
    pub(super) fn absent(&self, path: &Path<'_>, members: &'static [&'static str]) -> Vec<&'static str> {
        if self.made_up.is_empty() {
            return Vec::new();
        }
        let names = members.iter().filter(|name| self.is_made_up(&Path::Member(path, name)));
        names.copied().collect()
    }

    /// Whether a value comes in a query, where a list may stand for its last one.
    pub(super) fn is_of_query(&self, path: &Path<'_>) -> bool {
        let field = path.field().and_then(|name| self.spec.field_of(name));
        field.is_some_and(|field| field.part == Part::Query)
    }

    /// The errors, by part of the request and in the order of the fields.
    pub(super) fn end(self) -> Vec<FieldError> {
        let mut errors = self.errors.into_inner();
        let field = |error: &FieldError| {
            let name = error.loc.first()?.as_str()?;
            self.spec.fields.iter().enumerate().find(|(_, field)| field.name == name)
        };
        for error in &mut errors {
            error.part = field(error).map(|(_, field)| field.part).unwrap_or_default();
        }
        errors.sort_by_key(|error| (error.part.min(Part::Body), field(error).map(|(index, _)| index)));
        errors
    }
}

fn clip(text: &str) -> &str {
    text.char_indices().nth(TEXT_MAX).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

/// About how long a value is as JSON; none when that is beyond `max`.
pub(super) fn weight(value: &Value, max: usize) -> Option<usize> {
    let own = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => {
            return items.iter().try_fold(2, |sum, item| Some(sum + weight(item, max.checked_sub(sum)?)?));
        }
        Value::Object(members) => {
            return members.iter().try_fold(2, |sum, (name, item)| {
                let sum = sum + name.len() + 4;
                Some(sum + weight(item, max.checked_sub(sum)?)?)
            });
        }
    };
    (own <= max).then_some(own)
}
