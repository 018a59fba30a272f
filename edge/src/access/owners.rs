//! Whose assets are, by the list that coordinators keep: a key for each, of tenant and asset.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use moka::sync::Cache;
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::bus::Bus;
use reelmill_platform::kv::Bucket;
use reelmill_platform::owners::owner_key;
use reelmill_platform::topology::BucketName;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::Denial;
use crate::limits::{NOT_OWNED_FOR, OWNERS_REMEMBERED, POLICIES_DEADLINE};

#[derive(Debug)]
pub(super) struct Owners {
    bus: Option<Bus>,
    bucket: OnceCell<Bucket<()>>,
    /// All assets of those tenants whose assets are not for everyone.
    limited: RwLock<HashMap<AssetId, TenantId>>,
    /// What was asked about others.
    owned: Cache<(AssetId, TenantId), ()>,
    not_owned: Cache<(AssetId, TenantId), ()>,
}

impl Owners {
    pub(super) fn new(bus: Option<Bus>) -> Self {
        Self {
            bus,
            bucket: OnceCell::new(),
            limited: RwLock::default(),
            owned: Cache::new(OWNERS_REMEMBERED),
            not_owned: Cache::builder().max_capacity(OWNERS_REMEMBERED).time_to_live(NOT_OWNED_FOR).build(),
        }
    }

    /// The asset's tenant, if it limits its assets.
    pub(super) fn limited(&self, asset: AssetId) -> Option<TenantId> {
        self.read().get(&asset).cloned()
    }

    /// All assets of tenants that limit theirs.
    pub(super) fn all_limited(&self) -> Vec<(AssetId, TenantId)> {
        self.read().iter().map(|(asset, tenant)| (*asset, tenant.clone())).collect()
    }

    /// Notes an asset of a tenant that limits its assets. Says whether it is news.
    pub(super) fn note_limited(&self, asset: AssetId, tenant: TenantId) -> bool {
        self.write().insert(asset, tenant).is_none()
    }

    /// There is no such asset any more.
    pub(super) fn forget(&self, asset: AssetId) {
        self.write().remove(&asset);
    }

    /// Other tenants do not limit theirs.
    pub(super) fn retain(&self, tenants: &BTreeSet<TenantId>) {
        self.write().retain(|_, tenant| tenants.contains(tenant));
    }

    /// Whether an asset is a tenant's.
    pub(super) async fn is_of(&self, asset: AssetId, tenant: &TenantId) -> Result<bool, Denial> {
        if let Some(owner) = self.limited(asset) {
            return Ok(owner == *tenant);
        }
        let Some(bus) = &self.bus else { return Ok(false) };
        let pair = (asset, tenant.clone());
        if self.owned.contains_key(&pair) {
            return Ok(true);
        }
        if self.not_owned.contains_key(&pair) {
            return Ok(false);
        }
        let asking = async {
            let bucket = self.bucket.get_or_try_init(|| bus.bucket(BucketName::Owners)).await?;
            bucket.get(&owner_key(tenant, asset)).await
        };
        match timeout(POLICIES_DEADLINE, asking).await {
            Ok(Ok(Some(_))) => {
                self.owned.insert(pair, ());
                Ok(true)
            }
            Ok(Ok(None)) => {
                self.not_owned.insert(pair, ());
                Ok(false)
            }
            Ok(Err(error)) => {
                tracing::warn!(%asset, %error, "cannot learn whose asset this is");
                Err(Denial::Unknown)
            }
            Err(_) => Err(Denial::Unknown),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<AssetId, TenantId>> {
        self.limited.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<AssetId, TenantId>> {
        self.limited.write().unwrap_or_else(PoisonError::into_inner)
    }
}
