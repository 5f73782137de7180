//! Providers: what they say of themselves, and who a browser that comes back from one is there.

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::future::BoxFuture;
use openidconnect::{
    AccessTokenHash, AsyncHttpClient, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    IdTokenVerifier, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RequestTokenError, Scope, SignatureVerificationError, TokenResponse,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreErrorResponseType, CoreIdToken,
        CoreIdTokenClaims, CoreJsonWebKey, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    },
};
use tokio::sync::{Mutex, Semaphore};
use ureq::Agent;
use walkabout_schema::{Identity, Timestamp};

use super::flow::{Flow, Seal};
use crate::{
    config::{Provider as Settings, known_as},
    http::email,
    runtime::Runtime,
};

/// How long a provider may take to answer, in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Requests to one provider at a time; beyond them the answer is 503.
const REQUESTS_MAX: usize = 32;
/// How long what a provider says of itself is taken for true.
const FRESH: Duration = Duration::from_secs(3600);
/// How long a provider that did not answer is not asked again.
const AWAY: Duration = Duration::from_secs(5);
/// A key that is not known is looked for no sooner after the keys were read.
const KEYS_KEPT: Duration = Duration::from_secs(60);
/// The longest code, and the longest name that a provider has for a user.
const CODE_MAX: usize = 4096;
const ID_MAX: usize = 255;
/// What a browser may ask of a provider beside what is asked anyway.
pub(super) const PASSED_ON: [&str; 5] = ["prompt", "login_hint", "ui_locales", "hd", "domain_hint"];

/// Why nobody is signed in.
#[derive(Debug)]
pub(super) enum Failure {
    /// The provider is away, or says what cannot be trusted.
    Provider(String),
    /// What the browser brought is worth nothing.
    Code(String),
    /// The address is not known to be that of who signs in.
    Unverified,
    /// Too many sign-ins at a time.
    Busy,
}

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// One provider.
pub(super) struct Provider {
    name: String,
    issuer: String,
    settings: Settings,
    wire: Wire,
    about: RwLock<Option<Arc<About>>>,
    /// Held by who asks the provider about itself; with it, when that failed last.
    asking: Mutex<Option<Timestamp>>,
}

/// What a provider says of itself.
struct About {
    metadata: CoreProviderMetadata,
    read_at: Timestamp,
}

impl Provider {
    pub(super) fn new(name: &str, settings: &Settings) -> Self {
        Self {
            name: name.to_owned(),
            // The settings were checked: there is one.
            issuer: settings.issuer(name).unwrap_or_default(),
            settings: settings.clone(),
            wire: Wire::new(settings.allow_insecure_http),
            about: RwLock::default(),
            asking: Mutex::default(),
        }
    }

    /// What it calls itself.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where the browser is sent.
    pub(super) async fn address(
        &self,
        runtime: &Runtime,
        seal: &Seal,
        flow: &Flow,
        asked: impl Iterator<Item = (&'static str, &str)>,
    ) -> Result<String, Failure> {
        let about = self.about(runtime, None).await?;
        let client = self.client(&about);
        let (state, nonce) = (CsrfToken::new(flow.state(seal)), Nonce::new(flow.nonce(seal)));
        let verifier = PkceCodeVerifier::new(flow.verifier(seal));
        let known = known_as(&self.name);
        let scopes: Vec<Scope> = match self.settings.scopes.as_slice() {
            [] => vec![Scope::new(known.map_or("email", |known| known.scope).to_owned())],
            scopes => scopes.iter().cloned().map(Scope::new).collect(),
        };
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || state, || nonce)
            .add_scopes(scopes)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .set_redirect_uri(Cow::Owned(redirect(flow)?));
        if known.is_some_and(|known| known.posts) {
            request = request.add_extra_param("response_mode", "form_post");
        }
        for (name, value) in asked {
            request = request.add_extra_param(name, value.to_owned());
        }
        Ok(request.url().0.to_string())
    }

