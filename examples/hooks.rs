//! A till that others report to: its walkers are called with webhook keys, and act as the root of who made the key.
//!
//! `cargo run --example hooks`, then register, log in, make a key with `POST /webhook/generate-key {"name": "shop"}`, and let the shop
//! call `POST /webhook/walker/take {"cents": 250}` with the key as the header `X-API-KEY`.

use std::process::ExitCode;

use walkabout::prelude::*;

#[derive(Node, Serialize, Deserialize)]
struct Drawer {
    cents: i64,
}

async fn drawer(here: &Here<Root>, cx: &mut Context) -> Result<Here<Drawer>, Failure> {
    cx.first_or_create(here.out().node::<Drawer>(), || Drawer { cents: 0 }).await
}

/// Puts money into the drawer.
#[derive(Walker, Serialize, Deserialize)]
#[walker(webhook, websocket, alias = "receive")]
struct Take {
    cents: i64,
}

#[abilities]
impl Take {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let drawer = drawer(&here, cx).await?;
        self.put(drawer, cx).await
    }

    #[entry]
    async fn put(&mut self, drawer: Here<Drawer>, cx: &mut Context) -> Outcome {
        let mut open = drawer.edit();
        open.cents = open.cents.saturating_add(self.cents);
        drop(open);
        cx.report(drawer.id())?;
        DONE
    }
}

/// Tells what is in the drawer to who has the key in a link.
#[derive(Walker, Serialize, Deserialize)]
#[walker(webhook(query = "key"), methods = "get", entry = "root")]
struct Count {}

#[abilities]
impl Count {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let drawer = drawer(&here, cx).await?;
        cx.report(drawer.read().cents)?;
        DONE
    }
}

/// Says what a coin is worth, to devices that can send nothing but a path.
#[derive(Walker, Serialize, Deserialize)]
#[walker(webhook(path = "key"), path = "/coins/{key}/{cents}", methods = "get")]
struct Coin {
    cents: i64,
}

#[abilities]
impl Coin {
    #[entry]
    async fn start(&mut self, _here: Here<Any>, cx: &mut Context) -> Outcome {
        cx.report(format!("{}.{:02}", self.cents / 100, self.cents % 100))?;
        DONE
    }
}

/// Empties the drawer when there is time for it.
#[derive(Walker, Serialize, Deserialize)]
#[walker(r#async, webhook(body = "secret"), entry = "root")]
struct Empty {}

#[abilities]
impl Empty {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let drawer = drawer(&here, cx).await?;
        let cents = std::mem::take(&mut drawer.edit().cents);
        cx.report(cents)?;
        DONE
    }
}

/// Shows what a webhook brings before there is a key: no key is looked at.
#[derive(Walker, Serialize, Deserialize)]
#[walker(public, webhook(body = "key"), entry = "root")]
struct Try {
    word: String,
}

#[abilities]
impl Try {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(&self.word)?;
        DONE
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new()
        .walker::<Take>()
        .walker::<Count>()
        .walker::<Coin>()
        .walker::<Empty>()
        .walker::<Try>()
        .serve()
        .await
}
