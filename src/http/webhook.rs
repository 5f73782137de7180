//! Makes webhook keys, lists, extends and deletes them: each user those of their own.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use walkabout_schema::{Key, Timestamp, User, WebhookKey};

use super::{
    Server,
    extract::{self, Segments},
    openapi::{Describe, Place, Refused, Types},
    problem::{Detail, Refusal, answer},
    shapes::Message,
    tokens::Login,
    users::{self, ALREADY_EXISTS},
};
use crate::walker::{FieldKind, Spec};

/// Keys of one user.
const KEYS_MAX: usize = 100;
/// Bytes of their names and lists: they are read with their user.
const KEYS_BYTES_MAX: usize = 64 << 10;
/// The longest name of a key, a walker or a type of nodes, in characters.
const NAME_MAX: usize = 255;
/// How many walkers a key lists, and how many types of nodes.
const LISTED_MAX: usize = 100;
/// How far away the end of a key may be: a hundred years.
const SPAN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a key is to be.
#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    walkers: Vec<String>,
    #[serde(default)]
    nodes: Vec<String>,
    #[serde(default)]
    expiration: Span,
}

/// So many of these.
#[derive(Deserialize)]
#[serde(default)]
struct Span {
    /// Looked at apart: a text or a fraction is not taken for a number here.
    count: Value,
    interval: Interval,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Interval {
    Seconds,
    Minutes,
    Hours,
    Days,
}

impl Default for Span {
    fn default() -> Self {
        Self { count: 60.into(), interval: Interval::Days }
    }
}

impl Span {
    /// How long it is; none when its count is wrong.
    fn read(&self, loc: &[&str], wrong: &mut Vec<Detail>) -> Option<Duration> {
        let unit: u64 = match self.interval {
            Interval::Seconds => 1,
            Interval::Minutes => 60,
            Interval::Hours => 3600,
            Interval::Days => 24 * 3600,
        };
        let max = SPAN_MAX.as_secs() / unit;
        let (kind, msg, ctx) = match self.count.as_i64() {
            None => ("int_type", "Input should be a valid integer".to_owned(), Value::Null),
            Some(..=0) => ("greater_than", "Input should be greater than 0".to_owned(), json!({ "gt": 0 })),
            Some(count) if count.unsigned_abs() > max => {
                let msg = format!("Input should be less than or equal to {max}");
                ("less_than_equal", msg, json!({ "le": max }))
            }
            Some(count) => return Some(Duration::from_secs(count.unsigned_abs() * unit)),
        };
        let loc = loc.iter().chain(&["count"]).map(|&name| name.into()).collect();
        wrong.push(Detail::new(kind, loc, msg).input(self.count.clone()).ctx(ctx));
        None
    }
}

/// `GET /webhook`: the caller's keys, those that have ended too.
pub(crate) async fn list(State(server): State<Arc<Server>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let (_, login) = extract::login(&server, &headers).await?;
    let user = server.runtime.user(&login.email).await?.filter(|user| login.is_listed(user));
    let user = user.ok_or(Refusal::Unauthorized)?;
    let root = user.root_id.0;
    let shown = |key: WebhookKey| Shown {
        id: key.id.0.to_string(),
        root_id: root.simple().to_string(),
        key: server.keys.text(root, &key),
        name: key.name,
        walkers: key.walkers,
        nodes: key.nodes,
        expiration: key.ends_at,
    };
    let keys = user.webhook_keys.into_iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &Listed { keys }))
}

/// The keys of a user.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookKeys")]
struct Listed {
    keys: Vec<Shown>,
}

/// A key as its owner sees it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookKey")]
struct Shown {
    /// A UUID.
    id: String,
    name: String,
    /// The root that it acts as, 32 hexadecimal digits.
    root_id: String,
    /// The walkers that it is for; all when there are none.
    walkers: Vec<String>,
    /// The types of nodes that it is for; all when there are none.
    nodes: Vec<String>,
    /// When it ends.
    expiration: Timestamp,
    /// The key itself.
    key: String,
}

