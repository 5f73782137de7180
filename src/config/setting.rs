//! What a setting is: its name, what fits it, and its way into [`Config`] and out of it.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use tracing::level_filters::LevelFilter;

use super::{Config, jac_cloud::Foreign};

/// One setting.
pub(crate) struct Setting {
    /// Its key in the file. Flag and variable are made of it.
    pub(crate) name: &'static str,
    /// Its documentation, each line with a space before it.
    pub(super) meaning: &'static str,
    pub(crate) form: Form,
    pub(super) get: fn(&Config, Unit) -> Option<Value>,
    /// False when the field cannot be that.
    pub(super) set: fn(&mut Config, Value, Unit) -> bool,
}

/// A value as it is written.
#[derive(Clone, PartialEq)]
pub(crate) enum Value {
    Number(u64),
    Truth(bool),
    Text(String),
    List(Vec<String>),
    /// By the names of its members.
    Table(BTreeMap<String, Value>),
    /// What no setting takes, in the words of who wrote it.
    Other(String),
}

impl Value {
    /// Without the secrets that members of a table are.
    pub(super) fn masked(self) -> Self {
        let Self::Table(members) = self else { return self };
        let mask = |(name, value): (String, Self)| match name.ends_with("secret") {
            true => (name, Self::Text(MASK.to_owned())),
            false => (name, value.masked()),
        };
        Self::Table(members.into_iter().map(mask).collect())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Truth(truth) => truth.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::List(texts) => texts.fmt(f),
            Self::Table(members) => {
                f.write_str("{")?;
                for (index, (name, value)) in members.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{name} = {value:?}")?;
                }
                f.write_str("}")
            }
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    One,
    Bytes,
    Milliseconds,
    Seconds,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Number { least: u64, most: u64 },
    Truth,
    Text,
    List,
    Table,
}

/// What does not fit.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// The member of a table that it is about.
    pub(super) member: Option<String>,
    /// A sentence that goes on after the setting's name.
    pub(super) words: String,
}

impl From<String> for Misfit {
    fn from(words: String) -> Self {
        Self { member: None, words }
    }
}

/// What of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Secrecy {
    Open,
    /// An address, which may hold a password.
    Address,
    Secret,
    /// A table, of which the members that end with "secret" are some.
    Members,
}

/// What fits a setting, and how that is said. Made by [`number`] and its like.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) kind: Kind,
    unit: Unit,
    pub(crate) placeholder: &'static str,
    fits: &'static str,
    check: fn(&str) -> bool,
    /// What of a table does not fit.
    unfit: fn(&Value) -> Vec<Misfit>,
    secrecy: Secrecy,
    by_default: Option<&'static str>,
    pub(crate) jac_cloud: Option<Foreign>,
}

const fn form(kind: Kind, unit: Unit, placeholder: &'static str, fits: &'static str) -> Form {
    Form {
        kind,
        unit,
        placeholder,
        fits,
        check: |_| true,
        unfit: |_| Vec::new(),
        secrecy: Secrecy::Open,
        by_default: None,
        jac_cloud: None,
    }
}

const fn numeric(unit: Unit, placeholder: &'static str, most: u64) -> Form {
    form(Kind::Number { least: 0, most }, unit, placeholder, "")
}

/// A hundred years: no sum of a time and a setting is out of bounds.
const YEARS: u64 = 100 * 365 * 24 * 3600;

/// A count. The file knows no larger number.
pub(super) const fn number() -> Form {
    numeric(Unit::One, "N", i64::MAX as u64)
}

/// A size in bytes.
pub(super) const fn bytes() -> Form {
    numeric(Unit::Bytes, "BYTES", i64::MAX as u64)
}

/// A span in milliseconds.
pub(super) const fn millis() -> Form {
    numeric(Unit::Milliseconds, "MS", YEARS * 1000)
}

/// A span in seconds.
pub(super) const fn seconds() -> Form {
    numeric(Unit::Seconds, "S", YEARS)
}

/// True or false.
pub(super) const fn flag() -> Form {
    form(Kind::Truth, Unit::One, "true|false", "true or false")
}

/// A text.
pub(super) const fn text(placeholder: &'static str, fits: &'static str) -> Form {
    form(Kind::Text, Unit::One, placeholder, fits)
}

/// Texts; with commas between them in flags and variables.
pub(super) const fn list(placeholder: &'static str, fits: &'static str) -> Form {
    form(Kind::List, Unit::One, placeholder, fits)
}

/// A table; in TOML also in flags and variables. What several places say of it is put together.
pub(super) const fn table(
    placeholder: &'static str,
    fits: &'static str,
    unfit: fn(&Value) -> Vec<Misfit>,
) -> Form {
    Form { unfit, secrecy: Secrecy::Members, ..form(Kind::Table, Unit::One, placeholder, fits) }
}

