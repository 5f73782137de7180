//! Mail: what walkers write with [`Context::mail`], and what the server writes to its users.
//!
//! A mail leaves at once, outside of any commit. What cannot be sent is refused in one of two ways: it never will be, or it may be later.
//! Nothing that a server of mail says is shown to callers; the log has it.
//!
//! [`Context::mail`]: crate::walker::Context::mail

mod letter;

use std::{path::PathBuf, sync::Arc, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::extension::ClientId,
};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::{
    Error, Result,
    config::Config,
    env::Env,
    walker::{Context, Failure, fail},
};

pub use letter::{Letter, Purpose};

/// Whom one mail may go to.
const RECIPIENTS_MAX: usize = 50;
/// The longest subject, in characters.
const SUBJECT_MAX: usize = 250;
/// Bytes of text and HTML together.
const BYTES_MAX: usize = 1 << 20;
/// Mails on their way at once; the next one waits.
const SENDING_MAX: usize = 16;

/// A mail as it is written: `Mail::new("Your order", "It is on its way.")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    to: Vec<String>,
    subject: String,
    text: String,
    html: Option<String>,
}

impl Mail {
    /// A mail in plain text, to the user of the run unless [`Mail::to`] says otherwise.
    pub fn new(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { to: Vec::new(), subject: subject.into(), text: text.into(), html: None }
    }

    /// Adds somebody whom it goes to, 50 at most: `ann@example.com`, or `Ann <ann@example.com>`. All of them see each other.
    #[must_use]
    pub fn to(mut self, address: impl Into<String>) -> Self {
        self.to.push(address.into());
        self
    }

    /// The same as HTML, for those who read that.
    #[must_use]
    pub fn html(mut self, html: impl Into<String>) -> Self {
        self.html = Some(html.into());
        self
    }

    /// The same to somebody else alone.
    #[cfg(feature = "http")]
    pub(crate) fn only_to(self, address: String) -> Self {
        Self { to: vec![address], ..self }
    }

    /// Whom it goes to, or why it can be sent to nobody.
    fn recipients(&self) -> Result<Vec<Mailbox>, Unsent> {
        let unfit = |why: String| Err(Unsent::Unfit(why));
        if self.to.len() > RECIPIENTS_MAX {
            return unfit(format!(
                "a mail goes to {RECIPIENTS_MAX} at most, and this one to {}",
                self.to.len()
            ));
        }
        if self.subject.chars().count() > SUBJECT_MAX {
            return unfit(format!("the subject of a mail has {SUBJECT_MAX} characters at most"));
        }
        // A line that ends in a header would begin another one.
        if self.subject.contains(char::is_control) {
            return unfit("the subject of a mail is one line, without control characters".to_owned());
        }
        let bytes = self.text.len() + self.html.as_ref().map_or(0, String::len);
        if bytes > BYTES_MAX {
            return unfit(format!("a mail has {BYTES_MAX} bytes at most, and this one {bytes}"));
        }
        let read = |address: &String| mailbox(address).ok_or_else(|| unfit_address(address));
        self.to.iter().map(read).collect()
    }
}

fn unfit_address(address: &str) -> Unsent {
    let shown: String = address.chars().take(100).collect();
    Unsent::Unfit(format!("{shown:?} is no address that a mail can go to"))
}

