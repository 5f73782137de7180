//! `/util/traverse` and its stream over a real socket, and the traverse against a plain one.

use std::{collections::BTreeSet, sync::Arc};

use walkabout::{
    config::Config,
    env::Env,
    prelude::*,
    registry::Registry,
    runtime::Caller,
    schema::{ElementId, Kind, Level, Timestamp, wire::Traversed},
    store::{Limits, Store, memory, mongodb},
    testing::Bench,
    traverse::Traverse,
};

use crate::{
    database::database,
    support::{Client, is_on_mongodb},
};

#[derive(Node, Serialize, Deserialize)]
struct City {
    name: String,
}

#[derive(Node, Serialize, Deserialize)]
struct Shop {}

#[derive(Edge, Serialize, Deserialize)]
struct Road {
    length: u32,
}

fn types(types: &mut Registry) {
    types.node::<City>().node::<Shop>().edge::<Road>();
}

async fn bench(traverse_items_max: usize) -> Bench {
    let limits = Limits { disk_free_min: 0, ..Limits::default() };
    let store: Arc<dyn Store> = if is_on_mongodb() {
        let options = mongodb::Options::of(database().expect("a database to test with"));
        mongodb::open(&options, limits, Env::system()).await.unwrap()
    } else {
        memory::open(limits).unwrap()
    };
    let config = Config { disk_free_min: 0, traverse_items_max, ..Config::default() };
    Bench::inline_on(store, types, config, Env::system()).await.unwrap()
}

/// Serves a bench on a port of its own; gives the address.
async fn serve(bench: &Bench) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(walkabout::http::serve(listener, bench.runtime.clone(), std::future::pending()));
    url
}

async fn user(url: &str, email: &str) -> (Client, Caller) {
    let client = Client::user(url, email).await;
    let root = client.user["root_id"].as_str().unwrap().parse().unwrap();
    (client, Caller::user(root))
}