impl Form {
    pub(super) const fn from(mut self, bound: u64) -> Self {
        if let Kind::Number { least, .. } = &mut self.kind {
            *least = bound;
        }
        self
    }

    pub(super) const fn to(mut self, bound: u64) -> Self {
        if let Kind::Number { most, .. } = &mut self.kind {
            *most = bound;
        }
        self
    }

    /// What else must hold of the text, or of each in the list.
    pub(super) const fn check(mut self, check: fn(&str) -> bool) -> Self {
        self.check = check;
        self
    }

    pub(super) const fn is_secret(mut self) -> Self {
        self.secrecy = Secrecy::Secret;
        self
    }

    pub(super) const fn shows_no_password(mut self) -> Self {
        self.secrecy = Secrecy::Address;
        self
    }

    /// How the default is said, when it is no value or another on each machine.
    pub(super) const fn by_default(mut self, words: &'static str) -> Self {
        self.by_default = Some(words);
        self
    }

    /// What Jac Cloud calls it, when that means the same.
    pub(super) const fn jac_cloud(mut self, names: &'static [&'static str]) -> Self {
        self.jac_cloud = Some(Foreign { names, read: None });
        self
    }

    /// What Jac Cloud calls it, and how that is read.
    pub(super) const fn jac_cloud_as(
        mut self,
        names: &'static [&'static str],
        read: super::jac_cloud::Read,
    ) -> Self {
        self.jac_cloud = Some(Foreign { names, read: Some(read) });
        self
    }

    /// What a text stands for. One that does not fit stays what it is.
    pub(super) fn of_text(&self, text: &str) -> Value {
        let read = match self.kind {
            Kind::Number { .. } => text.trim().parse().ok().map(Value::Number),
            Kind::Truth => truth(text.trim()).map(Value::Truth),
            Kind::Text | Kind::Table => None,
            Kind::List => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Some(Value::List(parts.map(str::to_owned).collect()))
            }
        };
        read.unwrap_or_else(|| Value::Text(text.to_owned()))
    }

    fn takes(&self, value: &Value) -> bool {
        match (self.kind, value) {
            (Kind::Number { least, most }, Value::Number(number)) => (least..=most).contains(number),
            (Kind::Truth, Value::Truth(_)) => true,
            (Kind::Text, Value::Text(text)) => !text.is_empty() && (self.check)(text),
            (Kind::List, Value::List(texts)) => texts.iter().all(|text| (self.check)(text)),
            (Kind::Table, Value::Table(_)) => (self.unfit)(value).is_empty(),
            _ => false,
        }
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// What fits, as it goes on after "should be".
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.unit {
            Unit::One => "a whole number",
            Unit::Bytes => "a whole number of bytes",
            Unit::Milliseconds => "a whole number of milliseconds",
            Unit::Seconds => "a whole number of seconds",
        };
        match self.kind {
            Kind::Number { least, most } if most >= YEARS => write!(f, "{of} from {least}"),
            Kind::Number { least, most } => write!(f, "{of} from {least} to {most}"),
            Kind::List => write!(f, "a list of {}", self.fits),
            Kind::Truth | Kind::Text | Kind::Table => f.write_str(self.fits),
        }
    }
}

