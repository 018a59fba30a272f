//! Names of things: ids that are sortable and unguessable, and the content hash that names every blob.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A text that is not the id it claims to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}")]
pub struct InvalidId {
    /// What was expected, in words.
    pub kind: &'static str,
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl InvalidId {
    fn new(kind: &'static str, text: &str) -> Self {
        Self { kind, text: text.chars().take(64).collect() }
    }
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// Makes an id from a time (milliseconds since the Unix epoch) and 80 random bits.
            pub fn from_parts(unix_ms: u64, random: u128) -> Self {
                Self(Ulid::from_parts(unix_ms, random))
            }

            /// When it was made, in milliseconds since the Unix epoch, by the clock of whoever made it.
            pub fn unix_ms(&self) -> u64 {
                self.0.timestamp_ms()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.to_string().to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // One spelling only: an id is also a path and a subject.
                let id = Ulid::from_string(text).map(Self).map_err(|_| InvalidId::new($kind, text))?;
                if id.to_string() == text { Ok(id) } else { Err(InvalidId::new($kind, text)) }
            }
        }

        text_serde!($name);
    };
}

/// Serialises a type by its `Display` and `FromStr`.
macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

ulid_id!(
    /// One uploaded work and all that is made from it.
    AssetId,
    "asset id"
);
ulid_id!(
    /// One upload in progress or done.
    UploadId,
    "upload id"
);
ulid_id!(
    /// One worker process, from its start to its end.
    WorkerId,
    "worker id"
);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let shape = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                if shape && !text.is_empty() && text.len() <= $max {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId::new($kind, text))
                }
            }
        }

        text_serde!($name);
    };
}

name_id!(
    /// A customer of this Reelmill: lower-case letters, digits and `-`, at most 32.
    TenantId,
    "tenant id",
    32
);
name_id!(
    /// One rendition of an asset, as it stands in its playlist's name: `v720`, `a0`.
    RenditionId,
    "rendition id",
    32
);
name_id!(
    /// What a tenant calls one of its profiles: lower-case letters, digits and `-`, at most 64.
    ProfileName,
    "name of a profile",
    64
);

impl Default for ProfileName {
    /// Of the one that uploads are made by that name none.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// The BLAKE3 hash of a blob's bytes: its name everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash([u8; 32]);

impl BlobHash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Takes the digest of a hash computed elsewhere (a streaming hasher, say).
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The 32 digest bytes.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobHash {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match blake3::Hash::from_hex(text) {
            Ok(hash) if lower => Ok(Self(*hash.as_bytes())),
            Ok(_) | Err(_) => Err(InvalidId::new("content hash", text)),
        }
    }
}

text_serde!(BlobHash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = AssetId::from_parts(1_700_000_000_000, 42);
        let text = id.to_string();
        assert_eq!(text.parse::<AssetId>(), Ok(id));
        assert!(text.to_ascii_uppercase().parse::<AssetId>().is_err());
        assert!("../../etc/passwd".parse::<AssetId>().is_err());
        assert!("a.b".parse::<RenditionId>().is_err());
        assert!("Tenant".parse::<TenantId>().is_err());
    }

    #[test]
    fn hashes_round_trip_in_lower_case_only() {
        let hash = BlobHash::of(b"reel");
        assert_eq!(hash.to_string().parse::<BlobHash>(), Ok(hash));
        assert!(hash.to_string().to_uppercase().parse::<BlobHash>().is_err());
        assert_eq!(serde_json::from_str::<BlobHash>(&serde_json::to_string(&hash).unwrap()).unwrap(), hash);
    }
}
