//! Looks around in the graph.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use walkabout_schema::{ElementId, Kind, wire::Traversed};

use super::{
    Server, extract,
    openapi::{Describe, Place, Refused, Types},
    problem::{Refusal, TOO_LARGE, answer},
    walkers::extend_by_query,
};
use crate::{
    Error, Result,
    input::{self, Input},
    traverse::{Items, Traversal, Traverse},
    walker::{FieldKind, Part, Spec},
};

/// The query, as Jac Cloud has it.
#[derive(Deserialize)]
#[serde(default)]
struct Asked {
    source: Option<Source>,
    detailed: bool,
    /// Negative: as deep as it goes.
    depth: i64,
    node_types: Option<Vec<String>>,
    edge_types: Option<Vec<String>>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { source: None, detailed: false, depth: 1, node_types: None, edge_types: None }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "ElementId")]
struct Source(ElementId);

impl TryFrom<ElementId> for Source {
    type Error = String;

    fn try_from(id: ElementId) -> Result<Self, String> {
        match id.kind() {
            Kind::Node | Kind::Edge => Ok(Self(id)),
            Kind::Object | Kind::Walker => Err(format!("{id} is not the id of a node or an edge")),
        }
    }
}

/// `GET /util/traverse`.
pub(crate) async fn traverse(
    State(server): State<Arc<Server>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let traversal = open(&server, &uri, &headers).await?;
    Ok(answer(StatusCode::OK, &traversal.all().await?))
}

/// How `GET /util/traverse` is documented.
pub(crate) fn describe_traverse(types: &mut Types) -> Describe {
    let traversed = types.sent::<Traversed>();
    describe(types, "Look around")
        .about("What lies around a node or an edge, as the caller may see it.")
        .answers(200, "Nodes and edges, each once.", traversed)
        .refuses(&[Refused::TooLarge])
}

/// How `GET /util/traverse-stream` is documented.
pub(crate) fn describe_stream(types: &mut Types) -> Describe {
    let lines: Value = json!({ "type": "string", "contentMediaType": "application/json" });
    describe(types, "Look around, step by step")
        .about("As `/util/traverse`, with an object on a line for each step, which has `nodes` or `edges`.")
        .answers(200, "A stream of lines.", lines)
}

fn describe(types: &mut Types, summary: &str) -> Describe {
    let truth = json!({ "type": "boolean", "default": false });
    let depth = json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX, "default": 1 });
    let names = json!({ "type": "array", "items": { "type": "string" } });
    let source = types.read::<Source>();
    Describe::new("Utility APIs", summary)
        .login()
        .takes(Place::Query, "source", source, false, "Where to begin; the caller's root unless given.")
        .takes(Place::Query, "detailed", truth, false, "Whether fields are shown.")
        .takes(Place::Query, "depth", depth, false, "How many steps; negative for all there are.")
        .takes(
            Place::Query,
            "node_types",
            names.clone(),
            false,
            "Nodes to step from; an empty name is a root.",
        )
        .takes(Place::Query, "edge_types", names, false, "Edges to step from; an empty name is a plain edge.")
        .refuses(&[Refused::NotFound, Refused::Invalid])
        .reads_store()
}

/// `GET /util/traverse-stream`: one object on a line for each step. The client's reading drives it.
pub(crate) async fn traverse_stream(
    State(server): State<Arc<Server>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let lines = Lines { traversal: Some(open(&server, &uri, &headers).await?), step: None };
    let pieces = stream::unfold(lines, |mut lines| async move {
        let piece = lines.next().await.transpose()?;
        Some((piece, lines))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn open(server: &Server, uri: &Uri, headers: &HeaderMap) -> Result<Traversal, Refusal> {
    let caller = extract::user(server, headers).await?;
    let Asked { source, detailed, depth, node_types, edge_types } = asked(uri)?;
    let source = source.map(|Source(id)| id);
    let depth = u64::try_from(depth).ok();
    let wants = Traverse { source, detailed, depth, node_types, edge_types };
    server.runtime.traverse(&caller, wants).await?.ok_or(Refusal::NotFound)
}

fn asked(uri: &Uri) -> Result<Asked, Refusal> {
    let names = ["source", "detailed", "depth", "node_types", "edge_types"];
    let spec = names
        .into_iter()
        .fold(Spec::new(), |spec, name| spec.field_in(name, FieldKind::Optional, Part::Query));
    let mut fields = Map::new();
    extend_by_query(&mut fields, &spec, uri)?;
    input::read(Input::of(&spec, fields)).map_err(|errors| Error::Invalid(errors).into())
}

/// A traverse as text: each step one object, written as its parts come.
struct Lines {
    /// None at the end.
    traversal: Option<Traversal>,
    /// The step whose object is open.
    step: Option<u64>,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(mut traversal) = self.traversal.take() else { return Ok(None) };
        let mut text = Vec::new();
        match traversal.next().await {
            Ok(Some(part)) => {
                match self.step.replace(part.step) {
                    Some(step) if step == part.step => text.push(b','),
                    open => {
                        end(open, &mut text);
                        text.extend_from_slice(match &part.items {
                            Items::Nodes(_) => b"{\"nodes\":[",
                            Items::Edges(_) => b"{\"edges\":[",
                        });
                    }
                }
                match &part.items {
                    Items::Nodes(nodes) => list(nodes, &mut text)?,
                    Items::Edges(edges) => list(edges, &mut text)?,
                }
                self.traversal = Some(traversal);
            }
            Ok(None) => end(self.step, &mut text),
            Err(error @ Error::TraverseTooLarge) => {
                end(self.step, &mut text);
                let last = serde_json::json!({ "detail": TOO_LARGE, "code": error.code() });
                text.extend_from_slice(format!("{last}\n").as_bytes());
            }
            Err(error) => return Err(error),
        }
        Ok(Some(Bytes::from(text)))
    }
}

/// Ends the object that is open.
fn end(step: Option<u64>, text: &mut Vec<u8>) {
    if step.is_some() {
        text.extend_from_slice(b"]}\n");
    }
}

/// Writes the items of a list, without its brackets.
fn list<T: serde::Serialize>(items: &[T], text: &mut Vec<u8>) -> Result<()> {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, item)
            .map_err(|source| Error::Io { context: "writing an answer".to_owned(), source: source.into() })?;
    }
    Ok(())
}
