//! API keys: who may call, and as which tenant.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;
use reelmill_media::ids::{BlobHash, TenantId};
use reelmill_media::profile::Profile;
use serde::Deserialize;

use super::Api;
use super::problem::{Code, Problem};
use super::role::Role;
use crate::quotas::TenantLimits;
use crate::webhooks::{Endpoint, EndpointEntry, Endpoints};

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
    /// A tenant's profile cannot be used.
    #[error("the profile of tenant {tenant} in the keys file {path} cannot be used: {reason}")]
    Profile {
        /// Which file.
        path: PathBuf,
        /// Whose.
        tenant: TenantId,
        /// Why not.
        reason: String,
    },
    /// A tenant's webhook cannot be used.
    #[error("the webhook of tenant {tenant} in the keys file {path} cannot be used: {reason}")]
    Webhook {
        /// Which file.
        path: PathBuf,
        /// Whose.
        tenant: TenantId,
        /// Why not.
        reason: String,
    },
    /// A tenant's limits are said twice.
    #[error("tenant {tenant} has two different sets of limits in the keys file {path}")]
    Limits {
        /// Which file.
        path: PathBuf,
        /// Whose.
        tenant: TenantId,
    },
}

/// One key in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tenant: TenantId,
    /// BLAKE3 of the key: the file gives no key away.
    key_blake3: BlobHash,
    /// What the key may do; everything unless said.
    #[serde(default = "everything")]
    roles: Vec<Role>,
    /// How much the tenant may upload; once per tenant is enough.
    limits: Option<TenantLimits>,
    /// Where the tenant wants to be told what becomes of its assets; once per tenant is enough.
    webhook: Option<EndpointEntry>,
    /// What is made of the tenant's uploads that do not say otherwise; once per tenant is enough.
    profile: Option<Profile>,
}

fn everything() -> Vec<Role> {
    vec![Role::Admin]
}

/// A key that is known.
#[derive(Debug)]
struct Key {
    hash: blake3::Hash,
    tenant: TenantId,
    roles: Vec<Role>,
}

/// All keys.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<Key>,
    limits: HashMap<TenantId, TenantLimits>,
    webhooks: Endpoints,
    profiles: HashMap<TenantId, Profile>,
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
        let mut webhooks = Endpoints::new();
        let mut said: HashMap<&TenantId, &EndpointEntry> = HashMap::new();
        for (tenant, entry) in entries.iter().filter_map(|e| Some((&e.tenant, e.webhook.as_ref()?))) {
            let refuse = |reason: String| KeyringError::Webhook {
                path: path.to_owned(),
                tenant: tenant.clone(),
                reason,
            };
            if said.insert(tenant, entry).is_some_and(|other| other != entry) {
                return Err(refuse("it has two different ones".to_owned()));
            }
            let endpoint = Endpoint::try_from(entry).map_err(|e| refuse(e.to_string()))?;
            webhooks.insert(tenant.clone(), endpoint);
        }
        let mut profiles: HashMap<TenantId, Profile> = HashMap::new();
        for (tenant, profile) in entries.iter().filter_map(|e| Some((&e.tenant, e.profile.as_ref()?))) {
            let refuse = |reason: String| KeyringError::Profile {
                path: path.to_owned(),
                tenant: tenant.clone(),
                reason,
            };
            profile.check().map_err(|e| refuse(e.to_string()))?;
            if profiles.insert(tenant.clone(), profile.clone()).is_some_and(|other| other != *profile) {
                return Err(refuse("it has two different ones".to_owned()));
            }
        }
        let mut limits: HashMap<TenantId, TenantLimits> = HashMap::new();
        for (tenant, own) in entries.iter().filter_map(|e| Some((&e.tenant, e.limits?))) {
            if limits.insert(tenant.clone(), own).is_some_and(|other| other != own) {
                return Err(KeyringError::Limits { path: path.to_owned(), tenant: tenant.clone() });
            }
        }
        let keys = entries.into_iter().map(|entry| Key {
            hash: blake3::Hash::from_bytes(*entry.key_blake3.digest()),
            tenant: entry.tenant,
            roles: entry.roles,
        });
        Ok(Keyring { keys: keys.collect(), limits, webhooks, profiles })
    }

    /// What is made of this tenant's uploads that do not say otherwise.
    pub fn profile(&self, tenant: &TenantId) -> Profile {
        self.profiles.get(tenant).cloned().unwrap_or_default()
    }

    /// Receivers by tenant.
    pub fn webhooks(&self) -> &Endpoints {
        &self.webhooks
    }

    /// How much tenants may upload.
    pub fn limits(&self) -> &HashMap<TenantId, TenantLimits> {
        &self.limits
    }

    /// The key itself. Looks at all of them, each in constant time, so that the time tells nothing.
    fn find(&self, key: &str) -> Option<&Key> {
        let presented = blake3::hash(key.as_bytes());
        let mut found = None;
        for key in &self.keys {
            if key.hash == presented {
                found = Some(key);
            }
        }
        found
    }
}

/// Who calls, with a key for such requests.
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
        let key = api.keyring.find(key.trim()).ok_or_else(|| refuse("This API key is not known here."))?;
        let needed = Role::needed_for(&parts.method, parts.uri.path());
        if !needed.is_among(&key.roles) {
            let detail = format!("This API key may not do that: it lacks the role \"{}\".", needed.name());
            return Err(Problem::new(Code::Forbidden, detail));
        }
        Ok(Caller(key.tenant.clone()))
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
        let tenant = |key: &str| keyring.find(key).map(|key| key.tenant.as_str());
        assert_eq!((tenant("one"), tenant("two")), (Some("a"), Some("b")));
        assert!(tenant("three").is_none() && tenant("").is_none());
        assert!(Role::Admin.is_among(&keyring.find("one").unwrap().roles), "everything unless said");
        let entry = |more: &str| format!(r#"{{"tenant":"a","key_blake3":"{}",{more}}}"#, hash("one"));
        let read = |entries: &[String]| {
            std::fs::write(file.path(), format!("[{}]", entries.join(","))).unwrap();
            Keyring::read(file.path())
        };
        let roles = read(&[entry(r#""roles":["read","upload"]"#)]).unwrap();
        assert_eq!(roles.find("one").unwrap().roles, [Role::Read, Role::Upload]);
        assert!(matches!(read(&[entry(r#""roles":["root"]"#)]), Err(KeyringError::Parse { .. })));
        let limits = |bytes: u32| entry(&format!(r#""limits":{{"upload_bytes":{bytes}}}"#));
        assert_eq!(read(&[limits(1), limits(1)]).unwrap().limits().len(), 1);
        assert!(matches!(read(&[limits(1), limits(2)]), Err(KeyringError::Limits { .. })));
        let weak = r#""webhook":{"url":"https://example.com","secret":"whsec_"}"#;
        let text = format!(r#"[{{"tenant":"a","key_blake3":"{}",{weak}}}]"#, hash("one"));
        std::fs::write(file.path(), text).unwrap();
        assert!(matches!(Keyring::read(file.path()), Err(KeyringError::Webhook { .. })));
        std::fs::write(file.path(), "{}").unwrap();
        assert!(matches!(Keyring::read(file.path()), Err(KeyringError::Parse { .. })));
    }
}
