//! Shows a clip's way from upload to player.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use console::style;

use crate::api::Api;
use crate::up::{self, Running};
use crate::{upload, watch};

/// Length of the sample clip in seconds.
const SECONDS: u32 = 12;

/// Starts everything, uploads a sample and says where it plays; stays until told to stop.
pub async fn run(options: up::Options) -> anyhow::Result<()> {
    let mut running = Running::start(&options).await?;
    let api = Api::new(&running.state.api, &running.state.api_key, Some(running.state.edge.clone()))?;
    let shown = tokio::select! {
        shown = show(&api, &options.data) => shown,
        () = running.told() => {
            running.stop().await;
            return Ok(());
        }
    };
    match shown {
        Ok(asset) => {
            up::print_addresses(&running.state);
            println!("  {} {}", style("Watch it  ").bold(), style(api.player(asset)).cyan().underlined());
            println!(
                "             {}   (Chromium, over HTTP/3)",
                up::command(&options, &format!("open {asset}"))
            );
            up::print_next(&options);
            running.until_told().await
        }
        Err(error) => {
            running.stop().await;
            Err(error)
        }
    }
}

async fn show(api: &Api, data: &Path) -> anyhow::Result<reelmill_media::ids::AssetId> {
    println!("making a sample clip of {SECONDS} s");
    let clip = sample(data).await?;
    let asset = upload::run(api, &clip, Some("sample"), None).await?;
    watch::run(api, asset).await?;
    Ok(asset)
}

/// A 720p test picture with a clock, and a tone.
async fn sample(data: &Path) -> anyhow::Result<PathBuf> {
    let clip = data.join("sample.mp4");
    if clip.is_file() {
        return Ok(clip);
    }
    let partial = data.join("sample.partial.mp4");
    let picture = format!("testsrc2=size=1280x720:rate=30:duration={SECONDS}");
    let sound = format!("sine=frequency=330:beep_factor=4:duration={SECONDS}");
    let status = tokio::process::Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2"])
        .args(["-movflags", "+faststart"])
        .arg(&partial)
        .stdin(Stdio::null())
        .status()
        .await
        .context("ffmpeg, which makes the sample clip, cannot be run")?;
    if !status.success() {
        bail!("ffmpeg could not make the sample clip ({status})");
    }
    std::fs::rename(&partial, &clip)?;
    Ok(clip)
}
