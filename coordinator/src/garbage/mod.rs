//! Collects what nothing names any more: blobs of deleted assets, of uploads that were given up, and of attempts that did
//! not count.
//!
//! One coordinator, the one that feeds the queues, first reads every name there is, then goes through the blobs by the first byte of their
//! hash. What is unnamed and older than the grace goes to the trash; what has been in the trash for the grace and is still
//! unnamed goes for good. The grace is longer than anything takes from a put to the name, so that the only blobs ever
//! moved wrongly are those put again in the moment of their moving: those come back. Nothing is remembered between two
//! runs but what lies in the store, and a run that ends half-way is done again.

mod bin;
mod marks;
mod names;

pub use bin::{Counts, Cutoff, collect};
pub use marks::{Marks, Named};
pub use names::{Names, NamesError};

use std::io;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use reelmill_media::keys;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Between two looks whether it is time; a tenth of the grace where that is shorter.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The report of a collection is no longer than this, in bytes.
const MAX_REPORT_BYTES: u64 = 1 << 16;

/// Why nothing was collected, or not all.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The names are not known.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The names cannot be read back.
    #[error("cannot read what is named: {0}")]
    Disk(#[from] io::Error),
    /// The report cannot be written or read.
    #[error("the report of a collection cannot be read or written: {0}")]
    Report(#[from] serde_json::Error),
    /// Somebody else has the lease, or this process drains.
    #[error("it is not this process's turn any more")]
    NotOurs,
}

/// How the last collection went, as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it ended.
    pub ended_at: Timestamp,
    /// How long it took, in seconds.
    pub took_s: i64,
    /// What was done.
    pub counts: Counts,
}

/// Collects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Collector {
    bus: Bus,
    store: Store,
    grace: SignedDuration,
    metrics: Metrics,
}

impl Collector {
    /// What has not been named for `grace` goes to the trash, and after as long again for good.
    pub fn new(bus: Bus, store: Store, grace: SignedDuration, metrics: Metrics) -> Collector {
        Collector { bus, store, grace, metrics }
    }

    /// Collects whenever it is time and `holds` says that it is this process's turn, until `stop`.
    pub async fn run(self, holds: watch::Receiver<bool>, stop: CancellationToken) {
        let longest = LOOK_EVERY.min(self.grace.unsigned_abs() / 10);
        while !stop.is_cancelled() {
            let pause = longest.mul_f64(rand::rng().random_range(0.5..=1.0));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            if *holds.borrow()
                && let Err(error) = self.collect_if_due(&holds).await
            {
                tracing::warn!(%error, "garbage is not collected now");
            }
        }
    }

    async fn collect_if_due(&self, holds: &watch::Receiver<bool>) -> Result<(), CollectError> {
        let now = Timestamp::now();
        if let Some(last) = self.last().await? {
            self.metrics.garbage_collected_at.set(last.ended_at.as_second());
            if now.duration_since(last.ended_at) < self.grace {
                return Ok(());
            }
        }
        self.collect(|| *holds.borrow()).await.map(drop)
    }

    /// How the last collection went; `None` before the first.
    pub async fn last(&self) -> Result<Option<Report>, CollectError> {
        match self.store.get_object(keys::LAST_COLLECTION, MAX_REPORT_BYTES).await {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Collects once, while `go_on`.
    pub async fn collect(&self, go_on: impl Fn() -> bool) -> Result<Report, CollectError> {
        let begun_at = Timestamp::now();
        let past = begun_at - self.grace;
        let Names { mut marks, oldest_upload } = names::read(&self.bus, &self.store, past).await?;
        let cutoff = Cutoff { put: oldest_upload.map_or(past, |begun| begun.min(past)), moved: past };
        let mut counts = Counts::default();
        for first in 0..=u8::MAX {
            if !go_on() {
                return Err(CollectError::NotOurs);
            }
            let (back, named) = tokio::task::spawn_blocking(move || {
                let named = marks.beginning(first);
                (marks, named)
            })
            .await
            .map_err(io::Error::other)?;
            marks = back;
            let part = collect(&self.store, first, &named?, cutoff).await?;
            self.metrics.collected(part);
            counts.add(part);
        }
        let ended_at = Timestamp::now();
        let report = Report { ended_at, took_s: ended_at.duration_since(begun_at).as_secs(), counts };
        let text = Bytes::from(serde_json::to_vec(&report)?);
        self.store.put_object(keys::LAST_COLLECTION, text).await?;
        self.metrics.garbage_collected_at.set(ended_at.as_second());
        tracing::info!(?report, "collected garbage");
        Ok(report)
    }
}
