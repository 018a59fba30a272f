//! What an edge counts.

use http::StatusCode;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::cache::{FillError, Lookup, MissReason, Tier};
use crate::clients::Excess;
use crate::cmcd::{ObjectType, Report};
use crate::listener::path_stats::Counts;
use crate::sessions::Session;

/// The protocol a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2
    Http2,
    /// HTTP/3
    Http3,
    /// HTTP/3, by another edge.
    Peer,
}

impl Protocol {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
            Self::Peer => "peer",
        }
    }
}

/// What carries connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tls,
    /// TCP without TLS, for local tools.
    Plain,
}

impl Transport {
    fn label(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
            Self::Plain => "plain",
        }
    }
}

const BUFFER_SECONDS: [f64; 8] = [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const START_SECONDS: [f64; 8] = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0];
const MEDIA_SECONDS: [f64; 7] = [10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0];
const KILOBITS: [f64; 9] = [250.0, 500.0, 1e3, 2e3, 4e3, 8e3, 16e3, 32e3, 64e3];

/// Counters and gauges, registered once per process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    body_bytes: IntCounterVec,
    aborted: IntCounterVec,
    origin_reads: IntCounterVec,
    fills: IntCounterVec,
    fill_bytes: IntCounterVec,
    blob_bytes: IntCounterVec,
    corrupt_blobs: IntCounterVec,
    corrupt_trees: IntCounter,
    misses: IntCounterVec,
    takedowns: IntCounter,
    corrupt_files: IntCounter,
    disk_writes: IntCounterVec,
    disk_bytes: IntGauge,
    stale_texts: IntCounter,
    cache_bytes: IntGauge,
    pop_members: IntGauge,
    peer_answers: IntCounterVec,
    connections: IntGaugeVec,
    refused_connections: IntCounterVec,
    handshake_failures: IntCounterVec,
    excesses: IntCounterVec,
    prefetch_bytes: IntCounterVec,
    cmcd_reports: IntCounterVec,
    cmcd_starvations: IntCounter,
    cmcd_buffer: HistogramVec,
    cmcd_throughput: Histogram,
    cmcd_start_delay: Histogram,
    session_bitrate: Histogram,
    session_starvations: Histogram,
    session_media: Histogram,
    dropped_log_lines: IntCounter,
    udp_drops: IntCounter,
    quic_packets: IntCounterVec,
    quic_congestion: IntCounter,
    quic_black_holes: IntCounter,
    quic_rtt: Histogram,
    quic_mtu: Histogram,
}

