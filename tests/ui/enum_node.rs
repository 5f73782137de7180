use walkabout::prelude::*;

#[derive(Node, Serialize, Deserialize)]
enum City {
    Small,
    Large,
}

fn main() {}
