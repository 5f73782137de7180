//! The file of settings, in TOML: one key or table for each setting.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use toml::de::{DeTable, DeValue};

use super::{
    SETTINGS,
    setting::{Setting, Value},
};

/// The file that is read from the working directory when none is named.
pub(super) const NAME: &str = "walkabout.toml";
/// A file of settings is small; what is larger is something else.
const BYTES_MAX: u64 = 1 << 20;

/// One line of the file.
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) setting: &'static Setting,
    pub(super) value: Value,
    /// The lines of the members of a table.
    pub(super) members: BTreeMap<String, usize>,
}

/// The text of a file.
///
/// # Errors
/// What the system said, or that it is too large.
pub(super) fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > BYTES_MAX {
        return Err(std::io::Error::other(format!("it has more than {BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Whether others than its owner may read it.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0)
}

/// The settings of a file in the order of their lines, and what is wrong with it, each with its line.
pub(super) fn read(text: &str) -> (Vec<Entry>, Vec<(usize, String)>) {
    let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            // Without the text around it, which may be a secret.
            let at = error.span().map_or(1, |span| line(span.start));
            return (Vec::new(), vec![(at, format!("no TOML: {}", error.message()))]);
        }
    };
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for (key, value) in &table {
        let at = line(key.span().start);
        let name = key.get_ref().as_ref();
        match Setting::of(name) {
            Some(setting) => {
                let members = match value.get_ref() {
                    DeValue::Table(members) => {
                        let lines =
                            members.keys().map(|name| (name.get_ref().to_string(), line(name.span().start)));
                        lines.collect()
                    }
                    _ => BTreeMap::new(),
                };
                entries.push(Entry { line: at, setting, value: of(value.get_ref()), members });
            }
            None => faults.push((at, format!("{name:?} is no setting{}", hint(name)))),
        }
    }
    entries.sort_by_key(|entry| entry.line);
    (entries, faults)
}

fn of(value: &DeValue<'_>) -> Value {
    let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
    let read = match value {
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        DeValue::Boolean(truth) => Some(Value::Truth(*truth)),
        DeValue::Integer(number) => {
            u64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Number)
        }
        DeValue::Array(values) => {
            values.iter().map(|value| text(value.get_ref())).collect::<Option<Vec<_>>>().map(Value::List)
        }
        DeValue::Table(members) => Some(table_of(members)),
        _ => None,
    };
    read.unwrap_or_else(|| {
        Value::Other(match value {
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Array(_) => "a list of other things than texts".to_owned(),
            other => format!("a {}", other.type_str()),
        })
    })
}

fn table_of(members: &DeTable<'_>) -> Value {
    Value::Table(
        members.iter().map(|(name, value)| (name.get_ref().to_string(), of(value.get_ref()))).collect(),
    )
}

/// A table as it stands after a key: `{ name = "value" }`.
pub(super) fn table(text: &str) -> Option<Value> {
    const KEY: &str = "value";
    let whole = format!("{KEY} = {text}");
    let parsed = DeTable::parse(&whole).ok()?;
    match (parsed.get_ref().len(), parsed.get_ref().get(KEY)?.get_ref()) {
        (1, DeValue::Table(members)) => Some(table_of(members)),
        _ => None,
    }
}

/// How like two names are that one may be meant by the other.
const LIKE: f64 = 0.85;

/// The setting that may have been meant, when one is like it.
pub(super) fn hint(name: &str) -> String {
    let likeness = |setting: &Setting| strsim::jaro_winkler(setting.name, &name.to_ascii_lowercase());
    let nearest = SETTINGS.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    let nearest = nearest.filter(|setting| likeness(setting) >= LIKE);
    nearest.map(|setting| format!("; the nearest is {}", setting.name)).unwrap_or_default()
}
