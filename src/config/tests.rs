mod providers;

use std::{ffi::OsString, fmt::Write, fs, path::Path};

use super::{
    layers::{Origin, Variables, written},
    setting::{Form, Value},
    *,
};

/// One of the places that a value can come from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Application,
    File,
    JacCloud,
    Variable,
    Flag,
}

/// From weak to strong.
const WAYS: [Way; 5] = [Way::Application, Way::File, Way::JacCloud, Way::Variable, Way::Flag];

/// What the places say, put together.
struct Said {
    folder: tempfile::TempDir,
    application: Config,
    given: Given,
    variables: Variables,
    file: String,
}

impl Said {
    fn new() -> Self {
        let (application, given) = (Config::default(), Given::default());
        let folder = tempfile::tempdir().unwrap();
        Self { folder, application, given, variables: Variables::new(), file: String::new() }
    }

    fn variable(mut self, name: &str, text: &str) -> Self {
        self.variables.insert(name.to_owned(), OsString::from(text));
        self
    }

    fn file(mut self, text: &str) -> Self {
        self.file.push_str(text);
        self
    }

    /// Says one value in one place.
    fn say(mut self, setting: &'static Setting, way: Way, value: Value) -> Self {
        match way {
            Way::Application => {
                setting.put(&mut self.application, value).unwrap();
                self
            }
            Way::File => {
                let line = format!("{} = {}\n", setting.name, written(value));
                self.file(&line)
            }
            Way::JacCloud => in_jac_cloud(setting, &value)
                .into_iter()
                .fold(self, |said, (name, text)| said.variable(name, &text)),
            Way::Variable => self.variable(&setting.variable(), &as_text(&value)),
            Way::Flag => {
                self.given.flags.insert(setting.name, as_text(&value));
                self
            }
        }
    }

    /// Sets what a setting needs beside itself.
    fn with_companion(mut self, setting: &Setting) -> Self {
        match setting.name {
            "tls_key" => self.application.tls_cert = Some("cert.pem".into()),
            "mail_url" => self.application.mail_from = Some("us@example.com".to_owned()),
            _ => {}
        }
        self
    }

    fn settle(mut self) -> Result<Settled> {
        let path = self.folder.path().join("settings.toml");
        fs::write(&path, &self.file).unwrap();
        self.given.file = Some(path);
        Settled::of(self.application, &self.given, &self.variables)
    }

    /// What does not fit, without the folder.
    fn faults(self) -> String {
        let folder = format!("{}/", self.folder.path().display());
        match self.settle() {
            Err(Error::Config(text)) => text.replace(&folder, ""),
            other => panic!("{other:?}"),
        }
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Truth(truth) => truth.to_string(),
        Value::Text(text) | Value::Other(text) => text.clone(),
        Value::List(texts) => texts.join(" , "),
        Value::Table(_) => written(value.clone()).to_string(),
    }
}

/// What Jac Cloud says in hours.
const IN_HOURS: [&str; 3] = ["token_lifetime_s", "verification_code_lifetime_s", "reset_code_lifetime_s"];

/// The variables by which Jac Cloud says it.
fn in_jac_cloud(setting: &Setting, value: &Value) -> Vec<(&'static str, String)> {
    let names = setting.form.jac_cloud.unwrap().names;
    let texts = match (setting.name, value) {
        ("listen", Value::Text(text)) => {
            let (host, port) = text.rsplit_once(':').unwrap();
            vec![host.to_owned(), port.to_owned()]
        }
        (name, Value::Number(seconds)) if IN_HOURS.contains(&name) => vec![(seconds / 3600).to_string()],
        ("stop_grace_ms", Value::Number(millis)) => vec![(millis / 1000).to_string()],
        ("log_level", Value::Text(level)) => vec![level.to_uppercase()],
        ("sso", Value::Table(providers)) => {
            let Value::Table(google) = &providers["google"] else { panic!("{value:?}") };
            vec![as_text(&google["client_id"]), as_text(&google["client_secret"])]
        }
        _ => vec![as_text(value)],
    };
    names.iter().copied().zip(texts).collect()
}

