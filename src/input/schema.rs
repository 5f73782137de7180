//! What a type takes, as a JSON Schema (2020-12).
//!
//! Users write no schema: serde says what a type asks for (`asks`), and values that are tried out say the rest: which members there
//! must be, which form a text has, between which bounds a whole number is. What a type takes beyond its schema, as a number in a text, is
//! not in it, nor are other checks of its own. Where a type looks at what is there before it says what it wants (an untagged enum, what is
//! flattened), all is allowed.

use std::collections::{BTreeSet, HashMap};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    asks::{self, Ask, Named, Reason, Step},
    notes,
};

/// Begins a reference to a component.
pub(crate) const COMPONENTS: &str = "#/components/schemas/";

/// Types may hold ever other types; below this depth all is allowed.
const DEPTH_MAX: usize = 64;
/// Places of one type that are looked at; in all others all is allowed.
const PLACES_MAX: usize = 10_000;
/// Items of a tuple that are described one by one.
const ITEMS_MAX: usize = 16;
/// Bytes of JSON, about, that a default has at most to be shown.
const DEFAULT_MAX: usize = 1024;

/// The schemas of types that have names.
#[derive(Default)]
pub(crate) struct Definitions {
    schemas: Map<String, Value>,
    known: HashMap<Named, Known>,
}

struct Known {
    component: String,
    sample: Option<Value>,
}

impl Definitions {
    /// Keeps a schema under a name, or under a similar one when that is taken by another. Gives the reference.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
    pub(crate) fn add(&mut self, name: &str, schema: Value) -> Value {
        let component = match self.schemas.get(&plain(name)) {
            Some(known) if *known == schema => plain(name),
            _ => self.free(name),
        };
        self.schemas.insert(component.clone(), schema);
        reference(&component)
    }

    /// Keeps a schema under exactly this name.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
    pub(crate) fn set(&mut self, component: String, schema: Value) {
        self.schemas.insert(component, schema);
    }

    /// The schema that a reference means.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
    pub(crate) fn get(&self, reference: &str) -> Option<&Value> {
        self.schemas.get(reference.strip_prefix(COMPONENTS)?)
    }

    /// All of them, by name.
    pub(crate) fn into_schemas(self) -> Map<String, Value> {
        self.schemas
    }

    fn free(&self, name: &str) -> String {
        let name = plain(name);
        let is_free = |name: &String| !self.schemas.contains_key(name);
        let numbered = (2..u64::MAX).map(|number| format!("{name}{number}"));
        std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name)
    }
}

/// The name with nothing that the name of a component has not.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

fn reference(component: &str) -> Value {
    json!({ "$ref": format!("{COMPONENTS}{component}") })
}

/// Adds a keyword to a schema, or a member to its properties.
pub(crate) fn put(schema: &mut Value, name: &str, value: Value) {
    if let Value::Object(keywords) = schema {
        keywords.insert(name.to_owned(), value);
    }
}

/// What a type takes.
pub(crate) fn of<T: DeserializeOwned>(definitions: &mut Definitions) -> Value {
    Tracer::of::<T>(definitions).place(&mut Vec::new()).schema
}

/// A member of a type that is an object.
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    /// With what it is when it is not given, unless that is null, long, or not known.
    pub(crate) schema: Value,
    /// It has to be given.
    pub(crate) is_required: bool,
}

/// The members of a type; none when it is no struct.
pub(crate) fn members<T: DeserializeOwned + Serialize>(definitions: &mut Definitions) -> Vec<Member> {
    let mut tracer = Tracer::of::<T>(definitions);
    let Some(Ask::Struct(Named { parts, .. })) = tracer.ask(&[]) else { return Vec::new() };
    let Parts { mut properties, required, sample, .. } = tracer.parts(&mut Vec::new(), parts);
    let made = sample.and_then(|sample| T::deserialize(sample).ok());
    let mut shown = made.and_then(|made| serde_json::to_value(made).ok()).unwrap_or_default();
    let member = |&name: &&'static str| {
        let mut schema = properties.shift_remove(name)?;
        let is_required = required.contains(name);
        let default = shown.get_mut(name).map(Value::take).filter(|default| {
            let is_long = notes::weight(default, DEFAULT_MAX).is_none();
            !is_required && !default.is_null() && !is_long
        });
        if let Some(default) = default {
            put(&mut schema, "default", default);
        }
        Some(Member { name, schema, is_required })
    };
    parts.iter().filter_map(member).collect()
}

