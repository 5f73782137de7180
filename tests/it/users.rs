//! Logins: how they end, and what becomes of what they opened.

use serde_json::{Value, json};

use crate::support::{Client, Server, example, stock};

const UNAUTHORIZED: (u16, &str) = (401, "Unauthorized");

fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&stock(), folder.path(), &[]);
    (server, folder)
}

/// Status and detail of a request that only who is logged in may make.
async fn asks(client: &Client) -> (u16, Value) {
    let (status, answer) = client.get("/walkers").await;
    (status, answer["detail"].clone())
}

async fn is_good(client: &Client) -> bool {
    let (status, detail) = asks(client).await;
    assert!(status == 200 || (status, detail.as_str().unwrap()) == UNAUTHORIZED, "{status} {detail}");
    status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_that_login_and_no_other() {
    let (mut server, folder) = server();
    let first = Client::user(&server.url, "ann@example.com").await;
    let mut second = first.clone();
    second.login("ann@example.com").await;
    assert!(is_good(&first).await && is_good(&second).await);
    assert_eq!(
        first.post("/user/logout", &json!({})).await,
        (200, json!({ "message": "Successfully Logged Out!" }))
    );
    assert!(!is_good(&first).await && is_good(&second).await);
    assert_eq!(first.post("/user/logout", &json!({})).await.0, 401);
    assert_eq!(Client::anonymous(&server.url).post("/user/logout", &json!({})).await.0, 403);

    // Both stay so after a restart, which forgets what was in memory.
    server.kill();
    let server = Server::start(&stock(), folder.path(), &[]);
    let there = |client: &Client| Client { url: server.url.clone(), ..client.clone() };
    assert!(!is_good(&there(&first)).await && is_good(&there(&second)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_gives_another_token_for_the_one_that_asks() {
    let (server, _folder) = server();
    let old = Client::user(&server.url, "ann@example.com").await;
    let (status, answer) = old.post("/user/refresh", &json!({})).await;
    assert_eq!((status, &answer["user"]["root_id"]), (200, &old.user["root_id"]), "{answer}");
    let new = Client { token: Some(answer["token"].as_str().unwrap().to_owned()), ..old.clone() };
    assert_ne!(new.token, old.token);
    assert!(!is_good(&old).await && is_good(&new).await);
    assert_eq!(old.post("/user/refresh", &json!({})).await.0, 401);
    // Of many at once with one token one is answered.
    let many = futures_util::future::join_all((0..8).map(|_| {
        let new = new.clone();
        async move { new.post("/user/refresh", &json!({})).await }
    }))
    .await;
    assert_eq!(many.iter().filter(|(status, _)| *status == 200).count(), 1);
    assert!(many.iter().all(|(status, _)| matches!(status, 200 | 401)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_all_logins() {
    let (server, _folder) = server();
    let first = Client::user(&server.url, "ann@example.com").await;
    let mut second = first.clone();
    second.login("ann@example.com").await;
    let change = |old: Value, new: Value| json!({ "old_password": old, "new_password": new });
    let path = "/user/change_password";
    let wrong = first.post(path, &change(json!("wrong horse"), json!("new horse"))).await;
    assert_eq!(wrong, (403, json!({ "message": "Update Failed!" })));
    assert!(is_good(&first).await);
    let (status, unfit) = first.post(path, &json!({ "old_password": 5 })).await;
    let kinds = [&unfit["detail"][0], &unfit["detail"][1]].map(|detail| (&detail["type"], &detail["loc"][1]));
    assert_eq!(status, 422);
    assert_eq!(
        kinds,
        [(&json!("string_type"), &json!("old_password")), (&json!("missing"), &json!("new_password"))]
    );
    let nobody = Client::anonymous(&server.url);
    assert_eq!(nobody.post(path, &change(json!("a"), json!("b"))).await.0, 403);
    assert_eq!(nobody.post(path, &json!([])).await.0, 403, "who asks comes before what is asked");

    let done = first.post(path, &change(json!("correct horse"), json!("new horse"))).await;
    assert_eq!(done, (200, json!({ "message": "Successfully Updated!" })));
    assert!(!is_good(&first).await && !is_good(&second).await);
    let login = async |password: &str| {
        let body = json!({ "email": "ann@example.com", "password": password });
        first.post("/user/login", &body).await
    };
    assert_eq!(login("correct horse").await, (400, json!({ "message": "Invalid Email/Password!" })));
    let (status, answer) = login("new horse").await;
    assert_eq!(status, 200, "{answer}");

    // Who has found a token cannot try passwords without end.
    let token = answer["token"].as_str().map(str::to_owned);
    let found = Client { token, ..first.clone() };
    let guesses = (0..12).map(|n| {
        let body = change(json!(format!("guess {n}")), json!("mine"));
        let found = found.clone();
        async move { found.post(path, &body).await }
    });
    let guessed = futures_util::future::join_all(guesses).await;
    assert!(guessed.iter().any(|(status, _)| *status == 429), "{guessed:?}");
    assert_eq!(found.post(path, &change(json!("new horse"), json!("mine"))).await.0, 429);
}

/// The event that comes after the end of the login is that of the public.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_login_ended_is_of_the_public() {
    let (server, _folder) = server();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let mut socket = ann.socket().await;
    let sample = json!({ "type": "walker", "walker": "view_sample_result", "response": true });
    let public = Client::anonymous(&server.url).socket().await.connection["data"]["root_id"].clone();
    assert_ne!(socket.connection["data"]["root_id"], public);
    assert_eq!(ann.post("/user/logout", &json!({})).await.0, 200);
    let told = socket.ask(sample).await;
    assert_eq!((&told["type"], &told["data"]["root_id"]), (&json!("connection"), &public), "{told}");
    let refused = socket.next().await;
    assert!(refused["error"].is_string(), "{refused}");

    // A new token in place of one that a refresh ended: one answer, of the same user.
    let ben = Client::user(&server.url, "ben@example.com").await;
    let mut socket = ben.socket().await;
    let (_, answer) = ben.post("/user/refresh", &json!({})).await;
    let told = socket.ask(json!({ "type": "change_user", "token": answer["token"] })).await;
    assert_eq!(told["data"]["root_id"], socket.connection["data"]["root_id"]);
    let asked =
        socket.ask(json!({ "type": "client", "client_ids": [told["data"]["client_id"]], "data": 5 })).await;
    assert!(asked.to_string().contains('5'), "{asked}");
}

/// Also where nothing is asked any more: at the next ping.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_socket_and_a_stream_end_with_their_login() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("desk"), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let public = Client::anonymous(&server.url).socket().await.connection["data"]["root_id"].clone();
    let run = ann.submit("approve", &json!({ "n": 1 })).await;
    let mut socket = ann.socket().await;
    socket.until(&run, "waiting").await;
    let stream = ann.request(reqwest::Method::GET, &format!("/walker/{run}/events"));
    let stream = stream.header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(stream.status().as_u16(), 200);
    assert_eq!(ann.post("/user/logout", &json!({})).await.0, 200);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(120), stream.text()).await;
    assert!(ended.expect("the stream ends").unwrap().contains("waiting"));
    let told = tokio::time::timeout(std::time::Duration::from_secs(120), socket.next()).await;
    assert_eq!(told.expect("it is told")["data"]["root_id"], public);
}

/// As a browser's `EventSource` does, which sets no header.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_a_stream_of_events_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("desk"), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let nobody = Client::anonymous(&server.url);
    let run = ann.submit("approve", &json!({ "n": 1 })).await;
    ann.socket().await.until(&run, "waiting").await;
    let path = async |by: &Client| {
        let (status, made) = by.post("/user/ticket", &json!({})).await;
        assert_eq!(status, 200, "{made}");
        format!("/walker/{run}/events?ticket={}", made["ticket"].as_str().unwrap())
    };
    let open = async |path: &str| {
        let request = nobody.request(reqwest::Method::GET, path).header("accept", "text/event-stream");
        request.send().await.unwrap()
    };
    let first = path(&ann).await;
    let stream = open(&first).await;
    assert_eq!(stream.status().as_u16(), 200);
    assert_eq!(open(&first).await.status().as_u16(), 401, "it is used");
    assert_eq!(nobody.get(&first).await.0, 401);
    let (status, page) = nobody.get(&path(&ann).await).await;
    assert_eq!((status, &page["events"][0]["event"]["type"]), (200, &json!("accepted")), "{page}");
    let ben = Client::user(&server.url, "ben@example.com").await;
    assert_eq!(open(&path(&ben).await).await.status().as_u16(), 404, "it is a login, and no more");
    assert_eq!(open(&format!("/walker/{run}/events?ticket=none")).await.status().as_u16(), 401);

    // The stream is that of the login which asked for the ticket.
    assert_eq!(ann.post("/user/logout", &json!({})).await.0, 200);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(120), stream.text()).await;
    assert!(ended.expect("the stream ends").unwrap().contains("waiting"));
}
