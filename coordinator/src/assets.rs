//! The bucket of assets: every change goes through the machine and a compare-and-set. Beside it stand two lists of keys: those
//! that are not over, which is what coordinators read when they start, however many assets have ended, and whose is whose. An
//! asset is put on the first before it is open, and taken off after it is closed.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt, future};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::{Bucket, Change, Revision, Written};
use reelmill_platform::owners::Owners;
use reelmill_platform::store::Store;
use reelmill_platform::topology::BucketName;
use tokio::sync::Mutex;

use crate::archive::{Archive, ArchiveError};
use crate::metrics::Metrics;
use crate::state::{Asset, Effect, Input, Moment, StageName, handle};

/// Other coordinators may win so often in a row before the message is given back.
const MAX_CONFLICTS: u32 = 20;
/// Locks that keep the tasks of this process from racing each other; more than are ever busy at once.
const STRIPES: usize = 256;
/// A list may name an asset for so long before its record is there.
const UNBORN_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Why an input was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// There is no such asset.
    #[error("there is no asset {0}")]
    Unknown(AssetId),
    /// Others changed it faster than we could.
    #[error("asset {0} is changed by others all the time")]
    Contended(AssetId),
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// What NATS could be rebuilt from was not stored.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// An input that was applied.
#[derive(Debug)]
pub struct Applied {
    /// The record as it is stored now.
    pub asset: Asset,
    /// What is to be done.
    pub effects: Vec<Effect>,
    /// The input changed the record.
    pub changed: bool,
    /// The record's revision.
    pub revision: Revision,
}

/// The bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Assets {
    bucket: Bucket<Asset>,
    open: Bucket<()>,
    owners: Owners,
    archive: Archive,
    stripes: Arc<Vec<Mutex<()>>>,
    retry_after: SignedDuration,
    /// Tenants that are told what becomes of their assets.
    told: Arc<HashSet<TenantId>>,
    metrics: Metrics,
}

impl Assets {
    /// Opens the bucket and what belongs to it.
    pub async fn open(
        bus: &Bus,
        store: Store,
        retry_after: SignedDuration,
        metrics: Metrics,
    ) -> Result<Self, BusError> {
        Ok(Self {
            bucket: bus.bucket(BucketName::Assets).await?,
            open: bus.bucket(BucketName::Open).await?,
            owners: Owners::open(bus).await?,
            archive: Archive::new(store),
            stripes: Arc::new((0..STRIPES).map(|_| Mutex::new(())).collect()),
            retry_after,
            told: Arc::default(),
            metrics,
        })
    }

    /// The same, with tenants that are told what becomes of their assets.
    pub fn telling(self, told: HashSet<TenantId>) -> Self {
        Self { told: Arc::new(told), ..self }
    }

    /// The bucket itself, for reading all of it.
    pub fn bucket(&self) -> &Bucket<Asset> {
        &self.bucket
    }

    /// What is kept of assets in the store.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Stores a new asset.
    pub async fn create(&self, asset: &Asset) -> Result<(), ApplyError> {
        let key = asset.id.to_string();
        let listed =
            async { tokio::try_join!(self.open.put(&key, &()), self.owners.add(&asset.tenant, asset.id)) };
        let (listed, kept) = tokio::join!(listed, self.archive.keep(asset));
        listed?;
        kept?;
        match self.bucket.create(&key, asset).await? {
            Written::Stored(_) => Ok(()),
            // 80 random bits: that is our own write, whose answer was lost.
            Written::Conflict => Ok(()),
        }
    }

    /// Stores an asset that NATS has lost; says whether it had.
    pub async fn restore(&self, asset: &Asset) -> Result<bool, ApplyError> {
        let key = asset.id.to_string();
        if !asset.is_closed() {
            self.open.put(&key, &()).await?;
        }
        self.owners.add(&asset.tenant, asset.id).await?;
        Ok(self.bucket.create(&key, asset).await? != Written::Conflict)
    }

    /// The record and its revision.
    pub async fn get(&self, id: AssetId) -> Result<Option<(Asset, Revision)>, BusError> {
        self.bucket.get(&id.to_string()).await
    }

