//! Everything dies at some point, again and again, and the store refuses or is slow for a while: nothing is lost, nothing comes
//! twice, every byte is what it would have been, and little is done again. What happens when follows from a seed, which is printed;
//! `REELMILL_SEED` repeats it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::fleet::{Fleet, Member};
use reelmill_e2e::judge::Expected;
use reelmill_e2e::s3::Temper;
use reelmill_e2e::system::{Asset, until};

const READY: Duration = Duration::from_secs(400);
const WORKERS: usize = 3;
/// Tasks done between two deaths of workers.
const TASKS_PER_DEATH: usize = 10;
/// What happens beside that, each at a point of its own.
const EVENTS: [Event; 8] = [
    Event::StoreRefuses,
    Event::StoreIsSlow,
    Event::Coordinator,
    Event::Nats,
    Event::StoreRefuses,
    Event::StoreIsSlow,
    Event::Coordinator,
    Event::Nats,
];
/// While the store is slow each request takes so much longer...
const SLOW_BY: Duration = Duration::from_millis(100);
/// ...until so many more tasks are done.
const TASKS_WHILE_SLOW: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// One of two coordinators is killed; another takes its place.
    Coordinator,
    Nats,
    StoreRefuses,
    StoreIsSlow,
}

fn populate(fleet: &mut Fleet) -> (Vec<Member>, Vec<Member>) {
    let coordinators = vec![fleet.coordinator(), fleet.coordinator()];
    let workers = (0..WORKERS).map(|_| fleet.worker(&[])).collect();
    (coordinators, workers)
}

/// Kills one of them, and starts another of its kind.
fn replace(members: &mut Vec<Member>, rng: &mut StdRng, another: impl FnOnce() -> Member) {
    let victim = rng.random_range(0..members.len());
    members.swap_remove(victim).kill();
    members.push(another());
}

/// Times that workers took up a task, and the tasks that they have done.
fn work(fleet: &Fleet) -> (usize, BTreeSet<String>) {
    let said = fleet.said("worker");
    let done = said.lines().filter(|line| line.contains(" task done"));
    let number =
        |line: &str| line.split_whitespace().find_map(|word| Some(word.strip_prefix("task=")?.to_owned()));
    (said.matches("task taken").count(), done.filter_map(number).collect())
}

#[test]
fn whatever_dies_nothing_is_lost_and_nothing_comes_out_different() {
    let seed = std::env::var("REELMILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("REELMILL_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut at: Vec<f64> = EVENTS.iter().map(|_| rng.random_range(0.05..0.8)).collect();
    at.sort_by(f64::total_cmp);

    let source = fixture(Kind::Custom { width: 320, height: 180, seconds: 240 });
    let blobs = {
        let mut fleet = Fleet::start();
        let (coordinators, _workers) = populate(&mut fleet);
        let asset = fleet.put(&coordinators[0], &source.path);
        fleet.ready(&coordinators[0], &asset, READY);
        // Judged once: the other one must be the same.
        fleet.published(&asset).blobs()
    };

    let mut fleet = Fleet::on_s3();
    let (mut coordinators, mut workers) = populate(&mut fleet);
    let asset = fleet.put(&coordinators[0], &source.path);
    let (mut deaths, mut slow_until) = (0, None);
    let mut to_come = at.into_iter().zip(EVENTS).peekable();
    loop {
        let shown = |asset: Asset| {
            assert_ne!(asset.state, "failed", "{:?}", asset.error);
            Some(asset)
        };
        let now = until("a coordinator that answers", READY, || {
            coordinators.iter().find_map(|coordinator| fleet.asset(coordinator, &asset)).and_then(shown)
        });
        if now.state == "ready" {
            break;
        }
        let done = fleet.tasks_done();
        if slow_until.take_if(|tasks| done >= *tasks).is_some() {
            fleet.s3().becomes(Temper::Willing);
        }
        if let Some((at, event)) = to_come.next_if(|(at, _)| now.progress >= *at) {
            println!("{at:.2}: {event:?}");
            match event {
                Event::Coordinator => replace(&mut coordinators, &mut rng, || fleet.coordinator()),
                Event::Nats => fleet.restart_nats(),
                Event::StoreRefuses => {
                    let refused = |fleet: &Fleet| fleet.said("worker").matches("Unavailable").count();
                    let before = refused(&fleet);
                    fleet.s3().becomes(Temper::Refusing);
                    until("the refusal to be felt", READY, || (refused(&fleet) > before).then_some(()));
                    fleet.s3().becomes(Temper::Willing);
                }
                Event::StoreIsSlow => {
                    fleet.s3().becomes(Temper::Slow(SLOW_BY));
                    slow_until = Some(done + TASKS_WHILE_SLOW);
                }
            }
        } else if done >= (deaths + 1) * TASKS_PER_DEATH {
            deaths += 1;
            replace(&mut workers, &mut rng, || fleet.worker(&[]));
        } else {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert_eq!(to_come.count(), 0, "it was over before all had happened");
    assert!(deaths >= 2, "{deaths} workers died");
    assert_eq!(
        fleet.must_be_right(&asset, &Expected::of(&source)).blobs(),
        blobs,
        "the same source, the same bytes"
    );
    // A worker dies with what it has in hand; anything else disturbs each of them in one task at most.
    let (taken, tasks) = work(&fleet);
    println!("{deaths} workers died; {} tasks were taken up {taken} times", tasks.len());
    assert!(taken <= tasks.len() + deaths + WORKERS * EVENTS.len(), "work was done again and again");
}