/// What is taken at a place.
struct Shape {
    schema: Value,
    /// A value that is taken there, with as little in it as can be; none when there is none that ends, or none is known.
    sample: Option<Value>,
}

impl Shape {
    fn new(schema: Value, sample: impl Into<Value>) -> Self {
        Self { schema, sample: Some(sample.into()) }
    }

    fn any() -> Self {
        Self { schema: json!({}), sample: None }
    }
}

/// The members of a struct, or of a variant.
#[derive(Default)]
struct Parts {
    properties: Map<String, Value>,
    required: BTreeSet<&'static str>,
    /// No other members are taken.
    is_closed: bool,
    sample: Option<Value>,
}

impl Parts {
    fn schema(self) -> Value {
        let mut schema = json!({ "type": "object", "properties": self.properties });
        if !self.required.is_empty() {
            put(&mut schema, "required", json!(self.required));
        }
        if self.is_closed {
            put(&mut schema, "additionalProperties", json!(false));
        }
        schema
    }
}

/// Looks at a type. What depends on the type is behind pointers, so that this is built once and not for each.
struct Tracer<'d> {
    definitions: &'d mut Definitions,
    ask: fn(&[Step]) -> Option<Ask>,
    refusal: fn(&[Step], &Value) -> Option<String>,
    refusal_of_member: fn(&[Step], Option<&str>) -> Option<Reason>,
    places: usize,
    /// A type was met inside itself.
    has_recursed: bool,
}

impl<'d> Tracer<'d> {
    fn of<T: DeserializeOwned>(definitions: &'d mut Definitions) -> Self {
        Self {
            definitions,
            ask: asks::ask::<T>,
            refusal: asks::refusal::<T>,
            refusal_of_member: asks::refusal_of_member::<T>,
            places: 0,
            has_recursed: false,
        }
    }

    fn ask(&mut self, path: &[Step]) -> Option<Ask> {
        self.places += 1;
        if self.places > PLACES_MAX || path.len() > DEPTH_MAX { None } else { (self.ask)(path) }
    }

    fn takes(&self, path: &[Step], value: &Value) -> bool {
        self.refusal(path, value).is_none()
    }

    /// Why a value is not taken at a place. A variant is taken with its name around it.
    fn refusal(&self, path: &[Step], value: &Value) -> Option<String> {
        match path.split_last() {
            Some((Step::Variant(name), of)) => (self.refusal)(of, &json!({ *name: value })),
            _ => (self.refusal)(path, value),
        }
    }

    /// What is taken one step further.
    fn step(&mut self, path: &mut Vec<Step>, step: Step) -> Shape {
        path.push(step);
        let shape = self.place(path);
        path.pop();
        shape
    }

    fn place(&mut self, path: &mut Vec<Step>) -> Shape {
        match self.ask(path) {
            Some(Ask::Any) => self.any(path),
            Some(Ask::Truth) => Shape::new(json!({ "type": "boolean" }), false),
            Some(Ask::Integer(low, high)) => self.integer(path, low, high),
            Some(Ask::Float(max)) => Shape::new(float(max), 0.0),
            Some(Ask::Character) => {
                Shape::new(json!({ "type": "string", "minLength": 1, "maxLength": 1 }), " ")
            }
            Some(Ask::Text | Ask::Identifier) => self.text(path),
            Some(Ask::Nothing) => Shape::new(json!({ "type": "null" }), Value::Null),
            Some(Ask::Option) => {
                let held = self.step(path, Step::Held).schema;
                Shape::new(json!({ "anyOf": [held, { "type": "null" }] }), Value::Null)
            }
            Some(Ask::List) => self.list(path),
            Some(Ask::Tuple(len) | Ask::Items(len)) => self.tuple(path, len),
            Some(Ask::Map) => self.map(path),
            Some(Ask::Struct(named)) => self.component(path, named, |tracer, path, named| {
                let mut parts = tracer.parts(path, named.parts);
                Shape { sample: parts.sample.take(), schema: parts.schema() }
            }),
            Some(Ask::Enum(named)) => self.component(path, named, Self::choice),
            Some(Ask::Newtype) => self.step(path, Step::Content),
            Some(Ask::Members(names)) => {
                let mut parts = self.parts(path, names);
                Shape { sample: parts.sample.take(), schema: parts.schema() }
            }
            Some(Ask::Unit) | None => Shape::any(),
        }
    }

