//! Login tokens: who holds one is the caller that it names, for as long as the login is listed with its user.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use walkabout_schema::{Session, Ticket, Timestamp, User};

use crate::{
    Error, Result,
    runtime::{Caller, Runtime},
    users::shown,
};

/// How many verified tokens are remembered, so that a request with one of them costs no signature.
const REMEMBERED_MAX: usize = 10_000;
/// How long what the store said of a login is taken for true. In the process that ends a login, it ends at once.
const FRESH: Duration = Duration::from_secs(1);
/// The longest token that is looked at. Ours have about 400 characters, and at most 2,800 more for the own fields of users.
const TOKEN_MAX: usize = 4096;
/// Logins of one user at a time; one more ends the oldest.
const SESSIONS_MAX: usize = 1000;

/// How long a ticket is good.
pub(crate) const TICKET_LIFETIME: Duration = Duration::from_secs(30);
/// Tickets of one user at a time; one more ends the oldest.
const TICKETS_MAX: usize = 100;

/// What a token says, and what a login answers as `user`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Claims {
    /// The user's id, 32 hexadecimal digits.
    pub(crate) id: String,
    /// The address.
    pub(crate) email: String,
    /// The root's UUID, 32 hexadecimal digits.
    pub(crate) root_id: String,
    /// The address is verified, or need not be.
    pub(crate) is_activated: bool,
    /// May act on everybody's runs.
    pub(crate) is_admin: bool,
    /// When the token ends, in seconds since 1970.
    pub(crate) expiration: i64,
    /// Eight random digits: no two logins have the same token.
    pub(crate) state: String,
    /// What the application's users have beside these.
    #[serde(flatten)]
    pub(crate) own: Map<String, Value>,
}

impl Claims {
    fn of(user: &User, session: &Session) -> Self {
        Self {
            id: user.id.0.simple().to_string(),
            email: user.email.clone(),
            root_id: user.root_id.0.simple().to_string(),
            is_activated: user.is_activated,
            is_admin: user.is_admin,
            expiration: session.ends_at.millis().div_euclid(1000),
            state: session.state.clone(),
            own: shown(&user.fields),
        }
    }
}

fn digest(ticket: &str) -> String {
    Sha256::digest(ticket).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes and checks tokens.
pub(crate) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    remembered: RwLock<HashMap<Box<str>, Remembered>>,
    /// Counts the logins that ended here: what was read before one did is not remembered.
    ended: AtomicU64,
}

#[derive(Clone)]
struct Remembered {
    login: Login,
    caller: Caller,
    /// When the store was asked.
    seen_at: Timestamp,
}

/// What a good token stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Login {
    pub(crate) email: String,
    id: String,
    state: String,
    ends_at: Timestamp,
}

impl Login {
    fn of(claims: &Claims) -> Self {
        let ends_at = Timestamp::from_millis(claims.expiration.saturating_mul(1000));
        Self { email: claims.email.clone(), id: claims.id.clone(), state: claims.state.clone(), ends_at }
    }

    fn is_of(&self, user: &User) -> bool {
        user.id.0.simple().to_string() == self.id
    }

    /// Whether it is listed with its user.
    pub(crate) fn is_listed(&self, user: &User) -> bool {
        self.is_of(user) && user.sessions.iter().any(|session| session.state == self.state)
    }
}

