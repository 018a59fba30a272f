//! The last word on who may have what, kept in a file for a start without NATS.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::access::{Policy, TokenKey};
use serde::{Deserialize, Serialize};

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

    /// Saves it, whole or not at all. Some keys are secrets, so nobody else may read it.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let (path, partial): (PathBuf, PathBuf) = (folder.join(NAME), folder.join("access.partial"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(partial, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reelmill_platform::jwk::{Algorithm, Jwk};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_read_as_written_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Saved::load(folder.path()).unwrap(), None);
        let key = TokenKey { tenant: None, jwk: Jwk::generate(Algorithm::HS256).unwrap() };
        let saved = Saved {
            policies: [("tenant.acme".to_owned(), Policy { private: true, ..Policy::default() })].into(),
            keys: [("k".to_owned(), (7, key))].into(),
            owners: [(AssetId::from_parts(1, 2), "acme".parse().unwrap())].into(),
        };
        for _ in 0..2 {
            saved.save(folder.path()).unwrap();
            assert_eq!(Saved::load(folder.path()).unwrap().as_ref(), Some(&saved));
        }
        let mode = fs::metadata(folder.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(Saved::load(folder.path()).is_err());
    }
}
