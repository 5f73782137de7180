//! From a request to a stored run, or to an errand for the pool of plain walkers.

use std::sync::Arc;

use walkabout_schema::{Access, Checkpoint, Fields, Key, Kind, Level, NodeId, Schedule, Status, Walker};

use crate::{
    Error, Result,
    runner::{Engine, Errand, UnderWay},
    runtime::Spawn,
    store::new_run,
    walker::EntryType,
};

/// A request that was found good.
pub(crate) struct Checked {
    pub(crate) errand: Errand,
    pub(crate) begun: Checkpoint,
}

/// Checks a request in this order: the walker, its fields, the entry node, access to it. Nothing is stored.
pub(crate) async fn check(engine: &Arc<Engine>, spawn: Spawn) -> Result<Checked> {
    let Spawn { walker, node, caller, fields, client_id } = spawn;
    let known = engine.registry.get(&walker).filter(|kind| {
        let fits = match kind.spec.entry {
            EntryType::Both => true,
            EntryType::Root => node.is_none(),
            EntryType::Node => node.is_some(),
        };
        fits && !kind.spec.private
    });
    let Some(kind) = known.cloned() else { return Err(Error::UnknownWalker(walker)) };
    // A public walker acts as the public root, whoever calls.
    let (actor, admin) =
        if kind.spec.public { (walkabout_schema::PUBLIC_ROOT, false) } else { (caller.root, caller.admin) };
    let built = kind.build(fields).map_err(Error::Invalid)?;
    let encoded = built.encode().map_err(|error| {
        tracing::debug!(walker, %error, "fields cannot be stored");
        Error::Invalid(vec![crate::FieldError {
            kind: "value_error".to_owned(),
            loc: Vec::new(),
            msg: "Value error, the fields cannot be stored: no name in them may hold a NUL character"
                .to_owned(),
            input: serde_json::Value::Null,
        }])
    })?;
    let entry = match node {
        None => NodeId::root(actor),
        Some(id) => entry(engine, actor, id).await?,
    };
    let begun = Checkpoint { fields: encoded, ..Checkpoint::default() };
    let deadline = kind.spec.timeout.map(|timeout| engine.env.now().plus(timeout));
    let under_way = Arc::new(UnderWay::new(&kind.spec, None, 0, deadline, Arc::default()));
    let errand =
        Errand { kind, actor, admin, entry, client_id, serial: engine.env.id(), answer: None, under_way };
    Ok(Checked { errand, begun })
}

/// The entry node under its true name.
async fn entry(engine: &Engine, actor: uuid::Uuid, id: NodeId) -> Result<NodeId> {
    let graph = engine.graph(actor);
    let slot = graph.element(Kind::Node, id.uuid()).await.map_err(|failure| Error::Walker {
        code: failure.code(),
        message: format!("{id} does not load"),
        run: None,
    })?;
    match slot {
        None => Err(Error::EntryNotFound(id.into())),
        Some(slot) if slot.level < Level::Read => Err(Error::EntryForbidden(id)),
        Some(slot) => Ok(NodeId::new(slot.name.clone(), slot.id)),
    }
}

/// The first record of a run.
pub(crate) fn record(engine: &Engine, errand: &Errand, fields: Fields) -> Walker {
    let now = engine.env.now();
    let kind = &errand.kind;
    let mut run = new_run(now, errand.admin);
    run.deadline = kind.spec.timeout.map(|timeout| now.plus(timeout));
    Walker {
        id: Key(engine.env.id()),
        name: kind.name.clone(),
        root: Some(Key(errand.actor)),
        access: Access::private(),
        archetype: fields,
        input: None,
        version: 1,
        schedule: Schedule {
            status: Status::Pending,
            node_id: errand.entry.clone(),
            root_id: NodeId::root(errand.actor),
            execute_date: now,
            executed_date: None,
            http_status: None,
            reports: Vec::new(),
            custom: serde_json::Value::Null,
            error: None,
        },
        run,
    }
}