    /// Who a browser is that came back with a code.
    pub(super) async fn identity(
        &self,
        runtime: &Runtime,
        seal: &Seal,
        flow: &Flow,
        code: &str,
    ) -> Result<Identity, Failure> {
        if code.len() > CODE_MAX {
            return Err(Failure::Code("the code is too long".to_owned()));
        }
        let about = self.about(runtime, None).await?;
        let client = self.client(&about);
        let exchange = client.exchange_code(AuthorizationCode::new(code.to_owned())).map_err(provider)?;
        let exchange = exchange
            .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier(seal)))
            .set_redirect_uri(Cow::Owned(redirect(flow)?));
        let answer = exchange.request_async(&self.wire).await.map_err(|error| match error {
            RequestTokenError::Request(Unsent::Busy) => Failure::Busy,
            RequestTokenError::Request(Unsent::Failed(why)) => Failure::Provider(why),
            RequestTokenError::ServerResponse(refused)
                if *refused.error() == CoreErrorResponseType::InvalidGrant =>
            {
                Failure::Code(refused.to_string())
            }
            other => provider(other),
        })?;
        let token = answer.id_token().ok_or_else(|| provider("it gave no ID token"))?;
        let nonce = Nonce::new(flow.nonce(seal));
        let about = match self.claims(runtime, &about, token, &nonce) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => self.about(runtime, Some(&about)).await?,
            _ => about,
        };
        let claims = self.claims(runtime, &about, token, &nonce).map_err(|error| match error {
            // The code is one that somebody else's sign-in led to.
            ClaimsVerificationError::InvalidNonce(why) => Failure::Code(why),
            other => provider(other),
        })?;
        if let Some(wanted) = claims.access_token_hash() {
            let verifier = self.verifier(runtime, &about);
            let (algorithm, key) =
                (token.signing_alg().map_err(provider)?, token.signing_key(&verifier).map_err(provider)?);
            let hash =
                AccessTokenHash::from_token(answer.access_token(), algorithm, key).map_err(provider)?;
            if hash != *wanted {
                return Err(provider("the ID token is of another access token"));
            }
        }
        self.identity_of(claims)
    }

    fn identity_of(&self, claims: &CoreIdTokenClaims) -> Result<Identity, Failure> {
        let id = claims.subject().as_str();
        if id.is_empty() || id.len() > ID_MAX || id.contains(char::is_control) {
            return Err(provider("its name for the user is none"));
        }
        let is_verified = claims.email_verified().unwrap_or(self.settings.trust_email);
        let email = claims.email().filter(|_| is_verified).and_then(|email| email::normal(email).ok());
        Ok(Identity {
            id: id.to_owned(),
            email: email.ok_or(Failure::Unverified)?,
            issuer: self.issuer.clone(),
        })
    }

    fn claims<'t>(
        &self,
        runtime: &Runtime,
        about: &About,
        token: &'t CoreIdToken,
        nonce: &Nonce,
    ) -> Result<&'t CoreIdTokenClaims, ClaimsVerificationError> {
        token.claims(&self.verifier(runtime, about), nonce)
    }

    /// Takes what the provider signed with a key of its own, for this application.
    fn verifier<'r>(&self, runtime: &'r Runtime, about: &About) -> IdTokenVerifier<'r, CoreJsonWebKey> {
        use CoreJwsSigningAlgorithm as Of;
        let metadata = &about.metadata;
        let keyed = |algorithm: &&Of| {
            !matches!(algorithm, Of::HmacSha256 | Of::HmacSha384 | Of::HmacSha512 | Of::None)
        };
        let algorithms = metadata.id_token_signing_alg_values_supported().iter().filter(keyed).cloned();
        let id = ClientId::new(self.settings.client_id.clone());
        IdTokenVerifier::new_public_client(id, metadata.issuer().clone(), metadata.jwks().clone())
            .set_allowed_algs(algorithms)
            .set_time_fn(|| {
                chrono::DateTime::from_timestamp_millis(runtime.now().millis()).unwrap_or_default()
            })
    }

    fn client(&self, about: &About) -> Client {
        let id = ClientId::new(self.settings.client_id.clone());
        let secret = self.settings.client_secret.clone().map(ClientSecret::new);
        let client = CoreClient::from_provider_metadata(about.metadata.clone(), id, secret);
        let methods = about.metadata.token_endpoint_auth_methods_supported();
        let takes = |method| methods.is_some_and(|methods| methods.contains(&method));
        // The header unless told otherwise: OpenID Connect Discovery 1.0, section 3.
        if takes(CoreClientAuthMethod::ClientSecretPost) && !takes(CoreClientAuthMethod::ClientSecretBasic) {
            client.set_auth_type(AuthType::RequestBody)
        } else {
            client
        }
    }

    fn known(&self, runtime: &Runtime, than: Option<&Arc<About>>) -> Option<Arc<About>> {
        let about = self.about.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let now = runtime.now();
        let is_other =
            than.is_none_or(|than| !Arc::ptr_eq(than, &about) || about.read_at.plus(KEYS_KEPT) > now);
        (about.read_at.plus(FRESH) > now && is_other).then_some(about)
    }

    /// What the provider says of itself: what is known, unless that is old, or is no better than `than`, whose keys were not enough.
    async fn about(&self, runtime: &Runtime, than: Option<&Arc<About>>) -> Result<Arc<About>, Failure> {
        if let Some(about) = self.known(runtime, than) {
            return Ok(about);
        }
        let mut failed_at = self.asking.lock().await;
        // Who waited finds what the one before was told.
        if let Some(about) = self.known(runtime, than) {
            return Ok(about);
        }
        if failed_at.is_some_and(|failed_at| failed_at.plus(AWAY) > runtime.now()) {
            return Err(provider("it did not answer a moment ago"));
        }
        let asked = self.ask(runtime).await;
        match &asked {
            Ok(about) => {
                *self.about.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(about));
                *failed_at = None;
            }
            Err(Failure::Busy) => {}
            Err(_) => *failed_at = Some(runtime.now()),
        }
        asked
    }

    async fn ask(&self, runtime: &Runtime) -> Result<Arc<About>, Failure> {
        let issuer = IssuerUrl::new(self.issuer.clone()).map_err(provider)?;
        let metadata =
            CoreProviderMetadata::discover_async(issuer, &self.wire).await.map_err(|error| match error {
                openidconnect::DiscoveryError::Request(Unsent::Busy) => Failure::Busy,
                openidconnect::DiscoveryError::Request(Unsent::Failed(why)) => Failure::Provider(why),
                other => provider(other),
            })?;
        let endpoint = metadata.authorization_endpoint().url().scheme();
        if endpoint != "https" && !(endpoint == "http" && self.settings.allow_insecure_http) {
            return Err(provider("it does not sign in over https"));
        }
        Ok(Arc::new(About { metadata, read_at: runtime.now() }))
    }
}

