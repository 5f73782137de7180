//! Webhook keys, and the walkers that are called with them.

use reqwest::Method;
use serde_json::{Value, json};
use walkabout::{env::Env, schema::Timestamp};

use crate::support::{Client, Server, example, told};

fn till() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example("hooks"), folder.path(), &[]);
    (server, folder)
}

async fn ask(client: &Client, method: Method, path: &str, body: Value) -> (u16, Value) {
    client.send(client.request(method, path).json(&body)).await
}

/// Makes a key; gives its id and its text.
async fn key(client: &Client, wanted: Value) -> (String, String) {
    let (status, made) = client.post("/webhook/generate-key", &wanted).await;
    assert_eq!((status, &made["name"]), (201, &wanted["name"]), "{made}");
    assert_eq!(made.as_object().unwrap().len(), 3);
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

/// Calls `take` with a key in its header.
async fn take(client: &Client, key: &str, path: &str) -> (u16, Value) {
    let request = client.request(Method::POST, path).header("X-API-KEY", key);
    client.send(request.json(&json!({ "cents": 5 }))).await
}

fn detail(text: &str) -> Value {
    json!({ "detail": text })
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_extended_and_deleted() {
    let (mut server, folder) = till();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let ben = Client::user(&server.url, "ben@example.com").await;
    assert_eq!(ann.get("/webhook").await, (200, json!({ "keys": [] })));
    let (shop, text) = key(&ann, json!({ "name": "shop" })).await;
    let root = ann.user["root_id"].as_str().unwrap();
    let parts: Vec<_> = text.split(':').collect();
    assert_eq!((parts.len(), parts[0], parts[2].len()), (3, root, 32), "{text}");
    let age = Env::system().now().millis() / 1000 - parts[1].parse::<i64>().unwrap();
    assert!((0..600).contains(&age), "{text}");
    let span = json!({ "count": 2, "interval": "hours" });
    let wanted = json!({ "name": "bar", "walkers": ["take"], "nodes": ["root"], "expiration": span });
    let (bar, _) = key(&ann, wanted).await;
    let again = ann.post("/webhook/generate-key", &json!({ "name": "bar" })).await;
    assert_eq!(again, (409, detail("Already Exists!")));
    key(&ben, json!({ "name": "bar" })).await;

    let listed = ann.get("/webhook").await.1["keys"].clone();
    let end = |key: &Value| serde_json::from_value::<Timestamp>(key["expiration"].clone()).unwrap();
    assert_eq!(
        listed,
        json!([
            { "id": shop, "name": "shop", "root_id": root, "walkers": [], "nodes": [], "expiration": listed[0]["expiration"], "key": text },
            { "id": bar, "name": "bar", "root_id": root, "walkers": ["take"], "nodes": ["root"], "expiration": listed[1]["expiration"], "key": listed[1]["key"] },
        ])
    );
    let hours = end(&listed[0]).since(end(&listed[1])).as_secs() / 3600;
    assert!((60 * 24 - 3..=60 * 24 - 2).contains(&hours), "sixty days unless asked otherwise: {hours}");

    let longer = json!({ "count": 3, "interval": "minutes" });
    let extend = async |client: &Client, id: &str, body: &Value| {
        ask(client, Method::PATCH, &format!("/webhook/extend/{id}"), body.clone()).await
    };
    let extended = extend(&ann, &bar, &longer).await;
    assert_eq!(extended, (200, json!({ "message": "Successfully Extended!" })));
    let after = end(&ann.get("/webhook").await.1["keys"][1]);
    assert_eq!(after.since(end(&listed[1])).as_secs(), 180);
    let not_found = (404, detail("Not Found"));
    for id in [bar.as_str(), "no-id", "00000000000000000000000000000000"] {
        assert_eq!(extend(&ben, id, &longer).await, not_found, "unknown and foreign alike");
    }
    let far = json!({ "count": 36_500 });
    let too_far = (409, detail("A key ends within a hundred years: extend it by less"));
    assert_eq!(extend(&ann, &bar, &far).await, too_far);
    let none = json!({ "count": 0 });
    assert_eq!(told(&extend(&ann, &bar, &none).await), ["greater_than body.count"]);
    let nothing = ann.request(Method::PATCH, &format!("/webhook/extend/{bar}"));
    assert_eq!(told(&ann.send(nothing).await), ["missing body"]);

    let delete = async |client: &Client, ids: Value| {
        ask(client, Method::DELETE, "/webhook/delete", json!({ "ids": ids })).await
    };
    assert_eq!(delete(&ben, json!([shop])).await, not_found);
    assert_eq!(delete(&ann, json!([shop, "00000000000000000000000000000000"])).await, not_found);
    assert_eq!(ann.get("/webhook").await.1["keys"].as_array().unwrap().len(), 2, "nothing was deleted");
    assert_eq!(take(&ann, &text, "/webhook/walker/take").await.0, 200);
    assert_eq!(delete(&ann, json!([shop])).await, (200, json!({ "message": "Successfully Deleted!" })));
    let unauthorized = (401, detail("Unauthorized"));
    assert_eq!(take(&ann, &text, "/webhook/walker/take").await, unauthorized, "from then on");
    let bar = ann.get("/webhook").await.1["keys"][0]["key"].as_str().unwrap().to_owned();

    server.kill();
    let server = Server::start(&example("hooks"), folder.path(), &[]);
    let there = Client::anonymous(&server.url);
    assert_eq!(take(&there, &text, "/webhook/walker/take").await, unauthorized);
    assert_eq!(take(&there, &bar, "/webhook/walker/take").await.0, 200, "keys outlive a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_ended_can_be_extended() {
    let (server, _folder) = till();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let second = json!({ "count": 1, "interval": "seconds" });
    let (id, text) = key(&ann, json!({ "name": "short", "expiration": second })).await;
    while take(&ann, &text, "/webhook/walker/take").await.0 != 401 {}
    assert_eq!(ann.get("/webhook").await.1["keys"][0]["key"], json!(text), "it is listed still");
    let extended = ask(&ann, Method::PATCH, &format!("/webhook/extend/{id}"), json!({ "count": 1 })).await;
    assert_eq!(extended.0, 200);
    assert_eq!(take(&ann, &text, "/webhook/walker/take").await.0, 200);
}

/// Two shops with keys of one user know nothing of each other's requests.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_named_by_the_holder_of_a_key() {
    let (server, _folder) = till();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let nobody = Client::anonymous(&server.url);
    let (_, one) = key(&ann, json!({ "name": "one" })).await;
    let (_, other) = key(&ann, json!({ "name": "other" })).await;
    let order = async |key: &str| {
        let request = nobody.request(Method::POST, "/webhook/walker/take").header("X-API-KEY", key);
        let request = request.header("Idempotency-Key", "order-1").json(&json!({ "cents": 5 }));
        request.send().await.unwrap().headers().contains_key("x-idempotent-replay")
    };
    assert_eq!([order(&one).await, order(&other).await, order(&one).await], [false, false, true]);
    let count = nobody.get(&format!("/webhook/walker/count?key={one}")).await.1["reports"].clone();
    assert_eq!(count, json!([10]));

    // A walker that looks at no key is the same to all.
    let hello = async |key: &str| {
        let request = nobody.request(Method::POST, "/webhook/walker/try").header("Idempotency-Key", "a");
        nobody.send(request.json(&json!({ "word": "hello", "key": key }))).await
    };
    assert_eq!(hello("a").await, (200, json!({ "status": 200, "reports": ["hello"] })));
    assert_eq!(hello("b").await.0, 200, "the key is no part of the request");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_make_a_key() {
    let (server, _folder) = till();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let make = async |body: Value| ann.post("/webhook/generate-key", &body).await;
    for (body, wanted) in [
        (json!({}), vec!["missing body.name"]),
        (json!([]), vec!["model_attributes_type body"]),
        (json!({ "name": "" }), vec!["string_too_short body.name"]),
        (json!({ "name": 5, "walkers": "take" }), vec!["string_type body.name", "list_type body.walkers"]),
        (json!({ "name": "x", "nodes": ["a", ""] }), vec!["string_too_short body.nodes.1"]),
        (json!({ "name": "x".repeat(256) }), vec!["string_too_long body.name"]),
        (json!({ "name": "x", "walkers": vec!["w"; 101] }), vec!["too_long body.walkers"]),
    ] {
        assert_eq!(told(&make(body).await), wanted);
    }
    for (span, wanted) in [
        (json!({ "count": 0 }), "greater_than body.expiration.count"),
        (json!({ "count": -1 }), "greater_than body.expiration.count"),
        (json!({ "count": "60" }), "int_type body.expiration.count"),
        (json!({ "count": 1.0 }), "int_type body.expiration.count"),
        (json!({ "count": 36_501 }), "less_than_equal body.expiration.count"),
        (json!({ "count": 1, "interval": "weeks" }), "enum body.expiration.interval"),
        (json!(5), "dataclass_type body.expiration"),
    ] {
        let answer = make(json!({ "name": "x", "expiration": span })).await;
        assert_eq!(told(&answer), [wanted], "{}", answer.1);
    }
    let empty = ask(&ann, Method::DELETE, "/webhook/delete", json!({ "ids": [] })).await;
    assert_eq!(told(&empty), ["too_short body.ids"]);
    let nothing = ann.send(ann.request(Method::POST, "/webhook/generate-key")).await;
    assert_eq!(told(&nothing), ["missing body"]);

    // Who asks comes before what is asked.
    let nobody = Client::anonymous(&server.url);
    let not_authenticated = (403, detail("Not authenticated"));
    let id = "00000000000000000000000000000000";
    assert_eq!(nobody.get("/webhook").await, not_authenticated);
    for (method, path) in [
        (Method::POST, "/webhook/generate-key".to_owned()),
        (Method::PATCH, format!("/webhook/extend/{id}")),
        (Method::DELETE, "/webhook/delete".to_owned()),
    ] {
        assert_eq!(ask(&nobody, method, &path, json!([])).await, not_authenticated, "{path}");
    }
    let made = (0..100).map(|n| {
        let ann = ann.clone();
        async move { ann.post("/webhook/generate-key", &json!({ "name": n.to_string() })).await.0 }
    });
    let made = futures_util::future::join_all(made).await;
    assert!(made.iter().all(|status| *status == 201), "{made:?}");
    assert_eq!(make(json!({ "name": "one more" })).await.0, 409);
    let ben = Client::user(&server.url, "ben@example.com").await;
    let long = |name: &str| json!({ "name": name, "walkers": vec!["w".repeat(255); 100] });
    let made = [
        ben.post("/webhook/generate-key", &long("one")).await.0,
        ben.post("/webhook/generate-key", &long("two")).await.0,
        ben.post("/webhook/generate-key", &long("three")).await.0,
    ];
    assert_eq!(made, [201, 201, 409], "a user's keys take 64 KiB at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn walkers_are_called_with_keys() {
    let (server, _folder) = till();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let nobody = Client::anonymous(&server.url);
    let (_, text) = key(&ann, json!({ "name": "all" })).await;

    // In each place; a login counts for nothing.
    let (status, took) = take(&nobody, &text, "/webhook/walker/take").await;
    assert_eq!(status, 200, "{took}");
    let drawer = took["reports"][0].as_str().unwrap().to_owned();
    assert_eq!(take(&nobody, &text, &format!("/webhook/walker/take/{drawer}")).await.0, 200);
    let count = async || nobody.get(&format!("/webhook/walker/count?key={text}")).await;
    assert_eq!(count().await, (200, json!({ "status": 200, "reports": [10] })));
    assert_eq!(nobody.get(&format!("/coins/{text}/205")).await.1["reports"], json!(["2.05"]));
    let at_drawer = nobody.get(&format!("/coins/{text}/205/{drawer}")).await;
    assert_eq!(at_drawer.1["reports"], json!(["2.05"]));
    let last = nobody.get(&format!("/webhook/walker/count?key=none&key={text}")).await;
    assert_eq!(last.0, 200, "of several the last one counts");
    let (status, answer) = nobody.post("/webhook/walker/empty", &json!({ "secret": text })).await;
    assert_eq!((status, &answer["status"]), (200, &json!(200)), "{answer}");
    assert_eq!(
        answer.as_object().unwrap().len(),
        2,
        "the run has an owner, so there is no run_token: {answer}"
    );
    let record = ann.finished(answer["walker_id"].as_str().unwrap()).await;
    assert_eq!(record["schedule"]["reports"], json!([10]));
    assert_eq!(count().await.1["reports"], json!([0]));
    let hello = nobody.post("/webhook/walker/try", &json!({ "word": "hello" })).await;
    assert_eq!(hello.1["reports"], json!(["hello"]));

    let (absent, bad) = ((403, detail("Not authenticated")), (401, detail("Unauthorized")));
    for asker in [&nobody, &ann] {
        assert_eq!(asker.post("/webhook/walker/take", &json!({ "cents": 1 })).await, absent);
        assert_eq!(asker.get("/webhook/walker/count").await, absent);
        assert_eq!(asker.get("/webhook/walker/count?key=").await, absent);
        assert_eq!(asker.post("/webhook/walker/empty", &json!({})).await, absent);
        assert_eq!(asker.send(asker.request(Method::POST, "/webhook/walker/empty")).await, absent);
        let not_found = (404, detail("Not Found"));
        assert_eq!(asker.post("/walker/take", &json!({ "cents": 1 })).await, not_found);
    }
    let root = ann.user["root_id"].as_str().unwrap();
    let other = Client::user(&server.url, "ben@example.com").await.user["root_id"].clone();
    let secret = text.rsplit(':').next().unwrap();
    for wrong in [
        "no key".to_owned(),
        format!("{text}0"),
        format!("{root}:1:{secret}"),
        text.replacen(root, other.as_str().unwrap(), 1),
        text.replacen(secret, &"0".repeat(32), 1),
    ] {
        assert_eq!(take(&nobody, &wrong, "/webhook/walker/take").await, bad, "{wrong}");
        assert_eq!(nobody.get(&format!("/webhook/walker/count?key={wrong}")).await, bad);
        assert_eq!(nobody.get(&format!("/coins/{}/1", wrong.replace(' ', "%20"))).await, bad);
        assert_eq!(nobody.post("/webhook/walker/empty", &json!({ "secret": wrong })).await, bad);
    }
    assert_eq!(nobody.post("/webhook/walker/empty", &json!({ "secret": 5 })).await, bad);
    let no_text = nobody.request(Method::POST, "/webhook/walker/take").header("x-api-key", &b"\xff"[..]);
    assert_eq!(nobody.send(no_text.json(&json!({ "cents": 1 }))).await, bad);

    // Over the WebSocket there are logins, and no keys.
    let event = json!({ "type": "walker", "walker": "take", "response": true, "context": { "cents": 7 } });
    let refused = nobody.socket().await.ask(event.clone()).await;
    assert!(refused["error"].as_str().unwrap().contains("authenticated"), "{refused}");
    assert_eq!(ann.socket().await.ask(event).await["status"], 200);
    assert_eq!(count().await.1["reports"], json!([7]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_what_it_lists() {
    let (server, _folder) = till();
    let ann = Client::user(&server.url, "ann@example.com").await;
    let nobody = Client::anonymous(&server.url);
    let (_, of_roots) = key(&ann, json!({ "name": "a", "walkers": ["take"], "nodes": ["root"] })).await;
    let (_, of_drawers) = key(&ann, json!({ "name": "b", "nodes": ["Drawer"] })).await;
    let (_, of_others) = key(&ann, json!({ "name": "c", "walkers": ["count"] })).await;
    let forbidden = (403, detail("Forbidden"));
    let (status, took) = take(&nobody, &of_roots, "/webhook/walker/take").await;
    assert_eq!(status, 200);
    let at_drawer = format!("/webhook/walker/take/{}", took["reports"][0].as_str().unwrap());
    assert_eq!(take(&nobody, &of_roots, &at_drawer).await, forbidden);
    assert_eq!(take(&nobody, &of_drawers, "/webhook/walker/take").await, forbidden);
    assert_eq!(take(&nobody, &of_drawers, &at_drawer).await.0, 200);
    assert_eq!(take(&nobody, &of_others, "/webhook/walker/take").await, forbidden);
    assert_eq!(nobody.get(&format!("/webhook/walker/count?key={of_others}")).await.0, 200);

    let (_, of_alias) = key(&ann, json!({ "name": "d", "walkers": ["receive"] })).await;
    for path in ["/webhook/walker/take", "/webhook/walker/receive"] {
        assert_eq!(take(&nobody, &of_alias, path).await.0, 200);
        assert_eq!(take(&nobody, &of_roots, path).await.0, 200);
    }

    // In the order of the checks: JSON, key, fields, node, what the key is for, access.
    let post = async |key: &str, path: &str, body: &str| {
        let request = nobody.request(Method::POST, path).header("x-api-key", key);
        nobody.send(request.body(body.to_owned())).await
    };
    assert_eq!(told(&post("no key", "/webhook/walker/take", "{").await), ["json_invalid body.1"]);
    assert_eq!(post("no key", "/webhook/walker/take", "{}").await.0, 401);
    assert_eq!(told(&post(&of_others, "/webhook/walker/take", "{}").await), ["missing body.cents"]);
    let nowhere = "/webhook/walker/take/n:Drawer:00000000-0000-0000-0000-00000000abcd";
    assert_eq!(post(&of_others, nowhere, r#"{"cents":1}"#).await.0, 404);
    let ben = Client::user(&server.url, "ben@example.com").await;
    let (_, of_ben) = key(&ben, json!({ "name": "all" })).await;
    let (_, of_ben_roots) = key(&ben, json!({ "name": "roots", "nodes": ["root"] })).await;
    assert_eq!(post(&of_ben_roots, &at_drawer, r#"{"cents":1}"#).await, forbidden);
    let (status, refused) = post(&of_ben, &at_drawer, r#"{"cents":1}"#).await;
    assert_eq!(status, 403);
    assert!(refused["detail"]["error"].as_str().unwrap().contains("target entry"), "{refused}");
}
