//! Between the key spaces of the rules and the documents of the database.
//!
//! A document is that of [`walkabout_schema`], with these members beside it:
//!
//! | collection | member | is |
//! |---|---|---|
//! | `edge` | `out`, `in` | the nodes whose links show it in each direction |
//! | `edge` | `roots` | the owners of its source and its target |
//! | `node`, `edge`, `object` | `lock` | rises when a commit relied on the element, and whenever links of a node change |
//! | `walker` | `live` | what of an open run changes often |
//! | `event` | `_id` | run and number, in one piece |
//! | `event` | `name`, `by` | the walker's name, and the process that wrote it |

use std::{collections::HashSet, sync::Arc};

use bson::{
    Bson, RawArrayBuf, RawDocument, RawDocumentBuf, doc,
    raw::{RawBson, RawBsonRef},
    rawdoc,
    spec::BinarySubtype,
};
use uuid::Uuid;
use walkabout_schema::{Event, Key, Kind, Timestamp, Walker};

use super::{
    base::{Base, Place},
    fetched::Fetched,
};
use crate::{
    graph::link_places,
    ids::IdMap,
    store::{
        Element, Error, Result,
        kv::{
            codec::{self, Live},
            engine::{Bytes, Space, View, Write},
            keys,
        },
    },
};

fn damaged(what: &str) -> Error {
    Error::Damaged(what.to_owned())
}

/// A UUID as it is stored.
pub(super) fn bson_id(id: Uuid) -> Bson {
    Bson::Binary(bson::Binary { subtype: BinarySubtype::Uuid, bytes: id.as_bytes().to_vec() })
}

pub(super) fn uuid_of(key: &[u8]) -> Result<Bson> {
    Uuid::from_slice(key).map(bson_id).map_err(|_| damaged("an id"))
}

fn raw_id(id: Uuid) -> RawBson {
    RawBson::Binary(bson::Binary { subtype: BinarySubtype::Uuid, bytes: id.as_bytes().to_vec() })
}

fn raw_key(key: &[u8]) -> Result<RawBson> {
    Uuid::from_slice(key).map(raw_id).map_err(|_| damaged("an id"))
}

/// The id of a request, by its key in the key space.
pub(super) fn request_id(key: &[u8]) -> Result<Bson> {
    let (_, digest) = key.split_first().ok_or_else(|| damaged("the key of a request"))?;
    Ok(Bson::Binary(bson::Binary { subtype: BinarySubtype::Generic, bytes: digest.to_vec() }))
}

/// The id of an identity, by its key in the key space.
pub(super) fn identity_id(key: &[u8]) -> Result<Bson> {
    let text = key.split_first().and_then(|(_, text)| std::str::from_utf8(text).ok());
    Ok(Bson::String(text.ok_or_else(|| damaged("the key of an identity"))?.to_owned()))
}

/// The id of an event: its key. In one piece, since not every server reads a range of documents by their index.
pub(super) fn event_id(run: Uuid, seq: u64) -> Bson {
    Bson::Binary(bson::Binary { subtype: BinarySubtype::Generic, bytes: keys::event(run, seq) })
}

/// The UUID under a name.
pub(super) fn id_in(document: &RawDocument, name: &str) -> Result<Uuid> {
    match document.get(name) {
        Ok(Some(RawBsonRef::Binary(binary))) => Uuid::from_slice(binary.bytes).map_err(|_| damaged("an id")),
        _ => Err(damaged("a document has no id")),
    }
}

