use walkabout::prelude::*;

use crate::dataset::{self, Place, Row};

/// Rows between two checkpoints.
const BATCH: usize = 100;

/// Computes something for every row of a dataset. Killed at any moment, it goes on after its last hundred rows.
#[derive(Debug, Walker, Serialize, Deserialize)]
#[walker(async)]
pub struct ProcessLargeDataset {
    /// Names a file in the folder of datasets.
    pub dataset_id: String,
    /// One object per row: `{row, filled, total, text}`.
    #[serde(default)]
    #[walker(excluded)]
    pub results: Vec<Value>,
    /// Where the next row is. Not kept: whoever takes the run up again reads over the rows that are done, once.
    #[serde(skip)]
    place: Place,
}

#[abilities]
impl ProcessLargeDataset {
    #[entry]
    async fn enter(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        dataset::require(cx.config(), &self.dataset_id)?;
        cx.then("batch")
    }

    #[step]
    async fn batch(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let dataset = dataset::require(cx.config(), &self.dataset_id)?;
        let done = self.results.len();
        let from = if self.place.rows == done { self.place } else { Place::after(done) };
        let (computed, place) = cx
            .compute(move |_| {
                let (rows, place) = dataset.rows(from, BATCH)?;
                let computed = rows.iter().zip(done..).map(|(row, index)| compute(index, row));
                Ok::<_, String>((computed.collect::<Vec<_>>(), place))
            })
            .await?
            .map_err(fail)?;
        self.place = place;
        let is_last = computed.len() < BATCH;
        self.results.extend(computed);
        cx.progress(json!({ "rows": self.results.len() }));
        if is_last {
            return DONE;
        }
        cx.checkpoint();
        cx.then("batch")
    }
}

/// How many cells are filled, what the numbers add up to, how long the texts are.
fn compute(index: usize, row: &Row) -> Value {
    let filled = row.values().filter(|value| !value.is_null()).count();
    // The sum of no numbers at all is -0.0, which nobody expects to read.
    let total = row.values().filter_map(Value::as_f64).sum::<f64>() + 0.0;
    let text: usize = row.values().filter_map(Value::as_str).map(|text| text.chars().count()).sum();
    json!({ "row": index, "filled": filled, "total": total, "text": text })
}
