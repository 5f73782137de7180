//! How operations are written down: what they take, what they answer, and why they refuse.

use std::collections::{BTreeMap, BTreeSet};

use aide::openapi::{
    HeaderStyle, MediaType, Operation, Parameter, ParameterData, ParameterSchemaOrContent, PathStyle,
    QueryStyle, ReferenceOr, RequestBody, Response, Responses, SchemaObject, StatusCode,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::refused::Refused;
use crate::input::schema::{self, Definitions};

/// The security scheme of logins, as Jac Cloud names it.
pub(crate) const BEARER: &str = "HTTPBearer";

/// Gathers the schemas that operations name.
pub(crate) struct Types {
    /// Those of types that serde reads, and those that are written by hand.
    definitions: Definitions,
    /// Those of types that are sent.
    sent: SchemaGenerator,
}

impl Types {
    pub(crate) fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12().for_serialize();
        settings.definitions_path = schema::COMPONENTS.trim_start_matches('#').trim_end_matches('/').into();
        settings.meta_schema = None;
        Self { definitions: Definitions::default(), sent: settings.into_generator() }
    }

    /// The schema of a type that is sent.
    pub(crate) fn sent<T: JsonSchema>(&mut self) -> Value {
        self.sent.subschema_for::<T>().to_value()
    }

    /// The schema of a type that is read.
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> Value {
        schema::of::<T>(&mut self.definitions)
    }

    /// A schema under a name.
    pub(crate) fn named(&mut self, name: &str, schema: Value) -> Value {
        self.definitions.add(name, schema)
    }

    pub(crate) fn definitions(&mut self) -> &mut Definitions {
        &mut self.definitions
    }

    /// The schema that a reference means.
    pub(crate) fn resolve(&self, reference: &str) -> Option<&Value> {
        self.definitions.get(reference)
    }

    /// Puts the sent types that are known by now among the others. Theirs are the names before those of an application's types.
    pub(crate) fn reserve(&mut self) {
        for (name, schema) in self.sent.definitions().clone() {
            self.definitions.set(name, schema);
        }
    }

    /// All that have names.
    pub(crate) fn into_schemas(self) -> Map<String, Value> {
        self.definitions.into_schemas()
    }
}

