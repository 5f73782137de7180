use serde_json::Map;
use walkabout::prelude::*;

use crate::dataset;

/// Describes a dataset: how many rows, and of each column type, count, distinct, min, max and mean.
#[derive(Debug, Walker, Serialize, Deserialize)]
#[walker(async)]
pub struct AnalyzeData {
    /// Names a file in the folder of datasets.
    pub dataset_id: String,
    /// `{rows, columns: {name: {type, count, distinct, min, max, mean}}}`; empty before.
    #[serde(default)]
    #[walker(excluded)]
    pub summary: Map<String, Value>,
}

#[abilities]
impl AnalyzeData {
    #[entry]
    async fn enter(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let dataset = dataset::require(cx.config(), &self.dataset_id)?;
        self.summary =
            cx.compute(move |_| Ok::<_, String>(dataset::summary(&dataset.all()?))).await?.map_err(fail)?;
        DONE
    }
}
