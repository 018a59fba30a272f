//! Says every few seconds that this worker lives, and asks whether it may work.

use reelmill_media::ids::WorkerId;
use reelmill_platform::kv::Bucket;
use reelmill_platform::workers::{Conduct, SAY_EVERY, WorkerRecord};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::probe::ready::Encoders;

/// Puts the worker's record until `stop` is cancelled, then removes it; says in `quarantined` whether it is to take no
/// tasks.
pub async fn run(
    bucket: Bucket<WorkerRecord>,
    conduct: Bucket<Conduct>,
    id: WorkerId,
    quarantined: watch::Sender<bool>,
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
        match conduct.get(&key).await {
            Ok(conduct) => {
                let now = conduct.is_some_and(|(conduct, _)| conduct.quarantined_at.is_some());
                if quarantined.send_if_modified(|before| std::mem::replace(before, now) != now) {
                    tracing::warn!(quarantined = now, "coordinators have decided about this worker");
                }
                metrics.quarantined.set(i64::from(now));
            }
            Err(error) => tracing::warn!(%error, "whether this worker may work is not known now"),
        }
        let quarantined = *quarantined.borrow();
        let slots = if quarantined { 0 } else { metrics.slots.get() };
        let record = WorkerRecord {
            id,
            host: host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots: slots.try_into().unwrap_or(0),
            busy: metrics.busy.get().try_into().unwrap_or(0),
            started_at,
            quarantined,
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
