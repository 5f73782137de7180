//! What the derives and `#[abilities]` make of a type.

use walkabout::{
    prelude::*,
    testing::Bench,
    walker::{Archetype as _, EntryType, FieldKind, Model, Spec, Walker as _},
};

/// Gives walkers an ability, for tests that look at their declaration only.
macro_rules! idle {
    ($($name:ident)*) => {$(
        #[abilities]
        impl $name {
            #[entry]
            async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
                DONE
            }
        }
    )*};
}

#[derive(Walker, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
struct Renamed {
    #[serde(rename(deserialize = "from", serialize = "source"))]
    origin: String,
    #[serde(rename(serialize = "target"))]
    where_to: String,
}

idle!(Renamed);

#[test]
fn an_input_has_the_name_it_is_read_under() {
    let spec = Spec::new().field("from", FieldKind::Required).field("whereTo", FieldKind::Required);
    assert_eq!(Renamed::spec(), spec);
}

/// Does it, as far
/// as it can.
///
/// This is told to who reads the code.
#[derive(Walker, Serialize, Deserialize)]
#[walker(status_code = 201, tags = "A, B", summary = "Do it", response_description = "Done.")]
#[walker(responses(404 = "There is none.", 409 = "There are two."), response_model = Vec<u8>)]
#[walker(deprecated, include_in_schema = false)]
struct Documented {
    /// How many.
    count: u8,
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(description = "Does it.", include_in_schema = true, response_class = "text/csv")]
struct Described {}

idle!(Documented Described);

#[test]
fn documents_know_what_a_type_says() {
    let spec = Spec::new()
        .status_code(201)
        .tags(&["A", "B"])
        .summary("Do it")
        .response_description("Done.")
        .response(404, "There is none.")
        .response(409, "There are two.")
        .response_model(Model::of::<Vec<u8>>())
        .deprecated()
        .left_out()
        .describe("Does it, as far as it can.")
        .field("count", FieldKind::Required)
        .describe_field("How many.");
    assert_eq!(Documented::spec(), spec);
    assert!(Documented::spec().model().unwrap().check(&json!([1, 256])).is_err());
    assert_eq!(Described::spec(), Spec::new().describe("Does it.").response_class("text/csv"));
}

/// The library under another path, where root and node change places.
mod elsewhere {
    pub use walkabout::*;
    pub mod walker {
        pub use walkabout::walker::*;
        pub struct EntryType;
        #[allow(non_upper_case_globals, reason = "it stands for a variant")]
        impl EntryType {
            pub const Root: walkabout::walker::EntryType = walkabout::walker::EntryType::Node;
        }
    }
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(crate = "elsewhere", entry = "root")]
struct PathFirst {}

#[derive(Walker, Serialize, Deserialize)]
#[walker(entry = "root", crate = "elsewhere")]
struct PathLast {}

idle!(PathFirst PathLast);

#[test]
fn the_arguments_of_an_attribute_have_no_order() {
    assert_eq!(PathFirst::spec().entry_type(), EntryType::Node);
    assert_eq!(PathLast::spec().entry_type(), EntryType::Node);
}

/// Writes an ability whose types come as fragments.
macro_rules! ability {
    ($walker:ty, $here:ty, $cx:ty, $outcome:ty) => {
        #[abilities]
        impl $walker {
            #[entry]
            async fn start(self: &mut Self, _here: $here, cx: $cx) -> $outcome {
                cx.report("started")?;
                DONE
            }
        }
    };
}

#[derive(Walker, Serialize, Deserialize)]
struct Fragments {}

ability!(Fragments, Here<Root>, &mut Context, Outcome);

#[tokio::test(flavor = "multi_thread")]
async fn an_ability_may_be_spelled_in_full_or_by_another_macro() {
    let bench = Bench::new(|types| {
        types.walker::<Fragments>();
    })
    .await;
    let user = bench.register().await;
    assert_eq!(bench.run(&user, Fragments {}).await.reports, ["started"]);
}

#[derive(Node, Serialize, Deserialize)]
#[node(abilities)]
struct Gate {}

#[derive(Walker, Serialize, Deserialize)]
struct Conditional {}

#[abilities]
#[cfg(test)]
impl Conditional {
    #[entry]
    #[cfg(test)]
    async fn there(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Gate {})?;
        cx.visit(here.out()).await
    }
    #[cfg(not(test))]
    #[entry]
    async fn not_there(&mut self, _here: Here<Missing>, _cx: &mut Context) -> Outcome {
        fail("this is not compiled")
    }
}

