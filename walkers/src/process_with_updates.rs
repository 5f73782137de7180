use walkabout::prelude::*;

/// How many chunks there are to process.
const CHUNKS: u64 = 10;

/// Tells one WebSocket client how far it is: progress 0, 10, … 100, then that it is complete. Whoever follows the run sees the same.
#[derive(Debug, Walker, Serialize, Deserialize)]
#[walker(async)]
pub struct ProcessWithUpdates {
    /// The `client_id` of the connection message.
    pub client_id: String,
    /// In percent.
    #[serde(default)]
    #[walker(excluded)]
    pub progress: i64,
}

#[abilities]
impl ProcessWithUpdates {
    #[entry]
    async fn enter(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        self.tell(cx);
        for chunk in 0..CHUNKS {
            cx.compute(move |_| work(chunk)).await?;
            self.progress += 10;
            self.tell(cx);
        }
        let complete = json!({ "type": "complete", "data": { "message": "Processing complete!" } });
        cx.notify_clients(&[&self.client_id], &complete);
        DONE
    }

    fn tell(&self, cx: &mut Context) {
        let data = json!({ "progress": self.progress });
        cx.notify_clients(&[&self.client_id], &json!({ "type": "progress", "data": data.clone() }));
        cx.progress(data);
    }
}

/// Something that takes the processor a moment.
fn work(chunk: u64) -> u64 {
    (0..100_000).fold(chunk, |sum, step| sum.wrapping_mul(31).wrapping_add(step))
}
