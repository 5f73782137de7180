//! Users: registered, found, changed. Each has a root of its own; administrators of the system act as its root.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;
use walkabout_schema::{Access, Identity, Key, Timestamp, User};

use crate::{
    Result,
    env::Env,
    runtime::{Runtime, root_element},
    store::{self, Registered},
};

impl Runtime {
    /// Stores a user with a root of its own. `password` is a PHC hash; the address is already checked and lowered.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn register(&self, email: String, password: String) -> Result<Registered> {
        let engine = self.engine();
        let root = engine.env.id();
        // One UUID for both: whoever knows a user knows the root, and the other way round.
        let user = new_user(&engine.env, root, root, email, password);
        let root = Arc::new(root_element(root, Access::private()));
        Ok(engine.store.register(user, Some(root)).await?)
    }

    /// Stores a user with a root of its own, who signs in with an identity at a provider and has no password. The identity's address,
    /// already checked and lowered, is the user's: the provider said so.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn register_identity(&self, provider: &str, identity: Identity) -> Result<Registered> {
        let engine = self.engine();
        let root = engine.env.id();
        let user = new_user(&engine.env, root, root, identity.email.clone(), String::new());
        let user = User { sso: [(provider.to_owned(), identity)].into(), is_verified: true, ..user };
        let root = Arc::new(root_element(root, Access::private()));
        Ok(engine.store.register(user, Some(root)).await?)
    }

    /// The user who has an identity at a provider.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn user_of_identity(&self, provider: &str, id: &str) -> Result<Option<User>> {
        Ok(self.engine().store.user_of_identity(provider, id).await?)
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

fn new_user(env: &Env, id: Uuid, root: Uuid, email: String, password: String) -> User {
    User {
        id: Key(id),
        email,
        password,
        root_id: Key(root),
        is_activated: true,
        is_admin: false,
        created_at: env.now(),
        version: 1,
        sessions: Vec::new(),
        tickets: Vec::new(),
        webhook_keys: Vec::new(),
        sso: BTreeMap::new(),
        is_verified: false,
    }
}

/// Stores an administrator of the system: a user who acts as the system root. It needs no runtime, and starts no run.
#[cfg(all(feature = "embedded", feature = "http"))]
pub(crate) async fn register_administrator(
    store: &dyn store::Store,
    env: &Env,
    email: String,
    password: String,
) -> Result<Registered> {
    let user = new_user(env, env.id(), walkabout_schema::SYSTEM_ROOT, email, password);
    Ok(store.register(User { is_admin: true, ..user }, None).await?)
}
