//! What a worker holds in memory while it works through sources of a minute to two hours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reelmill_benches::clip::FOLDER;
use reelmill_benches::ffmpeg;
use reelmill_benches::processes::{child_called, children, peak_bytes};
use reelmill_benches::up::Up;
use reqwest::Method;
use serde_json::Value;
use tokio::time::sleep;

/// Lengths of sources, in minutes.
const MINUTES: [u32; 3] = [1, 10, 120];

/// What is not ready within this will not be.
const DEADLINE: Duration = Duration::from_secs(1200);

/// How often children are looked at: those of one task each live shorter than those of many.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The most that a worker and the largest of its children held, in bytes.
struct Peaks {
    worker: u64,
    child: u64,
}

/// Has a real worker work through whole sources and prints its highest resident memory, and that of its largest child.
pub async fn print(binaries: &Path) -> anyhow::Result<()> {
    println!("\n| source | worker | largest child |\n|---|---|---|");
    for minutes in MINUTES {
        let folder = tempfile::tempdir_in(FOLDER)?;
        let Peaks { worker, child } = peaks(binaries, &source(folder.path(), minutes)?).await?;
        println!("| {minutes} min | {} MiB | {} MiB |", worker >> 20, child >> 20);
    }
    Ok(())
}

async fn peaks(binaries: &Path, source: &Path) -> anyhow::Result<Peaks> {
    let up = Up::start(binaries).await?;
    let worker = child_called("reelmill-worker", up.id())?;
    let request = up.request(Method::PUT, "/v1/uploads").body(tokio::fs::read(source).await?);
    let asset: Value = request.send().await?.error_for_status()?.json().await?;
    let id = asset["id"].as_str().context("the answer lacks an id")?;
    let began = Instant::now();
    let mut child = 0;
    while up.asset(id).await?["state"] != "ready" {
        if began.elapsed() > DEADLINE {
            bail!("not ready within {} s", DEADLINE.as_secs());
        }
        let largest =
            children(worker.as_raw_nonzero().get().unsigned_abs()).into_iter().filter_map(peak_bytes).max();
        child = child.max(largest.unwrap_or(0));
        sleep(LOOK_EVERY).await;
    }
    let worker = peak_bytes(worker).context("the worker has ended")?;
    up.stop()?;
    Ok(Peaks { worker, child })
}

/// A minute of small pictures with sound, over and over: what grows with a source is the number of its samples.
fn source(folder: &Path, minutes: u32) -> anyhow::Result<PathBuf> {
    let minute = folder.join("minute.mp4");
    let mut once = Command::new("ffmpeg");
    once.args([
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=160x96:rate=30:duration=60",
    ]);
    once.args(["-f", "lavfi", "-i", "sine=duration=60:sample_rate=48000"]);
    once.args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "60", "-c:a", "aac", "-b:a", "24k"]);
    ffmpeg::run(once.arg(&minute))?;
    let long = folder.join("long.mp4");
    let mut again = Command::new("ffmpeg");
    again.args(["-nostdin", "-v", "error", "-y", "-stream_loop", &(minutes - 1).to_string(), "-i"]);
    ffmpeg::run(again.arg(&minute).args(["-c", "copy"]).arg(&long))?;
    Ok(long)
}