/// The lines of the stream, each as it came.
async fn lines(client: &Client, query: &str) -> Vec<Value> {
    let request = client.request(reqwest::Method::GET, &format!("/util/traverse-stream?{query}"));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let text = answer.text().await.unwrap();
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A city below the root, and a road from there to a shop and back: the ids of root, plain edge, city, both roads and shop.
async fn town(bench: &Bench, caller: &Caller) -> [ElementId; 6] {
    let made = bench.graph(caller, |cx| {
        Box::pin(async move {
            let root = cx.root().await?;
            let city = cx.create(City { name: "Ulm".to_owned() })?;
            let plain = cx.connect(&root, &city)?;
            let shop = cx.create(Shop {})?;
            let there = cx.connect_with(&city, &shop, Road { length: 7 })?;
            let back = cx.connect_with(&shop, &city, Road { length: 8 })?;
            Ok([root.id(), plain.id(), city.id(), there.id(), back.id(), shop.id()])
        })
    });
    made.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_around_a_root() {
    let bench = bench(1000).await;
    let url = serve(&bench).await;
    let (client, caller) = user(&url, "ann@example.com").await;
    let [root, plain, city, there, back, shop] = town(&bench, &caller).await;
    let at_root = json!({ "id": root, "edges": [plain] });
    let at_city = json!({ "id": city, "edges": [plain, there, back] });
    let at_shop = json!({ "id": shop, "edges": [there, back] });
    let link = json!({ "id": plain, "source": root, "target": city });
    let one_way = json!({ "id": there, "source": city, "target": shop });
    let other_way = json!({ "id": back, "source": shop, "target": city });
    let no: [&Value; 0] = [];
    let cases = [
        (String::new(), json!({ "edges": [link], "nodes": [at_root] })),
        ("depth=0".to_owned(), json!({ "edges": no, "nodes": [at_root] })),
        ("depth=2&detailed=false".to_owned(), json!({ "edges": [link], "nodes": [at_root, at_city] })),
        (
            "depth=-1".to_owned(),
            json!({ "edges": [link, one_way, other_way], "nodes": [at_root, at_city, at_shop] }),
        ),
        (format!("source={back}"), json!({ "edges": [other_way], "nodes": [at_shop, at_city] })),
        (
            "depth=-1&node_types=City".to_owned(),
            json!({ "edges": [link, one_way, other_way], "nodes": [at_root, at_city] }),
        ),
        ("depth=-1&edge_types=".to_owned(), json!({ "edges": [link], "nodes": [at_root, at_city] })),
        (
            "depth=-1&edge_types=&edge_types=Road&node_types=City&node_types=Shop".to_owned(),
            json!({ "edges": [link, one_way, other_way], "nodes": [at_root, at_city, at_shop] }),
        ),
        (
            format!("source={city}&depth=1&edge_types=Road&detailed=yes"),
            json!({
                "edges": [
                    { "id": there, "source": city, "target": shop, "archetype": { "length": 7 } },
                    { "id": back, "source": shop, "target": city, "archetype": { "length": 8 } },
                ],
                "nodes": [{ "id": city, "edges": [plain, there, back], "archetype": { "name": "Ulm" } }],
            }),
        ),
    ];
    for (query, wanted) in cases {
        assert_eq!(client.get(&format!("/util/traverse?{query}")).await, (200, wanted), "{query}");
    }
    let steps = [
        json!({ "nodes": [at_root] }),
        json!({ "edges": [link] }),
        json!({ "nodes": [at_city] }),
        json!({ "edges": [one_way, other_way] }),
        json!({ "nodes": [at_shop] }),
    ];
    assert_eq!(lines(&client, "depth=-1").await, steps);
    assert_eq!(lines(&client, "").await, steps[..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused() {
    let bench = bench(1000).await;
    let url = serve(&bench).await;
    let (ann, caller) = user(&url, "ann@example.com").await;
    let (bob, _) = user(&url, "bob@example.com").await;
    let [root, plain, city, ..] = town(&bench, &caller).await;
    for path in ["traverse", "traverse-stream"] {
        let ask = async |client: &Client, query: &str| client.get(&format!("/util/{path}?{query}")).await;
        assert_eq!(ask(&Client::anonymous(&url), "").await, (403, json!({ "detail": "Not authenticated" })));
        let unknown = ElementId::new(Kind::Node, city.name().clone(), bench.runtime.env().id());
        for id in [&root, &plain, &city, &unknown] {
            let answer = ask(&bob, &format!("source={id}")).await;
            assert_eq!(answer, (404, json!({ "detail": "Not Found" })), "{id}");
        }
        let walker = ElementId::new(Kind::Walker, city.name().clone(), city.uuid());
        for (query, name, kind) in [
            ("source=nothing".to_owned(), "source", "value_error"),
            (format!("source={walker}"), "source", "value_error"),
            ("depth=deep".to_owned(), "depth", "int_parsing"),
            ("detailed=perhaps".to_owned(), "detailed", "bool_parsing"),
        ] {
            let (status, answer) = ask(&ann, &query).await;
            assert_eq!(status, 422, "{answer}");
            assert_eq!(answer["detail"][0]["loc"], json!(["query", name]), "{answer}");
            assert_eq!(answer["detail"][0]["type"], kind, "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traverse_has_a_bound() {
    let bench = bench(700).await;
    let url = serve(&bench).await;
    let (client, caller) = user(&url, "ann@example.com").await;
    let built = bench.graph(&caller, |cx| {
        Box::pin(async move {
            let root = cx.root().await?;
            for n in 0..300_u32 {
                let city = cx.attach(&root, City { name: n.to_string() })?;
                cx.attach(&city, Shop {})?;
            }
            Ok(())
        })
    });
    built.await.unwrap();
    let (status, answer) = client.get("/util/traverse").await;
    assert_eq!((status, answer["edges"].as_array().unwrap().len()), (200, 300));
    let (status, answer) = client.get("/util/traverse?depth=2").await;
    assert_eq!((status, &answer["code"]), (413, &json!("traverse-too-large")));
    assert!(answer["detail"].as_str().unwrap().contains("node_types"), "{answer}");
    let mut lines = lines(&client, "depth=2").await;
    assert_eq!(lines.pop(), Some(answer));
    assert_eq!(lines[0]["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(lines[1]["edges"].as_array().unwrap().len(), 300);
}

/// An element of a made-up graph, in order of creation.
struct Made {
    id: ElementId,
    is_seen: bool,
    /// Of an edge: where among the elements its ends are.
    ends: Option<(usize, usize)>,
}

impl Made {
    fn fits(&self, types: &Option<Vec<String>>) -> bool {
        types.as_ref().is_none_or(|types| types.iter().any(|name| *name == self.id.name().as_str()))
    }
}

/// Dice that fall the same for each seed.
struct Dice(Env);

impl Dice {
    fn throw(&self, sides: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.random(&mut bytes);
        (u64::from_le_bytes(bytes) % sides as u64) as usize
    }

    fn is_one_of(&self, sides: usize) -> bool {
        self.throw(sides) == 0
    }

    fn types(&self, names: [&str; 2]) -> Option<Vec<String>> {
        let some = names.into_iter().filter(|_| !self.is_one_of(3)).map(str::to_owned).collect();
        if self.is_one_of(2) { None } else { Some(some) }
    }
}

/// Makes a graph of Bob's, of which Ann may see some. Some cities are hers.
async fn made_up(bench: &Bench, dice: Dice, ann: &Caller, bob: &Caller) -> (Vec<Made>, Dice) {
    let hers = bench.graph(ann, |cx| {
        Box::pin(async move {
            let city = cx.create(City { name: "hers".to_owned() })?;
            cx.grant(&city, Level::Connect)?;
            Ok(city.id())
        })
    });
    let hers = hers.await.unwrap();
    let made = bench.graph(bob, |cx| {
        Box::pin(async move {
            let city = cx.get::<Any>(&hers).await?.ok_or_else(|| fail("not seen"))?;
            let mut made = vec![Made { id: city.id(), is_seen: true, ends: None }];
            let mut nodes = vec![city];
            for _ in 0..dice.throw(9) {
                let is_city = dice.is_one_of(2);
                let node = if is_city {
                    cx.create(City { name: String::new() })?.any()
                } else {
                    cx.create(Shop {})?.any()
                };
                let is_seen = !dice.is_one_of(4);
                cx.grant(&node, if is_seen { Level::Read } else { Level::NoAccess })?;
                made.push(Made { id: node.id(), is_seen, ends: None });
                nodes.push(node);
            }
            for _ in 0..dice.throw(16) {
                let (from, to) = (dice.throw(nodes.len()), dice.throw(nodes.len()));
                let (source, target) = (&nodes[from], &nodes[to]);
                let edge = match dice.throw(3) {
                    0 => cx.connect(source, target)?.any(),
                    1 => cx.connect_with(source, target, Road { length: 1 })?.any(),
                    _ => cx.join_with(source, target, Road { length: 2 })?.any(),
                };
                let is_seen = !dice.is_one_of(4);
                cx.grant(&edge, if is_seen { Level::Read } else { Level::NoAccess })?;
                made.push(Made { id: edge.id(), is_seen, ends: Some((from, to)) });
            }
            Ok((made, dice))
        })
    });
    made.await.unwrap()
}

/// The same by looking at everything at each step.
fn model(made: &[Made], from: usize, wants: &Traverse) -> Value {
    let (mut nodes, mut edges) = (Vec::new(), Vec::new());
    let mut reached = BTreeSet::from([from]);
    let mut layer = vec![from];
    for step in 0.. {
        let mut next = Vec::new();
        for at in layer.into_iter().filter(|at| made[*at].is_seen) {
            let beyond: Vec<usize> = match made[at].ends {
                Some((source, target)) => {
                    let [source_id, target_id] = [&made[source].id, &made[target].id];
                    edges.push(json!({ "id": made[at].id, "source": source_id, "target": target_id }));
                    vec![source, target]
                }
                None => {
                    let touches =
                        |edge: &Made| edge.ends.is_some_and(|(one, other)| one == at || other == at);
                    let own = (0..made.len()).filter(|edge| touches(&made[*edge]) && made[*edge].is_seen);
                    let own: Vec<usize> = own.collect();
                    let ids: Vec<_> = own.iter().map(|edge| &made[*edge].id).collect();
                    nodes.push(json!({ "id": made[at].id, "edges": ids }));
                    own
                }
            };
            for one in beyond {
                let types = if made[one].ends.is_some() { &wants.edge_types } else { &wants.node_types };
                if made[one].fits(types) && reached.insert(one) {
                    next.push(one);
                }
            }
        }
        layer = next;
        if layer.is_empty() || wants.depth == Some(step) {
            break;
        }
    }
    json!({ "edges": edges, "nodes": nodes })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traverse_finds_what_a_plain_one_finds() {
    let bench = bench(1000).await;
    let (ann, bob) = (bench.register().await, bench.register().await);
    let mut listed = 0;
    for seed in 0..if is_on_mongodb() { 20 } else { 300 } {
        let dice = Dice(Env::manual(Timestamp::default(), seed));
        let (made, dice) = made_up(&bench, dice, &ann, &bob).await;
        let from = dice.throw(made.len());
        let wants = Traverse {
            source: Some(made[from].id.clone()),
            detailed: false,
            depth: if dice.is_one_of(2) { None } else { Some(dice.throw(5) as u64) },
            node_types: dice.types(["City", "Shop"]),
            edge_types: dice.types(["", "Road"]),
        };
        let wanted = model(&made, from, &wants);
        let found = match bench.runtime.traverse(&ann, wants.clone()).await.unwrap() {
            Some(traversal) => traversal.all().await.unwrap(),
            None => Traversed::default(),
        };
        listed += found.nodes.len();
        assert_eq!(serde_json::to_value(found).unwrap(), wanted, "seed {seed}: {wants:?}");
    }
    assert!(listed > 30, "{listed} nodes are no test");
}
