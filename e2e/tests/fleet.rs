//! Workers that stop, are slow, or fall silent: others go on with their work.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use reelmill_e2e::fixtures::{Fixture, Kind, fixture};
use reelmill_e2e::fleet::{Fleet, Member};
use reelmill_e2e::judge::Expected;
use reelmill_e2e::system::{Asset, Signal, children, kill, until};

const READY: Duration = Duration::from_secs(240);

fn source(seconds: u32) -> Fixture {
    fixture(Kind::Custom { width: 1280, height: 720, seconds })
}

/// Waits until a worker is in the middle of a chunk of picture.
fn takes_a_chunk(worker: &Member) {
    let count = |word: &str| worker.said().matches(word).count();
    until("a chunk in work", READY, || {
        (count("task taken") > 5 && count("task taken") > count("task done")).then_some(())
    });
}

#[test]
fn a_worker_that_is_told_to_stop_hands_its_chunk_to_another() {
    let mut fleet = Fleet::start();
    let coordinator = fleet.coordinator();
    let mut first = fleet.worker(&["--grace-s", "0"]);
    let source = source(24);
    let asset = fleet.put(&coordinator, &source.path);
    takes_a_chunk(&first);
    assert!(first.stop(READY).success());
    assert!(first.said().contains("cut=Drain"), "nothing was handed back");
    let _second = fleet.worker(&[]);
    fleet.ready(&coordinator, &asset, READY);
    fleet.must_be_right(&asset, &Expected::of(&source));
}

#[test]
fn a_worker_with_time_enough_ends_its_chunk_before_it_stops() {
    let mut fleet = Fleet::start();
    let coordinator = fleet.coordinator();
    let mut first = fleet.worker(&["--grace-s", "600"]);
    let source = source(24);
    let asset = fleet.put(&coordinator, &source.path);
    takes_a_chunk(&first);
    assert!(first.stop(READY).success());
    let said = first.said();
    assert!(!said.contains("cut=Drain"));
    assert_eq!(said.matches("task taken").count(), said.matches(" task done").count());
    let _second = fleet.worker(&[]);
    fleet.ready(&coordinator, &asset, READY);
    fleet.must_be_right(&asset, &Expected::of(&source));
}

#[test]
fn a_worker_whose_encoders_are_slowed_down_is_outrun() {
    let mut fleet = Fleet::start();
    let coordinator = fleet.coordinator();
    let (slow, _quick) = (fleet.worker(&[]), fleet.worker(&[]));
    // Eight chunks: half of them are left when the pace of the fleet is known.
    let source = source(128);
    let asset = fleet.put(&coordinator, &source.path);
    until("a pace to be known", READY, || (fleet.tasks_done() >= 10).then_some(()));
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        // They run a twentieth of the time; the worker itself is as lively as ever.
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for (signal, wait) in [(Signal::STOP, 190), (Signal::CONT, 10)] {
                    for (child, _) in children(slow.id()) {
                        kill(child, signal);
                    }
                    thread::sleep(Duration::from_millis(wait));
                }
            }
        });
        let outrun = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("its chunk to be done by another", READY, || {
                slow.said().contains("cut=Over").then_some(())
            });
        }));
        done.store(true, Ordering::Relaxed);
        outrun.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    fleet.ready(&coordinator, &asset, READY);
    assert!(fleet.metric(&coordinator, "reelmill_coordinator_tasks_raced_total") >= Some(1.0));
}

#[test]
fn a_worker_that_stands_still_holds_nothing_up() {
    let mut fleet = Fleet::start();
    let coordinator = fleet.coordinator();
    let still = fleet.worker(&[]);
    let source = source(24);
    let asset = fleet.put(&coordinator, &source.path);
    takes_a_chunk(&still);
    kill(still.id(), Signal::STOP);
    let _quick = fleet.worker(&[]);
    fleet.ready(&coordinator, &asset, READY);
    let before = fleet.must_be_right(&asset, &Expected::of(&source)).blobs();
    // What it still says when it goes on changes nothing.
    kill(still.id(), Signal::CONT);
    until("its last word", READY, || {
        let said = still.said();
        let ends = said.matches(" task done").count()
            + said.matches("cut=").count()
            + said.matches(" task failed").count();
        (ends >= said.matches("task taken").count()).then_some(())
    });
    assert_eq!(fleet.published(&asset).blobs(), before);
}

#[test]
fn a_chunk_that_kills_its_workers_is_left_out_before_it_has_killed_five() {
    const POISON: &str = "task=4";
    let mut fleet = Fleet::start();
    let coordinator = fleet.coordinator();
    let mut workers = vec![fleet.worker(&[]), fleet.worker(&[])];
    let asset = fleet.put(&coordinator, &source(24).path);
    let mut killed = Vec::new();
    let ended = until("the end of it", READY, || {
        for worker in &mut workers {
            let said = worker.said();
            let mut taken = said.lines().filter(|line| line.contains("task taken") && line.contains(POISON));
            let way = taken.next_back().and_then(|line| line.split("way=").nth(1)?.split_whitespace().next());
            // It is gone before the chunk is: as by the kernel when memory runs out.
            if let Some(way) = way.filter(|way| *way != "Concealed") {
                killed.push(way.to_owned());
                std::mem::replace(worker, fleet.worker(&[])).kill();
            }
        }
        fleet.asset(&coordinator, &asset).filter(Asset::is_at_its_end)
    });
    assert_eq!(ended.state, "ready", "{:?}", ended.error);
    assert_eq!(killed, ["Any", "Any", "Software", "Software"]);
    assert!(ended.renditions.iter().any(|rendition| rendition.concealed > 0), "{:?}", ended.renditions);
}
