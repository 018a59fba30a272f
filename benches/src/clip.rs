//! The clip that benchmarks use unless they are given another.

use std::path::{Path, PathBuf};
use std::process::Command;

use reelmill_media::index::{CodecSetup, Container, Picture, SourceIndex, VideoTrack};
use reelmill_media::ladder::Ladder;
use reelmill_media::profile::Profile;
use reelmill_media::time::{FrameRate, Ticks, Timescale};

use crate::ffmpeg;

/// Where what was made once is kept.
pub const FOLDER: &str = "target/benches";

/// Sound, for ffmpeg's lavfi.
pub const PINK_NOISE: &str = "anoisesrc=color=pink:amplitude=0.3:sample_rate=48000";

/// A file of this name that ffmpeg makes with these arguments; it stays for the next time, and half of one is never left there.
pub fn kept(name: &str, how: &[&str]) -> anyhow::Result<PathBuf> {
    let path = Path::new(FOLDER).join(name);
    if !path.is_file() {
        println!("making {}", path.display());
        std::fs::create_dir_all(FOLDER)?;
        let partial = path.with_extension("partial.mp4");
        let mut command = Command::new("ffmpeg");
        ffmpeg::run(command.args(["-nostdin", "-v", "error", "-y"]).args(how).arg(&partial))?;
        std::fs::rename(&partial, &path)?;
    }
    Ok(path)
}

/// Moving detail with grain: zoomed fractal, moving test picture, noise; 1080p30 at 14 Mbit/s from the first second on, as
/// cameras have it, with B-frames, and sound.
pub fn made(seconds: u32) -> anyhow::Result<PathBuf> {
    let graph = "mandelbrot=size=640x360:rate=30:end_scale=0.02:maxiter=150,scale=1920x1080[a];\
                 testsrc2=size=960x540:rate=30[b];\
                 [a][b]overlay=x='480+300*sin(t/3)':y='270+150*cos(t/4)',noise=alls=6:allf=t,format=yuv420p[v]";
    let length = seconds.to_string();
    let inputs = ["-filter_complex", graph, "-f", "lavfi", "-i", PINK_NOISE, "-map", "[v]", "-map", "0:a"];
    let rates =
        ["-b:v", "14M", "-maxrate", "16M", "-bufsize", "8M", "-g", "60", "-c:a", "aac", "-b:a", "160k"];
    let coding =
        ["-t", &length, "-c:v", "libx264", "-preset", "veryfast", "-ac", "2", "-movflags", "+faststart"];
    kept(&format!("1080p30-even-{seconds}s.mp4"), &[&inputs[..], &coding, &rates].concat())
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
