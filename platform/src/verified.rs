//! Bytes that have been proven to be what their name says.

use bytes::Bytes;
use reelmill_media::ids::BlobHash;

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
}
