//! A clip's whole way through a real Reelmill beside one ffmpeg process that makes the same ladder.
//!
//! Runs are interleaved, and what counts is the ratio within a pair and the median over pairs: machines are noisy.

mod ffmpeg;
mod reelmill;
mod usage;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Parser;

use crate::usage::Cost;

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
        None => made_clip(Path::new("target/benches"))?,
    };
    let clip = clip.canonicalize().with_context(|| format!("cannot find {}", clip.display()))?;
    println!("clip {}, {} counted pairs of runs", clip.display(), options.runs);
    println!(
        "{:>4} {:>22} {:>22} {:>8} {:>8} {:>10}",
        "", "ffmpeg cpu / wall s", "reelmill cpu / wall s", "cpu", "wall", "playable s"
    );
    let mut pairs = Vec::new();
    for run in 0..=options.runs {
        let ffmpeg = ffmpeg::ladder(&clip)?;
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// 60 s of moving detail with grain: zoomed fractal, moving test picture, noise; 14 Mbit/s with B-frames, and sound.
fn made_clip(folder: &Path) -> anyhow::Result<PathBuf> {
    let clip = folder.join("1080p30-60s.mp4");
    if clip.is_file() {
        return Ok(clip);
    }
    std::fs::create_dir_all(folder)?;
    println!("making {}", clip.display());
    let partial = folder.join("partial.mp4");
    let graph = "mandelbrot=size=640x360:rate=30:end_scale=0.02:maxiter=150,scale=1920x1080[a];\
                 testsrc2=size=960x540:rate=30[b];\
                 [a][b]overlay=x='480+300*sin(t/3)':y='270+150*cos(t/4)',noise=alls=6:allf=t,format=yuv420p[v]";
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-filter_complex", graph])
        .args(["-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.3:sample_rate=48000"])
        .args([
            "-map", "[v]", "-map", "0:a", "-t", "60", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "14M",
        ])
        .args(["-g", "60", "-c:a", "aac", "-b:a", "160k", "-ac", "2", "-movflags", "+faststart"])
        .arg(&partial)
        .status()
        .context("ffmpeg cannot be run")?;
    if !status.success() {
        bail!("ffmpeg could not make the clip ({status})");
    }
    std::fs::rename(&partial, &clip)?;
    Ok(clip)
}
