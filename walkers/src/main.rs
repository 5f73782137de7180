//! The `walkabout` program: the stock walkers, served.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new().register(walkabout_walkers::stock).serve().await
}
