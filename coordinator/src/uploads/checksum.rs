//! Checksums of pieces of an upload, as tus clients say them, computed while the bytes come in.

use std::str::FromStr;

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// The algorithms, as they are announced.
pub const ALGORITHMS: &str = "sha1,sha256,md5,blake3";

/// Why a checksum cannot be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// Not one of [`ALGORITHMS`].
    #[error("the checksum algorithm {0:?} is none of {ALGORITHMS}")]
    Unknown(String),
    /// Not a name and a digest of its length in base64.
    #[error("a checksum is the name of an algorithm, a space, and its digest in base64")]
    Malformed,
}

enum Hasher {
    Aws(digest::Context),
    Md5(Md5),
    Blake3(Box<blake3::Hasher>),
}

/// A digest to be, and what it should become.
pub struct Checksum {
    hasher: Hasher,
    wanted: Vec<u8>,
}

impl FromStr for Checksum {
    type Err = ChecksumError;

    /// As in `Upload-Checksum`: `sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=`.
    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        let (name, wanted) = text.trim().split_once(' ').ok_or(ChecksumError::Malformed)?;
        let (hasher, length) = match name {
            "sha1" => (Hasher::Aws(digest::Context::new(&SHA1_FOR_LEGACY_USE_ONLY)), 20),
            "sha256" => (Hasher::Aws(digest::Context::new(&SHA256)), 32),
            "md5" => (Hasher::Md5(Md5::new()), 16),
            "blake3" => (Hasher::Blake3(Box::default()), 32),
            unknown => return Err(ChecksumError::Unknown(unknown.chars().take(32).collect())),
        };
        let wanted = STANDARD.decode(wanted.trim()).ok().filter(|wanted| wanted.len() == length);
        Ok(Self { hasher, wanted: wanted.ok_or(ChecksumError::Malformed)? })
    }
}

impl Checksum {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.hasher {
            Hasher::Aws(context) => context.update(bytes),
            Hasher::Md5(hasher) => hasher.update(bytes),
            Hasher::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// Whether all bytes together are the ones that were meant.
    pub fn holds(self) -> bool {
        match self.hasher {
            Hasher::Aws(context) => context.finish().as_ref() == self.wanted,
            Hasher::Md5(hasher) => hasher.finalize().as_slice() == self.wanted,
            Hasher::Blake3(hasher) => hasher.finalize().as_bytes() == self.wanted.as_slice(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests of `hello world`, from coreutils and b3sum.
    const HELLO: [&str; 4] = [
        "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
        "sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
        "md5 XrY7u+Ae7tCTyyK7j1rNww==",
        "blake3 10mB76cKDIgLjYwZhdB128v2ebmaX5kU5ar5a4ManiQ=",
    ];

    fn holds(text: &str, pieces: &[&str]) -> Result<bool, ChecksumError> {
        let mut checksum: Checksum = text.parse()?;
        pieces.iter().for_each(|piece| checksum.update(piece.as_bytes()));
        Ok(checksum.holds())
    }

    #[test]
    fn right_bytes_hold_and_wrong_ones_do_not() {
        for (text, name) in HELLO.iter().zip(ALGORITHMS.split(',')) {
            assert!(text.starts_with(&format!("{name} ")));
            assert_eq!(holds(text, &["hello", "", " world"]), Ok(true), "{text}");
            assert_eq!(holds(text, &["hello", "", " World"]), Ok(false), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        assert_eq!(holds("crc32 AAAAAA==", &[]), Err(ChecksumError::Unknown("crc32".into())));
        for malformed in ["", "sha1", "sha1 ???", "sha1 Kq5s", "md5 Kq5sNclPz7QV2+lfQIuc6R7oRu0="] {
            assert_eq!(holds(malformed, &[]), Err(ChecksumError::Malformed), "{malformed}");
        }
    }
}
