//! What blobs take of memory.

use prometheus::{Error, IntCounter, IntGauge};

use super::register::Register;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct MemoryMetrics {
    held: IntGauge,
    limit: IntGauge,
    taken_away: IntCounter,
}

/// Bytes of blobs that somebody holds.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    held: IntGauge,
    bytes: i64,
}

impl MemoryMetrics {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            held: register.gauge(
                "blob_memory_bytes",
                "Bytes of blobs in memory, whoever holds them: the cache, answers, and connections that send them.",
            )?,
            limit: register.gauge("blob_memory_limit_bytes", "The most that there may be of them.")?,
            taken_away: register.counter(
                "blobs_taken_away_total",
                "Blobs that slow readers had to give up, since the cache no longer kept them and memory ran short.",
            )?,
        })
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts bytes for as long as the guard lives.
    pub(crate) fn hold(&self, bytes: usize) -> HeldBytes {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.held.add(bytes);
        HeldBytes { held: self.held.clone(), bytes }
    }

    pub(crate) fn taken_away(&self) {
        self.taken_away.inc();
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> i64 {
        self.held.get()
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.held.sub(self.bytes);
    }
}