    /// Every change of a record from now on.
    pub async fn changes(
        &self,
    ) -> Result<impl Stream<Item = Result<Change<Asset>, BusError>> + Send + 'static, BusError> {
        self.bucket.changes().await
    }

    /// All assets that may not be over.
    pub async fn unfinished(&self) -> Result<Vec<AssetId>, BusError> {
        let keys = self.open.keys().await?;
        keys.try_filter_map(|key| future::ready(Ok(key.parse::<AssetId>().ok()))).try_collect().await
    }

    /// A tenant's assets, newest first, of those that are older than `before`.
    pub async fn page(
        &self,
        tenant: &TenantId,
        before: Option<AssetId>,
        limit: usize,
    ) -> Result<Vec<AssetId>, BusError> {
        self.owners.page(tenant, before, limit).await
    }

    /// Takes an asset off the list of open ones if it is over: whoever closed it has died before that.
    pub async fn strike(&self, id: AssetId) -> Result<(), BusError> {
        let key = id.to_string();
        // In this order: who opens it again puts it on the list before, and that is another revision.
        let Some((_, listed)) = self.open.get(&key).await? else { return Ok(()) };
        let over = match self.bucket.get(&key).await? {
            Some((asset, _)) => asset.is_closed(),
            None => age(id) > UNBORN_FOR,
        };
        if over { self.open.remove_seen(&key, listed).await } else { Ok(()) }
    }

    /// What the machine must know of the world now.
    pub fn moment(&self, tenant: &TenantId) -> Moment {
        // As exact as records keep it, so that one which was written and is read again is the same.
        let now = Timestamp::now();
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        Moment { now, retry_after: self.retry_after, webhook: self.told.contains(tenant) }
    }

    /// Applies an input to the stored record.
    pub async fn apply(&self, id: AssetId, input: Input) -> Result<Applied, ApplyError> {
        let key = id.to_string();
        let _turn = self.stripe(id).lock().await;
        for attempt in 0..MAX_CONFLICTS {
            let Some((before, revision)) = self.bucket.get(&key).await? else {
                return Err(ApplyError::Unknown(id));
            };
            let next = handle(before.clone(), self.moment(&before.tenant), input.clone());
            let changed = next.asset != before;
            if !changed {
                return Ok(Applied { asset: next.asset, effects: next.effects, changed, revision });
            }
            let listed = self.prepare(&before, &next.asset).await?;
            let written = match self.bucket.update(&key, &next.asset, revision).await? {
                Written::Stored(revision) => Some(revision),
                // The answer to this very write may have been lost: what follows from it is still to be done.
                Written::Conflict => self
                    .get(id)
                    .await?
                    .and_then(|(standing, revision)| (standing == next.asset).then_some(revision)),
            };
            if let Some(revision) = written {
                self.metrics.asset_moved(&before, &next.asset);
                self.follow_up(&before, &next.asset, listed).await;
                return Ok(Applied { asset: next.asset, effects: next.effects, changed, revision });
            }
            self.metrics.conflicts.inc();
            tokio::time::sleep(backoff(attempt)).await;
        }
        Err(ApplyError::Contended(id))
    }

    /// What must stand before a change is written. Gives the revision under which an asset that this closes is listed as
    /// open.
    async fn prepare(&self, before: &Asset, after: &Asset) -> Result<Option<Revision>, ApplyError> {
        let key = after.id.to_string();
        if before.timings.received_at.is_none() && after.timings.received_at.is_some() {
            // Its sender is told that all is there: from now on the loss of NATS does not lose it.
            self.archive.keep(after).await?;
        }
        if before.standing.is_none() && after.standing.is_some() {
            // As well from now on.
            self.archive.keep(after).await?;
        }
        if before.is_closed() && !after.is_closed() {
            self.open.put(&key, &()).await?;
        }
        if before.is_closed() || !after.is_closed() {
            return Ok(None);
        }
        Ok(self.open.get(&key).await?.map(|(_, listed)| listed))
    }

    /// What follows from a change that is written. What fails here is done again when the asset is closed or forgotten, or
    /// when a coordinator starts.
    async fn follow_up(&self, before: &Asset, after: &Asset, listed: Option<Revision>) {
        let moved = before.stage.name() != after.stage.name();
        let kept = match after.stage.name() {
            StageName::Deleted if moved => self.archive.forget(after.id).await,
            StageName::Ready | StageName::Failed if moved || after.is_closed() => {
                self.archive.keep(after).await
            }
            StageName::Uploading
            | StageName::Queued
            | StageName::Indexing
            | StageName::Processing
            | StageName::Ready
            | StageName::Failed
            | StageName::Deleted => Ok(()),
        };
        if let Err(error) = kept {
            tracing::warn!(asset = %after.id, %error, "what is kept of an asset is not the latest");
        }
        if let Some(listed) = listed
            && let Err(error) = self.open.remove_seen(&after.id.to_string(), listed).await
        {
            tracing::debug!(asset = %after.id, %error, "it stands among the open ones until a start");
        }
    }

    /// Removes the record: the last thing that is known of an asset.
    pub async fn forget(&self, asset: &Asset) -> Result<(), ApplyError> {
        let key = asset.id.to_string();
        self.archive.forget(asset.id).await?;
        self.bucket.remove(&key).await?;
        self.owners.remove(&asset.tenant, asset.id).await?;
        Ok(self.open.remove_all(&key).await?)
    }

    fn stripe(&self, id: AssetId) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        &self.stripes[hasher.finish() as usize % STRIPES]
    }
}

/// A few milliseconds at first, at most 200, with jitter.
pub fn backoff(attempt: u32) -> Duration {
    let ceiling = 2u64.saturating_mul(1 << attempt.min(7)).min(200);
    Duration::from_millis(rand::rng().random_range(1..=ceiling))
}

fn age(id: AssetId) -> SignedDuration {
    let made = i64::try_from(id.unix_ms()).unwrap_or(i64::MAX);
    Timestamp::now().as_duration().saturating_sub(SignedDuration::from_millis(made))
}
