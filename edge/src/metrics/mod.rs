//! What an edge counts.

mod memory;
mod players;
mod quic;
mod register;

use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

pub(crate) use self::memory::{HeldBytes, MemoryMetrics};
use self::players::PlayerMetrics;
pub(crate) use self::quic::QuicMetrics;
use self::register::Register;
use crate::cache::{FillError, Lookup, MissReason, Tier};
use crate::clients::Excess;

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
    unreadable_tombstones: IntCounter,
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
    held_requests: IntGauge,
    prefetch_bytes: IntCounterVec,
    dropped_log_lines: IntCounter,
    /// What blobs take of memory.
    pub(crate) memory: MemoryMetrics,
    /// What players say of themselves.
    pub(crate) players: PlayerMetrics,
    /// What QUIC and its sockets are like.
    pub(crate) quic: QuicMetrics,
}

impl Metrics {
    /// Registers everything; fails only if a name is taken already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        Ok(Self {
            requests: register.counters("requests_total", "Requests answered.", &["protocol", "class", "lookup"])?,
            body_bytes: register.counters("body_bytes_total", "Body bytes handed to connections.", &["protocol"])?,
            aborted: register.counters(
                "aborted_responses_total",
                "Responses that did not reach their end.",
                &["protocol"],
            )?,
            origin_reads: register.counters("origin_reads_total", "Objects asked of the origin.", &["what"])?,
            fills: register.counters("fills_total", "Fills of the blob cache by outcome.", &["outcome"])?,
            fill_bytes: register.counters("fill_bytes_total", "Verified bytes brought in, by source.", &["source"])?,
            blob_bytes: register.counters(
                "blob_bytes_total",
                "Bytes of blobs taken by viewers, by where they were found.",
                &["tier"],
            )?,
            corrupt_blobs: register.counters(
                "corrupt_blobs_total",
                "Blobs refused because their bytes are not their hash's, by source.",
                &["source"],
            )?,
            corrupt_trees: register.counter(
                "corrupt_trees_total",
                "Hash trees refused because they are not their blob's.",
            )?,
            takedowns: register.counter(
                "takedowns_total",
                "Takedowns obeyed, also those of earlier days at the start.",
            )?,
            unreadable_tombstones: register.counter(
                "unreadable_tombstones_total",
                "Takedowns that this edge obeys as far as their keys go, since it cannot read them.",
            )?,
            misses: register.counters("misses_total", "Blobs not found here, by reason.", &["reason"])?,
            stale_texts: register.counter("stale_texts_total", "Playlists served stale because the origin is away.")?,
            corrupt_files: register.counter(
                "corrupt_files_total",
                "Files of the disk cache dropped because their bytes are not their blob's.",
            )?,
            disk_writes: register.counters(
                "disk_writes_total",
                "Blobs for the disk cache, by outcome.",
                &["outcome"],
            )?,
            disk_bytes: register.gauge("disk_cache_bytes", "Bytes of files in the disk cache.")?,
            cache_bytes: register.gauge("cache_bytes", "Bytes of blobs held in memory.")?,
            pop_members: register.gauge("pop_members", "Other edges of the PoP.")?,
            peer_answers: register.counters(
                "peer_answers_total",
                "What peers said to questions of this edge.",
                &["answer"],
            )?,
            connections: register.gauges("connections", "Open connections.", &["transport"])?,
            refused_connections: register.counters(
                "refused_connections_total",
                "Connections over the cap.",
                &["transport"],
            )?,
            prefetch_bytes: register.counters(
                "prefetch_bytes_total",
                "Bytes of blobs brought in before anybody asked, and of those that somebody then did ask for.",
                &["what"],
            )?,
            dropped_log_lines: register.counter(
                "access_log_dropped_total",
                "Lines of the access log that were not written for want of time.",
            )?,
            held_requests: register.gauge("held_requests", "Requests held until a text changes.")?,
            excesses: register.counters("excesses_total", "What clients were refused or ended for.", &["what"])?,
            handshake_failures: register.counters(
                "handshake_failures_total",
                "Handshakes not completed.",
                &["transport"],
            )?,
            memory: MemoryMetrics::register(register)?,
            players: PlayerMetrics::register(register)?,
            quic: QuicMetrics::register(register)?,
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
            Err(FillError::NoRoom) => "no_room",
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

    pub(crate) fn unreadable_tombstone(&self) {
        self.unreadable_tombstones.inc();
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

    pub(crate) fn pop_members(&self, count: usize) {
        self.pop_members.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn peer_answer(&self, answer: PeerAnswer) {
        self.peer_answers.with_label_values(&[answer.label()]).inc();
    }

    pub(crate) fn dropped_log_line(&self) {
        self.dropped_log_lines.inc();
    }

    /// Counts a connection for as long as the guard lives.
    pub(crate) fn connection(&self, transport: Transport) -> Counted {
        Counted::one_more(self.connections.with_label_values(&[transport.label()]))
    }

    /// Counts a request that is held for as long as the guard lives.
    pub(crate) fn held_request(&self) -> Counted {
        Counted::one_more(self.held_requests.clone())
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
    /// It was asked for what it holds, and does not hold it.
    NotHeld,
    /// It said why not.
    Refused,
    /// None came.
    Missing,
}

impl PeerAnswer {
    fn label(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::NotHeld => "not_held",
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

/// One of those that a gauge counts.
#[derive(Debug)]
pub(crate) struct Counted(IntGauge);

impl Counted {
    fn one_more(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
