//! The operations of walkers.

use std::collections::BTreeMap;

use aide::openapi::Operation;
use serde_json::{Map, Value, json};

use super::{Describe, Place, Refused, Types, parts::BEARER, worded};
use crate::{
    http::{done::ContextResponse, walkers::Accepted},
    input::schema::{COMPONENTS, put},
    registry::WalkerType,
    route::Route,
    runtime::{REQUEST_KEY_MAX, Runtime},
    walker::{Field, FieldKind, KeyPlace, Method, Part, Spec},
};

/// The media type of what is answered, unless a walker says another.
pub(crate) const JSON: &str = "application/json";
/// The tag of walkers that say no other.
pub(super) const TAG: &str = "Walker APIs";
/// That of those that are called with webhook keys.
const WEBHOOK_TAG: &str = "Webhook Walker APIs";

/// What walkers answer, as references.
pub(super) struct Envelopes {
    done: Value,
    accepted: Value,
}

impl Envelopes {
    pub(super) fn of(types: &mut Types) -> Self {
        Self { done: types.sent::<ContextResponse>(), accepted: types.sent::<Accepted<'_>>() }
    }
}

/// All of them: method, path, operation. A path has the names of variables that the first walker there gives them; the entry node of
/// another may stand for one of its fields.
pub(super) fn describe(
    types: &mut Types,
    runtime: &Runtime,
    envelopes: &Envelopes,
) -> Vec<(Method, String, Operation)> {
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    let mut known: BTreeMap<&str, Fields> = BTreeMap::new();
    let mut operations = Vec::new();
    let mut routes = runtime.routes();
    routes.sort_by_key(|route| route.on_node);
    for route in &routes {
        let Some(walker) = runtime.registry().get(route.walker.as_str()) else { continue };
        let path = paths.entry(route.template.shape()).or_insert_with(|| route.template.named()).clone();
        if walker.spec.docs.is_left_out {
            continue;
        }
        let fields = known.entry(walker.name.as_str()).or_insert_with(|| Fields::of(types, walker));
        for method in &route.methods {
            let operation = operation(types, walker, route, &path, *method, fields, envelopes);
            operations.push((*method, path.clone(), operation));
        }
    }
    operations
}

/// What a caller gives for a walker.
struct Fields {
    /// Those of path and query, with their schemas.
    given: Vec<(Field, Value)>,
    /// That of the body, and whether there must be one.
    body: Option<(Value, bool)>,
    /// Those of files that come with it.
    files: Vec<Field>,
    /// What its own answers are, when it says so.
    answer: Option<Media>,
}

/// A media type, and what is sent as that.
type Media = (&'static str, Value);

impl Fields {
    fn of(types: &mut Types, walker: &WalkerType) -> Self {
        let spec = &walker.spec;
        let answer = answer_of(types, spec);
        let (in_body, others): (Vec<_>, Vec<_>) =
            fields_of(types, walker).into_iter().partition(|(field, _)| field.part == Part::Body);
        let (files, given): (Vec<_>, Vec<_>) = others.into_iter().partition(|(field, _)| is_file(field));
        let files = files.into_iter().map(|(field, _)| field).collect();
        let mut is_required = in_body.iter().any(|(field, _)| field.kind == FieldKind::Required);
        let mut members: Vec<_> = in_body.into_iter().map(|(field, schema)| member(&field, schema)).collect();
        if let Some(KeyPlace::Body(name)) = spec.webhook_key().filter(|_| !spec.is_public()) {
            members.push((name, json!({ "type": "string", "description": "A webhook key." }), true));
            is_required = true;
        }
        let has_members = !members.is_empty();
        let body = object(members);
        // As in Jac Cloud.
        let name = format!("{}_body_model", walker.name.as_str().to_ascii_lowercase());
        let body = has_members.then(|| (types.named(&name, body), is_required));
        Self { given, body, files, answer }
    }
}

/// What a walker says that it answers with in the place of its reports.
pub(crate) fn answer_of(types: &mut Types, spec: &Spec) -> Option<Media> {
    let of_class = |class: &'static str| {
        let is_text = class.starts_with("text/");
        (class, if is_text { json!({ "type": "string" }) } else { json!({}) })
    };
    match spec.model() {
        Some(model) => Some((JSON, model.define(types.definitions()))),
        None => spec.docs.response_class.map(of_class),
    }
}

/// A multipart body: the files, and the other fields as JSON in a part of their own.
fn form(files: &[Field], body: Option<&(Value, bool)>) -> Value {
    let file = json!({ "type": "string", "format": "binary" });
    let members = files.iter().map(|field| {
        let schema = match field.part {
            // A list without files is a part that is not there.
            Part::Files if field.kind == FieldKind::Required => {
                json!({ "type": "array", "items": file, "minItems": 1 })
            }
            Part::Files => json!({ "type": "array", "items": file }),
            _ => file.clone(),
        };
        member(field, schema)
    });
    let body = body.map(|(schema, is_required)| ("body", schema.clone(), *is_required));
    object(members.chain(body).collect())
}

fn is_file(field: &Field) -> bool {
    matches!(field.part, Part::File | Part::Files)
}

/// The fields that a caller gives, with their schemas.
fn fields_of(types: &mut Types, walker: &WalkerType) -> Vec<(Field, Value)> {
    let members = (walker.members)(types.definitions()).into_iter();
    let mut members: BTreeMap<&str, Value> = members.map(|member| (member.name, member.schema)).collect();
    let given = walker.spec.fields.iter().filter(|field| field.kind != FieldKind::Excluded);
    given.map(|field| (field.clone(), members.remove(field.name).unwrap_or_else(|| json!({})))).collect()
}

/// A field as a member of an object: its name, its schema, and whether it must be there.
fn member(field: &Field, mut schema: Value) -> (&'static str, Value, bool) {
    if !field.description.is_empty() {
        put(&mut schema, "description", json!(field.description));
    }
    (field.name, schema, field.kind == FieldKind::Required)
}

/// An object with these members.
fn object(members: Vec<(&str, Value, bool)>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, schema, is_required) in members {
        properties.insert(name.to_owned(), schema);
        if is_required {
            required.push(name);
        }
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        put(&mut schema, "required", json!(required));
    }
    schema
}

