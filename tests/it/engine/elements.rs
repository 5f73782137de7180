//! What runs in which order, what queries find, edges, and elements of others.

use walkabout::{prelude::*, runtime::Caller, testing::Bench};

use super::Item;

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