/// How `GET /webhook` is documented.
pub(crate) fn describe_list(types: &mut Types) -> Describe {
    let listed = types.sent::<Listed>();
    Describe::new(TAG, "List webhook keys")
        .about("The caller's own, those that have ended too.")
        .login()
        .answers(200, "The keys.", listed)
        .reads_store()
}

/// The tag of operations on keys.
const TAG: &str = "Webhook APIs";

/// How many of what, as documents show it: within a hundred years, whatever they are.
fn span_schema() -> Value {
    let count = json!({ "type": "integer", "minimum": 1, "maximum": SPAN_MAX.as_secs() / (24 * 3600), "default": 60 });
    let interval =
        json!({ "type": "string", "enum": ["seconds", "minutes", "hours", "days"], "default": "days" });
    json!({ "type": "object", "properties": { "count": count, "interval": interval } })
}

/// `POST /webhook/generate-key`.
pub(crate) async fn generate(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Response, Refusal> {
    static SPEC: LazyLock<Spec> = LazyLock::new(|| {
        let optional = ["walkers", "nodes", "expiration"];
        let spec = Spec::new().field("name", FieldKind::Required);
        optional.into_iter().fold(spec, |spec, name| spec.field(name, FieldKind::Optional))
    });
    let (login, wanted) = extract::body::<Wanted>(&server, request, &SPEC).await?;
    let (key, root) = add(&server, &login, checked(&server, wanted)?).await?;
    let text = server.keys.text(root, &key);
    let made = Made { id: key.id.0.to_string(), name: key.name, key: text };
    Ok(answer(StatusCode::CREATED, &made))
}

/// A new key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewWebhookKey")]
struct Made {
    /// A UUID.
    id: String,
    name: String,
    /// The key itself.
    key: String,
}

/// How `POST /webhook/generate-key` is documented.
pub(crate) fn describe_generate(types: &mut Types) -> Describe {
    let name = json!({ "type": "string", "minLength": 1, "maxLength": NAME_MAX });
    let names = json!({ "type": "array", "items": name, "maxItems": LISTED_MAX, "default": [] });
    let expiration = types.named("Span", span_schema());
    let properties = json!({ "name": name, "walkers": names, "nodes": names, "expiration": expiration });
    let wanted = json!({ "type": "object", "properties": properties, "required": ["name"] });
    let (wanted, made) = (types.named("WantedWebhookKey", wanted), types.sent::<Made>());
    Describe::new(TAG, "Make a webhook key")
        .about("With it others call webhook walkers as the caller: those that it lists, or all.")
        .login()
        .body(wanted, true)
        .answers(201, "The key.", made)
        .refuses(&[Refused::Conflict])
        .writes()
}

/// The key that is wanted, or all that is wrong with it.
fn checked(server: &Server, wanted: Wanted) -> Result<WebhookKey, Refusal> {
    let mut wrong = Vec::new();
    check_name(&wanted.name, vec!["body".into(), "name".into()], &mut wrong);
    for (member, list) in [("walkers", &wanted.walkers), ("nodes", &wanted.nodes)] {
        let loc = vec!["body".into(), member.into()];
        if list.len() > LISTED_MAX {
            let found = list.len();
            let msg = format!("List should have at most {LISTED_MAX} items after validation, not {found}");
            let ctx = json!({ "field_type": "List", "max_length": LISTED_MAX, "actual_length": found });
            wrong.push(Detail::new("too_long", loc, msg).ctx(ctx));
            continue;
        }
        for (index, name) in list.iter().enumerate() {
            check_name(name, [&loc[..], &[index.into()]].concat(), &mut wrong);
        }
    }
    let span = wanted.expiration.read(&["body", "expiration"], &mut wrong);
    let Some(span) = span.filter(|_| wrong.is_empty()) else { return Err(Refusal::Unprocessable(wrong)) };
    let Wanted { name, walkers, nodes, .. } = wanted;
    let (id, now) = (Key(server.runtime.env().id()), server.runtime.now());
    Ok(WebhookKey { id, name, walkers, nodes, created_at: now, ends_at: now.plus(span) })
}

fn check_name(name: &str, loc: Vec<Value>, wrong: &mut Vec<Detail>) {
    let refuse = |kind: &str, msg: String, ctx| Detail::new(kind, loc, msg).input(name.into()).ctx(ctx);
    if name.is_empty() {
        let msg = "String should have at least 1 character".to_owned();
        wrong.push(refuse("string_too_short", msg, json!({ "min_length": 1 })));
    } else if name.chars().count() > NAME_MAX {
        let msg = format!("String should have at most {NAME_MAX} characters");
        wrong.push(refuse("string_too_long", msg, json!({ "max_length": NAME_MAX })));
    }
}

/// Adds a key to those of its user; gives it with the root that it acts as.
async fn add(server: &Server, login: &Login, key: WebhookKey) -> Result<(WebhookKey, Uuid), Refusal> {
    let (mut root, mut clash) = (None, None);
    let is_added = users::change(server, login, |user| {
        root = Some(user.root_id.0);
        clash = clash_of(&key, &user.webhook_keys);
        if clash.is_none() {
            user.webhook_keys.push(key.clone());
        }
        clash.is_none()
    });
    match (is_added.await?, root) {
        (true, Some(root)) => Ok((key, root)),
        _ => Err(clash.map_or(Refusal::Unauthorized, Refusal::Clash)),
    }
}

/// Why a key cannot be beside others.
fn clash_of(key: &WebhookKey, others: &[WebhookKey]) -> Option<&'static str> {
    let listed = |key: &WebhookKey| key.walkers.iter().chain(&key.nodes).map(String::len).sum::<usize>();
    let bytes: usize = others.iter().chain([key]).map(|key| key.name.len() + listed(key)).sum();
    if others.iter().any(|other| other.name == key.name) {
        Some(ALREADY_EXISTS)
    } else if others.len() >= KEYS_MAX || bytes > KEYS_BYTES_MAX {
        Some("The keys of this user take no more: delete one first, or list less")
    } else {
        None
    }
}

