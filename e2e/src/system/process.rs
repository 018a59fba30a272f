//! Processes as the kernel knows them.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Waits until something is there, and panics when it does not come in time.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Signals a process.
pub fn kill(id: u32, signal: Signal) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id");
    // It may have ended by itself.
    let _ = kill_process(pid, signal);
}

/// Ids and program names of the processes that a process has started.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let is_child = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; the fields after it are state and parent.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = fields.split_whitespace();
        fields.next() != Some("Z") && fields.next() == Some(&parent.to_string())
    };
    processes().filter(is_child).filter_map(|id| Some((id, name(id)?))).collect()
}

/// Ids of our programs that run on a data folder: they name it in their arguments or environment.
pub fn programs_in(data: &Path) -> Vec<(u32, String)> {
    let data = data.as_os_str().as_encoded_bytes().to_vec();
    let names_it = |id: &u32| {
        let arguments = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        arguments.windows(data.len()).any(|window| window == data)
    };
    let own = std::process::id();
    processes().filter(|id| *id != own).filter(names_it).filter_map(|id| Some((id, name(id)?))).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn name(id: u32) -> Option<String> {
    let program = std::fs::read_link(format!("/proc/{id}/exe")).ok()?;
    Some(program.file_name()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
}
