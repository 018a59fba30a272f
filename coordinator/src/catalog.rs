//! What this process knows of the assets that are not over, and who wants to hear of which. A copy for sweeps, schedule and
//! events; nothing is decided by it. It is read from the list of open ones, then kept by watching the bucket: of an asset that
//! has ended, nothing is read and nothing is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use reelmill_media::ids::{AssetId, TenantId, WorkerId};
use reelmill_media::task::{TaskNumber, TaskProgress};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::{Change, Origin, Revision};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::assets::Assets;
use crate::metrics::Metrics;
use crate::schedule::{Demand, Schedule, Straggler, Stragglers};
use crate::state::{Asset, Stage};

/// Pause before a lost watch is begun anew.
const REWATCH_AFTER: Duration = Duration::from_secs(1);
/// Records read at once at the start.
const READS_AT_ONCE: usize = 64;

/// An asset as last seen, and how far its running tasks said they are.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The record.
    pub asset: Arc<Asset>,
    /// Its revision; grows with each change, as long as the bucket is the same.
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
    started: Instant,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Inner {
    /// Of the bucket of assets.
    origin: Option<Origin>,
    unfinished: BTreeMap<AssetId, Sight>,
    watched: HashMap<AssetId, watch::Sender<Option<Sight>>>,
    schedule: Schedule,
    stragglers: Stragglers,
}

