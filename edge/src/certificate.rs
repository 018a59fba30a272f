//! The certificate: given as PEM files, or made here and kept in a folder so that a restart keeps it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rcgen::date_time_ymd;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::limits::SESSIONS_KEPT;
use crate::private_file;

/// Names that a self-made certificate always has. `edge.test` is for Chromium, which does not take a self-made
/// certificate for `localhost` over QUIC.
const USUAL_NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "edge.test"];

/// Validity of a self-made certificate in days, from the day before it is made. WebTransport takes no more than 14.
const VALID_DAYS: i64 = 13;

/// A self-made certificate is made anew when fewer days than this are left.
const RENEW_DAYS: i64 = 4;

const KEY_FILE: &str = "edge-key.pem";
const CERTIFICATE_FILE: &str = "edge-certificate.pem";
const STATE_FILE: &str = "edge-certificate.json";

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// PEM files of somebody's making.
    Files {
        /// The chain, the server's own first.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Made here.
    SelfMade {
        /// Folder in which it is kept.
        folder: PathBuf,
        /// Names beside the usual ones.
        names: Vec<String>,
    },
}

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no usable PEM: {reason}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not belong together, or are of an unknown kind.
    #[error("the certificate and its key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The clock is beyond all calendars.
    #[error("cannot compute a validity: {0}")]
    Calendar(#[from] jiff::Error),
}

/// The certificate in use. Cheap to clone; a renewal reaches every clone.
#[derive(Debug, Clone)]
pub struct Certificate {
    source: Arc<Mutex<Source>>,
    current: Arc<Current>,
}

/// A certificate that could be used, and is not yet.
#[derive(Debug)]
pub struct Candidate {
    source: Source,
    key: CertifiedKey,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// What is kept beside a self-made certificate: for whoever wants to trust it, and for us to know when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// As Chromium's `--ignore-certificate-errors-spki-list` wants it.
    spki_sha256: String,
    /// The last day on which it is valid.
    last_day: Date,
    names: Vec<String>,
}

impl Certificate {
    /// Loads or makes it.
    pub fn load(source: Source) -> Result<Self, CertificateError> {
        let key = usable(&source)?;
        let source = Arc::new(Mutex::new(source));
        Ok(Self { source, current: Arc::new(Current(RwLock::new(Arc::new(key)))) })
    }

    /// Makes a self-made one anew if it ends soon, with the same key, so that whoever trusts the key still does.
    /// Certificates in files are read again, in case somebody put a new one there.
    pub fn renew(&self) -> Result<(), CertificateError> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let key = usable(&source)?;
        self.take(Candidate { source, key });
        Ok(())
    }

    /// Looks whether another one could be used.
    pub fn candidate(source: Source) -> Result<Candidate, CertificateError> {
        let key = usable(&source)?;
        Ok(Candidate { source, key })
    }

    /// Shows another one in handshakes from now on, over TCP and QUIC. Connections that are there are not touched.
    pub fn take(&self, Candidate { source, key }: Candidate) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = source;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo) in base64.
    pub fn spki_sha256(&self) -> String {
        let key = self.current.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        spki_sha256(&key)
    }

    /// A TLS configuration for QUIC with this ALPN name. Whoever comes back may ask in its first packets (RFC 8470).
    pub fn early_config(&self, alpn: &[u8]) -> Result<rustls::ServerConfig, CertificateError> {
        let mut config = self.base_config(&[alpn])?;
        // Kept here, for each is taken once: what somebody recorded and sends again finds no session (RFC 8446 §8.1).
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_KEPT);
        // The one size that QUIC knows (RFC 9001 §4.6.1); its streams' windows bound it.
        config.max_early_data_size = u32::MAX;
        Ok(config)
    }

    /// A TLS configuration for these ALPN names, without early data.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<rustls::ServerConfig, CertificateError> {
        let mut config = self.base_config(alpn)?;
        // Tickets, so that resuming costs no memory here.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(config)
    }

    fn base_config(&self, alpn: &[&[u8]]) -> Result<rustls::ServerConfig, CertificateError> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.current.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn usable(source: &Source) -> Result<CertifiedKey, CertificateError> {
    match source {
        Source::Files { certificate, key } => read_pair(certificate, key),
        Source::SelfMade { folder, names } => self_made(folder, names),
    }
}

