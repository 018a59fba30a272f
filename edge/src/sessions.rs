//! How well viewers fare, session by session, from what their players report. Sessions are told apart here and nowhere
//! else: what goes out are sums and distributions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use reelmill_media::ids::BlobHash;

use crate::cmcd::{ObjectType, Report};
use crate::limits::{SESSION_IDLE, SESSIONS};
use crate::metrics::Metrics;

/// The sessions of late. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    known: Cache<BlobHash, Arc<Mutex<Session>>>,
    metrics: Metrics,
}

/// One session so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// Media asked for, in milliseconds, and the same times its bit rate.
    pub(crate) media_ms: u64,
    pub(crate) media_bits: u64,
    /// How often the buffer ran empty.
    pub(crate) starvations: u64,
}

impl Session {
    fn add(&mut self, report: &Report) {
        self.starvations += u64::from(report.starved);
        let of_picture = match report.object {
            Some(ObjectType::Video | ObjectType::Muxed) => true,
            Some(
                ObjectType::Manifest
                | ObjectType::Audio
                | ObjectType::Init
                | ObjectType::Caption
                | ObjectType::Other,
            )
            | None => false,
        };
        if let (true, Some(duration), Some(bitrate)) = (of_picture, report.duration_ms, report.bitrate_kbps) {
            self.media_ms = self.media_ms.saturating_add(duration);
            // Kilobits per second times milliseconds are bits.
            self.media_bits = self.media_bits.saturating_add(duration.saturating_mul(bitrate));
        }
    }

    /// Mean bit rate of what was asked for, in kb/s.
    pub(crate) fn bitrate_kbps(&self) -> Option<u64> {
        self.media_bits.checked_div(self.media_ms)
    }
}

impl Sessions {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self::with_idle(metrics, SESSION_IDLE)
    }

    fn with_idle(metrics: Metrics, idle: Duration) -> Self {
        let ended = metrics.clone();
        let known = Cache::builder()
            .max_capacity(SESSIONS)
            .time_to_idle(idle)
            .eviction_listener(move |_, session: Arc<Mutex<Session>>, _| {
                ended.players.session_ended(*session.lock().unwrap_or_else(PoisonError::into_inner));
            })
            .build();
        Self { known, metrics }
    }

    /// Takes a report.
    pub(crate) fn note(&self, report: &Report) {
        self.metrics.players.report(report);
        if let Some(id) = &report.session {
            // The id is the player's to choose; its hash is as good, and of one length.
            let session = self.known.get_with(BlobHash::of(id.as_bytes()), Arc::default);
            session.lock().unwrap_or_else(PoisonError::into_inner).add(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Registry;

    fn report(session: &str, bitrate_kbps: u64, starved: bool) -> Report {
        Report {
            session: Some(session.to_owned()),
            bitrate_kbps: Some(bitrate_kbps),
            duration_ms: Some(4000),
            object: Some(ObjectType::Video),
            starved,
            ..Report::default()
        }
    }

    #[test]
    fn a_session_is_counted_once_when_it_is_over() {
        let registry = Registry::new();
        let sessions = Sessions::with_idle(Metrics::register(&registry).unwrap(), Duration::from_millis(20));
        for (bitrate, starved) in [(1000, false), (3000, true), (5000, false)] {
            sessions.note(&report("one", bitrate, starved));
            sessions.note(&Report { object: Some(ObjectType::Audio), ..report("one", 128, false) });
        }
        let ended = || {
            sessions.known.run_pending_tasks();
            let families = registry.gather();
            let family = families.iter().find(|f| f.name() == "reelmill_edge_session_bitrate_kbps").unwrap();
            let histogram = family.get_metric()[0].get_histogram().clone();
            (histogram.get_sample_count(), histogram.get_sample_sum())
        };
        while ended().0 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(ended(), (1, 3000.0), "sound does not count");
    }

    #[test]
    fn numbers_beyond_reason_do_no_harm() {
        let mut session = Session::default();
        for _ in 0..3 {
            session.add(&Report { duration_ms: Some(u64::MAX), ..report("x", u64::MAX, true) });
        }
        assert_eq!((session.starvations, session.bitrate_kbps()), (3, Some(1)));
    }
}
