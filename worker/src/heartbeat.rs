//! Says every few seconds that this worker lives.

use reelmill_media::ids::WorkerId;
use reelmill_platform::kv::Bucket;
use reelmill_platform::workers::{SAY_EVERY, WorkerRecord};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::probe::ready::Encoders;

/// Puts the worker's record until `stop` is cancelled, then removes it.
pub async fn run(
    bucket: Bucket<WorkerRecord>,
    id: WorkerId,
    metrics: Metrics,
    encoders: Encoders,
    stop: CancellationToken,
) {
    let key = id.to_string();
    let started_at = jiff::Timestamp::now();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut ticks = interval(SAY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let record = WorkerRecord {
            id,
            host: host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots: metrics.slots.get().try_into().unwrap_or(0),
            busy: metrics.busy.get().try_into().unwrap_or(0),
            started_at,
            encoders: encoders.advertised(),
        };
        if let Err(error) = bucket.put(&key, &record).await {
            tracing::warn!(%error, "the fleet cannot be told that this worker lives");
        }
    }
    if let Err(error) = bucket.remove(&key).await {
        tracing::debug!(%error, "the worker's record stays until it expires");
    }
}
