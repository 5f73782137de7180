use walkabout::prelude::*;

#[derive(Serialize, Deserialize)]
struct Greet {}

impl Greet {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn main() {}
