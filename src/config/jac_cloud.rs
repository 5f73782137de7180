//! Jac Cloud's variables, where they mean what a setting here means. They are weaker than `WALKABOUT_*` and stronger than the file.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Config,
    setting::{Value, flag},
};

/// How Jac Cloud's variables give a value: the settings that are weaker, and the texts, one for each name and one at least. The error
/// is a sentence that goes on after the names.
pub(super) type Read = fn(&Config, &[Option<&str>]) -> Result<Value, String>;

/// The variables of one setting.
#[derive(Clone, Copy)]
pub(crate) struct Foreign {
    pub(crate) names: &'static [&'static str],
    /// None when the text is that of the setting.
    pub(super) read: Option<Read>,
}

/// What is wrong with variables that have no setting because only one value of them is served.
pub(super) fn unserved(name: &str, text: &str) -> Option<String> {
    (name == "TOKEN_ALGORITHM" && text != "HS256")
        .then(|| format!("{name} is {text:?}, and should be HS256: login tokens are signed by nothing else"))
}

/// Those of [`unserved`].
pub(super) const CHECKED: [&str; 1] = ["TOKEN_ALGORITHM"];

/// `UV_HOST` and `UV_PORT`; what one of them leaves open is as it was.
pub(super) fn listen(config: &Config, texts: &[Option<&str>]) -> Result<Value, String> {
    let [host, port] = texts else { return Err(String::new()) };
    let mut listen = config.listen;
    if let Some(host) = host {
        let host = if *host == "localhost" { "127.0.0.1" } else { host };
        let host: IpAddr =
            host.parse().map_err(|_| format!("has the host {host:?}, which should be an IP address"))?;
        listen.set_ip(host);
    }
    if let Some(port) = port {
        listen.set_port(
            port.parse()
                .map_err(|_| format!("has the port {port:?}, which should be a number up to 65535"))?,
        );
    }
    Ok(Value::Text(listen.to_string()))
}

/// Hours, for seconds.
pub(super) fn hours(_: &Config, texts: &[Option<&str>]) -> Result<Value, String> {
    times(texts, 3600, "hours")
}

/// Seconds, for milliseconds.
pub(super) fn seconds(_: &Config, texts: &[Option<&str>]) -> Result<Value, String> {
    times(texts, 1000, "seconds")
}

fn times(texts: &[Option<&str>], factor: u64, unit: &str) -> Result<Value, String> {
    let text = texts.iter().flatten().next().copied().unwrap_or_default();
    let number = text.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.map(Value::Number).ok_or_else(|| format!("is {text:?}, and should be a whole number of {unit}"))
}

/// The levels of Python's `logging`.
pub(super) fn level(_: &Config, texts: &[Option<&str>]) -> Result<Value, String> {
    let text = texts.iter().flatten().next().copied().unwrap_or_default();
    let level = match text.to_ascii_uppercase().as_str() {
        "NOTSET" => "trace",
        "DEBUG" => "debug",
        "INFO" => "info",
        "WARNING" | "WARN" => "warn",
        "ERROR" | "CRITICAL" | "FATAL" => "error",
        _ => return Err(format!("is {text:?}, and should be DEBUG, INFO, WARNING, ERROR or CRITICAL")),
    };
    Ok(Value::Text(level.to_owned()))
}

/// What Jac Cloud says of a provider, and the member here.
const OF_PROVIDER: [(&str, &str); 5] = [
    ("CLIENT_ID", "client_id"),
    ("CLIENT_SECRET", "client_secret"),
    ("TENANT", "tenant"),
    ("BASE_ENDPOINT_URL", "issuer"),
    ("ALLOW_INSECURE_HTTP", "allow_insecure_http"),
];

macro_rules! of_providers {
    ($($name:literal),+) => {
        [$(
            concat!("SSO_", $name, "_CLIENT_ID"),
            concat!("SSO_", $name, "_CLIENT_SECRET"),
            concat!("SSO_", $name, "_TENANT"),
            concat!("SSO_", $name, "_BASE_ENDPOINT_URL"),
            concat!("SSO_", $name, "_ALLOW_INSECURE_HTTP"),
        )+]
    };
}

/// The variables of the platforms that speak OpenID Connect, five each.
pub(super) static PROVIDERS: [&str; 25] = of_providers!("GOOGLE", "APPLE", "GITLAB", "KAKAO", "MICROSOFT");

/// Tables of providers.
pub(super) fn providers(_: &Config, texts: &[Option<&str>]) -> Result<Value, String> {
    let mut providers: BTreeMap<String, Value> = BTreeMap::new();
    for (variable, text) in PROVIDERS.iter().zip(texts) {
        let Some(text) = text else { continue };
        let found = OF_PROVIDER.iter().find_map(|(end, member)| {
            let name = variable.strip_prefix("SSO_")?.strip_suffix(end)?.strip_suffix('_')?;
            Some((name.to_ascii_lowercase(), *member))
        });
        let Some((name, member)) = found else { continue };
        let value = if member == "allow_insecure_http" {
            flag().of_text(text)
        } else {
            Value::Text((*text).to_owned())
        };
        let provider = providers.entry(name).or_insert_with(|| Value::Table(BTreeMap::new()));
        if let Value::Table(members) = provider {
            members.insert(member.to_owned(), value);
        }
    }
    Ok(Value::Table(providers))
}
