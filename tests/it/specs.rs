//! How walkers say where and how they are called, over real sockets.

use reqwest::Method;
use serde_json::{Value, json};
use walkabout::{
    Error,
    config::Config,
    env::Env,
    prelude::*,
    registry::Registry,
    testing::Bench,
    walker::{EntryType, FieldKind, KeyPlace, Model, Part, Spec},
};

use crate::support::{Client, Server, example, stock, told};

fn shelf() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("specs"), folder.path(), &[]);
    (server, folder)
}

/// Asks with a body.
async fn ask(client: &Client, method: Method, path: &str, body: Value) -> (u16, Value) {
    client.send(client.request(method, path).json(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_methods_and_queries() {
    let (server, _folder) = shelf();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let vase = json!({ "name": "vase", "tags": ["red", "old"], "place": { "room": "4" } });
    let (status, made) = ask(&ann, Method::POST, "/things", vase).await;
    assert_eq!((status, &made["reports"][0]["context"]["number"]), (201, &json!(1)), "{made}");
    assert_eq!(made["reports"][0]["context"]["place"], json!({ "room": 4, "height": 0.0 }));
    let chair = json!({ "name": "chair", "size": "large", "tags": ["red"] });
    assert_eq!(ask(&ann, Method::POST, "/things", chair).await.0, 201);

    let names = async |query: &str| -> Vec<String> {
        let (status, answer) = ann.get(&format!("/things{query}")).await;
        assert_eq!(status, 200, "{answer}");
        let reports = answer["reports"].as_array().unwrap();
        reports.iter().map(|thing| thing["context"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("").await, ["vase", "chair"]);
    assert_eq!(names("?tags=red&tags=old").await, ["vase"]);
    assert_eq!(names("?size=small&size=large").await, ["chair"], "of a single value the last one counts");
    assert_eq!(names("?limit=1&unknown=2").await, ["vase"]);
    assert_eq!(names("?tags=r%65d&limit=+1").await, ["vase"]);
    assert_eq!(
        told(&ann.get("/things?limit=-1&size=huge").await),
        ["enum query.size", "greater_than_equal query.limit"]
    );
    assert_eq!(names("?limit=9223372036854775807").await, ["vase", "chair"]);
    for limit in ["9223372036854775808", "18446744073709551615", "18446744073709551616"] {
        assert_eq!(told(&ann.get(&format!("/things?limit={limit}")).await), ["int_parsing_size query.limit"]);
    }

    let (status, shown) = ann.get("/things/2").await;
    assert_eq!((status, &shown["reports"][0]["context"]["name"]), (200, &json!("chair")));
    assert_eq!(ann.get("/things/2?name_only=yes").await.1["reports"], json!(["chair"]));
    assert_eq!(ann.get("/things/7").await, (404, json!({ "status": 404, "reports": [] })));
    assert_eq!(
        told(&ann.get("/things/two?name_only=perhaps").await),
        ["int_parsing path.number", "bool_parsing query.name_only"]
    );
    let head = ann.request(Method::HEAD, "/things/2").send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0));

    let larger = json!({ "size": "large", "tags": ["in the body, where it is not looked for"], "number": 2 });
    let (status, amended) = ask(&ann, Method::PATCH, "/things/1?tags=new", larger).await;
    let thing = &amended["reports"][0]["context"];
    assert_eq!((status, &thing["size"], &thing["number"]), (200, &json!("large"), &json!(1)), "{amended}");
    assert_eq!(thing["tags"], json!(["red", "old", "new"]));
    let (status, amended) = ask(&ann, Method::PUT, "/things/1", json!({ "name": "jar" })).await;
    assert_eq!((status, &amended["reports"][0]["context"]["name"]), (200, &json!("jar")));
    // All of its fields have defaults, so there need be no body.
    assert_eq!(ann.send(ann.request(Method::PUT, "/things/1")).await.0, 200);

    assert_eq!(ann.send(ann.request(Method::DELETE, "/things/1")).await, (204, json!("")));
    assert_eq!(names("").await, ["chair"]);
    // Where a query is all that is asked for, a body is ignored, whatever it is.
    let noise = ann.request(Method::GET, "/things").body("{ this is no JSON");
    assert_eq!(ann.send(noise).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served() {
    let (server, _folder) = shelf();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let not_found = (404, json!({ "detail": "Not Found" }));
    for (method, path) in [
        (Method::POST, "/walker/list_things"),
        (Method::GET, "/walker/list_things"),
        (Method::POST, "/walker/whisper"),
        (Method::GET, "/walker/nobody"),
        (Method::POST, "/walker/nobody"),
        (Method::POST, "/walker/nobody/n::00000000000000000000000000000001"),
        (Method::POST, "/walker/add_thing/cancel"),
        (Method::POST, "/walker/label/print/3"),
        (Method::GET, "/things/1/2"),
        (Method::GET, "/walker"),
    ] {
        assert_eq!(ask(&ann, method.clone(), path, json!({})).await, not_found, "{method} {path}");
    }
    for (method, path, allow) in [
        (Method::DELETE, "/things", "GET,HEAD,POST"),
        (Method::POST, "/things/1", "DELETE,GET,HEAD,PATCH,PUT"),
        (Method::GET, "/walker/sealed", "POST"),
        (Method::POST, "/walker/w:sealed:0190b3e2-7a55-7000-8000-000000000000", "GET,HEAD"),
    ] {
        let answer = ann.request(method.clone(), path).send().await.unwrap();
        let allowed = answer.headers()["allow"].to_str().unwrap().replace(' ', "");
        let mut allowed: Vec<&str> = allowed.split(',').collect();
        allowed.sort_unstable();
        assert_eq!((answer.status().as_u16(), allowed.join(",").as_str()), (405, allow), "{method} {path}");
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "detail": "Method Not Allowed" }));
    }
    let sealed = ask(&ann, Method::POST, "/walker/sealed", json!({ "wax": 5 })).await;
    assert_eq!(sealed, (200, json!({ "status": 200, "reports": [0] })), "nothing of it can be set");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_type_does_not_say_is_a_setting() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("specs"), folder.path(), &["--require-auth-by-default=false"]);
    let nobody = Client::anonymous(&server.url);
    assert_eq!(nobody.get("/things").await.0, 200);
    assert_eq!(ask(&nobody, Method::DELETE, "/things/1", json!({})).await.0, 403, "it says `auth`");
    assert_eq!(nobody.get("/walkers").await.0, 403, "it is no walker");
    drop(server);
    let server = Server::start(&example("specs"), folder.path(), &["--disable-auto-endpoint"]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    assert_eq!(ann.get("/things").await.0, 200, "it says how it is called");
    drop(server);

    let look = json!({ "walker_id": "none" });
    for (flags, wanted) in [(&[][..], 200), (&["--disable-auto-endpoint"][..], 404)] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&stock(), folder.path(), flags);
        let ann = Client::user(&server.url, "ann@example.com").await;
        // One says nothing at all, and one how it is run.
        assert_eq!(ann.post("/walker/view_sample_result", &look).await.0, wanted, "{flags:?}");
        assert_eq!(ann.post("/walker/sample", &json!({ "value": 1 })).await.0, wanted, "{flags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_the_socket() {
    let (server, _folder) = shelf();
    let anyone = Client::anonymous(&server.url);
    let node = "n::00000000-0000-0000-0000-000000000001";
    let path = format!("/walker/label/print/2/{node}");
    assert_eq!(anyone.get(&path).await, (200, json!({ "status": 200, "reports": [node, node] })));
    assert_eq!(
        told(&anyone.get("/walker/label/print/x/nonsense?by=x").await),
        ["value_error path.node", "int_parsing path.copies", "dict_type query.by"]
    );
    let mut socket = anyone.socket().await;
    let whisper = |word: Value| json!({ "type": "walker", "walker": "whisper", "response": true, "context": { "word": word } });
    assert_eq!(socket.ask(whisper(json!("psst"))).await["reports"], json!(["psst"]));
    assert_eq!(socket.ask(whisper(json!(5))).await["error"][0]["loc"], json!(["word"]));
}

/// JSON first, then who asks, then all that does not fit at once, then the entry.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_refusals() {
    let (server, _folder) = shelf();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let nobody = Client::anonymous(&server.url);
    let raw = |client: &Client, method: Method, path: &str, body: &'static str| {
        let request = client.request(method, path).body(body);
        let client = client.clone();
        async move { client.send(request).await }
    };
    assert_eq!(told(&raw(&nobody, Method::PATCH, "/things/x", "{").await), ["json_invalid body.1"]);
    assert_eq!(raw(&nobody, Method::PATCH, "/things/x", "[]").await.0, 403);
    let all = raw(&ann, Method::PATCH, "/things/x", "[]").await;
    assert_eq!(told(&all), ["int_parsing path.number", "model_attributes_type body"]);
    let all = raw(&ann, Method::PATCH, "/things/x", r#"{ "size": 1, "place": { "height": "tall" } }"#).await;
    let wanted = [
        "int_parsing path.number",
        "enum body.size",
        "float_parsing body.place.height",
        "missing body.place.room",
    ];
    assert_eq!(told(&all), wanted);
    assert_eq!(told(&raw(&ann, Method::POST, "/things", "").await), ["missing body"]);
    let empty = raw(&ann, Method::POST, "/things", r#"{ "size": [] }"#).await;
    assert_eq!(told(&empty), ["missing body.name", "enum body.size"]);
    assert_eq!(empty.1["detail"][0]["input"], json!({ "size": [] }));
    assert_eq!(empty.1["detail"][1]["ctx"], json!({ "expected": "'small', 'middle' or 'large'" }));
}

/// A walker that is only its specs.
macro_rules! spec_only {
    ($($name:ident $of:literal $spec:expr;)*) => {$(
        #[derive(Serialize, Deserialize)]
        struct $name {}
        impl walkabout::walker::Archetype for $name {
            const KIND: walkabout::schema::Kind = walkabout::schema::Kind::Walker;
            const NAME: &'static str = $of;
        }
        impl walkabout::walker::Walker for $name {
            fn spec() -> Spec {
                $spec
            }
            fn abilities(_: &mut walkabout::walker::Abilities<Self>) {}
        }
    )*};
}

spec_only! {
    First "first" Spec::new().path("/shelf/{a}").field("a", FieldKind::Required);
    Second "second" Spec::new().path("/shelf").entry(EntryType::Node);
    Lost "lost" Spec::new().path("/lost/{b}").field("a", FieldKind::Required);
    Hidden "hidden" Spec::new().path("/hidden/{a}").field("a", FieldKind::Excluded);
    Taken "taken" Spec::new().path("/user/login");
    Headed "headed" Spec::new().webhook(KeyPlace::Header("X KEY"));
    Queried "queried" Spec::new().webhook(KeyPlace::Query("a")).field_in("a", FieldKind::Optional, Part::Query);
    Pathless "pathless" Spec::new().webhook(KeyPlace::Path("key")).path("a");
    Bodied "bodied" Spec::new().webhook(KeyPlace::Body("a")).field("a", FieldKind::Optional);
    Both "both" Spec::new().webhook(KeyPlace::Path("a")).path("{a}").field("a", FieldKind::Required);
    Classy "classy" Spec::new().response_class("html");
    Twice "twice" Spec::new().response_class("text/html; charset=utf-8").response_model(Model::of::<u8>());
    Odd "odd" Spec::new().path("/odd/{a}.json").field("a", FieldKind::Required);
}

#[tokio::test]
async fn specs_that_do_not_fit_are_told_at_the_start() {
    async fn refused(fill: impl FnOnce(&mut Registry)) -> String {
        match Bench::build(fill, Config::default(), Env::system()).await {
            Err(Error::Build(text)) => text,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was built"),
        }
    }
    let clash = refused(|registry| {
        registry.walker::<First>().walker::<Second>();
    });
    assert_eq!(
        clash.await,
        "walkers first and second are both called by POST /shelf/{1}: give one another path"
    );
    let text = refused(|registry| {
        registry.walker::<Lost>().walker::<Hidden>().walker::<Taken>().walker::<Odd>();
        registry
            .walker::<Headed>()
            .walker::<Queried>()
            .walker::<Pathless>()
            .walker::<Bodied>()
            .walker::<Both>()
            .walker::<Classy>()
            .walker::<Twice>();
    });
    let text = text.await;
    for wanted in [
        "walker lost has {b} in its path, and no such field",
        "walker hidden has {a} in its path, which is excluded",
        "walker taken has the path \"/user/login\": what is under /user is the server's own",
        "walker headed takes its key from the header \"X KEY\": letters, digits, - and _ make a name",
        "walker queried takes its key from \"a\" of the query, where it has a field",
        "walker pathless takes its key from {key} of its path, which has no such variable",
        "walker bodied takes its key from \"a\" of the body, where it has a field",
        "walker both takes its key from {a} of its path, where it has a field",
        "walker classy has the response_class \"html\": write a media type without parameters, as \"text/html\"",
        "walker twice has the response_class \"text/html; charset=utf-8\"",
        "walker twice has a response_model, which is of JSON, and a response_class: leave one out",
        "walker odd has the path \"/odd/{a}.json\": a variable takes a whole segment",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
}
