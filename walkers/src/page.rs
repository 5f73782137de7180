//! A page of another system's items, read without losing a digit.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

/// The longest cursor, in bytes.
const CURSOR_MAX: usize = 2000;

/// What the other system answered.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<Item>,
    /// The cursor of the page that comes next; empty after the last one.
    pub(crate) next: String,
}

/// One item: its id as it stood, and all of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) data: Value,
}

/// Reads a page; what is wrong with it is said without the other system's own words.
pub(crate) fn read(text: &str) -> Result<Page, String> {
    // Bounds the depth too, for what follows.
    if serde_json::from_str::<Value>(text).is_err() {
        return Err("the external system's answer is no JSON".to_owned());
    }
    let answer = members(text);
    let list = answer.get("items").and_then(|items| serde_json::from_str::<Vec<&RawValue>>(items.get()).ok());
    let Some(list) = list else {
        return Err("the external system's answer has no list of items".to_owned());
    };
    let next = match answer.get("next") {
        None => String::new(),
        Some(next) if next.get() == "null" => String::new(),
        Some(next) => id(next).filter(|next| next.len() <= CURSOR_MAX).ok_or_else(|| {
            format!("the external system's `next` is no text of {CURSOR_MAX} bytes at most, no number and not null")
        })?,
    };
    let items = list.into_iter().map(item).collect::<Option<_>>();
    let items = items.ok_or("an item of the external system has no id that is a text or a number")?;
    Ok(Page { items, next })
}

fn item(raw: &RawValue) -> Option<Item> {
    let id = id(members(raw.get()).get("id")?)?;
    Some(Item { id, data: exact(raw).ok()? })
}

/// The members of an object; none of anything else.
fn members(text: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(text).unwrap_or_default()
}

/// A text, or a number as it is written.
fn id(raw: &RawValue) -> Option<String> {
    match exact(raw).ok()? {
        Value::String(text) => Some(text),
        Value::Number(_) => Some(raw.get().to_owned()),
        _ => None,
    }
}

fn exact(raw: &RawValue) -> serde_json::Result<Value> {
    let mut value = serde_json::from_str(raw.get())?;
    keep_digits(&mut value, raw);
    Ok(value)
}

/// Makes whole numbers that no store has room for texts, as they are written: rounded they would be others.
fn keep_digits(value: &mut Value, raw: &RawValue) {
    let text = raw.get();
    match value {
        Value::Object(values) => {
            let written = members(text);
            for (name, value) in values {
                written.get(name).into_iter().for_each(|raw| keep_digits(value, raw));
            }
        }
        Value::Array(values) => {
            let written: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            values.iter_mut().zip(written).for_each(|(value, raw)| keep_digits(value, raw));
        }
        Value::Number(_) if !text.contains(['.', 'e', 'E']) && text.parse::<i64>().is_err() => {
            *value = Value::from(text);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        let page = read(
            r#" { "next" : 18446744073709551616, "items": [
                { "id" : 123456789012345678901234567890, "in": [{"u": 18446744073709551615}, -9223372036854775808] },
                {"id":1.50,"n":1.5}, {"id":"é\"1","a":null,"b":[ ],"c":{ },"d":true}] }"#,
        )
        .unwrap();
        assert_eq!(page.next, "18446744073709551616");
        let ids: Vec<&str> = page.items.iter().map(|item| &*item.id).collect();
        assert_eq!(ids, ["123456789012345678901234567890", "1.50", "é\"1"]);
        let data: Vec<Value> = page.items.into_iter().map(|item| item.data).collect();
        let first = json!({
            "id": "123456789012345678901234567890",
            "in": [{ "u": "18446744073709551615" }, i64::MIN],
        });
        assert_eq!(data[0], first);
        assert_eq!(data[1], json!({ "id": 1.5, "n": 1.5 }));
        assert_eq!(data[2], json!({ "id": "é\"1", "a": null, "b": [], "c": {}, "d": true }));
    }

    #[test]
    fn the_end_and_the_next_page_are_told_apart() {
        for (next, expected) in [("null", ""), ("\"\"", ""), ("\"p2\"", "p2"), ("7", "7"), ("0", "0")] {
            let page = read(&format!(r#"{{"items":[],"next":{next}}}"#)).unwrap();
            assert_eq!(page.next, expected);
        }
        assert_eq!(read(r#"{"items":[]}"#).unwrap().next, "");
        let long = format!("\"{}\"", "x".repeat(CURSOR_MAX + 1));
        for next in ["true", "{}", "[1]", &long] {
            assert!(read(&format!(r#"{{"items":[],"next":{next}}}"#)).unwrap_err().contains("`next`"));
        }
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let deep = format!(r#"{{"items":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for (text, why) in [
            ("", "no JSON"),
            (&*deep, "no JSON"),
            ("[]", "no list"),
            ("{}", "no list"),
            (r#"{"items":{}}"#, "no list"),
            (r#"{"items":[1]}"#, "no id"),
            (r#"{"items":[{"id":1},{}]}"#, "no id"),
            (r#"{"items":[{"id":null}]}"#, "no id"),
            (r#"{"items":[{"id":[1]}]}"#, "no id"),
        ] {
            assert!(read(text).unwrap_err().contains(why), "{why}");
        }
    }
}