/// The `n`th of three values that fit and are no default. Of two truths the second is there twice.
fn sample(setting: &Setting, n: u64) -> Value {
    let text = |text: String| Value::Text(text);
    match (setting.name, setting.form.kind) {
        (_, Kind::Number { least, .. }) => match setting.name {
            name if IN_HOURS.contains(&name) => Value::Number(3600 * (n + 1)),
            "stop_grace_ms" => Value::Number(1000 * (n + 1)),
            _ => Value::Number(least + n + 100),
        },
        (_, Kind::Truth) => Value::Truth(n == 0),
        ("allow_origins", _) => {
            Value::List(vec![format!("https://{n}.example"), "https://b.example:81".into()])
        }
        ("sso_redirects", _) => {
            Value::List(vec![format!("https://{n}.example/done"), "https://b.example".into()])
        }
        ("sso", _) => {
            let members = [("client_id", format!("id {n}")), ("client_secret", format!("hush {n}"))];
            let members = members.map(|(name, value)| (name.to_owned(), text(value)));
            Value::Table([("google".to_owned(), Value::Table(members.into()))].into())
        }
        ("sso_host", _) => text(format!("https://{n}.example/sso")),
        (_, Kind::List) => Value::List(vec![format!("X-{n}"), "Y".to_owned()]),
        ("listen", _) => text(format!("127.0.0.{}:{}", n + 2, n + 9000)),
        ("store", _) => text(format!("mongodb://host{n}/?replicaSet=rs")),
        ("token_secret", _) => text(format!("{n} is a secret of thirty-two bytes")),
        ("log_format", _) => text(if n == 0 { "ecs" } else { "text" }.to_owned()),
        ("status_words", _) => text(if n == 0 { "jac_cloud" } else { "own" }.to_owned()),
        ("mail_url", _) => text(format!("smtps://host{n}")),
        ("mail_from", _) => text(format!("us{n}@example.com")),
        ("mail_links", _) => text(format!("https://{n}.example")),
        ("log_level", _) => text(["error", "info", "debug"][usize::try_from(n).unwrap()].to_owned()),
        _ => text(format!("text{n}")),
    }
}

fn ways(setting: &Setting) -> impl Iterator<Item = Way> {
    let has_foreign = setting.form.jac_cloud.is_some();
    WAYS.into_iter().filter(move |way| has_foreign || *way != Way::JacCloud)
}

fn is_of(origin: &Origin, way: Way) -> bool {
    match (origin, way) {
        (Origin::Application, Way::Application)
        | (Origin::File(_), Way::File)
        | (Origin::Flag, Way::Flag) => true,
        (Origin::Environment(names), Way::JacCloud) => !names.contains("WALKABOUT_"),
        (Origin::Environment(names), Way::Variable) => names.starts_with("WALKABOUT_"),
        _ => false,
    }
}

/// Each setting is one field, and each field has one: both are made from one list.
#[test]
fn a_setting_changes_one_field() {
    let before = Config::default();
    for setting in SETTINGS {
        let mut config = before.clone();
        let n = u64::from(setting.value(&before) == Some(sample(setting, 0)));
        setting.put(&mut config, sample(setting, n)).unwrap();
        let changed = SETTINGS.iter().filter(|other| other.value(&config) != other.value(&before));
        assert_eq!(changed.map(|other| other.name).collect::<Vec<_>>(), [setting.name]);
        assert_eq!(setting.value(&config), Some(sample(setting, n)));
        assert!(!setting.meaning().is_empty());
    }
}

#[test]
fn names_end_with_their_units() {
    let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SETTINGS.len(), "no name is there twice");
    for setting in SETTINGS {
        let unit = setting.form.placeholder;
        assert_eq!(setting.name.ends_with("_ms"), unit == "MS", "{}", setting.name);
        assert_eq!(setting.name.ends_with("_s"), unit == "S", "{}", setting.name);
    }
}

