//! The programs that judge beside us: ffprobe, ffmpeg and node.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::fixtures::ffmpeg;

/// The ffprobe program beside [`ffmpeg`].
pub fn ffprobe() -> OsString {
    let program = ffmpeg();
    let path = Path::new(&program);
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(folder) => folder.join("ffprobe").into(),
        None => "ffprobe".into(),
    }
}

/// What ffprobe says, as JSON.
pub fn probe(media: impl AsRef<OsStr>, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = Command::new(ffprobe());
    command.args(["-v", "error", "-of", "json"]).args(arguments).arg("-i").arg(media);
    let output = command.stdin(Stdio::null()).output().context("ffprobe does not start")?;
    ensure!(output.status.success(), "ffprobe: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Decodes a file or address, and refuses the smallest damage. Returns how many frames came out.
pub fn decode_strictly(media: impl AsRef<OsStr>) -> anyhow::Result<usize> {
    let output = Command::new(ffmpeg())
        .args(["-nostdin", "-v", "error", "-xerror", "-err_detect", "explode", "-i"])
        .arg(media)
        .args(["-fps_mode", "passthrough", "-f", "framecrc", "-"])
        .stdin(Stdio::null())
        .output()
        .context("ffmpeg does not start")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !complaint.trim().is_empty() {
        bail!(
            "it does not decode cleanly ({}): {}",
            output.status,
            complaint.lines().next().unwrap_or_default()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).count())
}

/// Runs a script of the browser folder with node; its standard output is JSON.
pub fn node(script: &str, arguments: &[OsString]) -> anyhow::Result<Value> {
    let program = std::env::var_os("NODE_BIN").unwrap_or_else(|| "node".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser").join(script);
    let output = Command::new(program)
        .arg(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("node does not start")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}