fn read_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let pem = |path: &Path, error: rustls_pki_types::pem::Error| CertificateError::Pem {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem(certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| pem(key, error))?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

fn self_made(folder: &Path, names: &[String]) -> Result<CertifiedKey, CertificateError> {
    let mut names: Vec<String> =
        USUAL_NAMES.iter().map(|name| (*name).to_owned()).chain(names.to_vec()).collect();
    names.sort();
    names.dedup();
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let (key_path, certificate_path) = (folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE));
    if let Some(state) = read_state(&folder.join(STATE_FILE))
        && state.names == names
        && state.last_day >= today.checked_add(RENEW_DAYS.days())?
    {
        match read_pair(&certificate_path, &key_path) {
            Ok(pair) => return Ok(pair),
            Err(error) => tracing::warn!(%error, "making the certificate anew"),
        }
    }
    let key = match fs::read_to_string(&key_path).ok().and_then(|pem| rcgen::KeyPair::from_pem(&pem).ok()) {
        Some(key) => key,
        None => {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            write(&key_path, key.serialize_pem().as_bytes())?;
            key
        }
    };
    let first_day = today.checked_sub(1.day())?;
    let last_day = first_day.checked_add(VALID_DAYS.days())?;
    write(&certificate_path, make(&key, &names, first_day, last_day)?.as_bytes())?;
    let pair = read_pair(&certificate_path, &key_path)?;
    let state = State { spki_sha256: spki_sha256(&pair), last_day, names };
    tracing::info!(spki_sha256 = state.spki_sha256, %last_day, "made a certificate");
    let text = serde_json::to_vec_pretty(&state).unwrap_or_default();
    write(&folder.join(STATE_FILE), &text)?;
    Ok(pair)
}

fn read_state(path: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn make(key: &rcgen::KeyPair, names: &[String], from: Date, to: Date) -> Result<String, CertificateError> {
    let mut params = rcgen::CertificateParams::new(names.to_vec())?;
    params.not_before =
        date_time_ymd(from.year().into(), from.month().unsigned_abs(), from.day().unsigned_abs());
    params.not_after = date_time_ymd(to.year().into(), to.month().unsigned_abs(), to.day().unsigned_abs());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "reelmill edge");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params.self_signed(key)?.pem())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CertificateError> {
    private_file::write(path, bytes)
        .map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

fn spki_sha256(key: &CertifiedKey) -> String {
    let spki = key.key.public_key();
    let spki = spki.as_ref().map_or(&[][..], AsRef::as_ref);
    // The crypto provider shows its hashes as parts of cipher suites; this one's is SHA-256.
    match cipher_suite::TLS13_AES_128_GCM_SHA256.tls13() {
        Some(suite) => STANDARD.encode(suite.common.hash_provider.hash(spki)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(folder: &Path, names: &[&str]) -> Source {
        Source::SelfMade { folder: folder.to_owned(), names: names.iter().map(|n| (*n).to_owned()).collect() }
    }

    #[test]
    fn a_restart_keeps_the_certificate_and_a_renewal_keeps_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let first = Certificate::load(source(folder.path(), &[])).unwrap();
        let pem = fs::read(path(CERTIFICATE_FILE)).unwrap();
        let again = Certificate::load(source(folder.path(), &[])).unwrap();
        assert_eq!(first.spki_sha256(), again.spki_sha256());
        assert_eq!(fs::read(path(CERTIFICATE_FILE)).unwrap(), pem);

        let mut state = read_state(&path(STATE_FILE)).unwrap();
        assert_eq!(state.spki_sha256, first.spki_sha256());
        state.last_day = Timestamp::now().to_zoned(TimeZone::UTC).date().checked_add(1.day()).unwrap();
        fs::write(path(STATE_FILE), serde_json::to_vec(&state).unwrap()).unwrap();
        first.renew().unwrap();
        assert_ne!(fs::read(path(CERTIFICATE_FILE)).unwrap(), pem);
        assert_eq!(first.spki_sha256(), state.spki_sha256);

        Certificate::load(source(folder.path(), &["cdn.example"])).unwrap();
        assert!(read_state(&path(STATE_FILE)).unwrap().names.contains(&"cdn.example".to_owned()));
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&a, &b] {
            Certificate::load(source(folder.path(), &[])).unwrap();
        }
        let files = |certificate: &Path, key: &Path| {
            Certificate::load(Source::Files {
                certificate: certificate.join(CERTIFICATE_FILE),
                key: key.join(KEY_FILE),
            })
        };
        assert!(files(a.path(), a.path()).is_ok());
        assert!(matches!(files(a.path(), b.path()), Err(CertificateError::Pair(_))));
        assert!(matches!(files(Path::new("/nowhere"), b.path()), Err(CertificateError::Pem { .. })));
    }
}