#[test]
fn the_stronger_way_holds() {
    let mut pairs = 0;
    for setting in SETTINGS {
        for strong in ways(setting) {
            // Of two truths only one differs from the default, by which the application's value is known.
            let alone = [0, 1].map(|n| sample(setting, n));
            let alone = alone
                .into_iter()
                .find(|value| setting.value(&Config::default()).as_ref() != Some(value))
                .unwrap();
            let said = Said::new().with_companion(setting).say(setting, strong, alone.clone());
            let settled = said.settle().unwrap();
            assert_eq!(setting.value(&settled.config), Some(alone), "{} by {strong:?}", setting.name);
            assert!(is_of(settled.origin(setting), strong), "{} by {strong:?}", setting.name);
            for weak in ways(setting).take_while(|weak| *weak != strong) {
                for (one, other) in [(0, 1), (1, 0)] {
                    let (held, lost) = (sample(setting, one), sample(setting, other));
                    let said = Said::new().with_companion(setting);
                    let said = said.say(setting, strong, held.clone()).say(setting, weak, lost);
                    let settled = said.settle().unwrap();
                    let what = format!("{}: {strong:?} before {weak:?}", setting.name);
                    assert_eq!(setting.value(&settled.config), Some(held), "{what}");
                    assert!(is_of(settled.origin(setting), strong), "{what}");
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 600, "{pairs}");
}

#[test]
fn what_is_not_said_is_the_default() {
    let settled = Said::new().settle().unwrap();
    for setting in SETTINGS {
        assert_eq!(settled.origin(setting), &Origin::Default, "{}", setting.name);
    }
    // Empty variables are none.
    let settled = Said::new().variable("WALKABOUT_LEASE_MS", "").variable("UV_PORT", "").settle().unwrap();
    assert_eq!(settled.config.lease, Config::default().lease);
}

#[test]
fn what_does_not_fit_in_a_file() {
    for (text, wanted) in [
        (
            "\nlease_ms = 500",
            "settings.toml:2: lease_ms is 500, and should be a whole number of milliseconds from 1000",
        ),
        (
            "lease_ms = \"10000\"",
            "settings.toml:1: lease_ms is \"10000\", and should be a whole number of milliseconds from 1000",
        ),
        (
            "lease_ms = -1",
            "settings.toml:1: lease_ms is -1, and should be a whole number of milliseconds from 1000",
        ),
        (
            "lease_ms = 1e4",
            "settings.toml:1: lease_ms is a float, and should be a whole number of milliseconds from 1000",
        ),
        (
            "lease_ms = 99999999999999999999",
            "settings.toml:1: lease_ms is 99999999999999999999, and should be a whole number of milliseconds from 1000",
        ),
        (
            "json_depth_max = 128",
            "settings.toml:1: json_depth_max is 128, and should be a whole number from 1 to 127",
        ),
        (
            "allow_private_addresses = 1",
            "settings.toml:1: allow_private_addresses is 1, and should be true or false",
        ),
        ("data = 5", "settings.toml:1: data is 5, and should be a folder"),
        ("data = ''", "settings.toml:1: data is \"\", and should be a folder"),
        (
            "listen = 'localhost'",
            "settings.toml:1: listen is \"localhost\", and should be an address with a port, as 127.0.0.1:8000",
        ),
        (
            "log_level = '3'",
            "settings.toml:1: log_level is \"3\", and should be off, error, warn, info, debug or trace",
        ),
        ("name = 'a-b'", "settings.toml:1: name is \"a-b\", and should be 1 to 40 letters, digits and '_'"),
        (
            "allow_origins = '*'",
            "settings.toml:1: allow_origins is \"*\", and should be a list of origins as https://example.com, or *",
        ),
        (
            "allow_origins = ['https://a.example/']",
            "settings.toml:1: allow_origins is [\"https://a.example/\"], and should be a list of origins as https://example.com, or *",
        ),
        (
            "allow_origins = [1]",
            "settings.toml:1: allow_origins is a list of other things than texts, and should be a list of origins as https://example.com, or *",
        ),
        ("lease-ms = 1", "settings.toml:1: \"lease-ms\" is no setting; the nearest is lease_ms"),
        (
            "\n\ntoken_livetime_s = 1",
            "settings.toml:3: \"token_livetime_s\" is no setting; the nearest is token_lifetime_s",
        ),
        ("[server]\nlisten = '127.0.0.1:1'", "settings.toml:1: \"server\" is no setting"),
        (
            "store = 'foo'",
            "settings.toml:1: store is \"foo\", and should be an address that begins with mongodb:// or mongodb+srv://",
        ),
        ("\ntls_key = 'key.pem'", "settings.toml:2: tls_key is set, and tls_cert is not"),
        (
            "mail_url = 'smtp://localhost'",
            "settings.toml:1: mail_url is set, so mail_from should be the address that mails come from, as no-reply@example.com",
        ),
        (
            "mail_from = 'a@example.com'\nmail_url = 'smtp://ann:hush@example.com'",
            "settings.toml:2: mail_url would send its password unencrypted: begin it with smtps://, or end it with ?tls=required",
        ),
        ("data = 'a'\ndata = 'b'", "settings.toml:2: no TOML: duplicate key"),
        (
            "token_secret = 'short and secret'",
            "settings.toml:1: token_secret is \"***\", and should be at least 32 bytes",
        ),
        (
            "token_secret = short and secret",
            "settings.toml:1: no TOML: string values must be quoted, expected literal string",
        ),
    ] {
        assert_eq!(Said::new().file(text).faults(), wanted, "{text}");
    }
    let both =
        Said::new().file("visits_max = 0\nlost_max = 0").variable("WALKABOUT_DUE_WINDOW", "none").faults();
    assert_eq!(both.lines().count(), 3, "all are told: {both}");
}

#[test]
fn numbers_as_toml_has_them() {
    let settled = Said::new().file("body_bytes_max = 0x1_000\nlease_ms = 12_000").settle().unwrap();
    assert_eq!(settled.config.body_bytes_max, 4096);
    assert_eq!(settled.config.lease, Duration::from_secs(12));
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let settle = |given: Given, variables: Variables| match Settled::of(Config::default(), &given, &variables)
    {
        Err(Error::Config(text)) => text,
        other => panic!("{other:?}"),
    };
    let missing = folder.path().join("missing.toml");
    let given = Given { file: Some(missing.clone()), ..Given::default() };
    assert!(settle(given, Variables::new()).contains("missing.toml cannot be read: No such file"));
    let named = [("WALKABOUT_CONFIG".to_owned(), missing.into_os_string())].into();
    assert!(settle(Given::default(), named).contains("missing.toml cannot be read: No such file"));
    let large = folder.path().join("large.toml");
    fs::write(&large, "#".repeat((1 << 20) + 1)).unwrap();
    let given = Given { file: Some(large), ..Given::default() };
    assert!(settle(given, Variables::new()).contains("more than 1048576 bytes"));
}

#[test]
fn what_does_not_fit_elsewhere() {
    let mut flags = Said::new();
    flags.given.flags.insert("lost_max", "0".to_owned());
    assert_eq!(flags.faults(), "--lost-max is 0, and should be a whole number from 1 to 1000000");
    let mut application = Said::new();
    application.application.subscriber_lag_max = 0;
    assert_eq!(
        application.faults(),
        "subscriber_lag_max is 0, and should be a whole number from 1 to 1048576"
    );
    for (name, text, wanted) in [
        (
            "WALKABOUT_SOCKETS_MAX",
            "many",
            "WALKABOUT_SOCKETS_MAX is \"many\", and should be a whole number from 1",
        ),
        (
            "WALKABOUT_ALLOW_PRIVATE_ADDRESSES",
            "yes",
            "WALKABOUT_ALLOW_PRIVATE_ADDRESSES is \"yes\", and should be true or false",
        ),
        ("TOKEN_SECRET", "a secret", "TOKEN_SECRET is \"***\", and should be at least 32 bytes"),
        (
            "TOKEN_ALGORITHM",
            "RS256",
            "TOKEN_ALGORITHM is \"RS256\", and should be HS256: login tokens are signed by nothing else",
        ),
        ("TOKEN_TIMEOUT", "12h", "TOKEN_TIMEOUT is \"12h\", and should be a whole number of hours"),
        ("TOKEN_TIMEOUT", "0", "TOKEN_TIMEOUT is 0, and should be a whole number of seconds from 1"),
        ("UV_HOST", "example.com", "UV_HOST has the host \"example.com\", which should be an IP address"),
        ("UV_PORT", "70000", "UV_PORT has the port \"70000\", which should be a number up to 65535"),
        (
            "LOGGER_LEVEL",
            "loud",
            "LOGGER_LEVEL is \"loud\", and should be DEBUG, INFO, WARNING, ERROR or CRITICAL",
        ),
        ("REQUIRE_AUTH_BY_DEFAULT", "no", "REQUIRE_AUTH_BY_DEFAULT is \"no\", and should be true or false"),
    ] {
        assert_eq!(Said::new().variable(name, text).faults(), wanted);
    }
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Said::new();
    bytes.variables.insert("WALKABOUT_DATA".to_owned(), OsString::from_vec(vec![b'a', 0xff]));
    assert_eq!(bytes.faults(), "WALKABOUT_DATA is no UTF-8");
}

#[test]
fn variables_of_jac_cloud() {
    let said = Said::new()
        .file("listen = '127.0.0.9:9000'")
        .variable("UV_PORT", "9001")
        .variable("DATABASE_HOST", "mongodb://db.example/?replicaSet=rs")
        .variable("DATABASE_NAME", "shop")
        .variable("TOKEN_TIMEOUT", "2")
        .variable("TOKEN_ALGORITHM", "HS256")
        .variable("REQUIRE_AUTH_BY_DEFAULT", "False")
        .variable("DISABLE_AUTO_ENDPOINT", "1")
        .variable("ALLOW_ORIGINS", "https://a.example, https://b.example")
        .variable("UV_TIMEOUT_GRACEFUL_SHUTDOWN", "7")
        .variable("LOGGER_LEVEL", "WARNING")
        .variable("REDIS_HOST", "redis://nowhere");
    let settled = said.settle().unwrap();
    let origin = |settled: &Settled| {
        let words = settled.origins(Setting::of("listen").unwrap());
        words.split(' ').map(|word| word.rsplit('/').next().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let config = &settled.config;
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 9], 9001)));
    assert_eq!(config.store.as_deref(), Some("mongodb://db.example/?replicaSet=rs"));
    assert_eq!(config.database, "shop");
    assert_eq!(config.token_lifetime, Duration::from_secs(7200));
    assert!(!config.require_auth_by_default && config.disable_auto_endpoint);
    assert_eq!(config.allow_origins, ["https://a.example", "https://b.example"]);
    assert_eq!((config.stop_grace, config.log_level), (Duration::from_secs(7), LevelFilter::WARN));
    assert_eq!(origin(&settled), "file settings.toml and environment UV_PORT");
    let both = Said::new().variable("UV_PORT", "1").variable("UV_HOST", "localhost").settle().unwrap();
    assert_eq!(origin(&both), "environment UV_HOST, UV_PORT");
    assert_eq!(both.config.listen, SocketAddr::from(([127, 0, 0, 1], 1)));
}

/// What begins like a variable of ours is one, or may be meant as one, or somebody else's.
#[test]
fn variables_that_are_no_settings() {
    let warnings = |name: &str| Said::new().variable(name, "1").settle().unwrap().warnings;
    let told = "WALKABOUT_LISTN is ignored: \"listn\" is no setting; the nearest is listen";
    assert_eq!(warnings("WALKABOUT_LISTN"), [told]);
    let told = "WALKABOUT_TOKEN_LIFETIME is ignored: \"token_lifetime\" is no setting; the nearest is token_lifetime_s";
    assert_eq!(warnings("WALKABOUT_TOKEN_LIFETIME"), [told]);
    for name in [
        "WALKABOUT_CA",
        "WALKABOUT_URL",
        "WALKABOUT_TEST_STORE",
        "WALKABOUT_IMAGE",
        "WALKABOUT_PORT",
        "WALKABOUT_PORT_8000_TCP_ADDR",
        "WALKABOUT_SERVICE_HOST",
        "WALKABOUT_STORE_SERVICE_PORT_HTTP",
        "LISTN",
    ] {
        assert!(warnings(name).is_empty(), "{name}: {:?}", warnings(name));
    }
}

/// Settings of which some are secret.
fn with_secrets() -> Said {
    Said::new()
        .file("token_secret = 'hush, these are more than thirty-two bytes'\n")
        .file("store = 'mongodb://ann:hush@db.example/walkabout?tlsCertificateKeyFilePassword=hush&w=1'\n")
        .variable("WALKABOUT_EXTERNAL_API", "https://hush@api.example/?api_key=hush")
}

#[test]
fn secrets_do_not_show() {
    let settled = with_secrets().settle().unwrap();
    let mut given = Given::default();
    given.flags.insert("token_secret", "hush".to_owned());
    for shown in
        [settled.to_string(), format!("{settled:?}"), format!("{:?}", settled.config), format!("{given:?}")]
    {
        assert!(!shown.contains("hush"), "{shown}");
    }
    let shown = settled.to_string();
    assert!(shown.contains("token_secret = \"***\"  # file"), "{shown}");
    let store = "\"mongodb://ann:***@db.example/walkabout?tlsCertificateKeyFilePassword=***&w=1\"";
    assert!(shown.contains(store), "{shown}");
    assert!(
        shown.contains("\"https://***@api.example/?api_key=***\"  # environment WALKABOUT_EXTERNAL_API"),
        "{shown}"
    );
    // Wrongly written, and still a password.
    let odd = Said::new().variable("WALKABOUT_STORE", "mongodb://ann:hu/sh?h@u@db").settle().unwrap();
    assert!(odd.to_string().contains("store = \"mongodb://***\""), "{odd}");
    for (address, wanted) in [
        (
            "https://h/x?api_key=abc@defhush&sig=hush&auth=x&pass=y",
            "https://h/x?api_key=***&sig=***&auth=***&pass=***",
        ),
        ("https://ann@x:hush@h:81/a@b?page=1#hush", "https://ann@x:***@b?page=***#***"),
        ("https://h?hush", "https://h?***"),
        ("https://h/?hu@sh=1&w=hu@sh", "https://h/?***&w=***"),
        ("https://[::1]:81/a?b=c@d", "https://[::1]:81/a?b=***"),
        ("https://[::1]/a", "https://[::1]/a"),
        ("https://ann:hu?sh@h/", "https://***"),
        ("https://ann:hu#sh@h/", "https://***"),
        ("https://ann:hu/sh@h/", "https://ann:***@h/"),
        ("h:81/x?token=hush", "h:81/x?token=***"),
    ] {
        let settled = Said::new().variable("WALKABOUT_EXTERNAL_API", address).settle().unwrap();
        assert!(
            settled.to_string().contains(&format!("external_api = \"{wanted}\"")),
            "{address}: {settled}"
        );
    }
    for (address, wanted) in [
        ("smtp://h?password=ab@cdhush", "smtp://h?password=***"),
        ("smtps://ann:hush@h:465/here?tls=required", "smtps://ann:***@h:465/here?tls=required"),
    ] {
        let config = Config { mail_url: Some(address.to_owned()), ..Config::default() };
        assert!(format!("{config:?}").contains(&format!("mail_url: Some(\"{wanted}\")")), "{config:?}");
    }
}

#[test]
fn a_file_with_secrets_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let settle = |text: &str, mode| {
        let said = Said::new().file(text);
        let path = said.folder.path().join("settings.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        said.settle().unwrap().warnings
    };
    let secret = "token_secret = 'hush, these are more than thirty-two bytes'\nstore = 'mongodb://a:b@c'";
    let warnings = settle(secret, 0o640);
    assert!(warnings[0].contains("holds token_secret and store and may be read by others"), "{warnings:?}");
    assert!(settle(secret, 0o600).is_empty());
    assert!(settle("store = 'mongodb://c'", 0o644).is_empty());
}

#[test]
fn what_is_shown_is_a_file_again() {
    let all = |n: u64, way: Way| {
        SETTINGS.iter().fold(Said::new(), |said, setting| said.say(setting, way, sample(setting, n)))
    };
    for said in [
        Said::new(),
        all(0, Way::File),
        all(1, Way::Flag),
        all(2, Way::Variable).file("data = \"a\\nb 'c' \\\"d\\\" é\""),
    ] {
        let first = said.settle().unwrap();
        let shown = first.to_string();
        assert_eq!(shown.lines().count(), SETTINGS.len(), "{shown}");
        let kept = shown.lines().filter(|line| !line.contains("***"));
        let again = Said::new().file(&kept.collect::<Vec<_>>().join("\n")).settle().unwrap();
        for setting in SETTINGS.iter().filter(|setting| !setting.holds_secret(&first.config)) {
            assert_eq!(setting.value(&again.config), setting.value(&first.config), "{}", setting.name);
        }
    }
}

/// Variables of Jac Cloud that mean nothing here, and why.
const IGNORED: [(&str, &str); 15] = [
    ("`REDIS_*`, `SOCKET_REDIS_HOST`", "there is no Redis: processes share the database alone"),
    ("`TASK_CONSUMER_*`", "there is no consumer of tasks: due runs are taken up by themselves"),
    ("`SCHEDULER_MAX_THREAD`", "runs share the walker threads: `async_threads`"),
    (
        "`SESSION_MAX_TRANSACTION_RETRY`, `SESSION_MAX_COMMIT_RETRY`",
        "writes are tried for `patience_ms`, and attempts again `conflicts_max` times",
    ),
    ("`DISABLE_AUTO_CLEANUP`", "what no root reaches stays until a walker destroys it"),
    ("`SINGLE_QUERY`", "edges are fetched as the walker asks for them"),
    ("`SENDGRID_*`", "mail is sent by SMTP: `mail_url`, `mail_from`, `mail_links`"),
    (
        "`SSO_APPLE_CLIENT_TEAM_ID`, `SSO_APPLE_CLIENT_KEY`, `SSO_APPLE_CLIENT_CERTIFICATE`, `SSO_APPLE_CLIENT_CERTIFICATE_PATH`",
        "`client_secret` is the token that is made of them",
    ),
    (
        "the other `SSO_<PLATFORM>_*`",
        "nobody signs in with these: see [For those who know Jac Cloud](jac-cloud.md)",
    ),
    ("`APP_PATH`", "walkers are compiled into the program"),
    (
        "`LOGGER_NAME`, `LOGGER_FILE_PATH`, `LOGGER_ROLLOVER_*`, `LOGGER_MAX_BACKUP`, `LOGGER_USE_UTC`",
        "the log goes to standard error, for the system to keep",
    ),
    (
        "`UV_WS_PING_INTERVAL`, `UV_WS_PING_TIMEOUT`, `UV_WS_MAX_QUEUE`, `UV_WS_PER_MESSAGE_DEFLATE`",
        "sockets are pinged every 20 s; `socket_queue_max` bounds what waits for one; frames are not compressed",
    ),
    (
        "the other `UV_SSL_*`",
        "keys have no password here, clients bring no certificates, and TLS is 1.2 or 1.3",
    ),
    ("`UV_WORKERS`, `UV_RELOAD`", "one process uses all cores; more of them share a database"),
    ("the other `UV_*`", "they are settings of uvicorn"),
];

const INTRODUCTION: &str = "# Settings

This page is made from `src/config.rs`.

A setting `lease_ms` is the flag `--lease-ms`, the variable `WALKABOUT_LEASE_MS` and the key `lease_ms` of the file.
A flag holds before a variable, a variable before the file, the file before what the application gave to `Walkabout::config`, and that before the default.
Names end with their unit; sizes are bytes.

The file is TOML: `--config`, or `WALKABOUT_CONFIG`, or `walkabout.toml` in the working directory if it is there.
Numbers are numbers there, truths `true` or `false`, lists lists of texts, tables tables.
In flags and variables truths are `true`, `false`, `1` or `0` in any case, lists have commas, and tables are written as in the file: `{ google = { client_id = \"…\" } }`.
What several places say of a table is put together, member by member.
A flag that is true may stand alone. An empty variable is none.

What does not fit ends the program before it serves, with all that is wrong and where, also where a stronger value holds.
`walkabout config` takes the flags of `walkabout serve` and prints each setting with where it comes from, as a file of settings with `***` for secrets.
A flag can be seen by everybody on the machine: give secrets by variable, or in a file that only its owner may read.

| setting | what it is | default | should be |
|---|---|---|---|
";

const PROVIDERS: &str = r#"
## Providers of single sign-on

```toml
sso_host = "https://api.example.com/sso"

[sso.google]
client_id = "…"
client_secret = "…"

[sso.company]
issuer = "https://login.example.com/realms/company"
client_id = "…"
```

| member | what it is |
|---|---|
| `client_id` | what this application is called at the provider; needed |
| `client_secret` | proves that it is this application; none where it is registered as a public client |
| `issuer` | who the provider's tokens say that they are from. Known beforehand for `apple`, `gitlab`, `google`, `kakao`, and for `microsoft` with a tenant. Who signed in with one is unknown to another of the same name, so give that another name |
| `tenant` | with `microsoft`, the id of the directory whose users may sign in |
| `scopes` | a list: what is asked for beside `openid`; `email` unless given, with `kakao` `account_email` |
| `trust_email` | whether its addresses count as verified although its tokens do not say so. Only for a provider that hands out the addresses itself |
| `allow_insecure_http` | whether it may be called without TLS. For tests |
"#;

const JAC_CLOUD: &str = "
## Jac Cloud's variables

These are taken as well. They are weaker than `WALKABOUT_*` and stronger than the file.

| variable | setting | |
|---|---|---|
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for setting in SETTINGS {
        let (name, meaning, form) = (setting.name, setting.meaning(), &setting.form);
        // A bare address would be a link.
        let fits: Vec<String> = form.to_string().split(' ').map(quoted).collect();
        let fits = fits.join(" ");
        writeln!(page, "| `{name}` | {meaning} | {} | {fits} |", shown_default(setting, form)).unwrap();
    }
    page += PROVIDERS;
    page += JAC_CLOUD;
    for setting in SETTINGS {
        let Some(foreign) = setting.form.jac_cloud else { continue };
        let names = match setting.name {
            "sso" => vec!["`SSO_<PLATFORM>_CLIENT_ID`".to_owned(), "`…_CLIENT_SECRET` and so on".to_owned()],
            _ => foreign.names.iter().map(|name| format!("`{name}`")).collect(),
        };
        let names = names.join(", ");
        writeln!(page, "| {names} | `{}` | {} |", setting.name, note(setting.name)).unwrap();
    }
    page += "| `TOKEN_ALGORITHM` | | `HS256`; anything else is an error |\n";
    page += "\nThese mean nothing here and are ignored.\n\n| variable | why |\n|---|---|\n";
    for (names, why) in IGNORED {
        writeln!(page, "| {names} | {why} |").unwrap();
    }
    page
}

