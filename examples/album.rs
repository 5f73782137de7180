//! An album that is looked at in a browser: walkers that answer with a page, a stream, a picture and a redirect.
//!
//! `cargo run --example album`, then register, log in, `POST /album {"title": "Sea", "color": [0, 128, 255]}`, and look at `GET /album`,
//! `GET /album.csv` and `GET /walker/picture?title=Sea`. Files are sent to it as a form: `photos` to `POST /album/photos`.

use std::process::ExitCode;

use futures_util::stream;
use walkabout::prelude::*;

#[derive(Node, Serialize, Deserialize)]
struct Picture {
    title: String,
    /// Red, green, blue.
    color: [u8; 3],
    #[serde(default)]
    looks: u64,
}

/// Puts a picture in the album, and shows the album.
#[derive(Walker, Serialize, Deserialize)]
#[walker(path = "/album", entry = "root", status_code = 303, response_class = "text/plain")]
#[walker(response_description = "The album is at `Location`.")]
struct Hang {
    title: String,
    /// Red, green, blue.
    color: [u8; 3],
}

#[abilities]
impl Hang {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let picture = Picture { title: self.title.clone(), color: self.color, looks: 0 };
        cx.attach(&here, picture)?;
        cx.respond(Response::redirect("/album")).await?;
        DONE
    }
}

/// The album as a page. Each look is counted.
#[derive(Walker, Serialize, Deserialize)]
#[walker(path = "/album", methods = "get", entry = "root", websocket, response_class = "text/html")]
struct Page {}

#[abilities]
impl Page {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let mut page = "<!doctype html><title>Album</title><ul>".to_owned();
        for picture in cx.list(here.out().node::<Picture>()).await? {
            picture.edit().looks += 1;
            let Picture { title, looks, .. } = &*picture.read();
            page.push_str(&format!("<li>{}, looked at {looks} times", escaped(title)));
        }
        let page = Response::html(page + "</ul>").header("cache-control", "no-store");
        cx.respond(page).await?;
        DONE
    }
}

/// What stands in a page as it was written.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The album as a table, line by line.
#[derive(Walker, Serialize, Deserialize)]
#[walker(path = "/album.csv", methods = "get", entry = "root", websocket, response_class = "text/csv")]
struct Table {}

#[abilities]
impl Table {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let mut lines = vec![b"title,looks\n".to_vec()];
        for picture in cx.list(here.out().node::<Picture>()).await? {
            let picture = picture.read();
            lines
                .push(format!("\"{}\",{}\n", picture.title.replace('"', "\"\""), picture.looks).into_bytes());
        }
        let lines = stream::iter(lines.into_iter().map(Ok));
        cx.respond(Response::stream("text/csv; charset=utf-8", lines)).await?;
        DONE
    }
}

/// A picture of one colour, drawn.
#[derive(Walker, Serialize, Deserialize)]
#[walker(
    name = "picture",
    methods = "get",
    as_query,
    entry = "root",
    websocket,
    response_class = "image/bmp"
)]
#[walker(responses(404 = "There is no such picture."))]
struct Draw {
    title: String,
}

#[abilities]
impl Draw {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        for picture in cx.list(here.out().node::<Picture>()).await? {
            if picture.read().title == self.title {
                let drawn = bitmap(picture.read().color);
                cx.respond(Response::bytes("image/bmp", drawn)).await?;
                return cx.disengage();
            }
        }
        let missing = json!({ "missing": self.title });
        cx.respond(Response::json(missing)?.status(404)).await?;
        DONE
    }
}

/// One pixel, as a bitmap.
fn bitmap([red, green, blue]: [u8; 3]) -> Vec<u8> {
    let mut bitmap = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
    bitmap.resize(54, 0);
    bitmap.extend([blue, green, red, 0]);
    bitmap
}

#[derive(Node, Serialize, Deserialize)]
struct Photo {
    caption: String,
    url: String,
}

/// Hangs photos that are sent as files, `photos` and perhaps a `cover`, with the caption in the part `body`.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, path = "/album/photos", entry = "root")]
struct Develop {
    photos: Vec<Upload>,
    #[serde(default)]
    cover: Option<Upload>,
    caption: String,
}

#[abilities]
impl Develop {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        for photo in self.photos.iter().chain(&self.cover) {
            let read = cx.open(photo).await?.bytes().await?;
            cx.progress(json!({ "read": read.len() }));
            let url = photo.url.clone().unwrap_or_default();
            let photo = cx.attach(&here, Photo { caption: self.caption.clone(), url })?;
            cx.report(&photo)?;
        }
        DONE
    }
}

/// Tells how many lines a text has, and keeps nothing.
#[derive(Walker, Serialize, Deserialize)]
#[walker(path = "/album/lines", methods = "post, put", entry = "root", auth)]
struct Lines {
    text: Upload,
    #[serde(default)]
    empty: bool,
}

#[abilities]
impl Lines {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let text = cx.open(&self.text).await?.bytes().await?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| self.empty || !line.is_empty());
        cx.report(json!({ "lines": lines.count(), "file": self.text }))?;
        DONE
    }
}

/// Makes a catalogue of the album, which takes a while: its caller fetches it where the run's result says.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async, websocket, entry = "root")]
struct Catalogue {
    /// `json`, `html`, or nothing for none.
    #[serde(default)]
    form: String,
}

#[abilities]
impl Catalogue {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let pictures = cx.list(here.out().node::<Picture>()).await?;
        let titles: Vec<_> = pictures.iter().map(|picture| picture.read().title.clone()).collect();
        cx.report(titles.len())?;
        match self.form.as_str() {
            "json" => cx.respond(Response::json(titles)?.status(203)).await?,
            "html" => cx.respond(Response::html(format!("<p>{}", escaped(&titles.join(", "))))).await?,
            _ => {}
        }
        cx.checkpoint();
        cx.then("end")
    }

    /// Whatever was given before a checkpoint holds.
    #[step]
    async fn end(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.progress(json!({ "done": true }));
        DONE
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let album = walkabout::Walkabout::new().walker::<Hang>().walker::<Page>().walker::<Table>();
    album.walker::<Draw>().walker::<Develop>().walker::<Lines>().walker::<Catalogue>().serve().await
}
