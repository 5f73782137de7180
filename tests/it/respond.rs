//! What walkers answer with in the place of their reports, over real sockets.

use std::{io, time::Duration};

use futures_util::{StreamExt, stream};
use reqwest::{Method, header, redirect::Policy};
use tokio_tungstenite::tungstenite::Message;
use walkabout::{
    config::Config,
    env::Env,
    prelude::*,
    registry::Registry,
    runtime::{Spawn, Spawned},
    schema::{Timestamp, WalkerId},
    store::{Claimed, Limits, sim::Disk},
    testing::Bench,
};

use crate::support::{Client, Server, Socket, example};

async fn album() -> (Server, Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("album"), folder.path(), &[]);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    ann.http = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
    let sea = json!({ "title": "Sea <1>", "color": [0, 128, 255] });
    let answer = ann.request(Method::POST, "/album").json(&sea).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (303, &"/album".parse().unwrap()));
    (server, ann, folder)
}

/// Status, media type and body.
async fn seen(request: reqwest::RequestBuilder) -> (u16, String, String) {
    let answer = request.send().await.unwrap();
    let kind =
        answer.headers().get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), kind, answer.text().await.unwrap())
}

fn shown(status: u16, kind: &str, body: &str) -> (u16, String, String) {
    (status, kind.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_streams_and_bytes_keep_their_changes() {
    let (_server, ann, _folder) = album().await;
    let get = |path: &str| ann.request(Method::GET, path);
    let page = |looks: u32| {
        let body =
            format!("<!doctype html><title>Album</title><ul><li>Sea &lt;1>, looked at {looks} times</ul>");
        shown(200, "text/html; charset=utf-8", &body)
    };
    assert_eq!(seen(get("/album")).await, page(1));
    let answer = get("/album").send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(seen(get("/album")).await, page(3), "each look was kept");

    let table = shown(200, "text/csv; charset=utf-8", "title,looks\n\"Sea <1>\",3\n");
    assert_eq!(seen(get("/album.csv")).await, table);
    let head = ann.request(Method::HEAD, "/album.csv");
    assert_eq!(seen(head).await, shown(200, "text/csv; charset=utf-8", ""));

    let picture = get("/walker/picture?title=Sea+%3C1%3E").send().await.unwrap();
    assert_eq!(picture.headers()[header::CONTENT_TYPE], "image/bmp");
    let bytes = picture.bytes().await.unwrap();
    assert!(bytes.starts_with(b"BM") && bytes.ends_with(&[0xff, 0x80, 0, 0]), "{bytes:?}");
    let missing = shown(404, "application/json", r#"{"missing":"Land"}"#);
    assert_eq!(seen(get("/walker/picture?title=Land")).await, missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_request_is_answered_twice_with_the_same_bytes() {
    let (_server, ann, _folder) = album().await;
    for path in ["/album", "/album.csv", "/walker/picture?title=none"] {
        let ask = async || {
            let request = ann.request(Method::GET, path).header("idempotency-key", "one");
            let answer = request.send().await.unwrap();
            let again = answer.headers().contains_key("x-idempotent-replay");
            let mut headers = answer.headers().clone();
            headers.remove("date");
            headers.remove("x-request-id");
            headers.remove("x-idempotent-replay");
            // A kept body has a length.
            headers.remove(header::CONTENT_LENGTH);
            (again, answer.status(), headers, answer.bytes().await.unwrap())
        };
        let (first, second) = (ask().await, ask().await);
        assert_eq!((first.0, second.0), (false, true), "{path}");
        assert_eq!((first.1, first.2, first.3), (second.1, second.2, second.3), "{path}");
    }
    let (_, _, page) = seen(ann.request(Method::GET, "/album")).await;
    assert!(page.contains("looked at 2 times"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_walker_gives_its_result() {
    let (server, ann, _folder) = album().await;
    let end = async |form: &str| {
        let id = ann.submit("catalogue", &json!({ "form": form })).await;
        let record = ann.finished(&id).await;
        assert_eq!(record["schedule"]["reports"], json!([1]));
        (id, record["schedule"]["http_status"].clone(), record["run"].clone())
    };
    let (_, status, run) = end("").await;
    assert_eq!((status, &run["result"], &run["response"]), (json!(200), &json!(1), &Value::Null));
    let (_, status, run) = end("json").await;
    assert_eq!((status, &run["result"]), (json!(203), &json!(["Sea <1>"])));
    let wanted = json!({ "content_type": "application/json", "headers": [], "status": 203, "file": null });
    assert_eq!(run["response"], wanted);

    let (id, _, run) = end("html").await;
    let file = run["response"]["file"].as_str().unwrap();
    let url = format!("/files/{id}/{file}");
    let wanted = json!({ "url": url, "content_type": "text/html; charset=utf-8", "bytes": 13 });
    assert_eq!(run["result"], wanted);
    let (status, kind, body) = seen(ann.request(Method::GET, &url)).await;
    assert_eq!((status, body.as_str()), (200, "<p>Sea &lt;1>"));
    assert!(kind.starts_with("text/plain"), "a page of a run is not run as ours: {kind}");
    let stranger = Client::user(&server.url, "bob@example.com").await;
    assert_eq!(stranger.get(&url).await.0, 404);
}

/// The next message that is no ping.
async fn message(socket: &mut Socket) -> Message {
    loop {
        let message = socket.inner.next().await.unwrap().unwrap();
        if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
            return message;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_socket() {
    let (_server, ann, _folder) = album().await;
    let mut socket = ann.socket().await;
    let event = |walker: &str, response: bool, context: Value| json!({ "type": "walker", "walker": walker, "response": response, "context": context });
    let page = socket.ask(event("page", true, json!({}))).await;
    assert!(page.as_str().unwrap().contains("looked at 1 times"), "{page}");
    socket.send(event("page", false, json!({}))).await;
    let missing = socket.ask(event("picture", true, json!({ "title": "Land" }))).await;
    assert_eq!(missing, json!({ "missing": "Land" }), "the page was not sent");
    let table = socket.ask(event("table", true, json!({}))).await;
    assert_eq!(table, json!("title,looks\n\"Sea <1>\",2\n"));
    socket.send(event("picture", true, json!({ "title": "Sea <1>" }))).await;
    let Message::Binary(picture) = message(&mut socket).await else { panic!("no picture") };
    assert!(picture.starts_with(b"BM"));

    // An async walker answers with its id and its events, or with what came of it.
    let accepted = socket.ask(event("catalogue", false, json!({ "form": "json" }))).await;
    let id = accepted["walker_id"].as_str().unwrap();
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "completed") {
        let frame = socket.next().await;
        assert_eq!((&frame["walker_id"], &frame["seq"]), (&json!(id), &json!(kinds.len() + 1)));
        kinds.push(frame["event"]["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds[..2], ["accepted", "started"]);
    let plain = socket.ask(event("catalogue", true, json!({}))).await;
    let id = plain["walker_id"].as_str().unwrap();
    assert_eq!(plain, json!({ "status": 200, "reports": [1], "walker_id": id }));
    assert_eq!(socket.ask(event("catalogue", true, json!({ "form": "json" }))).await, json!(["Sea <1>"]));
    let page = socket.ask(event("catalogue", true, json!({ "form": "html" }))).await;
    assert_eq!(page, json!("<p>Sea &lt;1>"));
}

/// Gives something that cannot be sent.
#[derive(Walker, Serialize, Deserialize)]
struct Wrong {
    way: String,
}

#[abilities]
impl Wrong {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Mark {})?;
        let response = match self.way.as_str() {
            "header" => Response::text("a").header("content-length", "7"),
            "status" => Response::text("a").status(99),
            "own name" => {
                cx.file("response-1.txt", Vec::new()).await?;
                Response::text("a")
            }
            "twice" => {
                cx.respond(Response::redirect("/elsewhere")).await?;
                Response::text("a")
            }
            "type" => Response::bytes("a\r\nb: c", "d"),
            "stream" => {
                let pieces = [Ok(b"a".to_vec()), Err(io::Error::other("secret"))];
                Response::stream("text/plain", stream::iter(pieces))
            }
            _ => Response::text("a"),
        };
        cx.respond(response).await?;
        if self.way == "fails" { Err(fail("after the response")) } else { DONE }
    }
}

#[derive(Node, Serialize, Deserialize)]
struct Mark {}

/// The same, recorded.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Recorded {
    way: String,
}

#[abilities]
impl Recorded {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.spawn(Wrong { way: self.way.clone() }, &here).await?;
        DONE
    }
}

#[tokio::test]
async fn what_cannot_be_sent_fails_the_walker() {
    let bench = Bench::new(|registry| {
        registry.walker::<Wrong>().walker::<Recorded>();
    })
    .await;
    let user = bench.register().await;
    for (way, why) in [
        ("header", "the header content-length is not for walkers to set"),
        ("status", "99 is no HTTP status"),
        ("type", "is no media type"),
        ("fails", "after the response"),
    ] {
        let error = bench.run(&user, Wrong { way: way.to_owned() }).await.error.unwrap();
        assert!(error.contains(why), "{error}");
        let ran = bench.run(&user, Recorded { way: way.to_owned() }).await;
        let run = ran.record.unwrap().run;
        assert!(ran.error.unwrap().contains(why));
        assert_eq!((run.result, run.response), (Value::Null, None));
    }
    // A stream that breaks off breaks off the answer of a plain walker, and fails a run that is recorded.
    let ran = bench.run(&user, Recorded { way: "stream".to_owned() }).await;
    assert!(!ran.error.as_ref().unwrap().contains("secret"), "{:?}", ran.error);
    assert_eq!(bench.count::<Mark>(&user).await, 0);
    assert_eq!(bench.run(&user, Wrong { way: "stream".to_owned() }).await.status, 200);
    assert_eq!(bench.count::<Mark>(&user).await, 1);
    let refused = bench.run(&user, Recorded { way: "own name".to_owned() }).await.error.unwrap();
    assert!(refused.contains("no file name for a walker"), "{refused}");
    assert_eq!(bench.run(&user, Wrong { way: "twice".to_owned() }).await.status, 200, "the last one counts");
    let ran = bench.run(&user, Recorded { way: "twice".to_owned() }).await;
    assert_eq!((ran.status, ran.record.unwrap().run.result["bytes"].clone()), (200, json!(1)));
}

/// Answers by itself, or has another one answer.
#[derive(Walker, Serialize, Deserialize)]
#[walker(response_model = Vec<u8>)]
struct Bytes {
    way: String,
}

#[abilities]
impl Bytes {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Mark {})?;
        match self.way.as_str() {
            "fits" => cx.respond(Response::json([1, 2])?).await?,
            "inside" => drop(cx.spawn(Words {}, &here).await?),
            "bytes" => cx.respond(Response::bytes("application/json", "{}")).await?,
            "error" => {
                cx.status(404)?;
                cx.respond(Response::json("none")?).await?;
            }
            "caught" => {
                cx.respond(Response::json([1])?).await?;
                assert!(cx.respond(Response::json([256])?).await.is_err());
            }
            _ => cx.respond(Response::json([256])?).await?,
        }
        DONE
    }
}

/// Answers with what is no list of bytes, and says nothing of it.
#[derive(Walker, Serialize, Deserialize)]
#[walker(private)]
struct Words {}

#[abilities]
impl Words {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.respond(Response::json("words")?).await?;
        DONE
    }
}

/// Keeps something, and then answers with what does not fit.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, response_model = Vec<u8>, retry(attempts = 3, delay = "1s"))]
struct Late {}

#[abilities]
impl Late {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Mark {})?;
        cx.checkpoint();
        cx.then("end")
    }

    #[step]
    async fn end(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, Mark {})?;
        cx.respond(Response::json("words")?).await?;
        DONE
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// Answers, and goes on for hours.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Patient {
    #[serde(default)]
    hours: u32,
}

#[abilities]
impl Patient {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.respond(Response::json("first".repeat(10_000))?).await?;
        cx.sleep(HOUR).then("go_on")
    }

    #[step]
    async fn go_on(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        self.hours += 1;
        match self.hours {
            4 => cx.respond(Response::json("second".repeat(10_000))?).await?,
            5 => return DONE,
            _ => {}
        }
        cx.sleep(HOUR).then("go_on")
    }
}

/// Waits until a run sleeps longer than to a time. Gives until when.
async fn asleep(bench: &Bench, id: &WalkerId, after: Timestamp) -> Timestamp {
    loop {
        let record = bench.runtime.record(&bench.user(), id).await.unwrap().unwrap();
        assert!(!record.run.state.is_final(), "{record:?}");
        if let Some(until) = record.run.next_attempt_at.filter(|until| *until > after) {
            return until;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn json_is_what_the_called_walker_says() {
    let bench = Bench::new(|registry| {
        registry.walker::<Bytes>().walker::<Words>().walker::<Late>();
    })
    .await;
    let user = bench.register().await;
    for (way, status) in
        [("fits", 200), ("bytes", 200), ("error", 404), ("caught", 200), ("inside", 500), ("wrong", 500)]
    {
        let before = bench.count::<Mark>(&user).await;
        let ran = bench.run(&user, Bytes { way: way.to_owned() }).await;
        assert_eq!((ran.status, ran.error.is_some()), (status, status == 500), "{way}");
        let kept = usize::from(status != 500);
        assert_eq!(bench.count::<Mark>(&user).await, before + kept, "{way}");
    }
    let before = bench.count::<Mark>(&user).await;
    let record = bench.run(&user, Late {}).await.record.unwrap();
    assert_eq!(record.run.error_code, Some(walkabout::schema::ErrorCode::InvalidResponse));
    assert_eq!((record.run.attempt, record.run.retries), (1, 0), "it would fail again");
    assert_eq!(bench.count::<Mark>(&user).await, before + 1, "as at its last checkpoint");
}

#[tokio::test]
async fn an_answer_is_written_once_however_often_its_run_stands() {
    let disk = Disk::new(1);
    let open = || disk.open(Limits { disk_free_min: 0, ..Limits::default() }).unwrap();
    let begin = async |now| {
        let register = |types: &mut Registry| {
            types.walker::<Patient>();
        };
        let config = Config { disk_free_min: 0, ..Config::default() };
        Bench::inline_on(open(), register, config, Env::manual(now, 5)).await.unwrap()
    };
    let now = Timestamp::from_millis(1_767_225_600_000);
    let bench = begin(now).await;
    let spawn = Spawn {
        walker: "patient".to_owned(),
        node: None,
        caller: bench.user(),
        fields: serde_json::Map::new(),
        files: Vec::new(),
        client_id: None,
        request_key: None,
    };
    let Spawned::Accepted { id, .. } = bench.runtime.spawn(spawn).await.unwrap() else { unreachable!() };
    let mut until = asleep(&bench, &id, now).await;
    for _ in 0..3 {
        bench.advance(HOUR);
        until = asleep(&bench, &id, until).await;
    }
    bench.runtime.stop().await.unwrap();
    let Claimed::Taken(claim) = open().claim(id.uuid(), until).await.unwrap() else { panic!("it is due") };
    assert_eq!((claim.checkpoint.unwrap().next_segment, claim.segments.len()), (1, 1));

    // It is there after a crash, until another takes its place.
    let bench = begin(until).await;
    asleep(&bench, &id, until).await;
    bench.advance(HOUR);
    let record = bench.finished(&bench.user(), &id).await;
    assert_eq!(record.run.result, json!("second".repeat(10_000)), "{:?}", record.schedule.error);
    bench.runtime.stop().await.unwrap();
    disk.check().unwrap();
}
