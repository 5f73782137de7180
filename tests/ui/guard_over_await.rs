use walkabout::prelude::*;

#[derive(Node, Serialize, Deserialize)]
struct City {
    visits: u64,
}

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    async fn start(&mut self, here: Here<City>, cx: &mut Context) -> Outcome {
        let mut city = here.edit();
        cx.visit(here.out()).await?;
        city.visits += 1;
        DONE
    }
}

fn main() {}
