use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use proptest::{prelude::*, string::string_regex, test_runner::Config};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use walkabout_schema::{ElementId, Name, NodeId, Timestamp};

use super::*;
use crate::{
    input::{self, Input},
    walker::{FieldKind, Spec},
};

#[derive(Debug, Serialize, Deserialize)]
struct One<T> {
    f: T,
}

/// The schema of a type, whole.
fn whole<T: DeserializeOwned>() -> Value {
    let mut definitions = Definitions::default();
    let mut schema = of::<T>(&mut definitions);
    let schemas = definitions.into_schemas();
    if !schemas.is_empty() {
        schema["components"] = json!({ "schemas": schemas });
    }
    schema
}

fn check<T: DeserializeOwned>(wanted: Value) {
    assert_eq!(whole::<T>(), wanted, "{}", std::any::type_name::<T>());
}

/// The component of a type that refers to one.
fn component<T: DeserializeOwned>(name: &str) -> Value {
    let schema = whole::<T>();
    assert_eq!(schema["$ref"], format!("{COMPONENTS}{name}"), "{schema}");
    schema["components"]["schemas"][name].clone()
}

/// Has bounds of its own.
#[derive(serde::Deserialize)]
#[serde(try_from = "i32")]
struct Celsius(#[expect(dead_code, reason = "it is only described")] i32);

impl TryFrom<i32> for Celsius {
    type Error = String;
    fn try_from(degrees: i32) -> Result<Self, String> {
        if (-273..=1000).contains(&degrees) {
            Ok(Self(degrees))
        } else {
            Err("too hot or too cold".to_owned())
        }
    }
}

#[test]
fn plain_types() {
    check::<Celsius>(json!({ "type": "integer", "minimum": -273, "maximum": 1000, "format": "int32" }));
    check::<std::num::NonZeroI8>(
        json!({ "type": "integer", "minimum": -128, "maximum": 127, "format": "int8", "not": { "const": 0 } }),
    );
    check::<bool>(json!({ "type": "boolean" }));
    check::<u8>(json!({ "type": "integer", "minimum": 0, "maximum": 255, "format": "uint8" }));
    check::<i16>(json!({ "type": "integer", "minimum": -32768, "maximum": 32767, "format": "int16" }));
    check::<u64>(json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX, "format": "uint64" }));
    check::<std::num::NonZeroU8>(
        json!({ "type": "integer", "minimum": 1, "maximum": 255, "format": "uint8" }),
    );
    check::<f64>(json!({ "type": "number", "format": "double" }));
    check::<char>(json!({ "type": "string", "minLength": 1, "maxLength": 1 }));
    check::<String>(json!({ "type": "string" }));
    check::<()>(json!({ "type": "null" }));
    check::<Value>(json!({}));
    check::<Option<bool>>(json!({ "anyOf": [{ "type": "boolean" }, { "type": "null" }] }));
    check::<HashSet<bool>>(json!({ "type": "array", "items": { "type": "boolean" } }));
    check::<[bool; 32]>(
        json!({ "type": "array", "minItems": 32, "maxItems": 32, "items": { "type": "boolean" } }),
    );
    check::<(bool, String)>(json!({
        "type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{ "type": "boolean" }, { "type": "string" }],
    }));
    check::<BTreeMap<String, bool>>(
        json!({ "type": "object", "additionalProperties": { "type": "boolean" } }),
    );
    check::<BTreeMap<i8, bool>>(json!({
        "type": "object", "additionalProperties": { "type": "boolean" },
        "propertyNames": { "pattern": "^-?(0|[1-9][0-9]{0,1})$" },
    }));
}

