//! The clip that benchmarks use unless they are given another.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use reelmill_media::index::{CodecSetup, Container, Picture, SourceIndex, VideoTrack};
use reelmill_media::ladder::Ladder;
use reelmill_media::profile::Profile;
use reelmill_media::time::{FrameRate, Ticks, Timescale};

/// Where what was made once is kept.
pub const FOLDER: &str = "target/benches";

/// Moving detail with grain: zoomed fractal, moving test picture, noise; 1080p30 at 14 Mbit/s from the first second on, as
/// cameras have it, with B-frames, and sound.
pub fn made(seconds: u32) -> anyhow::Result<PathBuf> {
    let folder = Path::new(FOLDER);
    let clip = folder.join(format!("1080p30-even-{seconds}s.mp4"));
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
        .args(["-map", "[v]", "-map", "0:a", "-t", &seconds.to_string()])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-b:v", "14M", "-g", "60"])
        .args(["-maxrate", "16M", "-bufsize", "8M"])
        .args(["-c:a", "aac", "-b:a", "160k", "-ac", "2", "-movflags", "+faststart"])
        .arg(&partial)
        .status()
        .context("ffmpeg cannot be run")?;
    if !status.success() {
        bail!("ffmpeg could not make the clip ({status})");
    }
    std::fs::rename(&partial, &clip)?;
    Ok(clip)
}

/// What the default profile makes of such a clip, sound aside.
pub fn ladder() -> Ladder {
    let track = VideoTrack {
        stream: 0,
        setup: CodecSetup::new("h264", []),
        timescale: Timescale::HZ_48_000,
        picture: Picture::plain(1920, 1080),
        samples: Vec::new(),
        window: Ticks::ZERO..Ticks::ZERO,
        last_duration: Ticks(1),
    };
    let index = SourceIndex { container: Container::Mp4, video: Some(track), audio: Vec::new() };
    Ladder::of(&Profile::default(), &index, FrameRate { num: 30, den: 1 })
}
