//! The first walker: `cargo run --release --example hello_walker`, then follow the lines that it prints.

use std::process::ExitCode;

use walkabout::prelude::*;

/// A city. Roads are plain edges.
#[derive(Node, Serialize, Deserialize)]
struct City {
    name: String,
    #[serde(default)]
    visits: u64,
}

/// Builds three cities in a row under the caller's root.
#[derive(Walker, Serialize, Deserialize)]
struct Found {}

#[abilities]
impl Found {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let mut last = here.any();
        for name in ["Ayr", "Bath", "Cork"] {
            last = cx.attach(&last, City { name: name.to_owned(), visits: 0 })?.any();
        }
        DONE
    }
}

/// Counts the cities that can be reached from the caller's root.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Census {
    #[serde(default)]
    #[walker(excluded)]
    cities: u64,
}

#[abilities]
impl Census {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        cx.visit(here.out()).await
    }

    #[entry]
    async fn count(&mut self, here: Here<City>, cx: &mut Context) -> Outcome {
        self.cities += 1;
        here.edit().visits += 1;
        let name = here.read().name.clone();
        cx.progress(json!({ "cities": self.cities, "at": name }));
        cx.visit(here.out()).await
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new()
        .walker::<Found>()
        .walker::<Census>()
        .hint(concat!(
            "try next:\n",
            "  curl -s {url}/user/register -d '{\"email\":\"ann@example.com\",\"password\":\"secret\"}'\n",
            "  TOKEN=$(curl -s {url}/user/login -d '{\"email\":\"ann@example.com\",\"password\":\"secret\"}' | ",
            "sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')\n",
            "  curl -s -X POST {url}/walker/found -H \"Authorization: Bearer $TOKEN\"\n",
            "  curl -s -X POST {url}/walker/census -H \"Authorization: Bearer $TOKEN\"\n",
            "  curl -s {url}/walkers -H \"Authorization: Bearer $TOKEN\"",
        ))
        .serve()
        .await
}
