//! Single sign-on with a real provider, over real sockets.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Method, StatusCode, header, redirect::Policy};
use serde_json::{Value, json};
use walkabout::{config::Config, config::Provider as Settings, env::Env, testing::Bench};

use crate::{
    mail::Mails,
    provider::{CLIENT, Lie, Provider},
    support::{Client, Server, example, stock},
};

/// What begins addresses that browsers are sent back to.
const HOST: &str = "http://localhost:8000";
const FAILED: &str = "Sign-in failed. Begin again.";
/// That of users who registered with one.
const PASSWORD: &str = "correct horse";

async fn servers() -> (Provider, Server, tempfile::TempDir) {
    let (provider, folder) = (Provider::start().await, tempfile::tempdir().unwrap());
    let server = start(&provider, &folder);
    (provider, server, folder)
}

fn start(provider: &Provider, folder: &tempfile::TempDir) -> Server {
    let done = "http://localhost:3000,https://app.example.com/done";
    Server::start(&stock(), folder.path(), &["--sso", &provider.setting(), "--sso-redirects", done])
}

fn message(text: &str) -> Value {
    json!({ "message": text })
}

/// A browser: it keeps cookies, and goes where it is sent when it is told to.
#[derive(Clone)]
pub struct Browser {
    http: reqwest::Client,
    url: String,
    cookies: BTreeMap<String, String>,
}

/// An answer, and where it leads.
pub struct Seen {
    pub status: u16,
    pub body: Value,
    pub location: String,
    pub headers: header::HeaderMap,
}

