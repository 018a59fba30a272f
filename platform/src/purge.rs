//! Takedowns: what must not be served any more. That an edge does not says its [receipt](crate::receipt).
//!
//! A tombstone stands in a bucket for as long as it is meant. Edges read all of them before they trust what they kept
//! from earlier, and follow the bucket from then on. Taking a tombstone away lets the content be served again.
//!
//! What was asked for, by whom and when, stands in a record of its own ([`Purge`]), for ever.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use reelmill_media::ids::{AssetId, BlobHash, TenantId};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::access::KeyId;
use crate::bus::{Bus, BusError};
use crate::kv::{Bucket, Revision, Written};
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
    /// All tokens that were signed with a key, and the streams that they opened.
    Key {
        /// Which.
        kid: KeyId,
    },
}

/// A tombstone's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mark {
    /// `blob.<hash>`
    Blob(BlobHash),
    /// `asset.<asset>`
    Asset(AssetId),
    /// `key.<kid>`
    Key(KeyId),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Blob(hash) => write!(f, "blob.{hash}"),
            Mark::Asset(asset) => write!(f, "asset.{asset}"),
            Mark::Key(kid) => write!(f, "key.{kid}"),
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
            Some(("key", kid)) => kid.parse().ok().map(Mark::Key),
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
            Target::Key { kid } => Mark::Key(kid.clone()),
        }
    }

    /// Puts it up; edges act at once. The revision is the one that their receipts name.
    pub async fn publish(&self, bus: &Bus) -> Result<Revision, BusError> {
        bus.bucket(BucketName::Tombstones).await?.put(&self.mark().to_string(), self).await
    }

    /// Puts it up unless one stands there already, which may keep more away than this one; gives the revision of the one
    /// that stands.
    pub async fn publish_first(&self, bus: &Bus) -> Result<Revision, BusError> {
        let bucket: Bucket<Tombstone> = bus.bucket(BucketName::Tombstones).await?;
        let key = self.mark().to_string();
        match bucket.create(&key, self).await? {
            Written::Stored(revision) => Ok(revision),
            Written::Conflict => match bucket.get(&key).await? {
                Some((_, revision)) => Ok(revision),
                None => self.publish(bus).await,
            },
        }
    }
}

/// What somebody wants taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// One content, whatever names it.
    Blob {
        /// Its hash.
        hash: BlobHash,
    },
    /// An asset.
    Asset {
        /// Which.
        asset: AssetId,
    },
    /// All assets that a tenant has now.
    Tenant {
        /// Whose.
        tenant: TenantId,
    },
    /// A token key: what was signed with it opens nothing any more.
    Key {
        /// Which.
        kid: KeyId,
    },
}

/// Who took down what, when and why; a record in the bucket [`BucketName::Purges`], under its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// Sorts by time.
    pub id: String,
    /// What.
    pub subject: Subject,
    /// Why, for people.
    pub reason: String,
    /// Who.
    pub by: TenantId,
    /// When.
    pub at: Timestamp,
    /// How many tombstones were put up for it.
    pub tombstones: u64,
    /// A blob of kind record with a JSON list of [`Standing`]; none until all of them are up.
    pub list: Option<BlobHash>,
}

/// A tombstone that was put up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its key.
    pub mark: String,
    /// Its revision.
    pub revision: u64,
}

impl Purge {
    /// One that begins now.
    pub fn begin(subject: Subject, reason: String, by: TenantId, at: Timestamp) -> Purge {
        let unix_ms = u64::try_from(at.as_millisecond()).unwrap_or_default();
        let id = Ulid::from_parts(unix_ms, rand::random()).to_string().to_ascii_lowercase();
        Purge { id, subject, reason, by, at, tombstones: 0, list: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_records_are_read_as_written() {
        let (hash, asset) = (BlobHash::of(b"x"), AssetId::from_parts(1, 2));
        let kid = "k_1".parse().unwrap();
        for target in [Target::Blob { hash }, Target::Asset { asset, blobs: Some(hash) }, Target::Key { kid }]
        {
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
