//! What the server writes to its users, and how that leaves without anybody waiting for it.

use std::sync::Arc;

use tokio::sync::Semaphore;
use walkabout_schema::User;

use super::Server;
use crate::{
    Error, Result,
    mail::{Letter, Purpose},
};

/// Letters that nobody waits for, on their way at once.
const POSTED_MAX: u32 = 1000;

/// Letters on their way that nobody waits for.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Semaphore>);

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(POSTED_MAX as usize)))
    }

    /// Writes to the address in the background, when it is that of a user.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many are on their way.
    pub(super) fn post(&self, server: &Arc<Server>, email: String, purpose: Purpose) -> Result<()> {
        let room = Arc::clone(&self.0).try_acquire_owned();
        let room = room.map_err(|_| Error::Busy("letters to users".to_owned()))?;
        let server = Arc::clone(server);
        tokio::spawn(async move {
            let _room = room;
            let written = async {
                match server.runtime.user(&email).await? {
                    Some(user) => write(&server, &user, purpose).await,
                    None => Ok(()),
                }
            };
            if let Err(error) = written.await {
                tracing::warn!(%error, "a letter to a user was not sent");
            }
        });
        Ok(())
    }

    /// Waits until all have gone.
    pub(super) async fn empty(&self) {
        // Never closed.
        drop(self.0.acquire_many(POSTED_MAX).await);
    }
}

/// Writes to a user. One whose address is verified gets no code for that.
///
/// # Errors
/// [`Error::MailNotSent`].
pub(super) async fn write(server: &Server, user: &User, purpose: Purpose) -> Result<()> {
    if purpose == Purpose::Verify && user.is_activated {
        return Ok(());
    }
    let Some(mailer) = server.runtime.mailer() else {
        return Err(Error::MailNotSent("this server sends no mail: set mail_url and mail_from".to_owned()));
    };
    let config = server.runtime.config();
    let lifetime = match purpose {
        Purpose::Verify => config.verification_code_lifetime,
        Purpose::Reset => config.reset_code_lifetime,
    };
    let code = server.codes.text(user, purpose, server.runtime.now().plus(lifetime));
    let of_user = (user.email.clone(), user.fields.clone());
    let letter = Letter::new(purpose, of_user, code, config.mail_links.as_deref(), lifetime);
    let mail = server.runtime.written(&letter).only_to(user.email.clone());
    // Each is another, as the code in it is.
    Ok(mailer.send(&letter.code, &mail).await?)
}
