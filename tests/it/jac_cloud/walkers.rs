//! An application that has a walker for each spec.

use std::collections::HashMap;

use serde_json::Map;
use walkabout::{
    prelude::*,
    registry::Registry,
    schema::{ElementId, Level, NodeId},
};

#[derive(Node, Serialize, Deserialize)]
struct A {
    val: i64,
}

#[derive(Edge, Serialize, Deserialize)]
struct E1 {
    w: i64,
}

#[derive(Object, Serialize, Deserialize)]
struct O {
    size: i64,
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
walker!([websocket, response_class = "text/html", responses(404 = "No page.")] Page {} |_me, here: Any, cx| {
    cx.create(A { val: 2 }).and_then(|node| cx.connect(&here, &node))?;
    cx.respond(Response::html("<p>")).await?;
});
walker!([websocket, response_class = "image/png"] Picture {} |_me, _here: Any, cx| {
    cx.respond(Response::bytes("image/png", [1, 2])).await?;
});
walker!([websocket] Custom { value: Value } |me, _here: Any, cx| {
    cx.respond(Response::json(&me.value)?.status(201)).await?;
});
walker!([websocket, response_model = Point] Modelled { value: Value, status: Option<u16> } |me, here: Any, cx| {
    cx.create(A { val: 3 }).and_then(|node| cx.connect(&here, &node))?;
    let response = Response::json(&me.value)?;
    cx.respond(match me.status {
        Some(status) => response.status(status),
        None => response,
    }).await?;
});
walker!([async, websocket, response_model = Point, retry(attempts = 3, delay = "1h")] ModelledLater { value: Value } |me, here: Any, cx| {
    cx.create(A { val: 3 }).and_then(|node| cx.connect(&here, &node))?;
    cx.respond(Response::json(&me.value)?).await?;
});
walker!([websocket] Sent { file: Upload, #[serde(default)] n: u8 } |me, _here: Any, cx| {
    cx.report(json!([me.file.name, me.n]))?;
});
walker!([] SentMany { many: Vec<Upload>, one: Option<Upload>, more: Option<Vec<Upload>>, n: u8 } |me, _here: Any, cx| {
    let count = |files: &[Upload]| files.len();
    cx.report(json!([count(&me.many), me.one.is_some(), me.more.as_deref().map(count), me.n]))?;
});
walker!([methods = "get"] GetBody { n: u32, #[serde(default)] m: u32 } |me, _here: Any, cx| {
    cx.report(json!([me.n, me.m]))?;
});
walker!([] Kinds {} |me, here: Any, cx| {
    let object = cx.save(O { size: 1 })?;
    cx.report(&object)?;
    cx.report(&here)?;
    cx.report(&*me)?;
    cx.report(json!({ "point": Point { x: 1 }, "colour": Colour::Red }))?;
    cx.report(Colour::Green)?;
});
walker!([] NoJson {} |_me, _here: Any, cx| {
    cx.report(HashMap::from([((1, 2), 3)]))?;
});
walker!([websocket] Mixed { #[walker(as_query)] in_query: u32, in_body: u32, #[serde(default)] #[walker(excluded)] wax: u32 } |me, _here: Any, cx| {
    cx.report(json!([me.in_query, me.in_body, me.wax]))?;
});
walker!([async] NotifyLater { client: String } |me, _here: Any, cx| {
    cx.notify_clients(&[&me.client], &json!({ "type": "told", "data": { "a": 1 } }));
});
walker!([async, webhook] HookLater {} |_me, here: Any, cx| {
    cx.report(here.id())?;
});
walker!([webhook(header = "X-Shop"), path = "shop"] HookNamed {} |_me, _here: Any, _cx| {});
walker!([websocket] Notify { to: String, ids: Vec<String> } |me, _here: Any, cx| {
    let data = json!({ "type": "told", "data": { "a": 1 } });
    match me.to.as_str() {
        "self" => cx.notify_self(&data),
        "clients" => cx.notify_clients(&me.ids, &data),
        "channels" => cx.notify_channels(&me.ids, &data),
        _ => {
            let roots: Vec<NodeId> = me.ids.iter().filter_map(|id| id.parse().ok()).collect();
            cx.notify_users(&roots, &data);
        }
    }
});

#[derive(Walker, Serialize, Deserialize)]
#[walker(
    entry = "root",
    status_code = 201,
    tags = "Shelf, Things",
    summary = "Say it",
    description = "Says it well."
)]
#[walker(response_description = "It is said.", responses(404 = "Nobody is there.", 409 = "It was said."), deprecated)]
struct Documented {}

#[abilities]
impl Documented {
    #[entry]
    async fn start(&mut self, _here: Here<Any>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

walker!([include_in_schema = false, websocket] LeftOut {} |_me, _here: Any, _cx| {});
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
#[walker(async, websocket)]
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

/// What users have beside address and password.
#[derive(Serialize, Deserialize)]
struct Profile {
    #[serde(default)]
    nickname: String,
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

pub fn walkers(registry: &mut Registry) {
    registry.walker::<Echo>().walker::<Open>().walker::<Hidden>().walker::<OnNode>().walker::<OnRoot>();
    registry.walker::<Fails>().walker::<Says>().walker::<Make>().walker::<Below>().walker::<Whole>();
    registry.walker::<Methods>().walker::<Query>().walker::<Half>().walker::<Sealed>().walker::<Later>();
    registry.walker::<Loud>().walker::<HookHeader>().walker::<HookQuery>().walker::<HookPath>();
    registry.walker::<HookBody>().walker::<Reference>().walker::<Page>().walker::<Sent>().walker::<Nested>();
    registry.walker::<Share>().walker::<Writes>().walker::<Waits>().walker::<Picture>().walker::<Custom>();
    registry.walker::<Modelled>().walker::<ModelledLater>().walker::<SentMany>().walker::<GetBody>();
    registry.walker::<Kinds>().walker::<NoJson>().walker::<HookLater>().walker::<HookNamed>();
    registry
        .walker::<Mixed>()
        .walker::<NotifyLater>()
        .walker::<Notify>()
        .walker::<Documented>()
        .walker::<LeftOut>();
    registry.node::<A>().edge::<E1>().user::<Profile>();
}
