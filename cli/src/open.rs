//! Opens the player in Chromium, which speaks QUIC to a self-made certificate only when told its hash.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use reelmill_media::ids::AssetId;

use crate::api;
use crate::up::state::State;

/// Names under which Chromium is installed.
const CHROMIUM: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Chromium takes QUIC for granted on this name once told so; it never does on `localhost`.
const HOST: &str = "reelmill.test";

/// Starts Chromium with a profile of its own under the data folder, and returns at once.
pub fn run(options: &api::Options, asset: AssetId) -> anyhow::Result<()> {
    let state = State::read(&options.data)
        .with_context(|| format!("no Reelmill runs on {}", options.data.display()))?;
    let browser = CHROMIUM
        .iter()
        .find_map(|name| find(name))
        .ok_or_else(|| anyhow!("Chromium is not installed; the player is at {}/watch/{asset}", state.edge))?;
    let profile = options.data.join("run").join("chromium");
    Command::new(browser)
        .args(flags(&state, &profile))
        .arg(format!("https://{HOST}:{}/watch/{asset}", state.edge_port))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(())
}

/// The flags with which Chromium plays from this machine's edge over HTTP/3.
fn flags(state: &State, profile: &std::path::Path) -> Vec<String> {
    let mut flags = vec![
        format!("--user-data-dir={}", profile.display()),
        format!("--origin-to-force-quic-on={HOST}:{}", state.edge_port),
        format!("--host-resolver-rules=MAP {HOST} 127.0.0.1"),
        format!("--ignore-certificate-errors-spki-list={}", state.spki_sha256),
        "--no-first-run".to_owned(),
    ];
    if rustix::process::geteuid().is_root() {
        // Chromium's own sandbox refuses to run as root.
        flags.push("--no-sandbox".to_owned());
    }
    flags
}

/// A program on the PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
