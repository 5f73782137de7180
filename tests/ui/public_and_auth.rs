use walkabout::prelude::*;

#[derive(Walker, Serialize, Deserialize)]
#[walker(public, auth)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn main() {}
