//! `reelmill-coordinator`: takes uploads, plans them, drives their jobs and publishes presentations.

use clap::{CommandFactory, FromArgMatches, Parser};
use jiff::SignedDuration;
use prometheus::Registry;
use reelmill_coordinator::assets::Assets;
use reelmill_coordinator::flags::Flags;
use reelmill_coordinator::metrics::Metrics;
use reelmill_coordinator::process;
use reelmill_coordinator::rebuild::{self, Rebuilt};
use reelmill_platform::bus::Bus;
use reelmill_platform::store::Store;
use reelmill_platform::{config, shutdown, telemetry};

/// Makes NATS anew from the object store, after its data were lost
#[derive(Debug, Parser)]
#[command(name = "rebuild")]
struct Rebuild {
    /// Object store: file:///folder, s3://bucket/prefix, gs://… or az://…
    #[arg(long, env = "REELMILL_STORE", value_name = "URL")]
    store: String,
    #[command(flatten)]
    nats: config::Nats,
}

/// A coordinator, unless something else is named.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::install_crypto_provider();
    let all = Flags::command().subcommand(Rebuild::command());
    let given = all.subcommand_negates_reqs(true).args_conflicts_with_subcommands(true).get_matches();
    match given.subcommand() {
        Some((_, given)) => rebuild(Rebuild::from_arg_matches(given)?).await,
        None => coordinate(Flags::from_arg_matches(&given)?).await,
    }
}

async fn coordinate(flags: Flags) -> anyhow::Result<()> {
    telemetry::init(flags.common.log_format, &flags.common.log);
    let drain = shutdown::on_signals()?;
    process::run(flags, drain).await
}

async fn rebuild(Rebuild { store, nats }: Rebuild) -> anyhow::Result<()> {
    let store = Store::open(&store)?;
    let bus = Bus::connect(&nats, "reelmill-rebuild").await?;
    // Nothing is tried again here, so no pause is ever taken.
    let metrics = Metrics::new(&Registry::new())?;
    let assets = Assets::open(&bus, store.clone(), SignedDuration::ZERO, metrics).await?;
    let Rebuilt { there, restored, queued, lost, settings } = rebuild::rebuild(&bus, &store, &assets).await?;
    bus.flush().await?;
    println!("{restored} assets are as they were, {queued} are made again, {there} were there");
    println!("{settings} policies, profiles and takedowns are back");
    if !lost.is_empty() {
        println!("{} uploads were under way and are lost; their owners must send them again:", lost.len());
    }
    for id in lost {
        println!("  {id}");
    }
    Ok(())
}
