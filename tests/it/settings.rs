//! Settings, through the real program.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use crate::support::{Client, Server, stock};

/// The program in a folder, with no variables but these.
fn run(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(stock());
    command.current_dir(folder).env_clear().envs(variables.iter().copied()).args(args);
    command.output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

/// What `config` prints for a setting.
fn shown<'t>(text: &'t str, name: &str) -> &'t str {
    let line = text.lines().find(|line| line.starts_with(&format!("{name} = ")));
    line.unwrap_or_else(|| panic!("{name} is not in {text}"))
}

#[test]
fn each_value_has_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("walkabout.toml"),
        "visits_max = 7\nlost_max = 8\nsockets_max = 9\nlisten = '[::1]:1'\n",
    )
    .unwrap();
    let variables = [
        ("WALKABOUT_LOST_MAX", "10"),
        ("WALKABOUT_SOCKETS_MAX", "11"),
        ("UV_PORT", "12"),
        ("TOKEN_SECRET", "a secret that nobody is going to guess"),
        ("DATABASE_HOST", "mongodb://ann:guess@db.example/"),
    ];
    let output =
        run(folder.path(), &["config", "--sockets-max", "13", "--allow-private-addresses"], &variables);
    assert!(output.status.success(), "{output:?}");
    let text = said(&output.stdout);
    for (name, wanted) in [
        ("visits_max", "visits_max = 7  # file walkabout.toml"),
        ("lost_max", "lost_max = 10  # environment WALKABOUT_LOST_MAX"),
        ("sockets_max", "sockets_max = 13  # flag"),
        ("listen", "listen = \"[::1]:12\"  # file walkabout.toml and environment UV_PORT"),
        ("token_secret", "token_secret = \"***\"  # environment TOKEN_SECRET"),
        ("store", "store = \"mongodb://ann:***@db.example/\"  # environment DATABASE_HOST"),
        ("allow_private_addresses", "allow_private_addresses = true  # flag"),
        ("lease_ms", "lease_ms = 10000  # default"),
    ] {
        assert_eq!(shown(&text, name), wanted);
    }
    assert!(text.contains("\n# datasets is not set: datasets in the data folder\n"), "{text}");
    let all = said(&output.stdout) + &said(&output.stderr);
    assert!(!all.contains("guess"), "{all}");

    // What it prints is a file of the same settings.
    let open = text.lines().filter(|line| !line.contains("***")).collect::<Vec<_>>().join("\n");
    fs::write(folder.path().join("again.toml"), &open).unwrap();
    let again = run(folder.path(), &["config", "--config", "again.toml"], &[]);
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split("  # ").next().unwrap().to_owned())
            .filter(|line| !line.starts_with('#'))
            .collect()
    };
    assert_eq!(values(&said(&again.stdout)), values(&open));
}

#[test]
fn what_an_application_sets_is_stronger_than_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(crate::support::example("airports"));
    let output = command.current_dir(folder.path()).env_clear().arg("config").output().unwrap();
    let text = said(&output.stdout);
    assert!(shown(&text, "commit_changes_max").ends_with("  # application"), "{text}");
}

