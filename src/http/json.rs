//! Reads JSON from strangers: bounded in depth, and exact about integers.

use serde_json::{Value, json};

use super::problem::Detail;

/// Parses one JSON text whose values nest at most `depth_max` deep. `within` leads the `loc` of what is
/// refused.
///
/// # Errors
/// `json_invalid` for what is no JSON or too deep, `int_parsing_size` for an integer beyond 64 bits. Floating
/// point would take such a number and silently change it, so it is refused before anything is parsed.
pub(crate) fn parse(bytes: &[u8], depth_max: usize, within: Option<&str>) -> Result<Value, Box<Detail>> {
    let loc =
        |at: usize| within.map(Value::from).into_iter().chain([Value::from(characters(bytes, at))]).collect();
    match scan(bytes, depth_max) {
        Ok(()) => {}
        Err(Fault::Deep(at)) => {
            let reason = format!("JSON nests deeper than {depth_max} levels");
            return Err(invalid(loc(at), &reason));
        }
        Err(Fault::Integer(at, end)) => {
            let digits = bytes.get(at..end).unwrap_or_default();
            let shown: String = String::from_utf8_lossy(digits).chars().take(80).collect();
            let detail =
                Detail::new("int_parsing_size", loc(at), "Integers have at most 64 bits with the sign");
            return Err(Box::new(detail.input(shown.into())));
        }
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let at = if error.is_eof() { bytes.len() } else { position(bytes, error.line(), error.column()) };
        let text = error.to_string();
        let reason = text.split_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        invalid(loc(at), reason)
    })
}

fn invalid(loc: Vec<Value>, reason: &str) -> Box<Detail> {
    let detail = Detail::new("json_invalid", loc, "JSON decode error").input(json!({}));
    Box::new(detail.ctx(json!({ "error": reason })))
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The bracket at this byte opens one level too many.
    Deep(usize),
    /// The literal between these bytes is an integer beyond 64 bits.
    Integer(usize, usize),
}

/// Looks at brackets and numbers outside strings. Takes malformed text too: the parser will refuse it.
fn scan(bytes: &[u8], depth_max: usize) -> Result<(), Fault> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b'[' | b'{' => {
                depth += 1;
                if depth > depth_max {
                    return Err(Fault::Deep(at));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = rest.iter().take_while(|byte| is_number(**byte)).count();
                let literal = rest.get(..length).unwrap_or_default();
                if is_beyond_64_bits(literal) {
                    return Err(Fault::Integer(at, at + length));
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The closing quote of the string that opens at `start`, or the end of the text.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => break,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn is_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

fn is_beyond_64_bits(literal: &[u8]) -> bool {
    // 18 digits always fit.
    if literal.len() < 19 || literal.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return false;
    }
    // What is stored has a sign.
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<i64>().is_err())
}

/// The byte that the parser complains about, from its line and column, both counted from 1.
fn position(bytes: &[u8], line: usize, column: usize) -> usize {
    let start = if line <= 1 {
        0
    } else {
        let newline = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(line - 2);
        newline.map_or(bytes.len(), |(at, _)| at + 1)
    };
    (start + column.saturating_sub(1)).min(bytes.len())
}

/// A byte's place in characters: what clients that hold the text as a string can use.
fn characters(bytes: &[u8], at: usize) -> usize {
    // Every byte but the later ones of a character begins one.
    bytes.iter().take(at).filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: &str, at: usize) {
        let detail = parse(text.as_bytes(), 4, Some("body")).unwrap_err();
        assert_eq!((detail.kind.as_str(), &detail.loc), (kind, &vec![json!("body"), json!(at)]), "{text}");
    }

    #[test]
    fn takes_json() {
        let text = r#"{"a":[1,-2,3.5,1e400000]}"#;
        assert!(parse(text.as_bytes(), 4, None).is_err(), "a float beyond all floats");
        for text in
            ["{}", "[[[[]]]]", r#""[[[[[[""#, r#"{"a":"\"[[[[["}"#, "9223372036854775807", "1e30", "-0"]
        {
            assert!(parse(text.as_bytes(), 4, None).is_ok(), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not() {
        check("{", "json_invalid", 1);
        check("{]", "json_invalid", 1);
        check("{\n\"é\": x}", "json_invalid", 7);
        check("[[[[[]]]]]", "json_invalid", 4);
        check("NaN", "json_invalid", 0);
    }

    #[test]
    fn refuses_integers_beyond_64_bits() {
        check("[9223372036854775808]", "int_parsing_size", 1);
        check("[-9223372036854775809]", "int_parsing_size", 1);
        assert!(parse(b"[9223372036854775807,-9223372036854775808]", 4, None).is_ok());
        assert!(parse(b"\"18446744073709551616\"", 4, None).is_ok());
        assert!(parse(b"[12345678901234567890.5]", 4, None).is_ok());
    }

    #[test]
    fn refuses_bad_utf8() {
        assert_eq!(parse(b"\"\xff\"", 4, None).unwrap_err().kind, "json_invalid");
    }
}
