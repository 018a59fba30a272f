//! The peer: one ffmpeg process that decodes once and makes the same ladder with the same encoder settings.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use reelmill_media::index::{Colour, Orientation, Picture};
use reelmill_media::ladder::Ladder;
use reelmill_media::time::FrameRate;

use crate::usage::{Cost, Meter};

/// Makes the default ladder of a 1080p30 clip, with sound, as HLS with fMP4 segments of 4 s.
pub fn ladder(clip: &Path) -> anyhow::Result<Cost> {
    let picture = Picture {
        width: 1920,
        height: 1080,
        sar_num: 1,
        sar_den: 1,
        orientation: Orientation::default(),
        colour: Colour::UNSPECIFIED,
    };
    let ladder = Ladder::default_for(&picture, FrameRate { num: 30, den: 1 }, None);
    let out = tempfile::tempdir()?;
    let count = ladder.video.len();
    let outputs: String = (0..count).map(|k| format!("[s{k}]")).collect();
    let mut graph = format!("[0:v]split={count}{outputs}");
    for (k, rung) in ladder.video.iter().enumerate() {
        graph += &format!(";[s{k}]scale={}:{}:flags=bicubic[v{k}]", rung.width, rung.height);
    }
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-i"]).arg(clip).args(["-filter_complex", &graph]);
    for k in 0..count {
        command.args(["-map", &format!("[v{k}]")]);
    }
    command.args(["-map", "0:a", "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]);
    for (k, rung) in ladder.video.iter().enumerate() {
        command.args([format!("-crf:v:{k}"), rung.crf.to_string()]);
        command.args([format!("-maxrate:v:{k}"), format!("{}k", rung.max_kbps)]);
        command.args([format!("-bufsize:v:{k}"), format!("{}k", rung.buffer_kbit)]);
    }
    let groups: Vec<String> =
        (0..count).map(|k| format!("v:{k},agroup:a")).chain(["a:0,agroup:a".into()]).collect();
    command
        .args(["-g", "120", "-keyint_min", "120", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "128k"])
        .args(["-f", "hls", "-hls_segment_type", "fmp4", "-hls_time", "4", "-hls_playlist_type", "vod"])
        .args(["-master_pl_name", "index.m3u8", "-var_stream_map", &groups.join(" ")])
        .arg("v%v.m3u8")
        .current_dir(out.path());
    let meter = Meter::start()?;
    let status = command.status().context("ffmpeg cannot be run")?;
    if !status.success() {
        bail!("ffmpeg failed ({status})");
    }
    Ok(Cost { cpu: meter.cpu()?, wall: meter.wall() })
}
