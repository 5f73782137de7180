//! Where walkers are called over HTTP: the paths and methods that their types ask for.
//!
//! The paths of `walker w`, in the way of Jac Cloud: none is `/walker/w`, one without a slash at its beginning is below that, and one
//! with it is the whole. Of a webhook walker it is `/webhook/walker/w`. A walker that may enter at a node is also called at `<path>/{node}`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use walkabout_schema::Name;

use crate::walker::{EntryType, Method, Spec};

/// What the paths of the server itself begin with, now or later. What it serves below `/walker` takes the id of a run there.
pub(crate) const RESERVED: [&str; 15] = [
    "walkers",
    "user",
    "files",
    "websocket",
    "healthz",
    "livez",
    "readyz",
    "webhook",
    "util",
    "sso",
    "docs",
    "redoc",
    "openapi.json",
    "openapi.yaml",
    "asyncapi.json",
];

/// The variable of the entry node.
const NODE: &str = "node";

/// One path under which a walker is called.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    pub(crate) template: Template,
    pub(crate) methods: Vec<Method>,
    pub(crate) walker: Name,
    /// Its last variable is the entry node.
    pub(crate) on_node: bool,
}

/// A path with variables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Segment>);

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Literal(String),
    Variable(String),
}

impl Template {
    /// The path of a walker, called by this name.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence that goes on after the walker's name.
    pub(crate) fn of(name: &str, spec: &Spec) -> Result<Self, String> {
        let path = spec.path;
        let base = if spec.webhook.is_some() { "webhook/walker" } else { "walker" };
        let whole = match path {
            "" => format!("{base}/{name}"),
            _ => path.strip_prefix('/').map_or_else(|| format!("{base}/{name}/{path}"), str::to_owned),
        };
        let segments: Result<Vec<_>, String> = whole.split('/').map(|text| segment(text, path)).collect();
        let template = Self(segments?);
        let mut seen = BTreeSet::new();
        if let Some(twice) = template.variables().find(|name| !seen.insert(*name)) {
            return Err(format!("has {{{twice}}} twice in its path {path:?}"));
        }
        let own = match template.0.as_slice() {
            _ if !path.starts_with('/') => None,
            [Segment::Literal(first), ..] if RESERVED.contains(&first.as_str()) => Some(first),
            [Segment::Variable(_), ..] => {
                return Err(format!(
                    "has the path {path:?}: a path of its own begins with a word, as /things/{{id}}"
                ));
            }
            [Segment::Literal(first), rest @ ..] if first == "walker" => {
                let below =
                    |segment: &Segment| matches!(segment, Segment::Literal(text) if !text.contains(':'));
                (!rest.first().is_some_and(below)).then_some(first)
            }
            _ => None,
        };
        match own {
            Some(first) => Err(format!("has the path {path:?}: what is under /{first} is the server's own")),
            None => Ok(template),
        }
    }

    /// The names of the variables, in order.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Variable(name) => Some(name.as_str()),
        })
    }

    /// The path with its variables by number: paths that serve the same requests are the same here.
    pub(crate) fn shape(&self) -> String {
        let mut shape = String::new();
        let mut variables = 0;
        for segment in &self.0 {
            let written = match segment {
                Segment::Literal(text) => write!(shape, "/{text}"),
                Segment::Variable(_) => {
                    variables += 1;
                    write!(shape, "/{{{variables}}}")
                }
            };
            // A text takes whatever is written.
            debug_assert!(written.is_ok());
        }
        shape
    }

    /// The path with the names of its variables.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
    pub(crate) fn named(&self) -> String {
        let segment = |segment: &Segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Variable(name) => format!("/{{{name}}}"),
        };
        self.0.iter().map(segment).collect()
    }

    fn with_node(mut self) -> Self {
        self.0.push(Segment::Variable(NODE.to_owned()));
        self
    }
}

fn segment(text: &str, path: &str) -> Result<Segment, String> {
    let refuse = |why: &str| Err(format!("has the path {path:?}: {why}"));
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        if name == NODE {
            return refuse("{node} stands for the entry node and is added by itself");
        }
        if Name::new(name).is_err() {
            return refuse("a variable is the name of a field in braces, as {id}");
        }
        return Ok(Segment::Variable(name.to_owned()));
    }
    if text.contains(['{', '}']) {
        return refuse("a variable takes a whole segment, as /{id}/");
    }
    if text.is_empty() || matches!(text, "." | "..") {
        return refuse("its segments are neither empty nor dots");
    }
    if text.starts_with([':', '*']) {
        return refuse("a variable is written as {id}, and takes one segment");
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    if !text.bytes().all(is_plain) {
        return refuse("it has characters that a path writes otherwise: use letters, digits, - and _");
    }
    Ok(Segment::Literal(text.to_owned()))
}

