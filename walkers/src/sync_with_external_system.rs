use walkabout::prelude::*;

use crate::outside;

/// An item of the external system, hanging from the caller's root.
#[derive(Debug, Node, Serialize, Deserialize)]
pub struct ExternalItem {
    /// The account it belongs to.
    pub account_id: String,
    /// The external system's own id.
    pub external_id: String,
    /// The item as it came.
    pub data: Value,
}

/// Copies all items of an account into the caller's graph, page by page. Each page is a step of its own: killed at any moment, the
/// walker goes on at the page that was not committed, and no item is saved twice.
///
/// Pages: `GET {external_api}/accounts/{account_id}/items?cursor=` gives `{"items": [{"id", …}], "next": cursor or null}`. A page may
/// be asked for again after a crash; the request carries an `idempotency-key`.
#[derive(Debug, Walker, Serialize, Deserialize)]
#[walker(async)]
pub struct SyncWithExternalSystem {
    /// Letters, digits, `-`, `_` and `.`.
    pub account_id: String,
    /// pending, connecting, fetching, processing, complete.
    #[serde(default = "pending")]
    #[walker(excluded)]
    pub sync_status: String,
    /// `{id, node}` per item.
    #[serde(default)]
    #[walker(excluded)]
    pub sync_results: Vec<Value>,
    /// The page that comes next.
    #[serde(default)]
    #[walker(excluded)]
    cursor: String,
    /// The items of the present page.
    #[serde(default)]
    #[walker(excluded)]
    page: Vec<Value>,
    /// Whether another page comes after it.
    #[serde(default)]
    #[walker(excluded)]
    has_more: bool,
}

fn pending() -> String {
    "pending".to_owned()
}

#[abilities]
impl SyncWithExternalSystem {
    #[entry]
    async fn enter(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        self.at(cx, "connecting", "connect")
    }

    #[step]
    async fn connect(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.account_id.is_empty()
            || self.account_id.starts_with('.')
            || !self.account_id.bytes().all(is_plain)
        {
            return Err(fail("account_id may have letters, digits, '-', '_' and '.'"));
        }
        if cx.config().external_api.is_none() {
            return Err(fail("no external system is configured: start the server with --external-api"));
        }
        self.at(cx, "fetching", "fetch")
    }

    #[step]
    async fn fetch(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let api = cx.config().external_api.clone().unwrap_or_default();
        let cursor: String = self.cursor.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let url = format!("{}/accounts/{}/items?cursor={cursor}", api.trim_end_matches('/'), self.account_id);
        let allow_private = cx.config().allow_private_addresses;
        let key = format!("{}/{}", cx.idempotency_key(), self.sync_results.len());
        let answer = tokio::task::spawn_blocking(move || outside::get(&url, allow_private, &key))
            .await?
            .map_err(fail)?;
        let Some(items) = answer.get("items").and_then(Value::as_array) else {
            return Err(fail("the external system's answer has no list of items"));
        };
        self.page.clone_from(items);
        let next = answer.get("next").and_then(Value::as_str);
        self.has_more = next.is_some();
        next.unwrap_or_default().clone_into(&mut self.cursor);
        self.at(cx, "processing", "process")
    }

    #[step]
    async fn process(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        for data in std::mem::take(&mut self.page) {
            let external_id = match data.get("id") {
                Some(Value::String(id)) => id.clone(),
                Some(other) => other.to_string(),
                None => return Err(fail("an item of the external system has no id")),
            };
            let item =
                ExternalItem { account_id: self.account_id.clone(), external_id: external_id.clone(), data };
            let node = cx.attach(&here, item)?;
            self.sync_results.push(json!({ "id": external_id, "node": node.id() }));
        }
        cx.progress(json!({ "items": self.sync_results.len() }));
        if self.has_more {
            return self.at(cx, "fetching", "fetch");
        }
        self.at(cx, "complete", "complete")
    }

    #[step]
    async fn complete(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }

    /// Goes on in another step, everything so far committed under a new word.
    fn at(&mut self, cx: &mut Context, status: &str, step: &'static str) -> Outcome {
        status.clone_into(&mut self.sync_status);
        cx.checkpoint();
        cx.then(step)
    }
}
