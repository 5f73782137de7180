//! Webhook keys: with one of them anybody calls the walkers that it is for, as the root of who made it.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;
use walkabout_schema::WebhookKey;

use crate::{
    Result,
    runtime::{Caller, Runtime, Scope},
};

/// Hexadecimal digits of a key's secret.
const SECRET_DIGITS: usize = 32;

/// Works out the secrets of keys, so that none has to be stored.
pub(crate) struct Keys(Hmac<Sha256>);

impl Keys {
    /// With the secret that the store keeps, so that keys outlive a restart.
    pub(crate) async fn new(runtime: &Runtime) -> Result<Self> {
        let (secret, _) = runtime.secret("webhook", 32).await?;
        Ok(Self::with_secret(&secret))
    }

    #[expect(clippy::expect_used, reason = "a key of any length makes an HMAC")]
    fn with_secret(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("a key of any length will do"))
    }

    /// The key as its holder has it: `<root>:<second of its creation>:<secret>`.
    pub(crate) fn text(&self, root: Uuid, key: &WebhookKey) -> String {
        let digest = self.digest(root, key).finalize().into_bytes();
        let secret: String =
            digest.iter().take(SECRET_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
        format!("{}:{}:{secret}", root.simple(), second(key))
    }

    fn digest(&self, root: Uuid, key: &WebhookKey) -> Hmac<Sha256> {
        self.0.clone().chain_update(root.as_bytes()).chain_update(key.id.0.as_bytes())
    }

    /// Whoever a key is of, kept to what it is for; nobody when it is none, has ended, or was deleted. The store is asked each time, so
    /// a deleted key is worth nothing from then on.
    pub(crate) async fn caller(&self, runtime: &Runtime, text: &str) -> Result<Option<Caller>> {
        let Some(held) = Held::parse(text) else { return Ok(None) };
        let (users, now) = (runtime.users_of(held.root).await?, runtime.now());
        let mut keys = users.iter().filter(|user| runtime.admits(user)).flat_map(|user| &user.webhook_keys);
        let found = keys.find(|key| key.ends_at > now && self.is(&held, key));
        Ok(found.map(|key| {
            let (walkers, nodes) = (key.walkers.clone(), key.nodes.clone());
            let scope = Scope { id: key.id.0, walkers, nodes };
            Caller { scope: Some(scope.into()), ..Caller::user(held.root) }
        }))
    }

    fn is(&self, held: &Held, key: &WebhookKey) -> bool {
        second(key) == held.second && self.digest(held.root, key).verify_truncated_left(&held.secret).is_ok()
    }
}

fn second(key: &WebhookKey) -> i64 {
    key.created_at.millis().div_euclid(1000)
}

/// What a key's text says.
#[derive(Clone, Copy)]
struct Held {
    root: Uuid,
    second: i64,
    secret: [u8; SECRET_DIGITS / 2],
}

impl Held {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (root, second, secret) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        // The secret has as many digits as a UUID, and is written like one.
        let secret = simple(secret)?.into_bytes();
        Some(Self { root: simple(root)?, second: second.parse().ok()?, secret })
    }
}

/// Thirty-two hexadecimal digits.
fn simple(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == SECRET_DIGITS)
}

#[cfg(test)]
mod tests {
    use walkabout_schema::{Key, Timestamp};

    use super::*;
    use crate::{config::Config, http::tokens::tests::ann_with};

    fn key(id: u128) -> WebhookKey {
        let at = Timestamp::from_millis(1_700_000_000_999);
        let (walkers, nodes) = (Vec::new(), Vec::new());
        let (id, name) = (Key(Uuid::from_u128(id)), "a".to_owned());
        WebhookKey { id, name, walkers, nodes, created_at: at, ends_at: at }
    }

    #[test]
    fn a_key_is_known_by_its_text() {
        let keys = Keys::with_secret(&[1; 32]);
        let text = keys.text(Uuid::from_u128(7), &key(1));
        let (front, secret) = text.rsplit_once(':').unwrap();
        assert_eq!(front, "00000000000000000000000000000007:1700000000");
        assert_eq!(secret.len(), SECRET_DIGITS);
        let held = Held::parse(&text).unwrap();
        assert_eq!(held.root, Uuid::from_u128(7));
        assert!(keys.is(&held, &key(1)));
        assert!(!keys.is(&held, &key(2)), "another key of the same root and second");
        assert!(!keys.is(&Held { root: Uuid::nil(), ..held }, &key(1)), "another root");
        assert!(!Keys::with_secret(&[2; 32]).is(&held, &key(1)), "the secret of another server");
        let later = WebhookKey { created_at: Timestamp::from_millis(1_700_000_001_000), ..key(1) };
        assert!(!keys.is(&held, &later));
    }

    #[test]
    fn what_is_no_key() {
        let zeros = "0".repeat(32);
        for text in ["", ":", "::", "a:1:b", "0:1:0"] {
            assert!(Held::parse(text).is_none(), "{text}");
        }
        assert!(Held::parse(&format!("{zeros}:1:{zeros}")).is_some());
        for text in [
            format!("{zeros}:1:{zeros}:"),
            format!("{zeros}:1:{zeros}0"),
            format!("{zeros}:1:{}", &zeros[1..]),
            format!("{zeros}:one:{zeros}"),
            format!("{{{}}}:1:{zeros}", Uuid::nil()),
            format!("{}:1:{zeros}", Uuid::nil()),
        ] {
            assert!(Held::parse(&text).is_none(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_key_ends_and_its_user_with_it() {
        let config = Config { restrict_unverified_user: true, ..Config::default() };
        let (bench, user) = ann_with(config).await;
        let runtime = &bench.runtime;
        let keys = Keys::new(runtime).await.unwrap();
        let made =
            WebhookKey { ends_at: Timestamp::from_millis(1000), nodes: vec!["root".to_owned()], ..key(1) };
        let text = keys.text(user.root_id.0, &made);
        assert_eq!(keys.caller(runtime, &text).await.unwrap(), None, "nobody made it yet");
        let change = async |is_activated, made: &WebhookKey| {
            let changed = runtime.change_user(&user.email, |user| {
                user.is_activated = is_activated;
                user.webhook_keys = vec![made.clone()];
                true
            });
            assert!(changed.await.unwrap());
        };
        change(true, &made).await;
        let scope = Scope { id: made.id.0, walkers: Vec::new(), nodes: made.nodes.clone() };
        let caller = Caller { scope: Some(scope.into()), ..Caller::user(user.root_id.0) };
        assert_eq!(keys.caller(runtime, &text).await.unwrap(), Some(caller));
        change(false, &made).await;
        assert_eq!(keys.caller(runtime, &text).await.unwrap(), None, "the address is not verified");
        change(true, &made).await;
        bench.advance(std::time::Duration::from_millis(999));
        assert!(keys.caller(runtime, &text).await.unwrap().is_some());
        bench.advance(std::time::Duration::from_millis(1));
        assert_eq!(keys.caller(runtime, &text).await.unwrap(), None, "it has ended");
        change(true, &WebhookKey { ends_at: Timestamp::from_millis(2000), ..made }).await;
        assert!(keys.caller(runtime, &text).await.unwrap().is_some(), "and was extended");
    }
}
