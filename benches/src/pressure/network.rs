//! A network of this process and its children alone.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Set in the process that is inside.
const INSIDE: &str = "REELMILL_PRESSURE_NETWORK";

/// Where the edge is, of the network for benchmarks (RFC 2544).
pub const EDGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The address of a viewer.
pub fn viewer(number: usize) -> Ipv4Addr {
    let [high, low] = (number as u16 + 1).to_be_bytes();
    Ipv4Addr::new(198, 18, 64 + high, low)
}

/// The address of somebody who means no good.
pub fn abuser(number: usize) -> Ipv4Addr {
    let [high, low] = (number as u16 + 1).to_be_bytes();
    Ipv4Addr::new(198, 18, 128 + high, low)
}

/// Starts this program again in a network of its own, unless it runs there already.
pub fn enter() -> anyhow::Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--"]).arg(std::env::current_exe()?);
        return Err(command.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec()).context("unshare");
    }
    for line in ["link set lo up", "address add 198.18.0.0/16 dev lo"] {
        let status = Command::new("ip").args(line.split(' ')).status().context("ip")?;
        ensure!(status.success(), "ip {line} failed");
    }
    Ok(())
}

/// Keeps this thread, and those that it starts, on one core, if there are that many.
pub fn pin_to(core: usize) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(core % cores)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
