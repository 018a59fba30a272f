//! The edge's word that something was taken down, signed with a key of its own that outlives restarts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::jwk::{Algorithm, Jwk, KeyError};
use reelmill_platform::kv::{Bucket, Revision, Written};
use reelmill_platform::purge::Mark;
use reelmill_platform::receipt::{EdgeKey, Receipt};
use reelmill_platform::topology::BucketName;
use tokio::sync::OnceCell;

use crate::private_file;

/// The key's file, a JSON Web Key with its private half.
const NAME: &str = "receipt-key.json";

/// Who signs.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    name: String,
    key: Jwk,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// It cannot be kept.
    #[error("cannot keep the key of receipts in {path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be made.
    #[error("cannot make a key for receipts: {0}")]
    Key(#[from] KeyError),
}

impl Signer {
    /// The edge of this name with the key in its folder, which is made where there is none.
    pub(crate) fn load(name: &str, folder: &Path) -> Result<Self, SignerError> {
        let path = folder.join(NAME);
        let name = name.to_owned();
        if let Some(key) = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(Self { name, key });
        }
        let key = Jwk::generate(Algorithm::EdDSA)?;
        let text = serde_json::to_vec(&key).unwrap_or_default();
        private_file::write(&path, &text).map_err(|source| SignerError::File { path, source })?;
        tracing::info!(?key, "made a key for receipts");
        Ok(Self { name, key })
    }
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiptError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("cannot sign a receipt: {0}")]
    Key(#[from] KeyError),
}

/// Where an edge puts its receipts.
pub(crate) struct Receipts {
    signer: Signer,
    bus: Bus,
    bucket: Bucket<Receipt>,
    /// Set once the key is known to be this edge's.
    shown: OnceCell<()>,
}

impl Receipts {
    /// Opens the bucket, and shows the key.
    pub(crate) async fn open(signer: Signer, bus: Bus) -> Result<Self, ReceiptError> {
        let bucket = bus.bucket(BucketName::Receipts).await?;
        let receipts = Self { signer, bus, bucket, shown: OnceCell::new() };
        receipts.show_key().await;
        Ok(receipts)
    }

    /// Says that a tombstone is obeyed here.
    pub(crate) async fn confirm(
        &self,
        mark: &Mark,
        revision: Revision,
        dropped: u64,
    ) -> Result<(), ReceiptError> {
        let receipt = Receipt {
            edge: self.signer.name.clone(),
            tombstone: mark.to_string(),
            revision: revision.0,
            at: Timestamp::now(),
            dropped,
            signature: None,
        };
        let receipt = receipt.signed(&self.signer.key)?;
        self.show_key().await;
        match self.bucket.create(&receipt.key(), &receipt).await? {
            // A conflict: it was confirmed before this process began. The first word stands.
            Written::Stored(_) | Written::Conflict => Ok(()),
        }
    }

    /// Once. Where that fails (coordinators of an earlier version make no such bucket), takedowns go on, and receipts can be
    /// judged later.
    async fn show_key(&self) {
        let show = async || -> Result<(), ReceiptError> {
            let bucket = self.bus.bucket::<EdgeKey>(BucketName::EdgeKeys).await?;
            let own = EdgeKey::of(&self.signer.name, &self.signer.key, Timestamp::now())?;
            match bucket.create(&own.key(), &own).await? {
                Written::Stored(_) | Written::Conflict => Ok(()),
            }
        };
        if let Err(error) = self.shown.get_or_try_init(show).await {
            tracing::warn!(%error, "nobody knows yet whose receipts these are");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_outlives_restarts_and_damage_makes_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Signer::load("ams-1", folder.path()).unwrap().key;
        let first = load();
        assert_eq!(load(), first);
        fs::write(folder.path().join(NAME), "{").unwrap();
        let second = load();
        assert_ne!(second, first);
        assert_eq!(load(), second);
    }
}
