//! The surface over real sockets: good requests, and bad ones.

use serde_json::{Value, json};

use crate::support::{Client, Server, example, is_on_mongodb, stock, told};

fn load_app() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&example("load_app"), folder.path(), &[]), folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_register_and_log_in() {
    let (server, _folder) = load_app();
    let ann = Client::user(&server.url, "Ann@Example.COM").await;
    assert_eq!(ann.user["email"], "Ann@example.com");
    assert_eq!(ann.user["root_id"].as_str().unwrap().len(), 32);
    let again = json!({ "email": "Ann@example.com", "password": "other" });
    assert_eq!(ann.post("/user/register", &again).await, (409, json!({ "detail": "Already Exists!" })));
    let wrong = (400, json!({ "message": "Invalid Email/Password!" }));
    assert_eq!(ann.post("/user/login", &again).await, wrong);
    assert_eq!(ann.post("/user/login", &json!({ "email": "bob@example.com", "password": "x" })).await, wrong);
    for bad in [
        json!({}),
        json!({ "email": "bob", "password": "x" }),
        json!({ "email": 3, "password": "x" }),
        json!([]),
    ] {
        let (status, answer) = ann.post("/user/register", &bad).await;
        assert_eq!(status, 422, "{answer}");
        assert!(answer["detail"][0]["type"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn walkers_answer_in_the_shapes_of_the_contract() {
    let (server, _folder) = load_app();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let done = |reports: Value| (200, json!({ "status": 200, "reports": reports }));
    assert_eq!(ann.post("/walker/noop", &json!({})).await, done(json!([1])));
    assert_eq!(ann.post("/walker/typed", &json!({ "n": 7, "extra": true })).await, done(json!([7])));
    assert_eq!(ann.post("/walker/seed", &json!({ "count": 25 })).await, done(json!([25])));
    assert_eq!(ann.post("/walker/create10", &json!({})).await, done(json!([])));
    assert_eq!(ann.post("/walker/tally", &json!({})).await, done(json!([35])));
    assert_eq!(ann.post("/walker/listing", &json!({})).await, done(json!([35])));
    let (_, first) = ann.post("/walker/first_item", &json!({})).await;
    let id = first["reports"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(first["reports"][0]["context"], json!({ "val": 0 }));
    let (status, bumped) = ann.post(&format!("/walker/bump/{id}"), &json!({})).await;
    assert_eq!((status, &bumped["reports"][0]["context"]), (200, &json!({ "val": 1 })));
    assert_eq!(ann.post("/walker/wipe", &json!({})).await, done(json!([35])));
    assert_eq!(ann.post("/walker/tally", &json!({})).await, done(json!([0])));
    let (status, boom) = ann.post("/walker/boom", &json!({})).await;
    assert_eq!((status, &boom["errors"]), (500, &json!(["boom"])));
    assert_eq!(boom["code"], "walker-failed");

    let id = ann.submit("a_sleep", &json!({ "secs": 0.01, "tag": "x" })).await;
    let record = ann.finished(&id).await;
    assert_eq!(record["schedule"]["status"], "completed");
    assert_eq!(record["schedule"]["http_status"], 200);
    assert_eq!(record["schedule"]["reports"], json!(["x"]));
    assert_eq!(record["run"]["result"], "x");
    for field in ["node_id", "root_id", "execute_date", "executed_date"] {
        assert!(record["schedule"][field].is_string(), "{field} stays filled");
    }
    let failed = ann.submit("a_raise", &json!({ "tag": "y" })).await;
    let record = ann.finished(&failed).await;
    assert_eq!(record["schedule"]["status"], "failed");
    assert_eq!(record["schedule"]["error"], "raised y");
    assert_eq!(record["schedule"]["http_status"], 500);
    let (_, listed) = ann.get("/walkers?limit=1").await;
    assert_eq!(listed["walkers"][0]["id"], failed.as_str());
    let (_, next) = ann.get(&format!("/walkers?limit=5&after={}", listed["next"].as_str().unwrap())).await;
    assert_eq!(next["walkers"].as_array().unwrap().len(), 1);
    let (_, failures) = ann.get("/walkers?status=failed").await;
    assert_eq!(failures["walkers"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_runs_nodes_and_events_are_not_there() {
    let (server, _folder) = load_app();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let bob = Client::user(&server.url, "bob@example.com").await;
    let id = ann.submit("a_noop", &json!({})).await;
    ann.finished(&id).await;
    let nowhere = (404, json!({ "detail": "Not Found" }));
    let unknown = format!("w:a_noop:{}", uuid::Uuid::nil());
    for stranger in [&bob, &Client::anonymous(&server.url)] {
        for id in [&id, &unknown] {
            assert_eq!(stranger.get(&format!("/walker/{id}")).await, nowhere);
            assert_eq!(stranger.get(&format!("/walker/{id}/events")).await, nowhere);
            assert_eq!(stranger.get(&format!("/files/{id}/report.pdf")).await, nowhere);
        }
    }
    ann.post("/walker/seed", &json!({ "count": 1 })).await;
    let (_, first) = ann.post("/walker/first_item", &json!({})).await;
    let node = first["reports"][0]["id"].as_str().unwrap();
    let (status, refused) = bob.post(&format!("/walker/bump/{node}"), &json!({})).await;
    assert_eq!(status, 403);
    assert_eq!(refused["detail"]["error"], format!("You don't have access on target entry {node}!"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_is_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("load_app"), folder.path(), &["--body-time-max-s", "1"]);
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "POST /walker/noop_public HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("took too long"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_large_runs_are_short() {
    let (server, _folder) = load_app();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let tag = "x".repeat(1 << 20);
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(ann.submit("a_noop", &json!({ "tag": tag })).await);
    }
    let (mut listed, mut path) = (Vec::new(), "/walkers?limit=500".to_owned());
    loop {
        let (status, page) = ann.get(&path).await;
        assert_eq!(status, 200);
        let walkers = page["walkers"].as_array().unwrap();
        assert!((1..5).contains(&walkers.len()), "{}", walkers.len());
        listed.extend(walkers.iter().map(|run| run["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/walkers?limit=500&after={next}");
    }
    ids.reverse();
    assert_eq!(listed, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_clear_answer_and_harms_nothing() {
    let (server, _folder) = load_app();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let raw = |path: &str, body: Vec<u8>| ann.send(ann.request(reqwest::Method::POST, path).body(body));
    let kind = |answer: &Value| answer["detail"][0]["type"].as_str().unwrap_or_default().to_owned();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("malformed", b"{\"n\":".to_vec(), "json_invalid"),
        ("deep", "[".repeat(10_000).into_bytes(), "json_invalid"),
        ("deep in a field", format!("{{\"n\":{}", "[".repeat(10_000)).into_bytes(), "json_invalid"),
        ("bad UTF-8", b"{\"n\":\"\xff\xfe\"}".to_vec(), "json_invalid"),
        ("beyond 64 bits with the sign", b"{\"n\":9223372036854775808}".to_vec(), "int_parsing_size"),
        ("beyond 64 bits", b"{\"n\":123456789012345678901234567890}".to_vec(), "int_parsing_size"),
        ("wrong type", b"{\"n\":[]}".to_vec(), "int_type"),
        ("no number", b"{\"n\":\"seven\"}".to_vec(), "int_parsing"),
        ("missing field", b"{}".to_vec(), "missing"),
        ("no object", b"[1]".to_vec(), "model_attributes_type"),
        ("no body", Vec::new(), "missing"),
    ];
    for (what, body, expected) in cases {
        let (status, answer) = raw("/walker/typed", body).await;
        assert_eq!((status, kind(&answer).as_str()), (422, expected), "{what}: {answer}");
    }
    let deepest = |depth: usize| {
        format!("{{\"data\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1)).into_bytes()
    };
    assert_eq!(raw("/walker/ws_echo", deepest(127)).await.0, 200);
    assert_eq!(raw("/walker/ws_echo", deepest(128)).await.0, 422);
    let (status, answer) = raw("/walker/ws_echo", b"{\"data\":{\"a\\u0000\":1}}".to_vec()).await;
    assert_eq!((status, kind(&answer).as_str()), (422, "value_error"), "{answer}");
    assert!(!answer.to_string().contains("BSON"), "{answer}");
    // What can only mean a number is taken for one, as Pydantic does.
    for meant in [json!("12"), json!(12.0)] {
        let (status, answer) = ann.post("/walker/typed", &json!({ "n": meant })).await;
        assert_eq!((status, &answer["reports"]), (200, &json!([12])), "{answer}");
    }
    let before = server.resident_kib();
    let large = futures_util::future::join_all((0..16).map(|_| raw("/walker/typed", vec![b' '; 20 << 20])));
    for (status, answer) in large.await {
        assert_eq!((status, answer["detail"].is_string()), (413, true));
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more after 16 bodies of 20 MiB");
    for path in ["/walker/nothing", "/nowhere", "/walker/typed/a/b"] {
        assert_eq!(ann.post(path, &json!({})).await.0, 404, "{path}");
    }
    assert_eq!(ann.get("/walker/typed").await.0, 405);
    assert_eq!(ann.get("/walker/w:x:y").await.0, 404);
    assert_eq!(ann.post("/walker/bump/n:Item:nonsense", &json!({})).await.0, 422);
    let unknown = format!("/walker/bump/n:Item:{}", uuid::Uuid::max());
    assert_eq!(ann.post(&unknown, &json!({})).await.0, 404);

    let with = |value: &str| {
        let request = Client::anonymous(&server.url).request(reqwest::Method::POST, "/walker/noop");
        let request = request.header("authorization", value);
        async move { Client::anonymous("").send(request).await }
    };
    assert_eq!(with("Bearer nonsense").await, (401, json!({ "detail": "Unauthorized" })));
    assert_eq!(with("Basic abc").await, (403, json!({ "detail": "Invalid authentication credentials" })));
    let mut forged = ann.token.clone().unwrap();
    forged.push('x');
    assert_eq!(with(&format!("Bearer {forged}")).await.0, 401);
    let none = Client::anonymous(&server.url).post("/walker/noop", &json!({})).await;
    assert_eq!(none, (403, json!({ "detail": "Not authenticated" })));
    let public = Client::anonymous(&server.url).post("/walker/noop_public", &json!({})).await;
    assert_eq!(public, (200, json!({ "status": 200, "reports": [1] })));
    assert_eq!(ann.get("/readyz").await.0, 200);
    assert_eq!(ann.get("/livez").await.0, 200);
    assert_eq!(ann.get("/healthz").await, (200, json!("")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_refused_and_a_stop_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&stock(), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    if !is_on_mongodb() {
        let refused = Server::try_start(&stock(), folder.path(), &[]).err().unwrap();
        assert!(refused.contains("another process has it open"), "{refused}");
    }
    let id = ann.submit("sample", &json!({})).await;
    let record = ann.finished(&id).await;
    assert_eq!(record["context"], json!({ "value": 1 }));
    let stopped = std::process::Command::new("kill").arg(server.pid().to_string()).status().unwrap();
    assert!(stopped.success());
    assert!(server.wait().success());
    let server = Server::start(&stock(), folder.path(), &[]);
    // The token is good still: its secret is in the store.
    let ann = Client { url: server.url.clone(), ..ann };
    assert_eq!(ann.get(&format!("/walker/{id}")).await, (200, record));
}

/// Jac Cloud's words are those of answers alone: what is stored and filtered knows both.
#[tokio::test(flavor = "multi_thread")]
async fn statuses_in_jac_clouds_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&example("desk"), folder.path(), &["--status-words", "jac_cloud"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let ended = ann.submit("approve", &json!({ "n": 1 })).await;
    let open = ann.submit("approve", &json!({ "n": 2 })).await;
    let cancelled = ann.submit("approve", &json!({ "n": 3 })).await;
    let mut socket = ann.socket().await;
    for id in [&ended, &open, &cancelled] {
        socket.until(id, "waiting").await;
    }
    let yes = json!({ "for": "yes", "value": true });
    assert_eq!(ann.post(&format!("/walker/{ended}/complete"), &yes).await.0, 200);
    assert_eq!(ann.post(&format!("/walker/{cancelled}/cancel"), &json!({})).await.0, 200);
    ann.finished(&cancelled).await;
    assert_eq!(ann.finished(&ended).await["schedule"]["status"], "COMPLETED");

    let listed = async |client: &Client, status: &str| {
        let (code, page) = client.get(&format!("/walkers?status={status}")).await;
        assert_eq!(code, 200, "{page}");
        let told = |record: &Value| (record["id"].clone(), record["schedule"]["status"].clone());
        page["walkers"].as_array().unwrap().iter().map(told).collect::<Vec<_>>()
    };
    for (id, own, theirs) in
        [(&ended, "completed", "COMPLETED"), (&open, "running", "STARTED"), (&cancelled, "failed", "ERROR")]
    {
        for status in [own, theirs] {
            assert_eq!(listed(&ann, status).await, [(json!(id), json!(theirs))], "{status}");
        }
    }
    assert_eq!(told(&ann.get("/walkers?status=COMPLETE").await), ["enum query.status"]);
    let dry = json!({ "status": "STARTED", "dry_run": true });
    let (_, many) = ann.post("/walkers/cancel", &dry).await;
    assert_eq!(many["walkers"], json!([{ "walker_id": open, "result": null }]));
    let mut runs = std::process::Command::new(stock());
    runs.args(["runs", "--status", "STARTED"]).env("WALKABOUT_URL", &server.url);
    let output = runs.env("TOKEN", ann.token.as_ref().unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(&format!("{open} waiting")), "{output:?}");

    server.terminate();
    assert!(server.wait().success());
    let server = Server::start(&example("desk"), folder.path(), &[]);
    let ann = Client { url: server.url.clone(), ..ann };
    assert_eq!(listed(&ann, "ERROR").await, [(json!(cancelled), json!("failed"))]);
}
