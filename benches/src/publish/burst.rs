//! Uploads as fast as they go: how long after the last byte there is a first frame.

use std::path::Path;
use std::time::Instant;

use reelmill_benches::up::Up;
use reqwest::Body;
use tokio::fs::File;

use super::row::Row;
use super::source::Source;
use super::upload::Upload;

/// Fewer runs than this have a maximum and no 95th percentile.
const MANY: usize = 20;

/// Uploads so often, each time to a Reelmill that has nothing else; it is stopped after the first frame.
pub async fn run(binaries: &Path, source: &Source, runs: u32) -> anyhow::Result<Row> {
    let mut after = Vec::new();
    for _ in 0..runs {
        let up = Up::start(binaries).await?;
        let measured = once(&up, source).await;
        up.stop()?;
        after.push(measured?);
    }
    after.sort_by(f64::total_cmp);
    let most = match after.len() {
        0 | 1 => String::new(),
        2..MANY => format!(", {:.2} s at most", rank(&after, 100)),
        MANY.. => format!(", {:.2} s at 95 %", rank(&after, 95)),
    };
    Ok(Row {
        what: format!(
            "{source}: from the last byte to the first frame, {runs} run{}",
            if runs == 1 { "" } else { "s" }
        ),
        measured: format!("{:.2} s{}{most}", rank(&after, 50), if most.is_empty() { "" } else { " median" }),
        bar: "1.0 s median, 2.0 s at 95 %".into(),
    })
}

/// The smallest value that so many in a hundred do not exceed.
fn rank(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied().unwrap_or(f64::NAN)
}

/// The seconds from the last byte until a player has a first frame to show, 0 where it had one before.
async fn once(up: &Up, source: &Source) -> anyhow::Result<f64> {
    let file = File::open(source.path()).await?;
    let upload = Upload::create(up, file.metadata().await?.len()).await?;
    let playable = async {
        upload.plays().await?;
        Ok(Instant::now())
    };
    let (sent, playable) = tokio::try_join!(upload.send(Body::from(file)), playable)?;
    upload.first_frame().await?;
    Ok(playable.saturating_duration_since(sent).as_secs_f64())
}
