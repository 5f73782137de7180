//! Datasets: `<id>.csv` or `<id>.jsonl` in the folder of datasets.

use std::{
    io::{BufRead, BufReader},
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

impl Dataset {
    /// Reads rows `from..from + count`. Blocking: call it through `cx.compute`.
    pub(crate) fn rows(&self, from: usize, count: usize) -> Result<Vec<Row>, String> {
        let io = |error: std::io::Error| format!("the dataset cannot be read: {}", error.kind());
        match self {
            Self::Csv(path) => csv_rows(std::fs::File::open(path).map_err(io)?, from, count),
            Self::Shipped(text) => csv_rows(text.as_bytes(), from, count),
            Self::Lines(path) => {
                let file = BufReader::new(std::fs::File::open(path).map_err(io)?);
                let rows = file.lines().enumerate().skip(from).take(count.min(ROWS_MAX));
                rows.map(|(number, line)| {
                    let row = serde_json::from_str(&line.map_err(io)?);
                    row.map_err(|_| format!("line {} of the dataset is no JSON object", number + 1))
                })
                .collect()
            }
        }
    }
}

fn csv_rows(reader: impl std::io::Read, from: usize, count: usize) -> Result<Vec<Row>, String> {
    let mut reader = csv::Reader::from_reader(reader);
    let headers = reader.headers().map_err(|_| "the dataset's first line cannot be read".to_owned())?.clone();
    let rows = reader.records().enumerate().skip(from).take(count.min(ROWS_MAX));
    rows.map(|(number, record)| {
        let record = record.map_err(|_| format!("row {} of the dataset cannot be read", number + 1))?;
        Ok(headers.iter().zip(&record).map(|(name, text)| (name.to_owned(), value(text))).collect())
    })
    .collect()
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
pub(crate) fn summary(rows: &[Row]) -> Value {
    let mut names: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let columns: Map<String, Value> =
        names.into_iter().map(|name| (name.clone(), column(rows, name))).collect();
    json!({ "rows": rows.len(), "columns": columns })
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