    /// What looks at a value before it says what it wants. An enum that looks for its tag names its variants.
    fn any(&self, path: &[Step]) -> Shape {
        let variants = |tag| match (self.refusal_of_member)(path, Some(tag)) {
            Some(Reason::Variants(variants)) => Some((tag, variants)),
            _ => None,
        };
        let tagged = match (self.refusal_of_member)(path, None) {
            Some(Reason::Missing(tag)) => variants(tag),
            _ => None,
        };
        if let Some((tag, variants)) = tagged {
            let property = json!({ tag: { "type": "string", "enum": variants } });
            let schema = json!({ "type": "object", "properties": property, "required": [tag] });
            let samples = variants.iter().map(|variant| json!({ tag: variant }));
            return Shape { schema, sample: samples.into_iter().find(|sample| self.takes(path, sample)) };
        }
        let samples = [json!(null), json!({}), json!(""), json!(0), json!([]), json!(false)];
        Shape { sample: samples.into_iter().find(|sample| self.takes(path, sample)), ..Shape::any() }
    }

    fn integer(&self, path: &[Step], low: i128, high: i128) -> Shape {
        // Beyond 64 bits with the sign no number is taken in JSON.
        let (low, high) = (i64::try_from(low).unwrap_or(i64::MIN), i64::try_from(high).unwrap_or(i64::MAX));
        let mut schema = json!({ "type": "integer" });
        if let Some(format) = format_of(low, high) {
            put(&mut schema, "format", json!(format));
        }
        let takes = |number: i64| self.takes(path, &json!(number));
        let (sample, low) = match (takes(0), takes(1)) {
            (true, _) => (0, self.last(path, 0, low)),
            (false, true) if low < 0 && takes(-1) => {
                put(&mut schema, "not", json!({ "const": 0 }));
                (1, self.last(path, -1, low))
            }
            (false, true) => (1, 1),
            (false, false) => (0, low),
        };
        put(&mut schema, "minimum", json!(low));
        let high = if takes(sample) { self.last(path, sample, high) } else { high };
        put(&mut schema, "maximum", json!(high));
        Shape::new(schema, sample)
    }

    /// The last number that is taken, from one that is towards one that may not be: a type may have bounds of its own.
    fn last(&self, path: &[Step], mut taken: i64, end: i64) -> i64 {
        if self.takes(path, &json!(end)) {
            return end;
        }
        let mut refused = end;
        while taken.abs_diff(refused) > 1 {
            let middle = (i128::from(taken) + i128::from(refused)) / 2;
            let middle = i64::try_from(middle).unwrap_or(taken);
            if self.takes(path, &json!(middle)) { taken = middle } else { refused = middle }
        }
        taken
    }

    /// A text; one of a form that is known when not every text is taken.
    fn text(&self, path: &[Step]) -> Shape {
        let takes = |text: &str| self.takes(path, &json!(text));
        if takes("0") && takes(" \u{1}\u{e9}\u{fffd} b") {
            return match takes("") {
                true => Shape::new(json!({ "type": "string" }), ""),
                false => Shape::new(json!({ "type": "string", "minLength": 1 }), "0"),
            };
        }
        let fits = |form: &&Form| form.examples.iter().all(|example| takes(example));
        match FORMS.iter().find(fits) {
            Some(form) => {
                Shape { schema: form.schema(), sample: form.examples.first().map(|text| json!(text)) }
            }
            None => Shape {
                schema: json!({ "type": "string" }),
                sample: ["", "0"].into_iter().find(|text| takes(text)).map(Value::from),
            },
        }
    }

