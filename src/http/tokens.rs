//! Login tokens: who holds one is the caller that it names.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use walkabout_schema::{Timestamp, User};

use crate::{
    Error, Result,
    runtime::{Caller, Runtime},
};

/// How many verified tokens are remembered, so that a request with one of them costs no signature.
const REMEMBERED_MAX: usize = 10_000;
/// The longest token that is looked at. Ours have about 400 characters.
const TOKEN_MAX: usize = 4096;

/// What a token says, and what a login answers as `user`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The user's id, 32 hexadecimal digits.
    pub(crate) id: String,
    /// The address.
    pub(crate) email: String,
    /// The root's UUID, 32 hexadecimal digits.
    pub(crate) root_id: String,
    /// May log in.
    pub(crate) is_activated: bool,
    /// May act on everybody's runs.
    pub(crate) is_admin: bool,
    /// When the token ends, in seconds since 1970.
    pub(crate) expiration: i64,
    /// Eight random digits: no two logins have the same token.
    pub(crate) state: String,
}

/// Makes and checks tokens.
pub(crate) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    remembered: RwLock<HashMap<Box<str>, Remembered>>,
}

struct Remembered {
    caller: Caller,
    ends_at: Timestamp,
}

impl Tokens {
    /// With the secret that the store keeps, so that tokens outlive a restart.
    pub(crate) async fn new(runtime: &Runtime) -> Result<Self> {
        let (secret, _) = runtime.secret("jwt", 32).await?;
        Ok(Self::with_secret(&secret))
    }

    fn with_secret(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Tokens end by the claim `expiration`, which is compared with the clock of `Env`.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            remembered: RwLock::default(),
        }
    }

    /// A token for a user who just proved to be that user.
    pub(crate) fn issue(&self, runtime: &Runtime, user: &User) -> Result<(String, Claims)> {
        let ends_at = runtime.now().plus(runtime.config().token_lifetime);
        let claims = Claims {
            id: user.id.0.simple().to_string(),
            email: user.email.clone(),
            root_id: user.root_id.0.simple().to_string(),
            is_activated: user.is_activated,
            is_admin: user.is_admin,
            expiration: ends_at.millis().div_euclid(1000),
            state: runtime.env().random_hex(4),
        };
        Ok((self.sign(&claims)?, claims))
    }

    fn sign(&self, claims: &Claims) -> Result<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding).map_err(|error| {
            Error::Io { context: "signing a token".to_owned(), source: std::io::Error::other(error) }
        })
    }

    fn read(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        (claims.expiration > now.millis().div_euclid(1000)).then_some(claims)
    }

    /// Whom a token names; nobody when it is not ours, has ended, or its user is gone.
    pub(crate) async fn verify(&self, runtime: &Runtime, token: &str) -> Result<Option<Caller>> {
        if token.len() > TOKEN_MAX {
            return Ok(None);
        }
        let now = runtime.now();
        if let Some(caller) = self.recall(token, now) {
            return Ok(Some(caller));
        }
        let Some(claims) = self.read(token, now) else { return Ok(None) };
        let Some(user) = runtime.user(&claims.email).await? else { return Ok(None) };
        if user.id.0.simple().to_string() != claims.id || !user.is_activated {
            return Ok(None);
        }
        // What a user may do is asked of the store: the token only says who it is.
        let caller = Caller { root: user.root_id.0, admin: user.is_admin };
        let ends_at = Timestamp::from_millis(claims.expiration.saturating_mul(1000));
        self.remember(token, Remembered { caller: caller.clone(), ends_at }, now);
        Ok(Some(caller))
    }

    fn recall(&self, token: &str, now: Timestamp) -> Option<Caller> {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        remembered.get(token).filter(|known| known.ends_at > now).map(|known| known.caller.clone())
    }

    fn remember(&self, token: &str, known: Remembered, now: Timestamp) {
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, known| known.ends_at > now);
        }
        if remembered.len() >= REMEMBERED_MAX {
            // Whoever is forgotten here costs one more signature. Half at once, so that this is rare.
            let mut keep = false;
            remembered.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        remembered.insert(token.into(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expiration: i64) -> Claims {
        Claims {
            id: "0".repeat(32),
            email: "a@example.com".into(),
            root_id: "0".repeat(32),
            is_activated: true,
            is_admin: false,
            expiration,
            state: "12345678".into(),
        }
    }

    #[test]
    fn tokens_end_and_cannot_be_made_by_others() {
        let tokens = Tokens::with_secret(&[1; 32]);
        let token = tokens.sign(&claims(100)).unwrap();
        assert_eq!(tokens.read(&token, Timestamp::from_millis(99_999)), Some(claims(100)));
        assert_eq!(tokens.read(&token, Timestamp::from_millis(100_000)), None);
        assert_eq!(Tokens::with_secret(&[2; 32]).read(&token, Timestamp::from_millis(0)), None);
        assert_eq!(tokens.read("a.b.c", Timestamp::from_millis(0)), None);
    }

    #[test]
    fn few_tokens_are_remembered() {
        let tokens = Tokens::with_secret(&[1; 32]);
        for n in 0..REMEMBERED_MAX + 10 {
            let known = Remembered { caller: Caller::public(), ends_at: Timestamp::from_millis(10) };
            tokens.remember(&n.to_string(), known, Timestamp::from_millis(0));
        }
        assert!(tokens.remembered.read().unwrap().len() <= REMEMBERED_MAX);
        assert!(tokens.recall("10005", Timestamp::from_millis(9)).is_some());
        assert!(tokens.recall("10005", Timestamp::from_millis(10)).is_none());
    }
}