/// The schema of what a call over the WebSocket has as `context`: all fields, wherever they stand over HTTP.
pub(crate) fn context_of(types: &mut Types, walker: &WalkerType) -> Value {
    let fields = fields_of(types, walker).into_iter().filter(|(field, _)| !is_file(field));
    object(fields.map(|(field, schema)| member(&field, schema)).collect())
}

fn operation(
    types: &Types,
    walker: &WalkerType,
    route: &Route,
    path: &str,
    method: Method,
    fields: &Fields,
    envelopes: &Envelopes,
) -> Operation {
    let spec = &walker.spec;
    let summary = match spec.docs.summary {
        "" => in_words(walker.name.as_str()),
        text => text.to_owned(),
    };
    let tag = if spec.webhook_key().is_some() { WEBHOOK_TAG } else { TAG };
    let entry = if route.on_node { "entry" } else { "root" };
    let id = format!("api_{entry}{}_{}", worded(path), method.as_str().to_ascii_lowercase());
    let mut described = Describe::new(tag, &summary)
        .tags(&spec.docs.tags)
        .about(spec.description)
        .id(id)
        .deprecated(spec.docs.is_deprecated);
    described = keyed(described, spec);
    described = parameters(described, types, route, path, fields, spec);
    if changes(method) {
        let key =
            json!({ "type": "string", "minLength": 1, "maxLength": REQUEST_KEY_MAX, "pattern": "^[!-~]+$" });
        let about = "The caller's own name for the request: under one name it is run once.";
        described = described.takes(Place::Header, "Idempotency-Key", key, false, about);
    }
    described = match &fields.body {
        _ if !fields.files.is_empty() => described.form(form(&fields.files, fields.body.as_ref())),
        Some((body, is_required)) => described.body(body.clone(), *is_required),
        None => described.reads(),
    };
    described = answers(described, spec, fields, envelopes, method);
    if route.on_node {
        described = described.refuses(&[Refused::NoEntry]);
    }
    if path.contains('{') {
        described = described.refuses(&[Refused::NotFound]);
    }
    if spec.timeout.is_some() || spec.visit_timeout.is_some() {
        described = described.refuses(&[Refused::TimedOut]);
    }
    described
        .refuses(&[Refused::Invalid, Refused::KeyReused, Refused::Conflict, Refused::WalkerFailed])
        .writes()
        .end()
}

/// `list_things` is `List things`.
fn in_words(name: &str) -> String {
    let mut words = name.trim_matches('_').replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// Whether what a method asks for may be asked for twice by mistake.
fn changes(method: Method) -> bool {
    matches!(method, Method::Post | Method::Put | Method::Patch | Method::Delete)
}

/// With the login, or the key, that a walker asks for.
fn keyed(described: Describe, spec: &Spec) -> Describe {
    let refusals = [Refused::Unauthorized, Refused::Forbidden];
    match spec.webhook_key() {
        _ if spec.is_public() => described,
        None => described.key(BEARER).refuses(&refusals),
        Some(place) => match key_scheme(place) {
            Some(scheme) => described.key(&scheme).refuses(&refusals),
            // Its place is among the fields.
            None => described.refuses(&refusals),
        },
    }
}

/// The name of the security scheme of keys in headers and queries.
pub(super) fn key_scheme(place: KeyPlace) -> Option<String> {
    match place {
        KeyPlace::Header(name) => Some(format!("APIKeyHeader_{}", component(name))),
        KeyPlace::Query(name) => Some(format!("APIKeyQuery_{}", component(name))),
        KeyPlace::Path(_) | KeyPlace::Body(_) => None,
    }
}

/// A name as a part of a component's, which has few kinds of characters; no two are alike.
fn component(name: &str) -> String {
    let of_char = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c.to_string(),
        _ => format!(".{:x}", u32::from(c)),
    };
    name.chars().map(of_char).collect()
}

