//! What coordinating costs: decisions of the schedule, the way of a task to ten thousand workers, and a start beside a
//! million finished assets. `benches/README.md` says how to read it.

mod decisions;
mod start;
mod workers;

use std::path::PathBuf;

use clap::Parser;
use reelmill_benches::nats;

/// Which part, at which size.
#[derive(Debug, Parser)]
struct Options {
    /// Assets in flight while decisions are taken
    #[arg(long, default_value_t = 10_000)]
    in_flight: u64,
    /// Workers that say that they live and wait for tasks; 0 leaves this out
    #[arg(long, default_value_t = 10_000)]
    workers: usize,
    /// Finished assets in NATS when a coordinator starts; 0 leaves this out
    #[arg(long, default_value_t = 1_000_000)]
    finished: u64,
    /// The nats-server to run
    #[arg(long, env = "NATS_SERVER_BIN", default_value = ".tools/nats-server")]
    nats_server: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    decisions::run(options.in_flight)?;
    if options.workers > 0 {
        workers::run(&nats::Server::start(&options.nats_server).await?, options.workers).await?;
    }
    if options.finished > 0 {
        start::run(&nats::Server::start(&options.nats_server).await?, options.finished).await?;
    }
    Ok(())
}
