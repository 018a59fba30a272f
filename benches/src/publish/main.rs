//! How soon an upload plays: after its last byte, for sources of any length, and before it, at the rate of the media.
//!
//! Each run has a Reelmill of its own, since the same bytes again would be published without being made.

mod burst;
mod paced;
mod row;
mod source;
mod upload;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Parser;

use row::HEAD;
use source::{Container, Size, Source};

/// Longer sources, in seconds, come in the last container named only: they take time and room.
const LONG_SECONDS: u32 = 60;

/// Measures how soon uploads play.
#[derive(Debug, Parser)]
struct Options {
    /// Lengths of the sources, in seconds
    #[arg(long, value_delimiter = ',', default_value = "10,60,600,7200")]
    seconds: Vec<u32>,
    /// Runs for each of these lengths; the last number counts for the rest
    #[arg(long, value_delimiter = ',', default_value = "5,3,1", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Vec<u32>,
    /// Containers; the last of them is that of sources of more than a minute
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mp4,mp4-last")]
    container: Vec<Container>,
    /// Containers of the uploads at the rate of the media
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mp4,fmp4,ts,mkv")]
    paced: Vec<Container>,
    /// How long those last, in seconds
    #[arg(long, default_value_t = 60)]
    paced_seconds: u32,
    /// Leave them out
    #[arg(long)]
    burst_only: bool,
    /// Folder with the release binaries
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    source::light(Size::Full)?;
    source::light(Size::Half)?;
    println!("{HEAD}");
    // Gigabytes are removed on the way out, by Ctrl-C as well.
    tokio::select! {
        measured = measure(&options) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
    }
}

/// Prints each line when it is measured.
async fn measure(options: &Options) -> anyhow::Result<()> {
    let mut runs = 1;
    for (at, seconds) in options.seconds.iter().enumerate() {
        runs = options.runs.get(at).copied().unwrap_or(runs);
        let last = options.container.len().saturating_sub(1);
        for container in options.container.iter().skip(if *seconds > LONG_SECONDS { last } else { 0 }) {
            println!(
                "{}",
                burst::run(&options.binaries, &Source::made(*seconds, *container, Size::Full)?, runs).await?
            );
        }
    }
    for container in options.paced.iter().filter(|_| !options.burst_only) {
        let source = Source::made(options.paced_seconds, *container, Size::Half)?;
        for row in paced::run(&options.binaries, &source).await? {
            println!("{row}");
        }
    }
    Ok(())
}
