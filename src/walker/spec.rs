//! What a walker's type says about how it is called and driven.

use std::time::Duration;

use super::Model;
use crate::config::Config;

pub use crate::run::retry::Retry;

/// Where a walker may be spawned over HTTP and WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntryType {
    /// On the caller's root only.
    Root,
    /// On a named node only.
    Node,
    /// Either.
    #[default]
    Both,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are those of RFC 9110")]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
    Head,
    Trace,
    Options,
}

impl Method {
    /// As it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Head => "HEAD",
            Self::Trace => "TRACE",
            Self::Options => "OPTIONS",
        }
    }
}

/// Whether the caller gives a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// The caller must.
    Required,
    /// The caller may; there is a default.
    Optional,
    /// The caller cannot; what is given under its name is ignored.
    Excluded,
}

/// The part of a request over HTTP that a field comes in. Errors are told in this order, those of files with those of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Part {
    /// A variable of the path.
    Path,
    /// A parameter of the query.
    Query,
    /// A member of the JSON body.
    #[default]
    Body,
    /// A file of a multipart body. The members of the JSON body are in its part `body` then.
    File,
    /// Any number of files of a multipart body.
    Files,
}

impl Part {
    /// Its word in the location of an error.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body | Self::File | Self::Files => "body",
            Self::Query => "query",
            Self::Path => "path",
        }
    }
}

/// One field of a walker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// Who sets it.
    pub kind: FieldKind,
    /// Where a request over HTTP has it.
    pub part: Part,
    /// What it means, for documentation.
    pub description: &'static str,
}

/// Where a request has the key of a webhook walker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// In the header of this name.
    Header(&'static str),
    /// In the parameter of the query of this name.
    Query(&'static str),
    /// In the variable of the path of this name.
    Path(&'static str),
    /// In the member of the body of this name, beside the fields.
    Body(&'static str),
}

impl Default for KeyPlace {
    fn default() -> Self {
        Self::Header("X-API-KEY")
    }
}

/// When everything so far is committed, beside what an ability asks for with `cx.checkpoint()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpoints {
    /// At the end: all or nothing.
    #[default]
    End,
    /// After this many visits, again and again.
    Visits(u64),
    /// At the end of the first visit after this long, again and again.
    Every(Duration),
}

/// How a walker is called, and how its runs are driven. Written by `#[derive(Walker)]`, or by hand.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub(crate) asynchronous: bool,
    /// Whether a login is needed; none when the type does not say.
    pub(crate) auth: Option<bool>,
    /// Whether the type says how it is called.
    pub(crate) declared: bool,
    pub(crate) websocket: bool,
    pub(crate) private: bool,
    /// No ability of what it visits runs.
    pub(crate) unnoticed: bool,
    pub(crate) rerun_never: bool,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Duration>,
    pub(crate) visit_timeout: Option<Duration>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) version: u32,
    pub(crate) resumes: Vec<u32>,
    pub(crate) entry: EntryType,
    pub(crate) path: &'static str,
    pub(crate) methods: Vec<Method>,
    pub(crate) webhook: Option<KeyPlace>,
    pub(crate) description: &'static str,
    pub(crate) fields: Vec<Field>,
    pub(crate) docs: Docs,
}

/// What API documents say of a walker, beside what is worked out. It changes nothing of what the walker does, but that JSON which it
/// answers with has to be what `response_model` says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Docs {
    pub(crate) status_code: Option<u16>,
    pub(crate) tags: Vec<&'static str>,
    pub(crate) summary: &'static str,
    pub(crate) response_description: &'static str,
    pub(crate) responses: Vec<(u16, &'static str)>,
    pub(crate) response_model: Option<Model>,
    pub(crate) response_class: Option<&'static str>,
    pub(crate) is_deprecated: bool,
    pub(crate) is_left_out: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self::new()
    }
}

