//! What walkers do to a graph.

use walkabout::{
    prelude::*,
    runtime::{Caller, Spawn, Spawned},
    testing::Bench,
};

#[derive(Node, Serialize, Deserialize, Default)]
struct Counter {
    #[serde(default)]
    value: i64,
}

#[derive(Node, Serialize, Deserialize)]
struct Item {
    n: u64,
}

/// Adds one to the counter under the root.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Increment {
    #[serde(default)]
    #[walker(excluded)]
    seen: i64,
}

#[abilities]
impl Increment {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let counter = cx.first_or_create(here.out().node::<Counter>(), Counter::default).await?;
        counter.edit().value += 1;
        self.seen = counter.read().value;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
struct Total {}

#[abilities]
impl Total {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn counter(&mut self, here: Here<Counter>, cx: &mut Context) -> Outcome {
        cx.report(here.read().value)?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Paged {
    #[serde(default)]
    page: u64,
}

#[abilities]
impl Paged {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.checkpoint();
        cx.then("next")
    }
    #[step]
    async fn next(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Item { n: self.page })?;
        self.page += 1;
        cx.report(self.page)?;
        cx.progress(json!({ "page": self.page }));
        cx.checkpoint();
        if self.page < 5 { cx.then("next") } else { DONE }
    }
}

async fn submit(bench: &Bench, caller: &Caller, walker: &str) -> walkabout::schema::WalkerId {
    let spawn = Spawn {
        walker: walker.to_owned(),
        node: None,
        caller: caller.clone(),
        fields: serde_json::Map::new(),
        files: Vec::new(),
        client_id: None,
        request_key: None,
    };
    match bench.runtime.spawn(spawn).await.unwrap() {
        Spawned::Accepted { id, .. } => id,
        Spawned::Done { .. } => panic!("not async"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_increments_are_a_thousand() {
    let bench = Bench::new(|types| {
        types.walker::<Increment>().walker::<Total>();
    })
    .await;
    let user = bench.register().await;
    let mut ids = Vec::new();
    for _ in 0..1000 {
        ids.push(submit(&bench, &user, "increment").await);
    }
    let mut attempts = 0;
    for id in &ids {
        let record = bench.finished(&user, id).await;
        assert_eq!(record.schedule.error, None);
        attempts += 1 + record.run.conflicts;
    }
    assert_eq!(bench.run(&user, Total {}).await.reports, [json!(1000)]);
    assert_eq!(bench.count::<Counter>(&user).await, 1);
    assert!(attempts <= 2000, "{attempts} attempts");
}

/// One a root.
#[derive(Node, Serialize, Deserialize)]
struct Profile {}

#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct SignUp {}

#[abilities]
impl SignUp {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let profile = cx.first_or_create(here.out().node::<Profile>(), || Profile {}).await?;
        cx.report(profile.id())?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_make_one_profile() {
    let bench = Bench::new(|types| {
        types.walker::<SignUp>();
    })
    .await;
    let user = bench.register().await;
    let runtime = &bench.runtime;
    let submitted = (0..100).map(|_| {
        let spawn = Spawn {
            walker: "sign_up".to_owned(),
            node: None,
            caller: user.clone(),
            fields: serde_json::Map::new(),
            files: Vec::new(),
            client_id: None,
            request_key: None,
        };
        runtime.spawn(spawn)
    });
    let mut seen = std::collections::BTreeSet::new();
    for spawned in futures_util::future::join_all(submitted).await {
        let Spawned::Accepted { id, .. } = spawned.unwrap() else { panic!("not async") };
        let record = bench.finished(&user, &id).await;
        assert_eq!(record.schedule.error, None);
        seen.insert(record.schedule.reports[0].to_string());
    }
    assert_eq!((bench.count::<Profile>(&user).await, seen.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_commit_one_by_one() {
    let bench = Bench::new(|types| {
        types.walker::<Paged>();
    })
    .await;
    let user = bench.register().await;
    let ran = bench.run(&user, Paged::default()).await;
    assert_eq!(ran.error, None);
    assert_eq!(ran.walker.unwrap().page, 5);
    assert_eq!(ran.reports, [1, 2, 3, 4, 5].map(|n| json!(n)));
    assert_eq!(bench.count::<Item>(&user).await, 5);
}

/// Writes down what runs where.
#[derive(Walker, Serialize, Deserialize, Default)]
struct Order {}

#[derive(Node, Serialize, Deserialize)]
#[node(abilities)]
struct Stop {
    name: String,
}

#[derive(Edge, Serialize, Deserialize)]
struct Road {
    length: u64,
}

#[abilities(node)]
impl Stop {
    #[entry]
    async fn any_in(here: Here<Self>, by: Visitor<'_>, cx: &mut Context) -> Outcome {
        let line = format!("b {} {}", here.read().name, by.name());
        cx.report(line)?;
        DONE
    }
    #[entry]
    async fn order_in(here: Here<Self>, _by: &mut Order, cx: &mut Context) -> Outcome {
        let line = format!("c {}", here.read().name);
        cx.report(line)?;
        DONE
    }
    #[exit]
    async fn order_out(here: Here<Self>, _by: &mut Order, cx: &mut Context) -> Outcome {
        let line = format!("d {}", here.read().name);
        cx.report(line)?;
        DONE
    }
    #[exit]
    async fn any_out(here: Here<Self>, _by: Visitor<'_>, cx: &mut Context) -> Outcome {
        let line = format!("e {}", here.read().name);
        cx.report(line)?;
        DONE
    }
}

#[abilities]
impl Order {
    #[entry]
    async fn first(&mut self, _here: Here<Any>, cx: &mut Context) -> Outcome {
        cx.report("start")?;
        DONE
    }
    #[entry]
    async fn root(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn stop(&mut self, here: Here<Stop>, cx: &mut Context) -> Outcome {
        let line = format!("a {}", here.read().name);
        cx.report(line)?;
        if here.read().name == "last" {
            return cx.disengage();
        }
        cx.visit(here.out()).await
    }
    #[exit]
    async fn leave(&mut self, here: Here<Stop>, cx: &mut Context) -> Outcome {
        let line = format!("f {}", here.read().name);
        cx.report(line)?;
        DONE
    }
    #[exit]
    async fn end(&mut self, _here: Here<Any>, cx: &mut Context) -> Outcome {
        cx.report("end")?;
        DONE
    }
}

async fn stops(bench: &Bench, user: &Caller, names: &'static [&'static str]) {
    bench
        .graph(user, move |cx| {
            Box::pin(async move {
                let mut from = cx.root().await?.any();
                for (index, name) in names.iter().enumerate() {
                    let stop = cx.create(Stop { name: (*name).to_owned() })?;
                    let length = u64::try_from(index)? * 10;
                    cx.connect_with(&from, &stop, Road { length })?;
                    from = stop.any();
                }
                Ok(())
            })
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn abilities_run_in_the_order_of_the_contract() {
    let bench = Bench::new(|types| {
        types.walker::<Order>();
    })
    .await;
    let user = bench.register().await;
    stops(&bench, &user, &["x"]).await;
    let ran = bench.run(&user, Order {}).await;
    assert_eq!(ran.error, None);
    assert_eq!(ran.reports, ["start", "a x", "b x order", "c x", "d x", "e x", "f x", "end"]);
    let user = bench.register().await;
    stops(&bench, &user, &["x", "last", "never"]).await;
    let ran = bench.run(&user, Order {}).await;
    assert_eq!(ran.reports.last().unwrap(), "a last", "nothing runs after the ability that disengaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_go_by_type_field_direction_and_hops() {
    let bench = Bench::new(|types| {
        types.walker::<Order>().node::<Item>();
    })
    .await;
    let user = bench.register().await;
    stops(&bench, &user, &["a", "b", "c"]).await;
    let found = bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                cx.attach(&root, Item { n: 1 })?;
                let a = cx.first(root.out().node::<Stop>()).await?.ok_or_else(|| fail("a"))?;
                let named = |stops: Vec<Here<Stop>>| -> Vec<String> {
                    stops.iter().map(|stop| stop.read().name.clone()).collect()
                };
                let mut found = vec![
                    named(cx.list(a.out().node::<Stop>()).await?),
                    named(cx.list(a.out().out().node::<Stop>()).await?),
                    named(cx.list(a.both().node::<Stop>()).await?),
                    named(cx.list(root.out().out().incoming().node::<Stop>()).await?),
                    named(cx.list(a.out().edge_where::<Road>(|road| road.length > 10).node::<Stop>()).await?),
                    named(
                        cx.list(a.out().edge_where::<Road>(|road| road.length == 10).node::<Stop>()).await?,
                    ),
                    named(cx.list(root.out().node::<Stop>().filter(|stop| stop.name == "z")).await?),
                ];
                let counts = [
                    cx.count(root.out()).await?,
                    cx.count(root.out().plain()).await?,
                    cx.count(root.out().edge::<Road>()).await?,
                    cx.count(a.incoming()).await?,
                ];
                found.push(counts.iter().map(ToString::to_string).collect());
                Ok(found)
            })
        })
        .await
        .unwrap();
    let expected: [&[&str]; 8] = [&["b"], &["c"], &["b"], &["a"], &[], &["b"], &[], &["2", "1", "1", "1"]];
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_elements_need_the_access_they_need() {
    let bench = Bench::new(|types| {
        types.walker::<Order>();
    })
    .await;
    let (ann, bob) = (bench.register().await, bench.register().await);
    let id = bench
        .graph(&ann, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                Ok(cx.attach(&root, Stop { name: "x".to_owned() })?.id())
            })
        })
        .await
        .unwrap();
    let seen = async |id: walkabout::schema::ElementId| {
        bench
            .graph(&bob, move |cx| {
                Box::pin(async move { Ok(cx.get::<Stop>(&id).await?.map(|stop| stop.level())) })
            })
            .await
            .unwrap()
    };
    let grant = async |level: walkabout::schema::Level| {
        let id = id.clone();
        bench
            .graph(&ann, move |cx| {
                Box::pin(async move {
                    let stop = cx.get::<Stop>(&id).await?.ok_or_else(|| fail("gone"))?;
                    cx.grant(&stop, level)
                })
            })
            .await
            .unwrap();
    };
    let edit = async |id: walkabout::schema::ElementId| {
        bench
            .graph(&bob, move |cx| {
                Box::pin(async move {
                    let stop = cx.get::<Stop>(&id).await?.ok_or_else(|| fail("not seen"))?;
                    stop.edit().name = "y".to_owned();
                    Ok(())
                })
            })
            .await
            .map_err(|failure| failure.message().unwrap_or_default().to_owned())
    };
    use walkabout::schema::Level;
    assert_eq!(seen(id.clone()).await, None);
    assert_eq!(edit(id.clone()).await, Err("not seen".to_owned()));
    grant(Level::Read).await;
    assert_eq!(seen(id.clone()).await, Some(Level::Read));
    assert_eq!(edit(id.clone()).await, Err(format!("WRITE access to {id} is needed")));
    grant(Level::Write).await;
    assert_eq!(edit(id.clone()).await, Ok(()));
    grant(Level::NoAccess).await;
    assert_eq!(seen(id.clone()).await, None);
}

/// Adds one to sixteen counters, one after the other.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Sixteen {}

#[abilities]
impl Sixteen {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn counter(&mut self, here: Here<Counter>, cx: &mut Context) -> Outcome {
        here.edit().value += 1;
        // Others get between.
        tokio::task::yield_now().await;
        cx.visit(here.out()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_increments_through_several_nodes_are_all_there() {
    let bench = Bench::new(|types| {
        types.walker::<Sixteen>().walker::<Total>();
    })
    .await;
    let user = bench.register().await;
    bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let mut from = cx.root().await?.any();
                for _ in 0..16 {
                    from = cx.attach(&from, Counter::default())?.any();
                }
                Ok(())
            })
        })
        .await
        .unwrap();
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(submit(&bench, &user, "sixteen").await);
    }
    for id in &ids {
        assert_eq!(bench.finished(&user, id).await.schedule.error, None);
    }
    let values = bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let mut values = Vec::new();
                let root = cx.root().await?;
                let mut next = cx.first(root.out().node::<Counter>()).await?;
                while let Some(counter) = next {
                    values.push(counter.read().value);
                    next = cx.first(counter.out().node::<Counter>()).await?;
                }
                Ok(values)
            })
        })
        .await
        .unwrap();
    assert_eq!(values, [100; 16]);
}

