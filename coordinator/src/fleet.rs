//! How many tasks the fleet can do at once, from what its workers say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reelmill_platform::bus::BusError;
use reelmill_platform::kv::Bucket;
use reelmill_platform::workers::WorkerRecord;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How often the workers are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Ready tasks per live slot: a slot that becomes free finds the next task waiting, and no more wait than that.
const TASKS_PER_SLOT: usize = 2;

/// So many are ready at least: workers that have just come are not counted yet.
const FEWEST_TASKS: usize = 4;

/// The fleet as last counted. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    slots: Arc<AtomicU32>,
}

impl Fleet {
    /// Tasks that can be done at once; 0 when nobody is there.
    pub fn slots(&self) -> u32 {
        self.slots.load(Ordering::Relaxed)
    }

    /// Tasks that wait in the queues or are worked on, of all jobs.
    pub fn window(&self) -> usize {
        (self.slots() as usize * TASKS_PER_SLOT).max(FEWEST_TASKS)
    }

    /// Counts now.
    pub async fn count(&self, workers: &Bucket<WorkerRecord>, metrics: &Metrics) -> Result<(), BusError> {
        let live = workers.list(">").await?;
        let slots = live.iter().fold(0u32, |sum, (_, worker)| sum.saturating_add(worker.slots));
        let busy = live.iter().fold(0u32, |sum, (_, worker)| sum.saturating_add(worker.busy));
        self.slots.store(slots, Ordering::Relaxed);
        let quarantined = live.iter().filter(|(_, worker)| worker.quarantined).count();
        metrics.quarantined_workers.set(i64::try_from(quarantined).unwrap_or(i64::MAX));
        metrics.live_workers.set(i64::try_from(live.len()).unwrap_or(i64::MAX));
        metrics.live_slots.set(i64::from(slots));
        metrics.busy_slots.set(i64::from(busy));
        Ok(())
    }

    /// Counts again and again until told to stop.
    pub async fn watch(self, workers: Bucket<WorkerRecord>, metrics: Metrics, stop: CancellationToken) {
        loop {
            if let Err(error) = self.count(&workers, &metrics).await {
                tracing::warn!(%error, "cannot count the workers; keeping the last number");
            }
            tokio::select! {
                () = tokio::time::sleep(COUNT_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
