//! The fleet, from what its workers say of themselves: who lives, and how many tasks can be done at once.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;
use reelmill_media::ids::WorkerId;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::topology::WORKER_TTL;
use reelmill_platform::workers::WorkerRecord;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::quarantine::{Inside, Quarantine};

/// How often those are looked for that have fallen silent.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause before workers are listened to again after that ended.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Ready tasks per live slot: a slot that becomes free finds the next task waiting, and no more wait than that.
const TASKS_PER_SLOT: usize = 2;

/// So many are ready at least: workers that have just come are not counted yet.
const FEWEST_TASKS: usize = 4;

/// The fleet as heard of here. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    live: BTreeMap<WorkerId, (Instant, WorkerRecord)>,
    /// Sums over all that live.
    slots: u32,
    busy: u32,
    quarantined: u32,
}

impl Inner {
    fn insert(&mut self, now: Instant, record: WorkerRecord) {
        self.slots = self.slots.saturating_add(record.slots);
        self.busy = self.busy.saturating_add(record.busy);
        self.quarantined += u32::from(record.quarantined);
        self.live.insert(record.id, (now, record));
    }

    fn remove(&mut self, id: WorkerId) {
        let Some((_, record)) = self.live.remove(&id) else { return };
        self.slots = self.slots.saturating_sub(record.slots);
        self.busy = self.busy.saturating_sub(record.busy);
        self.quarantined = self.quarantined.saturating_sub(u32::from(record.quarantined));
    }
}

impl Fleet {
    /// Tasks that can be done at once; 0 when nobody is there.
    pub fn slots(&self) -> u32 {
        self.lock().slots
    }

    /// Tasks that wait in the queues or are worked on, of all jobs.
    pub fn window(&self) -> usize {
        (self.slots() as usize * TASKS_PER_SLOT).max(FEWEST_TASKS)
    }

    /// All that live.
    pub fn workers(&self) -> Vec<WorkerRecord> {
        self.lock().live.values().map(|(_, record)| record.clone()).collect()
    }

    /// Whether a worker has said lately that it lives.
    pub fn lives(&self, id: WorkerId) -> bool {
        self.lock().live.contains_key(&id)
    }

    /// A worker is gone, without a last word.
    pub fn forget(&self, id: WorkerId) {
        self.lock().remove(id);
    }

    /// Whether anybody but these takes tasks.
    pub fn has_others_than(&self, these: &[WorkerId]) -> bool {
        self.lock().live.values().any(|(_, record)| record.slots > 0 && !these.contains(&record.id))
    }

    /// Listens to workers until told to stop, and tells those that are wrong about it whether they are in `quarantine`.
    pub async fn listen(self, bus: Bus, quarantine: Quarantine, metrics: Metrics, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let lost = tokio::select! {
                lost = self.listen_once(&bus, &quarantine, &metrics) => lost,
                () = stop.cancelled() => return,
            };
            if let Err(error) = lost {
                tracing::warn!(%error, "workers are not heard now");
            }
            tokio::select! {
                () = sleep(AGAIN_AFTER) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn listen_once(
        &self,
        bus: &Bus,
        quarantine: &Quarantine,
        metrics: &Metrics,
    ) -> Result<(), BusError> {
        let mut said = pin!(bus.hear_alive().await?);
        let mut decided = pin!(quarantine.follow().await?);
        bus.ask_who_lives().await?;
        let mut inside = Inside::default();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                record = said.next() => {
                    let Some(record) = record else { return Ok(()) };
                    let (id, thinks) = (record.id, record.quarantined);
                    self.hear(Instant::now(), record);
                    if let Some(is) = inside.holds(id, Timestamp::now())
                        && is != thinks
                    {
                        bus.say_quarantined(id, is).await?;
                    }
                }
                followed = decided.next() => match followed {
                    Some(Ok(followed)) => {
                        let worker = inside.learn(followed);
                        if let Some((id, is)) = worker.and_then(|id| Some((id, inside.holds(id, Timestamp::now())?))) {
                            bus.say_quarantined(id, is).await?;
                        }
                    }
                    Some(Err(error @ BusError::Codec { .. })) => tracing::error!(%error, "skipped a record"),
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                _ = ticks.tick() => {
                    self.forget_silent(Instant::now());
                    self.count(metrics);
                }
            }
        }
    }

    fn hear(&self, now: Instant, record: WorkerRecord) {
        let mut inner = self.lock();
        inner.remove(record.id);
        if !record.gone {
            inner.insert(now, record);
        }
    }

    fn forget_silent(&self, now: Instant) {
        let mut inner = self.lock();
        let silent = |heard: Instant| now.duration_since(heard) >= WORKER_TTL;
        let gone: Vec<_> =
            inner.live.iter().filter(|(_, (heard, _))| silent(*heard)).map(|(id, _)| *id).collect();
        for id in gone {
            inner.remove(id);
        }
    }

    fn count(&self, metrics: &Metrics) {
        let inner = self.lock();
        metrics.live_workers.set(i64::try_from(inner.live.len()).unwrap_or(i64::MAX));
        metrics.live_slots.set(inner.slots.into());
        metrics.busy_slots.set(inner.busy.into());
        metrics.quarantined_workers.set(inner.quarantined.into());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(n: u64, slots: u32) -> WorkerRecord {
        WorkerRecord {
            id: WorkerId::from_parts(n, 1),
            host: String::new(),
            version: String::new(),
            slots,
            busy: 1,
            started_at: Timestamp::UNIX_EPOCH,
            quarantined: slots == 0,
            gone: false,
            encoders: Vec::new(),
        }
    }

    #[test]
    fn who_speaks_is_counted_once_and_who_goes_or_falls_silent_is_not() {
        let (fleet, start) = (Fleet::default(), Instant::now());
        for n in 0..100 {
            fleet.hear(start, worker(n, 4));
        }
        fleet.hear(start, worker(0, 8));
        fleet.hear(start, worker(1, 0));
        let sums = || {
            let inner = fleet.lock();
            (inner.slots, inner.busy, inner.quarantined)
        };
        assert_eq!((sums(), fleet.window()), ((400, 100, 1), 800));
        fleet.hear(start, WorkerRecord { gone: true, ..worker(2, 4) });
        fleet.hear(start + WORKER_TTL / 2, worker(3, 4));
        fleet.forget_silent(start + WORKER_TTL);
        assert_eq!(fleet.workers(), [worker(3, 4)]);
        assert_eq!(sums(), (4, 1, 0));
    }

    #[test]
    fn a_worker_alone_cannot_leave_anything_to_others() {
        let (fleet, now) = (Fleet::default(), Instant::now());
        let (one, other) = (worker(1, 1), worker(2, 1));
        fleet.hear(now, one.clone());
        assert!(!fleet.has_others_than(&[one.id]) && fleet.has_others_than(&[other.id]));
        fleet.hear(now, WorkerRecord { slots: 0, ..other.clone() });
        assert!(!fleet.has_others_than(&[one.id]), "one that drains or is in quarantine is no help");
        fleet.hear(now, other);
        assert!(fleet.has_others_than(&[one.id]));
    }
}