/// A document as a value of a key space, with its key.
pub(super) fn value_of(space: Space, document: &RawDocumentBuf) -> Result<Option<(Vec<u8>, Bytes)>> {
    let whole = || Bytes::from(document.as_bytes());
    Ok(Some(match space {
        // An identity has a text as its id, a user a UUID.
        Space::User if let Ok(id) = document.get_str("_id") => {
            let email = document.get_str("email").map_err(|_| damaged("an identity has no address"))?;
            ([&[keys::BY_IDENTITY], id.as_bytes()].concat(), email.as_bytes().into())
        }
        Space::User => {
            let email = document.get_str("email").map_err(|_| damaged("a user has no address"))?;
            (email.as_bytes().to_vec(), whole())
        }
        Space::Meta => {
            let name = document.get_str("_id").map_err(|_| damaged("a secret has no name"))?;
            let value = document.get_binary("value").map_err(|_| damaged("a secret has no value"))?;
            (name.as_bytes().to_vec(), value.bytes.into())
        }
        Space::Request => {
            let digest = document.get_binary("_id").map_err(|_| damaged("a request has no key"))?;
            let request = document.get_binary("request").map_err(|_| damaged("a request has no digest"))?;
            let until = document.get_datetime("until").map_err(|_| damaged("a request has no end"))?;
            let run = id_in(document, "run")?;
            let value =
                [&run.as_bytes()[..], request.bytes, &until.timestamp_millis().to_be_bytes()].concat();
            ([b"k", digest.bytes].concat(), value.into())
        }
        Space::Live => match document.get("live") {
            Ok(Some(RawBsonRef::Document(live))) => {
                (id_in(document, "_id")?.as_bytes().to_vec(), live.as_bytes().into())
            }
            _ => return Ok(None),
        },
        _ => (id_in(document, "_id")?.as_bytes().to_vec(), whole()),
    }))
}

/// An element out of its document. The ends of an edge have their owners.
pub(super) fn element(kind: Kind, document: &RawDocumentBuf) -> Result<Element> {
    match kind {
        Kind::Edge => edge(document),
        kind => codec::decode_element(kind, document.as_bytes()),
    }
}

pub(super) fn edge(document: &RawDocumentBuf) -> Result<Element> {
    let mut edge = codec::decode_element(Kind::Edge, document.as_bytes())?;
    if let Some(ends) = &mut edge.ends {
        let roots = document.get_array("roots").map_err(|_| damaged("an edge has no roots"))?;
        let mut roots = roots.into_iter().map(|root| match root {
            Ok(RawBsonRef::Binary(binary)) => Uuid::from_slice(binary.bytes).ok(),
            _ => None,
        });
        ends.source.owner = roots.next().flatten();
        ends.target.owner = roots.next().flatten();
    }
    Ok(edge)
}

/// One write to a collection.
pub(super) enum Op {
    Insert(RawDocumentBuf),
    Update { filter: RawDocumentBuf, change: RawDocumentBuf },
    Delete(RawDocumentBuf),
}

impl Op {
    /// What it takes in a message.
    fn bytes(&self) -> usize {
        64 + match self {
            Self::Insert(document) | Self::Delete(document) => document.as_bytes().len(),
            Self::Update { filter, change } => filter.as_bytes().len() + change.as_bytes().len(),
        }
    }
}

/// The writes of a group, in the order in which they are sent.
#[derive(Default)]
pub(super) struct Ops {
    pub(super) ops: Vec<(Place, Op)>,
}

impl Ops {
    fn push(&mut self, place: Place, op: Op) {
        self.ops.push((place, op));
    }
}

/// What a group reads and writes, as the rules left it.
pub(super) struct Group<'a> {
    pub(super) batch: Vec<Write>,
    pub(super) elements: &'a IdMap<Option<Arc<Element>>>,
    pub(super) fetched: &'a Fetched,
    /// Elements that its members relied on.
    pub(super) relied_on: HashSet<(Space, Vec<u8>)>,
    /// The process that writes it.
    pub(super) by: u64,
}

