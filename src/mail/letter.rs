//! What the server writes to its users: letters with codes.

use std::time::Duration;

use serde::de::DeserializeOwned;
use walkabout_schema::Fields;

use super::Mail;

/// What a code is for. One for the one thing is none for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To verify an address.
    Verify,
    /// To set a password without the one before.
    Reset,
}

/// A letter that is to be written to a user. [`Letter::mail`] does, unless the application has words of its own.
#[derive(Debug, Clone)]
pub struct Letter {
    /// What its code is for.
    pub purpose: Purpose,
    /// The user's address.
    pub email: String,
    /// The code.
    pub code: String,
    /// The link with the code; none without `mail_links`.
    pub link: Option<String>,
    /// How long the code is good.
    pub lifetime: Duration,
    pub(crate) fields: Fields,
}

impl Letter {
    /// A letter with a code, whose link is below `links`.
    #[cfg(feature = "http")]
    pub(crate) fn new(
        purpose: Purpose,
        (email, fields): (String, Fields),
        code: String,
        links: Option<&str>,
        lifetime: Duration,
    ) -> Self {
        let path = match purpose {
            Purpose::Verify => "verify",
            Purpose::Reset => "reset_password",
        };
        let link = links.map(|base| format!("{}/{path}?code={code}", base.trim_end_matches('/')));
        Self { purpose, email, code, link, lifetime, fields }
    }

    /// The fields that the application's users have; none when they do not fit.
    pub fn fields<T: DeserializeOwned>(&self) -> Option<T> {
        self.fields.decode().ok()
    }

    /// The letter in plain English.
    pub fn mail(&self) -> Mail {
        let (subject, why, wish) = match self.purpose {
            Purpose::Verify => {
                ("Verify your address", "Somebody registered with this address.", "verify that it is yours")
            }
            Purpose::Reset => {
                let why = "Somebody asked for a new password for the user of this address.";
                ("Set a new password", why, "set a new password")
            }
        };
        let (how, what) = match &self.link {
            Some(link) => ("open this link", link),
            None => ("give this code", &self.code),
        };
        let span = span(self.lifetime.as_secs());
        let text = format!(
            "{why}\n\nTo {wish}, {how} within {span}:\n\n{what}\n\nIf it was not you, leave this mail alone: nothing happens then.\n"
        );
        Mail::new(subject, text)
    }
}

fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        _ => (seconds / 3600, "hour"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn a_letter_says_what_to_do_and_for_how_long() {
        let letter = |purpose, links, seconds| {
            let user = ("ann@example.com".to_owned(), Fields::default());
            Letter::new(purpose, user, "1.2".to_owned(), links, Duration::from_secs(seconds))
        };
        let day = 24 * 3600;
        let mail = format!("{:?}", letter(Purpose::Verify, Some("https://a.example/"), day).mail());
        assert!(mail.contains("Verify your address") && mail.contains("within 24 hours"), "{mail}");
        assert!(mail.contains("\\n\\nhttps://a.example/verify?code=1.2\\n\\n"), "{mail}");
        let mail = format!("{:?}", letter(Purpose::Reset, None, 90).mail());
        assert!(mail.contains("give this code within 90 seconds:\\n\\n1.2\\n\\n"), "{mail}");
        let reset = letter(Purpose::Reset, Some("https://a.example"), day);
        assert_eq!(reset.link.as_deref(), Some("https://a.example/reset_password?code=1.2"));
        assert_eq!(reset.fields::<serde_json::Value>(), Some(serde_json::json!({})));
        assert_eq!(reset.fields::<u8>(), None);
        assert_eq!([span(1), span(120), span(7200)], ["1 second", "2 minutes", "2 hours"]);
    }
}
