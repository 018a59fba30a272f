//! What QUIC learnt of the paths to viewers, added up over all connections.

use std::future::pending;
use std::time::Duration;

use quinn::PathStats;
use tokio::time::{MissedTickBehavior, interval};

use super::driver::Connection;
use crate::metrics::Metrics;

/// How often a connection's counts are taken over.
const LOOK: Duration = Duration::from_secs(5);

/// Takes over what a connection counts; its drop takes the rest.
pub(super) struct PathWatch<'a> {
    connection: &'a Connection,
    metrics: Metrics,
    taken: Counts,
}

/// Those that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) congested: u64,
    pub(crate) black_holes: u64,
}

impl Counts {
    fn of(stats: &PathStats) -> Self {
        Self {
            sent: stats.sent_packets,
            lost: stats.lost_packets,
            congested: stats.congestion_events,
            black_holes: stats.black_holes_detected,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(before.sent),
            lost: self.lost.saturating_sub(before.lost),
            congested: self.congested.saturating_sub(before.congested),
            black_holes: self.black_holes.saturating_sub(before.black_holes),
        }
    }
}

impl<'a> PathWatch<'a> {
    pub(super) fn new(connection: &'a Connection, metrics: Metrics) -> Self {
        Self { connection, metrics, taken: Counts::default() }
    }

    /// Takes over now and then, for ever.
    pub(super) async fn run<T>(&mut self) -> T {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once, and there is nothing yet.
        look.tick().await;
        loop {
            look.tick().await;
            self.take();
            if self.connection.close_reason().is_some() {
                return pending().await;
            }
        }
    }

    fn take(&mut self) -> PathStats {
        let path = self.connection.path_stats();
        let counts = Counts::of(&path);
        self.metrics.quic.path(counts.since(self.taken));
        self.taken = counts;
        path
    }
}

impl Drop for PathWatch<'_> {
    fn drop(&mut self) {
        let path = self.take();
        self.metrics.quic.path_ended(path.rtt, path.current_mtu);
    }
}
