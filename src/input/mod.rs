//! Reads what a caller gave into a type, the way that Jac Cloud's clients are used to: with the coercions of Pydantic's lax mode,
//! and in its words for everything that does not fit.
//!
//! No description of the type is needed: what serde asks for is what is expected. Where a value does not fit, that is noted and a
//! made-up one takes its place, so that all the rest is looked at as well. A type that reads its text itself refuses made-up ones,
//! too; then its member comes last in another pass. So all that does not fit is told at once, but for these: of a list of such
//! values only the first that does not fit, of a long input some members that are missing far inside, and never more than [`ERRORS_MAX`].

mod asks;
mod lax;
mod made_up;
mod notes;
mod reader;
pub(crate) mod schema;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::{
    notes::{Notes, Path},
    reader::Reader,
};
use crate::{
    FieldError,
    walker::{Field, FieldKind, Part, Spec},
};

/// How much that does not fit is told of one request.
const ERRORS_MAX: usize = 100;

/// How often one input is read at most; each pass tells at least one thing that none before did. A long one is read fewer times.
const PASSES: std::ops::Range<usize> = 2..ERRORS_MAX;
/// Bytes of JSON, about, that all passes may come to, unless two are more.
const READ_MAX: usize = 4 * 1024 * 1024;

/// What a caller gave for a walker.
#[derive(Debug)]
pub(crate) struct Input<'s> {
    /// By field, in the order of the type. A field of a query has the list of its texts.
    pub(crate) fields: Map<String, Value>,
    /// Required fields that were not given.
    pub(crate) missing: Vec<&'s Field>,
    /// All that the body has, to be shown to who misses something in it.
    pub(crate) body: Value,
    /// What the walker's type says.
    pub(crate) spec: &'s Spec,
}

impl<'s> Input<'s> {
    /// What a caller gave under these names. Excluded and unknown ones are dropped.
    pub(crate) fn of(spec: &'s Spec, mut given: Map<String, Value>) -> Self {
        let fields = &spec.fields;
        let lacks = |field: &&Field| field.kind == FieldKind::Required && !given.contains_key(field.name);
        let missing: Vec<_> = fields.iter().filter(lacks).collect();
        let of_body =
            |(name, _): &(&String, &Value)| spec.field_of(name).is_none_or(|field| field.part == Part::Body);
        let body = if missing.is_empty() { Map::new() } else { copied(given.iter().filter(of_body)) };
        let taken = fields.iter().filter(|field| field.kind != FieldKind::Excluded);
        let taken = taken.filter_map(|field| Some((field.name.to_owned(), given.remove(field.name)?)));
        Self { fields: taken.collect(), missing, body: body.into(), spec }
    }
}

fn copied<'v>(members: impl Iterator<Item = (&'v String, &'v Value)>) -> Map<String, Value> {
    members.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Reads a type from its fields.
///
/// # Errors
/// All that does not fit, in the order of the fields; each once.
pub(crate) fn read<T: DeserializeOwned>(input: Input<'_>) -> Result<T, Vec<FieldError>> {
    let Input { fields, missing, body, spec } = input;
    let mut input = Value::Object(fields);
    let mut notes = Notes::new(spec);
    for field in missing {
        let path = Path::Member(&Path::Root, field.name);
        let given = if field.part == Part::Body { &body } else { &Value::Null };
        notes.note("missing", "Field required", Value::Null, &path, given);
        notes.make_up(path.loc());
    }
    let mut last = Vec::new();
    let length = notes::weight(&input, READ_MAX).unwrap_or(READ_MAX).max(1);
    for _ in 0..(READ_MAX / length).clamp(PASSES.start, PASSES.end) {
        let read = Reader::new(&input, &Path::Root, &notes).read();
        match (read, notes.refused.take()) {
            (Ok(read), _) if notes.is_empty() => return Ok(read),
            // Where nothing made up helps, what comes behind is still to be seen.
            (Err(_), Some(place)) if notes.make_up(place.clone()) => {}
            (Err(_), Some(place)) if !last.contains(&place) && put_last(&mut input, &place) => {
                last.push(place)
            }
            _ => break,
        }
    }
    Err(notes.end())
}

/// Puts a member at the end of its object. False when it is there already, or there is no such object.
fn put_last(input: &mut Value, loc: &[Value]) -> bool {
    let Some((Value::String(name), place)) = loc.split_last() else { return false };
    let Some(members) = at(input, place).and_then(Value::as_object_mut) else { return false };
    if members.keys().next_back() == Some(name) {
        return false;
    }
    let Some(value) = members.shift_remove(name) else { return false };
    members.insert(name.clone(), value);
    true
}

/// The value at a place of a value.
fn at<'a>(value: &'a mut Value, loc: &[Value]) -> Option<&'a mut Value> {
    loc.iter().try_fold(value, |value, segment| match segment {
        Value::String(name) => value.get_mut(name),
        other => value.get_mut(usize::try_from(other.as_u64()?).ok()?),
    })
}

#[cfg(test)]
mod tests;