/// An address, perhaps with a name before it.
fn mailbox(text: &str) -> Option<Mailbox> {
    if text.contains(char::is_control) { None } else { text.parse().ok() }
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsent {
    /// It never will be. The sentence is safe.
    #[error("{0}")]
    Unfit(String),
    /// The server of mail will not have it.
    #[error("the mail server refused the mail")]
    Refused,
    /// It may be later.
    #[error("the mail could not be sent")]
    Later,
}

impl Unsent {
    /// How it fails the ability that wrote the mail.
    fn failure(&self) -> Failure {
        let failure = fail(self.to_string()).kind("mail");
        match self {
            Self::Unfit(_) | Self::Refused => failure.for_good(),
            Self::Later => failure,
        }
    }
}

#[cfg(feature = "http")]
impl From<Unsent> for Error {
    fn from(unsent: Unsent) -> Self {
        Self::MailNotSent(unsent.to_string())
    }
}

/// What is said of an address for mail without a sender.
const NO_SENDER: &str =
    "mail_url is set, so mail_from should be the address that mails come from, as no-reply@example.com";

/// What of the settings for mail does not fit together, as a sentence.
pub(crate) fn fault(config: &Config) -> Option<String> {
    let url = config.mail_url.as_ref()?;
    let Some(from) = config.mail_from.as_deref().and_then(mailbox) else { return Some(NO_SENDER.to_owned()) };
    Route::of(url, &from, config.mail_time_max).err().map(|why| format!("mail_url {why}"))
}

/// Sends mail as the settings say.
pub(crate) struct Mailer {
    route: Route,
    from: Mailbox,
    time_max: Duration,
    sending: Semaphore,
    env: Env,
}

/// Where mails go.
enum Route {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    /// Each into a file of its own.
    Folder(PathBuf),
}

impl Mailer {
    /// The one of the settings, when they have one.
    ///
    /// # Errors
    /// [`Error::Config`] when they do not fit together.
    pub(crate) fn open(config: &Config, env: &Env) -> Result<Option<Self>> {
        let Some(url) = &config.mail_url else { return Ok(None) };
        let from = config
            .mail_from
            .as_deref()
            .and_then(mailbox)
            .ok_or_else(|| Error::Config(NO_SENDER.to_owned()))?;
        let route = Route::of(url, &from, config.mail_time_max)
            .and_then(Route::made)
            .map_err(|why| Error::Config(format!("mail_url {why}")))?;
        let sending = Semaphore::new(SENDING_MAX);
        Ok(Some(Self { route, from, time_max: config.mail_time_max, sending, env: env.clone() }))
    }

    /// Sends a mail to those that it names. Who gets it twice knows it by what `key` names: the same `key` makes the same Message-ID.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have sent it.
    pub(crate) async fn send(&self, key: &str, mail: &Mail) -> Result<(), Unsent> {
        let message = self.message(key, mail)?;
        match tokio::time::timeout(self.time_max, self.pass_on(message)).await {
            Ok(sent) => sent,
            Err(_) => {
                tracing::warn!(time_max = ?self.time_max, "a mail was not sent in time");
                Err(Unsent::Later)
            }
        }
    }

    fn message(&self, key: &str, mail: &Mail) -> Result<Message, Unsent> {
        let digest = Sha256::digest(key);
        let id: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let millis = u64::try_from(self.env.now().millis()).unwrap_or_default();
        let by_machine = HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            // RFC 3834: no machine is to answer.
            "auto-generated".to_owned(),
        );
        let builder = Message::builder()
            .from(self.from.clone())
            .subject(&mail.subject)
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .date(std::time::UNIX_EPOCH + Duration::from_millis(millis))
            .raw_header(by_machine);
        let builder = mail.recipients()?.into_iter().fold(builder, lettre::message::MessageBuilder::to);
        let built = match &mail.html {
            None => builder.singlepart(SinglePart::plain(mail.text.clone())),
            Some(html) => {
                builder.multipart(MultiPart::alternative_plain_html(mail.text.clone(), html.clone()))
            }
        };
        built.map_err(|error| Unsent::Unfit(format!("the mail cannot be written: {error}")))
    }

    async fn pass_on(&self, message: Message) -> Result<(), Unsent> {
        let _sending = self.sending.acquire().await.map_err(|_| Unsent::Later)?;
        match &self.route {
            Route::Smtp(server) => match server.send(message).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "a mail was not sent");
                    Err(if error.is_permanent() { Unsent::Refused } else { Unsent::Later })
                }
            },
            Route::Folder(folder) => {
                let path = folder.join(format!("{}.eml", self.env.id().simple()));
                write(path, message.formatted()).await.map_err(|error| {
                    tracing::warn!(%error, folder = %folder.display(), "a mail was not written");
                    Unsent::Later
                })
            }
        }
    }
}

/// Writes a file that is whole as soon as it is there.
async fn write(path: PathBuf, bytes: Vec<u8>) -> std::io::Result<()> {
    let part = path.with_extension("part");
    tokio::fs::write(&part, bytes).await?;
    tokio::fs::rename(part, path).await
}

impl Route {
    /// With its folder.
    fn made(self) -> Result<Self, String> {
        if let Self::Folder(folder) = &self {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("names {}, which cannot be a folder: {error}", folder.display()))?;
        }
        Ok(self)
    }

    /// What an address stands for, or what is wrong with it. Secrets of it are not told.
    fn of(url: &str, from: &Mailbox, time_max: Duration) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        if scheme == "file" {
            let folder = PathBuf::from(rest);
            if !folder.is_absolute() {
                return Err("is a file, and should be a whole path, as file:///var/mail".to_owned());
            }
            return Ok(Self::Folder(folder));
        }
        let address = Address::of(rest);
        if scheme == "smtp" && address.has_password && !address.is_encrypted && !address.is_here {
            return Err(
                "would send its password unencrypted: begin it with smtps://, or end it with ?tls=required"
                    .to_owned(),
            );
        }
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| {
            "should begin with smtps://, smtp:// or file:///, and an SMTP server may end with ?tls=required or ?tls=opportunistic"
        })?;
        let builder = builder.timeout(Some(time_max));
        // By its rule a client says who it is; the machine's own name may be a private one.
        let builder = match address.has_path {
            true => builder,
            false => builder.hello_name(ClientId::Domain(from.email.domain().to_owned())),
        };
        Ok(Self::Smtp(builder.build()))
    }
}

