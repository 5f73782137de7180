//! The main job on real input, as the example prints it.

use std::collections::HashMap;

use petgraph::{graph::DiGraph, visit::Bfs};
use serde_json::{Value, json};

use crate::support::{Client, Server, example};

/// Hops from one airport, computed from the file without our engine.
fn expected(from: &str) -> HashMap<String, u64> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/airports/flights-airport.csv");
    let mut graph = DiGraph::<String, ()>::new();
    let mut nodes = HashMap::new();
    for row in csv::Reader::from_path(folder).unwrap().records() {
        let row = row.unwrap();
        let mut node =
            |code: &str| *nodes.entry(code.to_owned()).or_insert_with(|| graph.add_node(code.to_owned()));
        let (origin, destination) = (node(&row[0]), node(&row[1]));
        graph.add_edge(origin, destination, ());
    }
    let mut hops = HashMap::from([(nodes[from], 0)]);
    let mut walk = Bfs::new(&graph, nodes[from]);
    while let Some(node) = walk.next(&graph) {
        let next = hops[&node] + 1;
        for neighbour in graph.neighbors(node) {
            hops.entry(neighbour).or_insert(next);
        }
    }
    hops.into_iter()
        .map(|(node, hops)| (graph[node].clone(), hops))
        .filter(|(code, _)| code != from)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_counts_are_those_of_an_independent_computation() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("airports"), folder.path(), &[]);
    let ann = Client::user(&server.url, "ann@example.com").await;
    let built = json!({ "status": 200, "reports": [{ "airports": 3376, "flights": 5366 }] });
    for _ in 0..2 {
        assert_eq!(ann.post("/walker/build_airports", &json!({})).await, (200, built.clone()));
    }
    for from in ["SFO", "ABE", "ADK"] {
        let id = ann.submit("hops", &json!({ "from": from })).await;
        let record = ann.finished(&id).await;
        let report = &record["schedule"]["reports"][0];
        let hops: HashMap<String, u64> = serde_json::from_value(report["hops"].clone()).unwrap();
        assert_eq!(hops, expected(from), "{from}");
        assert_eq!(report["unreachable"], 3376 - 1 - hops.len());
        assert_eq!(
            report["busiest"].as_array().unwrap().len().min(10),
            report["busiest"].as_array().unwrap().len()
        );
        let ring = |n| hops.values().filter(|hops| **hops == n).count();
        if from == "SFO" {
            assert_eq!((ring(1), ring(2), ring(3)), (74, 224, 5));
        }
    }
    let id = ann.submit("hops", &json!({ "from": "XXX" })).await;
    assert_eq!(ann.finished(&id).await["schedule"]["status"], Value::from("failed"));

    // `follow` shows a run to its end.
    let id = ann.submit("hops", &json!({ "from": "SFO" })).await;
    let mut follow = std::process::Command::new(example("airports"));
    follow.args(["follow", &id, "--url", &server.url, "--token", ann.token.as_deref().unwrap()]);
    let followed = tokio::task::spawn_blocking(move || follow.output().unwrap()).await.unwrap();
    assert!(followed.status.success());
    let text = String::from_utf8(followed.stdout).unwrap();
    assert!(
        text.contains("accepted") && text.contains("progress") && text.trim_end().ends_with("completed"),
        "{text}"
    );
}

/// Whatever the calls met, there is one graph, and it is whole.
#[tokio::test(flavor = "multi_thread")]
async fn one_graph_is_built_by_calls_that_are_killed_and_calls_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let built = (200, json!({ "status": 200, "reports": [{ "airports": 3376, "flights": 5366 }] }));
    let mut server = Server::start(&example("airports"), folder.path(), &[]);
    let mut ann = Client::user(&server.url, "ann@example.com").await;
    for millis in [20, 60, 120, 240, 480] {
        let caller = ann.clone();
        let call = tokio::spawn(async move {
            let body = json!({});
            drop(caller.request(reqwest::Method::POST, "/walker/build_airports").json(&body).send().await);
        });
        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
        server.kill();
        call.await.unwrap();
        server = Server::start(&example("airports"), folder.path(), &[]);
        ann.url.clone_from(&server.url);
    }
    assert_eq!(ann.post("/walker/build_airports", &json!({})).await, built);

    let bob = Client::user(&server.url, "bob@example.com").await;
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let bob = bob.clone();
            tokio::spawn(async move { bob.post("/walker/build_airports", &json!({})).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), built);
    }
    for client in [ann, bob] {
        assert_eq!(client.post("/walker/build_airports", &json!({})).await, built);
        let id = client.submit("hops", &json!({ "from": "SFO" })).await;
        let record = client.finished(&id).await;
        assert_eq!(record["schedule"]["reports"][0]["hops"].as_object().unwrap().len(), 303);
    }
}