/// The program says what is wrong, and does not start.
#[test]
fn what_does_not_fit_ends_the_program() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("walkabout.toml"), "# a comment\nlease_ms = 5\nlissten = ''\n").unwrap();
    for command in ["serve", "config"] {
        let output = run(folder.path(), &[command, "--due-window", "0"], &[("TOKEN_SECRET", "guess")]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(said(&output.stdout), "");
        let wanted = "walkabout: walkabout.toml:3: \"lissten\" is no setting; the nearest is listen\n\
            walkabout.toml:2: lease_ms is 5, and should be a whole number of milliseconds from 1000\n\
            TOKEN_SECRET is \"***\", and should be at least 32 bytes\n\
            --due-window is 0, and should be a whole number from 1\n";
        assert_eq!(said(&output.stderr), wanted);
    }
    assert!(!folder.path().join("walkabout-data").exists(), "nothing was begun");
    let missing = run(folder.path(), &["--config", "other.toml"], &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(said(&missing.stderr).contains("other.toml cannot be read"), "{missing:?}");
}

/// What `serve` would refuse, `config` refuses as well.
#[test]
fn what_does_not_fit_together_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("walkabout.toml"), "[sso.company]\nclient_id = 'a'\n").unwrap();
    let flags = ["--tls-key", "key.pem", "--store", "foo", "--mail-url", "smtp://"];
    for command in ["serve", "config"] {
        let output = run(
            folder.path(),
            &[&[command][..], &flags].concat(),
            &[("WALKABOUT_MAIL_FROM", "us@example.com")],
        );
        assert_eq!(output.status.code(), Some(1));
        let told = said(&output.stderr);
        for wanted in [
            "--store is \"foo\", and should be an address that begins with mongodb:// or mongodb+srv://\n",
            "--tls-key: tls_key is set, and tls_cert is not\n",
            "--mail-url: mail_url should begin with smtps://, smtp:// or file:///",
            "walkabout.toml:1: sso.company has no issuer",
        ] {
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
    }
    let output = run(folder.path(), &["--listn", "127.0.0.1:1"], &[]);
    assert!(said(&output.stderr).contains("'--listen'"), "{output:?}");
}

/// It adds to the level of the settings; when it is empty it says nothing.
#[test]
fn rust_log_says_more() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "hyper=debug", "walkabout=info,hyper=off"] {
        let output = run(folder.path(), &["config"], &[("RUST_LOG", text), ("WALKABOUT_LISTN", "1")]);
        assert!(said(&output.stderr).contains("the nearest is listen"), "{text}: {output:?}");
    }
    let output = run(folder.path(), &["config"], &[("RUST_LOG", "walkabout=chatty")]);
    assert_eq!((output.status.code(), said(&output.stdout)), (Some(1), String::new()));
    assert!(
        said(&output.stderr).starts_with("walkabout: RUST_LOG is \"walkabout=chatty\", and should be"),
        "{output:?}"
    );
}

/// A start that fails says so once.
#[test]
fn why_it_does_not_start_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = run(folder.path(), &["--listen", &listen], &[]);
    assert_eq!(said(&output.stderr).matches("cannot be listened on").count(), 1, "{output:?}");
}

#[test]
fn help_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    let text = said(&run(folder.path(), &["serve", "--help"], &[("WALKABOUT_TOKEN_SECRET", "guess")]).stdout);
    for wanted in [
        "--lease-ms <MS>",
        "[default: 10000]",
        "[env: WALKABOUT_LEASE_MS]",
        "--config <FILE>",
        "--allow-origins <ORIGINS>",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("guess"));
    assert!(!text.contains(", in bytes") && !text.contains(", in milliseconds"), "{text}");
}

/// A file with a secret serves; others may read it, so the log says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    fs::write(&file, "token_secret = 'a secret that nobody is going to guess'\nbody_bytes_max = 200\n")
        .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let file = file.to_str().unwrap();
    let output = run(folder.path(), &["config", "--config", file], &[]);
    assert!(
        said(&output.stderr).contains("settings.toml holds token_secret and may be read by others"),
        "{output:?}"
    );
    let data = folder.path().join("data");
    let server = Server::start(&stock(), &data, &["--config", file]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let (status, _) = ann.post("/user/login", &serde_json::json!({ "email": "a".repeat(200) })).await;
    assert_eq!(status, 413);
    // The same secret knows the token, another does not.
    drop(server);
    let same = Server::start(&stock(), &data, &["--config", file]);
    let again = Client { url: same.url.clone(), ..ann.clone() };
    assert_eq!(again.get("/walkers").await.0, 200);
    drop(same);
    let other = Server::start(&stock(), &data, &["--token-secret", "another secret of at least 32 bytes"]);
    let again = Client { url: other.url.clone(), ..ann.clone() };
    assert_eq!(again.get("/walkers").await.0, 401);
    drop(other);
    let kept = Server::start(&stock(), &data, &[]);
    let again = Client { url: kept.url.clone(), ..ann };
    assert_eq!(again.get("/walkers").await.0, 401);
}
