//! The bucket of assets: every change goes through the machine and a compare-and-set.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::bus::BusError;
use reelmill_platform::kv::{Bucket, Revision, Written};
use tokio::sync::Mutex;

use crate::metrics::Metrics;
use crate::state::{Asset, Effect, Input, Moment, handle};

/// Other coordinators may win so often in a row before the message is given back.
const MAX_CONFLICTS: u32 = 20;
/// Locks that keep the tasks of this process from racing each other; more than are ever busy at once.
const STRIPES: usize = 256;

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
    stripes: Arc<Vec<Mutex<()>>>,
    retry_after: SignedDuration,
    /// Tenants that are told what becomes of their assets.
    told: Arc<HashSet<TenantId>>,
    metrics: Metrics,
}

impl Assets {
    /// Over an open bucket.
    pub fn new(bucket: Bucket<Asset>, retry_after: SignedDuration, metrics: Metrics) -> Self {
        let stripes = Arc::new((0..STRIPES).map(|_| Mutex::new(())).collect());
        Self { bucket, stripes, retry_after, told: Arc::default(), metrics }
    }

    /// The same, with tenants that are told what becomes of their assets.
    pub fn telling(self, told: HashSet<TenantId>) -> Self {
        Self { told: Arc::new(told), ..self }
    }

    /// The bucket itself, for watching.
    pub fn bucket(&self) -> &Bucket<Asset> {
        &self.bucket
    }

    /// Stores a new asset.
    pub async fn create(&self, asset: &Asset) -> Result<(), ApplyError> {
        match self.bucket.create(&asset.id.to_string(), asset).await? {
            Written::Stored(_) => Ok(()),
            // 80 random bits: that is our own write, whose answer was lost.
            Written::Conflict => Ok(()),
        }
    }

    /// The record and its revision.
    pub async fn get(&self, id: AssetId) -> Result<Option<(Asset, Revision)>, BusError> {
        self.bucket.get(&id.to_string()).await
    }

    /// What the machine must know of the world now.
    pub fn moment(&self, tenant: &TenantId) -> Moment {
        Moment { now: Timestamp::now(), retry_after: self.retry_after, webhook: self.told.contains(tenant) }
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
            match self.bucket.update(&key, &next.asset, revision).await? {
                Written::Stored(revision) => {
                    self.metrics.asset_moved(&before, &next.asset);
                    return Ok(Applied { asset: next.asset, effects: next.effects, changed, revision });
                }
                Written::Conflict => {
                    self.metrics.conflicts.inc();
                    tokio::time::sleep(backoff(attempt)).await;
                }
            }
        }
        Err(ApplyError::Contended(id))
    }

    /// Removes the record: the last thing that is known of an asset.
    pub async fn forget(&self, id: AssetId) -> Result<(), BusError> {
        self.bucket.remove(&id.to_string()).await
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
