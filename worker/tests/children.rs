//! A child goes from one job of an asset to the next, and no child sees a second asset.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

mod harness;

use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Title, converse};
use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_media::ids::AssetId;
use reelmill_media::profile::Profile;
use reelmill_media::task::Work;
use reelmill_worker::child::Nursery;
use reelmill_worker::exec::protocol::Job;
use reelmill_worker::seat::Seat;

const WORKER: &str = env!("CARGO_BIN_EXE_reelmill-worker");

fn worker() -> std::process::Child {
    let mut command = Command::new(WORKER);
    command.arg("exec").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_bytes_of_a_job_do_not_depend_on_the_jobs_before_it() {
    let source = std::fs::read(fixture(Kind::Landscape).path).unwrap();
    let length = source.len() as u64;
    let title = Title::planned(harness::index(&source).unwrap(), &Profile::default()).lowest(2);
    let work = |segments| Work::Video { segments, rungs: title.rungs() };
    let sound = Work::Audio { rendition: title.plan.audio[0].rung.id.clone(), segments: 1..2 };
    let cut = |work: &Work| Job::for_work(work, length, Some((&title.index, &title.plan))).unwrap();
    let jobs = [Job::Index { source_bytes: length }, cut(&work(1..2)), cut(&sound), cut(&work(0..1))];
    let mut child = worker();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for job in jobs.iter().chain(&jobs) {
        let alone = harness::run(&source, job.clone()).unwrap();
        assert!(converse(&mut to, &mut from, &source, job.clone()).unwrap() == alone);
    }
    drop(to);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_child_ends_with_a_job_that_failed() {
    let source = b"Nothing that can be played.";
    let mut child = worker();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let job = Job::Index { source_bytes: source.len() as u64 };
    converse(&mut to, &mut from, source, job).unwrap_err();
    // Its input is still open.
    assert!(child.wait().unwrap().success());
    drop(to);
}

#[tokio::test]
async fn no_child_sees_a_second_asset() {
    let [one, other] = [1, 2].map(|n| AssetId::from_parts(n, 1));
    let mut seat = Seat::new(Nursery::of(WORKER.into()));
    seat.prepare();
    let child = seat.take(one).unwrap();
    let first = child.id().unwrap();
    assert!(seat.take(one).is_none(), "it is taken, and no other was prepared");
    seat.keep(one, Some(child));
    seat.prepare();
    let child = seat.take(one).unwrap();
    assert_eq!(child.id(), Some(first));
    seat.keep(one, Some(child));
    let second = seat.take(other).unwrap();
    assert_ne!(second.id(), Some(first));
    assert!(seat.take(one).is_none(), "the child that knew it is gone");
    gone(first).await;
    let last = second.id().unwrap();
    seat.keep(other, Some(second));
    seat.rest();
    gone(last).await;
}

/// Waits until a process has ended; the test runner's own limit ends a wait in vain.
async fn gone(pid: u32) {
    while Path::new(&format!("/proc/{pid}")).exists() {
        tokio::task::yield_now().await;
    }
}
