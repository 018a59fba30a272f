//! What this process counts.

use std::time::Duration;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use reelmill_media::task::{Class, FailureCode};
use serde::Serialize;

use crate::garbage::Counts;
use crate::schedule::Schedule;
use crate::state::{Asset, Stage};

/// The instruments. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Uploads that take bytes now.
    pub uploads_open: IntGauge,
    /// Uploads by how they ended.
    uploads: IntCounterVec,
    /// Bytes that came in uploads.
    pub upload_bytes: IntCounter,
    tasks_published: IntCounterVec,
    /// Tasks done.
    pub tasks_done: IntCounter,
    tasks_failed: IntCounterVec,
    /// Tasks given to a second worker because the first one takes long.
    pub tasks_raced: IntCounter,
    assets_ended: IntCounterVec,
    backlog: GaugeVec,
    tasks_out: IntGaugeVec,
    tenants_waiting: IntGaugeVec,
    /// Whether this process feeds the queues.
    pub feeding: IntGauge,
    /// Assets without an end.
    pub assets_open: IntGauge,
    /// Compare-and-set that others won.
    pub conflicts: IntCounter,
    render: Histogram,
    to_playable: Histogram,
    to_ready: Histogram,
    /// Workers that live.
    pub live_workers: IntGauge,
    /// Their slots.
    pub live_slots: IntGauge,
    /// Those of their slots that work.
    pub busy_slots: IntGauge,
    /// Workers that take no tasks because they fail at what others do.
    pub quarantined_workers: IntGauge,
    /// Messages that could not be dealt with and were given back.
    pub messages_given_back: IntCounter,
    /// When garbage was last collected to the end, in seconds since the Unix epoch.
    pub garbage_collected_at: IntGauge,
    garbage_objects: IntCounterVec,
    garbage_bytes: IntCounterVec,
}