/// `PATCH /webhook/extend/{id}`: from the end that the key has, also when that is over.
pub(crate) async fn extend(
    State(server): State<Arc<Server>>,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Refusal> {
    static SPEC: LazyLock<Spec> = LazyLock::new(|| {
        Spec::new().field("count", FieldKind::Optional).field("interval", FieldKind::Optional)
    });
    let (login, span) = extract::body::<Span>(&server, request, &SPEC).await?;
    let mut wrong = Vec::new();
    let span = span.read(&["body"], &mut wrong).ok_or(Refusal::Unprocessable(wrong))?;
    let id = Uuid::try_parse(&id).map_err(|_| Refusal::NotFound)?;
    let latest = server.runtime.now().plus(SPAN_MAX);
    let mut is_too_far = false;
    let is_extended = users::change(&server, &login, |user| {
        let place = position(user, id);
        let Some(key) = place.and_then(|place| user.webhook_keys.get_mut(place)) else { return false };
        key.ends_at = key.ends_at.plus(span);
        is_too_far = key.ends_at > latest;
        !is_too_far
    });
    match is_extended.await? {
        true => Ok(answer(StatusCode::OK, &Message { message: "Successfully Extended!" })),
        false if is_too_far => Err(Refusal::Clash("A key ends within a hundred years: extend it by less")),
        false => Err(Refusal::NotFound),
    }
}

/// How `PATCH /webhook/extend/{id}` is documented.
pub(crate) fn describe_extend(types: &mut Types) -> Describe {
    let (id, span) = (json!({ "type": "string", "format": "uuid" }), types.named("Span", span_schema()));
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Extend a webhook key")
        .about("From the end that it has, also when that is over.")
        .login()
        .takes(Place::Path, "id", id, true, "The key's id.")
        .body(span, true)
        .answers(200, "It ends later.", message)
        .refuses(&[Refused::NotFound, Refused::Conflict])
        .writes()
}

/// `DELETE /webhook/delete`: all of these keys, or none when one of them is not there.
pub(crate) async fn delete(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Which {
        ids: Vec<String>,
    }
    static SPEC: LazyLock<Spec> = LazyLock::new(|| Spec::new().field("ids", FieldKind::Required));
    let (login, Which { ids }) = extract::body(&server, request, &SPEC).await?;
    if ids.is_empty() {
        let msg = "List should have at least 1 item after validation, not 0";
        let ctx = json!({ "field_type": "List", "min_length": 1, "actual_length": 0 });
        let loc = vec!["body".into(), "ids".into()];
        return Err(Refusal::detail(Detail::new("too_short", loc, msg).input(json!([])).ctx(ctx)));
    }
    let ids: Result<BTreeSet<_>, _> = ids.iter().map(|id| Uuid::try_parse(id)).collect();
    let ids = ids.map_err(|_| Refusal::NotFound)?;
    let are_deleted = users::change(&server, &login, |user| {
        let are_there = ids.iter().all(|id| position(user, *id).is_some());
        user.webhook_keys.retain(|key| !ids.contains(&key.id.0));
        are_there
    });
    if !are_deleted.await? {
        return Err(Refusal::NotFound);
    }
    Ok(answer(StatusCode::OK, &Message { message: "Successfully Deleted!" }))
}

/// How `DELETE /webhook/delete` is documented.
pub(crate) fn describe_delete(types: &mut Types) -> Describe {
    let id = json!({ "type": "string", "format": "uuid" });
    let ids = json!({ "type": "array", "items": id, "minItems": 1 });
    let which = json!({ "type": "object", "properties": { "ids": ids }, "required": ["ids"] });
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Delete webhook keys")
        .about("All of these, or none when one of them is not there.")
        .login()
        .body(which, true)
        .answers(200, "They are gone.", message)
        .refuses(&[Refused::NotFound])
        .writes()
}

/// Which key of a user has this id.
fn position(user: &User, id: Uuid) -> Option<usize> {
    user.webhook_keys.iter().position(|key| key.id.0 == id)
}

#[cfg(test)]
mod tests {
    use walkabout_schema::Timestamp;

    use super::*;
    use crate::http::{Stopping, letters::Outbox, tokens::tests::ann};

    /// A login may end after it was looked at, here or in another process, and a key would outlive it.
    #[tokio::test]
    async fn a_login_that_has_ended_makes_no_key() {
        let (bench, user) = ann().await;
        let stopping = Stopping(tokio::sync::watch::channel(false).1);
        let server = Server::new(bench.runtime.clone(), stopping, Outbox::new()).await.unwrap();
        let (token, _) = server.tokens.issue(&server.runtime, &user, None).await.unwrap().unwrap();
        let (_, login) = server.tokens.verify(&server.runtime, &token).await.unwrap().unwrap();
        let at = Timestamp::from_millis(0);
        let (id, name, walkers, nodes) = (Key(Uuid::nil()), "a".to_owned(), Vec::new(), Vec::new());
        let key = WebhookKey { id, name, walkers, nodes, created_at: at, ends_at: at };
        assert!(add(&server, &login, key.clone()).await.is_ok());
        let ended = server.runtime.change_user(&user.email, |user| {
            user.sessions.clear();
            true
        });
        assert!(ended.await.unwrap());
        let another = WebhookKey { name: "b".to_owned(), ..key };
        assert!(matches!(add(&server, &login, another).await, Err(Refusal::Unauthorized)));
        assert_eq!(server.runtime.user(&user.email).await.unwrap().unwrap().webhook_keys.len(), 1);
    }
}
