//! An upload at the rate of its media, beside one that is there at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use futures_util::stream;
use reelmill_benches::up::Up;
use reqwest::Body;
use serde_json::Value;

use super::row::Row;
use super::source::Source;
use super::upload::Upload;

/// Bytes sent at a time.
const PIECE_BYTES: usize = 64 << 10;
/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A ladder that is not there so long after its last byte will not be.
const DEADLINE: Duration = Duration::from_secs(900);
/// How long a chunk is that comes in at the rate of the media, in seconds.
const CHUNK_SECONDS: f64 = 4.0;

/// How one went.
struct Went {
    /// The part of the bytes that was sent when something played.
    part: f64,
    /// Seconds from the last byte to the end of the ladder.
    after: f64,
}

/// Tells how much was in when the first rung played, and when the whole ladder was there.
pub async fn run(binaries: &Path, source: &Source) -> anyhow::Result<[Row; 2]> {
    let bytes = Bytes::from(tokio::fs::read(source.path()).await?);
    let alone = fresh(binaries, bytes.clone(), Duration::ZERO).await?.after;
    let paced = fresh(binaries, bytes, Duration::from_secs(source.seconds.into())).await?;
    let seconds = source.seconds;
    // Uploaded at once it has all cores, a chunk has one.
    let cores = std::thread::available_parallelism()?.get() as f64;
    let chunk = alone * cores * CHUNK_SECONDS / f64::from(seconds.max(1));
    Ok([
        Row {
            what: format!("{source}, over {seconds} s: part of the bytes sent when it plays"),
            measured: format!("{:.1} %", paced.part * 100.0),
            bar: "25 %".into(),
        },
        Row {
            what: format!("{source}, over {seconds} s: from the last byte to the end of the ladder"),
            measured: format!("{:.1} s; by itself {alone:.1} s", paced.after),
            bar: format!("{:.1} s (0.10 × {alone:.1} s + {chunk:.1} s)", 0.10 * alone + chunk),
        },
    ])
}

/// With a Reelmill that has nothing else.
async fn fresh(binaries: &Path, bytes: Bytes, over: Duration) -> anyhow::Result<Went> {
    let up = Up::start(binaries).await?;
    let went = at_rate(&up, bytes, over).await;
    up.stop()?;
    went
}

/// Uploads evenly over `over`.
async fn at_rate(up: &Up, bytes: Bytes, over: Duration) -> anyhow::Result<Went> {
    let length = bytes.len();
    let upload = Upload::create(up, length as u64).await?;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let started = Instant::now();
    let pieces = stream::unfold(0usize, move |at| {
        let (bytes, sent) = (bytes.clone(), Arc::clone(&counted));
        async move {
            let end = (at + PIECE_BYTES).min(length);
            let due = over.mul_f64(end as f64 / length.max(1) as f64);
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            sent.store(end, Ordering::Relaxed);
            (at < length).then(|| (Ok::<_, std::io::Error>(bytes.slice(at..end)), end))
        }
    });
    let played = async {
        upload.plays().await?;
        let part = sent.load(Ordering::Relaxed) as f64 / length.max(1) as f64;
        upload.first_frame().await?;
        Ok(part)
    };
    let (last_byte, part) = tokio::try_join!(upload.send(Body::wrap_stream(pieces)), played)?;
    while last_byte.elapsed() < DEADLINE {
        let shown: Value = up.asset(&upload.asset).await?;
        if shown["state"] == "ready" {
            return Ok(Went { part, after: last_byte.elapsed().as_secs_f64() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("not ready within {} s", DEADLINE.as_secs())
}
