//! A clip's whole way through a real Reelmill beside one ffmpeg process that makes the same ladder.
//!
//! Runs are interleaved, and what counts is the ratio within a pair and the median over pairs: machines are noisy.

mod reelmill;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;

use reelmill_benches::clip;
use reelmill_benches::ffmpeg::Ffmpeg;
use reelmill_benches::usage::{Cost, median};
use reelmill_media::ladder::Rung;

/// Measures Reelmill beside ffmpeg.
#[derive(Debug, Parser)]
struct Options {
    /// Pairs of runs; the first one is not counted
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Clip to use; a made one of 60 s, 1080p, 30 fps unless said
    #[arg(long)]
    clip: Option<PathBuf>,
    /// Folder with the release binaries
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
}

/// One pair of runs.
#[derive(Debug, Clone, Copy)]
struct Pair {
    ffmpeg: Cost,
    reelmill: Cost,
    /// From the last byte of the upload to a playable playlist, in seconds.
    playable: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let clip = match &options.clip {
        Some(clip) => clip.clone(),
        None => clip::made(60)?,
    };
    let clip = clip.canonicalize().with_context(|| format!("cannot find {}", clip.display()))?;
    println!("clip {}, {} counted pairs of runs", clip.display(), options.runs);
    println!(
        "{:>4} {:>22} {:>22} {:>8} {:>8} {:>10}",
        "", "ffmpeg cpu / wall s", "reelmill cpu / wall s", "cpu", "wall", "playable s"
    );
    let rungs = clip::ladder().video;
    let mut pairs = Vec::new();
    for run in 0..=options.runs {
        let ffmpeg = one_process(&clip, &rungs)?;
        let (reelmill, playable) = reelmill::journey(&options.binaries, &clip).await?;
        let pair = Pair { ffmpeg, reelmill, playable };
        show(if run == 0 { "warm" } else { "" }, &pair);
        if run > 0 {
            pairs.push(pair);
        }
    }
    println!(
        "median ratios reelmill/ffmpeg: cpu {:.2}, wall {:.2}; median from last byte to playable {:.2} s",
        median(pairs.iter().map(|p| p.reelmill.cpu / p.ffmpeg.cpu)),
        median(pairs.iter().map(|p| p.reelmill.wall / p.ffmpeg.wall)),
        median(pairs.iter().map(|p| p.playable)),
    );
    Ok(())
}

fn show(label: &str, pair: &Pair) {
    let Pair { ffmpeg, reelmill, playable } = pair;
    println!(
        "{label:>4} {:>13.1} / {:>6.1} {:>13.1} / {:>6.1} {:>8.2} {:>8.2} {playable:>10.2}",
        ffmpeg.cpu,
        ffmpeg.wall,
        reelmill.cpu,
        reelmill.wall,
        reelmill.cpu / ffmpeg.cpu,
        reelmill.wall / ffmpeg.wall,
    );
}

/// The peer: segments of 4 s, after three short ones.
fn one_process(clip: &Path, rungs: &[Rung]) -> anyhow::Result<Cost> {
    let cuts: Vec<f64> = [0.0, 1.0, 2.0].into_iter().chain((1..900).map(|n| f64::from(n) * 4.0)).collect();
    let out = tempfile::tempdir()?;
    let program = Path::new("ffmpeg");
    Ffmpeg { program, clip, rungs, preset: "veryfast", cuts: &cuts }.one_process(out.path())
}
