//! What is taken of memory: by blobs, and by the process.

use prometheus::{Error, IntCounter, IntGauge};

use super::register::Register;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct MemoryMetrics {
    held: IntGauge,
    limit: IntGauge,
    taken_away: IntCounter,
    process: IntGauge,
    process_limit: IntGauge,
    withheld: IntGauge,
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
            process: register.gauge("memory_bytes", "Memory of the process, without what lies in files.")?,
            process_limit: register.gauge("memory_limit_bytes", "Above this no more connections are taken.")?,
            withheld: register.gauge(
                "withheld_connections",
                "Connections that would be taken beside those that are there, were memory not short.",
            )?,
        })
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_process(&self, bytes: u64) {
        self.process.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_process_limit(&self, bytes: u64) {
        self.process_limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Says how many connections are not taken for want of memory.
    pub(crate) fn set_withheld(&self, connections: usize) {
        self.withheld.set(i64::try_from(connections).unwrap_or(i64::MAX));
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
