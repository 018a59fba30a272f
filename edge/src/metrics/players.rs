//! What players say of themselves (CTA-5004, CMCD), and of sessions that are over.

use prometheus::{Error, Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::register::Register;
use crate::cmcd::{ObjectType, Report};
use crate::sessions::Session;

const BUFFER_SECONDS: [f64; 8] = [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const START_SECONDS: [f64; 8] = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0];
const MEDIA_SECONDS: [f64; 7] = [10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0];
const KILOBITS: [f64; 9] = [250.0, 500.0, 1e3, 2e3, 4e3, 8e3, 16e3, 32e3, 64e3];
const STARVATIONS: [f64; 5] = [0.0, 1.0, 2.0, 5.0, 10.0];

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PlayerMetrics {
    reports: IntCounterVec,
    starvations: IntCounter,
    buffer: HistogramVec,
    throughput: Histogram,
    start_delay: Histogram,
    session_bitrate: Histogram,
    session_starvations: Histogram,
    session_media: Histogram,
}

impl PlayerMetrics {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            reports: register.counters(
                "cmcd_reports_total",
                "Requests with CMCD, by what they ask for.",
                &["object"],
            )?,
            starvations: register
                .counter("cmcd_starvations_total", "How often players' buffers ran empty (CMCD bs).")?,
            buffer: register.histograms(
                "cmcd_buffer_seconds",
                "Media in players' buffers when they asked, by what they asked for (CMCD bl).",
                &BUFFER_SECONDS,
                &["object"],
            )?,
            throughput: register.histogram(
                "cmcd_throughput_kbps",
                "Throughput as players measure it (CMCD mtp).",
                &KILOBITS,
            )?,
            start_delay: register.histogram(
                "cmcd_start_delay_seconds",
                "From the wish to play to the first picture (CMCD version 2, msd).",
                &START_SECONDS,
            )?,
            session_bitrate: register.histogram(
                "session_bitrate_kbps",
                "Mean bit rate of the pictures of each ended session (CMCD).",
                &KILOBITS,
            )?,
            session_starvations: register.histogram(
                "session_starvations",
                "How often the buffer ran empty in each ended session (CMCD).",
                &STARVATIONS,
            )?,
            session_media: register.histogram(
                "session_media_seconds",
                "Media asked for in each ended session (CMCD).",
                &MEDIA_SECONDS,
            )?,
        })
    }

    /// Takes what a player says of itself.
    pub(crate) fn report(&self, report: &Report) {
        let object = report.object.map_or("unknown", ObjectType::label);
        self.reports.with_label_values(&[object]).inc();
        self.starvations.inc_by(u64::from(report.starved));
        if let Some(ms) = report.buffer_ms {
            self.buffer.with_label_values(&[object]).observe(ms as f64 / 1e3);
        }
        if let Some(kbps) = report.throughput_kbps {
            self.throughput.observe(kbps as f64);
        }
        if let Some(ms) = report.start_delay_ms {
            self.start_delay.observe(ms as f64 / 1e3);
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
}
