//! What is known of each asset, kept beside its blobs: truth is in NATS, and this is what it is made again from when NATS
//! is lost.

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, future};
use reelmill_media::ids::AssetId;
use reelmill_media::keys;
use reelmill_platform::store::{Store, StoreError};

use crate::state::Asset;

/// No record is longer than this, in bytes: those in NATS are not.
const MAX_RECORD_BYTES: u64 = 1 << 20;

/// Why a record was not kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was written by another version.
    #[error("the record of an asset cannot be read or written: {0}")]
    Record(#[from] serde_json::Error),
}

/// The records in the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Store,
}

impl Archive {
    /// In this store.
    pub fn new(store: Store) -> Archive {
        Archive { store }
    }

    /// Keeps what is known of an asset now.
    pub async fn keep(&self, asset: &Asset) -> Result<(), ArchiveError> {
        let text = Bytes::from(serde_json::to_vec(asset)?);
        Ok(self.store.put_object(&keys::record(asset.id), text).await?)
    }

    /// What was kept last; `None` if nothing was.
    pub async fn get(&self, id: AssetId) -> Result<Option<Asset>, ArchiveError> {
        match self.store.get_object(&keys::record(id), MAX_RECORD_BYTES).await {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps nothing of an asset any more.
    pub async fn forget(&self, id: AssetId) -> Result<(), ArchiveError> {
        Ok(self.store.delete_object(&keys::record(id)).await?)
    }

    /// All assets of which something is kept, in no particular order.
    pub fn list(&self) -> impl Stream<Item = Result<AssetId, StoreError>> + Send + 'static {
        let listed = self.store.list(keys::RECORDS);
        listed.try_filter_map(|found| future::ready(Ok(keys::asset_of(&found.key))))
    }
}
