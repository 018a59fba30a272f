//! Thousands of inputs made to harm: each ends in time, with a result or a clear code, in bounded memory, and under a
//! filter that lets nothing be opened and ends the process that reaches for the network or another program.
//!
//! `REELMILL_HOSTILE` is the number of inputs (2400 unless said), `REELMILL_HOSTILE_SEED` the first seed.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/evil.rs"]
mod evil;
mod harness;
#[path = "harness/product.rs"]
mod product;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use evil::Evil;
use product::{Product, index_task, put_source};
use reelmill_media::index::SourceIndex;
use reelmill_media::plan::{Plan, PlannedTask};
use reelmill_media::profile::Profile;
use reelmill_media::task::{Failure, FailureCode, Outcome, Recipe, Task, TaskNumber, Work};
use reelmill_worker::child::{Child, Nursery};
use reelmill_worker::exec::protocol::Job;

/// One input may take this long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One input in so many goes through a worker's kitchen and its children, whole: indexed, planned, and its beginning transcoded.
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
        Err(failure) => clear(what, &failure),
    }
}

/// A failure must be the source's, and said by the child itself, within its bounds.
fn clear(what: &str, failure: &Failure) {
    assert!(!failure.reason.is_empty(), "{what}");
    for not in [FailureCode::Internal, FailureCode::Incomplete, FailureCode::Limit, FailureCode::Unavailable]
    {
        assert_ne!(failure.code, not, "{what}: {}", failure.reason);
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

/// The tasks of the first segment of the lowest rung, and of the beginning of the first sound.
fn first_tasks(index: &Task, plan: &Plan, recipe: Recipe) -> Vec<Task> {
    let planned = (0..).zip(&plan.tasks);
    let task = |(n, task): (u32, &PlannedTask)| Task {
        number: TaskNumber::planned(n),
        recipe: Some(recipe),
        work: task.work.clone(),
        cost_ms: task.cost_ms,
        ..index.clone()
    };
    let first = |of: fn(&Work) -> bool| planned.clone().find(|(_, task)| of(&task.work)).map(task);
    let tasks =
        [first(|work| matches!(work, Work::Video { .. })), first(|work| matches!(work, Work::Audio { .. }))];
    tasks.into_iter().flatten().collect()
}

/// What a worker does with each, by its own kitchen and children: this process is their parent.
#[tokio::test]
async fn hostile_inputs_end_in_the_product() {
    let (count, first) = (number("REELMILL_HOSTILE", 2400), number("REELMILL_HOSTILE_SEED", 1));
    let (evil, nursery) = (Evil::new(), Nursery::of(env!("CARGO_BIN_EXE_reelmill-worker").into()));
    let (mut transcoded, mut refused) = (0, 0);
    for seed in first..first + count / ONE_IN {
        let (name, bytes) = evil.input(seed);
        let what = format!("seed {seed}, {name}");
        let product = Product::new();
        let kitchen = product.kitchen(MOST_KIB << 10, None);
        let index = index_task(put_source(&product.store, bytes.into()).await);
        let mut tasks = vec![index.clone()];
        let mut known: Option<Child> = None;
        while let Some(task) = tasks.pop() {
            let child = known.take().map_or_else(|| nursery.start(), Ok).unwrap();
            let (outcome, child) = kitchen.perform(&task, child, |_| {}).await;
            known = child;
            match outcome {
                Outcome::Indexed { index: facts, .. } => {
                    let planned = product.plan(facts, &Profile::default()).await;
                    tasks = planned.map_or(Vec::new(), |(plan, recipe)| first_tasks(&index, &plan, recipe));
                }
                Outcome::Made { outputs, .. } => {
                    transcoded += outputs.iter().map(|output| output.segments.len()).sum::<usize>();
                }
                Outcome::Failed(failure) => {
                    refused += 1;
                    clear(&what, &failure);
                }
                Outcome::Waiting { .. } => panic!("{what}: all bytes are there"),
            }
        }
        if let Some(child) = known {
            child.end().await;
        }
    }
    println!("{transcoded} segments made, {refused} tasks refused");
    assert!(transcoded > 0);
}