impl Tokens {
    /// With the secret of the settings, or the one that the store keeps, so that tokens outlive a restart.
    pub(crate) async fn new(runtime: &Runtime) -> Result<Self> {
        if let Some(secret) = &runtime.config().token_secret {
            return Ok(Self::with_secret(secret.as_bytes()));
        }
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
            ended: AtomicU64::new(0),
        }
    }

    /// A token for a user who just proved to be that user, in the place of an earlier login; none when the user, or that login, is gone
    /// meanwhile.
    pub(crate) async fn issue(
        &self,
        runtime: &Runtime,
        user: &User,
        instead_of: Option<&Login>,
    ) -> Result<Option<(String, Claims)>> {
        let (token, claims) = self.make(runtime, user)?;
        let (now, login) = (runtime.now(), Login::of(&claims));
        let listed = runtime.change_user(&user.email, |stored| {
            // The same user with the same password as when it was compared.
            let is_same = stored.id == user.id && stored.password == user.password;
            if !is_same || instead_of.is_some_and(|login| !login.is_listed(stored)) {
                return false;
            }
            let sessions = &mut stored.sessions;
            sessions.retain(|session| {
                session.ends_at > now && instead_of.is_none_or(|login| session.state != login.state)
            });
            let over = (sessions.len() + 1).saturating_sub(SESSIONS_MAX);
            sessions.drain(..over);
            sessions.push(Session { state: login.state.clone(), ends_at: login.ends_at });
            true
        });
        Ok(listed.await?.then_some((token, claims)))
    }

    /// Ends one login. It has ended in this process when this answers, elsewhere within [`FRESH`].
    pub(crate) async fn end(&self, runtime: &Runtime, login: &Login) -> Result<()> {
        let ended = runtime.change_user(&login.email, |user| {
            let is_listed = login.is_listed(user);
            user.sessions.retain(|session| session.state != login.state);
            is_listed
        });
        ended.await?;
        self.forget(login);
        Ok(())
    }

    /// A ticket, which stands for a login once and for [`TICKET_LIFETIME`]; none when the login has ended. Only its digest is stored.
    pub(crate) async fn ticket(&self, runtime: &Runtime, login: &Login) -> Result<Option<String>> {
        let (now, secret) = (runtime.now(), runtime.env().random_hex(16));
        let mut text = String::new();
        let listed = runtime.change_user(&login.email, |user| {
            text = format!("{}:{secret}", user.root_id.0.simple());
            user.tickets.retain(|ticket| ticket.ends_at > now);
            let over = (user.tickets.len() + 1).saturating_sub(TICKETS_MAX);
            user.tickets.drain(..over);
            let (digest, session) = (digest(&text), login.state.clone());
            user.tickets.push(Ticket { digest, session, ends_at: now.plus(TICKET_LIFETIME) });
            login.is_listed(user)
        });
        Ok(listed.await?.then_some(text))
    }

    /// The token of the login that a ticket stands for. It is worth nothing from then on.
    pub(crate) async fn redeem(&self, runtime: &Runtime, text: &str) -> Result<Option<String>> {
        let root = text.split_once(':').and_then(|(root, _)| Uuid::try_parse(root).ok());
        let (Some(root), digest, now) = (root, digest(text), runtime.now()) else { return Ok(None) };
        for user in runtime.users_of(root).await? {
            let mut claims = None;
            let redeemed = runtime.change_user(&user.email, |user| {
                let is_it = |ticket: &Ticket| ticket.digest == digest && ticket.ends_at > now;
                let Some(place) = user.tickets.iter().position(is_it) else { return false };
                let ticket = user.tickets.remove(place);
                let session = user.sessions.iter().find(|session| session.state == ticket.session);
                claims = session.map(|session| Claims::of(user, session));
                true
            });
            if redeemed.await? {
                return claims.map(|claims| self.sign(&claims)).transpose();
            }
        }
        Ok(None)
    }

    /// Forgets a login that the store lists no longer.
    pub(crate) fn forget(&self, login: &Login) {
        self.forget_those(|known| known.login == *login);
    }

    /// Forgets the logins of a user, which the store lists no longer.
    pub(crate) fn forget_user(&self, user: &User) {
        self.forget_those(|known| known.login.is_of(user));
    }

    fn forget_those(&self, is_gone: impl Fn(&Remembered) -> bool) {
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        self.ended.fetch_add(1, Ordering::SeqCst);
        remembered.retain(|_, known| !is_gone(known));
    }

    fn make(&self, runtime: &Runtime, user: &User) -> Result<(String, Claims)> {
        let ends_at = runtime.now().plus(runtime.config().token_lifetime);
        let claims = Claims::of(user, &Session { state: runtime.env().random_hex(4), ends_at });
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

    /// Whom a token names, and its login; nobody when it is not ours, has ended, or is not listed any more.
    pub(crate) async fn verify(&self, runtime: &Runtime, token: &str) -> Result<Option<(Caller, Login)>> {
        if token.len() > TOKEN_MAX {
            return Ok(None);
        }
        let now = runtime.now();
        let known = self.recall(token, now);
        if let Some(known) = known.as_ref().filter(|known| known.seen_at.plus(FRESH) > now) {
            return Ok(Some((known.caller.clone(), known.login.clone())));
        }
        let was_known = known.is_some();
        let login = known.map(|known| known.login).or_else(|| Some(Login::of(&self.read(token, now)?)));
        let Some(login) = login else { return Ok(None) };
        let ended = self.ended.load(Ordering::SeqCst);
        let user = runtime.user(&login.email).await?;
        let Some(user) = user.filter(|user| login.is_listed(user) && runtime.admits(user)) else {
            if was_known {
                self.forget(&login);
            }
            return Ok(None);
        };
        // What a user may do is asked of the store: the token only says who it is.
        let caller = Caller { admin: user.is_admin, ..Caller::user(user.root_id.0) };
        self.remember(
            token,
            Remembered { login: login.clone(), caller: caller.clone(), seen_at: now },
            ended,
        );
        Ok(Some((caller, login)))
    }

    fn recall(&self, token: &str, now: Timestamp) -> Option<Remembered> {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        remembered.get(token).filter(|known| known.login.ends_at > now).cloned()
    }

    fn remember(&self, token: &str, known: Remembered, ended: u64) {
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if self.ended.load(Ordering::SeqCst) != ended {
            return;
        }
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, other| other.login.ends_at > known.seen_at);
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
pub(crate) mod tests {
    use super::*;
    use crate::{config::Config, env::Env, testing::Bench};

    /// A bench at the beginning of time, with a user.
    pub(crate) async fn ann() -> (Bench, User) {
        ann_with(Config::default()).await
    }

    /// The same with settings of its own.
    pub(crate) async fn ann_with(config: Config) -> (Bench, User) {
        let env = Env::manual(Timestamp::from_millis(0), 1);
        let bench = Bench::build(|_| {}, config, env).await.unwrap();
        let email = "ann@example.com";
        bench.runtime.register(email.to_owned(), "hash".to_owned()).await.unwrap();
        let user = bench.runtime.user(email).await.unwrap().unwrap();
        (bench, user)
    }

    fn claims(expiration: i64) -> Claims {
        Claims {
            id: "0".repeat(32),
            email: "a@example.com".into(),
            root_id: "0".repeat(32),
            is_activated: true,
            is_admin: false,
            expiration,
            state: "12345678".into(),
            own: Map::new(),
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
        let known = |n: usize| {
            let login = Login { state: n.to_string(), ..Login::of(&claims(10)) };
            Remembered { login, caller: Caller::public(), seen_at: Timestamp::from_millis(0) }
        };
        for n in 0..REMEMBERED_MAX + 10 {
            tokens.remember(&n.to_string(), known(n), 0);
        }
        assert!(tokens.remembered.read().unwrap().len() <= REMEMBERED_MAX);
        assert!(tokens.recall("10005", Timestamp::from_millis(9_999)).is_some());
        assert!(tokens.recall("10005", Timestamp::from_millis(10_000)).is_none());
        // What was read before a login ended may be of that login.
        tokens.forget(&known(10_005).login);
        assert!(tokens.recall("10005", Timestamp::from_millis(0)).is_none());
        tokens.remember("10005", known(10_005), 0);
        assert!(tokens.recall("10005", Timestamp::from_millis(0)).is_none());
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_logins_ends() {
        let (bench, user) = ann().await;
        let runtime = &bench.runtime;
        let tokens = Tokens::new(runtime).await.unwrap();
        let (oldest, _) = tokens.issue(runtime, &user, None).await.unwrap().unwrap();
        let (second, _) = tokens.issue(runtime, &user, None).await.unwrap().unwrap();
        for _ in 2..=SESSIONS_MAX {
            assert!(tokens.issue(runtime, &user, None).await.unwrap().is_some());
        }
        assert_eq!(tokens.verify(runtime, &oldest).await.unwrap(), None);
        let (_, login) = tokens.verify(runtime, &second).await.unwrap().unwrap();
        // Logins that have ended by themselves make room, and are listed no longer.
        bench.advance(runtime.config().token_lifetime);
        let (new, _) = tokens.issue(runtime, &user, None).await.unwrap().unwrap();
        let listed = runtime.user("ann@example.com").await.unwrap().unwrap().sessions;
        assert_eq!(listed.len(), 1);
        assert_eq!(tokens.verify(runtime, &second).await.unwrap(), None);
        assert!(tokens.verify(runtime, &new).await.unwrap().is_some());
        assert_eq!(tokens.issue(runtime, &user, Some(&login)).await.unwrap(), None, "that login is over");
        let other = User { password: "another hash".to_owned(), ..user };
        assert_eq!(
            tokens.issue(runtime, &other, None).await.unwrap(),
            None,
            "the password is not that any more"
        );
    }

    #[tokio::test]
    async fn who_has_not_verified_the_address_is_somebody_unless_that_is_asked_for() {
        for restrict_unverified_user in [false, true] {
            let (bench, user) = ann_with(Config { restrict_unverified_user, ..Config::default() }).await;
            let runtime = &bench.runtime;
            let tokens = Tokens::new(runtime).await.unwrap();
            let (token, _) = tokens.issue(runtime, &user, None).await.unwrap().unwrap();
            let changed = runtime.change_user(&user.email, |user| {
                user.is_activated = false;
                true
            });
            assert!(changed.await.unwrap());
            let caller = tokens.verify(runtime, &token).await.unwrap();
            assert_eq!(caller.is_none(), restrict_unverified_user);
        }
    }

    #[tokio::test]
    async fn a_ticket_stands_for_its_login_once_and_not_for_long() {
        let (bench, user) = ann().await;
        let runtime = &bench.runtime;
        let tokens = Tokens::new(runtime).await.unwrap();
        let (token, _) = tokens.issue(runtime, &user, None).await.unwrap().unwrap();
        let (_, login) = tokens.verify(runtime, &token).await.unwrap().unwrap();
        let ticket = async || tokens.ticket(runtime, &login).await.unwrap().unwrap();
        let redeem = async |ticket: &str| tokens.redeem(runtime, ticket).await.unwrap();

        let (used, late) = (ticket().await, ticket().await);
        bench.advance(TICKET_LIFETIME - Duration::from_millis(1));
        assert_eq!(redeem(&used).await, Some(token), "it is the token of the login");
        assert_eq!(redeem(&used).await, None);
        bench.advance(Duration::from_millis(1));
        assert_eq!(redeem(&late).await, None);

        let oldest = ticket().await;
        let second = ticket().await;
        for _ in 2..=TICKETS_MAX {
            ticket().await;
        }
        assert_eq!(redeem(&oldest).await, None);
        assert!(redeem(&second).await.is_some());
        let stored = runtime.user("ann@example.com").await.unwrap().unwrap();
        assert_eq!(stored.tickets.len(), TICKETS_MAX - 1, "those that ended are gone");
        let open = ticket().await;
        tokens.end(runtime, &login).await.unwrap();
        assert_eq!(redeem(&open).await, None, "the login has ended");
        assert_eq!(tokens.ticket(runtime, &login).await.unwrap(), None);
    }
}
