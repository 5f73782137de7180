use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::walker::FieldKind;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
    Green,
    Blue,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Coin {
    Heads,
    Tails,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i64,
    #[serde(default)]
    y: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    start: Point,
    end: Point,
    tags: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum IntOrText {
    Int(i64),
    Text(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct One<T> {
    f: T,
}

type Told = Result<Value, Vec<FieldError>>;

/// Reads fields as a type, all of which are required.
fn fields<T: DeserializeOwned + Serialize>(given: &Value, spec: &Spec) -> Told {
    let members = given.as_object().unwrap();
    let missing = spec.fields.iter().filter(|field| !members.contains_key(field.name)).collect();
    let input = Input { fields: members.clone(), missing, body: given.clone(), spec };
    read::<T>(input).map(|read| serde_json::to_value(read).unwrap())
}

/// Reads one field, called `f`.
fn one<T: DeserializeOwned + Serialize>(given: &Value) -> Told {
    let spec = Spec::new().field("f", FieldKind::Required);
    fields::<One<T>>(&json!({ "f": given }), &spec).map(|mut read| read["f"].take())
}

/// Kind and place of each error, in short.
fn told(told: Told) -> Vec<String> {
    let show = |error: &FieldError| {
        let loc: Vec<String> = error.loc.iter().map(|part| part.to_string().replace('"', "")).collect();
        format!("{} {}", error.kind, loc.join("."))
    };
    told.unwrap_err().iter().map(show).collect()
}

/// What Pydantic said of the same, by `tests/fixtures/pydantic.py`.
#[derive(Deserialize)]
struct Case {
    r#type: String,
    input: Value,
    #[serde(default)]
    value: Value,
    errors: Option<Vec<Error>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Error {
    r#type: String,
    loc: Vec<Value>,
    msg: String,
    input: Value,
    #[serde(default)]
    ctx: Value,
}

/// What is on purpose not as in Pydantic, with the reason.
fn differs(case: &Case) -> Option<&'static str> {
    match case.r#type.as_str() {
        "int" if case.value.is_number() && case.value.as_i64().is_none() => {
            Some("whole numbers have 64 bits")
        }
        "int or str" if case.input == json!(true) || case.input == json!(2.0) => {
            Some("the forms of an untagged enum are tried strictly")
        }
        _ => None,
    }
}

#[test]
fn what_pydantic_says() {
    #[derive(Deserialize)]
    struct Fixture {
        cases: Vec<Case>,
    }
    let fixture: Fixture = serde_json::from_str(include_str!("../../tests/fixtures/pydantic.json")).unwrap();
    let mut wrong = Vec::new();
    for case in fixture.cases {
        let said = match case.r#type.as_str() {
            "int" | "i64" => one::<i64>(&case.input),
            "u8" => one::<u8>(&case.input),
            "float" => one::<f64>(&case.input),
            "bool" => one::<bool>(&case.input),
            "str" => one::<String>(&case.input),
            "optional int" => one::<Option<i64>>(&case.input),
            "list of int" => one::<Vec<i64>>(&case.input),
            "pair" => one::<(i64, String)>(&case.input),
            "map to int" => one::<BTreeMap<String, i64>>(&case.input),
            "map from int" => one::<BTreeMap<i64, bool>>(&case.input),
            "color" => one::<Color>(&case.input),
            "coin" => one::<Coin>(&case.input),
            "list of colors" => one::<Vec<Color>>(&case.input),
            "point" => one::<Point>(&case.input),
            "optional point" => one::<Option<Point>>(&case.input),
            "list of points" => one::<Vec<Point>>(&case.input),
            "line" => one::<Line>(&case.input),
            "int or str" => one::<IntOrText>(&case.input),
            other => panic!("no type is known for {other}"),
        };
        let fits = match (&said, &case.errors) {
            (Ok(value), None) => *value == case.value,
            (Err(errors), Some(wanted)) => {
                let mut errors: Vec<_> = errors
                    .iter()
                    .map(|FieldError { kind, loc, msg, input, ctx, .. }| Error {
                        r#type: kind.clone(),
                        loc: loc.clone(),
                        msg: msg.clone(),
                        input: input.clone(),
                        ctx: ctx.clone(),
                    })
                    .collect();
                // Within a field, what is missing is told last here.
                errors.sort_by_key(|error| wanted.iter().position(|other| other.loc == error.loc));
                errors == *wanted
            }
            _ => false,
        };
        if fits == differs(&case).is_some() {
            wrong.push(format!(
                "{} of {}: {said:?}, not {:?} {:?}",
                case.r#type, case.input, case.value, case.errors
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_is_told_at_once() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Fields {
        a: i64,
        when: chrono_like::Day,
        b: Vec<Point>,
        c: Color,
    }
    let spec = ["a", "when", "b", "c"]
        .into_iter()
        .fold(Spec::new(), |spec, name| spec.field(name, FieldKind::Required));
    let given = json!({ "when": "tomorrow", "b": [{}, { "x": "one" }, 7, { "y": [] }], "c": "pink" });
    let wanted = [
        "missing a",
        "value_error when",
        "missing b.0.x",
        "int_parsing b.1.x",
        "dataclass_type b.2",
        "float_type b.3.y",
        "missing b.3.x",
        "enum c",
    ];
    let mut said = told(fields::<Fields>(&given, &spec));
    said.sort();
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(said, wanted);
    let given = json!({ "a": 1, "when": "day 5", "b": [{ "x": 1 }], "c": "red" });
    assert!(fields::<Fields>(&given, &spec).is_ok());
}

/// A type that reads a text by itself, and refuses most.
mod chrono_like {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(try_from = "String")]
    pub(super) struct Day(u32);

    impl TryFrom<String> for Day {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            let number = text.strip_prefix("day ").and_then(|number| number.parse().ok());
            number.map(Self).ok_or_else(|| "it should be like 'day 5'".to_owned())
        }
    }
}

#[test]
fn forms_of_enums() {
    #[derive(Debug, Serialize, Deserialize)]
    enum Shape {
        Dot,
        Circle(f64),
        Box { width: f64, height: f64 },
        Pair(i64, i64),
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Dot,
        Circle { radius: f64 },
    }
    for given in [json!("Dot"), json!({ "Circle": 1.0 }), json!({ "Pair": [1, 2] })] {
        assert_eq!(one::<Shape>(&given).unwrap(), given);
    }
    let given = json!({ "Box": { "width": "1", "height": 2 } });
    assert_eq!(one::<Shape>(&given).unwrap(), json!({ "Box": { "width": 1.0, "height": 2.0 } }));
    for (given, wanted) in [
        (json!("Circle"), "value_error f"),
        (json!({ "Circle": "wide" }), "float_parsing f.Circle"),
        (json!({ "Box": { "width": 1 } }), "missing f.Box.height"),
        (json!({ "Pair": [1] }), "missing f.Pair.1"),
        (json!({ "Dot": 1 }), "none_required f.Dot"),
        (json!({ "Ring": 1 }), "enum f"),
        (json!({}), "enum f"),
    ] {
        assert_eq!(told(one::<Shape>(&given)), [wanted], "{given}");
    }
    for (given, wanted) in [
        (json!({ "type": "Circle", "radius": "wide" }), "float_type f"),
        (json!({ "type": "Circle" }), "missing f.radius"),
        (json!({ "type": "Ring" }), "enum f.type"),
        (json!({}), "missing f.type"),
        (json!(5), "value_error f"),
    ] {
        assert_eq!(told(one::<Tagged>(&given)), [wanted], "{given}");
    }
}

#[test]
fn what_holds_itself_ends() {
    #[derive(Debug, Serialize, Deserialize)]
    enum Term {
        Not(std::boxed::Box<Term>),
        Is(i64),
    }
    assert!(one::<Term>(&json!({ "Not": { "Not": { "Is": 1 } } })).is_ok());
    assert_eq!(told(one::<Vec<Term>>(&json!([5, { "Is": "x" }]))), ["enum f.0"]);
    assert_eq!(told(one::<Term>(&json!({ "Not": { "Not": { "Is": "x" } } }))), ["int_parsing f.Not.Not.Is"]);
}

#[test]
fn queries_are_lists_of_texts() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Fields {
        n: u32,
        tags: Vec<String>,
        deep: Option<bool>,
        any: Value,
    }
    let names = ["n", "tags", "deep", "any"];
    let spec = names
        .into_iter()
        .fold(Spec::new(), |spec, name| spec.field_in(name, FieldKind::Required, Part::Query));
    let given = json!({ "n": ["1", "2"], "tags": ["a", "b"], "deep": ["yes"], "any": ["x"] });
    let wanted = json!({ "n": 2, "tags": ["a", "b"], "deep": true, "any": "x" });
    assert_eq!(fields::<Fields>(&given, &spec).unwrap(), wanted);
    let plain = json!({ "n": 2, "tags": "a", "deep": null, "any": [1, 2] });
    assert_eq!(fields::<Fields>(&plain, &spec).unwrap()["tags"], json!(["a"]));
    let refused = fields::<Fields>(&json!({ "n": ["x"], "deep": [], "any": [] }), &spec).unwrap_err();
    assert!(refused.iter().all(|error| error.part == Part::Query));
    let first = &refused[0];
    assert_eq!((first.kind.as_str(), &first.input), ("int_parsing", &json!("x")));
    let missing = &refused[1];
    assert_eq!((missing.kind.as_str(), &missing.input), ("missing", &Value::Null));
}

#[test]
fn what_is_told_is_bounded() {
    let many: Vec<Value> = (0..1000).map(|_| json!("x")).collect();
    assert_eq!(one::<Vec<i64>>(&many.into()).unwrap_err().len(), ERRORS_MAX);
    // Too much to be shown again and again.
    let long = "x".repeat(60_000);
    let errors = one::<Vec<i64>>(&json!([long, long, 1, "y"])).unwrap_err();
    let shown: Vec<bool> = errors.iter().map(|error| !error.input.is_null()).collect();
    assert_eq!(shown, [true, false, true]);
    let name = "n".repeat(100_000);
    let given = json!({ &name: ["x"], "a": { &name: 1 } });
    let errors = one::<BTreeMap<String, Vec<i64>>>(&given).unwrap_err();
    let told = serde_json::to_string(&errors[0].loc).unwrap().len() + errors[0].msg.len();
    assert!(told < 1000, "{told}");
    let texts: Vec<Value> = (0..50).map(|number| json!(format!("{number}"))).collect();
    let refused = one::<Vec<chrono_like::Day>>(&texts.into()).unwrap_err();
    assert_eq!(refused.len(), 1, "of a list of those only the first is told");
}

#[test]
fn members_that_are_not_expected() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        a: i64,
    }
    let said = told(one::<Strict>(&json!({ "b": 1, "a": "x" })));
    assert_eq!(said, ["extra_forbidden f.b", "int_parsing f.a"]);
    assert!(one::<Point>(&json!({ "x": 1, "b": 1 })).is_ok());
}