/// One stored type as three programs know it.
mod programs {
    use super::*;

    #[derive(Node, Serialize, Deserialize)]
    #[node(name = "Note")]
    pub struct Older {
        pub text: String,
    }

    #[derive(Node, Serialize, Deserialize)]
    #[node(name = "Note")]
    pub struct Present {
        pub text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub colour: Option<String>,
    }

    #[derive(Node, Serialize, Deserialize)]
    #[node(name = "Note")]
    pub struct Newer {
        #[serde(alias = "text")]
        pub body: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub colour: Option<String>,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_keeps_the_fields_that_it_does_not_know_and_no_others() {
    use programs::{Newer, Older, Present};
    let bench = Bench::new(|_| {}).await;
    let user = bench.register().await;
    /// Edits the one note, known as a type.
    macro_rules! edit {
        ($of:ty, |$note:ident| $change:expr) => {
            bench
                .graph(&user, |cx| {
                    Box::pin(async move {
                        let root = cx.root().await?;
                        let found = cx.first(root.out().node::<$of>()).await?.ok_or_else(|| fail("gone"))?;
                        let $note = &mut found.edit();
                        $change;
                        Ok(())
                    })
                })
                .await
                .unwrap()
        };
    }
    bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let note = cx.create(Present { text: "a".into(), colour: Some("red".into()) })?;
                cx.connect(&root, &note)?;
                Ok(())
            })
        })
        .await
        .unwrap();
    edit!(Older, |note| note.text = "b".into());
    edit!(Present, |note| {
        assert_eq!((note.text.as_str(), note.colour.as_deref()), ("b", Some("red")));
        note.colour = None;
    });
    edit!(Newer, |note| {
        assert_eq!((note.body.as_str(), note.colour.as_deref()), ("b", None));
        note.body = "c".into();
    });
    edit!(Newer, |note| assert_eq!(note.body, "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_edge_dangles_when_its_node_goes_meanwhile() {
    let bench = Bench::new(|types| {
        types.walker::<Order>();
    })
    .await;
    // Both have read the node before either commits; who commits first is told.
    for destroyed_first in [true, false] {
        let user = bench.register().await;
        stops(&bench, &user, &["x", "y"]).await;
        let read = std::sync::Arc::new(tokio::sync::Barrier::new(2));
        let (committed, first) = tokio::sync::oneshot::channel::<()>();
        let mut first = Some(first);
        let (both, turn) = (read.clone(), first.take_if(|_| destroyed_first));
        let connect = bench.graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let x = cx.first(root.out().node::<Stop>()).await?.ok_or_else(|| fail("gone"))?;
                both.wait().await;
                if let Some(turn) = turn {
                    turn.await.map_err(|_| fail("the other did not commit"))?;
                }
                cx.connect(&root, &x)?;
                Ok(())
            })
        });
        let destroy = bench.graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let x = cx.first(root.out().node::<Stop>()).await?.ok_or_else(|| fail("gone"))?;
                read.wait().await;
                if let Some(turn) = first {
                    turn.await.map_err(|_| fail("the other did not commit"))?;
                }
                cx.destroy(&x)
            })
        });
        // Told or dropped: the second never waits for a first that failed.
        let committed = std::cell::Cell::new(Some(committed));
        let tell = |done: bool| committed.take().filter(|_| done).map(|to| to.send(()));
        let connect = async {
            let done = connect.await;
            tell(done.is_ok());
            done
        };
        let destroy = async {
            let done = destroy.await;
            tell(done.is_ok());
            done
        };
        let (connected, destroyed) = tokio::join!(connect, destroy);
        destroyed.unwrap();
        assert_eq!(connected.is_err(), destroyed_first, "an edge to what is gone is refused");
        let edges = bench
            .graph(&user, |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    cx.count(root.out().edges()).await
                })
            })
            .await
            .unwrap();
        assert_eq!(edges, 0, "neither the first edge nor the second");
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Panics {}

