//! Where values come from, and which of them holds: flags, `WALKABOUT_*`, Jac Cloud's variables, the file, what the application set,
//! the default.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Apart, Config, SETTINGS, file,
    jac_cloud::{self, Foreign},
    setting::{Kind, Misfit, Setting, Value},
    sso,
};
use crate::{Error, Result};

/// The variable that names the file.
const FILE: &str = "WALKABOUT_CONFIG";
/// Variables that are no settings.
const OTHERS: [&str; 3] = [FILE, "WALKABOUT_URL", "WALKABOUT_CA"];

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

/// A place that gave a value.
struct Source<'s> {
    origin: Origin,
    place: Place<'s>,
    /// Whether the value keeps something of what weaker places said.
    adds: bool,
}

enum Place<'s> {
    /// Of a file, with the lines of a table's members.
    Line(&'s Path, usize, BTreeMap<String, usize>),
    /// Flags or variables.
    Names(String),
}

impl Place<'_> {
    /// Where a value stands, or a member of it.
    fn of(&self, member: Option<&str>) -> String {
        match self {
            Self::Line(path, line, members) => {
                let line = member.and_then(|member| members.get(member)).unwrap_or(line);
                format!("{}:{line}", path.display())
            }
            Self::Names(names) => {
                let is_of =
                    |name: &&str| member.is_some_and(|member| name.to_ascii_lowercase().contains(member));
                let some: Vec<&str> = names.split(", ").filter(is_of).collect();
                if some.is_empty() { names.clone() } else { some.join(", ") }
            }
        }
    }

    /// What it calls a setting.
    fn called(&self, setting: &Setting, member: Option<&str>) -> String {
        let place = self.of(member);
        match self {
            Self::Line(..) => format!("{place}: {}", setting.name),
            Self::Names(_) => place,
        }
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
    /// By the names of settings, from weak to strong; what is not here is the default.
    origins: BTreeMap<&'static str, Vec<Origin>>,
}

