//! What a process finds that was killed before.

use serde_json::json;

use crate::{
    program::Program,
    support::{Client, Server, example, stock},
};

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
    assert!(!server.wait().success());
    for _ in 0..2 {
        // It may be gone again before it has said that it is ready.
        match Server::try_start(&program, folder.path(), &[]) {
            Ok(mut server) => assert!(!server.wait().success()),
            Err(why) => assert_eq!(why, "", "it went without a word"),
        }
    }
    let server = Server::start(&program, folder.path(), &[]);
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

/// The line that says it is ready comes when a stop is a stop: before, the signal could end the process as a kill does.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_ready_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        let program = Program::start(folder.path(), None).await.unwrap();
        let ended = program.stop().await;
        assert!(ended.status.success(), "{ended:?}");
        assert!(folder.path().join("clean-stop").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tour_of_ten_thousand_killed_ten_times_repeats_at_most_a_hundred_visits_each() {
    const STOPS: u64 = 10_000;
    const KILLS: u64 = 10;
    let folder = tempfile::tempdir().unwrap();
    let (data, witness) = (folder.path().join("data"), folder.path().join("witness"));
    let mut server = Server::start(&example("ledger"), &data, &[]);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    for _ in 0..4 {
        assert_eq!(ann.post("/walker/lay", &json!({ "count": STOPS / 4 })).await.0, 200);
    }
    let id = ann.submit("tour", &json!({ "witness": witness })).await;
    let seen = || std::fs::metadata(&witness).map_or(0, |file| file.len());
    for kill in 1..=KILLS {
        // A little further each time, in the middle of a hundred.
        while seen() < kill * STOPS / (KILLS + 1) + 37 * kill {
            std::thread::yield_now();
        }
        server.kill();
        server = Server::start(&example("ledger"), &data, &[]);
        ann.url.clone_from(&server.url);
    }
    let record = ann.finished(&id).await;
    assert_eq!(record["schedule"]["status"], "completed", "{record}");
    assert_eq!(record["run"]["attempt"], KILLS + 1);
    let repeated = seen() - STOPS;
    println!("{repeated} visits were repeated after {KILLS} kills");
    assert!(repeated <= 100 * KILLS, "{repeated} visits were repeated");
    let (_, toured) = ann.post("/walker/toured", &json!({})).await;
    assert_eq!(toured["reports"][0], json!(vec![1; STOPS as usize]));
}