/// What has to be sent for a group.
pub(super) fn ops(group: Group<'_>) -> Result<Ops> {
    let Group { batch, elements, fetched, mut relied_on, by } = group;
    let mut ops = Ops::default();
    let mut written = HashSet::new();
    let mut relinked = HashSet::new();
    let mut lives: IdMap<Option<Vec<u8>>> = IdMap::default();
    let mut records = Vec::new();
    let mut names: IdMap<String> = IdMap::default();
    let mut events = Vec::new();
    for (space, key, value) in batch {
        match (space, value) {
            (Space::Node | Space::Edge | Space::Object, value) => {
                put_element(&mut ops, elements, fetched, space, &key, value)?;
                written.insert((space, key));
            }
            (Space::Link, _) => {
                relinked.extend(key.get(..16).map(<[u8]>::to_vec));
            }
            (Space::Walker, value) => records.push((key, value)),
            (Space::Live, value) => {
                let id = Uuid::from_slice(&key).map_err(|_| damaged("an id"))?;
                lives.insert(id, value);
            }
            (Space::Checkpoint, value) => put_checkpoint(&mut ops, fetched, &key, value)?,
            (Space::Segment, Some(value)) => ops.push(Place::Segment, Op::Insert(raw(value)?)),
            (Space::Segment, None) => {
                let (run, number) = run_and_number(&key)?;
                let id = rawdoc! { "run": raw_id(run), "number": number.cast_signed() };
                ops.push(Place::Segment, Op::Delete(rawdoc! { "_id": id }));
            }
            (Space::Event, value) => events.push((key, value)),
            (Space::User, value) if key.first() == Some(&keys::BY_IDENTITY) => {
                put_identity(&mut ops, fetched, &key, value)?
            }
            (Space::User, Some(value)) if key.first() != Some(&keys::BY_ROOT) => {
                put_user(&mut ops, fetched, &key, value)?
            }
            (Space::User, None) if key.first() != Some(&keys::BY_ROOT) => {
                if fetched.has(Space::User, &key) {
                    ops.push(Place::User, Op::Delete(of_address(&key)?));
                }
            }
            (Space::Request, value) => put_request(&mut ops, fetched, &key, value)?,
            (Space::Meta, Some(value)) if key.starts_with(b"secret:") => {
                let name = String::from_utf8_lossy(&key).into_owned();
                let value = bson::Binary { subtype: BinarySubtype::Generic, bytes: value };
                ops.push(Place::Meta, Op::Insert(rawdoc! { "_id": name, "value": value }));
            }
            // The database has indexes for these, and the number of a group means nothing to it.
            (Space::ByRoot | Space::Due | Space::Meta | Space::User, _) => {}
        }
    }
    put_records(&mut ops, fetched, records, &mut lives, &mut names)?;
    for (id, live) in lives {
        let live = live.ok_or_else(|| damaged("a run went without its end"))?;
        names.insert(id, codec::decode::<Named>(&live)?.name);
        let change = rawdoc! { "$set": { "live": raw(live)? } };
        ops.push(Place::Walker, Op::Update { filter: rawdoc! { "_id": raw_id(id) }, change });
    }
    for (key, value) in events {
        put_event(&mut ops, &names, &key, value, by)?;
    }
    // What was relied on, and is not written, is written to, so that no other transaction changes it meanwhile.
    relied_on.extend(relinked.into_iter().map(|node| (Space::Node, node)));
    let mut locked: Vec<_> = relied_on.difference(&written).collect();
    locked.sort_unstable();
    for (space, key) in locked {
        let change = rawdoc! { "$inc": { "lock": 1_i64 } };
        ops.push(place_of(*space)?, Op::Update { filter: rawdoc! { "_id": raw_key(key)? }, change });
    }
    Ok(ops)
}

fn put_user(ops: &mut Ops, fetched: &Fetched, key: &[u8], value: Vec<u8>) -> Result<()> {
    let document = raw(value)?;
    if !fetched.has(Space::User, key) {
        ops.push(Place::User, Op::Insert(document));
        return Ok(());
    }
    let filter = of_address(key)?;
    let id = |document: &[u8]| codec::decode::<Identified>(document);
    if fetched.get(Space::User, key)?.map(|kept| id(&kept)).transpose()? != Some(id(document.as_bytes())?) {
        // The one before was removed in the same group.
        ops.push(Place::User, Op::Delete(filter));
        ops.push(Place::User, Op::Insert(document));
        return Ok(());
    }
    let mut set = RawDocumentBuf::new();
    for entry in document.iter() {
        let (name, value) = entry.map_err(|error| Error::Damaged(error.to_string()))?;
        if name.as_str() != "_id" {
            set.append(name, value);
        }
    }
    ops.push(Place::User, Op::Update { filter, change: rawdoc! { "$set": set } });
    Ok(())
}

