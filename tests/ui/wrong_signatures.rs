use walkabout::prelude::*;

#[derive(Node, Serialize, Deserialize)]
#[node(abilities)]
struct City {}

#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    async fn borrowed(&mut self, _here: &City, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[entry]
    async fn bare(&mut self, _here: City, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[entry]
    async fn of_any_type(&mut self, _here: Here<impl walkabout::walker::Node>, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[entry]
    async fn generic<'a>(&'a mut self, _here: Here<City>, _cx: &'a mut Context) -> Outcome {
        DONE
    }
    #[entry]
    async fn shared(&mut self, _here: Here<City>, _cx: &Context) -> Outcome {
        DONE
    }
    #[entry]
    async fn nothing(&mut self, _here: Here<City>, _cx: &mut Context) -> () {}
    #[entry]
    async fn silent(&mut self, _here: Here<City>, _cx: &mut Context) {}
    #[entry]
    async fn read(&self, _here: Here<City>, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[entry]
    async fn boxed(self: Box<Self>, _here: Here<City>, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[entry]
    fn all_of_it(&self, _here: City, _cx: Context) -> bool {
        true
    }
}

#[abilities(node)]
impl City {
    #[entry]
    async fn shared(_here: Here<Self>, _by: &Greet, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[entry]
    async fn of_any_type(_here: Here<Self>, _by: &mut Visitor<'_>, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[exit]
    async fn borrowed(_here: &Self, _by: &mut Greet, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[exit]
    async fn method(&self, _by: &mut Greet, _cx: &mut Context) -> Outcome {
        DONE
    }
    #[step]
    async fn step(_here: Here<Self>, _by: &mut Greet, _cx: &mut Context) -> Outcome {
        DONE
    }
}

fn main() {}
