//! How much each tenant may upload: how large, how many at once, how many in a minute.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use reelmill_media::ids::TenantId;
use serde::{Deserialize, Deserializer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::beginnings::Beginnings;
use crate::places::{Place, Places};

/// All places of a tenant stand in one record, which NATS takes up to 512 KiB of.
const MAX_AT_ONCE: u32 = 1000;

/// A tenant's limits, as they stand in the keys file. What is not said is not limited beyond what holds for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantLimits {
    /// Length of an upload in bytes.
    upload_bytes: Option<u64>,
    /// Uploads that take bytes at once, at all coordinators together; up to [`MAX_AT_ONCE`].
    #[serde(default, deserialize_with = "few")]
    uploads_at_once: Option<NonZeroU32>,
    /// Uploads begun in a minute, at all coordinators together.
    uploads_per_minute: Option<NonZeroU32>,
    /// Its share of the workers where tenants compete for them; 1 unless said.
    weight: Option<NonZeroU32>,
}

fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    let said = Option::<NonZeroU32>::deserialize(deserializer)?;
    if said.is_some_and(|said| said.get() > MAX_AT_ONCE) {
        let wrong = format!("uploads_at_once may be {MAX_AT_ONCE} at most; leave it out for no limit");
        return Err(serde::de::Error::custom(wrong));
    }
    Ok(said)
}

/// The shares that are said.
pub fn weights(limits: &HashMap<TenantId, TenantLimits>) -> HashMap<TenantId, NonZeroU32> {
    limits.iter().filter_map(|(tenant, limits)| Some((tenant.clone(), limits.weight?))).collect()
}

/// The numbers of uploads at once that are said.
pub fn uploads_at_once(
    limits: &HashMap<TenantId, TenantLimits>,
) -> impl Iterator<Item = (TenantId, NonZeroU32)> {
    limits.iter().filter_map(|(tenant, limits)| Some((tenant.clone(), limits.uploads_at_once?)))
}

/// The numbers of uploads in a minute that are said.
pub fn uploads_per_minute(
    limits: &HashMap<TenantId, TenantLimits>,
) -> impl Iterator<Item = (TenantId, NonZeroU32)> {
    limits.iter().filter_map(|(tenant, limits)| Some((tenant.clone(), limits.uploads_per_minute?)))
}

/// Why an upload may not begin or go on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverQuota {
    /// Beyond what any upload of this tenant may have.
    #[error("An upload has at most {limit} bytes.")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// This process takes no more uploads.
    #[error("Too many uploads are going on; try again soon.")]
    Busy,
    /// This tenant has no more uploads.
    #[error("You have {limit} uploads going on, which is as many as you may; try again when one has ended.")]
    TooManyAtOnce {
        /// How many it has.
        limit: u32,
    },
    /// NATS does not say what this tenant has.
    #[error("It cannot be told now how many uploads you have begun; try again soon.")]
    Unknown,
    /// This tenant has begun so many in the last minute.
    #[error("You may begin {limit} uploads a minute; try again later.")]
    TooOften {
        /// How many it may.
        limit: u32,
        /// Until the next may begin.
        wait: Duration,
    },
}

/// The right to take the bytes of an upload.
#[derive(Debug)]
pub struct Permit {
    of_all: Option<OwnedSemaphorePermit>,
    of_tenant: Option<Place>,
}

impl Permit {
    /// Does `work`, and gives the right back before the outcome is told: the next request may come to another coordinator.
    pub fn during<T>(self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        // Large, and often moved from here on.
        let work = Box::pin(work);
        let Permit { of_all, of_tenant } = self;
        async move {
            let done = work.await;
            drop(of_all);
            if let Some(place) = of_tenant {
                place.leave().await;
            }
            done
        }
    }
}

/// All limits, and what is used of them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quotas {
    upload_bytes: u64,
    at_once: Arc<Semaphore>,
    places: Places,
    beginnings: Beginnings,
    tenants: Arc<HashMap<TenantId, TenantLimits>>,
}