/// A word that is a whole address, as code.
fn quoted(word: &str) -> String {
    let is_address = word.starts_with("https://") && word.len() > "https://".len();
    match word.strip_suffix(',') {
        Some(word) if is_address => format!("`{word}`,"),
        None if is_address => format!("`{word}`"),
        _ => word.to_owned(),
    }
}

/// What is said of Jac Cloud's variable for a setting.
fn note(name: &str) -> &'static str {
    match name {
        "listen" => "`localhost` is 127.0.0.1; what one of them leaves open is as it was",
        "store" => {
            "a database of Jac Cloud is no store of this program: give it another `database`, or a `name`"
        }
        "database" => "when the address names none",
        "token_lifetime_s" => "in hours",
        "stop_grace_ms" => "in seconds",
        "sso" => {
            "of `apple`, `gitlab`, `google`, `kakao` and `microsoft`; `…_TENANT` is `tenant`, `…_BASE_ENDPOINT_URL` is `issuer`, `…_ALLOW_INSECURE_HTTP` is `allow_insecure_http`"
        }
        "log_level" => "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
        _ => "",
    }
}

fn shown_default(setting: &Setting, form: &Form) -> String {
    let is_value = form.kind != Kind::Text || setting.value(&Config::default()).is_some();
    let words = setting.default_words();
    let is_said = words.contains(' ') || words == "none";
    if is_value && !is_said { format!("`{words}`") } else { words }
}

#[test]
fn the_page_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/settings.md");
    let wanted = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == wanted, "{} has drifted: run the tests once with UPDATE_DOCS=1", path.display());
}
