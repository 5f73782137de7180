//! Values that are meant as another type: a number in a text, a whole number with a fraction of nothing. Pydantic's lax mode
//! takes them, so the clients of Jac Cloud send them. Its words for what does not fit come from its own error messages
//! (<https://docs.pydantic.dev/2.10/errors/validation_errors/>).

use serde_json::{Number, Value, json};

/// What does not fit, in Pydantic's words.
#[derive(Debug, PartialEq)]
pub(super) struct Unfit {
    pub(super) kind: &'static str,
    pub(super) msg: String,
    pub(super) ctx: Value,
}

impl Unfit {
    pub(super) fn new(kind: &'static str, msg: impl Into<String>) -> Self {
        Self { kind, msg: msg.into(), ctx: Value::Null }
    }

    pub(super) fn with(mut self, ctx: Value) -> Self {
        self.ctx = ctx;
        self
    }
}

/// A whole number from `low` to `high`, and of 64 bits with the sign.
pub(super) fn integer(given: &Value, low: i128, high: i128) -> Result<i128, Unfit> {
    let number = match given {
        Value::Bool(truth) => i128::from(*truth),
        Value::Number(number) => whole(number)?,
        Value::String(text) => parse(text)?,
        _ => return Err(Unfit::new("int_type", "Input should be a valid integer")),
    };
    if number < low {
        let msg = format!("Input should be greater than or equal to {low}");
        return Err(Unfit::new("greater_than_equal", msg).with(json!({ "ge": number_of(low) })));
    }
    // No store holds more.
    let (least, most) = (i128::from(i64::MIN), i128::from(i64::MAX));
    if (number > most && high > most) || (number < least && low < least) {
        return Err(too_large());
    }
    if number > high {
        let msg = format!("Input should be less than or equal to {high}");
        return Err(Unfit::new("less_than_equal", msg).with(json!({ "le": number_of(high) })));
    }
    Ok(number)
}

fn whole(number: &Number) -> Result<i128, Unfit> {
    if let Some(whole) = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)) {
        return Ok(whole);
    }
    let float = number.as_f64().unwrap_or(f64::NAN);
    if float.fract() != 0.0 {
        let msg = "Input should be a valid integer, got a number with a fractional part";
        return Err(Unfit::new("int_from_float", msg));
    }
    // Beyond 64 bits a float says no exact number.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float.abs() >= BEYOND {
        return Err(too_large());
    }
    #[expect(clippy::cast_possible_truncation, reason = "it was found small enough")]
    Ok(float as i128)
}

fn too_large() -> Unfit {
    Unfit::new("int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size")
}

/// A number as Pydantic reads it: blanks around it, single underscores between digits, and a fraction of nothing do no harm.
fn parse(text: &str) -> Result<i128, Unfit> {
    let unparsable = || {
        let msg = "Input should be a valid integer, unable to parse string as an integer";
        Unfit::new("int_parsing", msg)
    };
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return Err(unparsable()),
        None => text,
    };
    let digits = whole.strip_prefix(['+', '-']).unwrap_or(whole);
    let is_plain = digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if !is_plain {
        return Err(unparsable());
    }
    let number = whole.replace('_', "").parse::<i128>();
    number.map_err(|_| too_large())
}

/// A bound as JSON holds it.
fn number_of(bound: i128) -> Value {
    i64::try_from(bound)
        .map(Value::from)
        .or_else(|_| u64::try_from(bound).map(Value::from))
        .unwrap_or_default()
}

/// A number that is one.
pub(super) fn float(given: &Value) -> Result<f64, Unfit> {
    let float = match given {
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) => {
            let msg = "Input should be a valid number, unable to parse string as a number";
            unscored(text.trim()).parse().map_err(|_| Unfit::new("float_parsing", msg))?
        }
        _ => return Err(Unfit::new("float_type", "Input should be a valid number")),
    };
    // JSON could not give it back.
    if float.is_finite() {
        Ok(float)
    } else {
        Err(Unfit::new("finite_number", "Input should be a finite number"))
    }
}

/// A text without the underscores between its digits. One that has others cannot be read as a number.
fn unscored(text: &str) -> String {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let fits = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').all(|(at, _)| {
        is_digit(at.checked_sub(1).and_then(|before| bytes.get(before))) && is_digit(bytes.get(at + 1))
    });
    if fits { text.replace('_', "") } else { text.to_owned() }
}

/// A truth, or a word for one.
pub(super) fn truth(given: &Value) -> Result<bool, Unfit> {
    let word = match given {
        Value::Bool(truth) => return Ok(*truth),
        Value::String(text) => text.to_ascii_lowercase(),
        Value::Number(number) => match whole(number) {
            Ok(number) => number.to_string(),
            Err(_) => return Err(Unfit::new("bool_type", "Input should be a valid boolean")),
        },
        _ => return Err(Unfit::new("bool_type", "Input should be a valid boolean")),
    };
    match word.as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
        _ => {
            let msg = "Input should be a valid boolean, unable to interpret input";
            Err(Unfit::new("bool_parsing", msg))
        }
    }
}
