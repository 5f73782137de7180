//! Types as several programs know them, and without macros.

use walkabout::{prelude::*, testing::Bench};

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
