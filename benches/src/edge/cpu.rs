//! Processor time, and who runs where.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Time on a processor of all threads of a process so far. Threads that have ended do not count, so servers that end
/// threads while they are measured look cheaper than they are; these two have no reason to.
pub fn of(pid: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split(' ').next().unwrap_or_default();
        nanoseconds += first.parse::<u64>().with_context(|| format!("not a schedstat: {text:?}"))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Keeps this thread, and those that it starts, on one core, if there are that many.
pub fn pin_to(core: usize) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(core % cores)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
