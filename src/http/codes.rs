//! Codes that go to a user's address: who brings one back reads the mail of that address.
//!
//! None is stored. A code is signed with what it changes: once it was used, or the password is another one, it is worth nothing.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;
use walkabout_schema::{Timestamp, User};

use crate::{Result, mail::Purpose, runtime::Runtime};

/// Hexadecimal digits of an id, and of a code's signature.
const DIGITS: usize = 32;

/// Makes and checks codes.
pub(crate) struct Codes(Hmac<Sha256>);

impl Codes {
    /// With the secret that the store keeps, so that codes outlive a restart.
    pub(crate) async fn new(runtime: &Runtime) -> Result<Self> {
        let (secret, _) = runtime.secret("code", 32).await?;
        Ok(Self::with_secret(&secret))
    }

    #[expect(clippy::expect_used, reason = "a key of any length makes an HMAC")]
    fn with_secret(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("a key of any length will do"))
    }

    /// A code for a user: `<root>.<user>.<second of its end>.<signature>`.
    pub(crate) fn text(&self, user: &User, purpose: Purpose, ends_at: Timestamp) -> String {
        let second = ends_at.millis().div_euclid(1000);
        let signed = self.signed(user, purpose, second).finalize().into_bytes();
        let signature: String = signed.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
        format!("{}.{}.{second}.{signature}", user.root_id.0.simple(), user.id.0.simple())
    }

    fn signed(&self, user: &User, purpose: Purpose, second: i64) -> Hmac<Sha256> {
        // What its use changes: of an address that is verified there is no code, and a password is hashed with new salt.
        let (tag, password) = match purpose {
            Purpose::Verify => (b"v", ""),
            Purpose::Reset => (b"r", user.password.as_str()),
        };
        self.0
            .clone()
            .chain_update(tag)
            .chain_update(user.root_id.0.as_bytes())
            .chain_update(user.id.0.as_bytes())
            .chain_update(second.to_be_bytes())
            .chain_update(user.email.len().to_be_bytes())
            .chain_update(&user.email)
            .chain_update(password)
    }

    /// Whose code it is; nobody's when it is none for this, has ended, or was used.
    pub(crate) async fn user(&self, runtime: &Runtime, text: &str, purpose: Purpose) -> Result<Option<User>> {
        let Some(held) = Held::parse(text) else { return Ok(None) };
        if held.second <= runtime.now().millis().div_euclid(1000) {
            return Ok(None);
        }
        let users = runtime.users_of(held.root).await?;
        Ok(users.into_iter().find(|user| self.is(&held, user, purpose)))
    }

    fn is(&self, held: &Held, user: &User, purpose: Purpose) -> bool {
        let is_open = purpose == Purpose::Reset || !user.is_activated;
        // In constant time.
        let signed = self.signed(user, purpose, held.second).verify_truncated_left(&held.signature);
        user.id.0 == held.user && is_open && signed.is_ok()
    }
}

/// What a code's text says.
struct Held {
    root: Uuid,
    user: Uuid,
    second: i64,
    signature: [u8; DIGITS / 2],
}

impl Held {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        // The signature has as many digits as an id, and is written like one.
        let id = |part: Option<&str>| Uuid::try_parse(part.filter(|part| part.len() == DIGITS)?).ok();
        let (root, user) = (id(parts.next())?, id(parts.next())?);
        let second = parts.next()?.parse().ok()?;
        let signature = id(parts.next())?.into_bytes();
        parts.next().is_none().then_some(Self { root, user, second, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tokens::tests::ann;

    #[tokio::test]
    async fn a_code_is_for_one_thing_once_and_not_for_ever() {
        let (bench, user) = ann().await;
        let runtime = &bench.runtime;
        let codes = Codes::new(runtime).await.unwrap();
        let change = async |change: fn(&mut User)| {
            let changed = runtime.change_user(&user.email, |user| {
                change(user);
                true
            });
            assert!(changed.await.unwrap());
            runtime.user(&user.email).await.unwrap().unwrap()
        };
        let user = change(|user| user.is_activated = false).await;
        let [verify, reset] = [Purpose::Verify, Purpose::Reset]
            .map(|purpose| codes.text(&user, purpose, Timestamp::from_millis(10_000)));
        let of = async |text: &str, purpose| {
            codes.user(runtime, text, purpose).await.unwrap().map(|user| user.email)
        };
        let found = Some(user.email.clone());
        assert_eq!(of(&verify, Purpose::Verify).await, found);
        assert_eq!(of(&format!(" {reset}\n"), Purpose::Reset).await, found, "as it is copied");
        assert_eq!(of(&verify, Purpose::Reset).await, None);
        assert_eq!(of(&reset, Purpose::Verify).await, None);
        let other = User { email: "ben@example.com".to_owned(), ..user.clone() };
        let of_other = codes.text(&other, Purpose::Verify, Timestamp::from_millis(10_000));
        assert_eq!(of(&of_other, Purpose::Verify).await, None, "the address is another");
        let foreign =
            Codes::with_secret(&[1; 32]).text(&user, Purpose::Verify, Timestamp::from_millis(10_000));
        assert_eq!(of(&foreign, Purpose::Verify).await, None, "the secret of another server");
        assert_eq!(of(&verify.replace(".10.", ".11."), Purpose::Verify).await, None, "a later end");

        change(|user| user.is_activated = true).await;
        assert_eq!(of(&verify, Purpose::Verify).await, None, "it is verified");
        assert_eq!(of(&reset, Purpose::Reset).await, found);
        change(|user| user.password = "another".to_owned()).await;
        assert_eq!(of(&reset, Purpose::Reset).await, None, "it was used, or the password is another");
        let user = change(|user| user.is_activated = false).await;
        let reset = codes.text(&user, Purpose::Reset, Timestamp::from_millis(10_000));
        bench.advance(std::time::Duration::from_millis(9_999));
        assert_eq!(of(&verify, Purpose::Verify).await, found);
        bench.advance(std::time::Duration::from_millis(1));
        assert_eq!((of(&verify, Purpose::Verify).await, of(&reset, Purpose::Reset).await), (None, None));
    }

    #[test]
    fn what_is_no_code() {
        let zeros = "0".repeat(DIGITS);
        assert!(Held::parse(&format!("{zeros}.{zeros}.1.{zeros}")).is_some());
        for text in [
            String::new(),
            "...".to_owned(),
            format!("{zeros}.{zeros}.1.{zeros}."),
            format!("{zeros}.{zeros}.one.{zeros}"),
            format!("{zeros}.{zeros}.1.{zeros}0"),
            format!("{zeros}.{}.1.{zeros}", Uuid::nil()),
            format!("{zeros}.{zeros}.99999999999999999999.{zeros}"),
        ] {
            assert!(Held::parse(&text).is_none(), "{text}");
        }
    }
}
