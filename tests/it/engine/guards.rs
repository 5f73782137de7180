//! Guards on elements.

use walkabout::{prelude::*, testing::Bench};

use super::{Counter, Total};

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