#[abilities(node)]
impl Gate {
    #[cfg(not(test))]
    #[exit]
    async fn not_there(_here: Here<Self>, _by: &mut Missing, _cx: &mut Context) -> Outcome {
        fail("this is not compiled")
    }
    #[exit]
    #[cfg(test)]
    async fn there(_here: Here<Self>, by: Visitor<'_>, cx: &mut Context) -> Outcome {
        cx.report(by.name())?;
        DONE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ability_that_is_not_compiled_is_not_registered() {
    let bench = Bench::new(|types| {
        types.walker::<Conditional>().node::<Gate>();
    })
    .await;
    let user = bench.register().await;
    assert_eq!(bench.run(&user, Conditional {}).await.reports, ["conditional"]);
}

mod by_hand {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(number: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        number.serialize(to)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Option::deserialize(from)
    }
}

#[derive(Walker, Serialize, Deserialize)]
struct Optionals {
    plain: Option<u64>,
    #[serde(serialize_with = "by_hand::serialize")]
    written: Option<u64>,
    #[serde(deserialize_with = "by_hand::deserialize")]
    read: Option<u64>,
    #[serde(with = "by_hand")]
    both: Option<u64>,
    #[serde(with = "by_hand", default)]
    by_default: Option<u64>,
}

idle!(Optionals);

#[test]
fn an_option_is_optional_where_serde_takes_it_so() {
    use FieldKind::{Optional, Required};
    let fields = [
        ("plain", Optional),
        ("written", Optional),
        ("read", Required),
        ("both", Required),
        ("by_default", Optional),
    ];
    let mut declared = Spec::new();
    for (name, kind) in fields {
        declared = declared.field(name, kind);
        let others: Value =
            fields.iter().map(|(other, _)| (*other, 1)).filter(|(other, _)| *other != name).collect();
        assert_eq!(serde_json::from_value::<Optionals>(others).is_ok(), kind == Optional, "{name}");
    }
    assert_eq!(Optionals::spec(), declared);
}

#[derive(Walker, Serialize, Deserialize)]
#[allow(non_camel_case_types, reason = "it is the name of a keyword")]
struct r#loop {
    r#type: u64,
}

#[abilities]
impl r#loop {
    #[entry]
    async fn r#do(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.then("while")
    }
    #[step]
    async fn r#while(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(self.r#type)?;
        DONE
    }
}

#[derive(Node, Serialize, Deserialize)]
#[allow(non_camel_case_types, reason = "it is the name of a keyword")]
struct r#match {}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyword_names_without_its_mark() {
    assert_eq!([r#loop::NAME, r#match::NAME], ["loop", "match"]);
    assert_eq!(r#loop::spec(), Spec::new().field("type", FieldKind::Required));
    let bench = Bench::new(|types| {
        types.walker::<r#loop>();
    })
    .await;
    let user = bench.register().await;
    assert_eq!(bench.run(&user, r#loop { r#type: 7 }).await.reports, [7]);
}

///
/// Counts
///   the cities.
///
/// This is more than a caller wants to know.
#[derive(Walker, Serialize, Deserialize)]
struct BlankLineFirst {}

/** Counts
 * the
 *
 * cities.
 */
#[derive(Walker, Serialize, Deserialize)]
struct StarsAfterFirst {}

/**
 * Counts **all**
 * the cities.
 *
 * This is more than a caller wants to know.
 */
#[derive(Walker, Serialize, Deserialize)]
struct Stars {}

/**
    Counts
    *all* the cities.
*/
#[derive(Walker, Serialize, Deserialize)]
struct NoStars {}

/** Counts the cities. */
#[derive(Walker, Serialize, Deserialize)]
struct OneLine {}

/// * Counts
/// * the cities.
#[derive(Walker, Serialize, Deserialize)]
struct List {}

/// Counts
#[doc = "the cities.\n\nThis is more than a caller wants to know."]
#[doc(alias = "census")]
#[derive(Walker, Serialize, Deserialize)]
struct Mixed {}

#[derive(Walker, Serialize, Deserialize)]
struct Undocumented {}

idle!(BlankLineFirst StarsAfterFirst Stars NoStars OneLine List Mixed Undocumented);

#[test]
fn the_description_is_the_first_paragraph() {
    for (spec, description) in [
        (BlankLineFirst::spec(), "Counts the cities."),
        (StarsAfterFirst::spec(), "Counts the"),
        (Stars::spec(), "Counts **all** the cities."),
        (NoStars::spec(), "Counts *all* the cities."),
        (OneLine::spec(), "Counts the cities."),
        (List::spec(), "* Counts * the cities."),
        (Mixed::spec(), "Counts the cities."),
        (Undocumented::spec(), ""),
    ] {
        assert_eq!(spec, Spec::new().describe(description));
    }
}

#[derive(Walker, Serialize, Deserialize)]
struct Skipping {
    #[walker(excluded)]
    #[serde(skip)]
    cache: Vec<u64>,
    #[walker(excluded)]
    #[serde(skip_deserializing)]
    shown: u64,
    #[walker(excluded)]
    #[serde(skip_serializing, default)]
    dropped: u64,
    #[serde(skip)]
    plain: u64,
}

idle!(Skipping);

#[test]
fn a_field_that_is_not_read_is_not_declared() {
    assert_eq!(Skipping::spec(), Spec::new().field("dropped", FieldKind::Excluded));
    let Skipping { cache, shown, dropped, plain } = serde_json::from_value(json!({})).unwrap();
    assert_eq!((cache, shown, dropped, plain), (vec![], 0, 0, 0));
}

#[derive(Walker, Serialize, Deserialize)]
struct Marked {}

#[abilities(crate = "elsewhere")]
impl Marked {
    #[elsewhere::entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.then("next")
    }
    #[elsewhere::prelude::step]
    async fn next(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(self.answer())?;
        DONE
    }
    // The tool's name stands for any path that is not the library's.
    #[rust_analyzer::step]
    fn answer(&self) -> u64 {
        42
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_is_known_by_its_path() {
    let bench = Bench::new(|types| {
        types.walker::<Marked>();
    })
    .await;
    let user = bench.register().await;
    assert_eq!(bench.run(&user, Marked {}).await.reports, [42]);
}
