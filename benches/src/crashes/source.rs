//! A source that is cheap to encode and has many chunks.

use std::path::PathBuf;

use reelmill_benches::clip::{self, PINK_NOISE};

/// A moving test picture with grain and sound, 640×360 at 30 frames a second, a key frame every two seconds.
pub fn made(seconds: u32) -> anyhow::Result<PathBuf> {
    let length = seconds.to_string();
    let picture = "testsrc2=size=640x360:rate=30,noise=alls=6:allf=t,format=yuv420p";
    let inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", PINK_NOISE, "-t", &length];
    let video = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "1500k", "-g", "60"];
    let sound = ["-c:a", "aac", "-b:a", "96k", "-ac", "2", "-movflags", "+faststart"];
    clip::kept(&format!("360p30-{seconds}s.mp4"), &[&inputs[..], &video, &sound].concat())
}
