use walkabout::prelude::*;

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    async fn start(&mut self, _here: Here<City>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

#[derive(Node, Serialize, Deserialize)]
struct City {}

#[abilities(node)]
impl City {
    #[entry]
    async fn greeted(_here: Here<Self>, _by: &mut Greet, _cx: &mut Context) -> Outcome {
        DONE
    }
}

#[derive(Edge, Serialize, Deserialize)]
struct Road {}

#[abilities(edge)]
impl Road {
    #[exit]
    async fn left(_here: Here<Self>, _by: &mut Greet, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn main() {}
