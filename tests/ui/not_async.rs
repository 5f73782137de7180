use walkabout::prelude::*;

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn main() {}
