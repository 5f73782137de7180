//! Signs users in with OpenID Connect providers, those of the settings: the authorization code flow with PKCE, a state and a nonce.
//!
//! A browser goes from here to the provider and comes back with a code; see [`flow`] for what binds the two ways to one browser. An
//! identity, which is a provider and its name for a user, is of one user; the store sees to it.

mod describe;
mod flow;
mod provider;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use openidconnect::url::form_urlencoded;
use serde::Deserialize;
use serde_json::json;
use walkabout_schema::{Identity, Timestamp, User};

pub(crate) use self::describe::{
    describe_attach, describe_begin, describe_callback, describe_detach, describe_posted,
};
use self::{
    flow::{Flow, LIFETIME, Operation, Seal},
    provider::{Failure, PASSED_ON, Provider},
};
use super::{
    Server,
    extract::{self, Parameters, Segments},
    problem::{Detail, Refusal, answer},
    users::{self, ALREADY_EXISTS},
};
use crate::{
    Error, Result,
    runtime::Runtime,
    store,
    walker::{FieldKind, Spec},
};

const ALREADY_ATTACHED: Refusal = Refusal::NotDone("Already Attached!");
const FAILED: Refusal = Refusal::NotDone("Sign-in failed. Begin again.");
/// What of a browser's way back goes on with it when the provider had it post a form.
const BROUGHT: [&str; 3] = ["code", "state", "error"];
/// The longest query of a way back that is sent on, in bytes.
const BROUGHT_MAX: usize = 8 << 10;

/// The providers of the settings.
pub(crate) struct Sso {
    seal: Seal,
    providers: BTreeMap<String, Provider>,
}

impl Sso {
    pub(crate) async fn new(runtime: &Runtime) -> Result<Self> {
        let config = runtime.config();
        if !config.sso.is_empty() && flow::is_exposed(config) {
            tracing::warn!(
                sso_host = config.sso_host,
                "sign-ins go over plain HTTP: sso_host should begin with https://"
            );
        }
        let providers = config.sso.iter();
        let providers = providers.map(|(name, settings)| (name.clone(), Provider::new(name, settings)));
        Ok(Self { seal: Seal::new(runtime).await?, providers: providers.collect() })
    }

    fn provider(&self, platform: &str) -> Result<&Provider, Refusal> {
        self.providers.get(platform).ok_or(Refusal::NotOffered)
    }

    /// What a path names.
    fn named(&self, platform: &str, operation: &str) -> Result<(&Provider, Operation), Refusal> {
        let operation = Operation::parse(operation).ok_or(Refusal::NotOffered)?;
        Ok((self.provider(platform)?, operation))
    }
}

/// `GET /sso/{platform}/{operation}`: sends the browser to the provider (303). `operation` is `login`, `register` or `attach`; the query
/// may have `redirect_uri`, one of the settings. 501 for what is not offered, 422 for another `redirect_uri`, 502 when the provider
/// cannot be asked.
pub(crate) async fn begin(
    State(server): State<Arc<Server>>,
    Segments((platform, operation)): Segments<(String, String)>,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    let (provider, operation) = server.sso.named(&platform, &operation)?;
    let (runtime, seal) = (&server.runtime, &server.sso.seal);
    let wanted = parameters.text("redirect_uri");
    let flow = Flow::begin(runtime, &platform, operation, wanted).ok_or_else(|| {
        let msg = "Value error, sign-ins do not lead there: the setting sso_redirects has the addresses that they may lead to";
        let loc = vec!["query".into(), "redirect_uri".into()];
        Refusal::detail(Detail::new("value_error", loc, msg).input(wanted.into()))
    })?;
    let asked = PASSED_ON.into_iter().filter_map(|name| Some((name, parameters.text(name)?)));
    let address =
        provider.address(runtime, seal, &flow, asked).await.map_err(|failure| refused(&platform, failure))?;
    let response = see(&address)?;
    Ok(kept_to_itself(response, Some(flow.cookie(runtime.config()))))
}

