//! `admin`: what is done to a store without asking a server.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};

use walkabout_schema::Fields;

use super::ServeArgs;
use crate::{
    Error, FieldError, Result,
    http::{email, users::PASSWORD_MAX},
    users::OwnFields,
};

/// How often something is asked for.
const TRIES: usize = 4;

/// What `admin` does.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Makes a user who acts as the system root and on everybody's runs. No server may have an embedded store open meanwhile
    Create(AdminArgs),
}

impl AdminCommand {
    /// The settings that it takes, those of `serve`.
    pub fn settings(&self) -> &ServeArgs {
        let Self::Create(args) = self;
        &args.settings
    }
}

/// What `admin create` takes.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// The address; asked for unless it is given
    #[arg(long)]
    pub email: Option<String>,
    /// The password, which others on the machine can see here; asked for unless it is given, or the first line of the standard input
    #[arg(long)]
    pub password: Option<String>,
    /// The fields that the application's users have beside these, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub fields: String,
    /// Which store
    #[command(flatten)]
    pub settings: ServeArgs,
}

impl AdminArgs {
    /// The own fields of the user.
    ///
    /// # Errors
    /// [`Error::Config`] with all that does not fit.
    #[cfg_attr(not(feature = "embedded"), expect(dead_code, reason = "an application makes administrators"))]
    pub(crate) fn own_fields(&self, own: &OwnFields) -> Result<Fields> {
        let given = serde_json::from_str(&self.fields)
            .map_err(|error| Error::Config(format!("--fields is no JSON object: {error}")))?;
        own.read(given).map_err(|wrong| {
            let told = |error: &FieldError| {
                let loc: Vec<_> = error.loc.iter().map(|part| part.to_string().replace('"', "")).collect();
                format!("--fields {}: {}", loc.join("."), error.msg)
            };
            Error::Config(wrong.iter().map(told).collect::<Vec<_>>().join("\n"))
        })
    }

    /// Address and password, asked for where they were not given.
    ///
    /// # Errors
    /// [`Error::Config`] when they are none, also after the last try.
    pub fn account(&self) -> Result<(String, String)> {
        let is_terminal = io::stdin().is_terminal();
        let email = match &self.email {
            Some(email) => checked_email(email.clone()),
            None if is_terminal => ask(|| line("Address: "), checked_email),
            None => Err("give the address with --email".to_owned()),
        };
        let email = email.map_err(Error::Config)?;
        let password = match &self.password {
            Some(password) => checked_password(password.clone()),
            None if is_terminal => ask(typed_twice, checked_password),
            None => read_line().map_err(|error| error.to_string()).and_then(checked_password),
        };
        Ok((email, password.map_err(Error::Config)?))
    }
}

fn checked_email(text: String) -> Result<String, String> {
    email::normal(&text).map_err(|why| format!("{text:?} is no address: {why}"))
}

fn checked_password(text: String) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("the password is empty".to_owned()),
        1..=PASSWORD_MAX => Ok(text),
        _ => Err(format!("the password has more than {PASSWORD_MAX} characters")),
    }
}

/// Asks until what is read fits.
fn ask(
    read: impl Fn() -> io::Result<String>,
    check: impl Fn(String) -> Result<String, String>,
) -> Result<String, String> {
    let mut wrong = String::new();
    for _ in 0..TRIES {
        match read().map_err(|error| error.to_string()).and_then(&check) {
            Ok(text) => return Ok(text),
            Err(why) => wrong = why,
        }
        drop(writeln!(io::stderr(), "{wrong}"));
    }
    Err(wrong)
}

fn line(prompt: &str) -> io::Result<String> {
    write!(io::stderr(), "{prompt}")?;
    read_line()
}

fn read_line() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// A password that does not show, and its repetition.
fn typed_twice() -> io::Result<String> {
    let password = rpassword::prompt_password("Password: ")?;
    if rpassword::prompt_password("Once more: ")? != password {
        return Err(io::Error::other("the two are not the same"));
    }
    Ok(password)
}
