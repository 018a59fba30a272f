//! Who runs where.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this thread, and those that it starts, on one core, if there are that many.
pub fn pin_to(core: usize) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(core % cores)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