impl Settled {
    /// Finds what holds.
    ///
    /// # Errors
    /// [`Error::Config`] with all that does not fit, a line for each, also where a stronger value holds.
    pub(crate) fn of(application: Config, given: &Given, variables: &Variables) -> Result<Self> {
        let before = Config::default();
        let changed = SETTINGS.iter().filter(|setting| setting.value(&application) != setting.value(&before));
        let origins = changed.map(|setting| (setting.name, vec![Origin::Application])).collect();
        let settled = Self { config: application, warnings: Vec::new(), origins };
        let mut layers =
            Layers { settled, faults: Vec::new(), places: BTreeMap::new(), broken: BTreeSet::new() };
        layers.faults.extend(SETTINGS.iter().flat_map(|setting| setting.faults(&layers.settled.config)));
        layers.take_file(given, variables);
        layers.take_jac_cloud(variables);
        layers.take_variables(variables);
        layers.take_flags(given);
        layers.fit_together();
        layers.settled.warn_of_sso();
        layers.settled.warn_of_unknown(variables);
        let Layers { settled, faults, .. } = layers;
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

    /// Variables that may be meant as settings and are none. Others may begin the same way: Kubernetes gives each service of the name
    /// `walkabout` some, which would be near to `WALKABOUT_PORT`.
    fn warn_of_unknown(&mut self, variables: &Variables) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("WALKABOUT_").filter(|_| !text.is_empty()) else { continue };
            let is_other = OTHERS.contains(&name.as_str())
                || ["TEST_", "PORT", "SERVICE_"].iter().any(|begin| rest.starts_with(begin))
                || ["_PORT", "_SERVICE_"].iter().any(|part| rest.contains(part));
            let is_setting = SETTINGS.iter().any(|setting| setting.variable() == *name);
            let hint = file::hint(rest);
            if !is_other && !is_setting && !hint.is_empty() {
                self.warnings
                    .push(format!("{name} is ignored: {:?} is no setting{hint}", rest.to_ascii_lowercase()));
            }
        }
    }

    /// The strongest of those that a value comes from.
    #[cfg(test)]
    pub(super) fn origin(&self, setting: &Setting) -> &Origin {
        self.origins.get(setting.name).and_then(|origins| origins.last()).unwrap_or(&Origin::Default)
    }

    /// All that a value comes from, in words.
    pub(super) fn origins(&self, setting: &Setting) -> String {
        let origins = self.origins.get(setting.name).map_or(&[Origin::Default][..], Vec::as_slice);
        origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    }
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in SETTINGS {
            match setting.shown(&self.config) {
                Some(value) => {
                    writeln!(f, "{} = {}  # {}", setting.name, written(value), self.origins(setting))?;
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

/// What several places say of a table stands together.
fn is_table(setting: &Setting) -> bool {
    setting.form.kind == Kind::Table
}

/// A setting, or a member of it.
fn of(setting: &Setting, member: Option<&String>) -> String {
    member.map_or_else(|| setting.name.to_owned(), |member| format!("{}.{member}", setting.name))
}

struct Layers {
    settled: Settled,
    faults: Vec<String>,
    /// Who said something of a setting, or of a provider: `sso.google`.
    places: BTreeMap<String, Vec<String>>,
    /// The settings and providers of which somebody said what does not fit.
    broken: BTreeSet<String>,
}

impl Layers {
    fn put(&mut self, setting: &'static Setting, source: Source<'_>, value: Result<Value, String>) {
        let members: Vec<String> = match &value {
            Ok(Value::Table(members)) => members.keys().cloned().collect(),
            _ => Vec::new(),
        };
        let value = value.map_err(|words| vec![Misfit::from(words)]);
        match value.and_then(|value| setting.put(&mut self.settled.config, value)) {
            Ok(()) => {
                for member in members.iter().map(Some).chain([None]) {
                    let place = source.place.of(member.map(String::as_str));
                    self.places.entry(of(setting, member)).or_default().push(place);
                }
                let origins = self.settled.origins.entry(setting.name).or_default();
                origins.retain(|origin| source.adds && *origin != Origin::Default);
                origins.push(source.origin);
            }
            Err(misfits) => {
                for Misfit { member, words } in misfits {
                    let called = source.place.called(setting, member.as_deref());
                    self.faults.push(format!("{called} {words}"));
                    self.broken.insert(of(setting, member.as_ref()));
                }
                // What was right of it is not known of any more.
                self.broken.extend(members.iter().map(|member| of(setting, Some(member))));
            }
        }
    }

    /// Checks what fits together, when each of it does.
    fn fit_together(&mut self) {
        for Apart { of, with, words } in self.settled.config.apart() {
            if self.broken.contains(&of) || self.broken.contains(with) {
                continue;
            }
            self.faults.push(match self.places.get(&of) {
                Some(places) => format!("{}: {words}", places.join(" and ")),
                None => words,
            });
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
        let told = faults.into_iter().map(|(line, fault)| format!("{}:{line}: {fault}", path.display()));
        self.faults.extend(told);
        let mut secrets = Vec::new();
        for file::Entry { line, setting, value, members } in entries {
            let place = Place::Line(path, line, members);
            let origin = Origin::File(path.to_owned());
            self.put(setting, Source { origin, place, adds: is_table(setting) }, Ok(value));
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
            let origin = Origin::Environment(called.clone());
            // Of several variables those that are not given leave their part to weaker places.
            let adds = is_table(setting) || texts.iter().any(Option::is_none);
            self.put(setting, Source { origin, place: Place::Names(called), adds }, value);
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
                let origin = Origin::Environment(name.clone());
                self.put(
                    setting,
                    Source { origin, place: Place::Names(name), adds: is_table(setting) },
                    Ok(value),
                );
            }
        }
    }

    fn take_flags(&mut self, given: &Given) {
        for (name, text) in &given.flags {
            if let Some(setting) = Setting::of(name) {
                let value = of_text(setting, text);
                let place = Place::Names(format!("--{}", setting.flag()));
                self.put(setting, Source { origin: Origin::Flag, place, adds: is_table(setting) }, Ok(value));
            }
        }
    }
}
