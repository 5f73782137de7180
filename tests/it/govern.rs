//! Acting on runs over real sockets.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Server, example, stock};

fn desk() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&example("desk"), folder.path(), &[]), folder)
}

async fn until_state(client: &Client, id: &str, state: &str) -> Value {
    let mut socket = client.socket().await;
    socket.send(json!({ "type": "subscribe", "walker_id": id })).await;
    loop {
        let (status, record) = client.get(&format!("/walker/{id}")).await;
        assert_eq!(status, 200, "{record}");
        if record["run"]["state"] == state {
            return record;
        }
        assert!(record["run"]["finished_at"].is_null(), "{record}");
        drop(socket.next().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_held_answered_cancelled_and_retried() {
    let (server, _folder) = desk();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let bob = Client::user(&server.url, "bob@example.com").await;
    let act = async |client: &Client, id: &str, verb: &str, body: Value| {
        client.post(&format!("/walker/{id}/{verb}"), &body).await
    };
    let id = ann.submit("approve", &json!({ "n": 1 })).await;
    let record = until_state(&ann, &id, "waiting").await;
    assert_eq!(
        (&record["run"]["waits_for"], &record["schedule"]["status"]),
        (&json!("yes"), &json!("running"))
    );
    let done =
        |state: &str, result: &str| (200, json!({ "walker_id": id, "result": result, "state": state }));
    assert_eq!(act(&ann, &id, "pause", json!({})).await, done("paused", "done"));
    assert_eq!(act(&ann, &id, "pause", json!({})).await, done("paused", "already"));
    assert_eq!(act(&ann, &id, "resume", json!({})).await, done("waiting", "done"));
    for (client, verb) in [(&bob, "cancel"), (&bob, "complete"), (&Client::anonymous(&server.url), "cancel")]
    {
        let (status, _) = act(client, &id, verb, json!({ "for": "yes" })).await;
        assert_eq!(status, 404, "{verb}: it is nobody else's");
    }
    let (status, wrong) = act(&ann, &id, "complete", json!({ "for": "no", "value": 1 })).await;
    assert_eq!((status, &wrong["code"], &wrong["state"]), (409, &json!("run-state"), &json!("waiting")));
    for bad in [json!({}), json!({ "for": 7 }), json!({ "for": "yes", "values": 1 })] {
        assert_eq!(act(&ann, &id, "complete", bad).await.0, 422);
    }
    assert_eq!(act(&ann, &id, "complete", json!({ "for": "yes", "value": 0 })).await.1["result"], "done");
    let record = ann.finished(&id).await;
    assert_eq!((&record["run"]["state"], &record["run"]["result"]), (&json!("succeeded"), &json!(0)));
    assert_eq!(act(&ann, &id, "cancel", json!({})).await.0, 409);

    let (status, again) = act(&ann, &id, "retry", json!({})).await;
    assert_eq!(status, 200, "{again}");
    let again = again["walker_id"].as_str().unwrap();
    let record = until_state(&ann, again, "waiting").await;
    assert_eq!((&record["run"]["retry_of"], &record["context"]["n"]), (&json!(id), &json!(1)));
    assert_eq!(act(&ann, again, "retry", json!({})).await.0, 409, "only what has ended is retried");
    assert_eq!(act(&ann, again, "cancel", json!({})).await.1["result"], "done");
    let record = ann.finished(again).await;
    assert_eq!(
        (&record["run"]["state"], &record["schedule"]["http_status"]),
        (&json!("cancelled"), &json!(409))
    );
    assert_eq!(act(&ann, again, "cancel", json!({})).await.1["result"], "already");
    let unknown = "w:approve:01900000-0000-7000-8000-000000000000";
    assert_eq!(act(&ann, unknown, "cancel", json!({})).await.0, 404);
    let (_, listed) = ann.get("/walkers?state=cancelled").await;
    assert_eq!(listed["walkers"].as_array().unwrap().len(), 1);
    assert_eq!(ann.get("/walkers?state=dead").await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_acted_on_by_a_filter() {
    let (server, _folder) = desk();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let id = ann.submit("approve", &json!({ "n": n })).await;
        until_state(&ann, &id, "waiting").await;
        ids.push(id);
    }
    ids.reverse();
    for bad in [json!({}), json!({ "nme": "approve" }), json!({ "state": "dead" }), json!([])] {
        assert_eq!(ann.post("/walkers/cancel", &bad).await.0, 422, "{bad}");
    }
    let (_, dry) = ann.post("/walkers/pause", &json!({ "name": "approve", "dry_run": true })).await;
    let listed = |answer: &Value, result: Value| {
        let expected: Vec<_> = ids.iter().map(|id| json!({ "walker_id": id, "result": result })).collect();
        assert_eq!((&answer["walkers"], &answer["next"]), (&json!(expected), &Value::Null));
    };
    listed(&dry, Value::Null);
    listed(&ann.post("/walkers/pause", &json!({ "state": "waiting" })).await.1, json!("done"));
    listed(&ann.post("/walkers/resume", &json!({ "all": true })).await.1, json!("done"));
    listed(&ann.post("/walkers/cancel", &json!({ "status": "running" })).await.1, json!("done"));
    for id in &ids {
        assert_eq!(ann.finished(id).await["run"]["state"], "cancelled");
    }
    assert_eq!(Client::anonymous(&server.url).post("/walkers/cancel", &json!({ "all": true })).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_request_is_run_once() {
    let (server, _folder) = desk();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let send = async |path: &str, key: &str, body: &Value| {
        let request = ann.request(Method::POST, path).header("Idempotency-Key", key).json(body);
        let answer = request.send().await.unwrap();
        let replayed = answer.headers().get("x-idempotent-replay").is_some();
        (answer.status().as_u16(), replayed, answer.json::<Value>().await.unwrap())
    };
    let bodies = [json!({ "n": 1, "m": 2 }), json!({ "m": 2, "n": 1 })];
    let parallel = (0..20).map(|at| send("/walker/enter", "one", &bodies[at % 2]));
    let answers = futures_util::future::join_all(parallel).await;
    assert_eq!(answers.iter().filter(|(_, replayed, _)| !replayed).count(), 1);
    assert!(
        answers.iter().all(|(status, _, answer)| *status == 200 && *answer == answers[0].2),
        "{answers:?}"
    );
    let (status, _, reused) = send("/walker/enter", "one", &json!({ "n": 2 })).await;
    assert_eq!((status, &reused["code"]), (422, &json!("key-reused")));
    assert_eq!(send("/walker/enter", "", &json!({ "n": 1 })).await.0, 422);
    assert_eq!(send("/walker/enter", &"x".repeat(256), &json!({ "n": 1 })).await.0, 422);
    ann.finished(answers[0].2["walker_id"].as_str().unwrap()).await;
    // A plain walker's answer is kept as well.
    let (_, first, audit) = send("/walker/entries", "one", &json!({})).await;
    ann.finished(&ann.submit("enter", &json!({ "n": 9 })).await).await;
    let (status, again, kept) = send("/walker/entries", "one", &json!({})).await;
    assert_eq!((status, first, again, &kept), (200, false, true, &audit));
    assert_eq!(audit["reports"][0], json!([1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_submission_is_governed_by_its_token() {
    let (server, _folder) = desk();
    let nobody = Client::anonymous(&server.url);
    let (_, accepted) = nobody.post("/walker/approve_public", &json!({})).await;
    let (id, token) = (accepted["walker_id"].as_str().unwrap(), accepted["run_token"].as_str().unwrap());
    until_state(&nobody, id, "waiting").await;
    let cancel = async |token: Option<&str>| {
        let mut request = nobody.request(Method::POST, &format!("/walker/{id}/cancel"));
        if let Some(token) = token {
            request = request.header("X-Run-Token", token);
        }
        nobody.send(request).await
    };
    for wrong in [None, Some("0"), Some("00000000000000000000000000000000")] {
        let (status, answer) = cancel(wrong).await;
        assert_eq!((status, &answer["code"]), (403, &json!("not-allowed")));
    }
    assert_eq!(cancel(Some(token)).await.0, 200);
    assert_eq!(nobody.finished(id).await["run"]["state"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_checkpoints_and_hands_back_without_spending_an_attempt() {
    let (mut server, folder) = desk();
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    assert_eq!(ann.post("/walker/seed", &json!({ "count": 300 })).await.0, 200);
    let id = ann.submit("water", &json!({ "pause_us": 5000 })).await;
    until_state(&ann, &id, "running").await;
    let mut socket = ann.socket().await;
    socket.send(json!({ "type": "subscribe", "walker_id": id })).await;
    while socket.next().await["event"]["type"] != "checkpoint" {}
    server.terminate();
    assert!(server.wait().success());
    server = Server::start(&example("desk"), folder.path(), &[]);
    ann.url.clone_from(&server.url);
    let record = ann.finished(&id).await;
    assert_eq!((&record["run"]["attempt"], &record["run"]["lost"]), (&json!(1), &json!(0)));
    let (_, watered) = ann.post("/walker/watered", &json!({})).await;
    assert_eq!(watered["reports"][0], json!({ "plants": 300, "once": 300 }));
    // It stopped at the end of a visit: none was made twice.
    assert_eq!(record["context"]["visits"], 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once_and_loses_nothing() {
    let (mut server, folder) = desk();
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    let id = ann.submit("linger", &json!({ "first_ms": 600_000 })).await;
    until_state(&ann, &id, "running").await;
    server.terminate();
    // The server has heard of it when it takes nothing new any more.
    while ann
        .http
        .get(format!("{}/readyz", server.url))
        .send()
        .await
        .is_ok_and(|answer| answer.status() == 200)
    {}
    server.terminate();
    assert_eq!(server.wait().code(), Some(130));
    server = Server::start(&example("desk"), folder.path(), &[]);
    ann.url.clone_from(&server.url);
    let record = ann.finished(&id).await;
    assert_eq!((&record["run"]["state"], &record["run"]["lost"]), (&json!("succeeded"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_acts_from_the_command_line() {
    let (server, _folder) = desk();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let walkabout = |args: &[&str]| {
        let mut command = std::process::Command::new(stock());
        let output =
            command.args(args).args(["--url", &server.url, "--token", ann.token.as_ref().unwrap()]).output();
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let id = ann.submit("approve", &json!({ "n": 1 })).await;
    until_state(&ann, &id, "waiting").await;
    let (code, listed, _) = walkabout(&["runs", "--state", "waiting"]);
    assert!(code == Some(0) && listed.starts_with(&format!("{id} waiting 1 ")), "{listed}");
    let said = |text: &str| (Some(0), text.to_owned(), String::new());
    assert_eq!(walkabout(&["pause", "--name", "approve", "--dry-run"]), said(&format!("{id} -")));
    assert_eq!(walkabout(&["pause", "--name", "approve"]), said(&format!("{id} done")));
    assert_eq!(walkabout(&["resume", &id]), said(&format!("{id} done")));
    assert_eq!(walkabout(&["complete", &id, "yes", "[1]"]), said("done"));
    assert_eq!(ann.finished(&id).await["run"]["result"], json!([1]));
    let (code, again, _) = walkabout(&["retry", &id]);
    assert_eq!((code, ann.get(&format!("/walker/{again}")).await.0), (Some(0), 200));
    assert_eq!(walkabout(&["cancel", &again]), said(&format!("{again} done")));
    let (code, _, why) = walkabout(&["complete", &again, "yes", "1"]);
    assert!(code == Some(2) && why.contains("409"), "{why}");
    assert_eq!(walkabout(&["complete", &again, "yes", "no json"]).0, Some(2));
    let (code, _, why) = walkabout(&["cancel"]);
    assert!(code == Some(2) && why.contains("Say which runs"), "{why}");
}
