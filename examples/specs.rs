//! A shelf of things whose walkers are called in other ways than by `POST /walker/<name>`: by paths with variables, by other methods,
//! with fields in the query.
//!
//! `cargo run --example specs`, then register, log in, `POST /things {"name": "vase", "tags": ["red"]}`,
//! `GET /things?tags=red`, `PATCH /things/1 {"size": "large"}`, `DELETE /things/1`.

use std::{collections::BTreeMap, process::ExitCode};

use walkabout::prelude::*;

#[derive(Node, Serialize, Deserialize)]
struct Thing {
    number: u32,
    name: String,
    size: Size,
    tags: Vec<String>,
    place: Option<Place>,
}

#[derive(Serialize, Deserialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Size {
    Small,
    #[default]
    Middle,
    Large,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
struct Place {
    room: u32,
    #[serde(default)]
    height: f64,
}

fn ten() -> usize {
    10
}

/// Lists things of a size that have all these tags.
#[derive(Walker, Serialize, Deserialize)]
#[walker(
    path = "/things",
    methods = "get",
    entry = "root",
    as_query,
    tags = "Shelf",
    summary = "List things"
)]
struct ListThings {
    #[serde(default)]
    size: Option<Size>,
    #[serde(default)]
    tags: Vec<String>,
    /// How many at most.
    #[serde(default = "ten")]
    limit: usize,
}

#[abilities]
impl ListThings {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let things = cx.list(here.out().node::<Thing>()).await?;
        let fits = |thing: &&Here<Thing>| {
            let thing = thing.read();
            self.size.is_none_or(|size| size == thing.size)
                && self.tags.iter().all(|tag| thing.tags.contains(tag))
        };
        for thing in things.iter().filter(fits).take(self.limit) {
            cx.report(thing)?;
        }
        DONE
    }
}

/// Puts a thing on the shelf.
#[derive(Walker, Serialize, Deserialize)]
#[walker(
    path = "/things",
    entry = "root",
    tags = "Shelf",
    status_code = 201,
    response_description = "The thing."
)]
struct AddThing {
    name: String,
    #[serde(default)]
    size: Size,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    place: Option<Place>,
}

#[abilities]
impl AddThing {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let number = cx.list(here.out().node::<Thing>()).await?.iter().map(|thing| thing.read().number).max();
        let thing = Thing {
            number: number.unwrap_or(0) + 1,
            name: self.name.clone(),
            size: self.size,
            tags: self.tags.clone(),
            place: self.place,
        };
        let thing = cx.attach(&here, thing)?;
        cx.report(&thing)?;
        cx.status(201)?;
        DONE
    }
}

async fn find(number: u32, here: &Here<Root>, cx: &mut Context) -> Result<Option<Here<Thing>>, Failure> {
    let thing = cx.first(here.out().node::<Thing>().filter(move |thing| thing.number == number)).await?;
    if thing.is_none() {
        cx.status(404)?;
    }
    Ok(thing)
}

/// Shows one thing.
#[derive(Walker, Serialize, Deserialize)]
#[walker(path = "/things/{number}", methods = "get", entry = "root", tags = "Shelf")]
#[walker(responses(404 = "There is no such thing."))]
struct ShowThing {
    number: u32,
    #[serde(default)]
    #[walker(as_query)]
    name_only: bool,
}

#[abilities]
impl ShowThing {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let Some(thing) = find(self.number, &here, cx).await? else { return DONE };
        if self.name_only {
            cx.report(&thing.read().name)?;
        } else {
            cx.report(&thing)?;
        }
        DONE
    }
}

/// Changes what is given of one thing, and adds the tags of the query.
#[derive(Walker, Serialize, Deserialize)]
#[walker(path = "/things/{number}", methods = "patch, put", entry = "root", tags = "Shelf")]
#[walker(responses(404 = "There is no such thing."))]
struct AmendThing {
    number: u32,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    size: Option<Size>,
    #[serde(default)]
    place: Option<Place>,
    #[serde(default)]
    #[walker(as_query)]
    tags: Vec<String>,
}

#[abilities]
impl AmendThing {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let Some(thing) = find(self.number, &here, cx).await? else { return DONE };
        {
            let mut thing = thing.edit();
            thing.name = self.name.take().unwrap_or_else(|| thing.name.clone());
            thing.size = self.size.unwrap_or(thing.size);
            thing.place = self.place.or(thing.place);
            thing.tags.append(&mut self.tags);
        }
        cx.report(&thing)?;
        DONE
    }
}

/// Takes one thing from the shelf. Asks for a login also where the settings say that walkers need none.
#[derive(Walker, Serialize, Deserialize)]
#[walker(auth, path = "/things/{number}", methods = "delete", entry = "root", tags = "Shelf")]
#[walker(status_code = 204, response_description = "It is gone.", responses(404 = "There is no such thing."))]
struct RemoveThing {
    number: u32,
}

#[abilities]
impl RemoveThing {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let Some(thing) = find(self.number, &here, cx).await? else { return DONE };
        cx.destroy(&thing)?;
        cx.status(204)?;
        DONE
    }
}

/// Writes labels for the thing that it enters at.
#[derive(Walker, Serialize, Deserialize)]
#[walker(public, path = "print/{copies}", methods = "post, get", entry = "node")]
struct Label {
    copies: u8,
    #[serde(default)]
    #[walker(as_query)]
    by: BTreeMap<String, String>,
}

#[abilities]
impl Label {
    #[entry]
    async fn start(&mut self, here: Here<Any>, cx: &mut Context) -> Outcome {
        for _ in 0..self.copies {
            cx.report(here.id())?;
        }
        DONE
    }
}

/// Sets nothing that a caller gives.
#[derive(Walker, Serialize, Deserialize)]
#[walker(public, excluded, include_in_schema = false)]
#[serde(default)]
#[derive(Default)]
struct Sealed {
    wax: u32,
}

#[abilities]
impl Sealed {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(self.wax)?;
        DONE
    }
}

/// Called over the WebSocket alone.
#[derive(Walker, Serialize, Deserialize)]
#[walker(public, websocket, methods = "")]
struct Whisper {
    word: String,
}

#[abilities]
impl Whisper {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.report(&self.word)?;
        DONE
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new()
        .title("Shelf", "1.0.0")
        .walker::<ListThings>()
        .walker::<AddThing>()
        .walker::<ShowThing>()
        .walker::<AmendThing>()
        .walker::<RemoveThing>()
        .walker::<Label>()
        .walker::<Sealed>()
        .walker::<Whisper>()
        .serve()
        .await
}
