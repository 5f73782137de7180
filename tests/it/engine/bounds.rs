//! What a commit will carry.

use walkabout::{prelude::*, testing::Bench};

use super::{Counter, Item, small_bench};

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