#[abilities]
impl Panics {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Item { n: 1 })?;
        cx.report(1)?;
        let numbers: Vec<u64> = Vec::new();
        cx.report(numbers[cx.path().len()])?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_attempt_and_nothing_else() {
    let bench = Bench::new(|types| {
        types.walker::<Panics>().walker::<Increment>();
    })
    .await;
    let user = bench.register().await;
    let ran = bench.run(&user, Panics {}).await;
    assert_eq!(ran.error.as_deref(), Some("walker panics panicked"));
    assert!(ran.reports.is_empty());
    assert_eq!(bench.count::<Item>(&user).await, 0, "the graph is as it was");
    assert_eq!(bench.run(&user, Increment::default()).await.error, None);
}

#[derive(Walker, Serialize, Deserialize, Default)]
struct Outer {}

#[abilities]
impl Outer {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let counter = cx.attach(&here, Counter::default())?;
        counter.edit().value = 41;
        let inner = cx.spawn(Bump {}, &counter).await?;
        cx.report(json!({ "inner": inner.reports, "seen": counter.read().value }))?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(private)]
struct Bump {}

#[abilities]
impl Bump {
    #[entry]
    async fn counter(&mut self, here: Here<Counter>, cx: &mut Context) -> Outcome {
        here.edit().value += 1;
        cx.report(&here)?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_walker_and_its_caller_see_one_value() {
    let bench = Bench::new(|types| {
        types.walker::<Outer>().walker::<Bump>();
    })
    .await;
    let ran = bench.run(&bench.register().await, Outer {}).await;
    assert_eq!(ran.error, None);
    assert_eq!(ran.reports[1]["seen"], 42);
    assert_eq!(ran.reports[1]["inner"][0]["context"], json!({ "value": 42 }));
}

/// The same as a derived walker, written by hand.
mod by_hand {
    use walkabout::{
        prelude::{Context, DONE, Deserialize, Here, Outcome, Root, Serialize},
        schema::Kind,
        walker::{Abilities, Archetype, FieldKind, Spec, Walker},
    };

    #[derive(Serialize, Deserialize)]
    pub struct Double {
        pub n: i64,
    }

    impl Archetype for Double {
        const KIND: Kind = Kind::Walker;
        const NAME: &'static str = "double";
    }

    impl Walker for Double {
        fn spec() -> Spec {
            Spec::new().field("n", FieldKind::Required)
        }
        fn abilities(on: &mut Abilities<Self>) {
            on.entry("start", Self::start);
        }
    }

    impl Double {
        async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
            cx.report(self.n * 2)?;
            DONE
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walker_needs_no_macro() {
    let bench = Bench::new(|types| {
        types.walker::<by_hand::Double>();
    })
    .await;
    assert_eq!(bench.run(&bench.user(), by_hand::Double { n: 21 }).await.reports, [json!(42)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_commit_names_the_cure() {
    #[derive(Walker, Serialize, Deserialize)]
    struct Many {}
    #[abilities]
    impl Many {
        #[entry]
        async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            for n in 0..6000 {
                cx.attach(&here, Item { n })?;
            }
            DONE
        }
    }
    let bench = Bench::new(|types| {
        types.walker::<Many>();
    })
    .await;
    let user = bench.register().await;
    let ran = bench.run(&user, Many {}).await;
    assert!(ran.error.as_deref().unwrap().contains("checkpoint()"), "{:?}", ran.error);
    assert_eq!(bench.count::<Item>(&user).await, 0);
}

/// Edits one counter through two handles at once.
#[derive(Walker, Serialize, Deserialize, Default)]
struct Twice {}

#[abilities]
impl Twice {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let from = cx.attach(&here, Counter::default())?;
        let to = from.clone();
        let (mut from, mut to) = (from.edit(), to.edit());
        from.value -= 1;
        to.value += 1;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_guards_on_one_element_fail_their_attempt_and_hold_up_nobody() {
    let bench = Bench::new(|types| {
        types.walker::<Twice>();
    })
    .await;
    let user = bench.register().await;
    let ran = bench.run(&user, Twice {}).await;
    assert_eq!(ran.error.as_deref(), Some("walker twice panicked"));
    assert_eq!(bench.count::<Counter>(&user).await, 0);
    let said =
        |panic: Box<dyn std::any::Any + Send>| panic.downcast_ref::<String>().cloned().unwrap_or_default();
    let messages = bench
        .graph(&user, move |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let counter = cx.attach(&root, Counter::default())?;
                let id = counter.id();
                let caught = |work: &dyn Fn()| {
                    said(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_err())
                        .replace(&id.to_string(), "it")
                };
                Ok([
                    caught(&|| counter.edit().value = counter.read().value + 1),
                    caught(&|| counter.read().value.clone_into(&mut counter.edit().value)),
                    caught(&|| drop((counter.edit(), counter.fields()))),
                ])
            })
        })
        .await
        .unwrap();
    let cure = "let the guard go first: `let value = here.read().value;`, then use `value`";
    assert_eq!(
        messages[0],
        format!("it cannot be edited while a guard of its read() or edit() is held: {cure}")
    );
    assert_eq!(messages[1], messages[0]);
    assert_eq!(messages[2], format!("it cannot be read while the guard of its edit() is held: {cure}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_may_be_held_while_the_context_is_asked() {
    let bench = Bench::new(|types| {
        types.walker::<Total>();
    })
    .await;
    let user = bench.register().await;
    type Work = fn(&mut Context, &Here<Root>, &Here<Counter>) -> Result<(), Failure>;
    let counter = async |work: Work| {
        bench
            .graph(&user, move |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    let counter = match cx.first(root.out().node::<Counter>()).await? {
                        Some(counter) => counter,
                        None => cx.attach(&root, Counter { value: 3 })?,
                    };
                    work(cx, &root, &counter)
                })
            })
            .await
            .unwrap();
    };
    counter(|_, _, _| Ok(())).await;
    counter(|cx, _, counter| cx.add(counter, "value", counter.read().value)).await;
    counter(|cx, root, counter| {
        let mut guard = counter.edit();
        cx.touch(counter);
        cx.connect(root, counter)?;
        cx.grant(counter, walkabout::schema::Level::Read)?;
        cx.visit_one(counter)?;
        guard.value += 1;
        Ok(())
    })
    .await;
    assert_eq!(bench.run(&user, Total {}).await.reports, [json!(7)]);
    counter(|cx, _, counter| {
        let guard = counter.read();
        cx.destroy(counter)?;
        assert_eq!(guard.value, 7);
        Ok(())
    })
    .await;
    assert_eq!(bench.count::<Counter>(&user).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_handed_out_to_who_may_read_it() {
    use walkabout::schema::Level;
    let bench = Bench::new(|types| {
        types.walker::<Order>();
    })
    .await;
    let (ann, bob) = (bench.register().await, bench.register().await);
    let id = bench
        .graph(&ann, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let stop = cx.attach(&root, Stop { name: "ann's".to_owned() })?;
                cx.grant(&stop, Level::Connect)?;
                Ok(stop.id())
            })
        })
        .await
        .unwrap();
    let at = id.clone();
    bench
        .graph(&bob, |cx| {
            Box::pin(async move {
                let stop = cx.get::<Stop>(&at).await?.ok_or_else(|| fail("not seen"))?;
                let own = cx.create(Stop { name: "bob's".to_owned() })?;
                cx.grant(&own, Level::Read)?;
                cx.connect_with(&stop, &own, Road { length: 7 })?;
                Ok(())
            })
        })
        .await
        .unwrap();
    let seen = async |caller: &Caller| {
        let id = id.clone();
        bench
            .graph(caller, |cx| {
                Box::pin(async move {
                    let stop = cx.get::<Stop>(&id).await?.ok_or_else(|| fail("not seen"))?;
                    let edges = || stop.out().edge::<Road>().edges();
                    Ok([
                        cx.list(edges()).await?.len(),
                        cx.count(edges()).await?,
                        usize::from(cx.first(edges()).await?.is_some()),
                        cx.visit(edges()).await?.added() / 2,
                        cx.count(stop.out().edge_where::<Road>(|road| road.length == 7)).await?,
                        cx.count(stop.out().node::<Stop>()).await?,
                    ])
                })
            })
            .await
            .unwrap()
    };
    assert_eq!(seen(&bob).await, [1, 1, 1, 1, 1, 1]);
    assert_eq!(seen(&ann).await, [0, 0, 0, 0, 0, 1], "she may read the node at the far end, not the edge");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_edge_goes_with_its_node() {
    let bench = Bench::new(|types| {
        types.walker::<Order>();
    })
    .await;
    let user = bench.register().await;
    for destroyed_first in [false, true] {
        stops(&bench, &user, &["x"]).await;
        let road = bench
            .graph(&user, |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    let stop = cx.first(root.out().node::<Stop>()).await?.ok_or_else(|| fail("gone"))?;
                    let road = cx.first(root.out().edges()).await?.ok_or_else(|| fail("gone"))?;
                    let road = road.cast::<Road>()?.ok_or_else(|| fail("no road"))?;
                    if destroyed_first {
                        cx.destroy(&stop)?;
                    }
                    road.edit().length = 1;
                    cx.add(&road, "length", 1)?;
                    cx.grant(&road, walkabout::schema::Level::Read)?;
                    if !destroyed_first {
                        cx.destroy(&stop)?;
                    }
                    Ok(road.id())
                })
            })
            .await
            .unwrap();
        let is_there = bench
            .graph(&user, |cx| Box::pin(async move { Ok(cx.get::<Road>(&road).await?.is_some()) }))
            .await
            .unwrap();
        assert!(!is_there, "destroyed first: {destroyed_first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_item_fits_however_many_make_it_fit() {
    let bench = Bench::new(|types| {
        types.node::<Item>();
    })
    .await;
    let user = bench.register().await;
    bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                cx.attach(&root, Item { n: 1 }).map(drop)
            })
        })
        .await
        .unwrap();
    // The other makes its own item fit between the look and the commit; no link changes.
    let (looked, is_looked) = tokio::sync::oneshot::channel();
    let (edited, is_edited) = tokio::sync::oneshot::channel();
    let make = bench.graph(&user, |cx| {
        Box::pin(async move {
            let root = cx.root().await?;
            cx.first_or_create(root.out().node::<Item>().filter(|item| item.n == 2), || Item { n: 2 })
                .await?;
            looked.send(()).unwrap();
            is_edited.await?;
            Ok(())
        })
    });
    let edit = async {
        is_looked.await.unwrap();
        bench
            .graph(&user, |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    let item = cx.first(root.out().node::<Item>()).await?.ok_or_else(|| fail("gone"))?;
                    item.edit().n = 2;
                    Ok(())
                })
            })
            .await
            .unwrap();
        edited.send(()).unwrap();
    };
    let (made, ()) = tokio::join!(make, edit);
    assert_eq!(made.unwrap_err().code(), walkabout::schema::ErrorCode::Conflict);
    assert_eq!(bench.count::<Item>(&user).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_or_create_says_when_it_would_have_to_watch_too_many() {
    let bench = small_bench(|types| {
        types.node::<Item>();
    })
    .await;
    let user = bench.register().await;
    let make = async |n: u64| {
        bench
            .graph(&user, move |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    let query = root.out().node::<Item>().filter(move |item| item.n == n);
                    cx.first_or_create(query, || Item { n }).await.map(drop)
                })
            })
            .await
            .map_err(|failure| failure.message().unwrap_or_default().to_owned())
    };
    for n in 0..9 {
        assert_eq!(make(n).await, Ok(()));
    }
    assert_eq!(make(8).await, Ok(()), "what is there is found among any number");
    let refused = make(9).await.unwrap_err();
    assert!(refused.contains("9 nodes") && refused.contains("commit_changes_max 8"), "{refused}");
}

