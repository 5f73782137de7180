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

use crate::support::{Client, Server, example, stock, told};

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
        self.wait(count, |_| true).await
    }

    /// The codes that went to an address, once there are as many.
    pub async fn codes(&self, email: &str, count: usize) -> Vec<String> {
        self.wait(count, |mail| header(mail, "To") == email).await.iter().map(|mail| code(mail)).collect()
    }

    async fn wait(&self, count: usize, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let there = async {
            loop {
                let mut mails = self.all();
                mails.retain(|mail| is_meant(mail));
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
    assert!(mail.contains(&format!("\n\nhttps://app.example.com{url}\n")), "{mail}");
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

/// The code in a mail, which stands on a line of its own, perhaps in a link.
fn code(mail: &str) -> String {
    let is_code =
        |line: &&str| line.split('=').next_back().is_some_and(|code| code.matches('.').count() == 3);
    let line = mail.split("\n\n").find(is_code).unwrap_or_else(|| panic!("no code in {mail}"));
    line.rsplit('=').next().unwrap().trim().to_owned()
}

fn message(text: &str) -> Value {
    json!({ "message": text })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_verified_once_with_the_code_that_went_there() {
    let folder = tempfile::tempdir().unwrap();
    let mails = Mails::of(folder.path());
    let links = ["--mail-links", "https://app.example.com"].map(str::to_owned);
    let server = start(folder.path(), &[mails.arguments(), links.to_vec()].concat());
    let ann = Client::user(&server.url, "ann@example.com").await;
    assert_eq!(ann.user["is_activated"], false);
    assert_eq!(
        ann.get("/walkers").await.0,
        200,
        "who has not verified the address is logged in all the same"
    );
    let report = report(&ann).await;
    let (_, events) = ann.get(&format!("/walker/{}/events", report["id"].as_str().unwrap())).await;
    assert!(events.to_string().contains("the user's address is not verified"), "{events}");

    let [mail] = &mails.until(1).await[..] else { panic!("{:?}", mails.all()) };
    assert_eq!((header(mail, "To"), header(mail, "Subject")), ("ann@example.com", "Verify your address"));
    assert!(
        mail.contains("https://app.example.com/verify?code=") && mail.contains("within 24 hours"),
        "{mail}"
    );
    let first = code(mail);
    let path = "/user/send-verification-code";
    let sent = ann.post(path, &json!({})).await;
    assert_eq!(sent, (200, message("Successfully sent verification code!")));
    let second = code(&mails.all()[1]);
    assert_eq!(Client::anonymous(&server.url).post(path, &json!({})).await.0, 403);

    let nobody = Client::anonymous(&server.url);
    let verify = async |code: &str| nobody.post("/user/verify", &json!({ "code": code })).await;
    let failed = (403, message("Verification Failed!"));
    for wrong in ["nonsense", &first.replace('1', "2"), &format!("{first}0")] {
        assert_eq!(verify(wrong).await, failed, "{wrong}");
    }
    let reset = json!({ "code": first, "password": "new horse" });
    let refused = nobody.post("/user/reset_password", &reset).await;
    assert_eq!(refused, (403, message("Failed to reset password!")), "that is no code for this");
    let (status, missing) = nobody.post("/user/verify", &json!({})).await;
    assert_eq!((status, &missing["detail"][0]["loc"]), (422, &json!(["body", "code"])));

    assert_eq!(verify(&first).await, (200, message("Successfully Verified!")));
    assert_eq!(
        (verify(&first).await, verify(&second).await),
        (failed.clone(), failed),
        "there is nothing to verify"
    );
    assert_eq!(ann.get("/walkers").await.0, 200, "no login has ended");
    assert_eq!(ann.post(path, &json!({})).await, (400, message("Account is already verified!")));
    let mut again = ann.clone();
    again.login("ann@example.com").await;
    assert_eq!(again.user["is_activated"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_may_need_a_verified_address() {
    let folder = tempfile::tempdir().unwrap();
    let mails = Mails::of(folder.path());
    let mut server = start(folder.path(), &mails.arguments());
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    server.kill();
    let strict = "--restrict-unverified-user".to_owned();
    let server = start(folder.path(), &[mails.arguments(), vec![strict]].concat());
    ann.url.clone_from(&server.url);
    assert_eq!(ann.get("/walkers").await.0, 401, "also with a token from before");
    let login = async |password: &str| {
        let body = json!({ "email": "ann@example.com", "password": password });
        Client::anonymous(&server.url).post("/user/login", &body).await
    };
    assert_eq!(login("wrong horse").await, (400, message("Invalid Email/Password!")));
    let unverified = json!({ "detail": "Account not yet verified! Resending verification code..." });
    assert_eq!(login("correct horse").await, (400, unverified.clone()));
    // Only so many letters go to one address, however often somebody logs in.
    for _ in 0..8 {
        assert_eq!(login("correct horse").await, (400, unverified.clone()));
    }
    // A letter to another address follows those to this one.
    Client::anonymous(&server.url)
        .post("/user/register", &json!({ "email": "ben@example.com", "password": "p" }))
        .await;
    let all = mails.until(7).await;
    let of_ann: Vec<_> = all.iter().filter(|mail| header(mail, "To") == "ann@example.com").collect();
    assert_eq!(of_ann.len(), 6, "one, and five since the restart");
    let verified = ann.post("/user/verify", &json!({ "code": code(of_ann[5]) })).await;
    assert_eq!(verified, (200, message("Successfully Verified!")));
    assert_eq!(login("correct horse").await.0, 200);
    assert_eq!(ann.get("/walkers").await.0, 200, "the token is good again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_set_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mails = Mails::of(folder.path());
    let server = start(folder.path(), &mails.arguments());
    let ann = Client::user(&server.url, "ann@example.com").await;
    mails.until(1).await;
    let nobody = Client::anonymous(&server.url);
    let forgot = async |email: &str| nobody.post("/user/forgot_password", &json!({ "email": email })).await;
    let sent = (200, message("Reset password email sent!"));
    // Who is no user hears the same.
    for email in ["nobody@example.com", "ann@EXAMPLE.com", "ann@example.com"] {
        assert_eq!(forgot(email).await, sent, "{email}");
    }
    assert_eq!(forgot("ann").await.0, 422);
    let all = mails.until(3).await;
    assert!(all[1..].iter().all(|mail| header(mail, "To") == "ann@example.com"), "{all:?}");
    assert_eq!(header(&all[1], "Subject"), "Set a new password");
    let (first, second) = (code(&all[1]), code(&all[2]));

    let reset = async |code: &Value, password: &Value| {
        nobody.post("/user/reset_password", &json!({ "code": code, "password": password })).await
    };
    let failed = (403, message("Failed to reset password!"));
    let verified = nobody.post("/user/verify", &json!({ "code": first })).await;
    assert_eq!(verified, (403, message("Verification Failed!")), "that is no code for this");
    assert_eq!(reset(&json!("nonsense"), &json!("new horse")).await, failed);
    let (status, unfit) = reset(&json!(5), &json!("")).await;
    assert_eq!(told(&(status, unfit)), ["string_type body.code", "string_too_short body.password"]);
    assert_eq!(ann.get("/walkers").await.0, 200, "nothing has happened until now");

    // Guesses do not lock out who reads the mail.
    let login = async |password: &str| {
        nobody.post("/user/login", &json!({ "email": "ann@example.com", "password": password })).await
    };
    for n in 0..10 {
        login(&format!("guess {n}")).await;
    }
    assert_eq!(login("correct horse").await.0, 429);
    // Of many at once with codes of one password one sets it.
    let many = futures_util::future::join_all([&first, &second, &first, &second].map(|code| {
        let body = json!({ "code": code, "password": "new horse" });
        let nobody = nobody.clone();
        async move { nobody.post("/user/reset_password", &body).await }
    }))
    .await;
    let done = (200, message("Password reset successfully!"));
    assert_eq!(many.iter().filter(|answer| **answer == done).count(), 1, "{many:?}");
    assert!(many.iter().all(|answer| [&done, &failed].contains(&answer)), "{many:?}");
    assert_eq!(reset(&json!(first), &json!("mine")).await, failed, "it is used");
    assert_eq!(ann.get("/walkers").await.0, 401, "all logins have ended");
    assert_eq!(login("correct horse").await.0, 400);
    let (status, answer) = login("new horse").await;
    assert_eq!(
        (status, &answer["user"]["is_activated"]),
        (200, &json!(true)),
        "the address is verified by it"
    );

    // Nobody's box is filled, and who is no user yet is not kept from anything.
    for email in ["ann@example.com", "dora@example.com"] {
        for _ in 0..8 {
            assert_eq!(forgot(email).await, sent, "{email}");
        }
    }
    Client::user(&server.url, "dora@example.com").await;
    mails.codes("dora@example.com", 1).await;
    let resets = mails.all().iter().filter(|mail| header(mail, "Subject") == "Set a new password").count();
    assert!((4..=5).contains(&resets), "{resets}, and the last may be under way");
    // However the address is spelt.
    for n in 0..24 {
        Client::user(&server.url, &format!("eVe+{n}@example.com")).await;
    }
    Client::user(&server.url, "last@example.com").await;
    mails.codes("last@example.com", 1).await;
    let to_eve = mails.all().iter().filter(|mail| header(mail, "To").starts_with("eVe+")).count();
    assert!((19..=20).contains(&to_eve), "{to_eve}, and the last may be under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mail_nobody_is_asked_to_verify_and_no_password_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &["--restrict-unverified-user".to_owned()]);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    assert_eq!(ann.user["is_activated"], true);
    for email in ["ann@example.com", "nobody@example.com"] {
        let forgot = ann.post("/user/forgot_password", &json!({ "email": email })).await;
        assert_eq!(forgot, (403, message("Failed to process forgot password!")));
    }
    // The mail server of the settings is down: that is said to who waits for it, and delays nobody else.
    server.kill();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", gone.local_addr().unwrap());
    drop(gone);
    let arguments = ["--mail-url", &url, "--mail-from", "us@example.com"].map(str::to_owned);
    let server = start(folder.path(), &arguments);
    ann.url.clone_from(&server.url);
    let ben = Client::user(&server.url, "ben@example.com").await;
    let (status, refused) = ben.post("/user/send-verification-code", &json!({})).await;
    assert_eq!((status, &refused["code"]), (503, &json!("mail-not-sent")), "{refused}");
    assert!(!refused.to_string().contains("127.0.0.1"), "{refused}");
    assert_eq!(ann.post("/user/forgot_password", &json!({ "email": "ann@example.com" })).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walker_writes_to_its_user_and_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let mails = Mails::of(folder.path());
    let arguments = mails.arguments();
    let server = Server::start(
        &example("accounts"),
        folder.path(),
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let mut ann = Client::anonymous(&server.url);
    let body = json!({ "email": "ann@example.com", "password": "correct horse", "name": "Ann" });
    assert_eq!(ann.post("/user/register", &body).await.0, 201);
    ann.login("ann@example.com").await;
    let verification = mails.until(1).await;
    let invite = async |friend: &str| {
        let run = ann.submit("invite", &json!({ "friend": friend })).await;
        ann.finished(&run).await
    };
    let error = async |friend: &str| invite(friend).await["schedule"]["error"].as_str().unwrap().to_owned();
    assert!(error("ben@example.com").await.contains("verify your address first"));
    assert_eq!(ann.post("/user/verify", &json!({ "code": code(&verification[0]) })).await.0, 200);

    let record = invite("Ben <ben@example.com>").await;
    assert_eq!(record["schedule"]["reports"], json!([["ann@example.com"]]), "{record}");
    let [_, to_friend, to_ann] = &mails.all()[..] else { panic!("{:?}", mails.all()) };
    assert_eq!((header(to_friend, "To"), header(to_ann, "To")), ("Ben <ben@example.com>", "ann@example.com"));
    assert!(
        to_friend.contains("Ann would like to see you here.") && to_ann.contains("<p>Your invitation"),
        "{to_ann}"
    );
    assert_ne!(header(to_friend, "Message-ID"), header(to_ann, "Message-ID"));
    for bad in ["ben", "ben@example.com\r\nBcc: eve@example.com", "ben@example.com, eve@example.com"] {
        assert!(error(bad).await.contains("is no address that a mail can go to"), "{bad}");
    }
    assert_eq!(mails.all().len(), 3, "nothing went out");

    // The application writes in the language of the user.
    let body = json!({ "email": "eve@example.com", "password": "p", "name": "Ève", "language": "french" });
    assert_eq!(ann.post("/user/register", &body).await.0, 201);
    let letter = mails.until(4).await.pop().unwrap();
    assert!(header(&letter, "To") == "eve@example.com" && letter.contains("Voici votre code"), "{letter}");
    assert_eq!(ann.post("/user/verify", &json!({ "code": code(&letter) })).await.0, 200);
}

mod repeated {
    use std::sync::atomic::{AtomicU32, Ordering};

    use walkabout::{config::Config, env::Env, mail::Mail, prelude::*, testing::Bench};

    use super::{Mails, header};

    static TRIES: AtomicU32 = AtomicU32::new(0);

    /// Fails at its first try, with the mails sent.
    #[derive(Walker, Serialize, Deserialize)]
    #[walker(async, retry(attempts = 2, delay = "1ms"))]
    struct Insist {}

    #[abilities]
    impl Insist {
        #[entry]
        async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
            let time = cx.now().to_string();
            for subject in ["One", "Two"] {
                cx.mail(Mail::new(subject, &time).to("ann@example.com")).await?;
            }
            if TRIES.fetch_add(1, Ordering::SeqCst) == 0 { Err(fail("not yet")) } else { cx.then("last") }
        }
        #[step]
        async fn last(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
            cx.mail(Mail::new("One", "").to("ann@example.com")).await?;
            DONE
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_repeated_visit_writes_again_under_the_same_ids() {
        let folder = tempfile::tempdir().unwrap();
        let mails = Mails::of(folder.path());
        let config = Config {
            mail_url: Some(format!("file://{}", mails.0.display())),
            mail_from: Some("us@example.com".to_owned()),
            disk_free_min: 0,
            ..Config::default()
        };
        let bench = Bench::build(
            |types| {
                types.walker::<Insist>();
            },
            config,
            Env::system(),
        )
        .await
        .unwrap();
        let ran = bench.run(&bench.register().await, Insist {}).await;
        assert_eq!(ran.error, None);
        let all = mails.all();
        let ids: Vec<_> = all.iter().map(|mail| header(mail, "Message-ID")).collect();
        let [one, two, one_again, two_again, last] = ids[..] else { panic!("{all:?}") };
        assert_eq!((one, two), (one_again, two_again));
        assert!(one != two && last != one, "another visit, another mail");
    }
}
