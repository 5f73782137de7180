use walkabout::prelude::*;

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    async fn unit(&mut self, _here: Here<Root>, _cx: &mut Context) -> Result<(), Failure> {
        Ok(())
    }
}

fn main() {}
