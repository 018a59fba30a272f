//! Ours: `reelmill up` on a fresh folder, one upload, everything until the last playlist is closed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use reelmill_benches::usage::{Cost, Meter};

/// A state that does not come within this will not come.
const DEADLINE: Duration = Duration::from_secs(900);

/// How often a state is looked at; far below what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Uploads `clip`. The wall clock runs from the first byte to the last closed playlist; CPU time is that of all
/// processes, from their start to their end. The second value is the time from the last byte to playable, in seconds.
pub async fn journey(binaries: &Path, clip: &Path) -> anyhow::Result<(Cost, f64)> {
    let data = tempfile::tempdir()?;
    let whole = Meter::start()?;
    let mut up = Command::new(binaries.canonicalize()?.join("reelmill"))
        .args(["up", "--api-port", "0", "--edge-port", "0", "--data"])
        .arg(data.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("reelmill cannot be run; `cargo build --release` makes it")?;
    let measured = measure(data.path(), clip).await;
    stop(&mut up)?;
    let (wall, playable) = measured?;
    Ok((Cost { cpu: whole.cpu()?, wall }, playable))
}

async fn measure(data: &Path, clip: &Path) -> anyhow::Result<(f64, f64)> {
    let state: Value = until(|| std::fs::read(data.join("run/state.json")).ok()).await?;
    let text =
        |key: &str| state[key].as_str().map(str::to_owned).ok_or_else(|| anyhow!("the state lacks {key}"));
    let (api, key) = (text("api")?, text("api_key")?);
    let client = reqwest::Client::new();
    let body = tokio::fs::read(clip).await?;
    let started = Instant::now();
    let request = client.put(format!("{api}/v1/uploads")).bearer_auth(&key).body(body);
    let asset: Value = request.send().await?.error_for_status()?.json().await?;
    let id = asset["id"].as_str().ok_or_else(|| anyhow!("the answer lacks an id"))?.to_owned();
    while started.elapsed() < DEADLINE {
        let request = client.get(format!("{api}/v1/assets/{id}")).bearer_auth(&key);
        let asset: Value = request.send().await?.error_for_status()?.json().await?;
        match asset["state"].as_str() {
            Some("ready") => return Ok((started.elapsed().as_secs_f64(), playable_after(&asset)?)),
            Some("failed") => bail!("the asset failed: {}", asset["error"]),
            Some(_) | None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    bail!("not ready within {} s", DEADLINE.as_secs())
}

fn playable_after(asset: &Value) -> anyhow::Result<f64> {
    let time = |key: &str| -> anyhow::Result<jiff::Timestamp> {
        let text = asset["timings"][key].as_str().ok_or_else(|| anyhow!("the asset lacks {key}"))?;
        Ok(text.parse()?)
    };
    Ok(time("playable_at")?.duration_since(time("received_at")?).as_secs_f64())
}

async fn until(ready: impl Fn() -> Option<Vec<u8>>) -> anyhow::Result<Value> {
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if let Some(value) = ready().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(value);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("reelmill did not start")
}

/// Asks it to stop and waits, so that its CPU time is counted.
fn stop(up: &mut Child) -> anyhow::Result<()> {
    let told = Command::new("kill").args(["-TERM", &up.id().to_string()]).status()?;
    if !told.success() {
        bail!("reelmill had ended before it was told to");
    }
    up.wait()?;
    Ok(())
}
