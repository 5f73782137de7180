use crate::{prelude::*, schema::Level, store::Guard, testing::Bench};

#[derive(Node, Serialize, Deserialize)]
#[node(crate = "crate")]
struct Item {
    n: u64,
}

#[tokio::test]
async fn what_is_looked_at_often_is_guarded_once() {
    let bench = Bench::new(|_| {}).await;
    let (ann, bob) = (bench.register().await, bench.register().await);
    let make = |cx: &mut Context, root: &Here<Root>| {
        let item = cx.attach(root, Item { n: 0 })?;
        cx.grant(&item, Level::Connect)?;
        Ok::<_, Failure>(item.id())
    };
    let id = bench
        .graph(&ann, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                make(cx, &root)
            })
        })
        .await
        .unwrap();
    let (links, access) = bench
        .graph(&bob, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let foreign = cx.get::<Item>(&id).await?.ok_or_else(|| fail("not seen"))?;
                for n in 0..5 {
                    let query = root.out().node::<Item>().filter(move |item| item.n == n);
                    let item = cx.first_or_create(query, || Item { n }).await?;
                    cx.connect(&item, &foreign)?;
                }
                let guards = cx.attempt.graph.guards();
                let count = |is: fn(&Guard) -> bool| guards.iter().filter(|guard| is(guard)).count();
                Ok((
                    count(|guard| matches!(guard, Guard::Links { .. })),
                    count(|guard| matches!(guard, Guard::Access { .. })),
                ))
            })
        })
        .await
        .unwrap();
    assert_eq!((links, access), (1, 2), "the links of the root; the access of the item and of its owner");
}
