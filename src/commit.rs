//! From what an attempt did to one store transaction.

use std::sync::Arc;

use bson::raw::RawBsonRef;
use walkabout_schema::{ErrorCode, Fields, Kind, Level};

use crate::{
    config::Config,
    graph::{Graph, forbidden},
    store::{Change, Element, Guard},
    walker::{Data, DecodedCell, Failure, Held, Slot, fail},
};

/// Gathers everything that changed since the last checkpoint.
pub(crate) fn gather(graph: &Graph, config: &Config) -> Result<(Vec<Change>, Vec<Guard>), Failure> {
    let slots = graph.changed();
    let mut versions = Vec::new();
    let mut changes = Vec::with_capacity(slots.len());
    let mut bytes = 0;
    for slot in &slots {
        // A destroyed node takes its edges along: what was done to one must not write it again.
        if graph.goes_with_its_node(slot) {
            versions.extend(slot.base.as_ref().filter(|_| slot.state().touched).map(|base| version(base)));
            continue;
        }
        let before = changes.len();
        bytes += change(slot, &mut changes, &mut versions)?;
        // Who changes what belongs to another relies on what that root allows.
        if changes.len() > before {
            graph.guard_access(slot);
        }
    }
    let mut guards = graph.guards();
    guards.append(&mut versions);
    if changes.len() > config.commit_changes_max || bytes > config.commit_bytes_max {
        return Err(Failure::coded(
            ErrorCode::CommitTooLarge,
            format!(
                "one commit would carry {} changes in {bytes} bytes; the bounds are {} and {}: ask for a checkpoint() now and then",
                changes.len(),
                config.commit_changes_max,
                config.commit_bytes_max
            ),
        ));
    }
    Ok((changes, guards))
}

/// Writes down the change of one slot; gives its size in bytes.
fn change(slot: &Arc<Slot>, changes: &mut Vec<Change>, guards: &mut Vec<Guard>) -> Result<usize, Failure> {
    // A walker that has ended holds no guard, unless it gave a handle to a thread of its own.
    let Some(data) = slot.try_read() else {
        return Err(fail(format!("{} is still being edited elsewhere", slot.element_id())));
    };
    let mut state = slot.state();
    let Some(base) = &slot.base else {
        if state.deleted {
            return Ok(0);
        }
        let fields = match &*data {
            Data::Own(value) => value.encode().map_err(|error| unencodable(slot, &error))?,
            Data::Shared(_) | Data::Encoded => Fields::default(),
        };
        let size = fields.0.as_bytes().len() + 128;
        let access = state.access.clone().unwrap_or_default();
        changes.push(Change::Put { element: Arc::new(element(slot, fields, access, 1)), expected: None });
        return Ok(size);
    };
    if state.deleted {
        changes.push(Change::Delete { kind: slot.kind, id: slot.id, expected: base.version });
        return Ok(128);
    }
    let mut size = 0;
    let fields = match &*data {
        Data::Own(value) if state.edited => {
            let fields = value.encode().map_err(|error| unencodable(slot, &error))?;
            Some(with_unknown(&**value, fields, &base.fields)?)
        }
        _ => None,
    };
    let fields = fields.filter(|fields| *fields != base.fields);
    let access = state.access.clone().filter(|access| *access != base.access);
    if (state.edited || state.access.is_some()) && slot.level() < Level::Write {
        return Err(forbidden("WRITE", slot));
    }
    if fields.is_some() || access.is_some() {
        let fields = fields.unwrap_or_else(|| base.fields.clone());
        let access = access.unwrap_or_else(|| base.access.clone());
        size += fields.0.as_bytes().len() + 128;
        let element = Arc::new(element(slot, fields, access, base.version + 1));
        changes.push(Change::Put { element, expected: Some(base.version) });
    } else if state.touched {
        guards.push(version(base));
    }
    for (field, by) in state.adds.drain(..) {
        size += field.len() + 64;
        changes.push(Change::Add { kind: slot.kind, id: slot.id, field, by });
    }
    Ok(size)
}

fn version(base: &Element) -> Guard {
    Guard::Version { kind: base.kind, id: base.id, expected: base.version }
}

fn element(slot: &Slot, fields: Fields, access: walkabout_schema::Access, version: u64) -> Element {
    Element {
        kind: slot.kind,
        id: slot.id,
        name: slot.name.clone(),
        owner: if slot.kind == Kind::Node && slot.name.is_empty() { None } else { slot.owner },
        access,
        version,
        ends: slot.ends.clone(),
        fields,
        decoded: DecodedCell::default(),
    }
}

fn unencodable(slot: &Slot, error: &bson::error::Error) -> Failure {
    tracing::error!(element = %slot.element_id(), %error, "fields cannot be stored");
    fail(format!(
        "the fields of {} cannot be stored: no whole number may be beyond 64 bits with the sign, and no name may hold a NUL",
        slot.element_id()
    ))
}

/// Keeps stored fields that the type does not know: an older program does not wipe out what a newer one wrote.
fn with_unknown(value: &dyn Held, mut fields: Fields, stored: &Fields) -> Result<Fields, Failure> {
    let mut gone = Vec::new();
    for entry in stored.0.iter() {
        let (key, field): (_, RawBsonRef<'_>) = entry?;
        if fields.0.get(key)?.is_none() {
            gone.push((key, field));
        }
    }
    if !gone.is_empty() {
        let unread = value.unread(stored)?;
        for (key, field) in gone.into_iter().filter(|(key, _)| unread.contains(key.as_str())) {
            fields.0.append(key, field);
        }
    }
    Ok(fields)
}