fn put_identity(ops: &mut Ops, fetched: &Fetched, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
    let id = RawBson::try_from(identity_id(key)?).map_err(|_| damaged("the key of an identity"))?;
    let filter = rawdoc! { "_id": id };
    let Some(value) = value else {
        // What the same group made and removed was never there.
        if fetched.has(Space::User, key) {
            ops.push(Place::Identity, Op::Delete(filter));
        }
        return Ok(());
    };
    let email = String::from_utf8(value).map_err(|_| damaged("the address of a user"))?;
    if fetched.has(Space::User, key) {
        ops.push(Place::Identity, Op::Update { filter, change: rawdoc! { "$set": { "email": email } } });
    } else {
        let mut document = filter;
        document.append(bson::raw::cstr!("email"), email);
        ops.push(Place::Identity, Op::Insert(document));
    }
    Ok(())
}

/// Finds the user of an address.
fn of_address(key: &[u8]) -> Result<RawDocumentBuf> {
    let email = std::str::from_utf8(key).map_err(|_| damaged("the address of a user"))?;
    Ok(rawdoc! { "email": email })
}

/// The id of a document.
#[derive(serde::Deserialize, PartialEq)]
struct Identified {
    #[serde(rename = "_id")]
    id: Key,
}

/// The walker's name in its live part.
#[derive(serde::Deserialize)]
struct Named {
    name: String,
}

fn place_of(space: Space) -> Result<Place> {
    match space {
        Space::Node => Ok(Place::Node),
        Space::Edge => Ok(Place::Edge),
        Space::Object => Ok(Place::Object),
        _ => Err(damaged("an element of another kind")),
    }
}

fn raw(bytes: Vec<u8>) -> Result<RawDocumentBuf> {
    RawDocumentBuf::from_bytes(bytes).map_err(|error| Error::Damaged(error.to_string()))
}

fn put_element(
    ops: &mut Ops,
    elements: &IdMap<Option<Arc<Element>>>,
    fetched: &Fetched,
    space: Space,
    key: &[u8],
    value: Option<Vec<u8>>,
) -> Result<()> {
    let place = place_of(space)?;
    let filter = rawdoc! { "_id": raw_key(key)? };
    let Some(value) = value else {
        // What the same group made and removed was never there.
        if fetched.has(space, key) {
            ops.push(place, Op::Delete(filter));
        }
        return Ok(());
    };
    let mut document = raw(value)?;
    if fetched.has(space, key) {
        // Nothing else of an element ever changes.
        let mut set = RawDocumentBuf::new();
        for entry in document.iter() {
            let (name, value) = entry.map_err(|error| Error::Damaged(error.to_string()))?;
            if matches!(name.as_str(), "access" | "archetype" | "version") {
                set.append(name, value);
            }
        }
        ops.push(place, Op::Update { filter, change: rawdoc! { "$set": set } });
        return Ok(());
    }
    let id = Uuid::from_slice(key).map_err(|_| damaged("an id"))?;
    if let Some(ends) = elements.get(&id).and_then(Option::as_ref).and_then(|element| element.ends.as_ref()) {
        let (mut out, mut into) = (RawArrayBuf::new(), RawArrayBuf::new());
        for (node, direction, _) in link_places(ends) {
            match direction {
                crate::store::Direction::Out => out.push(raw_id(node)),
                crate::store::Direction::In => into.push(raw_id(node)),
            }
        }
        let owner = |owner: Option<Uuid>| owner.map_or(RawBson::Null, raw_id);
        let mut roots = RawArrayBuf::new();
        roots.push(owner(ends.source.owner));
        roots.push(owner(ends.target.owner));
        document.append(bson::raw::cstr!("out"), out);
        document.append(bson::raw::cstr!("in"), into);
        document.append(bson::raw::cstr!("roots"), roots);
    }
    ops.push(place, Op::Insert(document));
    Ok(())
}

