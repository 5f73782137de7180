//! Users: registration, login, and who a token names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use walkabout_schema::{Timestamp, User};

use super::{
    Shared, extract,
    problem::{Invalid, Problem},
};
use crate::{
    Error, Result,
    runtime::{Caller, Runtime},
    store::Registered,
};

/// Tokens whose check is remembered.
const TOKENS_KEPT: usize = 10_000;
/// Failed logins of one address in a minute; more are refused.
const FAILURES_MAX: u32 = 10;
/// Addresses whose failures are counted.
const FAILURES_KEPT: usize = 10_000;
/// Passwords being hashed at once: each takes 19 MiB for a moment.
const HASHES_MAX: usize = 2;
/// The longest password; hashing takes time in proportion.
const PASSWORD_BYTES_MAX: usize = 1024;

pub(crate) struct Users {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    known: Mutex<HashMap<String, (Caller, i64)>>,
    failures: Mutex<HashMap<String, (u32, Timestamp)>>,
    hashing: Arc<Semaphore>,
    /// What an unknown address is checked against, so that it takes as long as a known one.
    decoy: String,
}

/// Jac Cloud's payload: the public user with `expiration` in epoch seconds.
#[derive(Serialize, Deserialize)]
struct Claims {
    id: String,
    email: String,
    root_id: String,
    is_activated: bool,
    is_admin: bool,
    expiration: i64,
    state: String,
}

impl Users {
    pub(crate) async fn new(runtime: &Runtime) -> Result<Self> {
        let (secret, _) = runtime.secret("jwt", 32).await?;
        let mut validation = Validation::new(Algorithm::HS256);
        // The claim is `expiration`, not `exp`; it is checked below.
        validation.validate_exp = false;
        validation.set_required_spec_claims::<&str>(&[]);
        Ok(Self {
            encoding: EncodingKey::from_secret(&secret),
            decoding: DecodingKey::from_secret(&secret),
            validation,
            known: Mutex::default(),
            failures: Mutex::default(),
            hashing: Arc::new(Semaphore::new(HASHES_MAX)),
            decoy: hash("no password", &[7; 16])?,
        })
    }

    /// Whoever a token names: its signature holds, it has not expired, its user exists and is active.
    pub(crate) async fn caller(&self, runtime: &Runtime, token: &str) -> Result<Caller, Problem> {
        let now = runtime.now().millis() / 1000;
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((caller, expiration)) = known.get(token) {
                return if *expiration > now { Ok(caller.clone()) } else { Err(Problem::Unauthorized) };
            }
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation);
        let claims = claims.map_err(|_| Problem::Unauthorized)?.claims;
        if claims.expiration <= now {
            return Err(Problem::Unauthorized);
        }
        let user = runtime.user(&claims.email).await?;
        let user = user.filter(|user| user.is_activated && user.id.0.simple().to_string() == claims.id);
        let user = user.ok_or(Problem::Unauthorized)?;
        let caller = Caller { root: user.root_id.0, admin: user.is_admin };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TOKENS_KEPT {
            known.clear();
        }
        known.insert(token.to_owned(), (caller.clone(), claims.expiration));
        Ok(caller)
    }

    fn is_locked(&self, email: &str, now: Timestamp) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(email)
            .is_some_and(|(count, since)| *count >= FAILURES_MAX && now.since(*since).as_secs() < 60)
    }

    fn count_failure(&self, email: &str, now: Timestamp) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= FAILURES_KEPT {
            failures.retain(|_, (_, since)| now.since(*since).as_secs() < 60);
        }
        // Full of fresh failures of other addresses: the table stays bounded.
        if failures.len() >= FAILURES_KEPT {
            failures.clear();
        }
        let entry = failures.entry(email.to_owned()).or_insert((0, now));
        if now.since(entry.1).as_secs() >= 60 {
            *entry = (0, now);
        }
        entry.0 += 1;
    }

    /// Runs Argon2id beside the server, few at once.
    async fn hashed<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || Problem::Runtime(Error::Busy("the server is stopping".to_owned()));
        let turn = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| busy())?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        done.await.map_err(|_| busy())
    }
}

fn hash(password: &str, salt: &[u8]) -> Result<String> {
    let hashed = Argon2::default().hash_password_with_salt(password.as_bytes(), salt);
    hashed
        .map(|hash| hash.to_string())
        .map_err(|error| Error::Config(format!("passwords cannot be hashed: {error}")))
}

fn verify(password: &str, stored: &str) -> bool {
    PasswordHash::new(stored)
        .is_ok_and(|stored| Argon2::default().verify_password(password.as_bytes(), &stored).is_ok())
}