/// Many types at once.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct All {
    a: i64,
    b: Option<u8>,
    c: f64,
    d: String,
    e: Vec<(bool, Color)>,
    f: HashMap<String, Point>,
    g: BTreeMap<i32, Vec<String>>,
    h: (),
    i: char,
    j: IntOrText,
    k: Value,
}

fn any_all() -> impl Strategy<Value = All> {
    let color = prop_oneof![Just(Color::Red), Just(Color::Green), Just(Color::Blue)].boxed();
    let union = prop_oneof![any::<i64>().prop_map(IntOrText::Int), ".*".prop_map(IntOrText::Text)];
    let number = || -1e15..1e15;
    let point = (any::<i64>(), number()).prop_map(|(x, y)| Point { x, y });
    let first = (any::<i64>(), any::<Option<u8>>(), number(), ".*");
    let lists = (
        prop::collection::vec((any::<bool>(), color), 0..3),
        prop::collection::hash_map(".{0,3}", point, 0..3),
        prop::collection::btree_map(any::<i32>(), prop::collection::vec(".{0,3}", 0..3), 0..3),
    );
    (first, lists, any::<char>(), union, any::<Option<bool>>()).prop_map(|(first, lists, i, j, k)| All {
        a: first.0,
        b: first.1,
        c: first.2,
        d: first.3,
        e: lists.0,
        f: lists.1,
        g: lists.2,
        h: (),
        i,
        j,
        k: json!({ "k": k }),
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(red|1|-2.0|yes|.{0,4})".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-kxy1]", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn all_spec() -> Spec {
    "a b c d e f g h i j k".split(' ').fold(Spec::new(), |spec, name| spec.field(name, FieldKind::Required))
}

proptest! {
    /// What serde writes is read as it was.
    #[test]
    fn nothing_good_is_refused(all in any_all()) {
        let given = serde_json::to_value(&all).unwrap();
        let members = given.as_object().unwrap().clone();
        let spec = all_spec();
        let input = Input { fields: members, missing: Vec::new(), body: given, spec: &spec };
        prop_assert_eq!(read::<All>(input).unwrap(), all);
    }

    /// Whatever is given is taken or refused with a reason, and what serde itself takes is taken.
    #[test]
    fn whatever_is_given_has_an_answer(a in any_value(), e in any_value(), f in any_value(), g in any_value(), j in any_value()) {
        let given = json!({
            "a": a, "b": a, "c": a, "d": a, "e": e, "f": f, "g": g, "h": a, "i": a, "j": j, "k": j,
        });
        match fields::<All>(&given, &all_spec()) {
            Ok(read) => {
                if let Ok(plain) = serde_json::from_value::<All>(given) {
                    prop_assert_eq!(read, serde_json::to_value(plain).unwrap());
                }
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                prop_assert!(serde_json::from_value::<All>(given).is_err());
            }
        }
    }
}