    fn list(&mut self, path: &mut Vec<Step>) -> Shape {
        let item = self.step(path, Step::Item(Vec::new()));
        let mut schema = json!({ "type": "array", "items": item.schema });
        if let Some(sample) = item.sample
            && !self.takes(path, &json!([]))
        {
            put(&mut schema, "minItems", json!(1));
            return Shape::new(schema, json!([sample]));
        }
        Shape::new(schema, json!([]))
    }

    fn tuple(&mut self, path: &mut Vec<Step>, len: usize) -> Shape {
        let (mut schemas, mut samples) = (Vec::new(), Some(Vec::new()));
        for _ in 0..len.min(ITEMS_MAX) {
            let item = match &samples {
                Some(before) => self.step(path, Step::Item(before.clone())),
                None => Shape::any(),
            };
            schemas.push(item.schema);
            samples = samples.zip(item.sample).map(|(mut samples, sample)| {
                samples.push(sample);
                samples
            });
        }
        let mut schema = json!({ "type": "array", "minItems": len, "maxItems": len });
        match schemas.split_first() {
            Some((first, rest)) if rest.iter().all(|schema| schema == first) => {
                put(&mut schema, "items", first.clone())
            }
            Some(_) => put(&mut schema, "prefixItems", json!(schemas)),
            None => {}
        }
        if len > ITEMS_MAX {
            samples = samples.map(|samples| samples.into_iter().cycle().take(len).collect());
        }
        Shape { schema, sample: samples.map(Value::from) }
    }

    fn map(&mut self, path: &mut Vec<Step>) -> Shape {
        path.push(Step::Key);
        let key = match self.ask(path) {
            Some(Ask::Text) => {
                let Shape { schema, sample } = self.text(path);
                sample.map(|sample| ((schema != json!({ "type": "string" })).then_some(schema), sample))
            }
            Some(Ask::Integer(low, high)) => Some((Some(digits(low, high)), json!(0))),
            Some(Ask::Truth) => Some((Some(json!({ "enum": ["true", "false"] })), json!(false))),
            Some(Ask::Enum(Named { parts, .. })) => {
                parts.first().map(|first| (Some(json!({ "enum": parts })), json!(first)))
            }
            _ => None,
        };
        path.pop();
        let mut schema = json!({ "type": "object" });
        if let Some((names, key)) = key {
            put(&mut schema, "additionalProperties", self.step(path, Step::Under(key)).schema);
            if let Some(names) = names {
                put(&mut schema, "propertyNames", names);
            }
        }
        Shape { schema, sample: Some(json!({})).filter(|sample| self.takes(path, sample)) }
    }

    /// A type with a name: looked at once, and referred to.
    fn component(
        &mut self,
        path: &mut Vec<Step>,
        named: Named,
        look: fn(&mut Self, &mut Vec<Step>, &Named) -> Shape,
    ) -> Shape {
        if let Some(Known { component, sample }) = self.definitions.known.get(&named) {
            self.has_recursed |= sample.is_none();
            return Shape { schema: reference(component), sample: sample.clone() };
        }
        let component = self.definitions.free(named.name);
        self.definitions.schemas.insert(component.clone(), json!({}));
        let keep = |this: &mut Self, sample| {
            let known = Known { component: component.clone(), sample };
            this.definitions.known.insert(named.clone(), known);
        };
        keep(self, None);
        let outside = std::mem::take(&mut self.has_recursed);
        let mut shape = look(self, path, &named);
        if self.has_recursed && shape.sample.is_some() {
            // What needed a sample of the type itself can be looked at now.
            keep(self, shape.sample);
            shape = look(self, path, &named);
        }
        self.has_recursed |= outside;
        keep(self, shape.sample.clone());
        self.definitions.schemas.insert(component.clone(), shape.schema);
        Shape { schema: reference(&component), sample: shape.sample }
    }

