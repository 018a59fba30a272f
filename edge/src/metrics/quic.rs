//! What QUIC and its sockets are like.

use std::time::Duration;

use prometheus::{Error, Histogram, IntCounter, IntCounterVec, IntGaugeVec};

use super::Protocol;
use super::register::Register;
use crate::listener::path_stats::Counts;

const RTT_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
const MTU_BYTES: [f64; 5] = [1200.0, 1280.0, 1372.0, 1452.0, 1500.0];

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct QuicMetrics {
    drops: IntCounter,
    handed_over: IntCounterVec,
    gso_segments: IntGaugeVec,
    packets: IntCounterVec,
    congestion: IntCounter,
    black_holes: IntCounter,
    rtt: Histogram,
    mtu: Histogram,
}

impl QuicMetrics {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            drops: register.counter(
                "udp_drops_total",
                "Packets that the kernel dropped since the socket's buffer was full.",
            )?,
            handed_over: register.counters(
                "quic_handed_over_total",
                "Datagrams that came in at the socket of another endpoint than their connection's: handed to it, or lost for \
                 want of room there.",
                &["outcome"],
            )?,
            gso_segments: register.gauges(
                "udp_gso_segments",
                "Packets that the kernel cuts from one piece at most; 1 where it or the device cannot (GSO).",
                &["protocol"],
            )?,
            packets: register.counters(
                "quic_packets_total",
                "Packets sent, and lost, over QUIC.",
                &["outcome"],
            )?,
            congestion: register
                .counter("quic_congestion_events_total", "Times that a QUIC sender slowed down.")?,
            black_holes: register.counter(
                "quic_black_holes_total",
                "Times that a path ceased to carry packets of the size found before.",
            )?,
            rtt: register.histogram(
                "quic_rtt_seconds",
                "Round trip of QUIC connections at their end.",
                &RTT_SECONDS,
            )?,
            mtu: register.histogram(
                "quic_mtu_bytes",
                "Packet size of QUIC connections at their end.",
                &MTU_BYTES,
            )?,
        })
    }

    pub(crate) fn drops(&self, packets: u64) {
        self.drops.inc_by(packets);
    }

    /// A datagram came in at another endpoint's socket, and there was room for it at its own or not.
    pub(crate) fn handed_over(&self, fits: bool) {
        self.handed_over.with_label_values(&[if fits { "handed" } else { "lost" }]).inc();
    }

    /// How many packets the kernel takes at once on a port.
    pub(crate) fn gso(&self, port: Protocol, segments: usize) {
        let segments = i64::try_from(segments).unwrap_or(i64::MAX);
        self.gso_segments.with_label_values(&[port.label()]).set(segments);
    }

    /// What connections counted of late.
    pub(crate) fn path(&self, counts: Counts) {
        self.packets.with_label_values(&["sent"]).inc_by(counts.sent);
        self.packets.with_label_values(&["lost"]).inc_by(counts.lost);
        self.congestion.inc_by(counts.congested);
        self.black_holes.inc_by(counts.black_holes);
    }

    /// What a connection ended with.
    pub(crate) fn path_ended(&self, rtt: Duration, mtu: u16) {
        self.rtt.observe(rtt.as_secs_f64());
        self.mtu.observe(mtu.into());
    }
}
