//! Uploads that nobody goes on with. Those that become assets end with them; partial ones have no asset, and are looked for
//! here.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt;
use reelmill_platform::bus::BusError;
use reelmill_platform::kv::Bucket;
use tokio_util::sync::CancellationToken;

use super::{Phase, UploadRecord};

/// Between two looks, which read all open uploads.
const LOOK_EVERY_S: RangeInclusive<u64> = 3_000..=4_200;

/// Removes partial uploads that have expired, until `stop`.
pub async fn run(bucket: Bucket<UploadRecord>, stop: CancellationToken) {
    loop {
        let pause = Duration::from_secs(rand::rng().random_range(LOOK_EVERY_S));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = sweep(&bucket, Timestamp::now()).await {
            tracing::warn!(%error, "cannot look for uploads that have expired");
        }
    }
}

/// Looks once. Whoever writes to one at this moment is refused by the next compare-and-set.
pub async fn sweep(bucket: &Bucket<UploadRecord>, now: Timestamp) -> Result<(), BusError> {
    for (id, record) in bucket.list(">").await? {
        if record.asset.is_some() || record.expires_at() > now {
            continue;
        }
        // The others of its parts may still be coming.
        let last = match record.part_of {
            Some(last) => bucket.get(&last.to_string()).await?,
            None => None,
        };
        if last.is_none_or(|(last, _)| last.phase != Phase::Open) {
            bucket.remove(&id).await?;
        }
    }
    Ok(())
}
