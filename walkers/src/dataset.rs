//! Datasets: `<id>.csv` or `<id>.jsonl` in the folder of datasets.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::{Map, Value};
use walkabout::{config::Config, prelude::*};

/// The airports of the United States: there from the start, without a file.
const AIRPORTS: &str = include_str!("../../examples/airports/airports.csv");
/// The largest dataset.
const ROWS_MAX: usize = 10_000_000;

/// One row: column to value. Values of a CSV are numbers where they read as such.
pub(crate) type Row = Map<String, Value>;

/// Where a dataset is.
#[derive(Debug, Clone)]
pub(crate) enum Dataset {
    Csv(PathBuf),
    Lines(PathBuf),
    Shipped(&'static str),
}

/// Finds a dataset by its id; `None` when there is none. An id is a plain name, so it cannot lead out of the folder.
pub(crate) fn find(config: &Config, id: &str) -> Option<Dataset> {
    let is_name = !id.is_empty()
        && id.len() <= 100
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_name {
        return None;
    }
    let folder = config.datasets.clone().unwrap_or_else(|| config.data.join("datasets"));
    let (csv, lines) = (folder.join(format!("{id}.csv")), folder.join(format!("{id}.jsonl")));
    if csv.is_file() {
        Some(Dataset::Csv(csv))
    } else if lines.is_file() {
        Some(Dataset::Lines(lines))
    } else {
        (id == "airports").then_some(Dataset::Shipped(AIRPORTS))
    }
}

/// As [`find`], failing the walker with a sentence that says what is missing.
pub(crate) fn require(config: &Config, id: &str) -> Result<Dataset, Failure> {
    find(config, id).ok_or_else(|| {
        fail(format!("there is no dataset {id:?}: put <id>.csv or <id>.jsonl into the folder of datasets"))
    })
}

/// Where to read on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// Rows before it.
    pub(crate) rows: usize,
    /// The byte where the next row begins, and the lines before; 0 when nobody knows, then the rows before are read over.
    byte: u64,
    lines: u64,
}

impl Place {
    /// After so many rows, wherever that is.
    pub(crate) fn after(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }
}

impl Dataset {
    /// Reads up to `count` rows from a place on; gives them, and the place after them. Blocking: call it through `cx.compute`.
    pub(crate) fn rows(&self, from: Place, count: usize) -> Result<(Vec<Row>, Place), String> {
        match self {
            Self::Csv(path) => csv_rows(File::open(path).map_err(unreadable)?, from, count),
            Self::Shipped(text) => csv_rows(Cursor::new(text), from, count),
            Self::Lines(path) => line_rows(File::open(path).map_err(unreadable)?, from, count),
        }
    }

    /// Reads every row. Blocking, as above.
    pub(crate) fn all(&self) -> Result<Vec<Row>, String> {
        self.rows(Place::default(), usize::MAX).map(|(rows, _)| rows)
    }
}

fn unreadable(error: std::io::Error) -> String {
    format!("the dataset cannot be read: {}", error.kind())
}

fn csv_rows(reader: impl Read + Seek, mut at: Place, count: usize) -> Result<(Vec<Row>, Place), String> {
    let mut reader = csv::Reader::from_reader(reader);
    let headers = reader.headers().map_err(|_| "the dataset's first line cannot be read".to_owned())?.clone();
    let mut before = at.rows;
    if at.byte > 0 {
        let mut place = csv::Position::new();
        place.set_byte(at.byte).set_line(at.lines);
        reader.seek(place).map_err(|_| "the dataset cannot be read on".to_owned())?;
        before = 0;
    }
    at.rows -= before;
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while rows.len() < count.min(ROWS_MAX) {
        let row = at.rows + 1;
        let is_row = reader
            .read_record(&mut record)
            .map_err(|_| format!("row {row} of the dataset cannot be read"))?;
        if !is_row {
            break;
        }
        at.rows = row;
        if before > 0 {
            before -= 1;
            continue;
        }
        rows.push(headers.iter().zip(&record).map(|(name, text)| (name.to_owned(), value(text))).collect());
    }
    (at.byte, at.lines) = (reader.position().byte(), reader.position().line());
    Ok((rows, at))
}

fn line_rows(file: File, mut at: Place, count: usize) -> Result<(Vec<Row>, Place), String> {
    let mut reader = BufReader::new(file);
    let mut before = at.rows;
    if at.byte > 0 {
        reader.seek(SeekFrom::Start(at.byte)).map_err(unreadable)?;
        before = 0;
    }
    at.rows -= before;
    let mut rows = Vec::new();
    let mut line = String::new();
    while rows.len() < count.min(ROWS_MAX) {
        line.clear();
        let read = reader.read_line(&mut line).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        at.byte += u64::try_from(read).unwrap_or_default();
        at.lines += 1;
        // A blank line is no row.
        if line.trim().is_empty() {
            continue;
        }
        at.rows += 1;
        if before > 0 {
            before -= 1;
            continue;
        }
        let row = serde_json::from_str(&line);
        rows.push(row.map_err(|_| format!("line {} of the dataset is no JSON object", at.lines))?);
    }
    Ok((rows, at))
}