#[test]
fn texts_that_are_read() {
    let format = |format: &str| json!({ "type": "string", "format": format });
    check::<Uuid>(format("uuid"));
    check::<Timestamp>(format("date-time"));
    check::<std::net::Ipv6Addr>(format("ipv6"));
    let pattern = |of: Value| of["pattern"].as_str().unwrap().to_owned();
    assert!(pattern(whole::<NodeId>()).starts_with("^n:"));
    assert!(pattern(whole::<ElementId>()).starts_with("^[neow]:"));
    assert!(pattern(whole::<Name>()).starts_with("^[A-Z"));
    // A place behind one that reads its text is looked at all the same.
    let pair = whole::<(Uuid, u8)>();
    assert_eq!(pair["prefixItems"][1]["maximum"], 255);
    let keys = whole::<BTreeMap<Uuid, u8>>();
    assert_eq!(keys["propertyNames"]["format"], "uuid");
    assert_eq!(keys["additionalProperties"]["maximum"], 255);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Size {
    Small,
    Large,
}

fn four() -> u8 {
    4
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Shelf {
    name: String,
    #[serde(default)]
    size: Option<Size>,
    #[serde(default = "four", alias = "width")]
    depth: u8,
    parts: Vec<Shelf>,
    owner: Option<Box<Shelf>>,
    made_at: Timestamp,
    id: Uuid,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    a: u8,
}

#[test]
fn structs() {
    let shelf = component::<Shelf>("Shelf");
    assert_eq!(shelf["required"], json!(["id", "made_at", "name", "parts"]), "{shelf}");
    assert_eq!(shelf["properties"]["parts"]["items"], json!({ "$ref": "#/components/schemas/Shelf" }));
    assert_eq!(shelf["properties"]["id"]["format"], "uuid");
    let names: Vec<_> = shelf["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 7, "an alias is no member of its own: {names:?}");
    assert!(shelf.get("additionalProperties").is_none());
    assert_eq!(component::<Closed>("Closed")["additionalProperties"], json!(false));
    let sizes = whole::<Shelf>()["components"]["schemas"]["Size"].clone();
    assert_eq!(sizes, json!({ "type": "string", "enum": ["small", "large"] }));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Sum {
    Add(Box<Sum>, Box<Sum>),
    Number(i32),
    Named { name: String, at: Option<u8> },
    Zero,
    Wrapped(Closing),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Closing(u8);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { a: u8 },
    Two,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
    Text(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

#[test]
fn enums() {
    let sum = component::<Sum>("Sum");
    let forms = sum["oneOf"].as_array().unwrap();
    assert_eq!(forms[0], json!({ "type": "string", "enum": ["Zero"] }));
    let of_sum = json!({ "$ref": "#/components/schemas/Sum" });
    assert_eq!(
        forms[1]["properties"]["Add"],
        json!({ "type": "array", "minItems": 2, "maxItems": 2, "items": of_sum })
    );
    assert_eq!(forms[3]["properties"]["Named"]["required"], json!(["name"]));
    assert_eq!(forms[4]["properties"]["Wrapped"]["maximum"], 255);
    assert_eq!(forms[4]["additionalProperties"], json!(false));
    check::<Tagged>(json!({
        "type": "object", "properties": { "kind": { "type": "string", "enum": ["One", "Two"] } }, "required": ["kind"],
    }));
    check::<Untagged>(json!({}));
    check::<Flat>(json!({ "type": "object" }));
}

mod other {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Shelf {
        books: u8,
    }
}

#[test]
fn types_of_one_name_are_told_apart() {
    let schema = whole::<(Shelf, other::Shelf, Vec<Shelf>)>();
    let items = schema["prefixItems"].as_array().unwrap();
    assert_eq!(items[1], json!({ "$ref": "#/components/schemas/Shelf2" }));
    assert_eq!(items[2]["items"], items[0]);
    let mut definitions = Definitions::default();
    let first = definitions.add("A<b>", json!({ "type": "null" }));
    assert_eq!(first, json!({ "$ref": "#/components/schemas/A_b_" }));
    assert_eq!(definitions.add("A<b>", json!({ "type": "null" })), first);
    assert_ne!(definitions.add("A<b>", json!({})), first);
}

#[test]
fn members_have_their_defaults() {
    let members = members::<Shelf>(&mut Definitions::default());
    let member = |name: &str| members.iter().find(|member| member.name == name).unwrap();
    let default = |name: &str| member(name).schema.get("default").cloned();
    assert_eq!((member("name").is_required, member("depth").is_required), (true, false));
    assert_eq!(default("depth"), Some(json!(4)));
    assert_eq!(default("size"), None, "nothing is said of null");
    assert_eq!(default("name"), None, "it has to be given");
}

/// Types that hold ever other ones end somewhere.
#[test]
fn a_type_without_end_is_cut_off() {
    #[derive(Deserialize)]
    struct Deep<T>(T);
    type Four<T> = Vec<Vec<Vec<Vec<T>>>>;
    type Many<T> = Four<Four<Four<Four<T>>>>;
    let schema = whole::<Many<Many<Many<Many<Many<Deep<u8>>>>>>>();
    assert!(schema.to_string().ends_with(&format!("{{}}{}", "}".repeat(schema_depth(&schema)))), "{schema}");
}

fn schema_depth(schema: &Value) -> usize {
    schema.get("items").map_or(0, |items| 1 + schema_depth(items))
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct All {
    shelf: Shelf,
    sum: Sum,
    pair: (f64, Uuid),
    numbers: BTreeMap<u16, f32>,
    sizes: BTreeMap<String, Size>,
    days: Vec<NodeId>,
    name: Name,
    any: Value,
    closed: Closed,
    #[serde(default)]
    large: u64,
    #[serde(default)]
    letter: char,
}

/// Values that a schema allows, down to a depth.
fn values(schema: &Value, root: &Value, depth: usize) -> BoxedStrategy<Value> {
    let inner = |schema: &Value| values(schema, root, depth.saturating_sub(1));
    if let Some(reference) = schema["$ref"].as_str() {
        return inner(root.pointer(reference.trim_start_matches('#')).unwrap());
    }
    let forms = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    if let Some(forms) = forms {
        let ends =
            |form: &&Value| form["type"] == "null" || form["type"] == "string" || form["type"] == "integer";
        let ends: Vec<_> = forms.iter().filter(ends).collect();
        let forms: Vec<_> = if depth == 0 && !ends.is_empty() { ends } else { forms.iter().collect() };
        return proptest::sample::select(forms.into_iter().cloned().collect::<Vec<_>>())
            .prop_flat_map({
                let root = root.clone();
                move |form| values(&form, &root, depth.saturating_sub(1))
            })
            .boxed();
    }
    if let Some(one) = schema["enum"].as_array() {
        return proptest::sample::select(one.clone()).boxed();
    }
    match schema["type"].as_str() {
        Some("null") => Just(Value::Null).boxed(),
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("integer") => {
            let bounds = schema["minimum"].as_i64().unwrap()..=schema["maximum"].as_i64().unwrap();
            prop_oneof![
                bounds.clone().prop_map(Value::from),
                Just(json!(bounds.end())),
                Just(json!(bounds.start()))
            ]
            .boxed()
        }
        Some("number") => (-1e30..1e30).prop_map(Value::from).boxed(),
        Some("string") => match (schema["format"].as_str(), schema["pattern"].as_str()) {
            (Some("uuid"), _) => any::<u128>().prop_map(|bits| json!(Uuid::from_u128(bits))).boxed(),
            (Some("date-time"), _) => {
                let times = 0..4_000_000_000_000_i64;
                times.prop_map(|millis| json!(Timestamp::from_millis(millis))).boxed()
            }
            (_, Some(pattern)) => {
                string_regex(pattern.trim_matches(['^', '$'])).unwrap().prop_map(Value::from).boxed()
            }
            _ if schema["maxLength"] == 1 => any::<char>().prop_map(|c| json!(c.to_string())).boxed(),
            _ => any::<String>().prop_map(Value::from).boxed(),
        },
        Some("array") => match schema["prefixItems"].as_array() {
            Some(items) => items.iter().map(inner).collect::<Vec<_>>().prop_map(Value::from).boxed(),
            None => {
                let len = schema["minItems"].as_u64().unwrap_or(0) as usize;
                if depth == 0 && len == 0 {
                    return Just(json!([])).boxed();
                }
                let max = schema["maxItems"].as_u64().map_or(3, |max| max as usize);
                proptest::collection::vec(inner(&schema["items"]), len..=max).prop_map(Value::from).boxed()
            }
        },
        Some("object") => match schema.get("properties") {
            None => {
                let names = schema["propertyNames"]["pattern"].as_str().unwrap_or("[a-z]{1,3}");
                let names = string_regex(names.trim_matches(['^', '$'])).unwrap();
                let members =
                    proptest::collection::btree_map(names, inner(&schema["additionalProperties"]), 0..3);
                members.prop_map(|members| json!(members)).boxed()
            }
            Some(properties) => {
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                let properties = properties.as_object().unwrap().iter();
                // Types that hold themselves end here.
                let properties = properties.filter(|(name, _)| depth > 0 || required.contains(&json!(name)));
                let members = properties.map(|(name, schema)| {
                    let is_required = required.contains(&json!(name));
                    let name = name.clone();
                    (inner(schema), any::<bool>()).prop_map(move |(value, is_given)| {
                        (is_required || is_given).then(|| (name.clone(), value))
                    })
                });
                let members = members.collect::<Vec<_>>();
                members
                    .prop_map(|members| members.into_iter().flatten().collect::<Map<_, _>>().into())
                    .boxed()
            }
        },
        _ => prop_oneof![
            Just(json!(null)),
            Just(json!({ "a": [1, "b"] })),
            any::<String>().prop_map(Value::from)
        ]
        .boxed(),
    }
}

/// Whether a schema allows a value, as far as the keywords go that are written here. Forms of texts are looked at by who reads them.
fn allows(schema: &Value, root: &Value, value: &Value) -> bool {
    let inner = |schema: &Value, value: &Value| allows(schema, root, value);
    schema.as_object().unwrap().iter().all(|(keyword, said)| match keyword.as_str() {
        "$ref" => inner(root.pointer(said.as_str().unwrap().trim_start_matches('#')).unwrap(), value),
        "anyOf" => said.as_array().unwrap().iter().any(|form| inner(form, value)),
        "oneOf" => said.as_array().unwrap().iter().filter(|form| inner(form, value)).count() == 1,
        "enum" => said.as_array().unwrap().contains(value),
        "const" => said == value,
        "type" => match said.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.as_i64().is_some(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            _ => value.is_object(),
        },
        "minimum" => value.as_f64() >= said.as_f64(),
        "maximum" => value.as_f64() <= said.as_f64(),
        "minLength" => value.as_str().unwrap().chars().count() >= said.as_u64().unwrap() as usize,
        "maxLength" => value.as_str().unwrap().chars().count() <= said.as_u64().unwrap() as usize,
        "minItems" => value.as_array().unwrap().len() >= said.as_u64().unwrap() as usize,
        "maxItems" => value.as_array().unwrap().len() <= said.as_u64().unwrap() as usize,
        "items" => value.as_array().unwrap().iter().all(|item| inner(said, item)),
        "prefixItems" => {
            let items = value.as_array().unwrap().iter();
            items.zip(said.as_array().unwrap()).all(|(item, schema)| inner(schema, item))
        }
        "required" => said.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
        "properties" => said
            .as_object()
            .unwrap()
            .iter()
            .all(|(name, schema)| value.get(name).is_none_or(|member| inner(schema, member))),
        "additionalProperties" => {
            let others = value.as_object().unwrap().iter();
            let mut others = others.filter(|(name, _)| schema["properties"].get(name.as_str()).is_none());
            others.all(|(_, member)| *said != json!(false) && (*said == json!(true) || inner(said, member)))
        }
        "format" | "pattern" | "propertyNames" | "components" => true,
        other => panic!("{other} is not known"),
    })
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_a_schema_allows_is_taken_and_the_other_way_round(value in values(&whole::<All>(), &whole::<All>(), 6)) {
        let schema = whole::<All>();
        prop_assert!(allows(&schema, &schema, &value), "the test makes what is allowed: {value}");
        let spec = Spec::new().field("f", FieldKind::Required);
        let given = json!({ "f": value });
        let read = input::read::<One<All>>(Input::of(&spec, given.as_object().unwrap().clone()));
        let read = read.map_err(|errors| TestCaseError::fail(format!("{errors:?}")))?;
        let shown = serde_json::to_value(&read.f).unwrap();
        prop_assert!(allows(&schema, &schema, &shown), "{shown}");
    }
}

#[test]
fn dates_of_others() {
    // What chrono reads is asked of it, without a feature for serde.
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Day;
    impl TryFrom<String> for Day {
        type Error = chrono::ParseError;
        fn try_from(text: String) -> Result<Self, Self::Error> {
            text.parse::<NaiveDate>().map(|_| Self)
        }
    }
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Moment;
    impl TryFrom<String> for Moment {
        type Error = chrono::ParseError;
        fn try_from(text: String) -> Result<Self, Self::Error> {
            text.parse::<DateTime<Utc>>().map(|_| Self)
        }
    }
    assert_eq!(whole::<Day>()["format"], "date");
    assert_eq!(whole::<Moment>()["format"], "date-time");
}

/// What it panics at is not what a caller gives, and no reason not to start.
#[test]
fn a_type_that_panics_is_described_as_far_as_it_goes() {
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Touchy;
    impl TryFrom<String> for Touchy {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            panic!("{text:?} is too much")
        }
    }
    let pair = whole::<(bool, Touchy)>();
    assert_eq!(pair["prefixItems"], json!([{ "type": "boolean" }, { "type": "string" }]));
}
