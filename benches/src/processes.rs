//! Other processes, as the kernel tells of them.

use std::fs;

use anyhow::Context;
use rustix::process::Pid;

/// Processes that any thread of a process has started, and that have not ended.
pub fn children(process: u32) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids =
        lists.flat_map(|list| list.split_whitespace().map(str::parse).collect::<Vec<Result<i32, _>>>());
    pids.flatten().filter_map(Pid::from_raw).collect()
}

/// The child of a process that runs this program.
pub fn child_called(program: &str, process: u32) -> anyhow::Result<Pid> {
    let is_called = |pid: &Pid| {
        let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        path.file_name().is_some_and(|name| name == program)
    };
    children(process).into_iter().find(is_called).with_context(|| format!("{program} does not run"))
}

/// The most memory that a process has held so far, in bytes; `None` when it has ended.
pub fn peak_bytes(process: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
