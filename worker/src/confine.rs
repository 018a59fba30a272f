//! What a child does to itself before it sees a byte of the source.

use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};

/// File descriptors a child may hold: its pipes, and what libraries open for a moment.
const MAX_OPEN_FILES: u64 = 64;

/// Dies with its parent, writes no file and no core, opens next to nothing.
///
/// Fails where the system refuses; then the child must not go on.
pub fn confine() -> std::io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != parent {
        // The parent died before the line above took effect.
        return Err(std::io::Error::other("the worker is gone"));
    }
    let cap = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Core, cap(0))?;
    setrlimit(Resource::Fsize, cap(0))?;
    setrlimit(Resource::Nofile, cap(MAX_OPEN_FILES))?;
    Ok(())
}