/// With the variables of the path, by the names that it has in the document, and the parameters of the query.
fn parameters(
    mut described: Describe,
    types: &Types,
    route: &Route,
    path: &str,
    fields: &Fields,
    spec: &Spec,
) -> Describe {
    let shown = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut variables: Vec<_> = route.template.variables().zip(shown).collect();
    let node = route.on_node.then(|| variables.pop()).flatten();
    for (name, shown) in variables {
        let field = fields.given.iter().find(|(field, _)| field.name == name);
        let (schema, about) = match field {
            Some((field, schema)) => (in_text(types, schema), field.description),
            None => (None, if spec.webhook_key().is_some() { "A webhook key." } else { "" }),
        };
        let mut schema = schema.unwrap_or_else(|| json!({ "type": "string" }));
        if schema == json!({ "type": "string" }) {
            put(&mut schema, "minLength", json!(1));
        }
        described = described.takes(Place::Path, shown, schema, true, about);
    }
    if let Some((_, shown)) = node {
        let node = json!({ "$ref": format!("{COMPONENTS}NodeId") });
        described = described.takes(Place::Path, shown, node, true, "The node to begin at.");
    }
    for (field, schema) in fields.given.iter().filter(|(field, _)| field.part == Part::Query) {
        // What no text says cannot be given.
        let Some(mut schema) = in_text(types, schema) else { continue };
        let required = field.kind == FieldKind::Required;
        if required && schema.get("type") == Some(&json!("array")) {
            // An empty list is not there at all.
            put(&mut schema, "minItems", json!(1));
        }
        described = described.takes(Place::Query, field.name, schema, required, field.description);
    }
    described
}

/// A schema for values that come as texts: without null, and without objects. None when nothing is left.
fn in_text(types: &Types, schema: &Value) -> Option<Value> {
    let mut schema = schema.clone();
    if let Some(items) = schema.get("items") {
        let items = one_text(types, items)?;
        put(&mut schema, "items", items);
        return Some(schema);
    }
    if let Some(forms) = schema.get("anyOf").and_then(Value::as_array) {
        let mut forms: Vec<Value> = forms.iter().filter_map(|form| in_text(types, form)).collect();
        let mut left = match forms.len() {
            0 => return None,
            1 => forms.swap_remove(0),
            _ => json!({ "anyOf": forms }),
        };
        if let Some(default) = schema.get("default") {
            put(&mut left, "default", default.clone());
        }
        return Some(left);
    }
    one_text(types, &schema)
}

fn one_text(types: &Types, schema: &Value) -> Option<Value> {
    let whole = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => types.resolve(reference)?,
        None => schema,
    };
    match whole.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "number" | "boolean") => Some(schema.clone()),
        Some(_) => None,
        None if whole.as_object().is_some_and(Map::is_empty) => Some(json!({ "type": "string" })),
        None => None,
    }
}

/// With what it answers when it runs.
fn answers(
    described: Describe,
    spec: &Spec,
    fields: &Fields,
    envelopes: &Envelopes,
    method: Method,
) -> Describe {
    let docs = &spec.docs;
    let text = |usual: &'static str| {
        if docs.response_description.is_empty() { usual } else { docs.response_description }
    };
    if spec.is_async() {
        let about = text("It is stored, and will run: what comes of it is told by `/walker/{walker_id}`.");
        return described.answers(200, about, envelopes.accepted.clone());
    }
    let has_body = |status: u16| method != Method::Head && !matches!(status, 204 | 304);
    let status = docs.status_code.unwrap_or(200);
    let reported = || vec![(JSON, envelopes.done.clone())];
    let (usual, others) = match &fields.answer {
        None => ("What it reported.", reported()),
        // Under another status it may say anything.
        Some((media, _)) => ("What it answers.", vec![(JSON, json!({})), (*media, json!({}))]),
    };
    let own = fields.answer.as_ref().map_or_else(reported, |answer| vec![answer.clone()]);
    let send = |described: Describe, status: u16, about: &str, content: &[Media]| match has_body(status) {
        true => described.sends(status, about, content.to_vec()),
        false => described.ends(status, about),
    };
    let described = send(described, status, text(usual), &own);
    let responses = docs.responses.iter();
    responses.fold(described, |described, (status, about)| send(described, *status, about, &others))
}
