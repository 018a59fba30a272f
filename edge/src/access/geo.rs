//! In which country an address is, by a file in MaxMind's format.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{Reader, path};
use reelmill_platform::access::Country;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read countries from {path}: {source}")]
pub struct GeoError {
    path: PathBuf,
    source: maxminddb::MaxMindDbError,
}

/// A file of addresses, held in memory.
#[derive(Debug)]
pub(crate) struct Geo(Reader<Vec<u8>>);

impl Geo {
    /// Reads it whole.
    pub(crate) fn open(path: &Path) -> Result<Self, GeoError> {
        let reader =
            Reader::open_readfile(path).map_err(|source| GeoError { path: path.to_owned(), source })?;
        Ok(Self(reader))
    }

    /// The country, if the file knows it.
    pub(crate) fn country(&self, address: IpAddr) -> Option<Country> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        // GeoIP2 and its kin keep it here.
        let code: Option<&str> = found.decode_path(&path!["country", "iso_code"]).ok()?;
        code?.parse().ok()
    }
}
