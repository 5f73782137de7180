//! A sign-in under way: what is known of it when the browser comes back from the provider.
//!
//! Nothing of it is stored. The browser keeps a cookie, which names it; state, nonce and the verifier of PKCE are worked out from that and
//! a secret of the store, so any process on the store takes the browser back, and nobody else makes them.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;
use walkabout_schema::{Identity, Timestamp};

use crate::{Result, config::Config, runtime::Runtime};

/// How long a sign-in may take, and how long the proof of an identity is good.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);
/// Digits of what names a sign-in.
const NAME_DIGITS: usize = 32;
/// How many of them are in the name of its cookie.
const COOKIE_DIGITS: usize = 8;

/// What a sign-in is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Login,
    Register,
    Attach,
}

impl Operation {
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Login, Self::Register, Self::Attach].into_iter().find(|operation| operation.as_str() == text)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Register => "register",
            Self::Attach => "attach",
        }
    }
}

/// Works out what only servers of this store can.
pub(super) struct Seal(Hmac<Sha256>);

impl Seal {
    pub(super) async fn new(runtime: &Runtime) -> Result<Self> {
        let (secret, _) = runtime.secret("sso", 32).await?;
        Ok(Self::with_secret(&secret))
    }

    #[expect(clippy::expect_used, reason = "a key of any length makes an HMAC")]
    fn with_secret(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("a key of any length will do"))
    }

    fn sealed(&self, what: &str, parts: &[&str]) -> Hmac<Sha256> {
        // Each with its length, so that no two lists look alike.
        [what].iter().chain(parts).fold(self.0.clone(), |seal, part| {
            seal.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
        })
    }

    fn bytes(&self, what: &str, parts: &[&str]) -> [u8; 32] {
        self.sealed(what, parts).finalize().into_bytes().into()
    }

    /// As 64 hexadecimal digits.
    fn text(&self, what: &str, parts: &[&str]) -> String {
        self.bytes(what, parts).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether that is what [`Seal::text`] gives. It takes as long whatever is wrong.
    fn is(&self, what: &str, parts: &[&str], given: &str) -> bool {
        let halves = given.split_at_checked(32).filter(|_| given.len() == 64);
        let halves =
            halves.and_then(|(one, other)| Some([Uuid::try_parse(one).ok()?, Uuid::try_parse(other).ok()?]));
        halves.is_some_and(|[one, other]| {
            let bytes = [one.into_bytes(), other.into_bytes()].concat();
            self.sealed(what, parts).verify_slice(&bytes).is_ok()
        })
    }

    /// What proves for a while that an identity was shown here.
    pub(super) fn proof(&self, platform: &str, identity: &Identity, until: Timestamp) -> String {
        let until = until.millis().to_string();
        let text = self.text("proof", &proven(platform, identity, &until));
        format!("{until}.{text}")
    }

    pub(super) fn proves(&self, proof: &str, platform: &str, identity: &Identity, now: Timestamp) -> bool {
        let Some((until, text)) = proof.split_once('.') else { return false };
        let ends_at = until.parse().map(Timestamp::from_millis);
        let is_open = ends_at.is_ok_and(|ends_at| ends_at > now);
        is_open && self.is("proof", &proven(platform, identity, until), text)
    }
}

fn proven<'a>(platform: &'a str, identity: &'a Identity, until: &'a str) -> [&'a str; 5] {
    [platform, &identity.issuer, &identity.id, &identity.email, until]
}

/// One sign-in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Flow {
    pub(super) platform: String,
    pub(super) operation: Operation,
    /// Where the provider sends the browser back to, and which of the settings' addresses that is: none of them is 0.
    pub(super) redirect: String,
    place: usize,
    /// When it is too late, in milliseconds.
    until: String,
    name: String,
}

impl Flow {
    /// Begins one. None when the settings do not allow this address to go back to.
    pub(super) fn begin(
        runtime: &Runtime,
        platform: &str,
        operation: Operation,
        redirect: Option<&str>,
    ) -> Option<Self> {
        let config = runtime.config();
        let place = match redirect {
            None => 0,
            Some(wanted) if wanted == own_redirect(config, platform, operation) => 0,
            Some(wanted) => config.sso_redirects.iter().position(|allowed| allowed == wanted)? + 1,
        };
        let (until, name) = (runtime.now().plus(LIFETIME), runtime.env().random_hex(NAME_DIGITS / 2));
        Self::at(config, platform, operation, place, until.millis().to_string(), name)
    }

