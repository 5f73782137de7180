//! An application that has a walker for each spec, and clients for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Map, Value, json};
use walkabout::{
    config::Config,
    env::Env,
    prelude::*,
    registry::Registry,
    schema::{ElementId, Key, Level, NodeId, SYSTEM_ROOT},
    store::{Limits, Store, memory, mongodb},
    testing::Bench,
};

use crate::{
    database::database,
    mail::Mails,
    support::{Client, is_on_mongodb},
};

/// A server with the application, and its clock.
pub struct App {
    bench: Bench,
    pub url: String,
    users: AtomicU32,
    data: tempfile::TempDir,
}

impl App {
    pub async fn start() -> Self {
        let limits = Limits { disk_free_min: 0, ..Limits::default() };
        let env = Env::manual(Env::system().now(), 1);
        let store: Arc<dyn Store> = if is_on_mongodb() {
            let options = mongodb::Options::of(database().expect("a database to test with"));
            mongodb::open(&options, limits, env.clone()).await.unwrap()
        } else {
            memory::open(limits).unwrap()
        };
        let data = tempfile::tempdir().unwrap();
        let config = Config {
            disk_free_min: 0,
            data: data.path().to_owned(),
            mail_url: Some(format!("file://{}/mails", data.path().display())),
            mail_from: Some("us@example.com".to_owned()),
            ..Config::default()
        };
        let bench = Bench::inline_on(store, walkers, config, env).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(walkabout::http::serve(listener, bench.runtime.clone(), std::future::pending()));
        Self { bench, url, users: AtomicU32::new(0), data }
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

    pub fn nobody(&self) -> Client {
        Client::anonymous(&self.url)
    }

    /// The codes that went to an address, once there are as many; the last one is the newest.
    pub async fn codes(&self, email: &str, count: usize) -> Vec<String> {
        Mails::of(self.data.path()).codes(email, count).await
    }

    pub fn advance(&self, by: Duration) {
        self.bench.advance(by);
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

#[derive(Node, Serialize, Deserialize)]
struct A {
    val: i64,
}

#[derive(Edge, Serialize, Deserialize)]
struct E1 {
    w: i64,
}

/// Declares a walker with one ability at its beginning.
macro_rules! walker {
    ([$($spec:tt)*] $name:ident { $($(#[$on:meta])* $field:ident: $of:ty),* } |$walker:ident, $here:ident: $place:ty, $cx:ident| $body:block) => {
        #[derive(Walker, Serialize, Deserialize)]
        #[walker($($spec)*)]
        struct $name { $($(#[$on])* $field: $of),* }

        #[abilities]
        impl $name {
            #[entry]
            async fn start(&mut self, here: Here<$place>, cx: &mut Context) -> Outcome {
                let ($walker, $here, $cx) = (self, here, cx);
                $body;
                DONE
            }
        }
    };
}

walker!([websocket] Echo { number: u8, text: Option<String> } |me, here: Any, cx| {
    cx.report(json!({ "number": me.number, "text": me.text, "here": here.id() }))?;
});
walker!([public, websocket] Open {} |_me, here: Any, cx| {
    cx.report(here.id())?;
});
walker!([private, websocket] Hidden {} |_me, _here: Any, _cx| {});
walker!([entry = "node"] OnNode {} |_me, here: Any, cx| {
    cx.report(&here)?;
});
walker!([entry = "root"] OnRoot {} |_me, _here: Any, _cx| {});
walker!([websocket] Fails {} |_me, _here: Any, _cx| {
    Err(std::io::Error::other("secret"))?;
});
walker!([websocket] Says { status: u16 } |me, _here: Any, cx| {
    cx.status(me.status)?;
});
walker!([] Make { level: String, #[serde(default)] shape: u8 } |me, here: Any, cx| {
    let node = cx.create(A { val: 1 })?;
    let edge = cx.connect_with(&here, &node, E1 { w: 2 })?;
    cx.grant(&node, me.level.parse().unwrap_or(Level::NoAccess))?;
    match me.shape {
        0 => cx.report(&node)?,
        1 => cx.report(&edge)?,
        _ => cx.report(json!({ "deep": [{ "node": &node }, [&edge]], "tuple": (&node, 1) }))?,
    }
});
walker!([path = "below/{x}"] Below { x: u32 } |me, _here: Any, cx| {
    cx.report(me.x)?;
});
walker!([path = "/whole/{x}"] Whole { x: String } |me, here: Any, cx| {
    cx.report(json!([me.x, here.id()]))?;
});
walker!([methods = "get, post, put, patch, delete, options, trace", entry = "root"] Methods {} |_me, _here: Any, cx| {
    cx.report("it runs")?;
});
walker!([as_query, methods = "get"] Query { n: u32, #[serde(default)] list: Vec<u32> } |me, _here: Any, cx| {
    cx.report(json!([me.n, me.list]))?;
});
walker!([] Half { #[walker(as_query)] n: u32, #[serde(default)] m: u32 } |me, _here: Any, cx| {
    cx.report(json!([me.n, me.m]))?;
});
walker!([excluded] Sealed { #[serde(default)] wax: u32 } |me, _here: Any, cx| {
    cx.report(me.wax)?;
});
walker!([async] Later {} |_me, _here: Any, cx| {
    cx.report("later")?;
});
walker!([async, websocket] Loud {} |_me, _here: Any, cx| {
    cx.notify_self(&json!({ "type": "told" }));
});
walker!([webhook] HookHeader {} |_me, here: Any, cx| {
    cx.report(here.id())?;
});
walker!([webhook(query = "key")] HookQuery { #[walker(as_query)] n: u32 } |me, here: Any, cx| {
    cx.report(json!([me.n, here.id()]))?;
});
walker!([webhook(path = "key"), path = "by/{key}"] HookPath {} |_me, here: Any, cx| {
    cx.report(here.id())?;
});
walker!([webhook(body = "key")] HookBody { n: u32 } |me, here: Any, cx| {
    cx.report(json!([me.n, here.id()]))?;
});
walker!([] Reference { id: ElementId } |me, _here: Any, cx| {
    let found = cx.get::<Any>(&me.id).await?;
    cx.report(found)?;
});
walker!([] Page {} |_me, here: Any, cx| {
    cx.create(A { val: 2 }).and_then(|node| cx.connect(&here, &node))?;
    cx.respond(Response::html("<p>")).await?;
});
walker!([] Sent { file: Upload, #[serde(default)] n: u8 } |me, _here: Any, cx| {
    cx.report(json!([me.file.name, me.n]))?;
});
walker!([] Nested { place: Point, colour: Colour, more: Map<String, Value> } |me, _here: Any, cx| {
    cx.report(json!([me.place.x, me.colour, me.more]))?;
});

walker!([] Share { with: NodeId } |me, here: Root, cx| {
    cx.allow_root(&here, &me.with, Level::Read)?;
});
walker!([async] Writes {} |_me, _here: Any, cx| {
    cx.file("a.txt", b"content".to_vec()).await?;
});

/// Waits for an answer.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Waits {}

#[abilities]
impl Waits {
    #[entry]
    async fn start(&mut self, _here: Here<Any>, cx: &mut Context) -> Outcome {
        cx.wait_for("go").then("end")
    }

    #[step]
    async fn end(&mut self, _here: Here<Any>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

#[derive(Serialize, Deserialize)]
struct Point {
    x: i64,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Colour {
    Red,
    Green,
}

fn walkers(registry: &mut Registry) {
    registry.walker::<Echo>().walker::<Open>().walker::<Hidden>().walker::<OnNode>().walker::<OnRoot>();
    registry.walker::<Fails>().walker::<Says>().walker::<Make>().walker::<Below>().walker::<Whole>();
    registry.walker::<Methods>().walker::<Query>().walker::<Half>().walker::<Sealed>().walker::<Later>();
    registry.walker::<Loud>().walker::<HookHeader>().walker::<HookQuery>().walker::<HookPath>();
    registry.walker::<HookBody>().walker::<Reference>().walker::<Page>().walker::<Sent>().walker::<Nested>();
    registry.walker::<Share>().walker::<Writes>().walker::<Waits>();
    registry.node::<A>().edge::<E1>();
}
