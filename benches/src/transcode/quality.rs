//! VMAF of a rung, scaled up to the source's size as a player does, and what a difference in bytes is worth in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Every so many frames are looked at.
const SUBSAMPLE: u32 = 3;

/// One rung at one setting.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Bytes of its segments.
    pub bytes: u64,
    /// Mean VMAF.
    pub vmaf: f64,
}

impl Point {
    /// How much better this is than `other` at the same bytes, by the slope between `dear` and `cheap`.
    pub fn above(self, other: Point, dear: Point, cheap: Point) -> f64 {
        let per_log = (dear.vmaf - cheap.vmaf) / log_ratio(dear.bytes, cheap.bytes);
        self.vmaf - other.vmaf - per_log * log_ratio(self.bytes, other.bytes)
    }

    /// How many more bytes this takes than `other` at the same VMAF, as a fraction.
    pub fn dearer(self, other: Point, dear: Point, cheap: Point) -> f64 {
        let per_log = (dear.vmaf - cheap.vmaf) / log_ratio(dear.bytes, cheap.bytes);
        (log_ratio(self.bytes, other.bytes) - (self.vmaf - other.vmaf) / per_log).exp_m1()
    }
}

fn log_ratio(a: u64, b: u64) -> f64 {
    (a as f64 / b as f64).ln()
}

/// Mean VMAF of `media` beside `clip`, by an ffmpeg that has libvmaf.
pub fn vmaf(program: &Path, media: &Path, clip: &Path, rate: f64) -> anyhow::Result<f64> {
    let log = tempfile::NamedTempFile::new()?;
    // Frames are paired by their number: the two containers may start their clocks differently.
    let pair = format!("settb=1/{rate:.0},setpts=N");
    // Where only one of the two says what its colours mean, ffmpeg converts those of the other before it compares.
    let colours = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709";
    let graph = format!(
        "[0:v]{colours}[x];[1:v]{colours}[y];[x][y]scale2ref=flags=bicubic[a][b];[a]{pair}[made];[b]{pair}[source];\
         [made][source]libvmaf=n_threads=2:n_subsample={SUBSAMPLE}:log_fmt=json:log_path={}",
        log.path().display()
    );
    let status = Command::new(program)
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(media)
        .arg("-i")
        .arg(clip)
        .args(["-lavfi", &graph, "-f", "null", "-"])
        .stdout(Stdio::null())
        .status()
        .with_context(|| program.display().to_string())?;
    if !status.success() {
        bail!("{} failed ({status})", program.display());
    }
    let report: serde_json::Value = serde_json::from_reader(std::fs::File::open(log.path())?)?;
    report["pooled_metrics"]["vmaf"]["mean"].as_f64().context("the report has no mean")
}

/// Puts a rung's init segment and segments together, and says how long the segments are in bytes.
pub fn joined(files: &[PathBuf], to: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut out = std::fs::File::create(to)?;
    for (n, file) in files.iter().enumerate() {
        let copied = std::io::copy(&mut std::fs::File::open(file)?, &mut out)?;
        bytes += if n == 0 { 0 } else { copied };
    }
    Ok(bytes)
}
