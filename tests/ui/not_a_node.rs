use walkabout::prelude::*;

#[derive(Serialize, Deserialize)]
struct City {}

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.attach(&here, City {})?;
        DONE
    }
}

fn main() {}
