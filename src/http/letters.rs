//! What the server writes to its users, and how that leaves without anybody waiting for it.

use std::sync::Arc;

use tokio::sync::Semaphore;
use walkabout_schema::User;

use super::{Server, codes::Purpose};
use crate::{Error, Result, mail::Mail};

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
    let mail = letter(purpose, &code, config.mail_links.as_deref(), lifetime.as_secs()).to(&user.email);
    // Each is another, as the code in it is.
    Ok(mailer.send(&code, &mail).await?)
}

fn letter(purpose: Purpose, code: &str, links: Option<&str>, seconds: u64) -> Mail {
    let (subject, why, wish, path) = match purpose {
        Purpose::Verify => {
            let why = "Somebody registered with this address.";
            ("Verify your address", why, "verify that it is yours", "verify")
        }
        Purpose::Reset => {
            let why = "Somebody asked for a new password for the user of this address.";
            ("Set a new password", why, "set a new password", "reset_password")
        }
    };
    let (how, what) = match links {
        Some(base) => ("open this link", format!("{}/{path}?code={code}", base.trim_end_matches('/'))),
        None => ("give this code", code.to_owned()),
    };
    let text = format!(
        "{why}\n\nTo {wish}, {how} within {}:\n\n{what}\n\nIf it was not you, leave this mail alone: nothing happens then.\n",
        span(seconds)
    );
    Mail::new(subject, text)
}

fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        _ => (seconds / 3600, "hour"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_says_what_to_do_and_for_how_long() {
        let day = 24 * 3600;
        let letter = |purpose, links, seconds| format!("{:?}", letter(purpose, "1.2", links, seconds));
        let mail = letter(Purpose::Verify, Some("https://a.example/"), day);
        assert!(mail.contains("Verify your address") && mail.contains("within 24 hours"), "{mail}");
        assert!(mail.contains("\\n\\nhttps://a.example/verify?code=1.2\\n\\n"), "{mail}");
        let mail = letter(Purpose::Reset, None, 90);
        assert!(mail.contains("give this code within 90 seconds:\\n\\n1.2\\n\\n"), "{mail}");
        assert!(letter(Purpose::Reset, Some("https://a.example"), day).contains("/reset_password?code=1.2"));
        assert_eq!([span(1), span(120), span(7200)], ["1 second", "2 minutes", "2 hours"]);
    }
}
