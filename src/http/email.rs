//! Which e-mail addresses may register.
//!
//! Syntax only, nothing is looked up. Letters beyond ASCII are not taken: two spellings of one address would
//! be two users.

use serde_json::{Value, json};

/// The longest address, by RFC 5321.
const ADDRESS_MAX: usize = 254;

/// Top-level names under which no mail is delivered (RFC 6761 and its followers).
const SPECIAL_USE: [&str; 6] = ["arpa", "invalid", "local", "localhost", "onion", "test"];

/// The address as it is stored: its domain in lower case. Otherwise why it is none.
pub(crate) fn normal(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.len() > ADDRESS_MAX {
        return Err("The email address is too long.");
    }
    let (local, domain) = text.rsplit_once('@').ok_or("An email address must have an @-sign.")?;
    if local.is_empty() {
        return Err("There must be something before the @-sign.");
    }
    if local.len() > 64 {
        return Err("The email address is too long before the @-sign.");
    }
    if !local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom)) {
        return Err("The part before the @-sign holds characters that are not allowed there.");
    }
    let domain = domain.to_ascii_lowercase();
    if domain.is_empty() {
        return Err("There must be something after the @-sign.");
    }
    if !domain.split('.').all(is_label) {
        return Err("The part after the @-sign is not a domain name.");
    }
    let Some((_, top)) = domain.rsplit_once('.') else {
        return Err("The part after the @-sign is not valid. It should have a period.");
    };
    if !top.ends_with(|c: char| c.is_ascii_lowercase()) {
        return Err("The part after the @-sign is not a domain name.");
    }
    if SPECIAL_USE.contains(&top) {
        return Err(
            "The part after the @-sign is a special-use or reserved name that cannot be used with email.",
        );
    }
    Ok(format!("{local}@{domain}"))
}

/// What an address has to be, as a JSON Schema.
pub(crate) fn schema() -> Value {
    let in_any_case = |c: char| format!("[{c}{}]", c.to_ascii_uppercase());
    let names = SPECIAL_USE.map(|name| name.chars().map(in_any_case).collect::<String>());
    let special = json!({ "pattern": format!("\\.({})$", names.join("|")) });
    json!({ "type": "string", "format": "email", "maxLength": ADDRESS_MAX, "not": special })
}

/// The characters of a dot-atom (RFC 5322, 3.2.3).
fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn is_label(label: &str) -> bool {
    matches!(label.len(), 1..=63)
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses() {
        let check = |text: &str, wanted: &str| assert_eq!(normal(text).as_deref(), Ok(wanted));
        check("ann@example.com", "ann@example.com");
        check("Ann.B+c@Example.COM", "Ann.B+c@example.com");
        check(" ann@a-b.example.org ", "ann@a-b.example.org");
    }

    #[test]
    fn bad_addresses() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}com", "abcdefghi.".repeat(26));
        for text in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "ann@example",
            "ann@localhost",
            "a@b.test",
            "a@b.local",
            "a@b.invalid",
            "a@b..com",
            "a@-b.com",
            ".a@b.com",
            "a..b@c.com",
            "a b@c.com",
            "a@b@c.com",
            "a@1.2.3.4",
            "ä@b.com",
            "\"a\"@b.com",
            &long,
            &longer,
        ] {
            assert!(normal(text).is_err(), "{text}");
        }
    }
}
