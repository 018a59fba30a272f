//! Takedowns: what must not be served any more, and the word of each edge that it does not.
//!
//! A tombstone stands in a bucket for as long as it is meant. Edges read all of them before they trust what they kept
//! from earlier, and follow the bucket from then on. Taking a tombstone away lets the content be served again.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use reelmill_media::ids::{AssetId, BlobHash};
use serde::{Deserialize, Serialize};

use crate::bus::{Bus, BusError};
use crate::kv::Revision;
use crate::topology::BucketName;

/// A record in the bucket [`BucketName::Tombstones`], under the key of its [`Tombstone::mark`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// What is taken down.
    pub target: Target,
    /// Why, for people.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// What a takedown is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// One content, whatever names it.
    Blob {
        /// Its hash.
        hash: BlobHash,
    },
    /// An asset's playlists, and blobs with them.
    Asset {
        /// Which.
        asset: AssetId,
        /// A blob of kind record with a JSON list of the hashes that go too: those that no other asset needs.
        blobs: Option<BlobHash>,
    },
}

/// A tombstone's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// `blob.<hash>`
    Blob(BlobHash),
    /// `asset.<asset>`
    Asset(AssetId),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Blob(hash) => write!(f, "blob.{hash}"),
            Mark::Asset(asset) => write!(f, "asset.{asset}"),
        }
    }
}

/// A key that no tombstone has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the key of a tombstone")]
pub struct UnknownMark(String);

impl FromStr for Mark {
    type Err = UnknownMark;

    fn from_str(text: &str) -> Result<Self, UnknownMark> {
        let mark = match text.split_once('.') {
            Some(("blob", hash)) => hash.parse().ok().map(Mark::Blob),
            Some(("asset", asset)) => asset.parse().ok().map(Mark::Asset),
            Some(_) | None => None,
        };
        mark.ok_or_else(|| UnknownMark(text.to_owned()))
    }
}

impl Tombstone {
    /// Its key.
    pub fn mark(&self) -> Mark {
        match &self.target {
            Target::Blob { hash } => Mark::Blob(*hash),
            Target::Asset { asset, .. } => Mark::Asset(*asset),
        }
    }

    /// Puts it up; edges act at once. The revision is the one that their receipts name.
    pub async fn publish(&self, bus: &Bus) -> Result<Revision, BusError> {
        bus.bucket(BucketName::Tombstones).await?.put(&self.mark().to_string(), self).await
    }
}

/// An edge's word that a takedown is done there; a record in the bucket [`BucketName::Receipts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Name of the edge.
    pub edge: String,
    /// Key of the tombstone.
    pub tombstone: String,
    /// Its revision.
    pub revision: u64,
    /// When it was done.
    pub at: Timestamp,
    /// Blobs that were in memory, on their way in or on their way out.
    pub dropped: u64,
}

impl Receipt {
    /// `<tombstone>.<revision>.<edge>`. An edge has no dot in its name.
    pub fn key(&self) -> String {
        format!("{}.{}.{}", self.tombstone, self.revision, self.edge)
    }

    /// The receipts for one tombstone, as a pattern for [`Bucket::list`](crate::kv::Bucket::list).
    pub fn all_for(mark: Mark, revision: Revision) -> String {
        format!("{mark}.{}.*", revision.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_records_are_read_as_written() {
        let (hash, asset) = (BlobHash::of(b"x"), AssetId::from_parts(1, 2));
        for target in [Target::Blob { hash }, Target::Asset { asset, blobs: Some(hash) }] {
            let tombstone = Tombstone { target, reason: "test".into(), at: Timestamp::UNIX_EPOCH };
            assert_eq!(tombstone.mark().to_string().parse(), Ok(tombstone.mark()));
            let text = serde_json::to_string(&tombstone).unwrap();
            assert_eq!(serde_json::from_str::<Tombstone>(&text).unwrap(), tombstone);
        }
        for wrong in ["", "blob", "blob.", "blob.zz", "asset.zz", "else.1"] {
            assert!(wrong.parse::<Mark>().is_err());
        }
    }
}
