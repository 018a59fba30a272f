//! What people have said that no asset says: who may watch what, what was taken down, and which profiles have names. It
//! stands in NATS, and is kept in the store as well, so that a NATS that is made anew neither opens what was closed nor
//! brings back what was taken away.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use reelmill_media::keys;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::{Bucket, Change, Followed, Written};
use reelmill_platform::store::{Store, StoreError};
use reelmill_platform::topology::BucketName;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The buckets. Not that of token keys: some are secrets, and whoever serves the store's folder shows what lies there.
const KEPT: [BucketName; 4] =
    [BucketName::Policies, BucketName::Tombstones, BucketName::Purges, BucketName::Profiles];
/// No value in NATS is longer than this, in bytes.
const MAX_VALUE_BYTES: u64 = 1 << 20;
/// Pause before a lost watch is begun anew.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Why settings were not kept or brought back.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is no JSON.
    #[error("a setting cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// Keeps them whenever `holds` says that it is this process's turn, until `stop`.
pub async fn keep(bus: Bus, store: Store, mut holds: watch::Receiver<bool>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let kept = async {
            if holds.wait_for(|holds| *holds).await.is_err() {
                return;
            }
            let of = |name| follow(&bus, &store, name);
            let [policies, tombstones, purges, profiles] = KEPT.map(of);
            let lost = tokio::select! {
                lost = async { tokio::try_join!(policies, tombstones, purges, profiles).map(drop) } => lost,
                _ = holds.wait_for(|holds| !*holds) => Ok(()),
            };
            if let Err(error) = lost {
                tracing::warn!(%error, "settings are not kept in the store now");
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        };
        tokio::select! {
            () = kept => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn follow(bus: &Bus, store: &Store, name: BucketName) -> Result<(), SettingsError> {
    let folder = keys::settings(name.token());
    let bucket: Bucket<Value> = bus.bucket(name).await?;
    let mut changes = pin!(bucket.follow().await?);
    let there: HashSet<String> = store.list(&folder).map_ok(|found| found.key).try_collect().await?;
    // There may be very many takedowns, and they do not change.
    let may_change = matches!(name, BucketName::Policies | BucketName::Profiles);
    let mut is_news = false;
    while let Some(change) = changes.next().await {
        let Change { key, value, .. } = match change? {
            Followed::Change(change) => change,
            Followed::UpToDate => {
                is_news = true;
                continue;
            }
        };
        let key = keys::setting(name.token(), &key);
        let Some(value) = value else {
            store.delete_object(&key).await?;
            continue;
        };
        let text = Bytes::from(serde_json::to_vec(&value)?);
        let known = !is_news && there.contains(&key);
        if !known || (may_change && store.get_object(&key, MAX_VALUE_BYTES).await? != text) {
            store.put_object(&key, text).await?;
        }
    }
    Ok(())
}

/// Brings back what NATS does not have; says how many.
pub async fn restore(bus: &Bus, store: &Store) -> Result<u64, SettingsError> {
    let mut restored = 0;
    for name in KEPT {
        let bucket: Bucket<Value> = bus.bucket(name).await?;
        let mut kept = pin!(store.list(&keys::settings(name.token())));
        while let Some(found) = kept.try_next().await? {
            let Some(key) = keys::setting_of(&found.key) else { continue };
            let value = serde_json::from_slice(&store.get_object(&found.key, MAX_VALUE_BYTES).await?)?;
            match bucket.create(key, &value).await? {
                Written::Stored(_) => restored += 1,
                Written::Conflict => {}
            }
        }
    }
    Ok(restored)
}