fn provider(why: impl ToString) -> Failure {
    Failure::Provider(why.to_string())
}

fn redirect(flow: &Flow) -> Result<RedirectUrl, Failure> {
    RedirectUrl::new(flow.redirect.clone()).map_err(provider)
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("too many requests to providers")]
    Busy,
    #[error("{0}")]
    Failed(String),
}

/// Requests to a provider: few at a time, each for a while, and where it says, not where that leads.
struct Wire {
    agent: Agent,
    places: Arc<Semaphore>,
}

impl Wire {
    fn new(insecure: bool) -> Self {
        let config = Agent::config_builder()
            .https_only(!insecure)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .build();
        Self { agent: config.into(), places: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }
}

impl<'c> AsyncHttpClient<'c> for Wire {
    type Error = Unsent;
    type Future = BoxFuture<'c, Result<HttpResponse, Unsent>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async {
            let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Unsent::Busy)?;
            let agent = self.agent.clone();
            let sent = tokio::task::spawn_blocking(move || {
                let sent = send(&agent, request);
                drop(place);
                sent
            });
            let failed = |error: &dyn std::fmt::Display| Unsent::Failed(error.to_string());
            sent.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
        })
    }
}

fn send(agent: &Agent, request: HttpRequest) -> Result<HttpResponse, ureq::Error> {
    let (parts, body) = request.into_parts();
    let answer = match body.is_empty() {
        true => agent.run(axum::http::Request::from_parts(parts, ()))?,
        false => agent.run(axum::http::Request::from_parts(parts, body))?,
    };
    let (parts, mut body) = answer.into_parts();
    let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
    Ok(HttpResponse::from_parts(parts, body))
}
