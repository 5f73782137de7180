//! Airports of the United States and the flights between them in 2008: `cargo run --release --example airports`, then follow the
//! lines that it prints. Where the data comes from: `SOURCE.md` beside this file.

mod walkers;

use std::process::ExitCode;

use walkabout::config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new()
        .config(Config { commit_changes_max: walkers::CHANGES, ..Config::default() })
        .register(walkers::register)
        .hint(concat!(
            "try next:\n",
            "  curl -s {url}/user/register -d '{\"email\":\"ann@example.com\",\"password\":\"secret\"}'\n",
            "  TOKEN=$(curl -s {url}/user/login -d '{\"email\":\"ann@example.com\",\"password\":\"secret\"}' | ",
            "sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')\n",
            "  curl -s -X POST {url}/walker/build_airports -H \"Authorization: Bearer $TOKEN\"\n",
            "  ID=$(curl -s {url}/walker/hops -d '{\"from\":\"SFO\"}' -H \"Authorization: Bearer $TOKEN\" | ",
            "sed 's/.*\"walker_id\":\"\\([^\"]*\\)\".*/\\1/')\n",
            "  cargo run -q --release --example airports -- follow $ID --url {url} --token $TOKEN\n",
            "  curl -s {url}/walker/$ID -H \"Authorization: Bearer $TOKEN\"",
        ))
        .serve()
        .await
}
