//! What an edge does under pressure: how long viewers wait while others abuse it, how soon a crowd has the first bytes of what
//! nobody has yet, what slow readers make it hold in memory, and how soon those hear of a change whose requests are held.
//!
//! Everything runs in a network of its own, in which each viewer has an address, since an edge does not limit its own machine's.

mod abuse;
mod client;
mod crowd;
mod edge;
mod held;
mod network;
mod slow;
mod viewers;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::abuse::Abuse;

/// Measures an edge under pressure.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds over all kinds of abuse
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a stretch with abuse, and of one without before it, in seconds; 0 leaves the table out
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// One kind of abuse alone
    #[arg(long, value_enum)]
    only: Option<Abuse>,
    /// Viewers in the crowd; 0 leaves it out
    #[arg(long, default_value_t = 1000)]
    crowd: usize,
    /// How long the crowd's origin takes before the first byte, in milliseconds
    #[arg(long, default_value_t = 1000)]
    origin_ms: u64,
    /// Slow readers; 0 leaves them out
    #[arg(long, default_value_t = 500)]
    slow: usize,
    /// Viewers whose requests are held at once; 0 leaves them out
    #[arg(long, default_value_t = 1000)]
    held: usize,
    /// The nats-server to run for those
    #[arg(long, env = "NATS_SERVER_BIN", default_value = ".tools/nats-server")]
    nats_server: PathBuf,
    /// Folder with the release binaries
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Abuses an edge until it is killed; how this program starts itself
    #[command(hide = true)]
    Abuse { kind: Abuse, edge: SocketAddr, certificate: PathBuf, paths: Vec<String> },
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.role.is_none() {
        network::enter()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    if let Some(Role::Abuse { kind, edge, certificate, paths }) = options.role {
        return abuse::run(kind, edge, &certificate, &paths).await;
    }
    network::pin_to(1)?;
    if options.seconds > 0 {
        abuse::table(&options.binaries, options.rounds, options.seconds, options.only).await?;
    }
    if options.crowd > 0 {
        crowd::row(&options.binaries, options.crowd, options.origin_ms).await?;
    }
    if options.slow > 0 {
        slow::row(&options.binaries, options.slow).await?;
    }
    if options.held > 0 {
        held::row(&options.binaries, &options.nats_server, options.held).await?;
    }
    Ok(())
}
