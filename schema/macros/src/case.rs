//! Names in other cases.

/// `ProcessWithUpdates` is `process_with_updates`, `HTTPFetch` is `http_fetch`.
pub(crate) fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, &c) in chars.iter().enumerate() {
        if c.is_uppercase() {
            let before = index.checked_sub(1).and_then(|index| chars.get(index));
            let after = chars.get(index + 1);
            let starts_word = before.is_some_and(|before| before.is_lowercase() || before.is_numeric())
                || (before.is_some_and(|before| before.is_uppercase())
                    && after.is_some_and(|after| after.is_lowercase()));
            if starts_word {
                snake.push('_');
            }
            snake.extend(c.to_lowercase());
        } else {
            snake.push(c);
        }
    }
    snake
}

/// A field's name under serde's `rename_all`; none for a rule that serde does not have.
pub(crate) fn rename(rule: &str, field: &str) -> Option<String> {
    let words = || field.split('_').filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    Some(match rule {
        "snake_case" | "lowercase" => field.to_owned(),
        "UPPERCASE" | "SCREAMING_SNAKE_CASE" => field.to_uppercase(),
        "kebab-case" => field.replace('_', "-"),
        "SCREAMING-KEBAB-CASE" => field.replace('_', "-").to_uppercase(),
        "PascalCase" => words().map(capital).collect(),
        "camelCase" => words()
            .enumerate()
            .map(|(index, word)| if index == 0 { word.to_owned() } else { capital(word) })
            .collect(),
        _ => return None,
    })
}

/// Whether a text may name a type.
pub(crate) fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_become_walker_names() {
        let cases = [
            ("Sample", "sample"),
            ("ProcessWithUpdates", "process_with_updates"),
            ("HTTPFetch", "http_fetch"),
            ("Create10", "create10"),
            ("A", "a"),
            ("ANoop", "a_noop"),
            ("already_snake", "already_snake"),
            ("V2Import", "v2_import"),
        ];
        for (type_name, name) in cases {
            assert_eq!(snake(type_name), name);
        }
    }

    #[test]
    fn fields_follow_the_rules_of_serde() {
        assert_eq!(rename("camelCase", "walker_id").unwrap(), "walkerId");
        assert_eq!(rename("PascalCase", "walker_id").unwrap(), "WalkerId");
        assert_eq!(rename("kebab-case", "walker_id").unwrap(), "walker-id");
        assert_eq!(rename("SCREAMING_SNAKE_CASE", "walker_id").unwrap(), "WALKER_ID");
        assert_eq!(rename("mumble", "walker_id"), None);
    }
}
