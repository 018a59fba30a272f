//! Bringing a blob in from the origin, proven.

use reelmill_platform::store::{Store, StoreError};
use reelmill_platform::verified::VerifiedBytes;
use tokio::sync::Semaphore;

use crate::limits::{FILL_ATTEMPTS, FILL_DEADLINE, FILLS_AT_ONCE};
use crate::metrics::{Metrics, OriginRead};
use crate::route::PublicBlob;

/// Why a blob could not be brought in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The origin does not have it.
    #[error("there is no such blob")]
    Absent,
    /// The origin's bytes are not the hash's.
    #[error("the origin's copy of this blob is damaged and was not passed on")]
    Corrupt,
    /// The origin failed.
    #[error("the origin is not available")]
    Unavailable,
    /// The origin did not answer in time.
    #[error("the origin did not answer in time")]
    Deadline,
    /// This edge is going away.
    #[error("this edge is shutting down")]
    Ended,
}

/// The origin, asked for a bounded number of blobs at once.
#[derive(Debug)]
pub(super) struct Origin {
    store: Store,
    slots: Semaphore,
    metrics: Metrics,
}

impl Origin {
    pub(super) fn new(store: Store, metrics: Metrics) -> Self {
        Self { store, slots: Semaphore::new(FILLS_AT_ONCE), metrics }
    }

    /// Fetches and proves a blob.
    pub(super) async fn fetch(&self, blob: PublicBlob) -> Result<VerifiedBytes, FillError> {
        let outcome = match tokio::time::timeout(FILL_DEADLINE, self.attempts(blob)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(FillError::Deadline),
        };
        self.metrics.filled(outcome.as_ref().map(|blob| blob.bytes().len()).map_err(|error| *error));
        outcome
    }

    async fn attempts(&self, blob: PublicBlob) -> Result<VerifiedBytes, FillError> {
        let _slot = self.slots.acquire().await.map_err(|_| FillError::Ended)?;
        let mut attempt = 1;
        loop {
            self.metrics.origin_read(OriginRead::Blob);
            let error = match self.store.get_blob(blob.kind(), blob.hash()).await {
                Ok(verified) => return Ok(verified),
                Err(error) => error,
            };
            let refused = match &error {
                StoreError::NotFound { .. } => return Err(FillError::Absent),
                StoreError::Corrupt(_) => {
                    self.metrics.corrupt_blob();
                    FillError::Corrupt
                }
                StoreError::Deadline { .. } => FillError::Deadline,
                StoreError::Open { .. } | StoreError::TooLarge { .. } | StoreError::Unavailable { .. } => {
                    FillError::Unavailable
                }
            };
            tracing::warn!(hash = %blob.hash(), attempt, %error, "fill failed");
            if attempt == FILL_ATTEMPTS {
                return Err(refused);
            }
            attempt += 1;
        }
    }
}
