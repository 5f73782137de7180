//! Between stored documents and what the runtime holds.

use bson::RawDocumentBuf;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use walkabout_schema::{
    Edge, ErrorCode, Fields, Key, Kind, Name, Node, NodeId, Object, State, Timestamp, Walker,
};

use crate::store::{DecodedCell, Element, End, Ends, Error, Result, Token};

/// The part of an open run that changes often; merged into the record when it is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) root: Key,
    pub(crate) name: Name,
    pub(crate) state: State,
    pub(crate) attempt: u32,
    pub(crate) lost: u32,
    pub(crate) conflicts: u32,
    pub(crate) epoch: u64,
    pub(crate) counter: u64,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) executed_at: Option<Timestamp>,
    /// The number of the newest event.
    pub(crate) seq: u64,
    /// There is a checkpoint.
    pub(crate) checkpointed: bool,
    /// Some checkpoint of it had segments.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) segmented: bool,
    /// The present claim went on with the attempt before it; or the next one will.
    #[serde(default)]
    pub(crate) goes_on: bool,
    pub(crate) progress: Value,
    /// What most runs never need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) more: Option<Box<More>>,
}

/// The part of [`Live`] that is there only for runs that wait, were asked something, have a deadline, or failed before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct More {
    /// When it is due, while it is scheduled or waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) due_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timestamp>,
    /// Where it stands in the index of due runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timer: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cancel_requested_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pause_requested_at: Option<Timestamp>,
    /// The state that it was paused in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused_from: Option<State>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Answer>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<(ErrorCode, String)>,
    #[serde(default)]
    pub(crate) retries: u32,
}

/// What somebody answered. Null is an answer too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) value: Value,
}

impl Live {
    pub(crate) fn token(&self) -> Token {
        Token { epoch: self.epoch, counter: self.counter }
    }

    pub(crate) fn more(&self) -> &More {
        static NONE: More = More::NONE;
        self.more.as_deref().unwrap_or(&NONE)
    }

    pub(crate) fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Forgets what says nothing any more.
    pub(crate) fn tidy(&mut self) {
        if self.more.as_deref() == Some(&More::NONE) {
            self.more = None;
        }
    }

    /// When something has to be done about it though nobody asks: none while it is queued or under way.
    pub(crate) fn wakes_at(&self) -> Option<Timestamp> {
        let More { due_at, deadline, .. } = *self.more();
        match self.state {
            State::Scheduled | State::Waiting => due_at.into_iter().chain(deadline).min(),
            State::Paused | State::Incompatible => deadline,
            _ => None,
        }
    }

    /// Shows a run that was just claimed.
    pub(crate) fn show_claimed(&self, walker: &mut Walker) {
        self.merge_into(walker);
        walker.run.state = State::Running;
        (walker.run.next_attempt_at, walker.run.waits_for) = (None, None);
        (walker.run.error_code, walker.schedule.error) = (None, None);
    }

    /// Shows the run as it stands in its record.
    pub(crate) fn merge_into(&self, walker: &mut Walker) {
        crate::store::set_state(walker, self.state);
        walker.run.attempt = self.attempt;
        walker.run.lost = self.lost;
        walker.run.conflicts = self.conflicts;
        walker.run.started_at = self.started_at;
        walker.run.progress = self.progress.clone();
        walker.schedule.executed_date = self.executed_at;
        let more = self.more();
        walker.run.retries = more.retries;
        walker.run.next_attempt_at = more.due_at;
        walker.run.waits_for.clone_from(&more.waits_for);
        walker.run.deadline = more.deadline;
        walker.run.cancel_requested_at = more.cancel_requested_at;
        walker.run.pause_requested_at = more.pause_requested_at;
        (walker.run.error_code, walker.schedule.error) = more.error.clone().unzip();
    }
}

impl More {
    const NONE: Self = Self {
        due_at: None,
        deadline: None,
        timer: None,
        cancel_requested_at: None,
        pause_requested_at: None,
        paused_from: None,
        waits_for: None,
        answer: None,
        error: None,
        retries: 0,
    };
}