/// The records of runs that begin, with their live parts, and of those that end, without.
fn put_records(
    ops: &mut Ops,
    fetched: &Fetched,
    records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    lives: &mut IdMap<Option<Vec<u8>>>,
    names: &mut IdMap<String>,
) -> Result<()> {
    for (key, value) in records {
        let id = Uuid::from_slice(&key).map_err(|_| damaged("an id"))?;
        let mut record = raw(value.ok_or_else(|| damaged("a record was removed"))?)?;
        let name = record.get_str("name").map_err(|_| damaged("a record has no name"))?.to_owned();
        names.insert(id, name);
        if let Some(live) = lives.remove(&id).flatten() {
            record.append(bson::raw::cstr!("live"), raw(live)?);
        }
        // Who ends a run has read that it is open.
        if fetched.has(Space::Live, &key) {
            ops.push(Place::Walker, Op::Update { filter: rawdoc! { "_id": raw_id(id) }, change: record });
        } else {
            ops.push(Place::Walker, Op::Insert(record));
        }
    }
    Ok(())
}

fn put_checkpoint(ops: &mut Ops, fetched: &Fetched, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
    let filter = rawdoc! { "_id": raw_key(key)? };
    let Some(value) = value else {
        ops.push(Place::Checkpoint, Op::Delete(filter));
        return Ok(());
    };
    let mut document = filter.clone();
    for entry in raw(value)?.iter() {
        let (name, value) = entry.map_err(|error| Error::Damaged(error.to_string()))?;
        document.append(name, value);
    }
    // Whether there is one stands in the live part, which was read.
    let live = crate::store::kv::engine::View::get(fetched, Space::Live, key)?;
    let is_there =
        live.map(|live| codec::decode::<Live>(&live)).transpose()?.is_some_and(|live| live.checkpointed);
    ops.push(
        Place::Checkpoint,
        match is_there {
            true => Op::Update { filter, change: document },
            false => Op::Insert(document),
        },
    );
    Ok(())
}

fn put_request(ops: &mut Ops, fetched: &Fetched, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
    // The index of their ends is the database's.
    if !key.starts_with(b"k") {
        return Ok(());
    }
    let binary = |bytes: &[u8]| bson::Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() };
    let filter = rawdoc! { "_id": binary(key.get(1..).unwrap_or_default()) };
    let Some(value) = value else {
        ops.push(Place::Request, Op::Delete(filter));
        return Ok(());
    };
    let parts = value.split_at_checked(16).and_then(|(run, rest)| {
        let (request, until) = rest.split_at_checked(32)?;
        Some((run, request, i64::from_be_bytes(until.try_into().ok()?)))
    });
    let (run, request, until) = parts.ok_or_else(|| damaged("a request"))?;
    let mut document = filter.clone();
    document.append(bson::raw::cstr!("run"), raw_key(run)?);
    document.append(bson::raw::cstr!("request"), binary(request));
    document.append(bson::raw::cstr!("until"), bson::DateTime::from_millis(until));
    ops.push(
        Place::Request,
        match fetched.has(Space::Request, key) {
            true => Op::Update { filter, change: document },
            false => Op::Insert(document),
        },
    );
    Ok(())
}

fn put_event(
    ops: &mut Ops,
    names: &IdMap<String>,
    key: &[u8],
    value: Option<Vec<u8>>,
    by: u64,
) -> Result<()> {
    let (run, seq) = run_and_number(key)?;
    let mut document =
        rawdoc! { "_id": RawBson::try_from(event_id(run, seq)).map_err(|_| damaged("the id of an event"))? };
    let Some(value) = value else {
        ops.push(Place::Event, Op::Delete(document));
        return Ok(());
    };
    for entry in raw(value)?.iter() {
        let (name, value) = entry.map_err(|error| Error::Damaged(error.to_string()))?;
        document.append(name, value);
    }
    document.append(bson::raw::cstr!("name"), names.get(&run).map_or("", String::as_str));
    document.append(bson::raw::cstr!("by"), by.cast_signed());
    ops.push(Place::Event, Op::Insert(document));
    Ok(())
}

