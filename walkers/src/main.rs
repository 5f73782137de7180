//! The `walkabout` program: the stock walkers, served.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new().register(walkabout_walkers::stock).serve().await
}
