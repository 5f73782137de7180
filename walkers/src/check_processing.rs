use walkabout::{
    prelude::*,
    schema::{Status, WalkerId},
    walker::Archetype,
};

use crate::ProcessLargeDataset;

/// Tells whether a `process_large_dataset` has ended: reports `{"Results": […]}` or `"Still processing..."`.
#[derive(Debug, Walker, Serialize, Deserialize)]
pub struct CheckProcessing {
    /// The run to look at.
    pub process_id: String,
}

#[abilities]
impl CheckProcessing {
    #[entry]
    async fn enter(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let record = match self.process_id.parse::<WalkerId>() {
            Ok(id) => cx.record(&id).await?,
            Err(_) => None,
        };
        // A run of another walker has no such results.
        let record = record.filter(|record| record.id.name().as_str() == ProcessLargeDataset::NAME);
        let Some(record) = record else {
            return Err(fail(format!("there is no run {} that you may read", self.process_id)));
        };
        match record.schedule.status {
            Status::Completed => cx.report(json!({ "Results": record.context.get("results") }))?,
            Status::Pending | Status::Running => cx.report("Still processing...")?,
            Status::Failed => {
                return Err(fail(format!("the run failed: {}", record.schedule.error.unwrap_or_default())));
            }
        }
        DONE
    }
}