/// What counts of the address of an SMTP server.
struct Address {
    has_password: bool,
    /// Nothing is sent before the connection is encrypted.
    is_encrypted: bool,
    /// It is this machine.
    is_here: bool,
    has_path: bool,
}

impl Address {
    fn of(rest: &str) -> Self {
        let (rest, _) = rest.split_once('#').unwrap_or((rest, ""));
        let (whole, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = whole.split_once('/').unwrap_or((whole, ""));
        let (user, host) = place.rsplit_once('@').unwrap_or(("", place));
        let name = match host.strip_prefix('[') {
            // What is in brackets has colons of its own.
            Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
            None => host.split_once(':').map_or(host, |(name, _)| name),
        };
        Self {
            has_password: user.contains(':'),
            // Of several the first one holds.
            is_encrypted: query.split('&').find(|part| part.starts_with("tls=")) == Some("tls=required"),
            is_here: name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            has_path: !path.trim_matches('/').is_empty(),
        }
    }
}

/// Writing to people.
impl Context {
    /// Whether this server sends mail: whether `mail_url` is set.
    pub fn has_mail(&self) -> bool {
        self.attempt.engine.mail.is_some()
    }

    /// Sends a mail: to those that it names, or to the user whose run this is, whose address has to be verified. It goes to all
    /// administrators where they act. Gives whom it went to, which is nobody when the user's address is not verified.
    ///
    /// It is sent at once, whatever becomes of the attempt, and again by an attempt that repeats this visit; each time under the same
    /// Message-ID, by which a reader's program can tell. Within a visit, mails of one subject to the same have one.
    ///
    /// # Errors
    /// When this server sends no mail; when nobody is named and the run has no user; for a mail that is too long, to too many, or to what
    /// is no address; when the mail server refuses it. These end the run for good. When the mail server cannot be reached, or is not
    /// done within `mail_time_max_s`, the walker's retry policy decides; the kind of each error is `mail`.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have sent it.
    pub async fn mail(&mut self, mut mail: Mail) -> Result<Vec<String>, Failure> {
        let engine = Arc::clone(&self.attempt.engine);
        let Some(mailer) = &engine.mail else {
            let message = "this server sends no mail: set mail_url and mail_from";
            return Err(Unsent::Unfit(message.to_owned()).failure());
        };
        if mail.to.is_empty() {
            let users =
                engine.store.users_of(self.attempt.graph.caller()).await.map_err(Failure::of_store)?;
            if users.is_empty() {
                let message = "this run has no user: say whom its mail goes to, with .to(…)";
                return Err(Unsent::Unfit(message.to_owned()).failure());
            }
            mail.to = users.into_iter().filter(|user| user.is_activated).map(|user| user.email).collect();
            mail.to.truncate(RECIPIENTS_MAX);
        }
        if !mail.to.is_empty() {
            let key = format!("{}\n{}\n{}", self.idempotency_key(), mail.to.join(","), mail.subject);
            mailer.send(&key, &mail).await.map_err(|unsent| unsent.failure())?;
        }
        Ok(mail.to)
    }
}

#[cfg(test)]
mod tests {
    use walkabout_schema::Timestamp;

    use super::*;

    fn open(url: &str, from: Option<&str>) -> Result<Option<Mailer>, String> {
        let config = Config {
            mail_url: Some(url.to_owned()),
            mail_from: from.map(str::to_owned),
            ..Config::default()
        };
        Mailer::open(&config, &Env::manual(Timestamp::from_millis(0), 1)).map_err(|error| error.to_string())
    }

    fn refusal(url: &str) -> String {
        open(url, Some("no-reply@example.com")).err().unwrap_or_else(|| panic!("{url} is taken"))
    }

    fn text(mailer: &Mailer, key: &str, mail: &Mail) -> Result<String, String> {
        let message = mailer.message(key, mail).map_err(|unsent| unsent.to_string())?;
        Ok(String::from_utf8(message.formatted()).unwrap())
    }