impl Metrics {
    /// Registers everything; fails only if a name is taken already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(format!("reelmill_edge_{name}"), help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(format!("reelmill_edge_{name}"), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(format!("reelmill_edge_{name}"), help).buckets(buckets.to_vec());
            let made = Histogram::with_opts(options)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let buffer = HistogramOpts::new(
            "reelmill_edge_cmcd_buffer_seconds",
            "Media in players' buffers when they asked, by what they asked for (CMCD bl).",
        );
        let cmcd_buffer = HistogramVec::new(buffer.buckets(BUFFER_SECONDS.to_vec()), &["object"])?;
        registry.register(Box::new(cmcd_buffer.clone()))?;
        let cache_bytes = IntGauge::new("reelmill_edge_cache_bytes", "Bytes of blobs held in memory.")?;
        registry.register(Box::new(cache_bytes.clone()))?;
        let disk_bytes =
            IntGauge::new("reelmill_edge_disk_cache_bytes", "Bytes of files in the disk cache.")?;
        registry.register(Box::new(disk_bytes.clone()))?;
        let pop_members = IntGauge::new("reelmill_edge_pop_members", "Other edges of the PoP.")?;
        registry.register(Box::new(pop_members.clone()))?;
        let connections =
            IntGaugeVec::new(Opts::new("reelmill_edge_connections", "Open connections."), &["transport"])?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Self {
            requests: counters("requests_total", "Requests answered.", &["protocol", "class", "lookup"])?,
            body_bytes: counters("body_bytes_total", "Body bytes handed to connections.", &["protocol"])?,
            aborted: counters(
                "aborted_responses_total",
                "Responses that did not reach their end.",
                &["protocol"],
            )?,
            origin_reads: counters("origin_reads_total", "Objects asked of the origin.", &["what"])?,
            fills: counters("fills_total", "Fills of the blob cache by outcome.", &["outcome"])?,
            fill_bytes: counters("fill_bytes_total", "Verified bytes brought in, by source.", &["source"])?,
            blob_bytes: counters(
                "blob_bytes_total",
                "Bytes of blobs taken by viewers, by where they were found.",
                &["tier"],
            )?,
            corrupt_blobs: counters(
                "corrupt_blobs_total",
                "Blobs refused because their bytes are not their hash's, by source.",
                &["source"],
            )?,
            corrupt_trees: counter(
                "corrupt_trees_total",
                "Hash trees refused because they are not their blob's.",
            )?,
            takedowns: counter(
                "takedowns_total",
                "Takedowns obeyed, also those of earlier days at the start.",
            )?,
            misses: counters("misses_total", "Blobs not found here, by reason.", &["reason"])?,
            stale_texts: counter("stale_texts_total", "Playlists served stale because the origin is away.")?,
            corrupt_files: counter(
                "corrupt_files_total",
                "Files of the disk cache dropped because their bytes are not their blob's.",
            )?,
            disk_writes: counters(
                "disk_writes_total",
                "Blobs for the disk cache, by outcome.",
                &["outcome"],
            )?,
            disk_bytes,
            cache_bytes,
            pop_members,
            peer_answers: counters(
                "peer_answers_total",
                "What peers said to questions of this edge.",
                &["answer"],
            )?,
            connections,
            refused_connections: counters(
                "refused_connections_total",
                "Connections over the cap.",
                &["transport"],
            )?,
            prefetch_bytes: counters(
                "prefetch_bytes_total",
                "Bytes of blobs brought in before anybody asked, and of those that somebody then did ask for.",
                &["what"],
            )?,
            cmcd_reports: counters(
                "cmcd_reports_total",
                "Requests with CMCD, by what they ask for.",
                &["object"],
            )?,
            cmcd_starvations: counter(
                "cmcd_starvations_total",
                "How often players' buffers ran empty (CMCD bs).",
            )?,
            cmcd_buffer,
            cmcd_throughput: histogram(
                "cmcd_throughput_kbps",
                "Throughput as players measure it (CMCD mtp).",
                &KILOBITS,
            )?,
            cmcd_start_delay: histogram(
                "cmcd_start_delay_seconds",
                "From the wish to play to the first picture (CMCD version 2, msd).",
                &START_SECONDS,
            )?,
            session_bitrate: histogram(
                "session_bitrate_kbps",
                "Mean bit rate of the pictures of each ended session (CMCD).",
                &KILOBITS,
            )?,
            session_starvations: histogram(
                "session_starvations",
                "How often the buffer ran empty in each ended session (CMCD).",
                &[0.0, 1.0, 2.0, 5.0, 10.0],
            )?,
            session_media: histogram(
                "session_media_seconds",
                "Media asked for in each ended session (CMCD).",
                &MEDIA_SECONDS,
            )?,
            dropped_log_lines: counter(
                "access_log_dropped_total",
                "Lines of the access log that were not written for want of time.",
            )?,
            udp_drops: counter(
                "udp_drops_total",
                "Packets that the kernel dropped since the socket's buffer was full.",
            )?,
            quic_packets: counters("quic_packets_total", "Packets sent, and lost, over QUIC.", &["outcome"])?,
            quic_congestion: counter(
                "quic_congestion_events_total",
                "Times that a QUIC sender slowed down.",
            )?,
            quic_black_holes: counter(
                "quic_black_holes_total",
                "Times that a path ceased to carry packets of the size found before.",
            )?,
            quic_rtt: histogram(
                "quic_rtt_seconds",
                "Round trip of QUIC connections at their end.",
                &[0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
            )?,
            quic_mtu: histogram(
                "quic_mtu_bytes",
                "Packet size of QUIC connections at their end.",
                &[1200.0, 1280.0, 1372.0, 1452.0, 1500.0],
            )?,
            excesses: counters("excesses_total", "What clients were refused or ended for.", &["what"])?,
            handshake_failures: counters(
                "handshake_failures_total",
                "Handshakes not completed.",
                &["transport"],
            )?,
        })
    }

    pub(crate) fn request(&self, protocol: Protocol, status: StatusCode, lookup: Option<Lookup>) {
        let class = match status.as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let lookup = lookup.map_or("none", Lookup::label);
        self.requests.with_label_values(&[protocol.label(), class, lookup]).inc();
    }

    pub(crate) fn sent(&self, protocol: Protocol, bytes: usize) {
        self.body_bytes.with_label_values(&[protocol.label()]).inc_by(bytes as u64);
    }

    pub(crate) fn aborted(&self, protocol: Protocol) {
        self.aborted.with_label_values(&[protocol.label()]).inc();
    }

    pub(crate) fn origin_read(&self, what: OriginRead) {
        self.origin_reads.with_label_values(&[what.label()]).inc();
    }

    pub(crate) fn filled(&self, outcome: Result<(), FillError>) {
        let label = match outcome {
            Ok(()) => "stored",
            Err(FillError::Absent) => "absent",
            Err(FillError::Corrupt) => "corrupt",
            Err(FillError::Unavailable) => "unavailable",
            Err(FillError::Deadline) => "deadline",
            Err(FillError::Purged) => "purged",
            Err(FillError::Ended) => "ended",
            Err(FillError::Unwanted) => "unwanted",
            Err(FillError::NotHeld) => "not_held",
            Err(FillError::Overloaded) => "overloaded",
            Err(FillError::Misdirected) => "misdirected",
        };
        self.fills.with_label_values(&[label]).inc();
    }

    pub(crate) fn brought_in(&self, source: Tier, bytes: usize) {
        self.fill_bytes.with_label_values(&[source.label()]).inc_by(bytes as u64);
    }

    /// Counts what viewers take of a blob.
    pub(crate) fn blob_bytes(&self, tier: Lookup) -> IntCounter {
        self.blob_bytes.with_label_values(&[tier.label()])
    }

    pub(crate) fn corrupt_blob(&self, source: Tier) {
        self.corrupt_blobs.with_label_values(&[source.label()]).inc();
    }

    #[cfg(test)]
    pub(crate) fn corrupt_blobs(&self, source: Tier) -> u64 {
        self.corrupt_blobs.with_label_values(&[source.label()]).get()
    }

    pub(crate) fn corrupt_tree(&self) {
        self.corrupt_trees.inc();
    }

    pub(crate) fn miss(&self, reason: MissReason) {
        self.misses.with_label_values(&[reason.label()]).inc();
    }

    pub(crate) fn takedown(&self) {
        self.takedowns.inc();
    }

    pub(crate) fn corrupt_file(&self) {
        self.corrupt_files.inc();
    }

    pub(crate) fn disk_write(&self, outcome: DiskWrite) {
        self.disk_writes.with_label_values(&[outcome.label()]).inc();
    }

    pub(crate) fn disk_holds(&self, bytes: u64) {
        self.disk_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn stale_text(&self) {
        self.stale_texts.inc();
    }

    pub(crate) fn cache_holds(&self, bytes: u64) {
        self.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn prefetched(&self, bytes: u64) {
        self.prefetch_bytes.with_label_values(&["fetched"]).inc_by(bytes);
    }

    pub(crate) fn prefetch_used(&self, bytes: u64) {
        self.prefetch_bytes.with_label_values(&["used"]).inc_by(bytes);
    }

    /// Takes what a player says of itself.
    pub(crate) fn cmcd(&self, report: &Report) {
        let object = report.object.map_or("unknown", ObjectType::label);
        self.cmcd_reports.with_label_values(&[object]).inc();
        self.cmcd_starvations.inc_by(u64::from(report.starved));
        if let Some(ms) = report.buffer_ms {
            self.cmcd_buffer.with_label_values(&[object]).observe(ms as f64 / 1e3);
        }
        if let Some(kbps) = report.throughput_kbps {
            self.cmcd_throughput.observe(kbps as f64);
        }
        if let Some(ms) = report.start_delay_ms {
            self.cmcd_start_delay.observe(ms as f64 / 1e3);
        }
    }

    /// Takes a session that is over.
    pub(crate) fn session_ended(&self, session: Session) {
        if let Some(kbps) = session.bitrate_kbps() {
            self.session_bitrate.observe(kbps as f64);
        }
        self.session_starvations.observe(session.starvations as f64);
        self.session_media.observe(session.media_ms as f64 / 1e3);
    }

    pub(crate) fn pop_members(&self, count: usize) {
        self.pop_members.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn peer_answer(&self, answer: PeerAnswer) {
        self.peer_answers.with_label_values(&[answer.label()]).inc();
    }

    /// Counts a connection for as long as the guard lives.
    pub(crate) fn dropped_log_line(&self) {
        self.dropped_log_lines.inc();
    }

    pub(crate) fn udp_drops(&self, packets: u64) {
        self.udp_drops.inc_by(packets);
    }

    /// What connections counted of late.
    pub(crate) fn path(&self, counts: Counts) {
        self.quic_packets.with_label_values(&["sent"]).inc_by(counts.sent);
        self.quic_packets.with_label_values(&["lost"]).inc_by(counts.lost);
        self.quic_congestion.inc_by(counts.congested);
        self.quic_black_holes.inc_by(counts.black_holes);
    }

    /// What a connection ended with.
    pub(crate) fn path_ended(&self, rtt: Duration, mtu: u16) {
        self.quic_rtt.observe(rtt.as_secs_f64());
        self.quic_mtu.observe(mtu.into());
    }

    pub(crate) fn connection(&self, transport: Transport) -> ConnectionGuard {
        let gauge = self.connections.with_label_values(&[transport.label()]);
        gauge.inc();
        ConnectionGuard(gauge)
    }

    pub(crate) fn refused_connection(&self, transport: Transport) {
        self.refused_connections.with_label_values(&[transport.label()]).inc();
    }

    pub(crate) fn excess(&self, what: Excess) {
        self.excesses.with_label_values(&[what.label()]).inc();
    }

    pub(crate) fn handshake_failure(&self, transport: Transport) {
        self.handshake_failures.with_label_values(&[transport.label()]).inc();
    }
}

/// What became of a blob on its way to the disk cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskWrite {
    Stored,
    /// The disk was too slow.
    Skipped,
    Failed,
}

impl DiskWrite {
    fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// What came of a question to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerAnswer {
    Given,
    /// It said why not.
    Refused,
    /// None came.
    Missing,
}

impl PeerAnswer {
    fn label(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Refused => "refused",
            Self::Missing => "missing",
        }
    }
}

/// What is asked of the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OriginRead {
    Blob,
    Tree,
    Text,
}

impl OriginRead {
    fn label(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Tree => "tree",
            Self::Text => "text",
        }
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(IntGauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
