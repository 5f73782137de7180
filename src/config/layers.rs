//! Where values come from, and which of them holds: flags, `WALKABOUT_*`, Jac Cloud's variables, the file, what the application set,
//! the default.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Config, SETTINGS, file,
    jac_cloud::{self, Foreign},
    setting::{Kind, Setting, Value},
    sso,
};
use crate::{Error, Result};

/// The variable that names the file.
const FILE: &str = "WALKABOUT_CONFIG";

/// The variables of the environment that are set.
pub(crate) type Variables = BTreeMap<String, OsString>;

/// Those of this process. What has no name in UTF-8 is none of ours.
pub(crate) fn variables() -> Variables {
    std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text))).collect()
}

/// What the command line gave.
#[derive(Clone, Default)]
pub(crate) struct Given {
    /// Texts by the names of settings.
    pub(crate) flags: BTreeMap<&'static str, String>,
    /// The file of settings.
    pub(crate) file: Option<PathBuf>,
}

/// Texts may be secrets.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("flags", &self.flags.keys()).field("file", &self.file).finish()
    }
}

/// Where a value comes from. From weak to strong.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Origin {
    Default,
    Application,
    File(PathBuf),
    /// By its names.
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Application => f.write_str("application"),
            // A comment ends with its line.
            Self::File(path) => {
                write!(f, "file {}", path.display().to_string().replace(char::is_control, "?"))
            }
            Self::Environment(names) => write!(f, "environment {names}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// The settings that hold, and where each comes from.
///
/// Its `Display` is a file of settings with the origins as comments. Secrets are `***` there.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// The settings.
    pub config: Config,
    /// What the operator should know of where they come from, as sentences.
    pub warnings: Vec<String>,
    /// By the names of settings; what is not here is the default.
    origins: BTreeMap<&'static str, Origin>,
}

impl Settled {
    /// Finds what holds.
    ///
    /// # Errors
    /// [`Error::Config`] with all that does not fit, a line for each, also where a stronger value holds.
    pub(crate) fn of(application: Config, given: &Given, variables: &Variables) -> Result<Self> {
        let before = Config::default();
        let changed = SETTINGS.iter().filter(|setting| setting.value(&application) != setting.value(&before));
        let origins = changed.map(|setting| (setting.name, Origin::Application)).collect();
        let settled = Self { config: application, warnings: Vec::new(), origins };
        let mut layers = Layers { settled, faults: Vec::new() };
        layers
            .faults
            .extend(SETTINGS.iter().filter_map(|setting| setting.check(&layers.settled.config).err()));
        layers.take_file(given, variables);
        layers.take_jac_cloud(variables);
        layers.take_variables(variables);
        layers.take_flags(given);
        layers.settled.warn_of_sso();
        let Layers { settled, mut faults } = layers;
        faults.extend(sso::faults(&settled.config.sso));
        if faults.is_empty() { Ok(settled) } else { Err(Error::Config(faults.join("\n"))) }
    }

    /// Who serves others is rarely where the default sends their browsers.
    fn warn_of_sso(&mut self) {
        let Config { sso, sso_host, listen, .. } = &self.config;
        if !sso.is_empty() && !listen.ip().is_loopback() && !self.origins.contains_key("sso_host") {
            let warning = format!("sso_host is not set: providers send browsers back to {sso_host}");
            self.warnings.push(warning);
        }
    }

    pub(super) fn origin(&self, setting: &Setting) -> &Origin {
        self.origins.get(setting.name).unwrap_or(&Origin::Default)
    }
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in SETTINGS {
            match setting.shown(&self.config) {
                Some(value) => {
                    writeln!(f, "{} = {}  # {}", setting.name, written(value), self.origin(setting))?;
                }
                None => writeln!(f, "# {} is not set: {}", setting.name, setting.default_words())?,
            }
        }
        Ok(())
    }
}

/// A value as it stands in a file.
pub(super) fn written(value: Value) -> toml::Value {
    match value {
        // None is larger in a setting that is in its bounds.
        Value::Number(number) => toml::Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
        Value::Truth(truth) => toml::Value::Boolean(truth),
        Value::Text(text) | Value::Other(text) => toml::Value::String(text),
        Value::List(texts) => toml::Value::Array(texts.into_iter().map(toml::Value::String).collect()),
        Value::Table(members) => {
            toml::Value::Table(members.into_iter().map(|(name, value)| (name, written(value))).collect())
        }
    }
}