    fn choice(&mut self, path: &mut Vec<Step>, named: &Named) -> Shape {
        let (mut units, mut others, mut found) = (Vec::new(), Vec::new(), None);
        for &variant in named.parts {
            path.push(Step::Variant(variant));
            let sample = match self.ask(path) {
                Some(Ask::Unit) => {
                    units.push(variant);
                    Some(json!(variant))
                }
                _ => {
                    let Shape { schema, sample } = self.place(path);
                    let properties = json!({ variant: schema });
                    others.push(json!({
                        "type": "object", "properties": properties, "required": [variant],
                        "additionalProperties": false,
                    }));
                    sample.map(|sample| json!({ variant: sample }))
                }
            };
            path.pop();
            found = found.or(sample);
        }
        let units = (!units.is_empty()).then(|| json!({ "type": "string", "enum": units }));
        let schema = match (units, others.is_empty()) {
            (Some(units), true) => units,
            (units, _) => json!({ "oneOf": units.into_iter().chain(others).collect::<Vec<_>>() }),
        };
        Shape { schema, sample: found }
    }

    fn parts(&mut self, path: &mut Vec<Step>, names: &'static [&'static str]) -> Parts {
        let mut parts = Parts::default();
        let mut all = Map::new();
        for &name in names {
            let Shape { schema, sample } = self.step(path, Step::Member(name));
            parts.properties.insert(name.to_owned(), schema);
            all.extend(sample.map(|sample| (name.to_owned(), sample)));
        }
        self.leave_aliases(path, &mut all, &mut parts.properties);
        let is_taken = self.takes(path, &json!(all));
        let without = |members: &Map<String, Value>, name: &str| {
            let mut members = members.clone();
            members.shift_remove(name);
            members
        };
        for &name in names.iter().filter(|name| parts.properties.contains_key(**name)) {
            let is_optional = match is_taken {
                true => self.takes(path, &json!(without(&all, name))),
                // Something else is asked of them together; an option is told by its form.
                false => parts.properties.get(name).is_some_and(|schema| schema.get("anyOf").is_some()),
            };
            if !is_optional {
                parts.required.insert(name);
            }
        }
        if is_taken {
            let mut other = all.clone();
            other.insert("\u{1}".to_owned(), Value::Null);
            parts.is_closed = !self.takes(path, &json!(other));
            let mut least = all.clone();
            least.retain(|name, _| parts.required.contains(name.as_str()));
            let least = json!(least);
            parts.sample = Some(if self.takes(path, &least) { least } else { json!(all) });
        }
        parts
    }

    /// Leaves out members that are other names of those that are there.
    fn leave_aliases(
        &self,
        path: &[Step],
        all: &mut Map<String, Value>,
        properties: &mut Map<String, Value>,
    ) {
        while let Some(refusal) = self.refusal(path, &json!(all)) {
            let twice = refusal.strip_prefix("duplicate field `").and_then(|rest| rest.split('`').next());
            let Some(twice) = twice else { return };
            let is_alias = |name: &&String| {
                let mut others = all.clone();
                others.shift_remove(name.as_str());
                *name != twice && self.refusal(path, &json!(others)).as_ref() != Some(&refusal)
            };
            let Some(alias) = all.keys().find(is_alias).cloned() else { return };
            all.shift_remove(&alias);
            properties.shift_remove(&alias);
        }
    }
}

fn float(max: f64) -> Value {
    if max < f64::MAX {
        json!({ "type": "number", "format": "float", "minimum": -max, "maximum": max })
    } else {
        json!({ "type": "number", "format": "double" })
    }
}

/// The name of these bounds in the registry of formats (<https://spec.openapis.org/registry/format/>).
fn format_of(low: i64, high: i64) -> Option<&'static str> {
    let formats = [
        (i8::MIN.into(), i8::MAX.into(), "int8"),
        (i16::MIN.into(), i16::MAX.into(), "int16"),
        (i32::MIN.into(), i32::MAX.into(), "int32"),
        (i64::MIN, i64::MAX, "int64"),
        (0, u8::MAX.into(), "uint8"),
        (0, u16::MAX.into(), "uint16"),
        (0, u32::MAX.into(), "uint32"),
        (0, i64::MAX, "uint64"),
    ];
    formats.into_iter().find(|(from, to, _)| (*from, *to) == (low, high)).map(|(_, _, format)| format)
}

