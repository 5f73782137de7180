use serde_json::Map;
use walkabout::prelude::*;

use crate::dataset;

/// Catches its own errors: it completes whatever happens, and says in its fields how it went.
#[derive(Debug, Walker, Serialize, Deserialize)]
#[walker(async)]
pub struct SafeProcess {
    /// Names a file in the folder of datasets.
    pub input_id: String,
    /// True when `results` holds.
    #[serde(default)]
    #[walker(excluded)]
    pub success: bool,
    /// Why not.
    #[serde(default)]
    #[walker(excluded)]
    pub error_message: String,
    /// As the summary of `analyze_data`; empty without success.
    #[serde(default)]
    #[walker(excluded)]
    pub results: Map<String, Value>,
}

#[abilities]
impl SafeProcess {
    #[entry]
    async fn enter(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let Some(dataset) = dataset::find(cx.config(), &self.input_id) else {
            "No data found".clone_into(&mut self.error_message);
            return DONE;
        };
        let processed = cx.compute(move |_| dataset.all().map(|rows| dataset::summary(&rows))).await;
        match processed {
            Ok(Ok(results)) => {
                self.results = results;
                self.success = true;
            }
            Ok(Err(why)) => self.error_message = why,
            Err(failure) => {
                failure.message().unwrap_or("the processing failed").clone_into(&mut self.error_message);
            }
        }
        if !self.error_message.is_empty() {
            cx.log(format!("{}: {}", self.input_id, self.error_message))?;
        }
        DONE
    }
}
