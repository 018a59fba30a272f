//! How requests come in: QUIC, TLS over TCP, and plain TCP for local tools. One sequence of ports, one life cycle.

mod activity;
pub(crate) mod connection_id;
mod driver;
pub(crate) mod endpoint;
mod first_packets;
pub(crate) mod gso;
mod http3;
mod inbox;
pub(crate) mod path_stats;
mod peer;
pub(crate) mod quic;
pub(crate) mod relay;
pub(crate) mod shared_port;
pub(crate) mod socket;
pub(crate) mod tcp;
pub(crate) mod transport;
mod udp;
pub(crate) mod udp_drops;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::StatusCode;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::{AccessLog, Entry};
use crate::clients::Clients;
use crate::metrics::{Metrics, Protocol};
use crate::serve::Edge;
use crate::traces::Traces;

/// What every listener works with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) edge: Edge,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: AccessLog,
    /// What HTTP/3 counts as here.
    pub(crate) protocol: Protocol,
    /// One permit per connection of any kind.
    pub(crate) connections: Arc<Semaphore>,
    /// QUIC handshakes in progress, at all endpoints of the port.
    pub(crate) handshakes: Arc<AtomicUsize>,
    /// What each client address may take.
    pub(crate) clients: Clients,
    /// Which connections are traced.
    pub(crate) traces: Traces,
    /// Owns every connection's task.
    pub(crate) tasks: TaskTracker,
    /// Take no more; finish what is begun.
    pub(crate) drain: CancellationToken,
    /// A newer process has taken over; the drain begins with it.
    pub(crate) succeeded: CancellationToken,
    /// Nothing is in flight any more: take what has come already, and then nobody.
    pub(crate) last_call: CancellationToken,
    /// Grace is over: end now.
    pub(crate) end: CancellationToken,
}

impl Context {
    /// Counts and logs a request that is not read, and is answered with nothing but this status.
    fn refused(&self, status: StatusCode, from: IpAddr, protocol: Protocol) -> Option<Entry> {
        self.metrics.request(protocol, status, None);
        let mut entry = self.access_log.begin_unread(from, protocol);
        if let Some(entry) = &mut entry {
            entry.refused(status);
        }
        entry
    }
}