impl Spec {
    /// A plain walker without fields, on any node, for callers who are logged in unless the settings say otherwise.
    pub fn new() -> Self {
        Self {
            asynchronous: false,
            auth: None,
            declared: false,
            websocket: false,
            private: false,
            unnoticed: false,
            rerun_never: false,
            retry: Retry::default(),
            timeout: None,
            visit_timeout: None,
            checkpoints: Checkpoints::End,
            version: 1,
            resumes: Vec::new(),
            entry: EntryType::Both,
            path: "",
            methods: vec![Method::Post],
            webhook: None,
            description: "",
            fields: Vec::new(),
            docs: Docs::default(),
        }
    }
    /// Answered with its id at once, and run on the walker pool.
    #[must_use]
    pub fn asynchronous(mut self) -> Self {
        self.asynchronous = true;
        self
    }
    /// Needs no login: every caller acts as the public root.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.auth = Some(false);
        self.declared = true;
        self
    }
    /// Needs a login, whatever `require_auth_by_default` is.
    #[must_use]
    pub fn auth(mut self) -> Self {
        self.auth = Some(true);
        self.declared = true;
        self
    }
    /// May be called over the WebSocket as well.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self.declared = true;
        self
    }
    /// Has no endpoint: only other walkers spawn it.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self.declared = true;
        self
    }
    /// What it visits does nothing.
    #[must_use]
    pub(crate) fn unnoticed(mut self) -> Self {
        self.unnoticed = true;
        self
    }
    /// A run found started after a crash fails as `lost` instead of being taken up again.
    #[must_use]
    pub fn rerun_never(mut self) -> Self {
        self.rerun_never = true;
        self
    }
    /// What follows a failed attempt. Only of async walkers, as plain ones have nobody to wait for the next.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
    /// How long a run may take, from its submission or the time that it was scheduled for: all attempts and waits. Beyond it the run
    /// ends as `timed-out`.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
    /// How long one visit may take. Beyond it the attempt ends as `timed-out`.
    #[must_use]
    pub fn visit_timeout(mut self, timeout: Duration) -> Self {
        self.visit_timeout = Some(timeout);
        self
    }
    /// When everything so far is committed.
    #[must_use]
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = checkpoints;
        self
    }
    /// The version of the walker's code, from 1. A traversal that stands at a checkpoint of another version begins again from its
    /// submission, unless this version [`resumes`](Spec::resumes) that one.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }
    /// The versions whose checkpoints this one goes on from.
    #[must_use]
    pub fn resumes(mut self, versions: &[u32]) -> Self {
        self.resumes = versions.to_vec();
        self
    }
    /// Where it may be spawned.
    #[must_use]
    pub fn entry(mut self, entry: EntryType) -> Self {
        self.entry = entry;
        self.declared = true;
        self
    }
    /// Where it is called: nothing for `/walker/<name>`, a path without a slash at its beginning for one below that, any other as the
    /// whole. A segment `{x}` gives the field `x`. One that may enter at a node is also called at `<path>/{node}`.
    #[must_use]
    pub fn path(mut self, path: &'static str) -> Self {
        self.path = path;
        self.declared = true;
        self
    }
    /// By which methods it is called, instead of POST. With none it has no path, and is called over the WebSocket or not at all.
    #[must_use]
    pub fn methods(mut self, methods: &[Method]) -> Self {
        self.methods = methods.to_vec();
        self.methods.sort_unstable();
        self.methods.dedup();
        self.declared = true;
        self
    }
    /// Called over HTTP with a webhook key instead of a login, and below `/webhook/walker` instead of `/walker`. It acts as the root
    /// of who made the key.
    #[must_use]
    pub fn webhook(mut self, key: KeyPlace) -> Self {
        self.webhook = Some(key);
        self.declared = true;
        self
    }
    /// What it does, for documentation.
    #[must_use]
    pub fn describe(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }
    /// One line about it, for documentation; its name in words unless given.
    #[must_use]
    pub fn summary(mut self, text: &'static str) -> Self {
        self.docs.summary = text;
        self
    }
    /// Under which words it stands in API documents, instead of `Walker APIs`.
    #[must_use]
    pub fn tags(mut self, tags: &[&'static str]) -> Self {
        self.docs.tags = tags.to_vec();
        self
    }
    /// The status that it sets when all goes well, for documentation; 200 unless given.
    #[must_use]
    pub fn status_code(mut self, status: u16) -> Self {
        self.docs.status_code = Some(status);
        self
    }
    /// What it is answered with when all goes well, for documentation.
    #[must_use]
    pub fn response_description(mut self, text: &'static str) -> Self {
        self.docs.response_description = text;
        self
    }
    /// Another status that it may set, and what that says, for documentation.
    #[must_use]
    pub fn response(mut self, status: u16, text: &'static str) -> Self {
        self.docs.responses.push((status, text));
        self
    }
    /// What JSON that it gives to `cx.respond` has to be: other JSON fails the attempt, for good. An answer with a status of 400 or
    /// more, bytes and streams are not asked.
    #[must_use]
    pub fn response_model(mut self, model: Model) -> Self {
        self.docs.response_model = Some(model);
        self
    }
    /// The media type of what it gives to `cx.respond`, as `text/html`, for documentation: nobody checks what it gives.
    #[must_use]
    pub fn response_class(mut self, media_type: &'static str) -> Self {
        self.docs.response_class = Some(media_type);
        self
    }
    /// Should not be called any more, for documentation.
    #[must_use]
    pub fn deprecated(mut self) -> Self {
        self.docs.is_deprecated = true;
        self
    }
    /// Stands in no API document. It can be called all the same.
    #[must_use]
    pub fn left_out(mut self) -> Self {
        self.docs.is_left_out = true;
        self
    }
    /// Adds a field of the body, in the order of the type.
    #[must_use]
    pub fn field(self, name: &'static str, kind: FieldKind) -> Self {
        self.field_in(name, kind, Part::Body)
    }
    /// Adds a field that comes in this part of a request.
    #[must_use]
    pub fn field_in(mut self, name: &'static str, kind: FieldKind, part: Part) -> Self {
        self.fields.push(Field { name, kind, part, description: "" });
        self
    }
    /// What the field added last means, for documentation.
    #[must_use]
    pub fn describe_field(mut self, text: &'static str) -> Self {
        if let Some(field) = self.fields.last_mut() {
            field.description = text;
        }
        self
    }
    /// True for walkers answered with their id.
    pub fn is_async(&self) -> bool {
        self.asynchronous
    }
    /// True when no login is needed.
    pub fn is_public(&self) -> bool {
        self.auth == Some(false)
    }
    /// True when it may be called over the WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }
    /// True when it has no endpoint.
    pub fn is_private(&self) -> bool {
        self.private
    }
    /// What an answer of its own has to be, when the type says so.
    pub fn model(&self) -> Option<&Model> {
        self.docs.response_model.as_ref()
    }
    /// Where a request has its key, when it is a webhook walker.
    pub fn webhook_key(&self) -> Option<KeyPlace> {
        self.webhook
    }
    /// What holds where the type does not say: `require_auth_by_default` and `disable_auto_endpoint`.
    pub(crate) fn settle(&mut self, config: &Config) {
        self.auth.get_or_insert(config.require_auth_by_default);
        self.private |= config.disable_auto_endpoint && !self.declared;
    }
    /// Whether a checkpoint of a version of the walker can be gone on from.
    pub(crate) fn takes_up(&self, version: u32) -> bool {
        version == self.version || self.resumes.contains(&version)
    }
    /// The field of a name.
    pub(crate) fn field_of(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
    /// Where it may be spawned.
    pub fn entry_type(&self) -> EntryType {
        self.entry
    }
}
