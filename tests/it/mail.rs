//! Mail: as files, and in a conversation with a server of mail.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::support::{Client, Server, stock};

/// The folder that a server writes its mails to.
pub struct Mails(PathBuf);

impl Mails {
    pub fn of(data: &Path) -> Self {
        Self(data.join("mails"))
    }

    /// The arguments that have a server write them there.
    pub fn arguments(&self) -> Vec<String> {
        let url = format!("file://{}", self.0.display());
        ["--mail-url", &url, "--mail-from", "Us <no-reply@example.com>"].map(str::to_owned).to_vec()
    }

    /// All that were written so far, in their order.
    pub fn all(&self) -> Vec<String> {
        let mut paths: Vec<_> =
            std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
        paths.sort();
        paths.iter().map(|path| plain(&std::fs::read_to_string(path).unwrap())).collect()
    }

    /// Waits until there are as many, and gives them.
    pub async fn until(&self, count: usize) -> Vec<String> {
        let there = async {
            loop {
                let mails = self.all();
                if mails.len() >= count {
                    return mails;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), there).await.expect("the mails come")
    }
}

/// A mail with the lines joined that were too long to be sent as one.
fn plain(mail: &str) -> String {
    mail.replace("=\r\n", "").replace("=3D", "=").replace("\r\n", "\n")
}

fn header<'a>(mail: &'a str, name: &str) -> &'a str {
    let start = format!("{name}: ");
    mail.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{name} of {mail}"))
}

fn start(data: &Path, arguments: &[String]) -> Server {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::start(&stock(), data, &arguments)
}

async fn report(client: &Client) -> Value {
    let fields = json!({ "user_id": client.user["id"], "report_type": "summary" });
    client.finished(&client.submit("generate_report", &fields).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_its_user() {
    let folder = tempfile::tempdir().unwrap();
    // Who registered before there was mail has no address to verify.
    let mut server = start(folder.path(), &[]);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    assert_eq!(report(&ann).await["schedule"]["status"], "completed", "without mail it tells nobody");
    server.kill();

    let mails = Mails::of(folder.path());
    let links = ["--mail-links".to_owned(), "https://app.example.com/".to_owned()];
    let server = start(folder.path(), &[mails.arguments(), links.to_vec()].concat());
    ann.url.clone_from(&server.url);
    let record = report(&ann).await;
    let url = record["context"]["report_url"].as_str().unwrap();
    let [mail] = &mails.all()[..] else { panic!("{:?}", mails.all()) };
    assert_eq!(header(mail, "To"), "ann@example.com");
    assert_eq!(header(mail, "From"), "Us <no-reply@example.com>");
    assert_eq!(header(mail, "Subject"), "Your report is ready");
    assert!(
        mail.contains(&format!("\n\nhttps://app.example.com{url}\n"))
            || mail.contains(&format!("https://app.example.com{url}")),
        "{mail}"
    );
    report(&ann).await;
    let all = mails.all();
    assert_ne!(header(&all[0], "Message-ID"), header(&all[1], "Message-ID"), "another run, another mail");
}

/// What a server of mail was told: the whole conversation, and the mails.
struct Post {
    url: String,
    told: mpsc::UnboundedReceiver<Vec<String>>,
}

/// A server of mail, of the little that a client needs. It refuses what goes to `refused@example.com`.
async fn post() -> Post {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://us:se%20cret@{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                if let Some(lines) = converse(stream).await {
                    drop(tell.send(lines));
                }
            });
        }
    });
    Post { url, told }
}

/// One connection, as RFC 5321 has it: all lines of the client.
async fn converse(stream: TcpStream) -> Option<Vec<String>> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 post\r\n").await.ok()?;
    let (mut said, mut is_data) = (Vec::new(), false);
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.split(' ').next().unwrap_or_default() {
            _ if is_data && line != "." => "",
            "." => "250 kept",
            "EHLO" => "250-post\r\n250 AUTH PLAIN",
            "AUTH" => "235 you are",
            "RCPT" if line.contains("refused@") => "550 5.1.1 nobody of that name, says the secret database",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 well",
        };
        is_data = if is_data { line != "." } else { line == "DATA" };
        said.push(line);
        if !answer.is_empty() {
            write.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        }
    }
    Some(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_by_smtp() {
    let mut post = post().await;
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &[]);
    let mut clients = Vec::new();
    for name in ["ann@example.com", "refused@example.com"] {
        clients.push(Client::user(&server.url, name).await);
    }
    server.kill();
    let arguments =
        ["--mail-url", &post.url, "--mail-from", "no-reply@example.com", "--mail-time-max-s", "5"]
            .map(str::to_owned);
    let mut server = start(folder.path(), &arguments);
    clients.iter_mut().for_each(|client| client.url.clone_from(&server.url));
    let log = async |client: &Client| {
        let record = report(client).await;
        assert_eq!(record["schedule"]["status"], "completed", "the report is there all the same");
        let (_, events) = client.get(&format!("/walker/{}/events", record["id"].as_str().unwrap())).await;
        let lines = events["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| event["event"]["message"].as_str());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(log(&clients[0]).await, [""; 0]);
    let told = post.told.recv().await.unwrap();
    let said = |line: &str| told.iter().any(|told| told == line);
    assert!(said("EHLO example.com") && said("MAIL FROM:<no-reply@example.com>"), "{told:?}");
    assert!(said("RCPT TO:<ann@example.com>") && said("Subject: Your report is ready"), "{told:?}");
    // As RFC 4616 has it: NUL, name, NUL, password.
    assert!(said("AUTH PLAIN AHVzAHNlIGNyZXQ="), "{told:?}");
    assert_eq!(log(&clients[1]).await, ["no mail was sent: the mail server refused the mail"]);

    // Nobody answers there any more.
    drop(post);
    server.kill();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", gone.local_addr().unwrap());
    drop(gone);
    let server =
        start(folder.path(), &["--mail-url", &url, "--mail-from", "no-reply@example.com"].map(str::to_owned));
    clients[0].url.clone_from(&server.url);
    assert_eq!(log(&clients[0]).await, ["no mail was sent: the mail could not be sent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_send_no_mail_end_the_program() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, wanted) in [
        (&["--mail-url", "smtp://localhost"][..], "mail_from should be the address"),
        (
            &["--mail-url", "smtp://us:secret@mail.example.com", "--mail-from", "us@example.com"],
            "password unencrypted",
        ),
        (&["--mail-url", "pigeon://roof"], "should be an address that begins with smtps://"),
        (&["--mail-links", "app.example.com"], "should be an address that begins with https://"),
    ] {
        let Err(said) = Server::try_start(&stock(), folder.path(), arguments) else {
            panic!("{arguments:?}")
        };
        assert!(said.contains(wanted) && !said.contains("secret"), "{said}");
    }
    let arguments =
        ["config", "--mail-url", "smtps://us:secret@mail.example.com", "--mail-from", "us@example.com"];
    let shown = std::process::Command::new(stock()).args(arguments).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("smtps://us:***@mail.example.com") && !shown.contains(":secret"), "{shown}");
}
