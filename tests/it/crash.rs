//! SIGKILL at any moment: what was answered is done, once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::support::{Client, Server, example, stock};

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_every_walker_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let program = example("ledger");
    let mut server = Server::start(&program, folder.path(), &[]);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    let mut answered = BTreeMap::new();
    let mut n = 0_u64;
    for round in 0..=10_u64 {
        let share = 500 * (round + 1) / 11;
        // The kill comes while later submissions of the round are under way.
        let mut under_way = tokio::task::JoinSet::new();
        while (answered.len() as u64) < share {
            let batch = n..n + 8;
            n = batch.end;
            for n in batch {
                let client = ann.clone();
                under_way.spawn(async move {
                    let request =
                        client.request(reqwest::Method::POST, "/walker/record").json(&json!({ "n": n }));
                    let answer = request.send().await.ok()?.json::<serde_json::Value>().await.ok()?;
                    Some((n, answer["walker_id"].as_str()?.to_owned()))
                });
            }
            for _ in 0..4 {
                if let Some(Ok(Some((n, id)))) = under_way.join_next().await {
                    answered.insert(n, id);
                }
            }
        }
        if round < 10 {
            server.kill();
        }
        while let Some(ended) = under_way.join_next().await {
            if let Ok(Some((n, id))) = ended {
                answered.insert(n, id);
            }
        }
        if round < 10 {
            server = Server::start(&program, folder.path(), &[]);
            ann.url.clone_from(&server.url);
        }
    }
    assert!(answered.len() >= 500);
    for id in answered.values() {
        let record = ann.finished(id).await;
        assert_eq!(record["schedule"]["status"], "completed", "{record}");
    }
    // Runs that were stored but whose answer was lost may add more; each of those once as well.
    loop {
        let (_, open) = ann.get("/walkers?limit=1&status=running").await;
        let (_, due) = ann.get("/walkers?limit=1&status=pending").await;
        let Some(open) = open["walkers"].get(0).or(due["walkers"].get(0)).cloned() else { break };
        ann.finished(open["id"].as_str().unwrap()).await;
    }
    let (_, audit) = ann.post("/walker/audit", &json!({})).await;
    let entries: Vec<u64> = serde_json::from_value(audit["reports"][0]["entries"].clone()).unwrap();
    let distinct: BTreeSet<u64> = entries.iter().copied().collect();
    assert_eq!(distinct.len(), entries.len(), "nothing twice");
    assert_eq!(audit["reports"][0]["counter"], entries.len(), "the counter is exact");
    assert!(answered.keys().all(|n| distinct.contains(n)), "nothing answered is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_process_down_is_tried_three_times() {
    let folder = tempfile::tempdir().unwrap();
    let program = example("ledger");
    let mut server = Server::start(&program, folder.path(), &[]);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    let mut innocent = Vec::new();
    for n in 0..20 {
        innocent.push(ann.submit("record", &json!({ "n": n })).await);
    }
    // The process may be gone before it has answered.
    let request = ann.request(reqwest::Method::POST, "/walker/take_down").json(&json!({}));
    drop(request.send().await);
    for _ in 0..3 {
        assert!(!server.wait().success());
        server = Server::start(&program, folder.path(), &[]);
    }
    ann.url.clone_from(&server.url);
    let (_, page) = ann.get("/walkers?walker=take_down").await;
    let record = ann.finished(page["walkers"][0]["id"].as_str().unwrap()).await;
    assert_eq!(record["schedule"]["status"], "failed");
    assert_eq!(record["run"]["error_code"], "lost");
    assert_eq!((&record["run"]["lost"], &record["run"]["attempt"]), (&json!(3), &json!(4)));
    for id in innocent {
        assert_eq!(ann.finished(&id).await["schedule"]["status"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpointed_walker_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&stock(), folder.path(), &[]);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    let id = ann.submit("process_large_dataset", &json!({ "dataset_id": "airports" })).await;
    let mut socket = ann.socket().await;
    socket.send(json!({ "type": "subscribe", "walker_id": id })).await;
    loop {
        let frame = socket.next().await;
        if frame["event"]["type"] == "checkpoint" {
            break;
        }
    }
    server.kill();
    let server = Server::start(&stock(), folder.path(), &[]);
    ann.url.clone_from(&server.url);
    let record = ann.finished(&id).await;
    assert_eq!(record["schedule"]["status"], "completed");
    let results = record["context"]["results"].as_array().unwrap();
    assert_eq!(results.len(), 3376);
    assert!(results.iter().enumerate().all(|(index, result)| result["row"] == index));
    let (_, checked) = ann.post("/walker/check_processing", &json!({ "process_id": id })).await;
    assert_eq!(checked["reports"][0]["Results"].as_array().unwrap().len(), 3376);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_write_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    let (whole, half) = (files.join("run/whole.txt"), files.join(".unfinished/half.txt"));
    for file in [&whole, &half] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "text").unwrap();
    }
    let _server = Server::start(&stock(), folder.path(), &[]);
    assert_eq!((whole.exists(), half.exists()), (true, false));
}
