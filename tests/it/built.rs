//! The examples, as programs.

use std::{path::PathBuf, process::Command};

/// The folder of the examples, built now where they are not: in the profile of the program that asks.
pub fn examples() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--workspace", "--examples"]);
    build.args(if cfg!(debug_assertions) { None } else { Some("--release") });
    // What cargo tells of this package. Build scripts of others are run again when it changes, and all that depends on them is
    // built again then.
    let told = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    for name in told {
        build.env_remove(name);
    }
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    assert!(build.status().unwrap().success(), "the examples build");
    // target/debug/deps/it-… is the program itself.
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples")
}