/// Address and password of a request, the domain of the address lowered.
fn credentials(members: Option<Map<String, Value>>) -> Result<(String, String), Problem> {
    let Some(members) = members else {
        let missing = Invalid::new("missing", vec![json!("body")], "Field required", Value::Null);
        return Err(Problem::Invalid(vec![missing]));
    };
    let mut errors = Vec::new();
    let mut text = |name: &str| match members.get(name) {
        Some(Value::String(text)) => text.clone(),
        other => {
            let loc = vec![json!("body"), json!(name)];
            errors.push(match other {
                None => Invalid::new("missing", loc, "Field required", json!({})),
                Some(value) => {
                    Invalid::new("string_type", loc, "Input should be a valid string", value.clone())
                }
            });
            String::new()
        }
    };
    let (given, password) = (text("email"), text("password"));
    let mut refuse = |name: &str, msg: String, input: Value| {
        errors.push(Invalid::new("value_error", vec![json!("body"), json!(name)], &msg, input));
    };
    let mut email = String::new();
    if !given.is_empty() || members.get("email").is_some_and(Value::is_string) {
        match address(&given) {
            Ok(address) => email = address,
            Err(why) => refuse("email", format!("value is not a valid email address: {why}"), json!(given)),
        }
    }
    if members.get("password").is_some_and(Value::is_string)
        && !(1..=PASSWORD_BYTES_MAX).contains(&password.len())
    {
        // A password is not sent back.
        refuse(
            "password",
            format!("Value error, a password has 1 to {PASSWORD_BYTES_MAX} bytes"),
            Value::Null,
        );
    }
    if errors.is_empty() { Ok((email, password)) } else { Err(Problem::Invalid(errors)) }
}

/// An address with its domain lowered; or why it is none.
fn address(text: &str) -> Result<String, &'static str> {
    if text.len() > 254 {
        return Err("it is longer than 254 bytes");
    }
    let Some((local, domain)) = text.rsplit_once('@') else {
        return Err("an email address must have an @-sign");
    };
    let is_local = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    if local.is_empty() || local.len() > 64 || dots || !local.chars().all(is_local) {
        return Err("the part before the @-sign is not valid");
    }
    let domain = domain.to_lowercase();
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    if !domain.contains('.') || !domain.split('.').all(is_label) {
        return Err("the part after the @-sign is not valid: it should have a period");
    }
    let special = ["test", "local", "invalid", "localhost", "onion", "arpa"];
    if domain.rsplit('.').next().is_some_and(|last| special.contains(&last)) {
        return Err("the part after the @-sign is a special-use or reserved name");
    }
    Ok(format!("{local}@{domain}"))
}

pub(crate) async fn register(
    State(state): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = extract::bytes(&state, &headers, body).await?;
    let (email, password) = credentials(extract::members(&state, &bytes)?)?;
    let mut salt = [0; 16];
    state.runtime.env().random(&mut salt);
    let hashed = state.users.hashed(move || hash(&password, &salt)).await??;
    match state.runtime.register(email, hashed).await? {
        Registered::New => {
            Ok((StatusCode::CREATED, Json(json!({ "message": "Successfully Registered!" }))).into_response())
        }
        Registered::Taken => Err(Problem::Detail(StatusCode::CONFLICT, "Already Exists!".to_owned())),
    }
}

pub(crate) async fn login(
    State(state): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    const WRONG: Problem = Problem::Message(StatusCode::BAD_REQUEST, "Invalid Email/Password!");
    let bytes = extract::bytes(&state, &headers, body).await?;
    let (email, password) = credentials(extract::members(&state, &bytes)?)?;
    let (users, now) = (&state.users, state.runtime.now());
    if users.is_locked(&email, now) {
        let text = "Too many failed logins: try again in a minute".to_owned();
        return Err(Problem::Detail(StatusCode::TOO_MANY_REQUESTS, text));
    }
    let user = state.runtime.user(&email).await?;
    let stored = user.as_ref().map_or_else(|| users.decoy.clone(), |user| user.password.clone());
    let is_right = users.hashed(move || verify(&password, &stored)).await?;
    let Some(user) = user.filter(|user| is_right && user.is_activated) else {
        users.count_failure(&email, now);
        return Err(WRONG);
    };
    let claims = claims(&state, &user);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &users.encoding)
        .map_err(|error| Error::Config(format!("tokens cannot be signed: {error}")))?;
    Ok(Json(json!({ "token": token, "user": claims })).into_response())
}

fn claims(state: &Shared, user: &User) -> Claims {
    let lifetime = state.runtime.config().token_lifetime;
    Claims {
        id: user.id.0.simple().to_string(),
        email: user.email.clone(),
        root_id: user.root_id.0.simple().to_string(),
        is_activated: user.is_activated,
        is_admin: user.is_admin,
        expiration: state.runtime.now().plus(lifetime).millis() / 1000,
        state: state.runtime.env().random_hex(4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_lowered() {
        assert_eq!(address("Ann.B@Example.COM").unwrap(), "Ann.B@example.com");
        for bad in [
            "ann",
            "ann@",
            "@example.com",
            "ann@localhost",
            "ann@example.test",
            "a..b@example.com",
            "a b@example.com",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
