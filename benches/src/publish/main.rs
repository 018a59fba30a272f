//! How soon an upload plays: after its last byte, for sources of any length, and before it, at the rate of the media.
//!
//! Each run has a Reelmill of its own, since the same bytes again would be published without being made.

mod paced;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use reqwest::{Body, Method};
use tokio::fs::File;

use reelmill_benches::clip;
use reelmill_benches::up::Up;

/// How often the playlist is asked for; far below what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What does not play within this will not.
const DEADLINE: Duration = Duration::from_secs(600);
/// The made clip that all sources are copied from, in seconds.
const CLIP_SECONDS: u32 = 60;

/// Measures how soon uploads play.
#[derive(Debug, Parser)]
struct Options {
    /// Runs for each source
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Lengths of the sources, in seconds
    #[arg(long, value_delimiter = ',', default_value = "10,60,600,7200")]
    seconds: Vec<u32>,
    /// Folder with the release binaries
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Leave out the uploads at the rate of the media
    #[arg(long)]
    burst_only: bool,
}

/// Where an MP4 has its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// Before the media: work begins while the bytes come.
    First,
    /// Behind them: nothing begins before the last byte.
    Last,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!(
        "{:>8} {:>12} {:>24} {:>10} {:>10}",
        "source", "index", "last byte to first frame", "p50 s", "p95 s"
    );
    for seconds in &options.seconds {
        for index in [Index::First, Index::Last] {
            let source = source(*seconds, index)?;
            let mut after = Vec::new();
            for _ in 0..options.runs {
                let up = Up::start(&options.binaries).await?;
                let measured = burst(&up, &source).await;
                up.stop()?;
                after.push(measured?);
            }
            after.sort_by(f64::total_cmp);
            let all: Vec<String> = after.iter().map(|s| format!("{s:.2}")).collect();
            let (p50, p95) = (rank(&after, 50), rank(&after, 95));
            println!("{seconds:>6} s {index:>12?} {:>24} {p50:>10.2} {p95:>10.2}", all.join(" "));
        }
    }
    if !options.burst_only {
        paced::run(&options.binaries, &source(CLIP_SECONDS, Index::First)?, CLIP_SECONDS).await?;
    }
    Ok(())
}

/// The smallest value that so many in a hundred do not exceed.
fn rank(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied().unwrap_or(f64::NAN)
}

/// The clip that all sources are copied from: the usual one at a rate at which two hours fit on a disk.
fn light() -> anyhow::Result<PathBuf> {
    let path = Path::new(clip::FOLDER).join("publish.mp4");
    if !path.is_file() {
        let made = clip::made(CLIP_SECONDS)?;
        let encode = ["-c:v", "libx264", "-preset", "veryfast", "-b:v", "3M", "-g", "60", "-c:a", "copy"];
        ffmpeg(&["-i"], &made, &encode, &path)?;
    }
    Ok(path)
}

/// That clip, cut or repeated without encoding it again.
fn source(seconds: u32, index: Index) -> anyhow::Result<PathBuf> {
    let path = Path::new(clip::FOLDER).join(format!("publish-{seconds}s-{index:?}.mp4").to_lowercase());
    if path.is_file() {
        return Ok(path);
    }
    let loops = (seconds.div_ceil(CLIP_SECONDS) - 1).to_string();
    let seconds = seconds.to_string();
    let copy = ["-map", "0", "-c", "copy", "-t", &seconds];
    let order: &[&str] = match index {
        Index::First => &["-movflags", "+faststart"],
        Index::Last => &[],
    };
    ffmpeg(&["-stream_loop", &loops, "-i"], &light()?, &[&copy, order].concat(), &path)?;
    Ok(path)
}

/// Makes `to` of `from`; half a file is never left there.
fn ffmpeg(before: &[&str], from: &Path, after: &[&str], to: &Path) -> anyhow::Result<()> {
    println!("making {}", to.display());
    let partial = to.with_extension("partial.mp4");
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]).args(before).arg(from).args(after).arg(&partial);
    let status = command.status().context("ffmpeg cannot be run")?;
    if !status.success() {
        bail!("ffmpeg could not make {} ({status})", to.display());
    }
    Ok(std::fs::rename(&partial, to)?)
}

/// Uploads a file as fast as it goes; gives the seconds from its last byte until a player has a first frame to show, 0 where
/// it has had one before.
async fn burst(up: &Up, source: &Path) -> anyhow::Result<f64> {
    let length = source.metadata()?.len();
    let (upload, asset) = create(up, length).await?;
    let sent = async {
        let patch = send(up, &upload, Body::from(File::open(source).await?)).await;
        patch.map(|()| Instant::now())
    };
    let (sent, playable) = tokio::try_join!(sent, plays(up, &asset))?;
    first_frame(&format!("{}/assets/{asset}/index.m3u8", up.edge))?;
    Ok(playable.saturating_duration_since(sent).as_secs_f64())
}

/// Creates a resumable upload: its path, and its asset.
async fn create(up: &Up, length: u64) -> anyhow::Result<(String, String)> {
    let create = up.request(Method::POST, "/v1/uploads").header("Tus-Resumable", "1.0.0");
    let created = create.header("Upload-Length", length).send().await?.error_for_status()?;
    let header = |name: &str| -> anyhow::Result<String> {
        let value = created.headers().get(name).ok_or_else(|| anyhow!("the answer lacks {name}"))?;
        Ok(value.to_str()?.to_owned())
    };
    Ok((header("location")?, header("reelmill-asset")?))
}

async fn send(up: &Up, upload: &str, body: Body) -> anyhow::Result<()> {
    let patch = up
        .request(Method::PATCH, upload)
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Offset", 0)
        .header("Content-Type", "application/offset+octet-stream");
    patch.body(body).send().await?.error_for_status()?;
    Ok(())
}

/// When the edge first has a multivariant playlist.
async fn plays(up: &Up, asset: &str) -> anyhow::Result<Instant> {
    let client = reqwest::Client::new();
    let playlist = format!("{}/assets/{asset}/index.m3u8", up.edge);
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if client.get(&playlist).send().await?.status().is_success() {
            return Ok(Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("it does not play within {} s", DEADLINE.as_secs())
}

/// Fails unless a player by others gets a frame of what is published.
fn first_frame(playlist: &str) -> anyhow::Result<()> {
    let played = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-xerror", "-i", playlist, "-map", "0:v:0", "-frames:v", "1"])
        .args(["-f", "null", "-"])
        .stdin(Stdio::null())
        .status()
        .context("ffmpeg cannot be run")?;
    if played.success() { Ok(()) } else { bail!("what is published does not decode ({played})") }
}
