//! Providers of single sign-on: what their table in the settings says, and what is known of some of them beforehand.

use std::{collections::BTreeMap, fmt};

use super::setting::{Misfit, Unit, Value, Written};

/// Where users sign in instead of here: a provider that speaks OpenID Connect. Its secret does not show in `Debug`.
#[derive(Clone, Default, PartialEq)]
pub struct Provider {
    /// Who its tokens say that they are from: `https://accounts.example.com`. Known beforehand for `apple`, `gitlab`, `google`, `kakao`,
    /// and for `microsoft` with a tenant.
    pub issuer: Option<String>,
    /// What this application is called there.
    pub client_id: String,
    /// Proves that it is this application; none where it is registered as a public client.
    pub client_secret: Option<String>,
    /// With `microsoft`, the id of the directory whose users may sign in.
    pub tenant: Option<String>,
    /// What is asked for beside `openid`. When empty, what gives the address: `email` nearly everywhere.
    pub scopes: Vec<String>,
    /// Whether its addresses count as verified although its tokens do not say so. Only for one that hands out the addresses itself.
    pub trust_email: bool,
    /// Whether it may be called without TLS. For tests.
    pub allow_insecure_http: bool,
}

/// Providers by the names that they have in paths.
pub type Providers = BTreeMap<String, Provider>;

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Value::Table(self.members()).masked().fmt(f)
    }
}

/// What a provider's table may say.
const MEMBERS: [&str; 7] =
    ["issuer", "client_id", "client_secret", "tenant", "scopes", "trust_email", "allow_insecure_http"];

/// What is known of a provider beforehand.
pub(crate) struct Known {
    name: &'static str,
    /// With `{tenant}` where the tenant stands.
    issuer: &'static str,
    /// The scope that gives the address.
    pub(crate) scope: &'static str,
    /// Whether it gives the address only in a form that the browser posts.
    pub(crate) posts: bool,
}

const fn known(name: &'static str, issuer: &'static str) -> Known {
    Known { name, issuer, scope: "email", posts: false }
}

static KNOWN: [Known; 5] = [
    Known { posts: true, ..known("apple", "https://appleid.apple.com") },
    known("gitlab", "https://gitlab.com"),
    known("google", "https://accounts.google.com"),
    Known { scope: "account_email", ..known("kakao", "https://kauth.kakao.com") },
    known("microsoft", "https://login.microsoftonline.com/{tenant}/v2.0"),
];

/// The platforms of Jac Cloud that cannot be offered, and why.
pub(crate) const NOT_OFFERED: [(&str, &str); 11] = [
    ("facebook", "its OpenID Connect names no token endpoint"),
    ("fitbit", "it has no OpenID Connect"),
    ("github", "it has no OpenID Connect for signing in"),
    ("google_android", "applications for phones bring a token of nobody's request: use google"),
    ("google_ios", "applications for phones bring a token of nobody's request: use google"),
    ("line", "it signs for browsers with the secret of the client, not with a key of its own"),
    ("linkedin", "it leaves the nonce out"),
    ("naver", "it has no OpenID Connect that it documents"),
    ("notion", "it has no OpenID Connect"),
    ("twitter", "it has no OpenID Connect"),
    ("yandex", "it has no OpenID Connect"),
];

/// What is known of a provider by its name.
pub(crate) fn known_as(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

impl Provider {
    /// Its issuer, given or known.
    pub(crate) fn issuer(&self, name: &str) -> Option<String> {
        let known = || {
            let issuer = known_as(name)?.issuer;
            match &self.tenant {
                Some(tenant) => Some(issuer.replace("{tenant}", tenant)),
                None => (!issuer.contains('{')).then(|| issuer.to_owned()),
            }
        };
        self.issuer.clone().or_else(known)
    }

    /// What it says that a new one does not.
    fn members(&self) -> BTreeMap<String, Value> {
        let (own, new) = (self.values(), Self::default().values());
        let said = MEMBERS.into_iter().zip(own).zip(new).filter(|((_, own), new)| own != new);
        said.filter_map(|((name, own), _)| Some((name.to_owned(), own?))).collect()
    }

    /// In the order of [`MEMBERS`].
    fn values(&self) -> [Option<Value>; 7] {
        const ONE: Unit = Unit::One;
        [
            self.issuer.write(ONE),
            self.client_id.write(ONE),
            self.client_secret.write(ONE),
            self.tenant.write(ONE),
            self.scopes.write(ONE),
            self.trust_email.write(ONE),
            self.allow_insecure_http.write(ONE),
        ]
    }

    /// False when it has no such member, or the member cannot be that.
    fn put(&mut self, name: &str, value: Value) -> bool {
        const ONE: Unit = Unit::One;
        match name {
            "issuer" => self.issuer.put(value, ONE),
            "client_id" => self.client_id.put(value, ONE),
            "client_secret" => self.client_secret.put(value, ONE),
            "tenant" => self.tenant.put(value, ONE),
            "scopes" => self.scopes.put(value, ONE),
            "trust_email" => self.trust_email.put(value, ONE),
            "allow_insecure_http" => self.allow_insecure_http.put(value, ONE),
            _ => false,
        }
    }

    /// What is wrong with it, as a sentence that goes on after its name.
    fn fault(&self, name: &str) -> Option<String> {
        if self.client_id.is_empty() {
            return Some("has no client_id".to_owned());
        }
        let Some(issuer) = self.issuer(name) else {
            return Some(match known_as(name) {
                Some(_) => "has no tenant, which should be the id of the directory whose users may sign in"
                    .to_owned(),
                None => {
                    let known: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
                    format!("has no issuer, which is known beforehand for {} alone", known.join(", "))
                }
            });
        };
        if issuer.starts_with("http://") && !self.allow_insecure_http {
            return Some(format!(
                "has the issuer {issuer:?}, which should begin with https:// (allow_insecure_http is for tests)"
            ));
        }
        (!is_address(&issuer)).then(|| {
            format!("has the issuer {issuer:?}, which should be an address as https://accounts.example.com")
        })
    }
}

/// An address that begins with `https://` or `http://`, and ends with its path.
pub(super) fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_fit = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}@".contains(&byte);
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(is_fit))
}