impl Browser {
    pub fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        Self { http, url: url.to_owned(), cookies: BTreeMap::new() }
    }

    pub async fn see(&mut self, address: &str) -> Seen {
        let address = address.replace(HOST, &self.url);
        let mut request = self.http.get(&address);
        if address.starts_with(&self.url) {
            let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        if let Some(set) = headers.get(header::SET_COOKIE) {
            let set = set.to_str().unwrap();
            assert!(set.contains("; Path=/; Max-Age=") && set.ends_with("; HttpOnly; SameSite=Lax"), "{set}");
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => assert!(self.cookies.remove(name).is_some(), "{set}"),
                _ => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        let location = headers.get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
        let body = answer.text().await.unwrap();
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Seen { status, body, location: location.unwrap_or_default(), headers }
    }

    /// Goes to the provider; gives where that sends it back to.
    pub async fn go(&mut self, path: &str) -> String {
        let address = format!("{}{path}", self.url);
        let there = self.see(&address).await;
        assert_eq!(
            (there.status, &there.headers[header::CACHE_CONTROL]),
            (303, &"no-store".parse().unwrap()),
            "{}",
            there.body
        );
        assert_eq!(there.headers["referrer-policy"], "no-referrer");
        let back = self.see(&there.location).await;
        assert_eq!(back.status, 302, "{}", back.body);
        back.location
    }

    /// The whole way.
    pub async fn sign_in(&mut self, platform: &str, operation: &str) -> (u16, Value) {
        let back = self.go(&format!("/sso/{platform}/{operation}")).await;
        assert!(back.starts_with(&format!("{HOST}/sso/{platform}/{operation}/callback?code=")), "{back}");
        let seen = self.see(&back).await;
        assert_eq!(seen.headers[header::CACHE_CONTROL], "no-store");
        assert!(self.cookies.is_empty(), "it is used up");
        (seen.status, seen.body)
    }
}

async fn sign_in(server: &Server, operation: &str) -> (u16, Value) {
    Browser::new(&server.url).sign_in("home", operation).await
}

async fn send(client: &Client, method: Method, path: &str, body: Value) -> (u16, Value) {
    client.send(client.request(method, path).json(&body)).await
}

/// A client with the token that a sign-in answered.
fn logged_in(server: &Server, (status, answer): (u16, Value)) -> Client {
    assert_eq!(status, 200, "{answer}");
    let token = answer["token"].as_str().map(str::to_owned);
    Client { token, user: answer["user"].clone(), ..Client::anonymous(&server.url) }
}

/// Has a user show an identity and attach it.
async fn attach(server: &Server, client: &Client, platform: &str) -> (u16, Value) {
    let (status, mut shown) = Browser::new(&server.url).sign_in(platform, "attach").await;
    assert_eq!(status, 200, "{shown}");
    shown["password"] = PASSWORD.into();
    client.post("/sso/attach", &shown).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_registers_with_a_provider_logs_in_with_it() {
    let (provider, mut server, folder) = servers().await;
    assert_eq!(sign_in(&server, "login").await, (403, message("Not Existing!")));
    let ann = logged_in(&server, sign_in(&server, "register").await);
    assert_eq!(ann.user["email"], "ann@example.com");
    assert!(ann.user.get("sso").is_none() && ann.user.get("password").is_none(), "{}", ann.user);
    assert_eq!(ann.get("/walkers").await.0, 200);
    for operation in ["login", "register"] {
        let again = logged_in(&server, sign_in(&server, operation).await);
        assert_eq!(again.user["id"], ann.user["id"]);
        assert_ne!(again.token, ann.token);
    }
    // There is no password, so none fits.
    for password in ["", "\0", "!", "correct horse"] {
        let body = json!({ "email": "ann@example.com", "password": password });
        assert!([400, 422].contains(&ann.post("/user/login", &body).await.0), "{password:?}");
    }
    // The provider's name for a user counts, not the address.
    provider.is("1", "other@example.com", Some(true));
    assert_eq!(logged_in(&server, sign_in(&server, "login").await).user["email"], "ann@example.com");
    provider.is("2", "ann@example.com", Some(true));
    assert_eq!(sign_in(&server, "login").await.0, 403);
    assert_eq!(sign_in(&server, "register").await, (409, json!({ "detail": "Already Exists!" })));

    // A way that was begun before a restart leads to its end.
    provider.is("1", "ann@example.com", Some(true));
    let mut browser = Browser::new(&server.url);
    let back = browser.go("/sso/office/register").await;
    server.kill();
    let server = start(&provider, &folder);
    browser.url.clone_from(&server.url);
    let seen = browser.see(&back).await;
    // Both providers say that the address is the user's, so it is one user.
    assert_eq!(logged_in(&server, (seen.status, seen.body)).user["id"], ann.user["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_offered() {
    let (_provider, server, _folder) = servers().await;
    let ann = Client::user(&server.url, "ann@example.com").await;
    let none = (501, message("Feature not yet implemented!"));
    for path in [
        "/sso/github/login",
        "/sso/google/login",
        "/sso/home/logout",
        "/sso/home/logout/callback",
        "/sso/HOME/login/callback",
    ] {
        assert_eq!(ann.get(path).await, none, "{path}");
    }
    let shown = json!({ "platform": "google", "id": "1", "email": "a@example.com", "proof": "" });
    assert_eq!(ann.post("/sso/attach", &shown).await, none);
    assert_eq!(send(&ann, Method::DELETE, "/sso/detach", json!({ "platform": "google" })).await, none);
    assert_eq!(ann.get("/sso/attach").await.0, 405);
    let nobody = Client::anonymous(&server.url);
    assert_eq!(nobody.post("/sso/attach", &shown).await.0, 403);
    assert_eq!(
        send(&nobody, Method::DELETE, "/sso/detach", json!({})).await.0,
        403,
        "who asks comes before what is asked"
    );
    assert_eq!(send(&ann, Method::DELETE, "/sso/detach", json!({})).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_not_good_sign_nobody_in() {
    let (provider, server, _folder) = servers().await;
    let away = json!({ "detail": "The sign-in provider did not answer as it should. Try again later." });
    for realm in ["home", "office"] {
        for lie in [
            Lie::Nonce,
            Lie::NoNonce,
            Lie::Audience,
            Lie::Audiences,
            Lie::Issuer,
            Lie::Expired,
            Lie::Key,
            Lie::UnknownKey,
            Lie::Unsigned,
            Lie::Secret,
            Lie::AccessToken,
            Lie::Subject,
            Lie::NoToken,
            Lie::NoJson,
            Lie::Status,
            Lie::Elsewhere,
            Lie::Endless,
        ] {
            provider.book().lie = Some(lie);
            let wanted = match lie {
                Lie::Nonce | Lie::NoNonce => (403, message(FAILED)),
                _ => (502, away.clone()),
            };
            let told = Browser::new(&server.url).sign_in(realm, "register").await;
            assert_eq!(told, wanted, "{realm} {lie:?}");
        }
        provider.book().lie = None;
        let told = Browser::new(&server.url).sign_in(realm, "login").await;
        assert_eq!(told, (403, message("Not Existing!")), "nobody was made");
    }
    // Redirects are not followed: each token was asked for once.
    assert_eq!(provider.book().asked["home/token"], 18);
    let ann = logged_in(&server, Browser::new(&server.url).sign_in("office", "register").await);
    assert_eq!(ann.user["email"], "ann@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_is_of_one_browser_and_used_once() {
    let (_provider, server, _folder) = servers().await;
    let failed = (403, message(FAILED));
    let mut ann = Browser::new(&server.url);
    let back = ann.go("/sso/home/register").await;
    let cookies = ann.cookies.clone();
    let at = async |browser: &Browser, address: &str| {
        let seen = browser.clone().see(address).await;
        (seen.status, seen.body)
    };
    // Another browser, with nothing, with a way of its own, and with a cookie that somebody made up.
    let mut ben = Browser::new(&server.url);
    assert_eq!(at(&ben, &back).await, failed);
    let back_of_ben = ben.go("/sso/home/register").await;
    assert_eq!(at(&ben, &back).await, failed);
    ben.cookies = [("walkabout-sso-0".to_owned(), format!("{}.9999999999999.0", "0".repeat(32)))].into();
    assert_eq!(at(&ben, &back_of_ben).await, failed);
    // The right browser, at other doors.
    for (from, to) in
        [("/register/", "/login/"), ("/home/", "/office/"), ("&state=", "&state=0"), ("&state=", "&astate=")]
    {
        let other = back.replace(from, to);
        assert_ne!(other, back);
        assert_eq!(at(&ann, &other).await, failed, "{other}");
    }
    // The code of another's sign-in with one's own state: the provider finds that the verifier is another.
    let mut eve = Browser::new(&server.url);
    let back_of_eve = eve.go("/sso/home/register").await;
    let part = |address: &str, name: &str| {
        let (_, rest) = address.split_once(&format!("{name}=")).unwrap();
        rest.split('&').next().unwrap().to_owned()
    };
    let mixed = back_of_eve.replace(&part(&back_of_eve, "code"), &part(&back, "code"));
    assert_eq!(at(&eve, &mixed).await, failed);
    // What was used is used up, also when its browser keeps the cookie.
    assert_eq!(at(&eve, &back_of_eve).await, failed);
    let mut ann = Browser { cookies: BTreeMap::new(), ..ann };
    let back = ann.go("/sso/home/register").await;
    assert_ne!(ann.cookies, cookies);
    let (status, answer) = at(&ann, &back).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(at(&ann, &back).await, failed);

    // Two tabs, each with a way of its own.
    let tabs = [ann.go("/sso/home/login").await, ann.go("/sso/home/login").await];
    for back in &tabs {
        assert_eq!(ann.see(back).await.status, 200);
    }

    // A way back with nothing does not use it up.
    let back = ann.go("/sso/home/login").await;
    assert_eq!(at(&ann, &back.replace("code=", "nothing=")).await, failed);
    assert_eq!(at(&ann, &back).await.0, 200);

    // The provider may say no.
    let back = ann.go("/sso/home/login").await;
    let denied =
        back.replace(&format!("code={}", part(&back, "code")), "error=access_denied&error_description=inner");
    assert_eq!(at(&ann, &denied).await, (403, message("The provider did not sign you in.")));
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_go_back_only_where_the_settings_say() {
    let (_provider, server, _folder) = servers().await;
    let mut browser = Browser::new(&server.url);
    for wrong in [
        "https://evil.example/",
        "https://app.example.com/done/",
        "https://app.example.com",
        "//evil.example",
        "http://localhost:8000/sso/home/register/callback",
    ] {
        let seen = browser.see(&format!("{}/sso/home/login?redirect_uri={wrong}", server.url)).await;
        assert_eq!(
            (seen.status, &seen.body["detail"][0]["loc"]),
            (422, &json!(["query", "redirect_uri"])),
            "{wrong}"
        );
    }
    let path = "/sso/home/register?redirect_uri=https://app.example.com/done&prompt=login&scope=all&state=mine&response_type=token";
    let seen = browser.see(&format!("{}{path}", server.url)).await;
    assert!(seen.location.contains("&prompt=login"), "{}", seen.location);
    assert!(
        !["scope=all", "state=mine", "response_type=token"].iter().any(|word| seen.location.contains(word)),
        "{}",
        seen.location
    );
    // The page there leads the browser here.
    let back = browser.go(path).await;
    let (page, query) = back.split_once('?').unwrap();
    assert_eq!(page, "https://app.example.com/done");
    let seen = browser.see(&format!("{}/sso/home/register/callback?{query}", server.url)).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_posted_goes_on_as_a_query() {
    let (_provider, server, _folder) = servers().await;
    let mut browser = Browser::new(&server.url);
    let back = browser.go("/sso/home/register").await;
    let (address, query) = back.split_once('?').unwrap();
    let post = browser.http.post(address.replace(HOST, &server.url));
    let post = post.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = post.body(format!("{query}&user=%7B%22name%22%3A1%7D&x=%0d%0aa:b")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let location = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
    assert_eq!(location, back, "and nothing else of the form");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    assert_eq!(browser.see(&location).await.status, 200);
    let long = browser
        .http
        .post(format!("{}/sso/home/login/callback", server.url))
        .body(format!("code={}", "a".repeat(9000)));
    assert_eq!(long.send().await.unwrap().status().as_u16(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_have_to_be_verified() {
    let (provider, mut server, folder) = servers().await;
    let unverified = (403, message("The provider does not say that the address is yours."));
    for (email, verified) in [
        ("ann@example.com", Some(false)),
        ("ann@example.com", None),
        ("no address", Some(true)),
        ("a@b.test", Some(true)),
    ] {
        provider.is("1", email, verified);
        for operation in ["register", "login", "attach"] {
            assert_eq!(sign_in(&server, operation).await, unverified, "{email} {verified:?}");
        }
    }
    // As some providers write it.
    provider.book().claims["email"] = "Ann@EXAMPLE.com".into();
    provider.book().claims["email_verified"] = "true".into();
    assert_eq!(logged_in(&server, sign_in(&server, "register").await).user["email"], "Ann@example.com");
    server.kill();
    let trusting = provider.setting().replace("home = {", "home = { trust_email = true,");
    let server = Server::start(&stock(), folder.path(), &["--sso", &trusting]);
    provider.is("2", "ben@example.com", None);
    assert_eq!(logged_in(&server, sign_in(&server, "register").await).user["email"], "ben@example.com");
    provider.is("3", "cat@example.com", Some(false));
    assert_eq!(sign_in(&server, "register").await, unverified, "it says that it is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_attached_to_one_user_and_detached() {
    let (provider, server, _folder) = servers().await;
    let ann = Client::user(&server.url, "ann@example.com").await;
    let ben = Client::user(&server.url, "ben@example.com").await;
    let (updated, attached) =
        ((200, message("Successfully Updated SSO!")), (403, message("Already Attached!")));
    // Whoever has the address there is not let in by it: nobody showed that it is the user's.
    assert_eq!(sign_in(&server, "register").await, (409, json!({ "detail": "Already Exists!" })));

    let (status, shown) = sign_in(&server, "attach").await;
    assert_eq!(
        (status, &shown["platform"], &shown["id"], &shown["email"]),
        (200, &json!("home"), &json!("1"), &json!("ann@example.com"))
    );
    assert_eq!((&shown["expires_in"], shown.as_object().unwrap().len()), (&json!(600), 5));
    for (name, value) in [
        ("id", "2"),
        ("email", "ben@example.com"),
        ("platform", "office"),
        ("proof", ""),
        ("proof", "9999999999999.00"),
    ] {
        let mut made_up = shown.clone();
        made_up[name] = value.into();
        assert_eq!(ben.post("/sso/attach", &made_up).await, (403, message(FAILED)), "{name}");
    }
    let mut without = shown.clone();
    without.as_object_mut().unwrap().remove("proof");
    assert_eq!(ben.post("/sso/attach", &without).await.0, 422);
    // Who found a token makes no way in that outlives it.
    let (status, missing) = ann.post("/sso/attach", &shown).await;
    assert_eq!((status, &missing["detail"][0]["loc"]), (422, &json!(["body", "password"])));
    let mut shown = shown;
    shown["password"] = "wrong horse".into();
    assert_eq!(ann.post("/sso/attach", &shown).await, (403, message("Update Failed!")));
    shown["password"] = PASSWORD.into();
    assert_eq!(Client::anonymous(&server.url).post("/sso/attach", &shown).await.0, 403);

    assert_eq!(ann.post("/sso/attach", &shown).await, updated);
    assert_eq!(logged_in(&server, sign_in(&server, "login").await).user["id"], ann.user["id"]);
    assert_eq!(ann.post("/sso/attach", &shown).await, attached);
    assert_eq!(ben.post("/sso/attach", &shown).await, attached);
    assert_eq!(sign_in(&server, "attach").await, attached);
    // One at each provider.
    provider.is("2", "ann@example.com", Some(true));
    assert_eq!(attach(&server, &ann, "home").await, attached);
    assert_eq!(attach(&server, &ann, "office").await, updated);
    assert_eq!(attach(&server, &ben, "home").await, updated);

    let detach = async |client: &Client, platform: &str| {
        send(client, Method::DELETE, "/sso/detach", json!({ "platform": platform })).await
    };
    assert_eq!(detach(&ann, "home").await, updated);
    assert_eq!(detach(&ann, "home").await, updated, "as it was wanted");
    provider.is("1", "ann@example.com", Some(true));
    assert_eq!(sign_in(&server, "login").await, (403, message("Not Existing!")));
    assert_eq!(ann.post("/user/logout", &json!({})).await.0, 200);
    assert_eq!(detach(&ann, "office").await.0, 401);

    // Who has no password keeps a way in.
    provider.is("3", "eve@example.com", Some(true));
    let eve = logged_in(&server, sign_in(&server, "register").await);
    let only = (403, message("The account has no password, so this is its only way in."));
    assert_eq!(detach(&eve, "home").await, only);
    assert_eq!(attach(&server, &eve, "office").await, updated);
    assert_eq!(detach(&eve, "home").await, updated);
    assert_eq!(detach(&eve, "office").await, only);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_first() {
    let (provider, server, _folder) = servers().await;
    let ways = (0..8).map(|_| async {
        let mut browser = Browser::new(&server.url);
        let back = browser.go("/sso/home/register").await;
        (browser, back)
    });
    let ways = futures_util::future::join_all(ways).await;
    let seen = ways.into_iter().map(|(mut browser, back)| async move { browser.see(&back).await });
    let seen = futures_util::future::join_all(seen).await;
    let users: Vec<_> = seen
        .into_iter()
        .map(|seen| logged_in(&server, (seen.status, seen.body)).user["id"].clone())
        .collect();
    assert!(users.iter().all(|user| *user == users[0]), "{users:?}");

    // One identity, many users who want it.
    provider.is("2", "shared@example.com", Some(true));
    let mut users = Vec::new();
    for n in 0..6 {
        users.push(Client::user(&server.url, &format!("user{n}@example.com")).await);
    }
    let (_, mut shown) = sign_in(&server, "attach").await;
    shown["password"] = PASSWORD.into();
    let attached = users.iter().map(|user| user.post("/sso/attach", &shown));
    let attached = futures_util::future::join_all(attached).await;
    assert_eq!(attached.iter().filter(|(status, _)| *status == 200).count(), 1, "{attached:?}");
    assert!(attached.iter().all(|(status, _)| [200, 403].contains(status)), "{attached:?}");
    let owner = attached.iter().position(|(status, _)| *status == 200).unwrap();
    assert_eq!(logged_in(&server, sign_in(&server, "login").await).user["id"], users[owner].user["id"]);

    // One way back, used many times at once.
    let mut browser = Browser::new(&server.url);
    let back = browser.go("/sso/home/login").await;
    let seen = (0..6).map(|_| {
        let (mut browser, back) = (browser.clone(), back.clone());
        async move { browser.see(&back).await.status }
    });
    let seen = futures_util::future::join_all(seen).await;
    assert_eq!(seen.iter().filter(|status| **status == 200).count(), 1, "{seen:?}");
    assert_eq!(provider.book().asked["home/token"], 8 + 1 + 1 + 1, "the provider heard of one");
}

/// What answers there does not speak TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_called_over_tls() {
    let (provider, folder) = (Provider::start().await, tempfile::tempdir().unwrap());
    let setting =
        provider.setting().replace("http://", "https://").replace(", allow_insecure_http = true", "");
    let server = Server::start(&stock(), folder.path(), &["--sso", &setting]);
    let seen = Browser::new(&server.url).see(&format!("{}/sso/home/login", server.url)).await;
    assert_eq!(seen.status, 502, "{}", seen.body);
    assert!(provider.book().asked.is_empty());
    let plain = provider.setting().replace(", allow_insecure_http = true", "");
    let why = Server::try_start(&stock(), folder.path(), &["--sso", &plain]).err().unwrap();
    assert!(
        why.contains("sso.home has the issuer \"http://") && why.contains("should begin with https://"),
        "{why}"
    );
}

/// A server in this process, whose clock the test moves.
async fn at_a_time(provider: &Provider) -> (Bench, String) {
    let env = Env::manual(Env::system().now(), 1);
    provider.book().now = Some(env.now());
    let settings = Settings {
        issuer: Some(provider.issuer("home")),
        client_id: CLIENT.0.to_owned(),
        client_secret: Some(CLIENT.1.to_owned()),
        allow_insecure_http: true,
        ..Settings::default()
    };
    let config =
        Config { sso: [("home".to_owned(), settings)].into(), disk_free_min: 0, ..Config::default() };
    let bench = Bench::build(|_| {}, config, env).await.unwrap();
    let app = walkabout::http::app(bench.runtime.clone()).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (bench, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_of_itself_is_kept_for_a_while() {
    let provider = Provider::start().await;
    let (bench, url) = at_a_time(&provider).await;
    let advance = |span: Duration| {
        bench.advance(span);
        provider.book().now = Some(bench.runtime.now());
    };
    let asked = || {
        let book = provider.book();
        (book.asked["home/about"], book.asked["home/keys"])
    };
    let register = async || Browser::new(&url).sign_in("home", "register").await.0;
    let many = (0..8).map(|_| register());
    assert_eq!(futures_util::future::join_all(many).await, [200; 8]);
    assert_eq!(asked(), (1, 1), "once for all");
    // Other keys: they are looked for, but not at every turn.
    provider.book().generation = 1;
    assert_eq!(register().await, 502);
    assert_eq!(asked(), (1, 1));
    advance(Duration::from_secs(61));
    assert_eq!(register().await, 200);
    assert_eq!(asked(), (2, 2));
    provider.book().lie = Some(Lie::UnknownKey);
    assert_eq!((register().await, register().await), (502, 502));
    assert_eq!(asked(), (2, 2));
    provider.book().lie = None;
    advance(Duration::from_secs(3600));
    assert_eq!(register().await, 200);
    assert_eq!(asked(), (3, 3), "an hour is enough");

    // A way that takes too long.
    let mut browser = Browser::new(&url);
    let back = browser.go("/sso/home/login").await;
    let cookies = browser.cookies.clone();
    advance(Duration::from_secs(600));
    assert_eq!(browser.see(&back).await.status, 403);
    assert_eq!(browser.cookies, cookies);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_is_asked_again_after_a_moment() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut provider = Provider::start().await;
    let there = std::mem::replace(&mut provider.url, format!("http://{address}"));
    let (bench, url) = at_a_time(&provider).await;
    let mut browser = Browser::new(&url);
    let begin = format!("{url}/sso/home/login");
    let away = json!({ "detail": "The sign-in provider did not answer as it should. Try again later." });
    let seen = browser.see(&begin).await;
    assert_eq!((seen.status, seen.body), (502, away));
    // It is there now, but says that it is another.
    let proxied = tokio::net::TcpListener::bind(address).await.unwrap();
    let other = there.replace("http://", "");
    tokio::spawn(async move {
        while let Ok((mut here, _)) = proxied.accept().await {
            let mut there = tokio::net::TcpStream::connect(&other).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
        }
    });
    assert_eq!(browser.see(&begin).await.status, 502);
    assert!(provider.book().asked.is_empty(), "it was not asked");
    bench.advance(Duration::from_secs(5));
    assert_eq!(browser.see(&begin).await.status, 502);
    assert_eq!(provider.book().asked["home/about"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_of_the_issuer_that_gave_it() {
    let (provider, mut server, folder) = servers().await;
    logged_in(&server, sign_in(&server, "register").await);
    server.kill();
    // Another provider under the name of the first, with an other user of the same name.
    let (home, office) = (provider.issuer("home"), provider.issuer("office"));
    let setting = provider.setting().replace(&home, "~").replace(&office, &home).replace('~', &office);
    let server = Server::start(&stock(), folder.path(), &["--sso", &setting]);
    provider.is("1", "eve@example.com", Some(true));
    assert_eq!(sign_in(&server, "login").await, (403, message("Not Existing!")));
    assert_eq!(sign_in(&server, "register").await, (409, json!({ "detail": "Already Exists!" })));
    let eve = Client::user(&server.url, "eve@example.com").await;
    assert_eq!(attach(&server, &eve, "home").await, (403, message("Already Attached!")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_address_is_verified_is_given_the_identity() {
    let (provider, folder) = (Provider::start().await, tempfile::tempdir().unwrap());
    let mails = Mails::of(folder.path());
    let setting = ["--sso".to_owned(), provider.setting()];
    let arguments = [mails.arguments(), setting.to_vec()].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Its users have more fields than a provider gives.
    let server = Server::start(&example("accounts"), folder.path(), &arguments);
    let more = (403, message("More is asked for here: register with a password, then attach."));
    assert_eq!(sign_in(&server, "register").await, more);
    let nobody = Client::anonymous(&server.url);
    let account = json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann" });
    assert_eq!(nobody.post("/user/register", &account).await.0, 201);
    assert_eq!(sign_in(&server, "register").await, (409, json!({ "detail": "Already Exists!" })));
    let code = mails.codes("ann@example.com", 1).await.remove(0);
    assert_eq!(nobody.post("/user/verify", &json!({ "code": code })).await.0, 200);
    let ann = logged_in(&server, sign_in(&server, "register").await);
    assert_eq!(ann.user["name"], "Ann");
    assert_eq!(logged_in(&server, sign_in(&server, "login").await).user["id"], ann.user["id"]);

    // Whoever has no password hears how to get one.
    let none = (403, message("The account has no password: set one by POST /user/forgot_password."));
    let other = tempfile::tempdir().unwrap();
    let server = start(&provider, &other);
    let ann = logged_in(&server, sign_in(&server, "register").await);
    let body = json!({ "password": PASSWORD, "old_password": PASSWORD, "new_password": PASSWORD });
    assert_eq!(send(&ann, Method::DELETE, "/user", body.clone()).await, none);
    assert_eq!(ann.post("/user/change_password", &body).await, none);
}

/// Whoever registered the address first, and whose it is not, is thrown out by who reads the mail there.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_an_address_that_was_not_verified_ends_every_way_in() {
    let (provider, folder) = (Provider::start().await, tempfile::tempdir().unwrap());
    let mails = Mails::of(folder.path());
    let setting = ["--sso".to_owned(), provider.setting()];
    let arguments = [mails.arguments(), setting.to_vec()].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start(&stock(), folder.path(), &arguments);
    let eve = Client::user(&server.url, "victim@example.com").await;
    provider.is("6", "eve@example.com", Some(true));
    assert_eq!(attach(&server, &eve, "home").await.0, 200);
    assert_eq!(eve.post("/webhook/generate-key", &json!({ "name": "a" })).await.0, 201);
    assert_eq!(logged_in(&server, sign_in(&server, "login").await).user["id"], eve.user["id"]);

    let nobody = Client::anonymous(&server.url);
    let reset = async |count: usize| {
        let forgot = json!({ "email": "victim@example.com" });
        assert_eq!(nobody.post("/user/forgot_password", &forgot).await.0, 200);
        let code = mails.codes("victim@example.com", count).await.remove(count - 1);
        let reset = json!({ "code": code, "password": PASSWORD });
        assert_eq!(nobody.post("/user/reset_password", &reset).await.0, 200);
    };
    reset(2).await;
    assert_eq!(sign_in(&server, "login").await, (403, message("Not Existing!")));
    let mut victim = Client::anonymous(&server.url);
    victim.login("victim@example.com").await;
    assert_eq!(victim.get("/webhook").await, (200, json!({ "keys": [] })));
    assert_eq!(eve.get("/webhook").await.0, 401);

    // From then on they are the user's own, and stay.
    assert_eq!(attach(&server, &victim, "home").await.0, 200);
    assert_eq!(victim.post("/webhook/generate-key", &json!({ "name": "a" })).await.0, 201);
    reset(3).await;
    assert_eq!(logged_in(&server, sign_in(&server, "login").await).user["id"], victim.user["id"]);
}