/// What a text of a flag or a variable stands for. One that does not fit stays what it is.
fn of_text(setting: &Setting, text: &str) -> Value {
    let table = if setting.form.kind == Kind::Table { file::table(text) } else { None };
    table.unwrap_or_else(|| setting.form.of_text(text))
}

struct Layers {
    settled: Settled,
    faults: Vec<String>,
}

impl Layers {
    /// Takes a value; `called` is what its source calls it.
    fn put(&mut self, setting: &'static Setting, called: &str, value: Result<Value, String>, origin: Origin) {
        match value.and_then(|value| setting.put(&mut self.settled.config, value)) {
            Ok(()) => drop(self.settled.origins.insert(setting.name, origin)),
            Err(fault) => self.faults.push(format!("{called} {fault}")),
        }
    }

    /// A variable; none when it is empty, as many who start programs cannot unset one.
    fn text<'v>(&mut self, variables: &'v Variables, name: &str) -> Option<&'v str> {
        let text = variables.get(name).filter(|text| !text.is_empty())?;
        if text.to_str().is_none() {
            self.faults.push(format!("{name} is no UTF-8"));
        }
        text.to_str()
    }

    fn take_file(&mut self, given: &Given, variables: &Variables) {
        let named = given.file.clone().or_else(|| self.text(variables, FILE).map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(file::NAME));
        match file::text(&path) {
            Ok(text) => self.take_entries(&path, &text),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.faults.push(format!("{} cannot be read: {error}", path.display())),
        }
    }

    fn take_entries(&mut self, path: &Path, text: &str) {
        let (entries, faults) = file::read(text);
        let place = |line| format!("{}:{line}:", path.display());
        self.faults.extend(faults.into_iter().map(|(line, fault)| format!("{} {fault}", place(line))));
        let mut secrets = Vec::new();
        for file::Entry { line, setting, value } in entries {
            let called = format!("{} {}", place(line), setting.name);
            self.put(setting, &called, Ok(value), Origin::File(path.to_owned()));
            if setting.holds_secret(&self.settled.config) {
                secrets.push(setting.name);
            }
        }
        if !secrets.is_empty() && file::is_open_to_others(path) {
            let secrets = secrets.join(" and ");
            self.settled
                .warnings
                .push(format!("{} holds {secrets} and may be read by others: chmod 600 it", path.display()));
        }
    }

    fn take_jac_cloud(&mut self, variables: &Variables) {
        for setting in SETTINGS {
            let Some(Foreign { names, read }) = setting.form.jac_cloud else { continue };
            let texts: Vec<_> = names.iter().map(|name| self.text(variables, name)).collect();
            let given = names.iter().zip(&texts).filter(|(_, text)| text.is_some());
            let called = given.map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let Some(text) = texts.iter().flatten().next() else { continue };
            let value = match read {
                Some(read) => read(&self.settled.config, &texts),
                None => Ok(of_text(setting, text)),
            };
            self.put(setting, &called, value, Origin::Environment(called.clone()));
        }
        for (platform, why) in sso::NOT_OFFERED {
            let name = format!("SSO_{}_CLIENT_ID", platform.to_ascii_uppercase());
            if self.text(variables, &name).is_some() {
                self.settled
                    .warnings
                    .push(format!("{name} is ignored: nobody signs in with {platform}, because {why}"));
            }
        }
        for name in jac_cloud::CHECKED {
            let fault = self.text(variables, name).and_then(|text| jac_cloud::unserved(name, text));
            self.faults.extend(fault);
        }
    }

    fn take_variables(&mut self, variables: &Variables) {
        for setting in SETTINGS {
            let name = setting.variable();
            if let Some(text) = self.text(variables, &name) {
                let value = of_text(setting, text);
                self.put(setting, &name, Ok(value), Origin::Environment(name.clone()));
            }
        }
    }

    fn take_flags(&mut self, given: &Given) {
        for (name, text) in &given.flags {
            if let Some(setting) = Setting::of(name) {
                let value = of_text(setting, text);
                self.put(setting, &format!("--{}", setting.flag()), Ok(value), Origin::Flag);
            }
        }
    }
}
