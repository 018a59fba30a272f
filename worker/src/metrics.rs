//! What a worker counts.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use reelmill_media::codec::VideoCodec;
use reelmill_media::task::{Outcome, Task, Work};

use crate::slot::Cut;

/// The counters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    tasks: IntCounterVec,
    seconds: HistogramVec,
    segments: IntCounter,
    bytes: IntCounter,
    frames: IntCounter,
    concealed: IntCounter,
    encoder_ready: IntGaugeVec,
    encoder_sessions: IntGaugeVec,
    /// Slots there are.
    pub slots: IntGauge,
    /// Slots that work.
    pub busy: IntGauge,
    /// Whether coordinators have it take no tasks.
    pub quarantined: IntGauge,
}

impl Metrics {
    /// Registers everything.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let tasks = IntCounterVec::new(
            Opts::new("reelmill_worker_tasks_total", "Tasks ended, by kind of work and by how they ended"),
            &["work", "outcome"],
        )?;
        registry.register(Box::new(tasks.clone()))?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("reelmill_worker_task_seconds", "Wall-clock time of a task, by kind of work")
                .buckets(vec![0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0]),
            &["work"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let by_encoder = |name: &str, help: &str| -> prometheus::Result<IntGaugeVec> {
            let made = IntGaugeVec::new(Opts::new(name, help), &["family", "codec"])?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        Ok(Self {
            encoder_ready: by_encoder(
                "reelmill_worker_encoder_ready",
                "Whether this hardware encoder has proven itself (1) or not (0)",
            )?,
            encoder_sessions: by_encoder(
                "reelmill_worker_encoder_sessions",
                "Streams this hardware encoder was seen to encode at once",
            )?,
            tasks,
            seconds,
            segments: counter("reelmill_worker_segments_total", "Segments stored")?,
            bytes: counter("reelmill_worker_segment_bytes_total", "Bytes of segments stored")?,
            frames: counter("reelmill_worker_frames_total", "Video frames and audio packets encoded")?,
            concealed: counter(
                "reelmill_worker_concealed_total",
                "Frames that could not be decoded and were filled in",
            )?,
            slots: gauge("reelmill_worker_slots", "Tasks this worker can do at once")?,
            busy: gauge("reelmill_worker_slots_busy", "Tasks this worker is doing")?,
            quarantined: gauge(
                "reelmill_worker_quarantined",
                "Whether coordinators have this worker take no tasks (1), since it fails at what others do",
            )?,
        })
    }

    /// Shows a hardware encoder as ready for so many sessions, or as not ready.
    pub fn encoder(&self, family: &str, codec: VideoCodec, sessions: Option<u32>) {
        let labels = [family, codec.name()];
        self.encoder_ready.with_label_values(&labels).set(i64::from(sessions.is_some()));
        self.encoder_sessions.with_label_values(&labels).set(i64::from(sessions.unwrap_or(0)));
    }

    /// Counts a task that was not brought to its end here.
    pub fn cut(&self, task: &Task, cut: Cut) {
        self.tasks.with_label_values(&[word(task), cut.word()]).inc();
    }

    /// Counts the end of a task.
    pub fn ended(&self, task: &Task, outcome: &Outcome, seconds: f64) {
        let work = word(task);
        let end = match outcome {
            Outcome::Indexed { .. } | Outcome::Made { .. } => "done",
            Outcome::Waiting { .. } => "waiting",
            Outcome::Failed(failure) if failure.code.is_retryable() => "failed_here",
            Outcome::Failed(_) => "bad_source",
        };
        self.tasks.with_label_values(&[work, end]).inc();
        self.seconds.with_label_values(&[work]).observe(seconds);
        if let Outcome::Made { outputs, .. } = outcome {
            for segment in outputs.iter().flat_map(|o| &o.segments) {
                self.segments.inc();
                self.bytes.inc_by(segment.bytes);
                self.frames.inc_by(u64::from(segment.frames));
                self.concealed.inc_by(u64::from(segment.concealed));
            }
        }
    }
}

fn word(task: &Task) -> &'static str {
    match &task.work {
        Work::Index => "index",
        Work::Video { .. } => "video",
        Work::Audio { .. } => "audio",
    }
}
