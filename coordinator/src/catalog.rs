//! What this process knows of all assets by watching their bucket: who owns which, which are not over yet, and who
//! wants to hear of one. A copy for lists, sweeps and events; nothing is decided by it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_media::task::{TaskNumber, TaskProgress};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::{Bucket, Change, Followed, Revision};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::schedule::{Demand, Schedule};
use crate::state::Asset;

/// Pause before a lost watch is begun anew.
const REWATCH_AFTER: Duration = Duration::from_secs(1);

/// An asset as last seen, and how far its running tasks said they are.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The record.
    pub asset: Arc<Asset>,
    /// Its revision; grows with each change.
    pub revision: u64,
    /// Parts done in 1/1000 of tasks in flight.
    pub running: BTreeMap<TaskNumber, u16>,
}

/// The copy. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    inner: Arc<Mutex<Inner>>,
    news: watch::Sender<()>,
    complete: watch::Sender<bool>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Inner {
    owned: BTreeMap<TenantId, BTreeSet<AssetId>>,
    unfinished: BTreeMap<AssetId, Sight>,
    watched: HashMap<AssetId, watch::Sender<Option<Sight>>>,
    schedule: Schedule,
}

impl Catalog {
    /// Knows nothing yet, and shares the fleet between tenants by these weights.
    pub fn new(metrics: Metrics, weights: HashMap<TenantId, NonZeroU32>) -> Self {
        let inner = Inner { schedule: Schedule::new(weights), ..Inner::default() };
        let (news, complete) = (watch::Sender::default(), watch::Sender::default());
        Self { inner: Arc::new(Mutex::new(inner)), news, complete, metrics }
    }

    /// Waits until everything that was there at the start is known, or until `stop`.
    pub async fn is_complete(&self, stop: &CancellationToken) {
        let mut complete = self.complete.subscribe();
        tokio::select! {
            _ = complete.wait_for(|complete| *complete) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Whether anything has changed.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// What waits for its turn, with all that is known here.
    pub fn schedule<T>(&self, ask: impl FnOnce(&mut Schedule) -> T) -> T {
        ask(&mut self.lock().schedule)
    }

    /// A record as it was just written here; the watch says so as well, but later.
    pub fn learn(&self, asset: &Asset, revision: Revision) {
        self.lock().schedule.see(asset.id, revision, Demand::of(asset));
    }

    /// Assets that the sweeper must look at.
    pub fn unfinished(&self) -> Vec<Arc<Asset>> {
        self.lock().unfinished.values().map(|sight| sight.asset.clone()).collect()
    }

    /// A tenant's assets, newest first, after `after`.
    pub fn page(&self, tenant: &TenantId, after: Option<AssetId>, limit: usize) -> Vec<AssetId> {
        let inner = self.lock();
        let Some(owned) = inner.owned.get(tenant) else { return Vec::new() };
        match after {
            Some(after) => owned.range(..after).rev().take(limit).copied().collect(),
            None => owned.iter().rev().take(limit).copied().collect(),
        }
    }

    /// News of one asset from now on: always the latest only.
    pub fn subscribe(&self, id: AssetId) -> watch::Receiver<Option<Sight>> {
        let mut inner = self.lock();
        inner.watched.retain(|_, sender| sender.receiver_count() > 0);
        let known = inner.unfinished.get(&id).cloned();
        inner.watched.entry(id).or_insert_with(|| watch::Sender::new(known)).subscribe()
    }

    /// Watches the bucket and the progress of tasks until told to stop.
    pub async fn watch(self, bus: Bus, bucket: Bucket<Asset>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let lost = tokio::select! {
                lost = self.watch_once(&bus, &bucket) => lost,
                () = stop.cancelled() => return,
            };
            if let Err(error) = lost {
                tracing::warn!(%error, "the watch of assets broke off");
            }
            tokio::select! {
                () = tokio::time::sleep(REWATCH_AFTER) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn watch_once(&self, bus: &Bus, bucket: &Bucket<Asset>) -> Result<(), BusError> {
        let mut changes = std::pin::pin!(bucket.follow().await?);
        let mut progress = std::pin::pin!(bus.subscribe_progress().await?);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(Followed::Change(change))) => self.see(change),
                    Some(Ok(Followed::UpToDate)) => drop(self.complete.send_replace(true)),
                    // One record that cannot be read must not hide the others.
                    Some(Err(error @ BusError::Codec { .. })) => tracing::error!(%error, "skipped a record"),
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                said = progress.next() => match said {
                    Some(said) => self.hear(&said),
                    None => return Ok(()),
                },
            }
        }
    }

    fn see(&self, change: Change<Asset>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Ok(id) = change.key.parse::<AssetId>() else { return };
        inner.unfinished.remove(&id);
        let demand = change.value.as_ref().and_then(Demand::of);
        inner.schedule.see(id, change.revision, demand);
        if let Some(asset) = change.value {
            inner.owned.entry(asset.tenant.clone()).or_default().insert(id);
            let asset = Arc::new(asset);
            let revision = change.revision.0;
            if let Some(sender) = inner.watched.get(&id) {
                sender.send_modify(|sight| {
                    let mut running = sight.take().map(|s| s.running).unwrap_or_default();
                    running.retain(|number, _| asset.epoch(*number).is_some());
                    *sight = Some(Sight { asset: asset.clone(), revision, running });
                });
            }
            if !asset.is_closed() {
                inner.unfinished.insert(id, Sight { asset, revision, running: BTreeMap::new() });
            }
        } else {
            for owned in inner.owned.values_mut() {
                owned.remove(&id);
            }
        }
        self.metrics.scheduled(&inner.schedule);
        self.metrics.assets_open.set(i64::try_from(inner.unfinished.len()).unwrap_or(i64::MAX));
        drop(guard);
        self.news.send_replace(());
    }

    fn hear(&self, said: &TaskProgress) {
        let inner = self.lock();
        let Some(sender) = inner.watched.get(&said.asset) else { return };
        sender.send_if_modified(|sight| match sight {
            Some(sight) if sight.asset.epoch(said.number) == Some(said.epoch) => {
                sight.running.insert(said.number, said.permille.min(1000));
                true
            }
            Some(_) | None => false,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