impl Catalog {
    /// Knows nothing yet, and shares the fleet between tenants by these weights.
    pub fn new(metrics: Metrics, weights: HashMap<TenantId, NonZeroU32>) -> Self {
        let inner = Inner { schedule: Schedule::new(weights), ..Inner::default() };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            news: watch::Sender::default(),
            complete: watch::Sender::default(),
            started: Instant::now(),
            metrics,
        }
    }

    /// Waits until all that is not over at the start is known, or until `stop`.
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

    /// Running tasks that another worker of a fleet of so many slots had better do; each is told once.
    pub fn stragglers(&self, slots: u32) -> Vec<Straggler> {
        let now_ms = self.now_ms();
        let mut inner = self.lock();
        let out = inner.schedule.out();
        let idle = (slots as usize).saturating_sub(out.publish + out.ladder);
        inner.stragglers.due(now_ms, idle)
    }

    /// Workers at tasks that have not been heard for a moment, the quietest first, and no more than `most`.
    pub fn quiet(&self, most: usize) -> Vec<WorkerId> {
        let now_ms = self.now_ms();
        self.lock().stragglers.quiet(now_ms, most)
    }

    /// A worker's connection is gone.
    pub fn is_gone(&self, worker: WorkerId) {
        self.lock().stragglers.is_gone(worker);
    }

    /// Nobody can be heard now.
    pub fn is_deaf(&self) {
        let now_ms = self.now_ms();
        self.lock().stragglers.is_deaf(now_ms);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How far the tasks in work of an asset said they are, in 1/1000.
    pub fn running(&self, id: AssetId) -> BTreeMap<TaskNumber, u16> {
        self.lock().unfinished.get(&id).map(|sight| sight.running.clone()).unwrap_or_default()
    }

    /// News of one asset from now on: always the latest only.
    pub fn subscribe(&self, id: AssetId) -> watch::Receiver<Option<Sight>> {
        let mut inner = self.lock();
        inner.watched.retain(|_, sender| sender.receiver_count() > 0);
        let known = inner.unfinished.get(&id).cloned();
        inner.watched.entry(id).or_insert_with(|| watch::Sender::new(known)).subscribe()
    }

    /// Watches the bucket and the progress of tasks until told to stop.
    pub async fn watch(self, bus: Bus, assets: Assets, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let lost = tokio::select! {
                lost = self.watch_once(&bus, &assets) => lost,
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

    async fn watch_once(&self, bus: &Bus, assets: &Assets) -> Result<(), BusError> {
        // Before anything is read: what changes meanwhile is heard afterwards.
        let mut changes = std::pin::pin!(assets.changes().await?);
        self.come_from(assets.bucket().origin().await?);
        let mut progress = std::pin::pin!(bus.subscribe_progress().await?);
        self.read_unfinished(assets).await?;
        self.complete.send_replace(true);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(change)) => self.see(change),
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

    /// Takes note of which bucket the records are in. Revisions of another one say nothing about this one's.
    fn come_from(&self, origin: Origin) {
        let mut inner = self.lock();
        if inner.origin.replace(origin).is_none_or(|before| before == origin) {
            return;
        }
        tracing::warn!("NATS was made anew, all assets are read again");
        for sight in inner.unfinished.values_mut() {
            sight.revision = 0;
        }
        inner.schedule.forget_revisions();
        // Who listens comes back, and is told what is so now.
        inner.watched.clear();
    }

    /// Reads what is not over, and again what was not when it was last heard of.
    async fn read_unfinished(&self, assets: &Assets) -> Result<(), BusError> {
        let mut ids: BTreeSet<AssetId> = assets.unfinished().await?.into_iter().collect();
        ids.extend(self.lock().unfinished.keys());
        let mut found =
            stream::iter(ids).map(async |id| (id, assets.get(id).await)).buffer_unordered(READS_AT_ONCE);
        while let Some((id, found)) = found.next().await {
            match found {
                Ok(Some((asset, revision))) if !asset.is_closed() => {
                    self.see(Change { key: id.to_string(), revision, value: Some(asset) });
                }
                Ok(ended) => {
                    let known = self.lock().unfinished.get(&id).map(|sight| sight.revision);
                    if let Some(known) = known {
                        let (value, revision) = ended.unzip();
                        let revision = revision.unwrap_or(Revision(known));
                        self.see(Change { key: id.to_string(), revision, value });
                    }
                    assets.strike(id).await?;
                }
                Err(error @ BusError::Codec { .. }) => tracing::error!(%error, "skipped a record"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn see(&self, change: Change<Asset>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Ok(id) = change.key.parse::<AssetId>() else { return };
        let revision = change.revision.0;
        if inner.unfinished.get(&id).is_some_and(|known| known.revision > revision) {
            return;
        }
        let before = inner.unfinished.remove(&id);
        let at_work =
            change.value.as_ref().is_some_and(|asset| matches!(asset.stage, Stage::Processing { .. }));
        let epoch = |number| change.value.as_ref().and_then(|asset| asset.epoch(number));
        inner.stragglers.see(self.now_ms(), id, at_work, epoch);
        let demand = change.value.as_ref().and_then(Demand::of);
        inner.schedule.see(id, change.revision, demand);
        if let Some(asset) = change.value {
            let asset = Arc::new(asset);
            let mut running = before.map(|sight| sight.running).unwrap_or_default();
            running.retain(|number, _| asset.epoch(*number).is_some());
            let sight = Sight { asset, revision, running };
            if let Some(sender) = inner.watched.get(&id) {
                sender.send_replace(Some(sight.clone()));
            }
            if !sight.asset.is_closed() {
                inner.unfinished.insert(id, sight);
            }
        }
        self.metrics.scheduled(&inner.schedule);
        self.metrics.assets_open.set(i64::try_from(inner.unfinished.len()).unwrap_or(i64::MAX));
        drop(guard);
        self.news.send_replace(());
    }

    fn hear(&self, said: &TaskProgress) {
        let mut inner = self.lock();
        let Some(sight) = inner.unfinished.get_mut(&said.asset) else { return };
        if sight.asset.epoch(said.number) != Some(said.epoch) {
            return;
        }
        sight.running.insert(said.number, said.permille.min(1000));
        let sight = sight.clone();
        if let Some(sender) = inner.watched.get(&said.asset) {
            sender.send_replace(Some(sight));
        }
        inner.stragglers.hear(self.now_ms(), said);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
