//! Uploads that tenants begin, counted at all coordinators together: those share one record per tenant and change it by
//! compare-and-set only, as they do with its [places](crate::places).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reelmill_media::ids::TenantId;
use reelmill_platform::bus::BusError;
use reelmill_platform::kv::{Bucket, Written};
use serde::{Deserialize, Serialize};

use crate::assets::backoff;
use crate::quotas::OverQuota;

/// Rounds of writing and reading again before an upload is refused.
const MAX_CONFLICTS: u32 = 20;

/// What a tenant has left, which fills with time; each upload takes one out. Where there is no record it is full.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Left {
    uploads: f64,
    /// By the clock of the coordinator that is furthest ahead, so that nothing fills twice.
    at: Timestamp,
}

impl Left {
    /// One less, of `limit` a minute.
    fn less_one(before: Option<Left>, limit: u32, now: Timestamp) -> Result<Left, OverQuota> {
        let (limit_a_second, most) = (f64::from(limit) / 60.0, f64::from(limit));
        let before = before.unwrap_or(Left { uploads: most, at: now });
        let at = before.at.max(now);
        let passed = at.duration_since(before.at).as_secs_f64();
        let uploads = (before.uploads + passed * limit_a_second).min(most);
        if uploads < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - uploads) / limit_a_second);
            return Err(OverQuota::TooOften { limit, wait });
        }
        Ok(Left { uploads: uploads - 1.0, at })
    }
}

/// What all tenants that are limited have left. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Beginnings {
    tenants: Arc<HashMap<TenantId, Tenant>>,
}

#[derive(Debug)]
struct Tenant {
    limit: NonZeroU32,
    bucket: Bucket<Left>,
    /// This process writes one thing after the other.
    turn: tokio::sync::Mutex<()>,
}

impl Beginnings {
    /// So many a minute for each tenant.
    pub fn new(bucket: &Bucket<Left>, limits: impl Iterator<Item = (TenantId, NonZeroU32)>) -> Beginnings {
        let tenants = limits.map(|(id, limit)| {
            (id, Tenant { limit, bucket: bucket.clone(), turn: tokio::sync::Mutex::default() })
        });
        Beginnings { tenants: Arc::new(tenants.collect()) }
    }

    /// Counts one more, if it may begin now.
    pub async fn count(&self, id: &TenantId) -> Result<(), OverQuota> {
        let Some(tenant) = self.tenants.get(id) else { return Ok(()) };
        let _turn = tenant.turn.lock().await;
        for attempt in 0..MAX_CONFLICTS {
            match tenant.try_count(id).await {
                Ok(Ok(Written::Stored(_))) => return Ok(()),
                Ok(Ok(Written::Conflict)) => tokio::time::sleep(backoff(attempt)).await,
                Ok(Err(over)) => return Err(over),
                Err(error) => {
                    tracing::warn!(tenant = %id, %error, "the uploads that it began cannot be told");
                    return Err(OverQuota::Unknown);
                }
            }
        }
        Err(OverQuota::Unknown)
    }
}

impl Tenant {
    async fn try_count(&self, id: &TenantId) -> Result<Result<Written, OverQuota>, BusError> {
        let key = id.to_string();
        let (before, seen) = self.bucket.get(&key).await?.unzip();
        let left = match Left::less_one(before, self.limit.get(), Timestamp::now()) {
            Ok(left) => left,
            Err(over) => return Ok(Err(over)),
        };
        let written = match seen {
            None => self.bucket.create(&key, &left).await?,
            Some(seen) => self.bucket.update(&key, &left, seen).await?,
        };
        Ok(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    /// Of six a minute.
    fn after(before: Option<Left>, seconds: i64) -> Result<Left, OverQuota> {
        Left::less_one(before, 6, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds))
    }

    fn how_many(mut left: Option<Left>, seconds: i64) -> usize {
        std::iter::from_fn(|| {
            left = Some(after(left, seconds).ok()?);
            Some(())
        })
        .count()
    }

    #[test]
    fn what_is_taken_comes_back_with_time() {
        assert_eq!(how_many(None, 0), 6);
        let empty = (0..6).try_fold(None, |left, _| after(left, 0).map(Some)).unwrap();
        let Err(OverQuota::TooOften { limit: 6, wait }) = after(empty, 3) else { panic!() };
        assert_eq!(wait.as_secs_f64().round(), 7.0);
        assert_eq!([10, 35, 1000].map(|seconds| how_many(empty, seconds)), [1, 3, 6], "no more is saved up");
    }

    #[test]
    fn a_clock_that_is_behind_gives_nothing_away_and_takes_nothing_back() {
        let ahead = Some(after(None, 3600).unwrap());
        let behind = Some(after(ahead, 0).unwrap());
        assert_eq!((how_many(behind, 0), how_many(behind, 3600)), (4, 4));
    }
}