/// Notes the key of every ability, step and nested walker. Its second step is disturbed once.
#[derive(Walker, Serialize, Deserialize, Default)]
struct Keys {
    #[serde(default)]
    page: u64,
}

static KEYS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
/// Two permits: it has read; it may go on.
static HAS_READ: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
static GO_ON: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

impl Keys {
    async fn note(&self, here: &Here<Root>, cx: &mut Context, nested: usize) -> Result<(), Failure> {
        KEYS.lock().unwrap().push(cx.idempotency_key());
        for _ in 0..nested {
            cx.spawn(Key {}, here).await?;
        }
        Ok(())
    }
}

#[abilities]
impl Keys {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        self.note(&here, cx, 3).await?;
        cx.checkpoint();
        cx.then("page")
    }
    #[step]
    async fn page(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        self.page += 1;
        self.note(&here, cx, 1).await?;
        let counter = cx.first(here.out().node::<Counter>()).await?.ok_or_else(|| fail("gone"))?;
        counter.edit().value += 1;
        if self.page == 2 {
            HAS_READ.add_permits(1);
            GO_ON.acquire().await?.forget();
        }
        cx.checkpoint();
        if self.page < 3 { cx.then("page") } else { DONE }
    }
    #[exit]
    async fn leave(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        self.note(&here, cx, 0).await?;
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(private)]
struct Key {}

