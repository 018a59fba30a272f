//! API keys: who may call, and as which tenant.

use std::path::{Path, PathBuf};

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;
use reelmill_media::ids::{BlobHash, TenantId};
use serde::Deserialize;

use super::Api;
use super::problem::{Code, Problem};

/// A file of keys is no longer than this, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Why keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read.
    #[error("cannot read the keys file {path}: {reason}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file is not what it should be.
    #[error("the keys file {path} is not a JSON list of {{\"tenant\", \"key_blake3\"}}: {reason}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// One key in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tenant: TenantId,
    /// BLAKE3 of the key: the file gives no key away.
    key_blake3: BlobHash,
}

/// All keys.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<(blake3::Hash, TenantId)>,
}

impl Keyring {
    /// Reads a file of keys.
    pub fn read(path: &Path) -> Result<Keyring, KeyringError> {
        let unreadable = |reason: String| KeyringError::Read { path: path.to_owned(), reason };
        let length = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if length > MAX_FILE_BYTES {
            return Err(unreadable(format!("it holds {length} bytes, more than {MAX_FILE_BYTES}")));
        }
        let text = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        let entries: Vec<Entry> = serde_json::from_slice(&text)
            .map_err(|e| KeyringError::Parse { path: path.to_owned(), reason: e.to_string() })?;
        let keys = entries.into_iter().map(|e| (blake3::Hash::from_bytes(*e.key_blake3.digest()), e.tenant));
        Ok(Keyring { keys: keys.collect() })
    }

    /// Whose key it is. Looks at all keys, each in constant time, so that the time tells nothing.
    fn tenant(&self, key: &str) -> Option<&TenantId> {
        let presented = blake3::hash(key.as_bytes());
        let mut found = None;
        for (hash, tenant) in &self.keys {
            if *hash == presented {
                found = Some(tenant);
            }
        }
        found
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller(pub TenantId);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Caller, Problem> {
        let refuse = |detail: &str| Problem::new(Code::Unauthorized, detail);
        let header = parts
            .headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| refuse("Say who you are: Authorization: Bearer KEY."))?;
        let (scheme, key) = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or_else(|| refuse("The Authorization header is not of the form Bearer KEY."))?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refuse("The Authorization header is not of the form Bearer KEY."));
        }
        let tenant =
            api.keyring.tenant(key.trim()).ok_or_else(|| refuse("This API key is not known here."))?;
        Ok(Caller(tenant.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_its_own_tenant_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hash = |key: &str| blake3::hash(key.as_bytes()).to_hex().to_string();
        let text = format!(
            r#"[{{"tenant":"a","key_blake3":"{}"}},{{"tenant":"b","key_blake3":"{}"}}]"#,
            hash("one"),
            hash("two")
        );
        std::fs::write(file.path(), text).unwrap();
        let keyring = Keyring::read(file.path()).unwrap();
        assert_eq!(keyring.tenant("one").unwrap().as_str(), "a");
        assert_eq!(keyring.tenant("two").unwrap().as_str(), "b");
        assert!(keyring.tenant("three").is_none() && keyring.tenant("").is_none());
        std::fs::write(file.path(), "{}").unwrap();
        assert!(matches!(Keyring::read(file.path()), Err(KeyringError::Parse { .. })));
    }
}
