//! From a request to a stored run, or to an errand for the pool of plain walkers.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use walkabout_schema::{
    Access, Fields, Key, Kind, Level, Name, NodeId, Schedule, Status, Timestamp, Walker, WalkerId,
};

use crate::{
    Error, Result,
    files::Spool,
    registry::WalkerType,
    runner::{Begun, Engine, Errand, UnderWay},
    runtime::{Caller, Scope, Spawn},
    store::{RequestKey, new_run},
    walker::{Arrived, EntryType, Part},
};

/// A request that was found good.
pub(crate) struct Checked {
    pub(crate) errand: Errand,
    pub(crate) begun: Begun,
    pub(crate) key: Option<RequestKey>,
    /// What came along for a run that is recorded.
    pub(crate) files: Vec<(String, Spool)>,
}

/// Checks a request in this order: the walker, its fields, the entry node, what the caller is kept to, access to the node. Nothing is stored.
pub(crate) async fn check(engine: &Arc<Engine>, spawn: Spawn) -> Result<Checked> {
    let Spawn { walker, node, caller, mut fields, files, client_id, request_key } = spawn;
    let known = engine.registry.get(&walker).filter(|kind| {
        let fits = match kind.spec.entry {
            EntryType::Both => true,
            EntryType::Root => node.is_none(),
            EntryType::Node => node.is_some(),
        };
        fits && !kind.spec.private
    });
    let Some(kind) = known.cloned() else { return Err(Error::UnknownWalker(walker)) };
    let (arrived, serial) = (Arrived::of(&kind.spec, files), engine.env.id());
    arrived.fill(&kind.spec, &mut fields, None);
    let key = request_key.map(|key| request(engine, &kind.name, node.as_ref(), &caller, &key, &fields));
    let is_recorded = kind.spec.asynchronous || key.is_some();
    if is_recorded {
        arrived.fill(&kind.spec, &mut fields, Some(&WalkerId::new(kind.name.clone(), serial)));
    }
    // A public walker acts as the public root, whoever calls.
    let (actor, admin) = if kind.spec.is_public() {
        (walkabout_schema::PUBLIC_ROOT, false)
    } else {
        (caller.root, caller.admin)
    };
    let built = kind.build(fields).map_err(Error::Invalid)?;
    let encoded = built.encode().map_err(|error| {
        tracing::debug!(walker, %error, "fields cannot be stored");
        Error::Invalid(vec![crate::FieldError {
            part: Part::Body,
            kind: "value_error".to_owned(),
            loc: Vec::new(),
            msg: "Value error, the fields cannot be stored: no whole number may be beyond 64 bits with the sign, and no name may hold a NUL character"
                .to_owned(),
            input: Value::Null,
            ctx: Value::Null,
        }])
    })?;
    let scope = caller.scope.as_deref().filter(|_| !kind.spec.is_public());
    let is_in_scope = |entry: &Name| scope.is_none_or(|scope| allows(scope, engine, &kind, entry));
    let entry = match node {
        None if is_in_scope(&Name::empty()) => NodeId::root(actor),
        None => return Err(Error::OutOfScope),
        Some(id) => entry(engine, actor, id, is_in_scope).await?,
    };
    let begun = Begun::first(encoded);
    let deadline = kind.spec.timeout.map(|timeout| engine.env.now().plus(timeout));
    let under_way = Arc::new(UnderWay::new(&kind.spec, None, 0, deadline, Arc::default()));
    let (files, uploads) = match is_recorded {
        true => (arrived.into_files(), BTreeMap::new()),
        false => (Vec::new(), arrived.into_spools()),
    };
    let uploads = Arc::new(uploads);
    let errand = Errand { kind, actor, admin, entry, client_id, serial, uploads, answer: None, under_way };
    Ok(Checked { errand, begun, key, files })
}

/// Whether a walker may be called at a node of this type.
fn allows(scope: &Scope, engine: &Engine, kind: &WalkerType, entry: &Name) -> bool {
    let node = if entry.as_str().is_empty() { "root" } else { entry.as_str() };
    let is_kind = |name: &String| engine.registry.get(name).is_some_and(|listed| listed.name == kind.name);
    (scope.walkers.is_empty() || scope.walkers.iter().any(is_kind))
        && (scope.nodes.is_empty() || scope.nodes.iter().any(|name| name == node))
}

