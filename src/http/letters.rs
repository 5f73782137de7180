//! What the server writes to its users, and how that leaves without anybody waiting for it.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use walkabout_schema::{Timestamp, User};

use super::{Server, counted::Counted};
use crate::{
    Error, Result,
    mail::{Letter, Purpose},
};

/// Letters that nobody waits for, on their way at once.
const POSTED_MAX: u32 = 1000;

/// Letters of one purpose that anybody can have written to one user in a [`WINDOW`].
const LETTERS_MAX: u32 = 5;
/// Letters to all spellings of one address.
const SPELLINGS_MAX: u32 = 20;
/// How long such a letter counts.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// How many letters went to users lately.
pub(crate) struct Letters {
    to_users: Counted,
    to_spellings: Counted,
}

impl Letters {
    pub(super) fn new() -> Self {
        Self {
            to_users: Counted::new(LETTERS_MAX, WINDOW),
            to_spellings: Counted::new(SPELLINGS_MAX, WINDOW),
        }
    }

    /// Notes a letter to a user, unless there were as many as there may be. Only of users is anything noted, so nobody fills it with
    /// addresses that were made up.
    pub(super) fn take(&self, email: &str, purpose: Purpose, now: Timestamp) -> bool {
        let user = match purpose {
            Purpose::Verify => format!("v{email}"),
            Purpose::Reset => format!("r{email}"),
        };
        !self.to_users.is_full(&user, now)
            && self.to_spellings.take(&spelling(email), now)
            && self.to_users.take(&user, now)
    }
}

/// What most servers of mail take for the same address: small letters, and nothing from a plus sign to the domain.
fn spelling(email: &str) -> String {
    let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    let local = local.split('+').next().unwrap_or_default();
    format!("{}@{domain}", local.to_lowercase())
}

/// Letters on their way that nobody waits for.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Semaphore>);

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(POSTED_MAX as usize)))
    }

    /// Writes to the address in the background, when it is that of a user to whom few letters went lately.
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
                let Some(user) = server.runtime.user(&email).await? else { return Ok(()) };
                if !server.users.letters.take(&email, purpose, server.runtime.now()) {
                    tracing::info!("a letter to a user was left out: many were sent lately");
                    return Ok(());
                }
                write(&server, &user, purpose).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_by_user_purpose_and_mailbox() {
        let (letters, at) = (Letters::new(), Timestamp::from_millis);
        let five =
            |email: &str, purpose, now| (0..6).filter(|_| letters.take(email, purpose, at(now))).count();
        assert_eq!(five("dora@example.com", Purpose::Reset, 0), 5);
        assert_eq!(five("dora@example.com", Purpose::Verify, 0), 5, "another purpose");
        assert_eq!(five("dOra@example.com", Purpose::Verify, 0), 5);
        assert_eq!(five("dora+1@example.com", Purpose::Verify, 0), 5);
        assert_eq!(five("DORA+2@example.com", Purpose::Verify, 0), 0, "the same mailbox");
        assert_eq!(five("dora@example.org", Purpose::Verify, 0), 5, "another domain");
        assert_eq!(five("dora@example.com", Purpose::Reset, 15 * 60 * 1000), 5);
    }
}
