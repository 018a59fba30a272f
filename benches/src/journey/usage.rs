//! What a run costs.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Cost of one run.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// User and system CPU time of all processes, in seconds.
    pub cpu: f64,
    /// Wall-clock time, in seconds.
    pub wall: f64,
}

/// Measures from its making on.
#[derive(Debug)]
pub struct Meter {
    started: Instant,
    before: Duration,
}

impl Meter {
    /// Starts both clocks.
    pub fn start() -> anyhow::Result<Meter> {
        Ok(Meter { started: Instant::now(), before: children()? })
    }

    /// Wall-clock time so far, in seconds.
    pub fn wall(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// CPU time of all children (and theirs) that have ended since, in seconds.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        Ok(children()?.saturating_sub(self.before).as_secs_f64())
    }
}

/// CPU time of all ended children so far.
fn children() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}
