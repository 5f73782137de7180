//! Logins: how they end, and what becomes of what they opened.

use serde_json::{Value, json};
use walkabout::{
    config::Config,
    env::Env,
    runtime::Runtime,
    schema::{Key, SYSTEM_ROOT, User},
    store::{Limits, Registered, Store, embedded, memory},
    testing::Bench,
    users::Removed,
};

use crate::support::{Client, Server, example, stock, store_of, told};

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
    assert_eq!(login("new horse").await.0, 200, "the user is not kept out by that");

    // Who only knows an address keeps its user from logging in for a while, and from nothing else.
    let ben = Client::user(&server.url, "ben@example.com").await;
    let guess = async |n: usize| {
        let body = json!({ "email": "ben@example.com", "password": format!("guess {n}") });
        first.post("/user/login", &body).await.0
    };
    for n in 0..10 {
        assert_eq!(guess(n).await, 400);
    }
    assert_eq!(guess(10).await, 429);
    assert_eq!(ben.post(path, &change(json!("correct horse"), json!("new horse"))).await.0, 200);
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

#[tokio::test(flavor = "multi_thread")]
async fn users_have_the_fields_of_the_application() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&example("accounts"), folder.path(), &[]);
    let nobody = Client::anonymous(&server.url);
    let register = async |body: Value| nobody.post("/user/register", &body).await;
    let unfit = register(json!({ "email": "ann", "password": "", "language": "dutch", "more": 1 })).await;
    let wanted = [
        "value_error body.email",
        "string_too_short body.password",
        "missing body.name",
        "enum body.language",
    ];
    assert_eq!(told(&unfit), wanted);
    assert!(!unfit.1.to_string().contains("correct"), "{}", unfit.1);
    let ann = json!({ "email": "ann@example.com", "password": "correct horse" });
    let missing = register(ann.clone()).await;
    assert_eq!(told(&missing), ["missing body.name"]);
    assert!(!missing.1.to_string().contains("correct horse"), "no password is sent back: {}", missing.1);
    let with = |more: Value| {
        let mut body = ann.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let long = register(with(json!({ "name": "x".repeat(2048) }))).await;
    assert_eq!(told(&long), ["too_long body"]);
    assert_eq!(
        register(with(json!({ "name": "Ann", "language": "french", "is_admin": true, "id": 5 }))).await.0,
        201
    );

    let mut ann = nobody.clone();
    ann.login("ann@example.com").await;
    let shown = ["name", "language", "is_admin"].map(|name| ann.user[name].clone());
    assert_eq!(shown, [json!("Ann"), json!("french"), json!(false)], "{}", ann.user);
    assert_eq!(ann.post("/walker/greet", &json!({})).await.1["reports"], json!(["Bonjour, Ann"]));
    let (_, answer) = ann.post("/user/refresh", &json!({})).await;
    assert_eq!(answer["user"]["name"], "Ann");
    let claims = answer["token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims = decoded(claims);
    assert_eq!((&claims["name"], &claims["state"]), (&json!("Ann"), &answer["user"]["state"]));

    // The longest fields that may be still make a token that is taken.
    let most =
        json!({ "email": "long@example.com", "password": "correct horse", "name": "\u{1}".repeat(330) });
    assert_eq!(register(most).await.0, 201);
    let mut long = nobody.clone();
    long.login("long@example.com").await;
    assert_eq!(long.get("/walkers").await.0, 200);

    // An administrator is a user as well.
    server.kill();
    let create = |fields: &[&str]| {
        let mut command = std::process::Command::new(example("accounts"));
        command.args(["admin", "create", "--email", "root@example.com", "--password", "correct horse"]);
        command.args(fields).arg("--data").arg(folder.path()).args(store_of(folder.path())).output().unwrap()
    };
    for (fields, wanted) in [
        (&[][..], "--fields name: Field required"),
        (&["--fields", "name"], "--fields is no JSON object"),
        (&["--fields", r#"{"name": 5}"#], "--fields name: Input should be a valid string"),
    ] {
        let refused = create(fields);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(wanted) && !refused.status.success(), "{said}");
    }
    let made = create(&["--fields", r#"{"name": "Root"}"#]);
    assert!(made.status.success(), "{made:?}");
    let server = Server::start(&example("accounts"), folder.path(), &[]);
    let mut root = Client::anonymous(&server.url);
    root.login("root@example.com").await;
    assert_eq!((&root.user["name"], &root.user["language"]), (&json!("Root"), &json!("english")));
    // Several act as the system root.
    assert_eq!(root.post("/walker/greet", &json!({})).await.1["reports"], json!([null]));
}

/// What a part of a token says.
fn decoded(text: &str) -> Value {
    let digit = |byte: u8| {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        digits.iter().position(|digit| *digit == byte).unwrap() as u32
    };
    let bytes = text.as_bytes().chunks(4).flat_map(|chunk| {
        let bits = chunk.iter().fold(0, |bits, byte| (bits << 6) | digit(*byte)) << (6 * (4 - chunk.len()));
        bits.to_be_bytes()[1..chunk.len()].to_vec()
    });
    serde_json::from_slice(&bytes.collect::<Vec<u8>>()).unwrap()
}

/// Waits for the runs that destroy what users left, and gives how many there were.
async fn forgotten(root: &Client) -> usize {
    let (status, page) = root.get("/walkers?name=walkabout_forget_user").await;
    assert_eq!(status, 200, "{page}");
    let runs = page["walkers"].as_array().unwrap();
    for run in runs {
        let record = root.finished(run["id"].as_str().unwrap()).await;
        assert_eq!(record["schedule"]["status"], "completed", "{record}");
    }
    runs.len()
}

/// Makes an administrator in the store of a server that is not running.
fn administrator(program: &str, data: &std::path::Path) {
    let mut command = std::process::Command::new(example(program));
    command.args(["admin", "create", "--email", "root@example.com", "--password", "correct horse"]);
    let made = command.arg("--data").arg(data).args(store_of(data)).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

async fn remove(client: &Client, body: &Value) -> (u16, Value) {
    client.send(client.request(reqwest::Method::DELETE, "/user").json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_goes_with_everything_that_was_opened() {
    let folder = tempfile::tempdir().unwrap();
    administrator("desk", folder.path());
    let server = Server::start(&example("desk"), folder.path(), &[]);
    let mut root = Client::anonymous(&server.url);
    root.login("root@example.com").await;
    let ann = Client::user(&server.url, "ann@example.com").await;
    let mut second = ann.clone();
    second.login("ann@example.com").await;
    let ben = Client::user(&server.url, "ben@example.com").await;
    let run = ann.submit("approve", &json!({ "n": 1 })).await;
    ann.socket().await.until(&run, "waiting").await;
    let (_, ticket) = ann.post("/user/ticket", &json!({})).await;
    assert_eq!(ann.post("/webhook/generate-key", &json!({ "name": "shop" })).await.0, 201);
    let mut socket = second.socket().await;

    let failed = (403, json!({ "message": "Deletion Failed!" }));
    assert_eq!(remove(&Client::anonymous(&server.url), &json!({ "password": "p" })).await.0, 403);
    assert_eq!(remove(&ann, &json!({ "password": "wrong horse" })).await, failed);
    assert_eq!(told(&remove(&ann, &json!({})).await), ["missing body.password"]);
    let other = json!({ "email": "ben@example.com", "password": "correct horse" });
    let nobody = json!({ "email": "nobody@example.com", "password": "correct horse" });
    assert_eq!(remove(&ann, &other).await, failed);
    assert_eq!(remove(&ann, &nobody).await, failed, "nor is told who is there");
    assert!(is_good(&ann).await && is_good(&ben).await);

    let done = (200, json!({ "message": "Successfully Deleted!" }));
    assert_eq!(remove(&ann, &json!({ "password": "correct horse" })).await, done);
    assert!(!is_good(&ann).await && !is_good(&second).await);
    assert_eq!(remove(&ann, &json!({ "password": "correct horse" })).await.0, 401);
    let credentials = json!({ "email": "ann@example.com", "password": "correct horse" });
    assert_eq!(ann.post("/user/login", &credentials).await.0, 400);
    let by_ticket = format!("/walker/{run}/events?ticket={}", ticket["ticket"].as_str().unwrap());
    assert_eq!(Client::anonymous(&server.url).get(&by_ticket).await.0, 401);
    let said = socket.ask(json!({ "type": "walker", "walker": "approve", "response": true })).await;
    assert_ne!(said["data"]["root_id"], socket.connection["data"]["root_id"], "the socket is of the public");
    assert_eq!(forgotten(&root).await, 1);
    let (_, record) = root.get(&format!("/walker/{run}")).await;
    let ended = (&record["run"]["state"], &record["schedule"]["error"]);
    assert_eq!(ended, (&json!("cancelled"), &json!("the user is gone")));

    // The address is free for another user, with a graph of its own.
    let again = Client::user(&server.url, "ann@example.com").await;
    assert_ne!(again.user["root_id"], ann.user["root_id"]);
    assert!(!is_good(&ann).await, "a token from before is no login of that user");
    assert_eq!(again.get("/webhook").await.1["keys"], json!([]));
    assert_eq!(again.get("/walkers").await.1["walkers"], json!([]));

    // An administrator sends others away, but not the last one.
    let own = json!({ "password": "correct horse" });
    let last = remove(&root, &own).await;
    assert_eq!(last.0, 409, "{}", last.1);
    assert_eq!(remove(&root, &json!({ "email": "ben@example.com", "password": "wrong" })).await, failed);
    assert_eq!(remove(&root, &nobody).await.0, 404);
    assert_eq!(remove(&root, &other).await, done);
    assert!(!is_good(&ben).await && is_good(&root).await);
    assert_eq!(forgotten(&root).await, 2);
}

/// Also when the server is killed right after its answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_graph_of_a_user_goes_as_well() {
    let folder = tempfile::tempdir().unwrap();
    administrator("hello_walker", folder.path());
    let mut server = Server::start(&example("hello_walker"), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    assert_eq!(ann.post("/walker/found", &json!({})).await.0, 200);
    let (_, graph) = ann.get("/util/traverse?depth=-1").await;
    let ids = graph["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap());
    let cities: Vec<&str> = ids.filter(|id| !id.starts_with("n::")).collect();
    assert_eq!(cities.len(), 3, "{graph}");
    assert_eq!(remove(&ann, &json!({ "password": "correct horse" })).await.0, 200);
    server.kill();

    let server = Server::start(&example("hello_walker"), folder.path(), &[]);
    let mut root = Client::anonymous(&server.url);
    root.login("root@example.com").await;
    assert_eq!(forgotten(&root).await, 1);
    for city in cities {
        assert_eq!(root.get(&format!("/util/traverse?source={city}")).await.0, 404, "{city}");
    }
    let of_ann = ann.user["root_id"].as_str().unwrap();
    let (status, left) = root.get(&format!("/util/traverse?source=n::{of_ann}&depth=-1")).await;
    assert_eq!((status, &left["edges"]), (200, &json!([])), "{left}");
}

/// Each of two administrators sends away the other, at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn one_administrator_stays_whoever_goes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for store in
        [memory::open(Limits::default()).unwrap(), embedded::open(folder.path(), Limits::default()).unwrap()]
    {
        let config = Config { data: folder.path().to_owned(), ..Config::default() };
        let bench = Bench::inline_on(store.clone(), |_| {}, config, Env::system()).await.unwrap();
        one_stays(&store, [&bench.runtime, &bench.runtime]).await;
    }
}

/// Makes two administrators, and has both go at once, again and again.
pub async fn one_stays(store: &std::sync::Arc<dyn Store>, by: [&Runtime; 2]) {
    let env = Env::system();
    let administrator = async |email: &str| {
        let user = User {
            id: Key(env.id()),
            email: email.to_owned(),
            password: "hash".to_owned(),
            root_id: Key(SYSTEM_ROOT),
            is_activated: true,
            is_admin: true,
            created_at: env.now(),
            version: 1,
            sessions: Vec::new(),
            tickets: Vec::new(),
            webhook_keys: Vec::new(),
            sso: Default::default(),
            is_verified: false,
            fields: Default::default(),
        };
        assert_eq!(store.register(user.clone(), None).await.unwrap(), Registered::New);
        user
    };
    let mut stays = administrator("first@example.com").await;
    for round in 0..40 {
        let other = administrator(&format!("{round}@example.com")).await;
        let (one, two) = tokio::join!(
            by[0].remove_user(&stays.email, stays.id.0),
            by[1].remove_user(&other.email, other.id.0)
        );
        stays = match (one.unwrap(), two.unwrap()) {
            (Removed::Done, Removed::LastAdministrator) => other,
            (Removed::LastAdministrator, Removed::Done) => stays,
            both => panic!("{both:?} in round {round}"),
        };
        assert_eq!(store.users_of(SYSTEM_ROOT).await.unwrap(), std::slice::from_ref(&stays));
    }
}

mod graph {
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use walkabout::{
        prelude::*,
        runtime::{Caller, RunFilter},
        schema::{ElementId, Kind, Level, Name, State, Status, WalkerId},
        testing::Bench,
        users::Removed,
    };

    #[derive(Node, Serialize, Deserialize)]
    #[node(abilities)]
    struct Touchy {}

    #[abilities(node)]
    impl Touchy {
        #[entry]
        async fn seen(_here: Here<Self>, by: Visitor<'_>, _cx: &mut Context) -> Outcome {
            Err(fail(format!("{} came by", by.name())))
        }
    }

    /// A node that everybody may connect to.
    #[derive(Walker, Serialize, Deserialize)]
    struct Offer {}
    #[abilities]
    impl Offer {
        #[entry]
        async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            let node = cx.attach(&here, Touchy {})?;
            cx.grant(&node, Level::Connect)?;
            cx.report(node.id())?;
            DONE
        }
    }

    /// Two nodes in a circle with the root, one that hangs from another's, and one from nothing.
    #[derive(Walker, Serialize, Deserialize)]
    struct Build {
        other: ElementId,
    }
    #[abilities]
    impl Build {
        #[entry]
        async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            let one = cx.attach(&here, Touchy {})?;
            let two = cx.attach(&one, Touchy {})?;
            cx.connect(&two, &here)?;
            let Some(other) = cx.get::<Touchy>(&self.other).await? else { return Err(fail("it is gone")) };
            cx.connect(&here, &other)?;
            cx.connect(&other, &two)?;
            let beyond = cx.attach(&other, Touchy {})?;
            let alone = cx.create(Touchy {})?;
            for node in [one, two, other, beyond, alone] {
                cx.report(node.id())?;
            }
            DONE
        }
    }

    #[derive(Walker, Serialize, Deserialize)]
    struct Left {
        nodes: Vec<ElementId>,
        root: ElementId,
    }
    #[abilities]
    impl Left {
        #[entry]
        async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
            for id in &self.nodes {
                let is_there = cx.get::<Any>(id).await?.is_some();
                cx.report(is_there)?;
            }
            let Some(root) = cx.get::<Root>(&self.root).await? else { return Err(fail("no root")) };
            let edges = cx.count(root.both().edges()).await?;
            cx.report(edges)?;
            DONE
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_belongs_to_others_stays() {
        let bench = Bench::new(|types| {
            types.walker::<Offer>().walker::<Build>().walker::<Left>();
        })
        .await;
        let runtime = &bench.runtime;
        let email = "ann@example.com";
        runtime.register(email.to_owned(), "hash".to_owned()).await.unwrap();
        let ann = runtime.user(email).await.unwrap().unwrap();
        let ben = bench.register().await;
        let other = bench.run(&ben, Offer {}).await.reports[0].clone();
        let other = serde_json::from_value(other).unwrap();
        let built = bench.run(&Caller::user(ann.root_id.0), Build { other }).await;
        let nodes: Vec<ElementId> =
            built.reports.iter().map(|id| serde_json::from_value(id.clone()).unwrap()).collect();

        let unknown = runtime.env().id();
        assert_eq!(runtime.remove_user(email, unknown).await.unwrap(), Removed::Unknown);
        assert_eq!(runtime.remove_user(email, ann.id.0).await.unwrap(), Removed::Done);
        assert_eq!(runtime.remove_user(email, ann.id.0).await.unwrap(), Removed::Unknown);
        let system = bench.user();
        let forget = looked_once(&bench).await;
        bench.advance(Duration::from_secs(5));
        let record = bench.finished(&system, &forget).await;
        let ended = (record.schedule.status, record.schedule.error.as_deref());
        assert_eq!(ended, (Status::Completed, None), "no ability of theirs ran");
        let root = ElementId::new(Kind::Node, Name::empty(), ann.root_id.0);
        let left = bench.run(&system, Left { nodes, root }).await;
        let wanted = [json!(false), json!(false), json!(true), json!(true), json!(true), json!(0)];
        assert_eq!(left.reports, wanted, "{:?}", left.error);
    }

    /// Two permits: it is under way; it may go on.
    static IS_UNDER_WAY: Semaphore = Semaphore::const_new(0);
    static GO_ON: Semaphore = Semaphore::const_new(0);

    #[derive(Node, Serialize, Deserialize)]
    struct Late {}

    /// Adds a node when it is told to.
    #[derive(Walker, Serialize, Deserialize, Default)]
    struct Dawdle {}

    #[abilities]
    impl Dawdle {
        #[entry]
        async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
            IS_UNDER_WAY.add_permits(1);
            GO_ON.acquire().await.map_err(|_| fail("closed"))?.forget();
            cx.attach(&here, Late {})?;
            DONE
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_under_way_when_a_user_went_goes_too() {
        let bench = Bench::new(|types| {
            types.walker::<Dawdle>().node::<Late>();
        })
        .await;
        let runtime = &bench.runtime;
        runtime.register("ann@example.com".to_owned(), "a hash".to_owned()).await.unwrap();
        let user = runtime.user("ann@example.com").await.unwrap().unwrap();
        let ann = Caller::user(user.root_id.0);
        let go = async {
            IS_UNDER_WAY.acquire().await.unwrap().forget();
            assert_eq!(runtime.remove_user(&user.email, user.id.0).await.unwrap(), Removed::Done);
            let id = looked_once(&bench).await;
            GO_ON.add_permits(1);
            id
        };
        let (ran, id) = tokio::join!(bench.run(&ann, Dawdle {}), go);
        assert_eq!(ran.error, None);
        assert_eq!(bench.count::<Late>(&ann).await, 1, "it came after the first look");
        bench.advance(Duration::from_secs(5));
        assert_eq!(bench.finished(&bench.user(), &id).await.schedule.error, None);
        assert_eq!(bench.count::<Late>(&ann).await, 0);
    }

    /// Waits until the run that destroys what a user left has looked for the first time.
    async fn looked_once(bench: &Bench) -> WalkerId {
        let (runtime, system) = (&bench.runtime, bench.user());
        let page = runtime.records(&system, RunFilter::default(), None, 10).await.unwrap();
        let [forget] = &page.walkers[..] else { panic!("{page:?}") };
        let mut frames = runtime.follow(&system, &forget.id).await.unwrap().unwrap();
        while runtime.record(&system, &forget.id).await.unwrap().unwrap().run.state != State::Waiting {
            drop(frames.recv().await);
        }
        forget.id.clone()
    }
}