/// The entry node under its true name.
async fn entry(
    engine: &Engine,
    actor: uuid::Uuid,
    id: NodeId,
    is_in_scope: impl Fn(&Name) -> bool,
) -> Result<NodeId> {
    let graph = engine.graph(actor);
    let slot = graph.element(Kind::Node, id.uuid()).await.map_err(|failure| Error::Walker {
        code: failure.code(),
        message: format!("{id} does not load"),
        run: None,
    })?;
    match slot {
        None => Err(Error::EntryNotFound(id.into())),
        Some(slot) if !is_in_scope(&slot.name) => Err(Error::OutOfScope),
        Some(slot) if slot.level() < Level::Read => Err(Error::EntryForbidden(id)),
        Some(slot) => Ok(NodeId::new(slot.name.clone(), slot.id)),
    }
}

/// What a request is known by: caller, route and the caller's own name for it; and what it asks for.
fn request(
    engine: &Engine,
    walker: &Name,
    node: Option<&NodeId>,
    caller: &Caller,
    key: &str,
    fields: &Map<String, Value>,
) -> RequestKey {
    let mut name = Sha256::new();
    name.update(caller.root.as_bytes());
    if let Some(scope) = &caller.scope {
        name.update(scope.id.as_bytes());
    }
    for part in [walker.as_str(), &node.map(ToString::to_string).unwrap_or_default(), key] {
        name.update(part.len().to_be_bytes());
        name.update(part);
    }
    let mut asked = Sha256::new();
    digest_members(fields, &mut asked);
    let until = engine.env.now().plus(engine.config.idempotency_keep);
    RequestKey { key: name.finalize().into(), request: asked.finalize().into(), until }
}

/// Digests a value; the order of members does not count.
fn digest(value: &Value, into: &mut Sha256) {
    match value {
        Value::Object(members) => digest_members(members, into),
        Value::Array(items) => {
            into.update([b'[']);
            into.update(items.len().to_be_bytes());
            items.iter().for_each(|item| digest(item, into));
        }
        Value::String(text) => {
            into.update([b'"']);
            into.update(text.len().to_be_bytes());
            into.update(text);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            into.update(value.to_string());
            into.update([b';']);
        }
    }
}

fn digest_members(members: &Map<String, Value>, into: &mut Sha256) {
    into.update([b'{']);
    into.update(members.len().to_be_bytes());
    for (name, value) in members.iter().collect::<BTreeMap<_, _>>() {
        into.update(name.len().to_be_bytes());
        into.update(name);
        digest(value, into);
    }
}

/// The first record of a run that repeats another. It has an admin's rights when that had them, and who asks has them now.
pub(crate) fn again(engine: &Engine, kind: &WalkerType, of: &Walker, fields: Fields, admin: bool) -> Walker {
    let now = engine.env.now();
    let mut run = new_run(now, of.run.admin && admin);
    run.deadline = kind.spec.timeout.map(|timeout| now.plus(timeout));
    run.retry_of = Some(of.walker_id());
    let schedule = new_schedule(now, of.schedule.node_id.clone(), of.schedule.root_id.clone());
    let (id, name, access) = (Key(engine.env.id()), kind.name.clone(), of.access.clone());
    Walker { id, name, root: of.root, access, archetype: fields, input: None, version: 1, schedule, run }
}

pub(crate) fn new_schedule(now: Timestamp, node_id: NodeId, root_id: NodeId) -> Schedule {
    Schedule {
        status: Status::Pending,
        node_id,
        root_id,
        execute_date: now,
        executed_date: None,
        http_status: None,
        reports: Vec::new(),
        custom: Value::Null,
        error: None,
    }
}

/// The first record of a run.
pub(crate) fn record(engine: &Engine, errand: &Errand, fields: Fields) -> Walker {
    let now = engine.env.now();
    let kind = &errand.kind;
    let mut run = new_run(now, errand.admin);
    run.deadline = kind.spec.timeout.map(|timeout| now.plus(timeout));
    Walker {
        id: Key(errand.serial),
        name: kind.name.clone(),
        root: Some(Key(errand.actor)),
        access: Access::private(),
        archetype: fields,
        input: None,
        version: 1,
        schedule: new_schedule(now, errand.entry.clone(), NodeId::root(errand.actor)),
        run,
    }
}