/// As it stands in a path.
fn is_name(name: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=40).contains(&name.len()) && name.bytes().all(is_fit)
}

/// What of a table does not fit. It need not be whole: others may say the rest.
pub(super) fn unfit(value: &Value) -> Vec<Misfit> {
    let Value::Table(providers) = value else { return Vec::new() };
    let misfits = |(name, said): (&String, &Value)| {
        let of = |words| Misfit { member: Some(name.clone()), words };
        unfit_provider(name, said).into_iter().map(of).collect::<Vec<_>>()
    };
    providers.iter().flat_map(misfits).collect()
}

fn unfit_provider(name: &str, said: &Value) -> Vec<String> {
    let mut misfits = Vec::new();
    if !is_name(name) {
        let wanted = "1 to 40 lower-case letters, digits, '-' and '_'";
        misfits.push(format!("has the provider {name:?}, which should be {wanted}"));
    }
    let Value::Table(said) = said else {
        misfits.push(format!("has {name}, which should be a table"));
        return misfits;
    };
    for (member, value) in said {
        if !MEMBERS.contains(&member.as_str()) {
            misfits.push(format!("has {name}.{member}, which is none of {}", MEMBERS.join(", ")));
        } else if !Provider::default().put(member, value.clone()) || *value == Value::Text(String::new()) {
            let wanted = match member.as_str() {
                "scopes" => "a list of texts",
                "trust_email" | "allow_insecure_http" => "true or false",
                _ => "a text",
            };
            misfits.push(format!("has {name}.{member}, which should be {wanted}"));
        }
    }
    misfits
}

/// What is wrong with providers when all have had their say: the name of each, and a sentence.
pub(super) fn faults(providers: &Providers) -> impl Iterator<Item = (&str, String)> {
    providers
        .iter()
        .filter_map(|(name, provider)| Some((name.as_str(), format!("sso.{name} {}", provider.fault(name)?))))
}

impl Written for Providers {
    fn write(&self, _: Unit) -> Option<Value> {
        let tables = self.iter().map(|(name, provider)| (name.clone(), Value::Table(provider.members())));
        (!self.is_empty()).then(|| Value::Table(tables.collect()))
    }

    fn read(value: Value, unit: Unit) -> Option<Self> {
        let mut read = Self::new();
        read.put(value, unit).then_some(read)
    }

    /// What a stronger place says of a provider stands beside what a weaker one says, so that a secret can be given apart.
    fn put(&mut self, value: Value, _: Unit) -> bool {
        let Value::Table(tables) = value else { return false };
        tables.into_iter().all(|(name, said)| {
            let Value::Table(said) = said else { return false };
            let provider = self.entry(name).or_default();
            said.into_iter().all(|(member, value)| provider.put(&member, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_given_or_known() {
        let issuer = |name: &str, provider: &Provider| provider.issuer(name);
        let bare = Provider { client_id: "a".to_owned(), ..Provider::default() };
        assert_eq!(issuer("google", &bare).as_deref(), Some("https://accounts.google.com"));
        assert_eq!(issuer("microsoft", &bare), None);
        let tenant = Provider { tenant: Some("t".to_owned()), ..bare.clone() };
        assert_eq!(issuer("microsoft", &tenant).as_deref(), Some("https://login.microsoftonline.com/t/v2.0"));
        let own = Provider { issuer: Some("https://git.example".to_owned()), ..bare };
        assert_eq!(issuer("gitlab", &own).as_deref(), Some("https://git.example"));
    }

    #[test]
    fn providers_are_checked_when_all_is_said() {
        let fault = |name: &str, issuer: Option<&str>, client_id: &str| {
            let issuer = issuer.map(str::to_owned);
            Provider { issuer, client_id: client_id.to_owned(), ..Provider::default() }.fault(name)
        };
        assert_eq!(fault("google", None, "a"), None);
        assert_eq!(fault("own", Some("https://own.example:8443/realms/a"), "a"), None);
        for (name, issuer, client_id, wanted) in [
            ("google", None, "", "has no client_id"),
            ("own", None, "a", "has no issuer"),
            ("microsoft", None, "a", "has no tenant"),
            ("own", Some("http://own.example"), "a", "should begin with https://"),
            ("own", Some("own.example"), "a", "should be an address"),
            ("own", Some("https://own.example/?a"), "a", "should be an address"),
        ] {
            let told = fault(name, issuer, client_id).unwrap();
            assert!(told.contains(wanted), "{told}");
        }
        let insecure =
            Provider { allow_insecure_http: true, client_id: "a".to_owned(), ..Provider::default() };
        let insecure = Provider { issuer: Some("http://127.0.0.1:1".to_owned()), ..insecure };
        assert_eq!(insecure.fault("own"), None);
    }

    #[test]
    fn addresses_are_whole() {
        for good in ["https://app.example.com/done", "http://localhost:3000", "https://[::1]:1/"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "https://",
            "https:///a",
            "app.example.com",
            "javascript:/1",
            "https://a/#b",
            "https://a/?b",
            "https://a@b/",
            "https://a b",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn secrets_of_providers_do_not_show() {
        let provider = Provider { client_secret: Some("hush".to_owned()), ..Provider::default() };
        assert_eq!(format!("{provider:?}"), "{client_secret = \"***\"}");
    }
}
