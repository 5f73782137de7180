//! A kill at each operation between the first piece of a file that is sent and the answer to its request.

use std::path::Path;

use serde_json::Value;

use crate::{
    Folder, disk,
    program::{PATIENCE, Program},
    shim::{Act, Shim},
    support::Client,
};

const FORM: &str = "--XX\r\nContent-Disposition: form-data; name=\"body\"\r\n\r\n{\"caption\": \"here\"}\r\n\
    --XX\r\nContent-Disposition: form-data; name=\"photos\"; filename=\"a.txt\"\r\n\r\none\r\n\
    --XX\r\nContent-Disposition: form-data; name=\"photos\"; filename=\"b.txt\"\r\n\r\ntwo\r\n--XX--\r\n";

async fn start(folder: &Path, shim: Option<(&Shim, Act)>) -> Program {
    let program = Program::start_example("album", folder, &[], shim).await;
    program.unwrap_or_else(|ended| panic!("it did not start: {ended:?}"))
}

/// Sends two files to an async walker. Gives its run, when that is answered.
async fn send(client: &Client) -> Option<String> {
    let request = client.request(reqwest::Method::POST, "/album/photos");
    let request = request.header("content-type", "multipart/form-data; boundary=XX").body(FORM);
    let answer = request.send().await.ok()?.json::<Value>().await.ok()?;
    Some(answer["walker_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

/// The runs that have files.
fn kept(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("files")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).map(|name| format!("w:develop:{name}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_kept_with_their_run_or_not_at_all() {
    let first = Folder::new();
    let program = start(first.path(), None).await;
    let ann = Client::user(&program.url, "ann@example.com").await;
    assert!(program.stop().await.status.success());
    let at = |program: &Program| Client { url: program.url.clone(), ..ann.clone() };
    let copy = || {
        let folder = Folder::new();
        disk::copy(first.path(), folder.path());
        let shim = Shim::on(folder.path());
        (folder, shim)
    };
    let (folder, shim) = copy();
    let program = start(folder.path(), Some((&shim, Act::Watch))).await;
    let opening = shim.here();
    let run = send(&at(&program)).await.unwrap();
    let all = shim.here();
    assert_eq!(kept(folder.path()), [run]);
    program.kill().await;

    let (mut removed, mut stayed) = (0, 0);
    for operation in opening + 1..=all {
        let (folder, shim) = copy();
        let program = start(folder.path(), Some((&shim, Act::KillAfter(operation)))).await;
        let answered = send(&at(&program)).await;
        program.kill().await;
        shim.assert_all_seen();
        let left = kept(folder.path());
        let program = start(folder.path(), None).await;
        let client = at(&program);
        tokio::time::timeout(PATIENCE, async { while !all_known(&client, folder.path()).await {} })
            .await
            .unwrap_or_else(|_| panic!("killed after operation {operation} of {all}: files of no run stay"));
        let stays = kept(folder.path());
        for run in answered.iter().chain(&stays) {
            let record = client.finished(run).await;
            let photos = record["context"]["photos"].as_array().unwrap();
            for (photo, content) in photos.iter().zip(["one", "two"]) {
                assert_eq!(
                    client.get(photo["url"].as_str().unwrap()).await,
                    (200, content.into()),
                    "{operation}"
                );
            }
            assert_eq!(photos.len(), 2);
        }
        removed += left.len() - stays.len();
        stayed += stays.len();
        program.kill().await;
    }
    println!(
        "of {} kills {removed} left files of no run, and {stayed} a run with its files",
        all - opening + 1
    );
    assert!(removed > 0 && stayed > 0);
}

/// Whether each run that has files has a record.
async fn all_known(client: &Client, folder: &Path) -> bool {
    for run in kept(folder) {
        if client.get(&format!("/walker/{run}")).await.0 != 200 {
            return false;
        }
    }
    true
}