/// `GET /sso/{platform}/{operation}/callback`: where the browser comes back with a code. `login` and `register` answer 200 as
/// `POST /user/login`, `attach` answers 200 `{"platform","id","email","proof","expires_in"}` for `POST /sso/attach`. 403 with a `message`
/// when the sign-in failed, is over or was begun elsewhere, when the address is not verified, and when there is no such user (`login`) or
/// already one (`attach`); 409 when a user has the address (`register`); 501 for what is not offered; 502 when the provider fails.
pub(crate) async fn callback(
    State(server): State<Arc<Server>>,
    Segments((platform, operation)): Segments<(String, String)>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    let (provider, operation) = server.sso.named(&platform, &operation)?;
    let (state, way) = (parameters.text("state").unwrap_or_default(), (platform.as_str(), operation));
    let flow = Flow::back(&server.runtime, &server.sso.seal, &headers, way, state).ok_or(FAILED)?;
    // From here on the sign-in is over, however it ends.
    let ended = end(&server, provider, &flow, &parameters).await;
    Ok(kept_to_itself(ended.into_response(), Some(flow.no_cookie(server.runtime.config()))))
}

/// `POST /sso/{platform}/{operation}/callback`: where a provider has the browser post its form; sends it on by GET (303), since only then
/// it shows its cookie.
pub(crate) async fn posted(
    State(server): State<Arc<Server>>,
    Segments((platform, operation)): Segments<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (_, operation) = server.sso.named(&platform, &operation)?;
    let (parts, body) = request.into_parts();
    let config = server.runtime.config();
    let body = extract::bytes(&parts.headers, body, config).await?;
    let form = form_urlencoded::parse(&body).filter(|(name, _)| BROUGHT.contains(&name.as_ref()));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    if query.len() > BROUGHT_MAX {
        return Err(FAILED);
    }
    let response = see(&format!("{}?{query}", flow::own_redirect(config, &platform, operation)))?;
    Ok(kept_to_itself(response, None))
}

/// Brings a sign-in to its end.
async fn end(
    server: &Server,
    provider: &Provider,
    flow: &Flow,
    parameters: &Parameters,
) -> Result<Response, Refusal> {
    let (runtime, seal) = (&server.runtime, &server.sso.seal);
    let (code, error) = (parameters.text("code"), parameters.text("error"));
    if code.or(error).is_none() || !runtime.spend(flow.spent(seal), flow.until()).await? {
        return Err(FAILED);
    }
    if let Some(error) = error {
        tracing::info!(platform = flow.platform, error, "a provider did not sign somebody in");
        return Err(Refusal::NotDone("The provider did not sign you in."));
    }
    let identity = provider.identity(runtime, seal, flow, code.ok_or(FAILED)?).await;
    let identity = identity.map_err(|failure| refused(&flow.platform, failure))?;
    let user = runtime.user_of_identity(&flow.platform, &identity).await?;
    match flow.operation {
        Operation::Login => logged_in(server, &user.ok_or(Refusal::NotDone("Not Existing!"))?).await,
        Operation::Register => match user {
            Some(user) => logged_in(server, &user).await,
            None => register(server, &flow.platform, identity).await,
        },
        Operation::Attach if user.is_some() => Err(ALREADY_ATTACHED),
        Operation::Attach => Ok(proven(seal, &flow.platform, &identity, runtime.now().plus(LIFETIME))),
    }
}

fn proven(seal: &Seal, platform: &str, identity: &Identity, until: Timestamp) -> Response {
    let proof = seal.proof(platform, identity, until);
    let Identity { id, email, .. } = identity;
    let body = json!({ "platform": platform, "id": id, "email": email, "proof": proof, "expires_in": LIFETIME.as_secs() });
    answer(StatusCode::OK, &body)
}

async fn logged_in(server: &Server, user: &User) -> Result<Response, Refusal> {
    if !server.runtime.admits(user) {
        return Err(Refusal::NotVerified);
    }
    let issued = server.tokens.issue(&server.runtime, user, None).await?;
    issued.map(|issued| users::logged_in(&issued)).ok_or(Refusal::BadLogin)
}

/// Makes a user of who is not known. A user who has the address is given the identity only where the address was shown to be that user's:
/// else whoever registered it first, with a password, would be let into what is done here later.
async fn register(server: &Server, platform: &str, identity: Identity) -> Result<Response, Refusal> {
    let runtime = &server.runtime;
    let given = runtime.change_user(&identity.email, |user| {
        let is_free = user.is_verified && !user.sso.contains_key(platform);
        is_free && user.sso.insert(platform.to_owned(), identity.clone()).is_none()
    });
    let is_given = given.await.or_else(|error| if is_taken(&error) { Ok(false) } else { Err(error) })?;
    if !is_given && runtime.user(&identity.email).await?.is_none() {
        // A provider gives none of them: where the application asks for some, a user registers first, and attaches.
        let more = Refusal::NotDone("More is asked for here: register with a password, then attach.");
        let fields = runtime.own_fields(serde_json::Map::new()).map_err(|_| more)?;
        runtime.register_identity(platform, identity.clone(), fields).await?;
    }
    // Another request may have been first.
    let user = runtime.user_of_identity(platform, &identity).await?;
    logged_in(server, &user.ok_or(Refusal::Clash(ALREADY_EXISTS))?).await
}

