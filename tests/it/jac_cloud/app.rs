//! A server with the application, and clients for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use walkabout::{
    config::{self, Config},
    env::Env,
    schema::{Key, SYSTEM_ROOT},
    store::{Limits, Store, memory, mongodb},
    testing::Bench,
};

use super::walkers::walkers;
use crate::{
    database::database,
    mail::Mails,
    provider::{CLIENT, Provider, REALMS},
    sso::Browser,
    support::{Client, is_on_mongodb},
};

/// A server with the application, and its clock.
pub struct App {
    bench: Bench,
    pub url: String,
    /// Signs users in as `home` and `office`.
    pub provider: Provider,
    users: AtomicU32,
    data: tempfile::TempDir,
}

impl App {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings.
    pub async fn start_with(set: impl FnOnce(&mut Config)) -> Self {
        let provider = Provider::start().await;
        let limits = Limits { disk_free_min: 0, ..Limits::default() };
        let env = Env::manual(Env::system().now(), 1);
        let store: Arc<dyn Store> = if is_on_mongodb() {
            let options = mongodb::Options::of(database().expect("a database to test with"));
            mongodb::open(&options, limits, env.clone()).await.unwrap()
        } else {
            memory::open(limits).unwrap()
        };
        let data = tempfile::tempdir().unwrap();
        let realms = REALMS.map(|realm| (realm.to_owned(), settings(&provider, realm)));
        let mut config = Config {
            sso: realms.into(),
            disk_free_min: 0,
            data: data.path().to_owned(),
            mail_url: Some(format!("file://{}/mails", data.path().display())),
            mail_from: Some("us@example.com".to_owned()),
            ..Config::default()
        };
        set(&mut config);
        let bench = Bench::inline_on(store, walkers, config, env).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(walkabout::http::serve(listener, bench.runtime.clone(), std::future::pending()));
        Self { bench, url, provider, users: AtomicU32::new(0), data }
    }

    /// A new user, logged in.
    pub async fn user(&self) -> Client {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        Client::user(&self.url, &format!("user{number}@example.com")).await
    }

    /// An administrator of the system, logged in.
    pub async fn admin(&self) -> Client {
        let mut admin = self.user().await;
        let email = admin.user["email"].as_str().unwrap().to_owned();
        let raised = self.bench.runtime.change_user(&email, |user| {
            (user.is_admin, user.root_id) = (true, Key(SYSTEM_ROOT));
            true
        });
        assert!(raised.await.unwrap());
        admin.login(&email).await;
        admin
    }

    /// Has an address be not verified any more.
    pub async fn unverify(&self, email: &str) {
        let changed = self.bench.runtime.change_user(email, |user| {
            (user.is_activated, user.is_verified) = (false, false);
            true
        });
        assert!(changed.await.unwrap());
    }

    pub fn nobody(&self) -> Client {
        Client::anonymous(&self.url)
    }

    pub fn browser(&self) -> Browser {
        Browser::new(&self.url)
    }

    /// The codes that went to an address, once there are as many; the last one is the newest.
    pub async fn codes(&self, email: &str, count: usize) -> Vec<String> {
        Mails::of(self.data.path()).codes(email, count).await
    }

    pub fn advance(&self, by: Duration) {
        self.bench.advance(by);
    }
}

/// The settings of a realm of the provider.
fn settings(provider: &Provider, realm: &str) -> config::Provider {
    config::Provider {
        issuer: Some(provider.issuer(realm)),
        client_id: CLIENT.0.to_owned(),
        client_secret: Some(CLIENT.1.to_owned()),
        allow_insecure_http: true,
        ..config::Provider::default()
    }
}

/// Asks with a JSON body.
pub async fn ask(client: &Client, method: Method, path: &str, body: Value) -> (u16, Value) {
    client.send(client.request(method, path).json(&body)).await
}

/// Asks with text as it is.
pub async fn send(client: &Client, path: &str, text: &str) -> (u16, Value) {
    let request = client.request(Method::POST, path).header("content-type", "application/json");
    client.send(request.body(text.to_owned())).await
}

/// `{"detail": …}`.
pub fn detail(detail: Value) -> Value {
    json!({ "detail": detail })
}

/// Makes a node of a client, open to others at this level; gives its id.
pub async fn node(client: &Client, level: &str) -> String {
    let (status, made) = client.post("/walker/make", &json!({ "level": level })).await;
    assert_eq!(status, 200, "{made}");
    made["reports"][0]["id"].as_str().unwrap().to_owned()
}
