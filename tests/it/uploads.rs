//! Files that come with requests, over real sockets.

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use walkabout::{config::Config, env::Env, prelude::*, registry::Registry, testing::Bench};

use crate::support::{Client, Server, example, is_on_mongodb, told};

/// A part: its name, that of its file, and what is in it.
pub type Piece<'p> = (&'p str, Option<&'p str>, &'p [u8]);

/// A multipart body.
pub fn form(parts: &[Piece<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let file =
            file.map_or(String::new(), |file| format!("; filename=\"{file}\"\r\nContent-Type: text/x-test"));
        body.extend(format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
        body.extend_from_slice(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=XX";

pub fn request(client: &Client, path: &str, body: Vec<u8>) -> reqwest::RequestBuilder {
    client.request(Method::POST, path).header("content-type", FORM).body(body)
}

async fn send(client: &Client, path: &str, parts: &[Piece<'_>]) -> (u16, Value) {
    client.send(request(client, path, form(parts))).await
}

async fn album(extra: &[&str]) -> (Server, Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("album"), folder.path(), extra);
    let ann = Client::user(&server.url, "ann@example.com").await;
    (server, ann, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_walker_keeps_its_files_for_who_may_read_it() {
    let (mut server, ann, folder) = album(&[]).await;
    let long = vec![b'x'; 3 << 20];
    let parts: [Piece<'_>; 6] = [
        ("photos", Some("../../etc/a b.TXT"), b"one"),
        ("body", None, br#"{"caption": "here"}"#),
        ("photos", Some("b"), &long),
        ("cover", Some("c.png"), b"first"),
        ("cover", Some("c.png"), b"last"),
        ("unknown", Some("d"), b"thrown away"),
    ];
    let (status, answer) = send(&ann, "/album/photos", &parts).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["walker_id"].as_str().unwrap();
    let record = ann.finished(id).await;
    assert_eq!(record["schedule"]["status"], "completed", "{record}");
    let photos = record["context"]["photos"].as_array().unwrap();
    let wanted = json!({
        "name": "../../etc/a b.TXT",
        "content_type": "text/x-test",
        "bytes": 3,
        "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        "url": format!("/files/{id}/upload-1.txt"),
    });
    assert_eq!((&photos[0], photos.len()), (&wanted, 2));
    assert_eq!(record["context"]["cover"]["bytes"], 4, "of two for one field the last one counts");
    assert_eq!(record["schedule"]["reports"].as_array().unwrap().len(), 3);

    // What was answered is there after a kill.
    server.kill();
    let server = Server::start(&example("album"), folder.path(), &[]);
    let ann = Client { url: server.url.clone(), ..ann };
    let stranger = Client::user(&server.url, "bob@example.com").await;
    for (photo, content) in photos.iter().zip([&b"one"[..], &long]) {
        let url = photo["url"].as_str().unwrap();
        let answer = ann.request(Method::GET, url).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.bytes().await.unwrap()[..]), (200, content));
        assert_eq!(stranger.get(url).await.0, 404);
        assert_eq!(Client::anonymous(&server.url).get(url).await.0, 404);
    }
    // A run that is begun again reads what its first one was sent.
    let (status, again) = ann.post(&format!("/walker/{id}/retry"), &json!({})).await;
    assert_eq!(status, 200, "{again}");
    let again = ann.finished(again["walker_id"].as_str().unwrap()).await;
    assert_eq!((&again["schedule"]["status"], &again["context"]), (&json!("completed"), &record["context"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_walker_reads_its_file_and_leaves_none() {
    let (_server, ann, folder) = album(&[]).await;
    let text: Piece<'_> = ("text", Some("a.txt"), b"one\n\ntwo");
    let (status, answer) = send(&ann, "/album/lines", &[text]).await;
    assert_eq!((status, &answer["reports"][0]["lines"]), (200, &json!(2)), "{answer}");
    assert_eq!(answer["reports"][0]["file"]["url"], Value::Null);
    let body: Piece<'_> = ("body", Some("body.json"), br#"{"empty": "yes"}"#);
    let (_, answer) = send(&ann, "/album/lines", &[body, text]).await;
    assert_eq!(answer["reports"][0]["lines"], 3, "the body may be a file, and is read as any other");
    let left = |at: &str| std::fs::read_dir(folder.path().join(at)).map_or(0, Iterator::count);
    assert_eq!((left("files/.unfinished"), left("files").saturating_sub(1)), (0, 0));

    // A request that is named is recorded, and so are its files.
    let named = async |bytes: &[u8]| {
        let request = request(&ann, "/album/lines", form(&[("text", Some("a.txt"), bytes)]));
        ann.send(request.header("idempotency-key", "one")).await
    };
    let (status, first) = named(b"one").await;
    let url = first["reports"][0]["file"]["url"].as_str().unwrap();
    assert_eq!((status, ann.get(url).await), (200, (200, json!("one"))));
    assert_eq!(named(b"one").await, (200, first.clone()), "of the same bytes it is the same request");
    let (status, refused) = named(b"two").await;
    assert_eq!((status, &refused["code"]), (422, &json!("key-reused")));
    let kept = if is_on_mongodb() { 0 } else { 1 };
    assert_eq!(
        (left("files/.unfinished"), left("files").saturating_sub(1)),
        (0, kept),
        "what came again is gone"
    );
    assert_eq!(ann.get(url).await, (200, json!("one")));
}

/// On one machine: see `mongodb` for the same in a database.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_run_that_never_was_are_gone_after_a_start() {
    if is_on_mongodb() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    let [never, other] = ["01890a5d-ac96-774b-bcce-b302099a8057", "notes"].map(|name| files.join(name));
    // As a kill between the two leaves it; and what is nobody's to remove.
    for folder in [&never, &other] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("upload-1.txt"), "text").unwrap();
    }
    let mut server = Server::start(&example("album"), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let parts: [Piece<'_>; 2] =
        [("photos", Some("a.txt"), b"one"), ("body", None, br#"{"caption": "here"}"#)];
    let (_, answer) = send(&ann, "/album/photos", &parts).await;
    let record = ann.finished(answer["walker_id"].as_str().unwrap()).await;
    let url = record["context"]["photos"][0]["url"].as_str().unwrap();
    server.kill();
    assert!(never.exists(), "a store that is new may be the wrong one");
    let server = Server::start(&example("album"), folder.path(), &["--log-level", "info"]);
    server.logged("files of runs that were never accepted are removed");
    assert_eq!((never.exists(), other.join("upload-1.txt").exists()), (false, true));
    let ann = Client { url: server.url.clone(), ..ann };
    assert_eq!(ann.get(url).await, (200, json!("one")));
}

/// A request with files whose body is still to come.
struct Held {
    wire: TcpStream,
    body: Vec<u8>,
}

impl Held {
    /// Gives the status when it is refused before its body is asked for.
    async fn begin(client: &Client) -> Result<Self, String> {
        let body = form(&[("text", Some("a.txt"), b"one")]);
        let mut wire = TcpStream::connect(client.url.strip_prefix("http://").unwrap()).await.unwrap();
        let token = client.token.as_ref().unwrap();
        let head = format!(
            "POST /album/lines HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: {FORM}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        wire.write_all(head.as_bytes()).await.unwrap();
        match status(&mut wire).await {
            asked if asked == "100" => Ok(Self { wire, body }),
            refused => Err(refused),
        }
    }

    async fn end(mut self) -> String {
        self.wire.write_all(&self.body).await.unwrap();
        status(&mut self.wire).await
    }
}

async fn status(wire: &mut TcpStream) -> String {
    let mut answer = [0; 1000];
    let read = wire.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_does_not_take_all_places() {
    let (server, ann, _folder) = album(&[]).await;
    let mut again = ann.clone();
    again.login("ann@example.com").await;
    let mut held = Vec::new();
    for n in 0..8 {
        held.push(Held::begin(if n % 2 == 0 { &ann } else { &again }).await.unwrap());
    }
    assert_eq!(Held::begin(&ann).await.err().unwrap(), "503");
    assert_eq!(Held::begin(&again).await.err().unwrap(), "503", "however often somebody logs in");
    let ben = Client::user(&server.url, "ben@example.com").await;
    let text: Piece<'_> = ("text", Some("a.txt"), b"one");
    assert_eq!(send(&ben, "/album/lines", &[text]).await.0, 200);
    assert_eq!(ann.get("/album.csv").await.0, 200, "without files");
    // A place is free with the end of its request, and with its client.
    assert_eq!(held.pop().unwrap().end().await, "200");
    let ninth = Held::begin(&ann).await.unwrap();
    drop(held.pop());
    assert_eq!(ninth.end().await, "200");
    assert_eq!(send(&ann, "/album/lines", &[text]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_told() {
    let (_server, ann, folder) = album(&[]).await;
    let photo: Piece<'_> = ("photos", Some("a"), b"1");
    let missing = ["missing body.photos", "missing body.caption"];
    assert_eq!(told(&ann.post("/album/photos", &json!({})).await), missing);
    assert_eq!(told(&send(&ann, "/album/photos", &[photo]).await), ["missing body.body"]);
    assert_eq!(
        told(&send(&ann, "/album/photos", &[photo, ("body", None, b"{}")]).await),
        ["missing body.caption"]
    );
    let wrong = ("body", None, &br#"{"caption": 1}"#[..]);
    assert_eq!(
        told(&send(&ann, "/album/photos", &[wrong]).await),
        ["missing body.photos", "string_type body.caption"]
    );
    assert_eq!(
        told(&send(&ann, "/album/photos", &[photo, ("body", None, b"{")]).await),
        ["json_invalid body.1"]
    );
    // A file cannot be made up of JSON.
    let forged = json!({ "name": "a", "content_type": "b", "bytes": 1, "sha256": "c", "url": null });
    let body = json!({ "caption": "a", "photos": [forged] }).to_string();
    let told_of = told(&send(&ann, "/album/photos", &[("body", None, body.as_bytes())]).await);
    assert_eq!(told_of, ["missing body.photos"]);
    let body = json!({ "text": forged });
    assert_eq!(told(&ann.post("/album/lines", &body).await), ["missing body.text"]);

    let torn = ann.send(request(&ann, "/album/photos", b"--XX\r\nwhatever".to_vec())).await;
    assert_eq!(torn, (400, json!({ "detail": "There was an error parsing the body" })));
    // What stands before the first part is no part.
    let before = form(&[photo]).split_off(9);
    let lacks = told(&ann.send(request(&ann, "/album/photos", before)).await);
    assert_eq!(lacks, ["missing body.photos", "missing body.body"]);
    let bare =
        ann.request(Method::POST, "/album/photos").header("content-type", "multipart/form-data").body("");
    assert_eq!(ann.send(bare).await, (400, json!({ "detail": "Missing boundary in multipart." })));
    let many: Vec<Piece<'_>> = vec![photo; 101];
    let refused = json!({ "detail": "Too many files in multipart." });
    assert_eq!(send(&ann, "/album/photos", &many).await, (400, refused));
    let left = |at: &str| std::fs::read_dir(folder.path().join(at)).map_or(0, Iterator::count);
    assert_eq!(left("files/.unfinished"), 0, "nothing that was refused stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_bounded_one_by_one_and_in_all() {
    let bounds = ["--file-bytes-max", "1000", "--upload-bytes-max", "5000", "--body-bytes-max", "100"];
    let (server, ann, folder) = album(&bounds).await;
    let photo = |bytes: usize| vec![b'x'; bytes];
    let (fits, long) = (photo(1000), photo(1001));
    let body: Piece<'_> = ("body", None, br#"{"caption": "a"}"#);
    fn of(bytes: &[u8]) -> Piece<'_> {
        ("photos", Some("a"), bytes)
    }
    let (status, _) = send(&ann, "/album/photos", &[of(&fits), of(&fits), body]).await;
    assert_eq!(status, 200);
    let comment = format!(r#"{{"caption": "{}"}}"#, "a".repeat(100));
    for parts in [
        vec![of(&long), body],
        vec![of(&fits), of(&fits), of(&fits), of(&fits), of(&fits), body],
        vec![of(&fits), ("body", None, comment.as_bytes())],
        vec![("unknown", None, &[b'x'; 20_000][..]), body],
    ] {
        let (status, refused) = send(&ann, "/album/photos", &parts).await;
        assert_eq!(status, 413, "{refused}");
    }
    let left = |at: &str| std::fs::read_dir(folder.path().join(at)).map_or(0, Iterator::count);
    assert_eq!(left("files/.unfinished"), 0);
    // Who is not known writes nothing: the body is not even looked at.
    let stranger = Client::anonymous(&server.url);
    assert_eq!(stranger.send(request(&stranger, "/album/photos", b"no form".to_vec())).await.0, 403);
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(path = "{photo}")]
struct InPath {
    photo: Upload,
}

#[abilities]
impl InPath {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(webhook(body = "key"))]
struct KeyInBody {
    photo: Option<Vec<Upload>>,
}

#[abilities]
impl KeyInBody {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

/// Reads files from where callers can write what they like.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Trusting {
    files: std::collections::BTreeMap<String, Upload>,
}

#[abilities]
impl Trusting {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.elevate();
        for file in self.files.values() {
            let bytes = cx.open(file).await?.bytes().await?;
            cx.report(String::from_utf8_lossy(&bytes))?;
        }
        DONE
    }
}

/// Has a file of its own.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Keeps {}

#[abilities]
impl Keeps {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let kept = cx.file("kept.txt", b"secret".to_vec()).await?;
        cx.report(kept.url)?;
        DONE
    }
}

#[tokio::test]
async fn what_callers_make_up_opens_nothing_that_they_may_not_read() {
    let fill = |registry: &mut Registry| {
        registry.walker::<Trusting>().walker::<Keeps>();
    };
    let bench = Bench::new(fill).await;
    let (ann, ben) = (bench.register().await, bench.register().await);
    let kept = bench.run(&ann, Keeps {}).await;
    let url = kept.reports[0].as_str().unwrap().to_owned();
    let run = url.trim_end_matches("kept.txt").to_owned();
    let trusting = |url: String| {
        let (name, content_type, sha256) = (String::new(), String::new(), String::new());
        let file = Upload { name, content_type, bytes: 1, sha256, url: Some(url) };
        Trusting { files: [("a".to_owned(), file)].into() }
    };
    assert_eq!(bench.run(&ann, trusting(url.clone())).await.reports, ["secret"], "their own");
    for url in [url.clone(), format!("{run}/etc/passwd"), format!("{run}../../../../../../etc/passwd")] {
        for user in [&ann, &ben].into_iter().skip(usize::from(url.ends_with("kept.txt"))) {
            let error = bench.run(user, trusting(url.clone())).await.error.unwrap();
            assert!(error.contains("is not there any more"), "{url}: {error}");
        }
    }
}

#[tokio::test]
async fn fields_that_cannot_be_files_are_told_at_the_start() {
    let fill = |registry: &mut Registry| {
        registry.walker::<InPath>().walker::<KeyInBody>();
    };
    let Err(error) = Bench::build(fill, Config::default(), Env::system()).await else { panic!("it started") };
    let error = error.to_string();
    assert!(error.contains("walker in_path has {photo} in its path, which is a file"), "{error}");
    assert!(error.contains("walker key_in_body takes its key from the body, and files as well"), "{error}");
}
