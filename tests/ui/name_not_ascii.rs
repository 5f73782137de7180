use walkabout::prelude::*;

#[derive(Node, Serialize, Deserialize)]
struct Größe {}

#[derive(Walker, Serialize, Deserialize)]
struct ZähleWörter {}

#[abilities]
impl ZähleWörter {
    #[entry]
    async fn start(&mut self, _here: Here<Größe>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

#[derive(Edge, Serialize, Deserialize)]
#[edge(name = "Laenge")]
struct Länge {}

#[derive(Node, Serialize, Deserialize)]
#[node(name = "Höhe")]
struct Hoehe {}

fn main() {}
