//! An OpenID Connect provider on a loopback socket, which lies when it is told to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::*};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use walkabout::{env::Env, schema::Timestamp};

/// What this application is called there.
pub const CLIENT: (&str, &str) = ("walkers", "hush: of walkers");

/// Of two realms the first signs with ES256, the second with RS256.
pub const REALMS: [&str; 2] = ["home", "office"];

/// What is wrong with the next tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lie {
    Nonce,
    NoNonce,
    Audience,
    Audiences,
    Issuer,
    Expired,
    Key,
    UnknownKey,
    Unsigned,
    Secret,
    AccessToken,
    Subject,
    NoToken,
    NoJson,
    Status,
    Elsewhere,
    Endless,
}

/// A sign-in under way.
struct Asked {
    realm: String,
    nonce: String,
    challenge: String,
    redirect: String,
    claims: Value,
}

#[derive(Default)]
pub struct Book {
    codes: HashMap<String, Asked>,
    /// What tokens say of whoever signs in.
    pub claims: Value,
    pub lie: Option<Lie>,
    /// How often each path was asked.
    pub asked: BTreeMap<String, usize>,
    /// Rises when the keys change.
    pub generation: u64,
    /// The clock of the provider; the machine's unless told otherwise.
    pub now: Option<Timestamp>,
}

#[derive(Clone)]
pub struct Provider {
    pub url: String,
    book: Arc<Mutex<Book>>,
}

struct Keys {
    good: EncodingKey,
    other: EncodingKey,
    algorithm: Algorithm,
}

/// Those of a realm. Made once: an RSA key takes a while.
fn keys(realm: &str) -> &'static Keys {
    static EC: LazyLock<Keys> = LazyLock::new(|| {
        use p256::pkcs8::EncodePrivateKey;
        let key = || {
            let key = p256::SecretKey::random(&mut rsa::rand_core::OsRng);
            EncodingKey::from_ec_der(key.to_pkcs8_der().unwrap().as_bytes())
        };
        Keys { good: key(), other: key(), algorithm: Algorithm::ES256 }
    });
    static RSA: LazyLock<Keys> = LazyLock::new(|| {
        use rsa::pkcs1::EncodeRsaPrivateKey;
        let key = || {
            let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
            EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes())
        };
        Keys { good: key(), other: key(), algorithm: Algorithm::RS256 }
    });
    if realm == REALMS[0] { &EC } else { &RSA }
}

impl Provider {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let provider = Self { url, book: Arc::default() };
        provider.is("1", "ann@example.com", Some(true));
        let router = Router::new()
            .route("/{realm}/.well-known/openid-configuration", get(about))
            .route("/{realm}/keys", get(public_keys))
            .route("/{realm}/authorize", get(authorize))
            .route("/{realm}/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Who signs in from now on.
    pub fn is(&self, id: &str, email: &str, verified: Option<bool>) {
        let mut claims = json!({ "sub": id, "email": email });
        if let Some(verified) = verified {
            claims["email_verified"] = verified.into();
        }
        self.book().claims = claims;
    }

    pub fn issuer(&self, realm: &str) -> String {
        format!("{}/{realm}", self.url)
    }

    /// The setting `sso` with both realms as providers.
    pub fn setting(&self) -> String {
        let (id, secret) = CLIENT;
        let realm = |realm: &str| {
            let issuer = self.issuer(realm);
            format!(
                "{realm} = {{ issuer = '{issuer}', client_id = '{id}', client_secret = '{secret}', allow_insecure_http = true }}"
            )
        };
        format!("{{ {} }}", REALMS.map(realm).join(", "))
    }

    fn now(&self) -> i64 {
        self.book().now.unwrap_or_else(|| Env::system().now()).millis() / 1000
    }

    fn count(&self, what: String) -> Option<Lie> {
        let mut book = self.book();
        *book.asked.entry(what).or_default() += 1;
        book.lie
    }
}

async fn about(State(provider): State<Provider>, Path(realm): Path<String>) -> Json<Value> {
    provider.count(format!("{realm}/about"));
    let issuer = provider.issuer(&realm);
    let algorithm = format!("{:?}", keys(&realm).algorithm);
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [algorithm, "HS256", "none", "XY999"],
        "code_challenge_methods_supported": ["S256"],
    }))
}

fn key_id(generation: u64) -> String {
    format!("key {generation}")
}

async fn public_keys(State(provider): State<Provider>, Path(realm): Path<String>) -> Json<Value> {
    provider.count(format!("{realm}/keys"));
    let Keys { good, algorithm, .. } = keys(&realm);
    let mut key = Jwk::from_encoding_key(good, *algorithm).unwrap();
    key.common.key_id = Some(key_id(provider.book().generation));
    Json(json!({ "keys": [{ "kty": "unknown", "kid": "odd" }, key] }))
}

