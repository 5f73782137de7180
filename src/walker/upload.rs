//! Files that callers send with a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use walkabout_schema::WalkerId;

use super::{Part, Spec};
use crate::{
    files::{Received, Spool, is_name},
    runner::UPLOAD,
};

/// A file that the caller of a walker sent: the type of a field, as it is or in an `Option` or a `Vec`. What is in it is read with
/// [`Context::open`](super::Context::open).
///
/// An async walker's are files of its run, for as long as there is a record of it, and whoever may read the run may fetch them at
/// `url`. A plain walker's are gone when it has ended: what it wants to keep it has to write elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// What the caller calls it. Anything may stand there, and nothing is kept under this name.
    pub name: String,
    /// The media type that the caller named.
    pub content_type: String,
    /// How long it is.
    pub bytes: u64,
    /// Its SHA-256 digest, in hexadecimal digits.
    pub sha256: String,
    /// Where it can be fetched; none for a plain walker's.
    pub url: Option<String>,
}

impl Upload {
    /// The run that it came with, and its name there. A caller may have made it up, where a walker reads one from elsewhere than a
    /// file's own field.
    pub(crate) fn place(&self) -> Option<(WalkerId, &str)> {
        let (run, file) = self.url.as_deref()?.strip_prefix("/files/")?.split_once('/')?;
        Some((run.parse().ok()?, file)).filter(|(_, file)| is_name(file))
    }
}

/// The files of one request, by the fields that they are for.
pub(crate) struct Arrived(Vec<One>);

struct One {
    field: &'static str,
    is_of_many: bool,
    /// What it is called as a file of the run.
    file: String,
    upload: Upload,
    spool: Spool,
}

impl Arrived {
    /// What comes for a field that takes none is dropped, and so are all but the last for one that takes one.
    pub(crate) fn of(spec: &Spec, received: Vec<Received>) -> Self {
        let mut arrived: Vec<One> = Vec::new();
        for (index, Received { field, name, content_type, spool }) in received.into_iter().enumerate() {
            let Some(field) = spec.field_of(&field) else { continue };
            let is_of_many = match field.part {
                Part::Files => true,
                Part::File => {
                    arrived.retain(|one| one.field != field.name);
                    false
                }
                Part::Path | Part::Query | Part::Body => continue,
            };
            let file = format!("{UPLOAD}{}{}", index + 1, ending(&name));
            let sha256 = spool.digest().iter().map(|byte| format!("{byte:02x}")).collect();
            let upload = Upload { name, content_type, bytes: spool.length(), sha256, url: None };
            arrived.push(One { field: field.name, is_of_many, file, upload, spool });
        }
        Self(arrived)
    }

    /// Puts them in their fields, as files of a run when there is one, and takes out what was given in their place.
    pub(crate) fn fill(&self, spec: &Spec, fields: &mut Map<String, Value>, run: Option<&WalkerId>) {
        for field in spec.fields.iter().filter(|field| matches!(field.part, Part::File | Part::Files)) {
            fields.shift_remove(field.name);
        }
        for One { field, is_of_many, file, upload, .. } in &self.0 {
            let url = run.map(|run| format!("/files/{run}/{file}"));
            // It has a JSON form: texts and a number.
            let value = serde_json::to_value(Upload { url, ..upload.clone() }).unwrap_or_default();
            match fields.get_mut(*field) {
                Some(Value::Array(list)) => list.push(value),
                _ if *is_of_many => drop(fields.insert((*field).to_owned(), Value::Array(vec![value]))),
                _ => drop(fields.insert((*field).to_owned(), value)),
            }
        }
    }

    /// The files of a run, by their names.
    pub(crate) fn into_files(self) -> Vec<(String, Spool)> {
        self.0.into_iter().map(|one| (one.file, one.spool)).collect()
    }

    /// What a plain walker reads, by digests: what has the same one is the same.
    pub(crate) fn into_spools(self) -> BTreeMap<String, Spool> {
        self.0.into_iter().map(|one| (one.upload.sha256, one.spool)).collect()
    }
}

/// The ending of a name, with its dot, when it is one that a file can have.
fn ending(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, ending)) if is_ending(ending) => format!(".{}", ending.to_ascii_lowercase()),
        _ => String::new(),
    }
}

fn is_ending(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        for (name, wanted) in [
            ("a.PDF", ".pdf"),
            ("a.tar.gz", ".gz"),
            ("a", ""),
            ("a.", ""),
            ("../../b.x/y", ""),
            ("a.b\u{e4}", ""),
        ] {
            assert_eq!(ending(name), wanted, "{name}");
        }
    }

    #[test]
    fn places() {
        let at = |url: Option<&str>| Upload {
            name: String::new(),
            content_type: String::new(),
            bytes: 0,
            sha256: String::new(),
            url: url.map(str::to_owned),
        };
        let url = "/files/w:add:01890a5d-ac96-774b-bcce-b302099a8057/upload-1.txt";
        assert_eq!(at(Some(url)).place().unwrap().1, "upload-1.txt");
        for made_up in
            ["/files/../a", &url.replace("upload", "../../upload"), &url.replace("upload", "/etc/upload")]
        {
            assert!(at(Some(made_up)).place().is_none(), "{made_up}");
        }
        assert!(at(None).place().is_none());
    }
}
