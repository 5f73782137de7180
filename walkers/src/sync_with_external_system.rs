use std::collections::{HashSet, VecDeque};

use walkabout::{prelude::*, schema::Fields};

use crate::{outside, page};

/// Pages and items that one account may have.
const PAGES_MAX: u32 = 10_000;
const ITEMS_MAX: usize = 100_000;
/// Items in one commit.
const PART: usize = 500;
/// What a commit counts for an item beside its fields: the names and ids of the node and of the edge to it.
const ITEM_OVERHEAD: usize = 300;

/// An item of the external system, hanging from the caller's root.
#[derive(Debug, Node, Serialize, Deserialize)]
pub struct ExternalItem {
    /// The account it belongs to.
    pub account_id: String,
    /// The external system's own id; a number as it is written.
    pub external_id: String,
    /// The item as it came; whole numbers beyond 64 bits as texts.
    pub data: Value,
}

/// Copies all items of an account into the caller's graph, page by page, and each page in parts that are committed one by one.
/// Killed at any moment, the walker asks for its page again and goes on; an item whose id came before is passed over, so none is
/// saved twice. A run that fails keeps what it had saved, and its `sync_results` say what that is.
///
/// Pages: `GET {external_api}/accounts/{account_id}/items?cursor=` gives `{"items": [{"id", …}], "next": cursor}`; an id or a cursor
/// is a text or a number, and `next` is null, empty or absent on the last page. A page may be asked for again after a crash; the
/// request carries an `idempotency-key`. An account has at most 10,000 pages and 100,000 items.
///
/// Beside what is documented the record has `page_at`: where a run that is taken up again goes on.
#[derive(Debug, Walker, Serialize, Deserialize)]
#[walker(async)]
pub struct SyncWithExternalSystem {
    /// Letters, digits, `-`, `_` and `.`.
    pub account_id: String,
    /// pending, connecting, fetching, processing, complete.
    #[serde(default = "pending")]
    #[walker(excluded)]
    pub sync_status: String,
    /// `{id, node}` per item that is saved.
    #[serde(default)]
    #[walker(excluded)]
    pub sync_results: Vec<Value>,
    /// The page that the walker is at.
    #[serde(default)]
    #[walker(excluded)]
    page_at: PageAt,
    /// What is left of that page. Not kept: it is another system's, and can be asked for again.
    #[serde(skip)]
    left: Option<Left>,
}

/// Where a page is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PageAt {
    /// Pages before it.
    number: u32,
    /// What it is asked for with; nothing for the first.
    cursor: String,
}

/// Items of a page that are to be saved, each with its bytes in a commit, and the cursor after them.
#[derive(Debug)]
struct Left {
    items: VecDeque<(ExternalItem, usize)>,
    next: String,
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
        self.left = Some(self.load(cx).await?);
        self.at(cx, "processing", "process")
    }

    /// Saves a part of the page that one commit takes for sure: were it refused, the results would claim what is not there.
    #[step]
    async fn process(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let mut left = match self.left.take() {
            Some(left) => left,
            None => self.load(cx).await?,
        };
        // Each item is a node and an edge.
        let part = PART.min(cx.config().commit_changes_max / 2).max(1);
        let mut room = cx.config().commit_bytes_max;
        let mut saved = Vec::new();
        while saved.len() < part
            && let Some((item, bytes)) = left.items.pop_front_if(|(_, bytes)| *bytes <= room)
        {
            room -= bytes;
            let id = item.external_id.clone();
            let node = cx.attach(&here, item)?;
            saved.push(json!({ "id": id, "node": node.id() }));
        }
        self.sync_results.append(&mut saved);
        cx.progress(json!({ "items": self.sync_results.len() }));
        if !left.items.is_empty() {
            self.left = Some(left);
            return self.at(cx, "processing", "process");
        }
        if left.next.is_empty() {
            // Complete is only what has been committed.
            return self.at(cx, "processing", "complete");
        }
        self.page_at = PageAt { number: self.page_at.number + 1, cursor: left.next };
        self.at(cx, "fetching", "fetch")
    }

    #[step]
    async fn complete(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        "complete".clone_into(&mut self.sync_status);
        DONE
    }

    /// Goes on in another step, everything so far committed under a new word.
    fn at(&mut self, cx: &mut Context, status: &str, step: &'static str) -> Outcome {
        status.clone_into(&mut self.sync_status);
        cx.checkpoint();
        cx.then(step)
    }

    /// Asks for the page that the walker is at, and checks all of it before any of it is saved.
    async fn load(&self, cx: &mut Context) -> Result<Left, Failure> {
        let api = cx.config().external_api.clone().unwrap_or_default();
        let cursor: String = self.page_at.cursor.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let url = format!("{}/accounts/{}/items?cursor={cursor}", api.trim_end_matches('/'), self.account_id);
        let allow_private = cx.config().allow_private_addresses;
        let key = format!("{}/{}", cx.idempotency_key(), self.page_at.number);
        let read = move || page::read(&outside::get(&url, allow_private, &key)?);
        let page = tokio::task::spawn_blocking(read).await?.map_err(fail)?;
        self.page_at.check_next(&page.next).map_err(fail)?;
        let saved = self.sync_results.iter().filter_map(|result| result.get("id")?.as_str());
        let mut known: HashSet<String> = saved.map(str::to_owned).collect();
        let room = cx.config().commit_bytes_max;
        let mut items = VecDeque::new();
        for page::Item { id, data } in page.items {
            if !known.insert(id.clone()) {
                continue;
            }
            let item = ExternalItem { account_id: self.account_id.clone(), external_id: id, data };
            let fields = Fields::encode(&item)
                .map_err(|error| fail(format!("an item of the external system cannot be stored: {error}")))?;
            let bytes = fields.0.as_bytes().len() + ITEM_OVERHEAD;
            if bytes > room {
                return Err(fail(format!(
                    "an item of the external system takes {bytes} bytes; commit_bytes_max is {room}"
                )));
            }
            items.push_back((item, bytes));
        }
        if known.len() > ITEMS_MAX {
            return Err(fail(format!("the account has more than {ITEMS_MAX} items")));
        }
        Ok(Left { items, next: page.next })
    }
}

impl PageAt {
    /// Refuses what would never end.
    fn check_next(&self, next: &str) -> Result<(), String> {
        if next.is_empty() {
            return Ok(());
        }
        if next == self.cursor {
            return Err(
                "the external system gave the cursor just asked for as that of the next page".to_owned()
            );
        }
        if self.number + 1 >= PAGES_MAX {
            return Err(format!("the account has more than {PAGES_MAX} pages"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_ends() {
        let at = |number, cursor: &str| PageAt { number, cursor: cursor.to_owned() };
        assert_eq!(at(0, "").check_next(""), Ok(()));
        assert_eq!(at(0, "").check_next("a"), Ok(()));
        assert_eq!(at(PAGES_MAX - 2, "a").check_next("b"), Ok(()));
        assert_eq!(at(PAGES_MAX - 1, "a").check_next(""), Ok(()));
        assert!(at(PAGES_MAX - 1, "a").check_next("b").unwrap_err().contains("10000 pages"));
        assert!(at(1, "a").check_next("a").unwrap_err().contains("just asked for"));
    }
}
