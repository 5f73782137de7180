//! Registers users, logs them in and out, and changes their passwords.

use std::{sync::Arc, time::Duration};

use argon2::{
    ARGON2ID_IDENT, Argon2, Params, Version,
    password_hash::{
        PasswordHasher, PasswordVerifier,
        phc::{Output, PasswordHash, Salt},
    },
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use walkabout_schema::User;

use super::{
    Server,
    counted::Counted,
    email, extract,
    letters::Letters,
    openapi::{Describe, Refused, Types},
    problem::{Detail, Refusal, answer},
    shapes::Message,
    tokens::{Claims, Login, TICKET_LIFETIME},
};
use crate::{
    Error, Result,
    env::Env,
    input::schema::{Member, put},
    mail::Purpose,
    runtime::Runtime,
    store::Registered,
    users::{OwnFields, Registration},
};

/// Of what there can be only one.
pub(crate) const ALREADY_EXISTS: &str = "Already Exists!";
/// The longest password, in characters.
pub(crate) const PASSWORD_MAX: usize = 1024;
/// Failed logins of one address in a minute; beyond them not even the right password is taken.
const FAILURES_MAX: u32 = 10;
/// How long a failed login counts.
const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Passwords waiting to be hashed; beyond them the answer is 503.
const WAITING_MAX: usize = 512;

/// What registration and login share.
pub(crate) struct Users {
    /// A hash takes 19 MiB and a core for tens of milliseconds, so only as many run at once as there are
    /// cores.
    hashing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Logins that failed, by address; and passwords that did not fit, by the user who was logged in.
    pub(super) failures: Counted,
    /// Letters with codes.
    pub(super) letters: Letters,
    /// The hash that the password of an unknown address is compared with, so that it takes as long as a known
    /// one's.
    nobody: String,
}

impl Users {
    pub(crate) fn new(runtime: &Runtime) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            hashing: Arc::new(Semaphore::new(cores)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            failures: Counted::new(FAILURES_MAX, FAILURES_WINDOW),
            letters: Letters::new(),
            nobody: nobody(runtime)?,
        })
    }

    /// Runs `work` where it hogs no thread that answers others.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = || Error::Busy("passwords".to_owned());
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| busy())?;
        let hashing = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| busy())?;
        // The work goes on when nobody waits for it any more, so it is what holds the places.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((waiting, hashing));
            done
        });
        done.await.map_err(|source| Error::Io {
            context: "hashing a password".to_owned(),
            source: std::io::Error::other(source),
        })
    }

    pub(super) async fn hash(&self, runtime: &Runtime, password: String) -> Result<String> {
        let env = runtime.env().clone();
        self.blocking(move || hash(&env, &password)).await?
    }

    async fn matches(&self, hash: String, password: String) -> Result<bool> {
        self.blocking(move || Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok())
            .await
    }
}

/// Hashes a password: Argon2id, version 19, with the memory and rounds that OWASP recommends, which are the default. It takes tens of
/// milliseconds.
pub(crate) fn hash(env: &Env, password: &str) -> Result<String> {
    let mut salt = [0; 16];
    env.random(&mut salt);
    let hash: Result<PasswordHash, _> = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(unhashed)
}

fn unhashed(error: impl std::fmt::Display) -> Error {
    let source = std::io::Error::other(error.to_string());
    Error::Io { context: "hashing a password".to_owned(), source }
}

/// The hash of no known password. It is drawn, not computed: a start takes neither the time nor the memory of a hash.
fn nobody(runtime: &Runtime) -> Result<String> {
    let (mut salt, mut hash) = ([0; 16], [0; Params::DEFAULT_OUTPUT_LEN]);
    runtime.env().random(&mut salt);
    runtime.env().random(&mut hash);
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::default().into()),
        params: Argon2::default().params().try_into().map_err(unhashed)?,
        salt: Some(Salt::new(&salt).map_err(unhashed)?),
        hash: Some(Output::new(&hash).map_err(unhashed)?),
    };
    Ok(hash.to_string())
}

