use walkabout::prelude::*;

/// The smallest async walker: sets a field.
#[derive(Debug, Walker, Serialize, Deserialize)]
#[walker(async)]
pub struct Sample {
    /// 1 once it has run.
    #[serde(default)]
    #[walker(excluded)]
    pub value: i64,
}

#[abilities]
impl Sample {
    #[entry]
    async fn enter(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        self.value = 1;
        DONE
    }
}