impl Setting {
    /// The setting of a name.
    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        super::SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Its documentation on one line.
    pub(crate) fn meaning(&self) -> String {
        self.meaning.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Its flag, without the dashes before it.
    pub(crate) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its variable of the environment.
    pub(crate) fn variable(&self) -> String {
        format!("WALKABOUT_{}", self.name.to_ascii_uppercase())
    }

    /// Its value; none when it is not set.
    pub(crate) fn value(&self, config: &Config) -> Option<Value> {
        (self.get)(config, self.form.unit)
    }

    /// Its value as others may see it.
    pub(crate) fn shown(&self, config: &Config) -> Option<Value> {
        self.value(config).map(|value| self.mask(value))
    }

    /// Whether its value holds something that others may not see.
    pub(crate) fn holds_secret(&self, config: &Config) -> bool {
        self.value(config) != self.shown(config)
    }

    /// Its default in words, or as it is written.
    pub(crate) fn default_words(&self) -> String {
        let words = self.form.by_default.map(str::to_owned);
        words.unwrap_or_else(|| match self.value(&Config::default()) {
            None => "none".to_owned(),
            Some(Value::Text(text)) => text,
            Some(Value::List(texts)) if texts.is_empty() => "none".to_owned(),
            Some(Value::List(texts)) => texts.join(","),
            Some(value) => format!("{value:?}"),
        })
    }

    /// Changes the settings; they stay as they are when the value does not fit.
    ///
    /// # Errors
    /// All that does not fit.
    pub(super) fn put(&self, config: &mut Config, value: Value) -> Result<(), Vec<Misfit>> {
        if self.form.takes(&value) && (self.set)(config, value.clone(), self.form.unit) {
            return Ok(());
        }
        Err(self.misfits(value))
    }

    /// What of its value does not fit, as sentences.
    pub(super) fn faults(&self, config: &Config) -> Vec<String> {
        match self.value(config) {
            Some(value) if !self.form.takes(&value) => {
                self.misfits(value).iter().map(|misfit| format!("{} {}", self.name, misfit.words)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn misfits(&self, value: Value) -> Vec<Misfit> {
        let misfits = (self.form.unfit)(&value);
        if !misfits.is_empty() {
            return misfits;
        }
        let shown: String = format!("{:?}", self.mask(value)).chars().take(200).collect();
        vec![format!("is {shown}, and should be {}", self.form).into()]
    }

    fn mask(&self, value: Value) -> Value {
        match (self.form.secrecy, value) {
            (Secrecy::Secret, _) => Value::Text(MASK.to_owned()),
            (Secrecy::Address, Value::Text(text)) => Value::Text(masked(&text)),
            (Secrecy::Members, value @ Value::Table(_)) => value.masked(),
            (Secrecy::Members, _) => Value::Text(MASK.to_owned()),
            (_, value) => value,
        }
    }
}

/// What stands for a secret.
const MASK: &str = "***";

/// Members of a query that are no secrets: options of MongoDB and of mail servers.
const OPEN: [&str; 27] = [
    "appname",
    "authmechanism",
    "authsource",
    "compressors",
    "connecttimeoutms",
    "directconnection",
    "heartbeatfrequencyms",
    "journal",
    "loadbalanced",
    "localthresholdms",
    "maxconnecting",
    "maxidletimems",
    "maxpoolsize",
    "minpoolsize",
    "readconcernlevel",
    "readpreference",
    "replicaset",
    "retryreads",
    "retrywrites",
    "serverselectiontimeoutms",
    "sockettimeoutms",
    "srvmaxhosts",
    "srvservicename",
    "ssl",
    "tls",
    "w",
    "wtimeoutms",
];

/// An address without the secrets that it may hold, before its host or in its query. One that is written wrongly shows as little.
fn masked(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let (place, query) = rest.find(['?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    // Up to the last '@': a password may have a slash that should be written otherwise.
    let (user, place) = place.rsplit_once('@').map_or((None, place), |(user, place)| (Some(user), place));
    if user.is_none() && !is_place(place) {
        // Of a password with such a sign nothing says where it ends.
        return scheme + MASK;
    }
    let mut shown = scheme;
    match user.map(|user| user.split_once(':')) {
        Some(Some((name, _))) => shown.extend([name, ":", MASK, "@"]),
        Some(None) => shown.extend([MASK, "@"]),
        None => {}
    }
    shown.push_str(place);
    let (query, fragment) = query.split_once('#').unwrap_or((query, ""));
    if let Some(query) = query.strip_prefix('?') {
        let members: Vec<String> = query.split('&').map(masked_member).collect();
        shown.extend(["?", &members.join("&")]);
    }
    if !fragment.is_empty() {
        shown.extend(["#", MASK]);
    }
    shown
}

fn masked_member(member: &str) -> String {
    match member.split_once('=') {
        Some((name, value)) if OPEN.contains(&name.to_ascii_lowercase().as_str()) && !value.contains('@') => {
            member.to_owned()
        }
        Some((name, _)) if is_token(name) => format!("{name}={MASK}"),
        _ => MASK.to_owned(),
    }
}

/// Whether what is before a query begins with hosts and their ports, and not with a user and a password.
fn is_place(place: &str) -> bool {
    let hosts = place.split('/').next().unwrap_or_default();
    hosts.split(',').all(|host| match host.rsplit_once(':') {
        Some((_, port)) => host.starts_with('[') || port.bytes().all(|byte| byte.is_ascii_digit()),
        None => true,
    })
}

/// Where a store is that processes share.
pub(super) fn is_store(text: &str) -> bool {
    let rest = text.strip_prefix("mongodb://").or_else(|| text.strip_prefix("mongodb+srv://"));
    rest.is_some_and(|rest| !rest.is_empty())
}

pub(super) fn is_prefix(text: &str) -> bool {
    text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub(super) fn is_database(text: &str) -> bool {
    text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// As long as the digest that signs: RFC 7518, section 3.2.
pub(super) fn is_long_secret(text: &str) -> bool {
    text.len() >= 32
}

/// `*`, or an origin as browsers write it: RFC 6454, section 6.2.
pub(super) fn is_origin(text: &str) -> bool {
    let is_host = |host: &str| {
        let is_fit =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
        !host.is_empty() && host.bytes().all(is_fit)
    };
    let is_scheme = |scheme: &str| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || b"+-.".contains(&byte))
    };
    text == "*" || text.split_once("://").is_some_and(|(scheme, host)| is_scheme(scheme) && is_host(host))
}

/// What mail can be sent by. Whether the rest of it fits is seen when it is opened.
pub(super) fn is_mail_url(text: &str) -> bool {
    ["smtps://", "smtp://", "file:///"].iter().any(|scheme| text.starts_with(scheme))
}

/// Something with an `@` in it, on one line. Whether it is an address is seen when mail is sent by it.
pub(super) fn is_mailbox(text: &str) -> bool {
    text.contains('@') && !text.contains(char::is_control)
}

/// What a link can begin with.
pub(super) fn is_web_address(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// A method or the name of a header: RFC 9110, section 5.6.2. `*` is one.
pub(super) fn is_token(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_fit)
}

/// The type of a field.
pub(super) trait Written: Sized {
    /// None when it is not set.
    fn write(&self, unit: Unit) -> Option<Value>;
    /// None when it cannot be that.
    fn read(value: Value, unit: Unit) -> Option<Self>;
    /// False when it cannot be that.
    fn put(&mut self, value: Value, unit: Unit) -> bool {
        let read = Self::read(value, unit);
        read.is_some_and(|read| {
            *self = read;
            true
        })
    }
}

impl<T: Written> Written for Option<T> {
    fn write(&self, unit: Unit) -> Option<Value> {
        self.as_ref()?.write(unit)
    }
    fn read(value: Value, unit: Unit) -> Option<Self> {
        T::read(value, unit).map(Some)
    }
}

macro_rules! written_as_number {
    ($($of:ty),+) => {$(
        impl Written for $of {
            fn write(&self, _: Unit) -> Option<Value> {
                Some(Value::Number(u64::try_from(*self).unwrap_or(u64::MAX)))
            }
            fn read(value: Value, _: Unit) -> Option<Self> {
                let Value::Number(number) = value else { return None };
                number.try_into().ok()
            }
        }
    )+};
}

written_as_number!(u32, u64, usize);

impl Written for Duration {
    /// Rounded up, so that what is more than nothing stays so.
    fn write(&self, unit: Unit) -> Option<Value> {
        let one = if unit == Unit::Seconds { 1_000_000_000 } else { 1_000_000 };
        Some(Value::Number(u64::try_from(self.as_nanos().div_ceil(one)).unwrap_or(u64::MAX)))
    }
    fn read(value: Value, unit: Unit) -> Option<Self> {
        let Value::Number(number) = value else { return None };
        Some(if unit == Unit::Seconds { Self::from_secs(number) } else { Self::from_millis(number) })
    }
}

impl Written for bool {
    fn write(&self, _: Unit) -> Option<Value> {
        Some(Value::Truth(*self))
    }
    fn read(value: Value, _: Unit) -> Option<Self> {
        let Value::Truth(truth) = value else { return None };
        Some(truth)
    }
}

impl Written for Vec<String> {
    fn write(&self, _: Unit) -> Option<Value> {
        Some(Value::List(self.clone()))
    }
    fn read(value: Value, _: Unit) -> Option<Self> {
        let Value::List(texts) = value else { return None };
        Some(texts)
    }
}

fn parsed<T: FromStr>(value: Value) -> Option<T> {
    let Value::Text(text) = value else { return None };
    text.parse().ok()
}

macro_rules! written_as_text {
    ($($of:ty: $show:expr;)+) => {$(
        impl Written for $of {
            fn write(&self, _: Unit) -> Option<Value> {
                let show: fn(&Self) -> String = $show;
                Some(Value::Text(show(self)))
            }
            fn read(value: Value, _: Unit) -> Option<Self> {
                parsed(value)
            }
        }
    )+};
}

written_as_text! {
    String: Self::clone;
    SocketAddr: Self::to_string;
    PathBuf: |path| path.display().to_string();
}

impl Written for LevelFilter {
    fn write(&self, _: Unit) -> Option<Value> {
        Some(Value::Text(self.to_string()))
    }
    /// Its words, and not the numbers that it would take as well.
    fn read(value: Value, _: Unit) -> Option<Self> {
        let level = parsed::<Self>(value.clone())?;
        level.write(Unit::One).filter(|written| *written == value).map(|_| level)
    }
}
