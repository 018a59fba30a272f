//! Thousands of inputs made to harm: each ends in time, with a result or a clear code, in bounded memory, and under a
//! filter that lets nothing be opened and ends the process that reaches for the network or another program.
//!
//! `REELMILL_HOSTILE` is the number of inputs (2400 unless said), `REELMILL_HOSTILE_SEED` the first seed.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/evil.rs"]
mod evil;
mod harness;
#[path = "harness/watched.rs"]
mod watched;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use evil::Evil;
use reelmill_media::index::SourceIndex;
use reelmill_media::plan::Plan;
use reelmill_media::profile::Profile;
use reelmill_media::task::{Failure, FailureCode, Work};
use reelmill_worker::exec::protocol::Job;
use watched::Watched;

/// One input may take this long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One input in so many goes through real child processes, whole: indexed, planned, and its beginning transcoded.
const ONE_IN: u64 = 20;

/// Resident memory that a process may come to hold, in KiB.
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

/// The most memory that this process has held, in KiB.
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
                    // Told in time: what reaches out takes this process with it.
                    println!("{what}");
                    let (ended, wait) = mpsc::channel();
                    // A thread of its own: one that never ends is reported, not waited for.
                    let work = std::thread::spawn(move || {
                        let job = Job::Index { source_bytes: bytes.len() as u64 };
                        drop(ended.send(harness::run_sealed(&bytes, job).map(|made| made.index)));
                    });
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
    let held = most_kib();
    println!("{} MiB were held at most", held >> 10);
    assert!(held < MOST_KIB, "{} MiB were held", held >> 10);
}

/// Runs a job in a real child, which ends well whatever becomes of the job, within bounds of memory: `peak` is the most
/// that any has held so far, in bytes.
fn in_a_child(what: &str, source: &[u8], job: Job, peak: &mut u64) -> Result<harness::Made, Failure> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_reelmill-worker"))
        .arg("exec")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut watched = Watched::new(child.id(), child.stdout.take().unwrap());
    let made = harness::converse(&mut to, &mut watched, source, job);
    assert!(watched.peak < MOST_KIB << 10, "{what}: {} MiB were held", watched.peak >> 20);
    *peak = watched.peak.max(*peak);
    drop(to);
    assert!(child.wait().unwrap().success(), "{what}");
    made
}

/// The first segments of the lowest rung, and those of the first sound.
fn first_jobs(source: &[u8], index: &SourceIndex) -> Vec<Job> {
    let Ok(plan) = Plan::new(index, &Profile::default(), 4) else { return Vec::new() };
    let pictures =
        plan.ladder.video.first().map(|rung| Work::Video { segments: 0..1, rungs: vec![rung.id.clone()] });
    let sound = plan.audio.first().map(|audio| Work::Audio {
        rendition: audio.rung.id.clone(),
        segments: 0..audio.segments.len().min(3) as u32,
    });
    let cut = |work| Job::for_work(&work, source.len() as u64, Some((index, &plan))).ok();
    pictures.into_iter().chain(sound).filter_map(cut).collect()
}

#[test]
fn hostile_inputs_end_in_the_real_child() {
    let (count, first) = (number("REELMILL_HOSTILE", 2400), number("REELMILL_HOSTILE_SEED", 1));
    let evil = Evil::new();
    let (mut transcoded, mut refused, mut peak) = (0, 0, 0);
    for seed in first..first + count / ONE_IN {
        let (name, bytes) = evil.input(seed);
        let what = format!("seed {seed}, {name}");
        let made = in_a_child(&what, &bytes, Job::Index { source_bytes: bytes.len() as u64 }, &mut peak);
        let jobs = made.as_ref().ok().and_then(|made| Some(first_jobs(&bytes, made.index.as_ref()?)));
        judge(&what, made.map(|made| made.index));
        for job in jobs.into_iter().flatten() {
            match in_a_child(&what, &bytes, job, &mut peak) {
                Ok(made) => transcoded += made.segments.len(),
                Err(failure) => {
                    refused += 1;
                    assert_ne!(failure.code, FailureCode::Internal, "{what}: {}", failure.reason);
                }
            }
        }
    }
    println!(
        "{transcoded} segments made, {refused} jobs refused, {} MiB held by a child at most",
        peak >> 20
    );
    assert!(transcoded > 0);
}
