//! What a QUIC connection may take, and how it judges its path.

use std::sync::Arc;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::{IdleTimeout, QlogStream, TransportConfig, VarIntBoundsExceeded};

use crate::limits::{
    IDLE, QUIC_RECEIVE_WINDOW, QUIC_SEND_WINDOW, QUIC_STREAM_RECEIVE_WINDOW, STREAMS_PER_CONNECTION,
    UNI_STREAMS_PER_CONNECTION,
};

/// What decides how fast a sender goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Congestion {
    /// Loss, and time since it (RFC 9438).
    Cubic,
    /// The path's rate and round trip as they are measured, first version; takes more than its share beside others
    Bbr,
    /// Loss alone (RFC 9002).
    NewReno,
}

impl Congestion {
    fn controllers(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
            Self::NewReno => Arc::new(NewRenoConfig::default()),
        }
    }
}

/// A connection's settings, and where its trace goes. The size of packets is found out by each connection for itself
/// (RFC 8899).
pub(super) fn transport(
    congestion: Congestion,
    trace: Option<QlogStream>,
) -> Result<Arc<TransportConfig>, VarIntBoundsExceeded> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS_PER_CONNECTION.into())
        .max_concurrent_uni_streams(UNI_STREAMS_PER_CONNECTION.into())
        .stream_receive_window(QUIC_STREAM_RECEIVE_WINDOW.into())
        .receive_window(QUIC_RECEIVE_WINDOW.into())
        .send_window(QUIC_SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(congestion.controllers())
        .qlog_stream(trace)
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE)?));
    Ok(Arc::new(transport))
}
