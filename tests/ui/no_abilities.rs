use walkabout::prelude::*;

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

fn main() {}