#[abilities]
impl Key {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        KEYS.lock().unwrap().push(cx.idempotency_key());
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_of_one_place_in_one_errand() {
    let bench = Bench::new(|types| {
        types.walker::<Keys>().walker::<Key>();
    })
    .await;
    let user = bench.register().await;
    bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                cx.attach(&root, Counter::default()).map(drop)
            })
        })
        .await
        .unwrap();
    let disturb = async {
        HAS_READ.acquire().await.unwrap().forget();
        bench
            .graph(&user, |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    let counter =
                        cx.first(root.out().node::<Counter>()).await?.ok_or_else(|| fail("gone"))?;
                    counter.edit().value += 1;
                    Ok(())
                })
            })
            .await
            .unwrap();
        GO_ON.add_permits(2);
    };
    let (ran, ()) = tokio::join!(bench.run(&user, Keys::default()), disturb);
    assert_eq!(ran.error, None);
    let keys = KEYS.lock().unwrap().clone();
    // start and three, then one and one a page; the second page twice; leave.
    assert_eq!(keys.len(), 4 + 2 + 2 + 2 + 2 + 1);
    assert_eq!(keys[6..8], keys[8..10], "the same when it repeats, from a checkpoint inside a visit");
    let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len() - 2, "{keys:#?}");
}