/// The run and the number in the key of an event or a segment.
fn run_and_number(key: &[u8]) -> Result<(Uuid, u64)> {
    let parsed = key.split_first_chunk::<16>().and_then(|(run, number)| {
        Some((Uuid::from_bytes(*run), u64::from_be_bytes(number.try_into().ok()?)))
    });
    parsed.ok_or_else(|| damaged("the key of an event or a segment"))
}

/// An event out of its document.
pub(super) fn event(document: &RawDocumentBuf) -> Result<Event> {
    codec::decode(document.as_bytes())
}

/// A record out of its document, and whether its fields are those of a checkpoint.
pub(super) fn walker(document: &RawDocumentBuf) -> Result<(Walker, bool)> {
    let mut walker: Walker = codec::decode(document.as_bytes())?;
    let live = super::fetched::live_of(document)?;
    if let Some(live) = &live {
        live.merge_into(&mut walker);
    }
    Ok((walker, live.is_some_and(|live| live.checkpointed)))
}

/// The pieces of a `bulkWrite` command, none of them larger than a message may be.
pub(super) fn commands(base: &Base, ops: Ops) -> Vec<(RawDocumentBuf, Expected)> {
    /// Well below the 16 MiB of a document.
    const BYTES_MAX: usize = 8 << 20;
    const OPS_MAX: usize = 50_000;
    let mut pieces = Vec::new();
    let mut rest = ops.ops.into_iter().peekable();
    while rest.peek().is_some() {
        let mut places: Vec<Place> = Vec::new();
        let (mut list, mut bytes, mut expected) = (RawArrayBuf::new(), 0, Expected::default());
        let mut number = 0;
        while let Some((place, op)) = rest.next_if(|(_, op)| number == 0 || bytes + op.bytes() <= BYTES_MAX) {
            let index = places.iter().position(|known| *known == place).unwrap_or_else(|| {
                places.push(place);
                places.len() - 1
            });
            let index = i32::try_from(index).unwrap_or_default();
            let document = match op {
                Op::Insert(document) => {
                    expected.inserted += 1;
                    rawdoc! { "insert": index, "document": document }
                }
                Op::Update { filter, change } => {
                    expected.matched += 1;
                    rawdoc! { "update": index, "filter": filter, "updateMods": change, "multi": false }
                }
                Op::Delete(filter) => rawdoc! { "delete": index, "filter": filter, "multi": false },
            };
            bytes += document.as_bytes().len();
            number += 1;
            list.push(document);
            if number >= OPS_MAX {
                break;
            }
        }
        let mut spaces = RawArrayBuf::new();
        for place in places {
            spaces.push(rawdoc! { "ns": base.full_name(place) });
        }
        let command =
            rawdoc! { "bulkWrite": 1, "ops": list, "nsInfo": spaces, "ordered": true, "errorsOnly": true };
        pieces.push((command, expected));
    }
    pieces
}

/// How many documents a command has to find or make.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) inserted: i64,
    pub(super) matched: i64,
}

/// A time as it is stored.
pub(super) fn date(at: Timestamp) -> Bson {
    Bson::DateTime(bson::DateTime::from_millis(at.millis()))
}

impl Ops {
    /// Adds what tells later that the group was committed.
    pub(super) fn remember(&mut self, id: &bson::Document, at: bson::DateTime) -> Result<()> {
        let document = doc! { "_id": id.clone(), "at": at };
        let document =
            RawDocumentBuf::try_from(&document).map_err(|error| Error::Damaged(error.to_string()))?;
        self.push(Place::Commit, Op::Insert(document));
        Ok(())
    }
}

/// The run and the number of an event.
pub(super) fn run_and_seq(document: &RawDocument) -> Result<(Uuid, u64)> {
    match document.get("_id") {
        Ok(Some(RawBsonRef::Binary(id))) => run_and_number(id.bytes),
        _ => Err(damaged("the id of an event")),
    }
}
