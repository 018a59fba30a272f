//! Ours: `reelmill up` on a fresh folder, one upload, everything until the last playlist is closed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use reqwest::Method;
use serde_json::Value;

use reelmill_benches::up::Up;
use reelmill_benches::usage::{Cost, Meter};

/// A state that does not come within this will not come.
const DEADLINE: Duration = Duration::from_secs(900);

/// How often a state is looked at; far below what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Uploads `clip`. The wall clock runs from the first byte to the last closed playlist; CPU time is that of all
/// processes, from their start to their end. The second value is the time from the last byte to playable, in seconds:
/// less than nothing where it played before.
pub async fn journey(binaries: &Path, clip: &Path) -> anyhow::Result<(Cost, f64)> {
    let whole = Meter::start()?;
    let up = Up::start(binaries).await?;
    let measured = measure(&up, clip).await;
    up.stop()?;
    let (wall, playable) = measured?;
    Ok((Cost { cpu: whole.cpu()?, wall }, playable))
}

async fn measure(up: &Up, clip: &Path) -> anyhow::Result<(f64, f64)> {
    let body = tokio::fs::read(clip).await?;
    let started = Instant::now();
    let request = up.request(Method::PUT, "/v1/uploads").body(body);
    let asset: Value = request.send().await?.error_for_status()?.json().await?;
    let id = asset["id"].as_str().ok_or_else(|| anyhow!("the answer lacks an id"))?.to_owned();
    while started.elapsed() < DEADLINE {
        let asset = up.asset(&id).await?;
        if asset["state"] == "ready" {
            return Ok((started.elapsed().as_secs_f64(), playable_after(&asset)?));
        }
        tokio::time::sleep(LOOK_EVERY).await;
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
