//! Users: registered, found, changed. Each has a root of its own; administrators of the system act as its root.

mod leave;
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only the server registers users"))]
mod own;

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;
use walkabout_schema::{Access, Fields, Identity, Key, Timestamp, User};

use crate::{
    Result,
    env::Env,
    runtime::{Runtime, root_element},
    store::{self, Registered},
};

pub(crate) use leave::ForgetUser;
pub use leave::Removed;
pub(crate) use own::OwnFields;
pub use own::Profile;
#[cfg(feature = "http")]
pub(crate) use own::shown;

/// A user to be.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The address, already checked, its domain in lower case.
    pub email: String,
    /// A hash of the password, in PHC form.
    pub password: String,
    /// Whether the address is verified, or need not be.
    pub is_activated: bool,
    /// The fields that the application's users have, already checked.
    pub fields: Fields,
}

impl Registration {
    /// One whose address need not be verified, and without own fields.
    pub fn new(email: String, password: String) -> Self {
        Self { email, password, is_activated: true, fields: Fields::default() }
    }
}

impl Runtime {
    /// Stores a user whose address need not be verified: see [`Runtime::enroll`].
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn register(&self, email: String, password: String) -> Result<Registered> {
        self.enroll(Registration::new(email, password)).await
    }

    /// Stores a user with a root of its own.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn enroll(&self, registration: Registration) -> Result<Registered> {
        let engine = self.engine();
        let root = engine.env.id();
        // One UUID for both: whoever knows a user knows the root, and the other way round.
        let user = new_user(&engine.env, root, root, registration);
        let root = Arc::new(root_element(root, Access::private()));
        Ok(engine.store.register(user, Some(root)).await?)
    }

    /// Stores a user with a root of its own, who signs in with an identity at a provider and has no password. The identity's address,
    /// already checked and lowered, is the user's: the provider said so.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn register_identity(
        &self,
        provider: &str,
        identity: Identity,
        fields: Fields,
    ) -> Result<Registered> {
        let engine = self.engine();
        let root = engine.env.id();
        let registration =
            Registration { fields, ..Registration::new(identity.email.clone(), String::new()) };
        let user = new_user(&engine.env, root, root, registration);
        let user = User { sso: [(provider.to_owned(), identity)].into(), is_verified: true, ..user };
        let root = Arc::new(root_element(root, Access::private()));
        Ok(engine.store.register(user, Some(root)).await?)
    }

    /// The user who has an identity at a provider. One that another issuer gave, which had the provider's name, is none.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn user_of_identity(&self, provider: &str, identity: &Identity) -> Result<Option<User>> {
        let user = self.engine().store.user_of_identity(provider, &identity.id).await?;
        let is_of = |user: &User| user.sso.get(provider).is_some_and(|own| own.issuer == identity.issuer);
        Ok(user.filter(is_of))
    }

    /// Uses up what can be used once, and is worth nothing from `until` on: true the first time.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn spend(&self, key: [u8; 32], until: Timestamp) -> Result<bool> {
        let engine = self.engine();
        Ok(engine.store.spend(key, engine.env.now(), until).await?)
    }

    /// The user of an address.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn user(&self, email: &str) -> Result<Option<User>> {
        Ok(self.engine().store.user(email).await?)
    }

    /// The own fields of a user to be, of all that was given; what does not fit, otherwise.
    #[cfg(feature = "http")]
    pub(crate) fn own_fields(
        &self,
        given: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Fields, Vec<crate::FieldError>> {
        self.engine().registry.own_fields.read(given)
    }

    /// Whether a user may act: with a verified address, or where none is asked for.
    pub fn admits(&self, user: &User) -> bool {
        user.is_activated || !self.config().restrict_unverified_user
    }

    /// What sends mail to users; none when the settings say nothing of it.
    #[cfg(feature = "http")]
    pub(crate) fn mailer(&self) -> Option<&crate::mail::Mailer> {
        self.engine().mail.as_ref()
    }

    /// A letter, in the words of the application if it has some.
    #[cfg(feature = "http")]
    pub(crate) fn written(&self, letter: &crate::mail::Letter) -> crate::mail::Mail {
        let write = self.engine().registry.letters.unwrap_or(crate::mail::Letter::mail);
        write(letter)
    }

    /// Those who act as a root: one, or all administrators of the system.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn users_of(&self, root: Uuid) -> Result<Vec<User>> {
        Ok(self.engine().store.users_of(root).await?)
    }

    /// Changes the user of an address, again when others did meanwhile. False when there is none, or `change` gives false: nothing is
    /// stored then.
    ///
    /// # Errors
    /// When the store refuses, or others never stop changing the user.
    pub async fn change_user(&self, email: &str, mut change: impl FnMut(&mut User) -> bool) -> Result<bool> {
        let engine = self.engine();
        for _ in 0..engine.config.conflicts_max {
            let Some(mut user) = engine.store.user(email).await? else { return Ok(false) };
            if !change(&mut user) {
                return Ok(false);
            }
            if engine.store.change_user(user).await? {
                return Ok(true);
            }
        }
        Err(store::Error::Conflict(Vec::new()).into())
    }
}

fn new_user(env: &Env, id: Uuid, root: Uuid, registration: Registration) -> User {
    let Registration { email, password, is_activated, fields } = registration;
    User {
        id: Key(id),
        email,
        password,
        root_id: Key(root),
        is_activated,
        is_admin: false,
        created_at: env.now(),
        version: 1,
        sessions: Vec::new(),
        tickets: Vec::new(),
        webhook_keys: Vec::new(),
        sso: BTreeMap::new(),
        is_verified: false,
        fields,
    }
}

/// Stores an administrator of the system: a user who acts as the system root. It needs no runtime, and starts no run.
#[cfg(all(feature = "embedded", feature = "http"))]
pub(crate) async fn register_administrator(
    store: &dyn store::Store,
    env: &Env,
    registration: Registration,
) -> Result<Registered> {
    let user = new_user(env, env.id(), walkabout_schema::SYSTEM_ROOT, registration);
    Ok(store.register(User { is_admin: true, ..user }, None).await?)
}