/// `POST /user/register`.
pub(crate) async fn register(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let mut members = members(&server, &parts.headers, body).await?;
    let account = read(&mut members);
    // All that does not fit is told at once.
    let own = server.runtime.own_fields(members).map_err(|wrong| {
        Refusal::Unprocessable(wrong.into_iter().map(|error| Detail::field(error, true)).collect())
    });
    let (Credentials { email, password }, fields) = Refusal::both(account, own)?;
    let hash = server.users.hash(&server.runtime, password).await?;
    // Where no mail is sent nobody is asked to prove an address.
    let is_activated = server.runtime.mailer().is_none();
    let registration = Registration { is_activated, fields, ..Registration::new(email.clone(), hash) };
    match server.runtime.enroll(registration).await? {
        Registered::New => {
            if !is_activated {
                server.write_for(&email);
            }
            Ok(answer(StatusCode::CREATED, &Message { message: "Successfully Registered!" }))
        }
        Registered::Taken => Err(Refusal::Clash(ALREADY_EXISTS)),
    }
}

/// The tag of operations on users.
pub(super) const TAG: &str = "User APIs";

pub(super) fn password_schema() -> Value {
    json!({ "type": "string", "format": "password", "minLength": 1, "maxLength": PASSWORD_MAX })
}

fn credentials_properties() -> Value {
    json!({ "email": email::schema(), "password": password_schema() })
}

fn credentials_schema(types: &mut Types) -> Value {
    let properties = credentials_properties();
    let schema = json!({ "type": "object", "properties": properties, "required": ["email", "password"] });
    types.named("Credentials", schema)
}

/// The name of the schema of a registration.
const REGISTRATION: &str = "Registration";

/// Describes a registration with the fields that the application's users have. Its name is taken by then.
pub(crate) fn define_registration(types: &mut Types, own: &OwnFields) {
    let (mut properties, mut required) = (credentials_properties(), vec!["email", "password"]);
    for Member { name, schema, is_required } in (own.members)(types.definitions()) {
        put(&mut properties, name, schema);
        required.extend(is_required.then_some(name));
    }
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    types.definitions().set(REGISTRATION.to_owned(), schema);
}

/// How `POST /user/register` is documented.
pub(crate) fn describe_register(types: &mut Types) -> Describe {
    let message = types.sent::<Message<'_>>();
    let registration = types.named(REGISTRATION, json!({ "type": "object" }));
    Describe::new(TAG, "Register")
        .body(registration, true)
        .answers(201, "The user is there, and may log in.", message)
        .refuses(&[Refused::Conflict])
        .writes()
}

