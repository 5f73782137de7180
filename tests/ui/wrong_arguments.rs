use walkabout::prelude::*;

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    async fn start(&mut self) -> Outcome {
        DONE
    }
}

fn main() {}