/// The routes of a walker under its names. One that has no endpoint has none.
///
/// # Errors
/// Those of [`Template::of`].
pub(crate) fn of<'n>(
    walker: &Name,
    names: impl Iterator<Item = &'n Name>,
    spec: &Spec,
) -> Result<Vec<Route>, String> {
    let mut routes = Vec::new();
    if spec.is_private() {
        return Ok(routes);
    }
    // A whole path is the same under all names.
    let names = names.take(if spec.path.starts_with('/') { 1 } else { usize::MAX });
    for name in names {
        let template = Template::of(name.as_str(), spec)?;
        let mut add = |template, on_node| {
            routes.push(Route { template, methods: spec.methods.clone(), walker: walker.clone(), on_node });
        };
        if spec.entry_type() != EntryType::Node {
            add(template.clone(), false);
        }
        if spec.entry_type() != EntryType::Root {
            add(template.with_node(), true);
        }
    }
    Ok(routes)
}

/// What is wrong with routes beside each other: two for the same requests.
pub(crate) fn clashes(routes: &[Route]) -> Vec<String> {
    let mut taken: BTreeMap<(String, Method), &Name> = BTreeMap::new();
    let mut clashes = Vec::new();
    for route in routes {
        for method in &route.methods {
            let shape = route.template.shape();
            if let Some(other) = taken.insert((shape.clone(), *method), &route.walker) {
                let (walker, method) = (&route.walker, method.as_str());
                clashes.push(format!(
                    "walkers {other} and {walker} are both called by {method} {shape}: give one another path"
                ));
            }
        }
    }
    clashes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walker::KeyPlace;

    fn of(path: &'static str) -> Result<Template, String> {
        Template::of("w", &Spec::new().path(path))
    }

    fn shape(path: &'static str) -> String {
        of(path).unwrap().shape()
    }

    #[test]
    fn paths_of_a_walker() {
        assert_eq!(shape(""), "/walker/w");
        assert_eq!(shape("a/{x}"), "/walker/w/a/{1}");
        assert_eq!(shape("/things/{x}/of/{y}"), "/things/{1}/of/{2}");
        assert_eq!(shape("/walker/other/{x}"), "/walker/other/{1}");
        let webhook =
            |path| Template::of("w", &Spec::new().path(path).webhook(KeyPlace::default())).unwrap().shape();
        assert_eq!([webhook(""), webhook("a/{x}")], ["/webhook/walker/w", "/webhook/walker/w/a/{1}"]);
        assert_eq!(webhook("/hooks/{x}"), "/hooks/{1}");
    }

    #[test]
    fn paths_that_are_refused() {
        for (path, why) in [
            ("/", "empty"),
            ("/a/", "empty"),
            ("a//b", "empty"),
            ("/a/../b", "dots"),
            ("/a/{x}.json", "whole segment"),
            ("/a/{x y}", "name of a field"),
            ("/a/{}", "name of a field"),
            ("/a/:x", "written as {id}"),
            ("/*rest", "written as {id}"),
            ("/{x}/a", "begins with a word"),
            ("/a/{x}/{x}", "twice"),
            ("/a/{node}", "entry node"),
            ("/a b", "characters"),
            ("/a?b", "characters"),
            ("/user/things", "under /user"),
            ("/webhook/walker/x", "under /webhook"),
            ("/walker", "under /walker"),
            ("/walker/{x}", "under /walker"),
            ("/walker/w:x:1", "under /walker"),
        ] {
            let error = of(path).unwrap_err();
            assert!(error.contains(why), "{path}: {error}");
        }
    }

    #[test]
    fn routes_of_a_walker() {
        let names = ["w", "old"].map(|name| Name::new(name).unwrap());
        let shapes = |spec: &Spec| -> Vec<String> {
            let routes = super::of(&names[0], names.iter(), spec).unwrap();
            routes.iter().map(|route| route.template.shape()).collect()
        };
        assert_eq!(shapes(&Spec::new()), ["/walker/w", "/walker/w/{1}", "/walker/old", "/walker/old/{1}"]);
        assert_eq!(shapes(&Spec::new().path("/a").entry(EntryType::Root)), ["/a"]);
        assert_eq!(shapes(&Spec::new().path("/a").entry(EntryType::Node)), ["/a/{1}"]);
        assert!(shapes(&Spec::new().private()).is_empty());
        let both = [
            super::of(&names[0], names[..1].iter(), &Spec::new().path("/a/{x}")).unwrap(),
            super::of(&names[1], names[1..].iter(), &Spec::new().path("/a").entry(EntryType::Node)).unwrap(),
        ];
        let clashes = clashes(&both.concat());
        assert_eq!(clashes, ["walkers w and old are both called by POST /a/{1}: give one another path"]);
    }
}
