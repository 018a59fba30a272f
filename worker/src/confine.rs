//! What a child does to itself before it sees a byte of the source.
//!
//! Afterwards it can compute, take memory up to the parent's bound, and use the pipes it holds. It can open nothing, reach
//! no network, start nothing, and it dies with its parent. Systems other than Linux offer only part of this.

use std::io;

use rustix::fs::FileType;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::stdio::{dup2_stderr, stderr};

/// File descriptors a child may hold: its pipes, and what libraries open for a moment.
const MAX_OPEN_FILES: u64 = 64;

/// The same where drivers open their devices many times over.
const MAX_OPEN_FILES_WITH_DEVICES: u64 = 1024;

/// Processor time of all threads together, in seconds: more than any task takes, and an end to what its parent forgot.
const MAX_CPU_SECONDS: u64 = 4 * 3600;

/// Confines this process for good. Fails where the system refuses; then the child must not go on.
pub fn confine() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    die_with_parent()?;
    limit(Resource::Core, 0)?;
    limit(Resource::Cpu, MAX_CPU_SECONDS)?;
    spare_a_log_file()?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, MAX_OPEN_FILES)?;
    seal()
}

/// The same for a process that uses the machine's encoders, as far as drivers let it. They open devices and libraries
/// whenever they like, start threads and make calls that differ from one to the next: so files are bounded by name
/// (Landlock) instead of all being out of reach, and system calls by what is forbidden instead of by what is allowed.
/// Network, other programs and other processes stay out of reach.
pub fn confine_with_devices() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    die_with_parent()?;
    limit(Resource::Core, 0)?;
    limit(Resource::Cpu, MAX_CPU_SECONDS)?;
    limit(Resource::Nofile, MAX_OPEN_FILES_WITH_DEVICES)?;
    fence()
}

/// A stderr that is a file is shut: under a limit of no bytes, a library that says a word there would kill its process.
fn spare_a_log_file() -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(stderr())?.st_mode);
    if kind.is_file() {
        dup2_stderr(std::fs::OpenOptions::new().write(true).open("/dev/null")?)?;
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
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

/// Calls that media work never makes, whoever wrote the libraries: those of a process that has been taken over.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
const FORBIDDEN: [i64; 25] = [
    // The network, and processes behind sockets.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kill,
    // The kernel's larger surfaces.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    // Another view of the file system.
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// Leaves this thread, and all it will start, only the system calls of a pure computation over open pipes. Every other
/// call fails with "operation not permitted", which libraries take better than a death; but the process that reaches for
/// the network or for another program is not in its right mind, and dies (`SIGSYS`), which its parent sees. Threads may
/// be started, since encoders do, but no processes.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn seal() -> io::Result<()> {
    use std::collections::BTreeMap;

    use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

    const ALLOWED: [i64; 34] = [
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
        // Threads, with the rules below.
        libc::SYS_clone3,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
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

    // A filter sees no memory, where clone3 has its flags. Without it, C libraries use clone.
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    filter(BTreeMap::from([(libc::SYS_clone3, vec![])]), SeccompAction::Allow, unknown)?;
    // Of several filters' answers the gravest counts.
    filter(forbidden(), SeccompAction::Allow, SeccompAction::KillProcess)?;
    let a_thread = libc::CLONE_THREAD as u64;
    let only_a_thread =
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(a_thread), a_thread)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(|error| io::Error::other(format!("threads cannot be let through: {error}")))?;
    let rules = ALLOWED.into_iter().map(|call| (call, vec![]));
    let rules = rules.chain([(libc::SYS_clone, vec![only_a_thread])]).collect();
    filter(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

/// Leaves this thread, and all it will start, the devices and what drivers read, and takes away the system calls by which a
/// process reaches others.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn fence() -> io::Result<()> {
    use landlock::{
        ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, path_beneath_rules,
    };
    use seccompiler::SeccompAction;

    // Libraries, their configuration, and what the kernel says of devices. Not all of /proc: there stands the environment of
    // other processes, which Landlock alone does not keep back.
    const READ: [&str; 17] = [
        "/usr",
        "/lib",
        "/lib64",
        "/opt",
        "/etc/ld.so.cache",
        "/etc/libva.conf",
        "/sys",
        "/proc/self",
        "/proc/cpuinfo",
        "/proc/devices",
        "/proc/driver",
        "/proc/meminfo",
        "/proc/modules",
        "/proc/stat",
        "/proc/sys/vm",
        "/proc/version",
        "/dev/urandom",
    ];
    let refused = |error: RulesetError| io::Error::other(format!("files cannot be fenced off: {error}"));
    // What an older kernel cannot forbid stays allowed.
    let abi = ABI::V5;
    let devices = crate::probe::devices::present();
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.add_rules(path_beneath_rules(READ, AccessFs::from_read(abi))))
        .and_then(|rules| rules.add_rules(path_beneath_rules(["/dev"], AccessFs::ReadDir)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&devices, AccessFs::from_all(abi))))
        .and_then(|rules| rules.restrict_self())
        .map_err(refused)?;
    enforced(restricted.ruleset)?;
    filter(forbidden(), SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))
}

