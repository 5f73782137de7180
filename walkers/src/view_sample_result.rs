use walkabout::{prelude::*, schema::WalkerId};

/// Reads fields and schedule of another walker. Reports `{value, status, executed_date, error}`, or null for a run that is unknown
/// or belongs to another.
#[derive(Debug, Walker, Serialize, Deserialize)]
pub struct ViewSampleResult {
    /// The run to look at.
    pub walker_id: String,
}

#[abilities]
impl ViewSampleResult {
    #[entry]
    async fn enter(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        // A text that is no id names no run.
        let record = match self.walker_id.parse::<WalkerId>() {
            Ok(id) => cx.record(&id).await?,
            Err(_) => None,
        };
        cx.report(record.map(|record| {
            json!({
                "value": record.context.get("value"),
                "status": record.schedule.status,
                "executed_date": record.schedule.executed_date,
                "error": record.schedule.error,
            })
        }))?;
        DONE
    }
}