/// Whoever comes here is signed in at once.
async fn authorize(
    State(provider): State<Provider>,
    Path(realm): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let said = |name: &str| query.get(name).cloned().unwrap_or_else(|| panic!("{name} in {query:?}"));
    assert_eq!(said("client_id"), CLIENT.0);
    assert_eq!(
        (said("response_type"), said("code_challenge_method")),
        ("code".to_owned(), "S256".to_owned())
    );
    assert!(said("scope").split(' ').eq(["openid", "email"]), "{query:?}");
    let code = Env::system().random_hex(16);
    let (redirect, state) = (said("redirect_uri"), said("state"));
    let mut book = provider.book();
    let claims = book.claims.clone();
    let asked = Asked {
        realm,
        nonce: said("nonce"),
        challenge: said("code_challenge"),
        redirect: redirect.clone(),
        claims,
    };
    book.codes.insert(code.clone(), asked);
    let back = format!("{redirect}?code={code}&state={state}");
    (StatusCode::FOUND, [(header::LOCATION, back)]).into_response()
}

fn refused(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}

async fn token(
    State(provider): State<Provider>,
    Path(realm): Path<String>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let lie = provider.count(format!("{realm}/token"));
    match lie {
        Some(Lie::Status) => return (StatusCode::INTERNAL_SERVER_ERROR, "inner text").into_response(),
        Some(Lie::NoJson) => {
            return ([(header::CONTENT_TYPE, "application/json")], "inner text").into_response();
        }
        Some(Lie::Elsewhere) => {
            let elsewhere = format!("{}/{realm}/token", provider.url);
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, elsewhere)]).into_response();
        }
        Some(Lie::Endless) => {
            return ([(header::CONTENT_TYPE, "application/json")], " ".repeat(3 << 20)).into_response();
        }
        _ => {}
    }
    let who =
        BASE64_STANDARD.encode(format!("{}:{}", CLIENT.0, CLIENT.1.replace(": ", "%3A+").replace(' ', "+")));
    if headers.get(header::AUTHORIZATION).unwrap().to_str().unwrap() != format!("Basic {who}") {
        return refused("invalid_client");
    }
    assert_eq!(form["grant_type"], "authorization_code");
    let Some(asked) = provider.book().codes.remove(&form["code"]) else { return refused("invalid_grant") };
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
    if challenge != asked.challenge || form["redirect_uri"] != asked.redirect || realm != asked.realm {
        return refused("invalid_grant");
    }
    let token = (lie != Some(Lie::NoToken)).then(|| id_token(&provider, &asked, lie));
    Json(json!({ "access_token": "an access token", "token_type": "Bearer", "id_token": token }))
        .into_response()
}

fn id_token(provider: &Provider, asked: &Asked, lie: Option<Lie>) -> String {
    let Keys { good, other, algorithm } = keys(&asked.realm);
    let now = provider.now();
    let hash = Sha256::digest("an access token");
    let mut claims = json!({
        "iss": provider.issuer(&asked.realm),
        "aud": CLIENT.0,
        "exp": now + 300,
        "iat": now,
        "nonce": asked.nonce,
        "at_hash": BASE64_URL_SAFE_NO_PAD.encode(&hash[..16]),
    });
    claims.as_object_mut().unwrap().extend(asked.claims.as_object().unwrap().clone());
    let mut header = Header { kid: Some(key_id(provider.book().generation)), ..Header::new(*algorithm) };
    let mut key = good;
    let secret = EncodingKey::from_secret(CLIENT.1.as_bytes());
    match lie {
        Some(Lie::Nonce) => claims["nonce"] = "another".into(),
        Some(Lie::NoNonce) => drop(claims.as_object_mut().unwrap().remove("nonce")),
        Some(Lie::Audience) => claims["aud"] = "another".into(),
        Some(Lie::Audiences) => claims["aud"] = json!([CLIENT.0, "another"]),
        Some(Lie::Issuer) => claims["iss"] = "https://another.example".into(),
        Some(Lie::Expired) => claims["exp"] = (now - 1).into(),
        Some(Lie::Key) => key = other,
        Some(Lie::UnknownKey) => header.kid = Some("unknown".to_owned()),
        Some(Lie::Secret) => (key, header) = (&secret, Header::new(Algorithm::HS256)),
        Some(Lie::AccessToken) => claims["at_hash"] = BASE64_URL_SAFE_NO_PAD.encode([0; 16]).into(),
        Some(Lie::Subject) => claims["sub"] = "".into(),
        _ => {}
    }
    if lie == Some(Lie::Unsigned) {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        return format!("{}.{}.", part(json!({ "alg": "none" })), part(claims));
    }
    jsonwebtoken::encode(&header, &claims, key).unwrap()
}