    /// The one that a browser comes back from: one of its cookies names it, this is its state, and it is not too late for it. A browser
    /// may have begun several.
    pub(super) fn back(
        runtime: &Runtime,
        seal: &Seal,
        headers: &HeaderMap,
        (platform, operation): (&str, Operation),
        state: &str,
    ) -> Option<Self> {
        let config = runtime.config();
        let begin = cookie_name(config);
        let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = pairs.flat_map(|pairs| pairs.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut begun = pairs.filter(|(name, _)| name.starts_with(begin)).filter_map(|(_, value)| {
            let mut parts = value.split('.');
            let (name, until, place) = (parts.next()?, parts.next()?, parts.next()?);
            let is_late = Timestamp::from_millis(until.parse().ok()?) <= runtime.now();
            let place = place.parse().ok().filter(|_| !is_late && parts.next().is_none())?;
            Self::at(config, platform, operation, place, until.to_owned(), name.to_owned())
        });
        begun.find(|flow| seal.is("state", &flow.parts(), state))
    }

    /// When it is too late.
    pub(super) fn until(&self) -> Timestamp {
        Timestamp::from_millis(self.until.parse().unwrap_or_default())
    }

    fn at(
        config: &Config,
        platform: &str,
        operation: Operation,
        place: usize,
        until: String,
        name: String,
    ) -> Option<Self> {
        let redirect = match place.checked_sub(1) {
            None => own_redirect(config, platform, operation),
            Some(place) => config.sso_redirects.get(place)?.clone(),
        };
        Some(Self { platform: platform.to_owned(), operation, redirect, place, until, name })
    }

    /// All that makes it what it is.
    fn parts(&self) -> [&str; 5] {
        [&self.platform, self.operation.as_str(), &self.redirect, &self.until, &self.name]
    }

    /// What the provider gives back to the browser.
    pub(super) fn state(&self, seal: &Seal) -> String {
        seal.text("state", &self.parts())
    }

    /// What the provider puts into the token.
    pub(super) fn nonce(&self, seal: &Seal) -> String {
        seal.text("nonce", &self.parts())
    }

    /// What shows the provider that who brings the code is who asked for it: RFC 7636, section 4.1.
    pub(super) fn verifier(&self, seal: &Seal) -> String {
        seal.text("verifier", &self.parts())
    }

    /// What is used up when the browser is back.
    pub(super) fn spent(&self, seal: &Seal) -> [u8; 32] {
        seal.bytes("spent", &self.parts())
    }

    /// What the browser keeps meanwhile, and shows to this server alone, also when a provider sends it here.
    pub(super) fn cookie(&self, config: &Config) -> HeaderValue {
        self.set_cookie(config, &format!("{}.{}.{}", self.name, self.until, self.place), LIFETIME)
    }

    /// Has the browser forget it.
    pub(super) fn no_cookie(&self, config: &Config) -> HeaderValue {
        self.set_cookie(config, "", Duration::ZERO)
    }

    fn set_cookie(&self, config: &Config, value: &str, lifetime: Duration) -> HeaderValue {
        let secure = if is_secure(config) { "; Secure" } else { "" };
        // Each has a cookie of its own, so that one in another tab does not end it.
        let (name, own) = (cookie_name(config), self.name.get(..COOKIE_DIGITS).unwrap_or(&self.name));
        let seconds = lifetime.as_secs();
        let text = format!("{name}{own}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// The address of the callback, as the provider knows it.
pub(super) fn own_redirect(config: &Config, platform: &str, operation: Operation) -> String {
    let host = config.sso_host.trim_end_matches('/');
    format!("{host}/{platform}/{}/callback", operation.as_str())
}

fn is_secure(config: &Config) -> bool {
    config.sso_host.starts_with("https://")
}

/// Whether browsers would send what they bring back in the clear, over a network.
pub(super) fn is_exposed(config: &Config) -> bool {
    let host = config.sso_host.strip_prefix("http://").unwrap_or_default();
    !host.is_empty() && !["localhost", "127.", "[::1]"].iter().any(|own| host.starts_with(own))
}

/// Begins the names of cookies. With `__Host-` a browser takes it from this host alone: RFC 6265bis, section 4.1.3.2.
fn cookie_name(config: &Config) -> &'static str {
    if is_secure(config) { "__Host-walkabout-sso-" } else { "walkabout-sso-" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{env::Env, testing::Bench};

    async fn bench(sso_host: &str) -> Bench {
        let config = Config {
            sso_host: sso_host.to_owned(),
            sso_redirects: vec!["https://app.example/done".to_owned()],
            ..Config::default()
        };
        Bench::build(|_| {}, config, Env::manual(Timestamp::from_millis(0), 1)).await.unwrap()
    }

    /// Comes back with a cookie, beside that of another way, and the state of the flow.
    fn back(bench: &Bench, flow: &Flow, cookie: &str) -> Option<Flow> {
        let (mut headers, seal) = (HeaderMap::new(), Seal::with_secret(&[1; 32]));
        let other = Flow::begin(&bench.runtime, "google", Operation::Login, None).unwrap();
        let other = other.cookie(bench.runtime.config()).to_str().unwrap().to_owned();
        let [pair, other] = [cookie, &other].map(|cookie| cookie.split(';').next().unwrap());
        headers.insert(header::COOKIE, format!("a=b; {other}; {pair}; c=d").parse().unwrap());
        let way = (flow.platform.as_str(), flow.operation);
        Flow::back(&bench.runtime, &seal, &headers, way, &flow.state(&seal))
    }

    #[tokio::test]
    async fn a_browser_comes_back_with_its_cookie() {
        let bench = bench("https://a.example/sso/").await;
        let seal = Seal::with_secret(&[1; 32]);
        let flow = Flow::begin(&bench.runtime, "google", Operation::Login, None).unwrap();
        assert_eq!(flow.redirect, "https://a.example/sso/google/login/callback");
        let cookie = flow.cookie(bench.runtime.config()).to_str().unwrap().to_owned();
        assert!(cookie.starts_with("__Host-walkabout-sso-"), "{cookie}");
        assert!(cookie.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
        assert!(!cookie.contains(&flow.verifier(&seal)) && !cookie.contains(&flow.nonce(&seal)));
        let found = back(&bench, &flow, &cookie).unwrap();
        assert_eq!(found, flow);
        let has_state = |flow: &Flow, given: &str| seal.is("state", &flow.parts(), given);
        for other in [
            Flow { platform: "gitlab".to_owned(), ..flow.clone() },
            Flow { operation: Operation::Register, ..flow.clone() },
            Flow { redirect: "https://app.example/done".to_owned(), ..flow.clone() },
            Flow { until: "700000".to_owned(), ..flow.clone() },
            Flow::begin(&bench.runtime, "google", Operation::Login, None).unwrap(),
        ] {
            assert!(!has_state(&other, &flow.state(&seal)), "{other:?}");
            assert_eq!(back(&bench, &other, &cookie), None, "{other:?}");
        }
        assert!(!has_state(&flow, &flow.state(&Seal::with_secret(&[2; 32]))), "of another store");
        for wrong in ["", "0", &"0".repeat(64), &flow.nonce(&seal), &format!("{}0", flow.state(&seal))] {
            assert!(!has_state(&flow, wrong), "{wrong}");
        }
        bench.advance(LIFETIME - Duration::from_millis(1));
        assert!(back(&bench, &flow, &cookie).is_some());
        bench.advance(Duration::from_millis(1));
        assert_eq!(back(&bench, &flow, &cookie), None, "it is too late");
    }

    #[tokio::test]
    async fn browsers_go_back_where_the_settings_allow() {
        let bench = bench("http://localhost:8000/sso").await;
        let begin = |redirect| Flow::begin(&bench.runtime, "google", Operation::Login, Some(redirect));
        assert_eq!(begin("http://localhost:8000/sso/google/login/callback").unwrap().place, 0);
        let flow = begin("https://app.example/done").unwrap();
        let cookie = flow.cookie(bench.runtime.config()).to_str().unwrap().to_owned();
        assert!(cookie.starts_with("walkabout-sso-") && !cookie.contains("Secure"), "{cookie}");
        assert_eq!(back(&bench, &flow, &cookie), Some(flow.clone()));
        for wrong in [
            "https://app.example/done/",
            "https://evil.example/",
            "http://localhost:8000/sso/google/register/callback",
        ] {
            assert_eq!(begin(wrong), None, "{wrong}");
        }
        for broken in [
            "walkabout-sso-",
            "walkabout-sso-=",
            "walkabout-sso-a=a.b.c",
            "walkabout-sso-a=a.600000.2",
            "walkabout-sso-a=a.600000.0.0",
        ] {
            assert_eq!(back(&bench, &flow, broken), None, "{broken}");
        }
    }

    #[test]
    fn a_proof_is_of_one_identity() {
        let (seal, at) = (Seal::with_secret(&[1; 32]), Timestamp::from_millis);
        let identity = |id: &str, email: &str, issuer: &str| Identity {
            id: id.to_owned(),
            email: email.to_owned(),
            issuer: issuer.to_owned(),
        };
        let proof = seal.proof("google", &identity("1", "ann@example.com", "a"), at(10));
        let proves = |proof: &str, id: &str, email: &str, now| {
            seal.proves(proof, "google", &identity(id, email, "a"), at(now))
        };
        assert!(proves(&proof, "1", "ann@example.com", 9));
        assert!(!proves(&proof, "1", "ann@example.com", 10), "it is over");
        assert!(!proves(&proof, "2", "ann@example.com", 9));
        assert!(!proves(&proof, "1a", "nn@example.com", 9));
        assert!(
            !seal.proves(&proof, "google", &identity("1", "ann@example.com", "b"), at(9)),
            "another issuer"
        );
        let later = proof.replacen("10.", "11.", 1);
        for wrong in ["", ".", "10.", "10.00", &later] {
            assert!(!proves(wrong, "1", "ann@example.com", 9), "{wrong}");
        }
    }
}
