//! JSON from outside: bounded in depth, and whole numbers that are whole.

use serde_json::{Value, json};

use super::problem::{Invalid, Problem};

/// Parses a body. What is refused says where, in bytes from the beginning.
pub(crate) fn parse(bytes: &[u8], depth_max: usize) -> Result<Value, Problem> {
    scan(bytes, depth_max)?;
    serde_json::from_slice(bytes).map_err(|error| {
        let position = position(bytes, error.line(), error.column());
        // The parser's text is about the caller's own bytes, so it may go back to them.
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
        invalid("json_invalid", position, "JSON decode error", &reason)
    })
}

fn invalid(kind: &str, position: usize, msg: &str, reason: &str) -> Problem {
    Problem::Invalid(vec![Invalid {
        kind: kind.to_owned(),
        loc: vec![json!("body"), json!(position)],
        msg: msg.to_owned(),
        input: json!({}),
        ctx: Some(json!({ "error": reason })),
    }])
}

/// Refuses what nests too deep, and whole numbers that 64 bits do not hold: the parser would turn them into floats.
fn scan(bytes: &[u8], depth_max: usize) -> Result<(), Problem> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    let reason = format!("nested deeper than {depth_max}");
                    return Err(invalid("json_invalid", at, "JSON decode error", &reason));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = rest
                    .iter()
                    .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
                    .unwrap_or(rest.len());
                let literal = std::str::from_utf8(rest.get(..length).unwrap_or_default()).unwrap_or_default();
                let is_whole = !literal.contains(['.', 'e', 'E']) && literal.len() > 18;
                if is_whole && literal.parse::<i64>().is_err() && literal.parse::<u64>().is_err() {
                    let msg = "Unable to parse input as an integer, exceeded maximum size";
                    return Err(invalid("int_parsing_size", at, msg, "the integer does not fit 64 bits"));
                }
                at += length.max(1);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The position of a string's closing quote.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn position(bytes: &[u8], line: usize, column: usize) -> usize {
    let before: usize =
        bytes.split(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(|line| line.len() + 1).sum();
    (before + column.saturating_sub(1)).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &[u8]) -> String {
        match parse(text, 8) {
            Err(Problem::Invalid(errors)) => errors[0].kind.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn good_json_passes() {
        for text in ["{}", r#"{"a":[1,-2,3.5e10,"]]]]]]]]]"]}"#, "18446744073709551615", r#""\"[[[[[[[[[[[""#]
        {
            assert!(parse(text.as_bytes(), 8).is_ok(), "{text}");
        }
    }

    #[test]
    fn bad_json_is_refused_and_says_how() {
        assert_eq!(refused(b"{"), "json_invalid");
        assert_eq!(refused(b"\xff\xfe"), "json_invalid");
        assert_eq!(refused("[".repeat(10_000).as_bytes()), "json_invalid");
        assert_eq!(refused(br#"{"n": 123456789012345678901234567890}"#), "int_parsing_size");
        assert_eq!(refused(b"-9223372036854775809"), "int_parsing_size");
    }
}
