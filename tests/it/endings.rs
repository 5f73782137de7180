//! How attempts end: what fails one, what it leaves, and that it always ends.

use serde::{Deserializer, Serializer};
use walkabout::{prelude::*, testing::Bench};

#[derive(Node, Serialize, Deserialize, Default)]
struct Place {
    #[serde(default)]
    note: String,
    #[serde(default)]
    seen: i64,
    #[serde(default)]
    big: u64,
}

async fn place_under_root(bench: &Bench, caller: &walkabout::runtime::Caller) {
    bench
        .graph(caller, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let place = cx.create(Place::default())?;
                cx.connect(&root, &place)?;
                Ok(())
            })
        })
        .await
        .unwrap();
}

/// Tells what cannot be stored.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Teller {
    what: String,
}

#[abilities]
impl Teller {
    #[entry]
    async fn tell(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        match self.what.as_str() {
            "number" => cx.report(u64::MAX)?,
            "name" => cx.report(json!([{ "a\0b": 1 }]))?,
            "custom" => cx.set_custom(json!({ "n": u64::MAX }))?,
            _ => cx.progress(json!(u64::MAX)),
        }
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_fails_the_run_and_says_so() {
    let bench = Bench::new(|types| _ = types.walker::<Teller>()).await;
    let user = bench.register().await;
    for (what, named) in
        [("number", "18446744073709551615"), ("name", "a\\0b"), ("custom", "18446744073709551615")]
    {
        let ran = bench.run(&user, Teller { what: what.into() }).await;
        let error = ran.error.unwrap();
        assert!(error.contains(named) && error.contains("cannot be stored"), "{what}: {error}");
    }
    let ran = bench.run(&user, Teller { what: "progress".into() }).await;
    assert_eq!((ran.status, ran.error), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_cannot_be_stored_are_named_without_the_codecs_words() {
    let bench = Bench::new(|_| {}).await;
    let user = bench.register().await;
    let made = bench.graph(&user, |cx| {
        Box::pin(async move {
            cx.create(Place { big: u64::MAX, ..Place::default() })?;
            Ok(())
        })
    });
    let refused = made.await.unwrap_err();
    let message = refused.message().unwrap();
    assert!(message.contains("n:Place:") && message.contains("cannot be stored"), "{message}");
    assert!(!message.contains("BSON"), "{message}");
}

/// Adds to whatever it is told.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Adder {
    field: String,
}

#[abilities]
impl Adder {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn add(&mut self, here: Here<Place>, cx: &mut Context) -> Outcome {
        cx.add(&here, &self.field, 1)?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_to_what_is_no_number_fails_once_and_clearly() {
    let bench = Bench::new(|types| _ = types.walker::<Adder>()).await;
    let user = bench.register().await;
    place_under_root(&bench, &user).await;
    for (field, why) in [("note", "holds no number"), ("a\0b", "NUL")] {
        let ran = bench.run(&user, Adder { field: field.into() }).await;
        let error = ran.error.unwrap();
        assert!(error.contains(why), "{error}");
        assert_eq!(ran.record.unwrap().run.conflicts, 0);
    }
    let ran = bench.run(&user, Adder { field: "seen".into() }).await;
    assert_eq!(ran.error, None, "the store goes on");
}

/// Checkpoints in a step, then changes the place in another ability of the same visit.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Stepper {}

#[abilities]
impl Stepper {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }
    #[entry]
    async fn first(&mut self, here: Here<Place>, cx: &mut Context) -> Outcome {
        here.edit().note.push('a');
        cx.checkpoint();
        cx.then("second")
    }
    #[step]
    async fn second(&mut self, here: Here<Place>, _cx: &mut Context) -> Outcome {
        here.edit().note.push('b');
        DONE
    }
    #[entry]
    async fn third(&mut self, here: Here<Place>, cx: &mut Context) -> Outcome {
        here.edit().note.push('c');
        cx.add(&here, "seen", 1)?;
        DONE
    }
    #[exit]
    async fn fourth(&mut self, here: Here<Place>, _cx: &mut Context) -> Outcome {
        here.edit().note.push('d');
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_checkpoint_in_a_visit_is_kept() {
    let bench = Bench::new(|types| _ = types.walker::<Stepper>()).await;
    let user = bench.register().await;
    place_under_root(&bench, &user).await;
    let ran = bench.run(&user, Stepper {}).await;
    assert_eq!(ran.error, None);
    let kept = bench
        .graph(&user, |cx| {
            Box::pin(async move {
                let root = cx.root().await?;
                let place = cx.first(root.out().node::<Place>()).await?.ok_or_else(|| fail("gone"))?;
                let place = place.read();
                Ok((place.note.clone(), place.seen))
            })
        })
        .await
        .unwrap();
    assert_eq!(kept, ("abcd".to_owned(), 1));
}

/// Says how far it is, and ends while that is being written.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async)]
struct Counting {}

#[abilities]
impl Counting {
    #[entry]
    async fn count(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.progress(json!(7));
        tokio::task::yield_now().await;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_keeps_the_last_progress_of_the_events() {
    let bench = Bench::new(|types| _ = types.walker::<Counting>()).await;
    let user = bench.register().await;
    for _ in 0..200 {
        let record = bench.run(&user, Counting {}).await.record.unwrap();
        assert_eq!(record.run.progress, json!(7));
    }
}

/// A text whose code panics when it is written, or read, as that of a user may.
struct Brittle(String);

impl Serialize for Brittle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, "written", "it cannot be written");
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Brittle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Panics {
    text: Brittle,
}

#[abilities]
impl Panics {
    #[entry]
    async fn change(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        self.text.0 = "written".to_owned();
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_where_fields_are_written_fails_the_run() {
    let bench = Bench::new(|types| _ = types.walker::<Panics>()).await;
    let user = bench.register().await;
    let record = bench.run(&user, Panics { text: Brittle("fresh".into()) }).await.record.unwrap();
    assert_eq!(record.run.error_code.unwrap().as_str(), "walker-panicked");
    assert_eq!(record.context["text"], "fresh", "the fields as they were stored last");
}
