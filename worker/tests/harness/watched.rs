//! The memory of a child, seen by the way.

use std::io::{self, Read};

/// Looks at a process whenever something is read from it: while it waits for an answer, or for room in the pipe.
pub struct Watched<R> {
    process: u32,
    from: R,
    /// The most memory seen, in bytes.
    pub peak: u64,
}

impl<R> Watched<R> {
    pub fn new(process: u32, from: R) -> Self {
        Self { process, from, peak: 0 }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
        self.peak = self.peak.max(kib.unwrap_or(0) << 10);
        self.from.read(to)
    }
}
