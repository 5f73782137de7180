use walkabout::prelude::*;

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    fn blocking(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await?;
        self.helper()
    }
    #[entry]
    #[exit]
    async fn both(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[exit]
    async fn forgetful(&mut self) -> Outcome {
        DONE
    }
    #[step]
    async fn right(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
    fn helper(&self) -> Outcome {
        DONE
    }
}

struct Count {}

trait Counting {
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome;
}

#[abilities(walker)]
impl Counting for Count {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn main() {}
