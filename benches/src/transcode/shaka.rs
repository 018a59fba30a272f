//! The peer: Shaka Streamer, which encodes with libx264's preset slow at average rates of its own, and cannot be told
//! otherwise.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use reelmill_benches::ffmpeg;
use reelmill_benches::usage::{Cost, Meter};
use reelmill_media::ladder::Rung;

/// One file per rung, lowest rung first, in `out`.
pub fn run(
    installed: &Path,
    clip: &Path,
    rungs: &[Rung],
    out: &Path,
) -> anyhow::Result<(Cost, Vec<PathBuf>)> {
    let named = |rung: &Rung| format!("{}p", rung.width.min(rung.height));
    let resolutions: Vec<String> = rungs.iter().map(named).collect();
    let inputs = serde_json::json!({"inputs": [
        {"name": clip, "media_type": "video"},
        {"name": clip, "media_type": "audio"},
    ]});
    let pipeline = serde_json::json!({
        "streaming_mode": "vod",
        "resolutions": resolutions,
        "channel_layouts": ["stereo"],
        "video_codecs": ["h264"],
        "audio_codecs": ["aac"],
        "manifest_format": ["hls"],
        "segment_size": 4,
        "segment_per_file": false,
    });
    // JSON is YAML.
    let (input, plan) = (out.join("input.yaml"), out.join("pipeline.yaml"));
    std::fs::write(&input, inputs.to_string())?;
    std::fs::write(&plan, pipeline.to_string())?;
    let mut command = Command::new("python3");
    command.arg(installed.join("bin/shaka-streamer")).env("PYTHONPATH", installed);
    command.arg("-i").arg(&input).arg("-p").arg(&plan).arg("-o").arg(out.join("made"));
    let meter = Meter::start()?;
    ffmpeg::run(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    let cost = meter.cost()?;
    let files: Vec<PathBuf> = std::fs::read_dir(out.join("made"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    let of = |resolution: &String| {
        let prefix = format!("video_{resolution}_");
        let named =
            |file: &&PathBuf| file.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix));
        files.iter().find(named).cloned().with_context(|| format!("no {resolution} came of it"))
    };
    Ok((cost, resolutions.iter().map(of).collect::<anyhow::Result<_>>()?))
}
