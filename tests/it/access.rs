//! Who may do what with which element, on every store.

use std::sync::Arc;

use walkabout::{
    config::Config,
    prelude::*,
    registry::Registry,
    runtime::{Caller, Spawn, Spawned},
    schema::{EdgeId, ElementId, Level, NodeId, ObjectId},
    store::{Limits, Store, embedded, memory, mongodb},
    testing::Bench,
};

use crate::database::database;

#[derive(Node, Serialize, Deserialize, Clone)]
struct Note {
    text: String,
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Sleep {}

#[abilities]
impl Sleep {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn types(types: &mut Registry) {
    types.walker::<Sleep>();
}

/// A bench on each store that is there, with what must outlive it.
async fn benches(register: fn(&mut Registry)) -> Vec<(Bench, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let limits = || Limits { disk_free_min: 0, ..Limits::default() };
    let mut stores: Vec<(Arc<dyn Store>, _)> = vec![(memory::open(limits()).unwrap(), None)];
    stores.push((embedded::open(folder.path(), limits()).unwrap(), Some(folder)));
    if let Some(uri) = database() {
        let options = mongodb::Options::of(&uri);
        let store = mongodb::open(&options, limits(), walkabout::env::Env::system()).await.unwrap();
        stores.push((store, None));
    }
    let mut benches = Vec::new();
    for (store, folder) in stores {
        let config = Config { disk_free_min: 0, ..Config::default() };
        let env = walkabout::env::Env::system();
        benches.push((Bench::inline_on(store, register, config, env).await.unwrap(), folder));
    }
    benches
}

fn spawn(walker: &str, caller: &Caller, node: Option<NodeId>) -> Spawn {
    Spawn {
        walker: walker.to_owned(),
        node,
        caller: caller.clone(),
        fields: serde_json::Map::new(),
        client_id: None,
        request_key: None,
    }
}

async fn level(bench: &Bench, caller: &Caller, id: &ElementId) -> Option<Level> {
    let id = id.clone();
    bench
        .graph(caller, |cx| Box::pin(async move { Ok(cx.get::<Any>(&id).await?.map(|here| here.level())) }))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_kind_names_nothing() {
    for (bench, _folder) in benches(types).await {
        let user = bench.register().await;
        let Ok(Spawned::Accepted { id: run, .. }) = bench.runtime.spawn(spawn("sleep", &user, None)).await
        else {
            panic!("not async");
        };
        bench.finished(&user, &run).await;
        let note = bench
            .graph(&user, |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    Ok(cx.attach(&root, Note { text: "x".to_owned() })?.uuid())
                })
            })
            .await
            .unwrap();
        let name = walkabout::schema::Name::new("Note").unwrap();
        let wrong: [ElementId; 5] = [
            run.clone().into(),
            NodeId::new(run.name().clone(), run.uuid()).into(),
            ElementId::new(walkabout::schema::Kind::Walker, name.clone(), note),
            EdgeId::new(name.clone(), note).into(),
            ObjectId::new(name.clone(), note).into(),
        ];
        for id in &wrong {
            assert_eq!(level(&bench, &user, id).await, None, "{id}");
        }
        assert_eq!(level(&bench, &user, &NodeId::new(name, note).into()).await, Some(Level::Write));
    }
}
