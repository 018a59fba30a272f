//! `reelmill-coordinator`: takes uploads, plans them, drives their jobs and publishes presentations.

use clap::Parser;
use reelmill_coordinator::{flags::Flags, process};
use reelmill_platform::{shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    telemetry::install_crypto_provider();
    telemetry::init(flags.common.log_format, &flags.common.log);
    let drain = shutdown::on_signals()?;
    process::run(flags, drain).await
}