    #[test]
    fn what_is_no_route() {
        for url in ["smtp.example.com", "http://example.com", "smtp://", "smtps://", "smtp://a?tls=maybe", ""]
        {
            assert!(refusal(url).contains("should begin with smtps://"), "{url}: {}", refusal(url));
        }
        assert!(refusal("file://mails").contains("a whole path"));
        assert!(refusal("file:///dev/null/mails").contains("cannot be a folder"));
        for url in [
            "smtp://ann:secret@mail.example.com",
            "smtp://ann:secret@mail.example.com:25?tls=opportunistic",
            "smtp://ann:secret@mail.example.com?tls=opportunistic&tls=required",
            "smtp://ann:secret@mail.example.com/@localhost",
            "smtp://ann:secret@mail.example.com#@localhost?tls=required",
            "smtp://ann:secret@[2001:db8::1]",
            "smtp://ann:secret@[2001:db8::1]:25",
        ] {
            let said = refusal(url);
            assert!(said.contains("unencrypted") && !said.contains("secret"), "{said}");
        }
        assert!(open("smtp://localhost", None).err().unwrap().contains("mail_from"));
        assert!(open("smtp://localhost", Some("a\r\nBcc: b@example.com")).is_err());
    }

    #[tokio::test]
    async fn what_is_one() {
        for url in [
            "smtp://localhost:25",
            "smtp://ann:secret@127.0.0.1",
            "smtp://ann:secret@[::1]:2525",
            "smtp://ann:secret@[::1]",
            "smtp://ann:secret@localhost:25",
            "smtp://mail.example.com",
            "smtp://ann:secret@mail.example.com?tls=required",
            "smtps://ann%40example.com:secret@mail.example.com:465/here.example.com",
        ] {
            assert!(open(url, Some("Us <no-reply@example.com>")).unwrap().is_some(), "{url}");
        }
        let config = Config::default();
        assert!(Mailer::open(&config, &Env::manual(Timestamp::from_millis(0), 1)).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_message_has_its_headers_and_no_others() {
        let mailer = open("smtp://localhost", Some("Us <no-reply@example.com>")).unwrap().unwrap();
        let mail = Mail::new("Grüße", "Hello Ann").to("Ann <ann@example.com>").to("ben@example.com");
        let message = text(&mailer, "a key", &mail).unwrap();
        for line in [
            "From: Us <no-reply@example.com>",
            "To: Ann <ann@example.com>, ben@example.com",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(message.contains(&format!("{line}\r\n")), "{line}\n{message}");
        }
        assert!(message.trim_end().ends_with("\r\n\r\nHello Ann"), "{message}");
        let id = |key: &str, mail: &Mail| {
            let message = text(&mailer, key, mail).unwrap();
            message.lines().find(|line| line.starts_with("Message-ID: <")).unwrap().to_owned()
        };
        assert_eq!(id("a key", &mail), id("a key", &Mail::new("Another", "text").to("ann@example.com")));
        assert_ne!(id("a key", &mail), id("another", &mail));
        assert!(id("a key", &mail).ends_with("@example.com>"));
        let both = text(&mailer, "a key", &mail.clone().html("<p>Hello</p>")).unwrap();
        assert!(both.contains("multipart/alternative") && both.contains("<p>Hello</p>"), "{both}");
    }

    #[tokio::test]
    async fn no_header_comes_in_by_what_is_written() {
        let mailer = open("smtp://localhost", Some("no-reply@example.com")).unwrap().unwrap();
        let ann = "ann@example.com";
        for (mail, why) in [
            (Mail::new("Hi\r\nBcc: eve@example.com", "").to(ann), "one line"),
            (Mail::new("Hi\nthere", "").to(ann), "one line"),
            (Mail::new("Hi", "").to("ann@example.com\r\nBcc: eve@example.com"), "no address"),
            (Mail::new("Hi", "").to("ann@example.com, eve@example.com"), "no address"),
            (Mail::new("Hi", "").to("A\r\nBcc: eve@example.com\r\n <ann@example.com>"), "no address"),
            (Mail::new("Hi", "").to("ann"), "no address"),
            (Mail::new("x".repeat(251), "").to(ann), "250 characters"),
            (Mail::new("Hi", "x".repeat(BYTES_MAX)).to(ann).html("y"), "1048576 bytes"),
            ((0..51).fold(Mail::new("Hi", ""), |mail, n| mail.to(format!("a{n}@example.com"))), "50 at most"),
        ] {
            let said = text(&mailer, "key", &mail).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        // In the text it is text.
        let mail = Mail::new("Hi", "one\r\n.\r\nBcc: eve@example.com").to(ann);
        let message = text(&mailer, "key", &mail).unwrap();
        let (head, _) = message.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("Bcc"), "{message}");
    }
}
