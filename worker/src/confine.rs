//! What a child does to itself before it sees a byte of the source.
//!
//! Afterwards it can compute, take memory up to the parent's bound, and use the pipes it holds. It can open nothing, reach
//! no network, start nothing, and it dies with its parent. Systems other than Linux offer only part of this.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// File descriptors a child may hold: its pipes, and what libraries open for a moment.
const MAX_OPEN_FILES: u64 = 64;

/// Confines this process for good. Fails where the system refuses; then the child must not go on.
pub fn confine() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    die_with_parent()?;
    let cap = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Core, cap(0))?;
    setrlimit(Resource::Fsize, cap(0))?;
    setrlimit(Resource::Nofile, cap(MAX_OPEN_FILES))?;
    seal()
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == parent {
        Ok(())
    } else {
        // The parent died before the line above took effect.
        Err(io::Error::other("the worker is gone"))
    }
}

/// Whether [`seal`] has an effect here.
pub const SEALS: bool = cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")));

/// Leaves this thread, and all it will start, only the system calls of a pure computation over open pipes. Every other
/// call fails with "operation not permitted", which libraries take better than a death.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn seal() -> io::Result<()> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    const ALLOWED: [i64; 31] = [
        // The pipes.
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_lseek,
        libc::SYS_ppoll,
        // Memory.
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        // Locks, time and chance.
        libc::SYS_futex,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_getrandom,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        // Who and where we are, and how we end.
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_tgkill,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];

    let refused =
        |error: seccompiler::Error| io::Error::other(format!("system calls cannot be filtered: {error}"));
    let target =
        std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| refused(e.into()))?;
    let filter = SeccompFilter::new(
        ALLOWED.into_iter().map(|call| (call, vec![])).collect(),
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        target,
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|e| refused(e.into()))?;
    apply_filter(&program).map_err(refused)
}

/// No such filter on this system.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn seal() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter holds for the thread that sets it, so a test can look at one from inside.
    #[test]
    fn a_sealed_thread_computes_but_opens_and_reaches_nothing() {
        if !SEALS {
            return;
        }
        let before = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = before.local_addr().unwrap();
        let inside = std::thread::spawn(move || {
            seal().unwrap();
            let denied = |kind: io::ErrorKind| kind == io::ErrorKind::PermissionDenied;
            assert!(denied(std::fs::File::open("/etc/passwd").unwrap_err().kind()));
            assert!(denied(std::fs::read_dir("/").err().unwrap().kind()));
            assert!(denied(std::net::TcpStream::connect(address).unwrap_err().kind()));
            assert!(denied(std::net::UdpSocket::bind("127.0.0.1:0").unwrap_err().kind()));
            assert!(std::process::Command::new("/bin/true").spawn().is_err());
            // What media work needs still goes: memory in large pieces, time.
            let big = vec![1u8; 64 << 20];
            assert_eq!(big.iter().map(|b| u64::from(*b)).sum::<u64>(), 64 << 20);
            assert!(std::time::Instant::now().elapsed().as_secs() < 60);
        });
        inside.join().unwrap();
        assert!(std::fs::File::open("/etc/passwd").is_ok());
    }
}