/// Where the kernel forbids no file at all there is no fence, and nothing that needs one.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn enforced(status: landlock::RulesetStatus) -> io::Result<()> {
    match status {
        landlock::RulesetStatus::FullyEnforced | landlock::RulesetStatus::PartiallyEnforced => Ok(()),
        landlock::RulesetStatus::NotEnforced => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "drivers are not let in where files cannot be fenced off: this kernel runs without Landlock",
        )),
    }
}

/// [`FORBIDDEN`], as a filter's rules.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn forbidden() -> std::collections::BTreeMap<i64, Vec<seccompiler::SeccompRule>> {
    FORBIDDEN.into_iter().map(|call| (call, vec![])).collect()
}

/// Sets a filter of system calls for this thread and all it will start.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn filter(
    rules: std::collections::BTreeMap<i64, Vec<seccompiler::SeccompRule>>,
    otherwise: seccompiler::SeccompAction,
    named: seccompiler::SeccompAction,
) -> io::Result<()> {
    use seccompiler::{BpfProgram, SeccompFilter, apply_filter};

    let refused =
        |error: seccompiler::Error| io::Error::other(format!("system calls cannot be filtered: {error}"));
    let target =
        std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| refused(e.into()))?;
    let filter = SeccompFilter::new(rules, otherwise, named, target);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|e| refused(e.into()))?;
    apply_filter(&program).map_err(refused)
}

/// No such filter on this system.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn seal() -> io::Result<()> {
    Ok(())
}

/// Nor this.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn fence() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter holds for the thread that sets it, so a test can look at one from inside.
    #[test]
    fn a_sealed_thread_computes_but_opens_and_starts_nothing() {
        if !SEALS {
            return;
        }
        let inside = std::thread::spawn(move || {
            seal().unwrap();
            let denied = |kind: io::ErrorKind| kind == io::ErrorKind::PermissionDenied;
            assert!(denied(std::fs::File::open("/etc/passwd").unwrap_err().kind()));
            assert!(denied(std::fs::read_dir("/").err().unwrap().kind()));
            assert!(std::process::Command::new("/bin/true").spawn().is_err());
            // What media work needs still goes: memory in large pieces, time, threads as confined as this one.
            let seen = std::thread::spawn(|| std::fs::File::open("/etc/passwd").map(drop)).join().unwrap();
            assert!(denied(seen.unwrap_err().kind()));
            let big = vec![1u8; 64 << 20];
            assert_eq!(big.iter().map(|b| u64::from(*b)).sum::<u64>(), 64 << 20);
            assert!(std::time::Instant::now().elapsed().as_secs() < 60);
        });
        inside.join().unwrap();
        assert!(std::fs::File::open("/etc/passwd").is_ok());
    }

    /// Run by itself, in a process that it ends.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_sealed_process_that_reaches_for_the_network_dies() {
        use std::os::unix::process::ExitStatusExt;
        const INSIDE: &str = "REELMILL_TEST_INSIDE";
        if !SEALS {
            return;
        }
        if std::env::var_os(INSIDE).is_some() {
            seal().unwrap();
            panic!("it lives on: {:?}", std::net::UdpSocket::bind("127.0.0.1:0"));
        }
        let this = "confine::tests::a_sealed_process_that_reaches_for_the_network_dies";
        let mut inside = std::process::Command::new(std::env::current_exe().unwrap());
        let ended = inside.args(["--exact", this]).env(INSIDE, "").output().unwrap();
        assert_eq!(ended.status.signal(), Some(libc::SIGSYS), "{ended:?}");
    }

    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    #[test]
    fn a_fence_that_the_kernel_does_not_put_up_is_none() {
        use landlock::RulesetStatus;
        assert!(enforced(RulesetStatus::FullyEnforced).is_ok());
        assert!(enforced(RulesetStatus::PartiallyEnforced).is_ok());
        let refused = enforced(RulesetStatus::NotEnforced).unwrap_err();
        assert!(refused.to_string().contains("Landlock"), "{refused}");
    }

    #[test]
    fn a_fenced_thread_reads_libraries_and_reaches_nothing_else() {
        if !SEALS {
            return;
        }
        let before = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = before.local_addr().unwrap();
        let ours = tempfile::NamedTempFile::new().unwrap();
        let secret = ours.path().to_owned();
        let parent = format!("/proc/{}/environ", std::os::unix::process::parent_id());
        let inside = std::thread::spawn(move || {
            fence().unwrap();
            let denied = |kind: io::ErrorKind| kind == io::ErrorKind::PermissionDenied;
            assert!(denied(std::fs::File::open("/etc/passwd").unwrap_err().kind()));
            assert!(denied(std::fs::File::open(&secret).unwrap_err().kind()));
            assert!(denied(std::fs::write(&secret, "x").unwrap_err().kind()));
            assert!(denied(std::fs::File::open(parent).unwrap_err().kind()), "secrets of others");
            assert!(denied(std::net::TcpStream::connect(address).unwrap_err().kind()));
            assert!(denied(std::net::UdpSocket::bind("127.0.0.1:0").unwrap_err().kind()));
            assert!(denied(std::os::unix::net::UnixDatagram::unbound().unwrap_err().kind()));
            assert!(std::process::Command::new("/bin/true").spawn().is_err());
            assert!(std::fs::read_dir("/usr/lib").unwrap().next().is_some());
            assert!(std::fs::read_dir("/dev").unwrap().next().is_some());
        });
        inside.join().unwrap();
        assert!(std::fs::File::open("/etc/passwd").is_ok());
    }
}
