//! UDP ports that speak QUIC, and what of them outlives a process.

use std::io;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{EndpointConfig, QlogStream, ServerConfig};

use super::driver::Endpoint;
use super::shared_port::SharedPort;
use super::transport::{Congestion, transport};
use crate::limits::{QUIC_INCOMING, QUIC_INCOMING_BYTES, QUIC_INCOMING_BYTES_TOTAL};

/// One of the endpoints of a UDP port.
pub(crate) struct Listener {
    pub(super) endpoint: Endpoint,
    config: ServerConfig,
    congestion: Congestion,
}

impl Listener {
    /// The settings of a connection that is traced.
    pub(super) fn traced(&self, trace: QlogStream) -> Option<Arc<ServerConfig>> {
        let mut config = self.config.clone();
        // The same numbers as those of all others, so that this cannot fail.
        config.transport_config(transport(self.congestion, Some(trace)).ok()?);
        Some(Arc::new(config))
    }
}

/// Opens an endpoint on each socket of a port. All of them know the same sessions, and from `secret` follow the keys of what
/// must outlive the process: stateless resets and proofs of addresses.
pub(crate) fn listen(
    port: &Arc<SharedPort>,
    tls: rustls::ServerConfig,
    congestion: Congestion,
    secret: &[u8; 32],
) -> Result<Vec<Listener>, QuicError> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(transport(congestion, None)?)
        .max_incoming(QUIC_INCOMING)
        .incoming_buffer_size(QUIC_INCOMING_BYTES)
        .incoming_buffer_size_total(QUIC_INCOMING_BYTES_TOTAL / port.endpoints().count() as u64)
        .token_key(Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&derived(TOKENS, secret))));
    let resets = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &derived(RESETS, secret)));
    let open = |(issuer, socket)| {
        let mut settings = EndpointConfig::new(resets.clone());
        settings.cid_generator(move || Box::new(issuer));
        let endpoint = Endpoint::new(settings, config.clone(), socket);
        Listener { endpoint, config: config.clone(), congestion }
    };
    Ok(port.endpoints().map(open).collect())
}

/// What keys are derived for.
const TOKENS: &str = "reelmill 2026-11-21 proofs of addresses";
/// See [`TOKENS`].
const RESETS: &str = "reelmill 2026-11-21 stateless resets";

fn derived(purpose: &str, secret: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(purpose, secret)
}

/// Why there is no QUIC endpoint.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The certificate's cipher suites lack what QUIC needs.
    #[error("QUIC cannot use this TLS configuration: {0}")]
    Tls(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// An idle timeout beyond QUIC's numbers.
    #[error("the idle timeout does not fit QUIC: {0}")]
    Idle(#[from] quinn::VarIntBoundsExceeded),
    /// The socket failed.
    #[error("cannot use the UDP socket: {0}")]
    Socket(#[from] io::Error),
}