/// How `POST /user/login` is documented.
pub(crate) fn describe_login(types: &mut Types) -> Describe {
    let (credentials, logged_in) = (credentials_schema(types), types.sent::<LoggedIn<'_>>());
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Log in")
        .body(credentials, true)
        .answers(200, "A token, and the user whose it is.", logged_in)
        .answers(400, "Address and password do not belong together.", message)
        .refuses(&[Refused::TooMany])
        .writes()
}

/// How `POST /user/logout` is documented.
pub(crate) fn describe_logout(types: &mut Types) -> Describe {
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Log out")
        .about("Ends the login that asks, and no other of the user.")
        .login()
        .answers(200, "The login has ended.", message)
        .writes()
}

/// How `POST /user/refresh` is documented.
pub(crate) fn describe_refresh(types: &mut Types) -> Describe {
    let logged_in = types.sent::<LoggedIn<'_>>();
    Describe::new(TAG, "Refresh a token")
        .about("The login that asks goes on with another token, for the whole lifetime.")
        .login()
        .answers(200, "The new token.", logged_in)
        .writes()
}

/// How `POST /user/ticket` is documented.
pub(crate) fn describe_ticket(types: &mut Types) -> Describe {
    let given = types.sent::<Given>();
    Describe::new(TAG, "Fetch a ticket")
        .about("It opens a WebSocket or a stream of events where no header can be sent, once.")
        .login()
        .answers(200, "The ticket.", given)
        .writes()
}

/// How `POST /user/change_password` is documented.
pub(crate) fn describe_change_password(types: &mut Types) -> Describe {
    let properties = json!({ "old_password": password_schema(), "new_password": password_schema() });
    let required = ["old_password", "new_password"];
    let body = json!({ "type": "object", "properties": properties, "required": required });
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Change the password")
        .about("Ends all logins of the user.")
        .login()
        .body(body, true)
        .answers(200, "It is changed.", message.clone())
        .answers(403, "The old password is another.", message)
        .refuses(&[Refused::TooMany])
        .writes()
}

/// `POST /user/login`. An unknown address takes the same time and gives the same answer as a wrong password.
pub(crate) async fn login(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Refusal> {
    let Credentials { email, password } = credentials(&server, request).await?;
    let users = &server.users;
    if users.failures.is_full(&email, server.runtime.now()) {
        return Err(Refusal::TooManyLogins);
    }
    let user = server.runtime.user(&email).await?;
    // A user who only signs in with providers has none.
    let hash = user.as_ref().map(|user| user.password.clone()).filter(|hash| !hash.is_empty());
    let hash = hash.unwrap_or_else(|| users.nobody.clone());
    let matches = users.matches(hash, password).await?;
    let now = server.runtime.now();
    // Asked again: many guesses sent at once must not all be answered because none had failed when they came.
    if users.failures.is_full(&email, now) {
        return Err(Refusal::TooManyLogins);
    }
    match user {
        Some(user) if matches && !server.runtime.admits(&user) => {
            server.write_for(&email);
            Err(Refusal::NotVerified)
        }
        Some(user) if matches => {
            let issued = server.tokens.issue(&server.runtime, &user, None).await?;
            issued.map(|issued| logged_in(&issued)).ok_or(Refusal::BadLogin)
        }
        _ => {
            users.failures.note(&email, now);
            Err(Refusal::BadLogin)
        }
    }
}

impl Server {
    /// Sends a user the code that verifies the address, unless that was done often lately. Nobody waits for it.
    fn write_for(self: &Arc<Self>, email: &str) {
        if let Err(error) = self.outbox.post(self, email.to_owned(), Purpose::Verify) {
            tracing::warn!(%error, "a code to verify an address was not sent");
        }
    }
}

/// What a login answers.
pub(crate) fn logged_in((token, user): &(String, Claims)) -> Response {
    answer(StatusCode::OK, &LoggedIn { token, user })
}

/// What a login is answered with.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LoggedIn<'a> {
    token: &'a str,
    user: &'a Claims,
}

/// What stands for a login, once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ticket")]
struct Given {
    ticket: String,
    /// In seconds.
    expires_in: u64,
}

/// `POST /user/logout`: ends the login that asks, and no other of the user.
pub(crate) async fn logout(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (_, login) = extract::login(&server, &headers).await?;
    server.tokens.end(&server.runtime, &login).await?;
    Ok(answer(StatusCode::OK, &Message { message: "Successfully Logged Out!" }))
}

/// `POST /user/refresh`: another token, with the whole lifetime, in the place of the one that asks.
pub(crate) async fn refresh(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (_, login) = extract::login(&server, &headers).await?;
    let user = server.runtime.user(&login.email).await?.ok_or(Refusal::Unauthorized)?;
    let issued = server.tokens.issue(&server.runtime, &user, Some(&login)).await?;
    server.tokens.forget(&login);
    issued.map(|issued| logged_in(&issued)).ok_or(Refusal::Unauthorized)
}

/// `POST /user/ticket`: what stands for the login that asks where no header can be sent, for once.
pub(crate) async fn ticket(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (_, login) = extract::login(&server, &headers).await?;
    let ticket = server.tokens.ticket(&server.runtime, &login).await?.ok_or(Refusal::Unauthorized)?;
    Ok(answer(StatusCode::OK, &Given { ticket, expires_in: TICKET_LIFETIME.as_secs() }))
}

/// `POST /user/change_password`: ends all logins of the user, the one that asks as well.
pub(crate) async fn change_password(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Response, Refusal> {
    const FAILED: Refusal = Refusal::NotDone("Update Failed!");
    let (parts, body) = request.into_parts();
    let config = server.runtime.config();
    let body = extract::json(&extract::bytes(&parts.headers, body, config).await?, config.json_depth_max)?;
    let (_, login) = extract::login(&server, &parts.headers).await?;
    let mut members = extract::members(body, true).map_err(|detail| Refusal::detail(*detail))?;
    let (old, new) = both(secret(&mut members, "old_password"), secret(&mut members, "new_password"))?;
    let user = prove(&server, &login, old, FAILED).await?;
    let hash = server.users.hash(&server.runtime, new).await?;
    let changed = server.runtime.change_user(&login.email, |stored| {
        let is_same = stored.id == user.id && stored.password == user.password;
        stored.password.clone_from(&hash);
        stored.sessions.clear();
        is_same
    });
    let changed = changed.await?;
    server.tokens.forget_user(&user);
    if changed {
        Ok(answer(StatusCode::OK, &Message { message: "Successfully Updated!" }))
    } else {
        Err(FAILED)
    }
}

/// Changes who is logged in. What is changed outlives the login, so that one is looked for once more where it is written.
pub(crate) async fn change(
    server: &Server,
    login: &Login,
    mut change: impl FnMut(&mut User) -> bool,
) -> Result<bool, Refusal> {
    let mut is_listed = true;
    let changed = server.runtime.change_user(&login.email, |user| {
        is_listed = login.is_listed(user);
        is_listed && change(user)
    });
    let changed = changed.await?;
    if is_listed { Ok(changed) } else { Err(Refusal::Unauthorized) }
}

/// The user of a login. Another one may have the address by now.
pub(super) async fn of_login(server: &Server, login: &Login) -> Result<User, Refusal> {
    let user = server.runtime.user(&login.email).await?;
    user.filter(|user| login.is_listed(user)).ok_or(Refusal::Unauthorized)
}

/// The user of a login who knows the password as well; else `failed`. Who has found a token may not guess the password.
pub(super) async fn prove(
    server: &Server,
    login: &Login,
    password: String,
    failed: Refusal,
) -> Result<User, Refusal> {
    let user = of_login(server, login).await?;
    if user.password.is_empty() {
        return Err(Refusal::NotDone("The account has no password: set one by POST /user/forgot_password."));
    }
    // Apart from failed logins: those anybody causes, who knows the address.
    let (failures, place) = (&server.users.failures, place_of(&user));
    if failures.is_full(&place, server.runtime.now()) {
        return Err(Refusal::TooManyLogins);
    }
    let matches = server.users.matches(user.password.clone(), password).await?;
    // Asked again, as at a login: of many guesses at once none had failed when they came.
    if failures.is_full(&place, server.runtime.now()) {
        return Err(Refusal::TooManyLogins);
    }
    if !matches {
        failures.note(&place, server.runtime.now());
        return Err(failed);
    }
    Ok(user)
}

/// Where passwords are counted that a user who is logged in brings: no address.
fn place_of(user: &User) -> String {
    user.id.0.to_string()
}

#[derive(Debug, PartialEq)]
struct Credentials {
    email: String,
    password: String,
}

async fn credentials(server: &Server, request: Request) -> Result<Credentials, Refusal> {
    let (parts, body) = request.into_parts();
    read(&mut members(server, &parts.headers, body).await?)
}

pub(super) async fn members(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
) -> Result<Map<String, Value>, Refusal> {
    let config = server.runtime.config();
    let bytes = extract::bytes(headers, body, config).await?;
    extract::object(&bytes, config.json_depth_max, true)
}

fn loc(name: &str) -> Vec<Value> {
    vec!["body".into(), name.into()]
}

/// Both members, or everything that is wrong with them.
fn read(members: &mut Map<String, Value>) -> Result<Credentials, Refusal> {
    let (email, password) = both(address(members), secret(members, "password"))?;
    Ok(Credentials { email, password })
}

/// Both, or everything that is wrong with them.
pub(super) fn both<A, B>(
    one: Result<A, Box<Detail>>,
    other: Result<B, Box<Detail>>,
) -> Result<(A, B), Refusal> {
    Refusal::both(
        one.map_err(|detail| Refusal::detail(*detail)),
        other.map_err(|detail| Refusal::detail(*detail)),
    )
}

/// The member `email` as it is stored, or what is wrong with it.
pub(super) fn address(members: &mut Map<String, Value>) -> Result<String, Box<Detail>> {
    match members.remove("email") {
        None => Err(Box::new(Detail::missing(loc("email"), json!({})))),
        Some(Value::String(given)) => email::normal(&given).map_err(|reason| {
            let msg = format!("value is not a valid email address: {reason}");
            let detail = Detail::new("value_error", loc("email"), msg).input(given.into());
            Box::new(detail.ctx(json!({ "reason": reason })))
        }),
        Some(other) => {
            let detail = Detail::new("string_type", loc("email"), "Input should be a valid string");
            Err(Box::new(detail.input(other)))
        }
    }
}

/// A member that is a password or a code, or what is wrong with it. It is never sent back.
pub(super) fn secret(members: &mut Map<String, Value>, name: &str) -> Result<String, Box<Detail>> {
    Err(Box::new(match members.remove(name) {
        None => Detail::missing(loc(name), json!({})),
        Some(Value::String(given)) => match given.chars().count() {
            0 => {
                let msg = "String should have at least 1 character";
                Detail::new("string_too_short", loc(name), msg).ctx(json!({ "min_length": 1 }))
            }
            1..=PASSWORD_MAX => return Ok(given),
            _ => {
                let msg = format!("String should have at most {PASSWORD_MAX} characters");
                Detail::new("string_too_long", loc(name), msg).ctx(json!({ "max_length": PASSWORD_MAX }))
            }
        },
        Some(_) => Detail::new("string_type", loc(name), "Input should be a valid string"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: Value, wanted: &[(&str, &str)]) {
        let Value::Object(mut members) = body else { panic!("not an object") };
        let Err(Refusal::Unprocessable(details)) = read(&mut members) else { panic!("it fits") };
        let found: Vec<_> = details.iter().map(|d| (d.kind.as_str(), d.loc[1].as_str().unwrap())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn credentials_are_checked() {
        check(json!({}), &[("missing", "email"), ("missing", "password")]);
        check(
            json!({ "email": 1, "password": null }),
            &[("string_type", "email"), ("string_type", "password")],
        );
        check(json!({ "email": "a@b.test", "password": "p" }), &[("value_error", "email")]);
        check(json!({ "email": "a@b.com", "password": "" }), &[("string_too_short", "password")]);
        check(
            json!({ "email": "a@b.com", "password": "p".repeat(1025) }),
            &[("string_too_long", "password")],
        );
        let Value::Object(mut good) = json!({ "email": "A@B.com", "password": "p", "more": 1 }) else {
            return;
        };
        assert_eq!(read(&mut good).unwrap(), Credentials { email: "A@b.com".into(), password: "p".into() });
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_keeps_its_place() {
        let bench = crate::testing::Bench::new(|_| {}).await;
        let users = Users::new(&bench.runtime).unwrap();
        let places = users.hashing.available_permits();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let work = users.blocking(move || {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap_err();
        });
        let waited = tokio::time::timeout(Duration::ZERO, work).await;
        assert!(waited.is_err(), "it was dropped");
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        assert_eq!(users.hashing.available_permits(), places - 1);
        drop(go_on);
        drop(users.hashing.acquire_many(u32::try_from(places).unwrap()).await.unwrap());
    }

    #[tokio::test]
    async fn the_hash_of_nobody_takes_as_long_as_any() {
        let bench = crate::testing::Bench::new(|_| {}).await;
        let users = Users::new(&bench.runtime).unwrap();
        let known = users.hash(&bench.runtime, "secret".to_owned()).await.unwrap();
        let cost = |hash: &str| hash.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!(cost(&users.nobody), cost(&known));
        assert_eq!(users.nobody.len(), known.len());
        assert!(users.matches(known, "secret".to_owned()).await.unwrap());
        assert!(!users.matches(users.nobody.clone(), "secret".to_owned()).await.unwrap());
    }
}
