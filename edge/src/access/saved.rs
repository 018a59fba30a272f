//! The last word on who may have what, kept in a file for a start without NATS.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::access::{Policy, TokenKey};
use reelmill_platform::kv::Origin;
use serde::{Deserialize, Serialize};

use crate::private_file;

/// The file's name.
const NAME: &str = "access.json";

/// All rules, by their keys in the buckets.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) policies: BTreeMap<String, Policy>,
    /// With the revision of each.
    pub(super) keys: BTreeMap<String, (u64, TokenKey)>,
    /// Assets of tenants that limit theirs.
    pub(super) owners: BTreeMap<AssetId, TenantId>,
    /// The buckets of policies and of keys that last had any: a bucket made anew that has none yet has lifted nothing.
    #[serde(default)]
    pub(super) origins: Option<[Origin; 2]>,
}

impl Saved {
    /// What was saved in a folder; `None` where nothing was.
    pub(super) fn load(folder: &Path) -> io::Result<Option<Self>> {
        match fs::read(folder.join(NAME)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Saves it. Some keys are secrets.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        private_file::write(&folder.join(NAME), &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reelmill_platform::jwk::{Algorithm, Jwk};

    #[test]
    fn it_is_read_as_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Saved::load(folder.path()).unwrap(), None);
        let key = TokenKey { tenant: None, jwk: Jwk::generate(Algorithm::HS256).unwrap() };
        let saved = Saved {
            policies: [("tenant.acme".to_owned(), Policy { private: true, ..Policy::default() })].into(),
            keys: [("k".to_owned(), (7, key))].into(),
            owners: [(AssetId::from_parts(1, 2), "acme".parse().unwrap())].into(),
            origins: serde_json::from_str(r#"[{"created_ns":1700000000000000001},{"created_ns":-1}]"#)
                .unwrap(),
        };
        for _ in 0..2 {
            saved.save(folder.path()).unwrap();
            assert_eq!(Saved::load(folder.path()).unwrap().as_ref(), Some(&saved));
        }
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(Saved::load(folder.path()).is_err());
    }
}
