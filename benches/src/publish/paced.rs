//! One upload at the rate of its media, beside one that is there at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use futures_util::stream;
use reelmill_benches::up::Up;
use reqwest::Body;
use serde_json::Value;

use super::{create, plays, send};

/// Bytes sent at a time.
const PIECE_BYTES: usize = 64 << 10;
/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Prints how much was in when the first rung played, and when the whole ladder was there.
pub async fn run(binaries: &Path, source: &Path, seconds: u32) -> anyhow::Result<()> {
    let bytes = Bytes::from(tokio::fs::read(source).await?);
    let up = Up::start(binaries).await?;
    let alone = at_rate(&up, bytes.clone(), Duration::ZERO).await;
    up.stop()?;
    let (alone, _) = alone?;
    let up = Up::start(binaries).await?;
    let beside = at_rate(&up, bytes, Duration::from_secs(seconds.into())).await;
    up.stop()?;
    let (after, part) = beside?;
    println!(
        "at 1 x media rate, {seconds} s: plays with {:.1} % of the bytes in; the ladder ends {after:.1} s after the last byte, \\
         by itself it takes {alone:.1} s ({:.0} %)",
        part * 100.0,
        after / alone * 100.0
    );
    Ok(())
}

/// Uploads evenly over `over`: the seconds from the last byte to the end of the ladder, and the part of the bytes that was in
/// when something played.
async fn at_rate(up: &Up, bytes: Bytes, over: Duration) -> anyhow::Result<(f64, f64)> {
    let length = bytes.len();
    let (upload, asset) = create(up, length as u64).await?;
    let started = Instant::now();
    let pieces = stream::unfold(0usize, move |at| {
        let bytes = bytes.clone();
        async move {
            let end = (at + PIECE_BYTES).min(length);
            let due = over.mul_f64(end as f64 / length.max(1) as f64);
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            (at < length).then(|| (Ok::<_, std::io::Error>(bytes.slice(at..end)), end))
        }
    });
    let sent = async {
        send(up, &upload, Body::wrap_stream(pieces)).await?;
        Ok(Instant::now())
    };
    let played = async {
        plays(up, &asset).await?;
        let part = started.elapsed().as_secs_f64() / over.as_secs_f64();
        Ok::<_, anyhow::Error>(part.min(1.0))
    };
    let (sent, part) = tokio::try_join!(sent, played)?;
    loop {
        let shown: Value = up.asset(&asset).await?;
        if shown["state"] == "ready" {
            return Ok((sent.elapsed().as_secs_f64(), part));
        }
        if started.elapsed() > over + Duration::from_secs(900) {
            return Err(anyhow!("not ready in time"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
