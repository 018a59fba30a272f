//! Thousands of inputs made to harm: each ends in time, with a result or a clear code, in bounded memory.
//!
//! `REELMILL_HOSTILE` is the number of inputs (2400 unless said), `REELMILL_HOSTILE_SEED` the first seed.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/evil.rs"]
mod evil;
mod harness;

use std::io::BufReader;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use evil::Evil;
use reelmill_media::index::SourceIndex;
use reelmill_media::plan::Plan;
use reelmill_media::profile::Profile;
use reelmill_media::task::{Failure, FailureCode};
use reelmill_worker::exec::protocol::Job;

/// One input may take this long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Inputs that go through the real child process.
const IN_A_CHILD: u64 = 40;

/// Resident memory that this process may come to hold, in KiB.
const MOST_KIB: u64 = 1 << 20;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// An index that was made must plan, or be refused, as a coordinator would do it.
fn judge(what: &str, ended: Result<Option<SourceIndex>, Failure>) {
    match ended {
        Ok(index) => {
            let index = index.expect("an index");
            let _ = Plan::new(&index, &Profile::default(), 4);
        }
        Err(failure) => {
            assert!(!failure.reason.is_empty(), "{what}");
            assert_ne!(failure.code, FailureCode::Internal, "{what}: {}", failure.reason);
            assert_ne!(failure.code, FailureCode::Incomplete, "{what}: {}", failure.reason);
        }
    }
}

fn most_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn hostile_inputs_end_with_a_result_or_a_code() {
    let (count, first) = (number("REELMILL_HOSTILE", 2400), number("REELMILL_HOSTILE_SEED", 1));
    let evil = Evil::new();
    let next = AtomicU64::new(first);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let (name, bytes) = evil.input(seed);
                    let what = format!("seed {seed}, {name}");
                    let (ended, wait) = mpsc::channel();
                    // A thread of its own: one that never ends is reported, not waited for.
                    let work = std::thread::spawn(move || drop(ended.send(harness::index(&bytes).map(Some))));
                    let begun = Instant::now();
                    match wait.recv_timeout(PATIENCE) {
                        Ok(result) => judge(&what, result),
                        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} does not end"),
                        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what} panicked"),
                    }
                    let _ = work.join();
                    if begun.elapsed() > Duration::from_secs(2) {
                        eprintln!("{what}: {:?}", begun.elapsed());
                    }
                }
            });
        }
    });
    assert!(most_kib() < MOST_KIB, "{} MiB were held", most_kib() >> 10);
}

#[test]
fn hostile_inputs_end_in_the_real_child() {
    let first = number("REELMILL_HOSTILE_SEED", 1);
    let evil = Evil::new();
    for seed in first..first + IN_A_CHILD {
        let (name, bytes) = evil.input(seed);
        let mut child = Command::new(env!("CARGO_BIN_EXE_reelmill-worker"))
            .arg("exec")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let job = Job::Index { source_bytes: bytes.len() as u64 };
        let made = harness::converse(&mut to, &mut BufReader::new(from), &bytes, job);
        judge(&format!("seed {seed}, {name}"), made.map(|m| m.index));
        assert!(child.wait().unwrap().success(), "seed {seed}, {name}");
    }
}
