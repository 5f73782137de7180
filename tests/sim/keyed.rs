//! Requests under the caller's own name for them: sent again at any moment, also when the answer was lost or the process ended.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};
use walkabout::{
    Error,
    runtime::{Runtime, Spawn, Spawned},
    store::RunFilter,
};

use crate::{
    Sim, fields,
    model::{Known, Submission},
};

/// Added to the tag where another request takes the name: it would leave an entry that nobody submitted.
const OTHER: u64 = 1_000_000;

impl Sim {
    /// Submits under a name, often more than once at a time.
    pub async fn submit_keyed(self, runtime: Runtime, user: usize) {
        const WALKERS: [&str; 3] = ["increment", "steps", "plainly"];
        let walker = WALKERS[self.below(WALKERS.len() as u64) as usize];
        let (n, fate) = (1 + self.below(5), self.below(8));
        let fate = if fate < 3 { fate } else { 0 };
        let tag = {
            let mut model = self.model();
            let tag = model.submissions.len() as u64 + 1;
            model.submissions.insert(
                tag,
                Submission { user, walker, n, fate, known: Known::Nothing, before: None, is_retried: false },
            );
            model.keyed.insert(tag, None);
            tag
        };
        for _ in 0..=self.below(3) {
            tokio::spawn(self.clone().send_keyed(runtime.clone(), tag));
        }
    }

    /// Sends a request of before again, or another one under its name.
    pub async fn send_some_again(&self, runtime: &Runtime, user: usize) {
        for tag in self.keyed_of(user) {
            match self.below(4) {
                0 => drop(tokio::spawn(self.clone().send_keyed(runtime.clone(), tag))),
                1 => self.send_other(runtime, tag).await,
                _ => {}
            }
        }
    }

    fn keyed_of(&self, user: usize) -> Vec<u64> {
        let model = self.model();
        model.keyed.keys().copied().filter(|tag| model.submissions[tag].user == user).collect()
    }

    fn request(&self, tag: u64, shown: u64) -> Spawn {
        let model = self.model();
        let Submission { user, walker, n, fate, .. } = model.submissions[&tag];
        let Value::Object(fields) = fields(walker, shown, n, fate) else { unreachable!("fields have names") };
        Spawn {
            walker: walker.to_owned(),
            node: None,
            caller: model.users[user].clone(),
            fields,
            files: Vec::new(),
            client_id: None,
            request_key: Some(format!("request {tag}")),
        }
    }

    async fn send_keyed(self, runtime: Runtime, tag: u64) {
        let request = self.request(tag, tag);
        // Some do not wait for the answer.
        let patience = match self.below(4) {
            0 => Duration::from_millis(self.below(200)),
            _ => Duration::from_secs(100_000),
        };
        let answer = timeout(patience, runtime.spawn(request)).await;
        if self.disk.is_crashed() {
            return;
        }
        let Ok(answer) = answer else { return };
        let (known, answer, repeated) = match answer {
            Ok(Spawned::Accepted { id, repeated, .. }) => {
                (Known::Accepted(id.clone()), id.to_string(), Some(repeated))
            }
            Ok(Spawned::Done { status, reports, repeated, .. }) => {
                (Known::Ended(true), format!("{status} {reports:?}"), Some(repeated))
            }
            Err(Error::Walker { message, run: Some(run), .. }) => {
                (Known::Ended(false), format!("{run} {message}"), None)
            }
            Err(error) => match error.code() {
                "store-full" | "store-unavailable" | "busy" | "outcome-unknown" => return,
                other => return self.model().violate(format!("{tag} is answered {other}: {error}")),
            },
        };
        self.model().keyed_answer(tag, known, answer, repeated);
    }

    /// Another request under a name that is taken is refused.
    async fn send_other(&self, runtime: &Runtime, tag: u64) {
        if self.model().submissions[&tag].known == Known::Nothing {
            return;
        }
        let answer = runtime.spawn(self.request(tag, tag + OTHER)).await;
        if self.disk.is_crashed() {
            return;
        }
        match answer.as_ref().map_err(Error::code) {
            Err("key-reused" | "store-full" | "store-unavailable" | "busy" | "outcome-unknown") => {}
            _ => self
                .model()
                .violate(format!("another request under the name of {tag} is answered {answer:?}")),
        }
    }

    /// In the last life each request is answered, and has led to one run.
    pub async fn settle_keyed(&self, runtime: &Runtime, user: usize) {
        for tag in self.keyed_of(user) {
            while self.model().submissions[&tag].known == Known::Nothing {
                self.clone().send_keyed(runtime.clone(), tag).await;
                sleep(Duration::from_millis(10)).await;
            }
            self.send_other(runtime, tag).await;
        }
        let caller = self.model().users[user].clone();
        let (mut before, mut runs) = (None, Vec::new());
        loop {
            let page = runtime.records(&caller, RunFilter::default(), before, 100).await.unwrap();
            before = page.next;
            runs.extend(page.walkers.into_iter().filter_map(|record| record.run.request_id));
            if before.is_none() {
                break;
            }
        }
        for tag in self.keyed_of(user) {
            let count = runs.iter().filter(|key| **key == format!("request {tag}")).count();
            if count != 1 {
                self.model().violate(format!("{count} runs of the request {tag}"));
            }
        }
    }
}