fn value(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    // A leading zero is part of a code, not of a number.
    let is_code = text.len() > 1 && text.starts_with('0') && !text.starts_with("0.");
    match text.parse::<i64>() {
        Ok(number) if !is_code => Value::from(number),
        _ => match text.parse::<f64>() {
            Ok(number) if !is_code && number.is_finite() && text.contains('.') => Value::from(number),
            _ => Value::from(text),
        },
    }
}

/// What a column holds: type, count of values, distinct ones, least, greatest, mean of the numbers.
pub(crate) fn summary(rows: &[Row]) -> Map<String, Value> {
    let mut names: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let columns: Map<String, Value> =
        names.into_iter().map(|name| (name.clone(), column(rows, name))).collect();
    Map::from_iter([("rows".to_owned(), rows.len().into()), ("columns".to_owned(), columns.into())])
}

fn column(rows: &[Row], name: &str) -> Value {
    let values: Vec<&Value> =
        rows.iter().filter_map(|row| row.get(name)).filter(|value| !value.is_null()).collect();
    let distinct = values.iter().map(ToString::to_string).collect::<std::collections::HashSet<_>>().len();
    let numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
    let is_number = !values.is_empty() && numbers.len() == values.len();
    let kind = if values.is_empty() {
        "null"
    } else if is_number && values.iter().all(|value| value.is_i64() || value.is_u64()) {
        "integer"
    } else if is_number {
        "number"
    } else if values.iter().all(|value| value.is_boolean()) {
        "boolean"
    } else {
        "string"
    };
    let (min, max) = if is_number {
        let by_size = |a: &&&Value, b: &&&Value| {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(std::cmp::Ordering::Equal)
        };
        (
            values.iter().min_by(by_size).map(|value| (*value).clone()),
            values.iter().max_by(by_size).map(|value| (*value).clone()),
        )
    } else {
        let texts =
            || values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        (texts().min().map(Value::from), texts().max().map(Value::from))
    };
    #[expect(clippy::cast_precision_loss, reason = "a mean is approximate")]
    let mean = is_number.then(|| numbers.iter().sum::<f64>() / numbers.len() as f64);
    json!({ "type": kind, "count": values.len(), "distinct": distinct, "min": min, "max": max, "mean": mean })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads all rows, some at a time.
    fn read(dataset: &Dataset, count: usize) -> Vec<Row> {
        let (mut all, mut place) = (Vec::new(), Place::default());
        loop {
            let (rows, next) = dataset.rows(place, count).unwrap();
            if rows.is_empty() {
                return all;
            }
            all.extend(rows);
            assert_eq!(next.rows, all.len());
            // Without the byte the same place is found.
            let (again, found) = dataset.rows(Place::after(next.rows), 1).unwrap();
            assert_eq!(dataset.rows(next, 1).unwrap().0, again);
            assert_eq!(found.rows, next.rows + again.len());
            place = next;
        }
    }

    #[test]
    fn rows_are_the_same_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quoted.csv");
        let text = "\u{feff}name,n\r\n\"a\nb\",1\r\n\n\"c,\"\"d\"\"\",2\r\né,3\n\"\n\n\",4";
        std::fs::write(&path, text).unwrap();
        let csv = Dataset::Csv(path);
        let whole = csv.all().unwrap();
        let names: Vec<&str> = whole.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a\nb", "c,\"d\"", "é", "\n\n"]);
        let path = folder.path().join("blank.jsonl");
        std::fs::write(&path, "{\"n\":1}\n\n{\"n\":2}\r\n  \n{\"n\":3}\n{\"n\":4}\n\n").unwrap();
        let lines = Dataset::Lines(path);
        for dataset in [csv, lines, Dataset::Shipped(AIRPORTS)] {
            let whole = dataset.all().unwrap();
            assert!(whole.len() >= 4);
            for count in [1, 2, 3, 100].into_iter().skip(if whole.len() > 4 { 3 } else { 0 }) {
                assert_eq!(read(&dataset, count), whole);
            }
        }
    }

    /// What was read is not read again: it may even be gone.
    #[test]
    fn a_part_begins_where_the_last_ended() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, read) in
            [("a.csv", "n\n1\n2\n3\n", 2..6), ("a.jsonl", "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n", 0..16)]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let dataset =
                if name == "a.csv" { Dataset::Csv(path.clone()) } else { Dataset::Lines(path.clone()) };
            let (first, place) = dataset.rows(Place::default(), 2).unwrap();
            assert_eq!(first.len(), 2);
            let spoiled = "\"".repeat(read.len());
            std::fs::write(&path, [&text[..read.start], &spoiled, &text[read.end..]].concat()).unwrap();
            let (rest, _) = dataset.rows(place, 2).unwrap();
            assert_eq!(rest.iter().map(|row| &row["n"]).collect::<Vec<_>>(), [3], "{name}");
        }
    }
}
