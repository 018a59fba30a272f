//! Makes metrics of one prefix and registers them.

use prometheus::core::Collector;
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Where metrics are registered. Making one fails only if its name is taken already.
#[derive(Clone, Copy)]
pub(super) struct Register<'a>(pub(super) &'a Registry);

impl Register<'_> {
    pub(super) fn counter(self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.keep(IntCounter::new(full(name), help)?)
    }

    pub(super) fn counters(self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.keep(IntCounterVec::new(Opts::new(full(name), help), labels)?)
    }

    pub(super) fn gauge(self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.keep(IntGauge::new(full(name), help)?)
    }

    pub(super) fn gauges(self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.keep(IntGaugeVec::new(Opts::new(full(name), help), labels)?)
    }

    pub(super) fn histogram(self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.keep(Histogram::with_opts(HistogramOpts::new(full(name), help).buckets(buckets.to_vec()))?)
    }

    pub(super) fn histograms(
        self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, Error> {
        self.keep(HistogramVec::new(HistogramOpts::new(full(name), help).buckets(buckets.to_vec()), labels)?)
    }

    fn keep<T: Collector + Clone + 'static>(self, made: T) -> Result<T, Error> {
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }
}

fn full(name: &str) -> String {
    format!("reelmill_edge_{name}")
}
