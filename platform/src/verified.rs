//! Bytes that have been proven to be what their name says.

use bytes::Bytes;
use reelmill_media::ids::BlobHash;

use crate::hash_tree::GROUP_BYTES;

/// The bytes of a blob, checked against their BLAKE3 hash. There is no other way to make one.
#[derive(Debug, Clone)]
pub struct VerifiedBytes {
    hash: BlobHash,
    bytes: Bytes,
}

/// Bytes that are not what their name says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("blob {expected} has other content: its {length} bytes hash to {actual}")]
pub struct WrongContent {
    /// The name.
    pub expected: BlobHash,
    /// What the bytes hash to.
    pub actual: BlobHash,
    /// How many bytes there were.
    pub length: usize,
}

impl VerifiedBytes {
    /// Hashes `bytes` and compares with `hash`.
    pub fn check(hash: BlobHash, bytes: Bytes) -> Result<Self, WrongContent> {
        let actual = BlobHash::of(&bytes);
        if actual == hash {
            Ok(Self { hash, bytes })
        } else {
            Err(WrongContent { expected: hash, actual, length: bytes.len() })
        }
    }

    /// The content hash.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// The bytes; cloning or slicing them copies nothing.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same bytes as groups of [`GROUP_BYTES`], the last one perhaps shorter. Copies nothing.
    pub fn groups(&self) -> impl Iterator<Item = VerifiedGroup> + '_ {
        self.bytes.chunks(GROUP_BYTES).enumerate().map(|(index, group)| VerifiedGroup {
            hash: self.hash,
            index,
            bytes: self.bytes.slice_ref(group),
        })
    }
}

/// One group of a blob's bytes, checked like [`VerifiedBytes`] or by the blob's
/// [`HashTree`](crate::hash_tree::HashTree).
#[derive(Debug, Clone)]
pub struct VerifiedGroup {
    hash: BlobHash,
    index: usize,
    bytes: Bytes,
}

impl VerifiedGroup {
    /// Only for whoever has just proven it.
    pub(crate) fn proven(hash: BlobHash, index: usize, bytes: Bytes) -> Self {
        Self { hash, index, bytes }
    }

    /// The content hash of the whole blob.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Which group: it begins at `index` × [`GROUP_BYTES`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The bytes; cloning or slicing them copies nothing.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
