//! A source that is cheap to encode and has many chunks.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use reelmill_benches::clip;

/// A moving test picture with grain and sound, 640×360 at 30 frames a second, a key frame every two seconds; it stays for the next
/// time.
pub fn made(seconds: u32) -> anyhow::Result<PathBuf> {
    let path = Path::new(clip::FOLDER).join(format!("360p30-{seconds}s.mp4"));
    if path.is_file() {
        return Ok(path);
    }
    println!("making {}", path.display());
    std::fs::create_dir_all(clip::FOLDER)?;
    // Half a file is never left there.
    let partial = path.with_extension("partial.mp4");
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30,noise=alls=6:allf=t,format=yuv420p"])
        .args(["-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.3:sample_rate=48000"])
        .args(["-t", &seconds.to_string(), "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "1500k"])
        .args(["-g", "60", "-c:a", "aac", "-b:a", "96k", "-ac", "2", "-movflags", "+faststart"])
        .arg(&partial)
        .status()
        .context("ffmpeg cannot be run")?;
    if !status.success() {
        bail!("ffmpeg could not make the source ({status})");
    }
    std::fs::rename(&partial, &path)?;
    Ok(path)
}
