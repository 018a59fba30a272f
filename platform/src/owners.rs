//! The list of whose asset is whose, by its keys alone. It is kept by the hours in which assets came into being, so that the
//! newest few of a tenant are found without reading the others, however many there are.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use reelmill_media::ids::{AssetId, TenantId};

use crate::bus::{Bus, BusError};
use crate::kv::Bucket;
use crate::topology::BucketName;

const HOUR_MS: u64 = 3_600_000;
/// Hours that are read at once: most of those that have anything have few.
const HOURS_AT_ONCE: usize = 4;

/// The list. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Owners {
    bucket: Bucket<()>,
}

/// An hour in which assets came into being, counted from the Unix epoch.
type Hour = u64;

fn hour_of(asset: AssetId) -> Hour {
    asset.unix_ms() / HOUR_MS
}

/// What says that there is something in an hour of a tenant's.
fn hour_key(tenant: &TenantId, hour: Hour) -> String {
    format!("{tenant}.{hour}")
}

/// What says that an asset is a tenant's.
pub fn owner_key(tenant: &TenantId, asset: AssetId) -> String {
    format!("{tenant}.{}.{asset}", hour_of(asset))
}

/// The tenant and the asset that a key names; `None` if it names an hour.
pub fn owner_of(key: &str) -> Option<(TenantId, AssetId)> {
    let (tenant, rest) = key.split_once('.')?;
    let (_, asset) = rest.split_once('.')?;
    Some((tenant.parse().ok()?, asset.parse().ok()?))
}

impl Owners {
    /// Opens the list.
    pub async fn open(bus: &Bus) -> Result<Self, BusError> {
        Ok(Self { bucket: bus.bucket(BucketName::Owners).await? })
    }

    /// Says whose an asset is.
    pub async fn add(&self, tenant: &TenantId, asset: AssetId) -> Result<(), BusError> {
        // In this order: an hour that was seen to be empty is taken off as it was seen, and this is another revision.
        self.bucket.put(&owner_key(tenant, asset), &()).await?;
        self.bucket.put(&hour_key(tenant, hour_of(asset)), &()).await?;
        Ok(())
    }

    /// There is no such asset any more.
    pub async fn remove(&self, tenant: &TenantId, asset: AssetId) -> Result<(), BusError> {
        self.bucket.remove_all(&owner_key(tenant, asset)).await
    }

    /// At most `limit` of a tenant's assets, newest first, of those that are older than `before`.
    pub async fn page(
        &self,
        tenant: &TenantId,
        before: Option<AssetId>,
        limit: usize,
    ) -> Result<Vec<AssetId>, BusError> {
        let mut hours = self.hours(tenant).await?;
        if let Some(before) = before {
            hours.retain(|hour| *hour <= hour_of(before));
        }
        let newest_first = stream::iter(hours.into_iter().rev());
        let mut read =
            newest_first.map(async |hour| self.of_hour(tenant, hour).await).buffered(HOURS_AT_ONCE);
        let mut page = Vec::new();
        while page.len() < limit
            && let Some(assets) = read.try_next().await?
        {
            let older = assets.into_iter().rev().filter(|asset| before.is_none_or(|before| *asset < before));
            page.extend(older.take(limit - page.len()));
        }
        Ok(page)
    }

    async fn hours(&self, tenant: &TenantId) -> Result<BTreeSet<Hour>, BusError> {
        let keys = self.bucket.keys_of(&format!("{tenant}.*")).await?;
        Ok(keys.iter().filter_map(|key| key.split_once('.')?.1.parse().ok()).collect())
    }

    async fn of_hour(&self, tenant: &TenantId, hour: Hour) -> Result<BTreeSet<AssetId>, BusError> {
        let assets = self.listed(tenant, hour).await?;
        if assets.is_empty() {
            self.strike(tenant, hour).await?;
        }
        Ok(assets)
    }

    async fn listed(&self, tenant: &TenantId, hour: Hour) -> Result<BTreeSet<AssetId>, BusError> {
        let keys = self.bucket.keys_of(&format!("{}.*", hour_key(tenant, hour))).await?;
        Ok(keys.iter().filter_map(|key| Some(owner_of(key)?.1)).collect())
    }

    /// Takes an hour off the list if all of its assets are gone.
    async fn strike(&self, tenant: &TenantId, hour: Hour) -> Result<(), BusError> {
        let key = hour_key(tenant, hour);
        let Some((_, seen)) = self.bucket.get(&key).await? else { return Ok(()) };
        if self.listed(tenant, hour).await?.is_empty() {
            self.bucket.remove_seen(&key, seen).await?;
        }
        Ok(())
    }
}
