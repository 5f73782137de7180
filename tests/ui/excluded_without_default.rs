use walkabout::prelude::*;

#[derive(Walker, Serialize, Deserialize)]
struct Greet {
    #[walker(excluded)]
    results: Vec<u64>,
}

#[abilities]
impl Greet {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn main() {}
