//! The queries of §5.6.

use serde_json::{Value, json};

use super::{
    app::{detail, node},
    rows,
};
use crate::support::{Client, told};

/// The reply, and the ids of its nodes.
async fn traverse(client: &Client, query: &str) -> (Value, Vec<String>) {
    let (status, reply) = client.get(&format!("/util/traverse{query}")).await;
    assert_eq!(status, 200, "{reply}");
    let ids = reply["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned());
    let ids = ids.collect();
    (reply, ids)
}

rows! { "5.6 traverse";
    source "`source`" "of what the caller may read: unknown and foreign alike are 404, a malformed one is 422" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let node = node(&ann, "NO_ACCESS").await;
        let (reply, nodes) = traverse(&ann, "").await;
        let edge = reply["edges"][0]["id"].as_str().unwrap();
        let wanted = json!({
            "edges": [{ "id": edge, "source": nodes[0], "target": node }],
            "nodes": [{ "id": nodes[0], "edges": [edge] }],
        });
        assert_eq!(reply, wanted, "the root, and one step from it");
        assert_eq!(traverse(&ann, &format!("?source={node}")).await.1, vec![node.clone()]);
        let (reply, nodes) = traverse(&ann, &format!("?source={edge}")).await;
        assert_eq!((nodes.len(), reply["edges"].as_array().unwrap().len()), (2, 1), "an edge, and its ends");
        for source in [node.as_str(), edge, "n:A:0191c5a0-0000-7000-8000-000000000000"] {
            let answer = ben.get(&format!("/util/traverse?source={source}")).await;
            assert_eq!(answer, (404, detail(json!("Not Found"))), "{source}");
        }
        assert_eq!(told(&ann.get("/util/traverse?source=7").await), ["value_error query.source"]);
        assert_eq!(app.nobody().get("/util/traverse").await, (403, detail(json!("Not authenticated"))));
    }
    detailed "`detailed`" |app| {
        let ann = app.user().await;
        let node = node(&ann, "NO_ACCESS").await;
        let (reply, _) = traverse(&ann, &format!("?source={node}&detailed=true")).await;
        assert_eq!(reply["nodes"][0]["archetype"], json!({ "val": 1 }));
        assert_eq!(reply["edges"][0]["archetype"], json!({ "w": 2 }));
        let (reply, _) = traverse(&ann, &format!("?source={node}")).await;
        assert!(reply["nodes"][0].get("archetype").is_none() && reply["edges"][0].get("archetype").is_none());
    }
    depth "`depth`" |app| {
        let ann = app.user().await;
        node(&ann, "NO_ACCESS").await;
        let counted = async |depth: &str| {
            let (reply, nodes) = traverse(&ann, &format!("?depth={depth}")).await;
            (nodes.len(), reply["edges"].as_array().unwrap().len())
        };
        assert_eq!(
            [counted("0").await, counted("1").await, counted("2").await, counted("-1").await],
            [(1, 0), (1, 1), (2, 1), (2, 1)]
        );
    }
    types "`node_types`, `edge_types`" |app| {
        let ann = app.user().await;
        node(&ann, "NO_ACCESS").await;
        let (reply, nodes) = traverse(&ann, "?depth=-1&node_types=B").await;
        assert_eq!((nodes.len(), reply["edges"].as_array().unwrap().len()), (1, 1), "the edge is listed all the same");
        assert_eq!(traverse(&ann, "?depth=-1&node_types=A&node_types=B&edge_types=E1").await.1.len(), 2);
    }
    stream "GET `/util/traverse-stream`" "without pauses" |app| {
        let ann = app.user().await;
        node(&ann, "NO_ACCESS").await;
        let request = ann.request(reqwest::Method::GET, "/util/traverse-stream?depth=-1");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        let text = answer.text().await.unwrap();
        let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let members = steps.iter().map(|step| step.as_object().unwrap().keys().next().unwrap().as_str());
        assert_eq!(members.collect::<Vec<_>>(), ["nodes", "edges", "nodes"]);
        assert!(steps.iter().all(|step| step.as_object().unwrap().len() == 1));
    }
}