/// Texts that are certainly numbers within these bounds.
fn digits(low: i128, high: i128) -> Value {
    let digits = high.min(i64::MAX.into()).checked_ilog10().unwrap_or_default().saturating_sub(1);
    let sign = if low < 0 { "-?" } else { "" };
    json!({ "pattern": format!("^{sign}(0|[1-9][0-9]{{0,{digits}}})$") })
}

/// A form of texts.
struct Form {
    /// A type takes texts of this form when it takes all of these.
    examples: &'static [&'static str],
    /// Keywords of JSON Schema with their values.
    says: &'static [(&'static str, &'static str)],
}

impl Form {
    const fn of(examples: &'static [&'static str], says: &'static [(&'static str, &'static str)]) -> Self {
        Self { examples, says }
    }

    fn schema(&self) -> Value {
        let says = [("type", "string")].into_iter().chain(self.says.iter().copied());
        says.map(|(keyword, value)| (keyword.to_owned(), json!(value))).collect::<Map<_, _>>().into()
    }
}

const NODE: &str = "n:A:0190b3e2-7a55-7000-8000-000000000000";
const EDGE: &str = "e:A:0190b3e2-7a55-7000-8000-000000000000";
const OBJECT: &str = "o:A:0190b3e2-7a55-7000-8000-000000000000";
const WALKER: &str = "w:A:0190b3e2-7a55-7000-8000-000000000000";

/// An id of elements of these letters; the hyphens of its UUID are at all of their places, or at none.
macro_rules! id_pattern {
    ($letters:literal) => {
        concat!(
            "^",
            $letters,
            ":([A-Za-z_][A-Za-z0-9_]{0,127})?:",
            "([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$"
        )
    };
}

/// Tried in this order.
const FORMS: [Form; 19] = [
    Form::of(&["0190b3e2-7a55-7000-8000-000000000000"], &[("format", "uuid")]),
    Form::of(&["2020-02-29T12:00:00Z"], &[("format", "date-time")]),
    Form::of(
        &["2020-02-29T12:00:00"],
        &[(
            "pattern",
            "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$",
        )],
    ),
    Form::of(&["2020-02-29"], &[("format", "date")]),
    Form::of(&["12:00:00"], &[("pattern", "^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$")]),
    // An address of either kind; short ones of the newer.
    Form::of(
        &["127.0.0.1", "::1"],
        &[("pattern", "^((0|[1-9][0-9]?|1[0-9]{2})\\.){3}(0|[1-9][0-9]?|1[0-9]{2})$|^::([0-9a-f]{1,4})?$")],
    ),
    Form::of(&["127.0.0.1"], &[("format", "ipv4")]),
    Form::of(&["::1"], &[("format", "ipv6")]),
    Form::of(
        &["127.0.0.1:80"],
        &[("pattern", "^((0|[1-9][0-9]?|1[0-9]{2})\\.){3}(0|[1-9][0-9]?|1[0-9]{2}):[1-9][0-9]{0,3}$")],
    ),
    Form::of(&["https://example.com/"], &[("format", "uri")]),
    Form::of(&[NODE, EDGE, WALKER], &[("pattern", id_pattern!("[neow]"))]),
    Form::of(&[NODE, EDGE], &[("pattern", id_pattern!("[ne]"))]),
    Form::of(&[NODE], &[("pattern", id_pattern!("n"))]),
    Form::of(&[EDGE], &[("pattern", id_pattern!("e"))]),
    Form::of(&[OBJECT], &[("pattern", id_pattern!("o"))]),
    Form::of(&[WALKER], &[("pattern", id_pattern!("w"))]),
    Form::of(&["a", "_Z9"], &[("pattern", "^[A-Za-z_][A-Za-z0-9_]{0,127}$")]),
    Form::of(&["1.5", "-1.5"], &[("pattern", "^-?(0|[1-9][0-9]{0,7})(\\.[0-9]{1,8})?$")]),
    Form::of(&["1.5"], &[("pattern", "^(0|[1-9][0-9]{0,7})(\\.[0-9]{1,8})?$")]),
];

#[cfg(test)]
mod tests;
