//! What must stay absent.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

fn absent(folder: &str, words: &[&str]) {
    for (path, text) in sources(folder) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in words {
                assert!(!code.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_traversal_is_pure() {
    absent("src/walk", &["tokio", "crate::http", "crate::store", "SystemTime", "Instant::now"]);
}

#[test]
fn the_rules_of_runs_are_pure() {
    absent(
        "src/run",
        &["tokio", "crate::http", "crate::store", "crate::runner", "SystemTime", "Instant::now"],
    );
}

#[test]
fn http_goes_through_the_runtime() {
    absent("src/http", &["store::embedded", "store::memory", "dyn Store", "store.commit", "store.submit"]);
}

#[test]
fn only_the_stores_folder_knows_its_database() {
    for folder in ["src/http", "src/runner", "src/walker", "src/walk", "src/publish", "src/store/kv"] {
        absent(folder, &["fjall", "mongodb"]);
    }
}

#[test]
fn dependencies_point_one_way() {
    absent("schema/src", &["walkabout::", "walkabout_macros", "tokio"]);
    absent("src", &["walkabout_walkers"]);
}

/// Slugs are written as `=> "slug"` in these two files, and nothing else is.
#[test]
fn every_error_has_its_page() {
    let sources =
        ["src/error.rs", "schema/src/run.rs"].map(|path| std::fs::read_to_string(root().join(path)).unwrap());
    let slugs: std::collections::BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split("=> \"").skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(slugs.len() > 20, "{slugs:?}");
    for slug in &slugs {
        let page = std::fs::read_to_string(root().join(format!("src/docs/errors/{slug}.md")));
        let page = page.unwrap_or_else(|_| panic!("src/docs/errors/{slug}.md is missing"));
        assert!(page.starts_with(&format!("# {slug}\n")) && page.contains("**Cure.** "), "{slug}");
    }
    let pages = std::fs::read_dir(root().join("src/docs/errors")).unwrap().count();
    assert_eq!(pages, slugs.len(), "a page of no error");
}

#[test]
fn schemas_are_those_of_the_types() {
    let update = std::env::var_os("UPDATE_SCHEMAS").is_some();
    for (name, schema) in walkabout_schema::documents() {
        let path = root().join(format!("schema/{name}.schema.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if update {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{} has drifted: run the tests once with UPDATE_SCHEMAS=1", path.display());
    }
}

#[test]
fn a_beginner_is_told_what_to_do() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail(root().join("tests/ui/*.rs"));
}
