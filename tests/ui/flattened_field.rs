use walkabout::prelude::*;

#[derive(Serialize, Deserialize)]
struct Page {
    number: u64,
}

#[derive(Walker, Serialize, Deserialize)]
struct List {
    #[serde(flatten)]
    page: Page,
}

#[abilities]
impl List {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

#[derive(Node, Serialize, Deserialize)]
struct Chapter {
    title: String,
    #[serde(default, flatten)]
    page: Option<Page>,
}

fn main() {}
