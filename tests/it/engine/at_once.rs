//! What walkers do at the same time.

use walkabout::{
    prelude::*,
    runtime::{Spawn, Spawned},
    testing::Bench,
};

use super::{Counter, Increment, Item, Total, small_bench, submit};

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
