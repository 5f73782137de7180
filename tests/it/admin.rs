//! Administrators of the system, made by the command line.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::json;

use crate::support::{Client, Server, example, store_of};

const NIL: &str = "00000000000000000000000000000000";

/// Runs `admin create` of an example on the store of a folder.
fn create(data: &Path, arguments: &[&str], typed: &str) -> Output {
    let mut command = Command::new(example("desk"));
    command.args(["admin", "create"]).args(arguments).arg("--data").arg(data).args(store_of(data));
    command.env_remove("RUST_LOG").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that is refused before it reads has closed the pipe.
    drop(child.stdin.take().unwrap().write_all(typed.as_bytes()));
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_acts_on_the_runs_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let made = create(folder.path(), &["--email", "Root@Example.com"], "correct horse\nand more\n");
    assert_eq!(String::from_utf8_lossy(&made.stdout), "Root@example.com is an administrator of the system\n");
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
    let again = create(folder.path(), &["--email", "Root@example.com", "--password", "other"], "");
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(said, "walkabout: Root@example.com is registered already\n");

    let server = Server::start(&example("desk"), folder.path(), &[]);
    let mut root = Client::anonymous(&server.url);
    root.login("Root@example.com").await;
    assert_eq!((&root.user["is_admin"], &root.user["root_id"]), (&json!(true), &json!(NIL)));
    assert_ne!(root.user["id"], json!(NIL), "several act as the one root");
    let ann = Client::user(&server.url, "ann@example.com").await;
    let run = ann.submit("approve", &json!({ "n": 1 })).await;
    ann.socket().await.until(&run, "waiting").await;
    let ben = Client::user(&server.url, "ben@example.com").await;
    let (record, cancel) = (format!("/walker/{run}"), format!("/walker/{run}/cancel"));
    assert_eq!([ben.get(&record).await.0, root.get(&record).await.0], [404, 200]);
    assert_eq!(root.get("/walkers").await.1["walkers"], json!([]), "those of others are not its own");
    assert_eq!(ben.post(&cancel, &json!({})).await.0, 404);
    assert_eq!(root.post(&cancel, &json!({})).await.0, 200);
    assert_eq!(ann.finished(&run).await["run"]["error_code"], "cancelled");
    let own = root.submit("approve", &json!({ "n": 1 })).await;
    root.socket().await.until(&own, "waiting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_administrator() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(1025);
    for (arguments, typed, wanted) in [
        (&["--email", "nobody"][..], "p\n", "\"nobody\" is no address"),
        (&["--password", "p"], "", "give the address with --email"),
        (&["--email", "a@example.com"], "", "the password is empty"),
        (&["--email", "a@example.com"], "\n", "the password is empty"),
        (&["--email", "a@example.com", "--password", &long], "", "more than 1024 characters"),
    ] {
        let refused = create(folder.path(), arguments, typed);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(wanted) && refused.status.code() == Some(1), "{said}");
        assert!(refused.stdout.is_empty());
    }
    // An embedded store is that of one process at a time.
    if store_of(folder.path()).is_empty() {
        let _server = Server::start(&example("desk"), folder.path(), &[]);
        let refused = create(folder.path(), &["--email", "a@example.com"], "p\n");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("another process") && refused.status.code() == Some(1), "{said}");
    }
}