impl Quotas {
    /// For all: the length of an upload in bytes, and uploads at once in this process.
    pub fn new(
        upload_bytes: u64,
        at_once: usize,
        tenants: HashMap<TenantId, TenantLimits>,
        places: Places,
        beginnings: Beginnings,
    ) -> Quotas {
        let (at_once, tenants) = (Arc::new(Semaphore::new(at_once)), Arc::new(tenants));
        Quotas { upload_bytes, at_once, places, beginnings, tenants }
    }

    /// No upload is longer, in bytes, whoever sends it.
    pub fn largest_upload(&self) -> u64 {
        self.upload_bytes
    }

    /// No upload of this tenant is longer, in bytes.
    pub fn upload_bytes(&self, tenant: &TenantId) -> u64 {
        let own = self.tenants.get(tenant).and_then(|limits| limits.upload_bytes);
        own.unwrap_or(u64::MAX).min(self.upload_bytes)
    }

    /// Refuses more bytes than an upload of this tenant may have.
    pub fn check_length(&self, tenant: &TenantId, length: u64) -> Result<(), OverQuota> {
        let limit = self.upload_bytes(tenant);
        if length > limit { Err(OverQuota::TooLarge { limit }) } else { Ok(()) }
    }

    /// Counts the beginning of an upload.
    pub async fn begin(&self, tenant: &TenantId) -> Result<(), OverQuota> {
        self.beginnings.count(tenant).await
    }

    /// The right to take bytes that somebody sends to what is called so.
    pub async fn take(&self, tenant: &TenantId, name: impl ToString) -> Result<Permit, OverQuota> {
        let of_all = self.at_once.clone().try_acquire_owned().map_err(|_| OverQuota::Busy)?;
        Ok(Permit { of_all: Some(of_all), ..self.take_own(tenant, name).await? })
    }

    /// The same where others count how many there are of all tenants.
    pub async fn take_own(&self, tenant: &TenantId, name: impl ToString) -> Result<Permit, OverQuota> {
        Ok(Permit { of_all: None, of_tenant: self.places.take(tenant, name.to_string()).await? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(limits: &str) -> (Quotas, TenantId) {
        let tenant: TenantId = "a".parse().unwrap();
        let limits = serde_json::from_str(limits).unwrap();
        let limits = HashMap::from([(tenant.clone(), limits)]);
        (Quotas::new(1000, 3, limits, Places::default(), Beginnings::default()), tenant)
    }

    #[tokio::test]
    async fn what_is_not_limited_is_limited_for_all_only() {
        let (quotas, tenant) = quotas("{}");
        assert_eq!(quotas.check_length(&tenant, 1000), Ok(()));
        assert_eq!(quotas.check_length(&tenant, 1001), Err(OverQuota::TooLarge { limit: 1000 }));
        let take = || quotas.take(&tenant, "x");
        let permits = futures_util::try_join!(take(), take(), take()).unwrap();
        assert_eq!(take().await.unwrap_err(), OverQuota::Busy);
        assert!(quotas.take_own(&tenant, "x").await.is_ok(), "others count these");
        drop(permits);
        assert!(take().await.is_ok() && quotas.begin(&tenant).await.is_ok());
    }

    #[test]
    fn a_limit_that_one_record_does_not_hold_is_refused() {
        let limits = |at_once: u32| {
            serde_json::from_str::<TenantLimits>(&format!(r#"{{"uploads_at_once":{at_once}}}"#))
        };
        assert!(limits(MAX_AT_ONCE).is_ok() && limits(MAX_AT_ONCE + 1).is_err() && limits(0).is_err());
        assert_eq!(serde_json::from_str::<TenantLimits>("{}").unwrap(), TenantLimits::default());
    }

    #[test]
    fn one_tenants_limits_are_its_own() {
        let (quotas, tenant) = quotas(r#"{"upload_bytes": 10}"#);
        let other: TenantId = "b".parse().unwrap();
        assert_eq!(quotas.check_length(&tenant, 11), Err(OverQuota::TooLarge { limit: 10 }));
        assert_eq!(quotas.check_length(&other, 11), Ok(()));
    }
}