/// Whether a user was not changed because the identity is another's.
fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Store(store::Error::Conflict(users)) if !users.is_empty())
}

/// `POST /sso/attach`: gives who is logged in an identity, as the callback of `attach` answered it, and shows the password, if the account
/// has one: it is a way in that outlives this login. 200 `{"message"}`; 403 without its proof or the password, and when it is somebody's or
/// the user has another one there; 501 for what is not offered.
pub(crate) async fn attach(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Shown {
        platform: String,
        id: String,
        email: String,
        proof: String,
        #[serde(default)]
        password: Option<String>,
    }
    static SPEC: LazyLock<Spec> = LazyLock::new(|| {
        let names = ["platform", "id", "email", "proof"];
        let spec = names.into_iter().fold(Spec::new(), |spec, name| spec.field(name, FieldKind::Required));
        spec.field("password", FieldKind::Optional)
    });
    let (login, shown) = extract::body::<Shown>(&server, request, &SPEC).await?;
    let Shown { platform, id, email, proof, password } = shown;
    let identity = Identity { id, email, issuer: server.sso.provider(&platform)?.issuer().to_owned() };
    if !server.sso.seal.proves(&proof, &platform, &identity, server.runtime.now()) {
        return Err(FAILED);
    }
    if !users::of_login(&server, &login).await?.password.is_empty() {
        let failed = Refusal::NotDone("Update Failed!");
        let missing = || Refusal::detail(Detail::missing(vec!["body".into(), "password".into()], json!({})));
        users::prove(&server, &login, password.ok_or_else(missing)?, failed).await?;
    }
    let attached = users::change(&server, &login, |user| {
        let is_free = !user.sso.contains_key(&platform);
        is_free && user.sso.insert(platform.clone(), identity.clone()).is_none()
    });
    match attached.await {
        Ok(true) => Ok(updated()),
        Ok(false) => Err(ALREADY_ATTACHED),
        Err(Refusal::Engine(error)) if is_taken(&error) => Err(ALREADY_ATTACHED),
        Err(other) => Err(other),
    }
}

/// `DELETE /sso/detach`: takes the identity of a platform from who is logged in: 200 `{"message"}`, also when there is none; 403 when the
/// user could not log in any more; 501 for what is not offered, and is not attached.
pub(crate) async fn detach(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Which {
        platform: String,
    }
    static SPEC: LazyLock<Spec> = LazyLock::new(|| Spec::new().field("platform", FieldKind::Required));
    let (login, Which { platform }) = extract::body(&server, request, &SPEC).await?;
    let (mut is_there, mut is_last) = (false, false);
    let changed = users::change(&server, &login, |user| {
        is_there = user.sso.remove(&platform).is_some();
        is_last = user.sso.is_empty() && user.password.is_empty();
        is_there && !is_last
    });
    changed.await?;
    if is_there && is_last {
        return Err(Refusal::NotDone("The account has no password, so this is its only way in."));
    }
    if !is_there {
        server.sso.provider(&platform)?;
    }
    Ok(updated())
}

fn updated() -> Response {
    answer(StatusCode::OK, &json!({ "message": "Successfully Updated SSO!" }))
}

fn refused(platform: &str, failure: Failure) -> Refusal {
    match failure {
        Failure::Provider(why) => {
            tracing::warn!(platform, why, "a provider cannot sign anybody in");
            Refusal::BadProvider
        }
        Failure::Code(why) => {
            tracing::info!(platform, why, "a sign-in failed");
            FAILED
        }
        Failure::Unverified => Refusal::NotDone("The provider does not say that the address is yours."),
        Failure::Busy => Error::Busy("sign-ins".to_owned()).into(),
    }
}

/// Sends a browser elsewhere.
fn see(address: &str) -> Result<Response, Refusal> {
    let location = HeaderValue::from_str(address).map_err(|_| Refusal::BadProvider)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}

/// Nobody but the browser keeps the answer, or hears of its address.
fn kept_to_itself(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    if let Some(cookie) = cookie {
        headers.insert(header::SET_COOKIE, cookie);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    response
}