/// Writes a file, then one of the same name where a folder stands.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Writes {}

#[abilities]
impl Writes {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let saved = cx.file("a.txt", b"whole".to_vec()).await?;
        let path = saved.path.ok_or_else(|| fail("it lies on no disk"))?;
        assert_eq!(std::fs::read(&path)?, b"whole");
        std::fs::remove_file(&path)?;
        std::fs::create_dir(&path)?;
        let is_refused = cx.file("a.txt", b"no".to_vec()).await.is_err();
        cx.report(is_refused)?;
        let data = cx.config().data.clone();
        cx.report(data)?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_not_written_leaves_nothing() {
    let bench = Bench::new(|types| {
        types.walker::<Writes>();
    })
    .await;
    let user = bench.register().await;
    let ran = bench.run(&user, Writes {}).await;
    assert_eq!((ran.error, &ran.reports[0]), (None, &json!(true)));
    let files = std::path::Path::new(ran.reports[1].as_str().unwrap()).join("files");
    let run = files.join(ran.record.unwrap().id.uuid().to_string());
    for folder in [run, files.join(".unfinished")] {
        let left: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "a.txt"), "{} has {left:?}", folder.display());
    }
}

async fn small_bench(register: impl FnOnce(&mut walkabout::registry::Registry)) -> Bench {
    let config = walkabout::config::Config {
        commit_changes_max: 8,
        commit_bytes_max: 4096,
        disk_free_min: 0,
        ..Default::default()
    };
    let env = walkabout::env::Env::manual(walkabout::schema::Timestamp::from_millis(1_767_225_600_000), 1);
    Bench::build(register, config, env).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_commit_will_carry_is_bounded_where_it_grows() {
    let bench = small_bench(|types| {
        types.node::<Item>().node::<Counter>();
    })
    .await;
    let user = bench.register().await;
    bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                cx.attach(&root, Counter::default()).map(drop)
            })
        })
        .await
        .unwrap();
    type Grow = fn(&mut Context, &Here<Root>, &Here<Counter>) -> Result<(), Failure>;
    let grown = async |grow: Grow| {
        bench
            .graph(&user, move |cx| {
                Box::pin(async move {
                    let root = cx.root().await?;
                    let counter =
                        cx.first(root.out().node::<Counter>()).await?.ok_or_else(|| fail("gone"))?;
                    for times in 0..10_000 {
                        if let Err(failure) = grow(cx, &root, &counter) {
                            return Ok((times, failure.message().unwrap_or_default().to_owned()));
                        }
                    }
                    Ok((10_000, String::new()))
                })
            })
            .await
            .unwrap()
    };
    let changes: [Grow; 4] = [
        |cx, _, _| cx.create(Item { n: 1 }).map(drop),
        |cx, root, counter| cx.connect(root, counter).map(drop),
        |cx, _, counter| cx.add(counter, "value", 1),
        |cx, root, _| cx.connect(root, root).map(drop),
    ];
    for grow in changes {
        let (times, message) = grown(grow).await;
        assert_eq!(times, 8);
        assert!(message.contains("commit_changes_max is 8"), "{message}");
    }
    let lines: [Grow; 3] =
        [|cx, _, _| cx.report("0123456789"), |cx, _, _| cx.report(()), |cx, _, _| cx.log("0123456789")];
    for grow in lines {
        let (times, message) = grown(grow).await;
        assert!((50..150).contains(&times), "{times}");
        assert!(message.contains("commit_bytes_max is 4096"), "{message}");
    }
}

/// Says much, twice, with a checkpoint between.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Talks {
    report: bool,
}

impl Talks {
    fn talk(&self, cx: &mut Context) -> Result<(), Failure> {
        let text = "-".repeat(3000);
        if self.report { cx.report(text) } else { cx.log(text) }
    }
}

#[abilities]
impl Talks {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        self.talk(cx)?;
        cx.checkpoint();
        cx.then("again")
    }
    #[step]
    async fn again(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        self.talk(cx)?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_begins_anew_at_a_checkpoint_and_reports_go_on() {
    let bench = small_bench(|types| {
        types.walker::<Talks>();
    })
    .await;
    let user = bench.register().await;
    assert_eq!(bench.run(&user, Talks { report: false }).await.error, None);
    let refused = bench.run(&user, Talks { report: true }).await;
    assert_eq!(refused.record.unwrap().run.error_code, Some(walkabout::schema::ErrorCode::CommitTooLarge));
    assert!(refused.error.unwrap().contains("commit_bytes_max is 4096"));
}