impl Metrics {
    /// Makes the instruments and registers them.
    pub fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let make = Maker { registry };
        let metrics = Metrics {
            uploads_open: make.gauge("uploads_open", "Uploads that take bytes now")?,
            uploads: make.counters("uploads_total", "Upload requests by how they ended", "end")?,
            upload_bytes: make.counter("upload_bytes_total", "Bytes that came in uploads")?,
            tasks_published: make.counters("tasks_published_total", "Tasks put in a queue", "class")?,
            tasks_done: make.counter("tasks_done_total", "Tasks done")?,
            tasks_failed: make.counters("tasks_failed_total", "Failed attempts by code", "code")?,
            tasks_raced: make
                .counter("tasks_raced_total", "Tasks given to a second worker beside a slow one")?,
            assets_ended: make.counters("assets_total", "Assets by how they ended", "state")?,
            backlog: make.reals("backlog_cpu_seconds", "Work left, in seconds of one core", "class")?,
            tasks_out: make.gauges("tasks_out", "Tasks in the queues or in work", "class")?,
            tenants_waiting: make.gauges(
                "tenants_waiting",
                "Tenants with a task that begins when there is room",
                "class",
            )?,
            feeding: make.gauge("feeding", "Whether this process feeds the queues (1) or stands by (0)")?,
            assets_open: make.gauge("assets_open", "Assets without an end")?,
            conflicts: make.counter("cas_conflicts_total", "Compare-and-set that somebody else won")?,
            render: make.seconds("render_seconds", "Publishing all playlists of an asset once")?,
            to_playable: make.seconds("playable_seconds", "From the last byte to a playlist that plays")?,
            to_ready: make.seconds("ready_seconds", "From the last byte to everything made")?,
            live_workers: make.gauge("live_workers", "Workers that live")?,
            live_slots: make.gauge("live_slots", "Tasks that they can do at once")?,
            busy_slots: make.gauge("busy_slots", "Tasks that they are doing")?,
            quarantined_workers: make.gauge(
                "quarantined_workers",
                "Workers that take no tasks since they fail at what others do",
            )?,
            messages_given_back: make
                .counter("messages_given_back_total", "Messages that could not be dealt with yet")?,
            garbage_collected_at: make
                .gauge("garbage_collected_timestamp_seconds", "When garbage was last collected to the end")?,
            garbage_objects: make.counters(
                "garbage_objects_total",
                "Objects looked at, moved to the trash, brought back from it, and removed for good",
                "what",
            )?,
            garbage_bytes: make.counters(
                "garbage_bytes_total",
                "Bytes moved to the trash, and removed for good",
                "what",
            )?,
        };
        // Said from the start: whoever scales on them would else be told nothing while nothing has come.
        for gauge in [&metrics.tasks_out, &metrics.tenants_waiting] {
            Class::ALL.iter().for_each(|class| gauge.with_label_values(&[&word(class)]).set(0));
        }
        Class::ALL.iter().for_each(|class| metrics.backlog.with_label_values(&[&word(class)]).set(0.0));
        Ok(metrics)
    }

    /// An upload request ended.
    pub fn upload_ended(&self, end: &str) {
        self.uploads.with_label_values(&[end]).inc();
    }

    /// A task was put in its queue.
    pub fn task_published(&self, class: Class) {
        self.tasks_published.with_label_values(&[&word(&class)]).inc();
    }

    /// What is left to do, and how much of it is on its way.
    pub fn scheduled(&self, schedule: &Schedule) {
        let (backlog_ms, out, waiting) = (schedule.backlog_ms(), schedule.out(), schedule.waiting());
        for class in Class::ALL {
            let labels = [word(&class)];
            self.backlog.with_label_values(&labels).set(*backlog_ms.of(class) as f64 / 1000.0);
            self.tasks_out.with_label_values(&labels).set(*out.of(class) as i64);
            self.tenants_waiting.with_label_values(&labels).set(*waiting.of(class) as i64);
        }
    }

    /// An attempt failed.
    pub fn task_failed(&self, code: FailureCode) {
        self.tasks_failed.with_label_values(&[&word(&code)]).inc();
    }

    /// A part of the blobs was gone through.
    pub fn collected(&self, counts: Counts) {
        let Counts { seen, moved, moved_bytes, restored, removed, removed_bytes } = counts;
        for (what, objects) in
            [("seen", seen), ("moved", moved), ("restored", restored), ("removed", removed)]
        {
            self.garbage_objects.with_label_values(&[what]).inc_by(objects);
        }
        for (what, bytes) in [("moved", moved_bytes), ("removed", removed_bytes)] {
            self.garbage_bytes.with_label_values(&[what]).inc_by(bytes);
        }
    }

    /// An asset's playlists were published.
    pub fn rendered(&self, took: Duration) {
        self.render.observe(took.as_secs_f64());
    }

    /// An asset's record changed.
    pub fn asset_moved(&self, before: &Asset, after: &Asset) {
        let received = after.timings.received_at;
        let since = |then: jiff::Timestamp, histogram: &Histogram| {
            if let Some(received) = received {
                histogram.observe(then.duration_since(received).as_secs_f64());
            }
        };
        if let (None, Some(playable)) = (before.timings.playable_at, after.timings.playable_at) {
            since(playable, &self.to_playable);
        }
        if before.stage.name() == after.stage.name() {
            return;
        }
        match &after.stage {
            Stage::Ready { .. } if before.standing.is_some() => {
                let end = if after.abandoned.is_none() { "republished" } else { "republish_failed" };
                self.assets_ended.with_label_values(&[end]).inc();
            }
            Stage::Ready { .. } => {
                self.assets_ended.with_label_values(&["ready"]).inc();
                if let Some(completed) = after.timings.completed_at {
                    since(completed, &self.to_ready);
                }
            }
            Stage::Failed { failure, .. } => {
                self.assets_ended.with_label_values(&[&format!("failed_{}", word(&failure.code))]).inc();
            }
            Stage::Deleted { .. } => self.assets_ended.with_label_values(&["deleted"]).inc(),
            Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. } | Stage::Processing { .. } => {}
        }
    }
}

/// A closed set's own word for one of its members.
fn word(member: &impl Serialize) -> String {
    match serde_json::to_value(member) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn options(name: &str, help: &str) -> Opts {
        Opts::new(format!("reelmill_coordinator_{name}"), help)
    }

    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        collector: C,
    ) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::with_opts(Self::options(name, help))?)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::with_opts(Self::options(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Self::options(name, help), &[label])?)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Self::options(name, help), &[label])?)
    }

    fn reals(&self, name: &str, help: &str, label: &str) -> prometheus::Result<GaugeVec> {
        self.register(GaugeVec::new(Self::options(name, help), &[label])?)
    }

    fn seconds(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        // From 5 ms to about 45 minutes.
        let buckets = prometheus::exponential_buckets(0.005, 2.0, 20)?;
        let options = HistogramOpts::from(Self::options(name, help)).buckets(buckets);
        self.register(Histogram::with_opts(options)?)
    }
}
