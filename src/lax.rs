//! Values that are meant as another type: a number in a text, a whole number with a fraction of nothing. Jac Cloud takes them, in
//! the way of Pydantic's lax mode, so its clients send them.

use serde_json::{Number, Value};

/// The value as the type that was expected (`int_type`, `float_type` or `bool_type`), when it can only mean one.
pub(crate) fn meant(expected: &str, given: &Value) -> Option<Value> {
    match (expected, given) {
        ("int_type", Value::Bool(truth)) => Some(i64::from(*truth).into()),
        ("int_type", Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
        ("int_type", Value::Number(number)) => whole(number.as_f64()?).map(Value::from),
        ("float_type", Value::Bool(truth)) => Some(f64::from(u8::from(*truth)).into()),
        ("float_type", Value::String(text)) => Number::from_f64(text.trim().parse().ok()?).map(Value::Number),
        ("bool_type", Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Some(true.into()),
            "0" | "false" | "f" | "no" | "n" | "off" => Some(false.into()),
            _ => None,
        },
        ("bool_type", Value::Number(number)) => match whole(number.as_f64()?)? {
            0 => Some(false.into()),
            1 => Some(true.into()),
            _ => None,
        },
        _ => None,
    }
}

/// A whole number that a float holds exactly.
fn whole(float: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it was found whole and small enough")]
    (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_only_mean_one_is_taken() {
        for (expected, given, meaning) in [
            ("int_type", json!("12"), json!(12)),
            ("int_type", json!(" -3 "), json!(-3)),
            ("int_type", json!(3.0), json!(3)),
            ("int_type", json!(true), json!(1)),
            ("float_type", json!("1.5"), json!(1.5)),
            ("float_type", json!(false), json!(0.0)),
            ("bool_type", json!("Yes"), json!(true)),
            ("bool_type", json!(0), json!(false)),
        ] {
            assert_eq!(meant(expected, &given), Some(meaning), "{given} as {expected}");
        }
        for (expected, given) in [
            ("int_type", json!("twelve")),
            ("int_type", json!(3.5)),
            ("int_type", json!(1e300)),
            ("int_type", json!(null)),
            ("float_type", json!("nan")),
            ("bool_type", json!(2)),
            ("bool_type", json!("maybe")),
            ("string_type", json!(12)),
            ("list_type", json!("[]")),
        ] {
            assert_eq!(meant(expected, &given), None, "{given} as {expected}");
        }
    }
}
