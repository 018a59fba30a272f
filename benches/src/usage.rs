//! What a run costs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

/// Cost of one run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
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
        Ok(Meter { started: Instant::now(), before: cpu_of(UsageWho::RUSAGE_CHILDREN)? })
    }

    /// Wall-clock time so far, in seconds.
    pub fn wall(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// CPU time of all children (and theirs) that have ended since, in seconds.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        Ok(cpu_of(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(self.before).as_secs_f64())
    }

    /// Both, for children that have ended.
    pub fn cost(&self) -> anyhow::Result<Cost> {
        Ok(Cost { cpu: self.cpu()?, wall: self.wall() })
    }
}

/// CPU time of all threads of this process so far.
pub fn cpu_of_this_process() -> anyhow::Result<Duration> {
    cpu_of(UsageWho::RUSAGE_SELF)
}

/// Time on a processor of all threads of a process so far. Threads that have ended do not count, so processes that end
/// threads while they are measured look cheaper than they are.
pub fn cpu_of_process(pid: u32) -> anyhow::Result<Duration> {
    schedstat(pid, 0)
}

/// Time that the threads of a process could have run so far and had no processor, under the same reservation.
pub fn wait_of_process(pid: u32) -> anyhow::Result<Duration> {
    schedstat(pid, 1)
}

/// The sum over all threads of one field of `schedstat` (Documentation/scheduler/sched-stats.rst of Linux).
fn schedstat(pid: u32, field: usize) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let value = text.split(' ').nth(field).unwrap_or_default();
        nanoseconds += value.parse::<u64>().with_context(|| format!("not a schedstat: {text:?}"))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// CPU time so far.
fn cpu_of(who: UsageWho) -> anyhow::Result<Duration> {
    let usage = getrusage(who)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

/// The middle value, or the upper one of the two in the middle; not a number where there is none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