/// A schema as documents hold it.
pub(crate) fn held(schema: Value) -> SchemaObject {
    // What is no object or truth is no schema; there is none such here.
    let json_schema = Schema::try_from(schema).unwrap_or_default();
    SchemaObject { json_schema, external_docs: None, example: None }
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

/// One way to answer.
struct Answer {
    description: String,
    /// By media type.
    content: Vec<(&'static str, Value)>,
}

/// One operation, on its way.
pub(crate) struct Describe {
    operation: Operation,
    answers: BTreeMap<u16, Vec<Answer>>,
    refusals: Vec<Refused>,
}

impl Describe {
    /// An operation below a tag, by what it does in a few words.
    pub(crate) fn new(tag: &str, summary: &str) -> Self {
        let operation = Operation {
            tags: vec![tag.to_owned()],
            summary: Some(summary.to_owned()),
            ..Operation::default()
        };
        Self { operation, answers: BTreeMap::new(), refusals: Vec::new() }
    }

    pub(crate) fn tags(mut self, tags: &[&str]) -> Self {
        if !tags.is_empty() {
            self.operation.tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        }
        self
    }

    pub(crate) fn about(mut self, text: &str) -> Self {
        if !text.is_empty() {
            self.operation.description = Some(text.to_owned());
        }
        self
    }

    pub(crate) fn id(mut self, id: String) -> Self {
        self.operation.operation_id = Some(id);
        self
    }

    pub(crate) fn deprecated(mut self, is_deprecated: bool) -> Self {
        self.operation.deprecated = is_deprecated;
        self
    }

    /// Asks for a login.
    pub(crate) fn login(self) -> Self {
        self.key(BEARER).refuses(&[Refused::Unauthorized, Refused::Forbidden])
    }

    /// Takes a login, and goes on as the public without.
    pub(crate) fn anybody(mut self) -> Self {
        self.operation.security.push(Default::default());
        self.key(BEARER).refuses(&[Refused::Unauthorized])
    }

    /// Asks for what a security scheme describes.
    pub(crate) fn key(mut self, scheme: &str) -> Self {
        self.operation.security.push([(scheme.to_owned(), Vec::new())].into());
        self
    }

    /// Takes a parameter.
    pub(crate) fn takes(
        mut self,
        place: Place,
        name: &str,
        schema: Value,
        required: bool,
        description: &str,
    ) -> Self {
        let parameter_data = ParameterData {
            name: name.to_owned(),
            description: Some(description.to_owned()).filter(|text| !text.is_empty()),
            required,
            deprecated: None,
            format: ParameterSchemaOrContent::Schema(held(schema)),
            example: None,
            examples: Default::default(),
            explode: None,
            extensions: Default::default(),
        };
        self.operation.parameters.push(ReferenceOr::Item(match place {
            Place::Path => Parameter::Path { parameter_data, style: PathStyle::Simple },
            Place::Header => Parameter::Header { parameter_data, style: HeaderStyle::Simple },
            Place::Query => Parameter::Query {
                parameter_data,
                allow_reserved: false,
                style: QueryStyle::Form,
                allow_empty_value: None,
            },
        }));
        self
    }

    /// Takes JSON.
    pub(crate) fn body(mut self, schema: Value, required: bool) -> Self {
        let content = [("application/json".to_owned(), media(schema))].into();
        self.operation.request_body =
            Some(ReferenceOr::Item(RequestBody { content, required, ..RequestBody::default() }));
        self.reads().refuses(&[Refused::Invalid])
    }

    /// Takes files. What is no file comes as JSON, in a part named `body`.
    pub(crate) fn form(mut self, schema: Value) -> Self {
        let content = [("multipart/form-data".to_owned(), media(schema))].into();
        self.operation.request_body =
            Some(ReferenceOr::Item(RequestBody { content, required: true, ..RequestBody::default() }));
        self.reads().refuses(&[Refused::Invalid])
    }

    /// Reads a body, whatever is in it.
    pub(crate) fn reads(self) -> Self {
        self.refuses(&[Refused::Broken, Refused::Slow, Refused::TooLarge])
    }

    /// Asks the store.
    pub(crate) fn reads_store(self) -> Self {
        self.refuses(&[Refused::Failed, Refused::Unavailable])
    }

    /// Writes to the store.
    pub(crate) fn writes(self) -> Self {
        self.reads_store().refuses(&[Refused::Full])
    }

    /// Answers with JSON.
    pub(crate) fn answers(self, status: u16, description: &str, schema: Value) -> Self {
        self.sends(status, description, vec![("application/json", schema)])
    }

    /// Answers with nothing.
    pub(crate) fn ends(self, status: u16, description: &str) -> Self {
        self.sends(status, description, Vec::new())
    }

    /// Answers with what one of these media types names.
    pub(crate) fn sends(
        mut self,
        status: u16,
        description: &str,
        content: Vec<(&'static str, Value)>,
    ) -> Self {
        let answer = Answer { description: description.to_owned(), content };
        self.answers.entry(status).or_default().push(answer);
        self
    }

    /// May refuse for these reasons.
    pub(crate) fn refuses(mut self, refusals: &[Refused]) -> Self {
        for refused in refusals {
            if !self.refusals.contains(refused) {
                self.refusals.push(*refused);
            }
        }
        self
    }

    /// The operation as documents hold it. A status that has one meaning which others share is referred to.
    pub(crate) fn end(mut self) -> Operation {
        let mut responses = Responses::default();
        let mut refusals: BTreeMap<u16, Vec<Refused>> = BTreeMap::new();
        for refused in self.refusals {
            refusals.entry(refused.status()).or_default().push(refused);
        }
        let statuses = self.answers.keys().chain(refusals.keys()).copied().collect::<BTreeSet<_>>();
        for status in statuses {
            let (own, shared) = (
                self.answers.remove(&status).unwrap_or_default(),
                refusals.remove(&status).unwrap_or_default(),
            );
            let response = match (own.as_slice(), shared.as_slice()) {
                ([], [one]) => ReferenceOr::ref_(&one.reference()),
                _ => ReferenceOr::Item(merged(own.into_iter().chain(shared.iter().map(Refused::answer)))),
            };
            responses.responses.insert(StatusCode::Code(status), response);
        }
        self.operation.responses = Some(responses);
        self.operation
    }
}

fn media(schema: Value) -> MediaType {
    MediaType { schema: Some(held(schema)), ..MediaType::default() }
}

/// One response that says what all of these say.
fn merged(answers: impl Iterator<Item = Answer>) -> Response {
    let mut descriptions: Vec<String> = Vec::new();
    let mut content: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for answer in answers {
        if !descriptions.contains(&answer.description) {
            descriptions.push(answer.description);
        }
        for (media, schema) in answer.content {
            match content.iter_mut().find(|(known, _)| *known == media) {
                Some((_, schemas)) if schemas.contains(&schema) => {}
                Some((_, schemas)) => schemas.push(schema),
                None => content.push((media, vec![schema])),
            }
        }
    }
    let one_of = |mut schemas: Vec<Value>| match schemas.len() {
        1 => schemas.swap_remove(0),
        _ => json!({ "anyOf": schemas }),
    };
    let content =
        content.into_iter().map(|(kind, schemas)| (kind.to_owned(), media(one_of(schemas)))).collect();
    Response { description: descriptions.join(" Or: "), content, ..Response::default() }
}

impl Refused {
    fn answer(&self) -> Answer {
        Answer {
            description: self.description().to_owned(),
            content: vec![("application/json", self.schema())],
        }
    }

    /// As a component that operations share.
    pub(crate) fn response(&self) -> Response {
        merged(std::iter::once(self.answer()))
    }
}