/// The fields of a checkpoint, without the rest of it.
#[derive(Deserialize)]
pub(crate) struct FieldsOnly {
    pub(crate) fields: Fields,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    bson::serialize_to_vec(value).map_err(|error| Error::Damaged(format!("cannot be written: {error}")))
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    bson::deserialize_from_slice(bytes).map_err(|error| Error::Damaged(error.to_string()))
}

/// Writes an element as its document.
pub(crate) fn encode_element(element: &Element) -> Result<Vec<u8>> {
    let (id, root) = (Key(element.id), element.owner.map(Key));
    let (name, access, archetype, version) =
        (element.name.clone(), element.access.clone(), element.fields.clone(), element.version);
    match (element.kind, &element.ends) {
        (Kind::Edge, Some(ends)) => encode(&Edge {
            id,
            name,
            root,
            access,
            archetype,
            version,
            source: NodeId::new(ends.source.name.clone(), ends.source.id),
            target: NodeId::new(ends.target.name.clone(), ends.target.id),
            is_undirected: ends.undirected,
        }),
        (Kind::Node, _) => encode(&Node { id, name, root, access, archetype, version }),
        (Kind::Object, _) => encode(&Object { id, name, root, access, archetype, version }),
        (Kind::Edge | Kind::Walker, _) => Err(Error::Damaged(format!("{} is no element", element.id))),
    }
}

/// Reads an element from its document.
pub(crate) fn decode_element(kind: Kind, bytes: &[u8]) -> Result<Element> {
    let (node, ends) = match kind {
        Kind::Edge => {
            let Edge { id, name, root, access, archetype, version, source, target, is_undirected } =
                decode(bytes)?;
            let end = |id: NodeId| End { id: id.uuid(), name: id.name().clone(), owner: None };
            let ends = Ends { source: end(source), target: end(target), undirected: is_undirected };
            (Node { id, name, root, access, archetype, version }, Some(ends))
        }
        // The documents of nodes and objects have the same members.
        Kind::Node | Kind::Object => (decode::<Node>(bytes)?, None),
        Kind::Walker => return Err(Error::Damaged("a walker is no element".to_owned())),
    };
    Ok(Element {
        kind,
        id: node.id.0,
        name: node.name,
        owner: node.root.map(|root| root.0),
        access: node.access,
        version: node.version,
        ends,
        fields: node.archetype,
        decoded: DecodedCell::default(),
    })
}

/// Whether a field of a document is missing or a number, under a name that can be one.
pub(crate) fn can_add_to(fields: &RawDocumentBuf, field: &str) -> bool {
    use bson::raw::RawBsonRef::{Double, Int32, Int64};
    !field.contains('\0') && matches!(fields.get(field), Ok(None | Some(Int32(_) | Int64(_) | Double(_))))
}

/// Adds to a number field of a document; a missing one counts as 0.
pub(crate) fn add_to_field(fields: &RawDocumentBuf, field: &str, by: i64) -> Result<RawDocumentBuf> {
    let mut document = bson::Document::try_from(fields).map_err(|error| Error::Damaged(error.to_string()))?;
    let sum = match document.get(field) {
        Some(bson::Bson::Int32(old)) => bson::Bson::Int64(i64::from(*old).saturating_add(by)),
        Some(bson::Bson::Int64(old)) => bson::Bson::Int64(old.saturating_add(by)),
        #[expect(clippy::cast_precision_loss, reason = "a double field has double precision")]
        Some(bson::Bson::Double(old)) => bson::Bson::Double(old + by as f64),
        _ => bson::Bson::Int64(by),
    };
    document.insert(field, sum);
    RawDocumentBuf::from_bytes(encode(&document)?).map_err(|error| Error::Damaged(error.to_string()))
}

/// An empty name, for parsing runs of links.
pub(crate) fn no_names() -> (Name, Name) {
    (Name::empty(), Name::empty())
}
