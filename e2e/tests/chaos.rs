//! Everything dies at some point, again and again, and the store refuses for a while: nothing is lost, nothing comes twice,
//! and every byte is what it would have been. What happens when follows from a seed, which is printed; `REELMILL_SEED`
//! repeats it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::fleet::{Fleet, Member};
use reelmill_e2e::judge::Expected;
use reelmill_e2e::system::{Asset, until};

const READY: Duration = Duration::from_secs(400);
const WORKERS: usize = 3;
/// Tasks done between two deaths of workers.
const TASKS_PER_DEATH: usize = 10;
/// What happens beside that, each at a point of its own.
const EVENTS: [Event; 6] = [
    Event::StoreRefuses,
    Event::Coordinator,
    Event::Nats,
    Event::StoreRefuses,
    Event::Coordinator,
    Event::Nats,
];

#[derive(Debug, Clone, Copy)]
enum Event {
    /// One of two coordinators is killed; another takes its place.
    Coordinator,
    Nats,
    StoreRefuses,
}

fn start() -> (Fleet, Vec<Member>, Vec<Member>) {
    let mut fleet = Fleet::start();
    let coordinators = vec![fleet.coordinator(), fleet.coordinator()];
    let workers = (0..WORKERS).map(|_| fleet.worker(&[])).collect();
    (fleet, coordinators, workers)
}

/// Kills one of them, and starts another of its kind.
fn replace(members: &mut Vec<Member>, rng: &mut StdRng, another: impl FnOnce() -> Member) {
    let victim = rng.random_range(0..members.len());
    members.swap_remove(victim).kill();
    members.push(another());
}

#[test]
fn whatever_dies_nothing_is_lost_and_nothing_comes_out_different() {
    let seed = std::env::var("REELMILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("REELMILL_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut at: Vec<f64> = EVENTS.iter().map(|_| rng.random_range(0.05..0.8)).collect();
    at.sort_by(f64::total_cmp);

    let source = fixture(Kind::Custom { width: 640, height: 360, seconds: 240 });
    let (undisturbed, blobs) = {
        let (fleet, coordinators, _workers) = start();
        let begun = Instant::now();
        let asset = fleet.put(&coordinators[0], &source.path);
        fleet.ready(&coordinators[0], &asset, READY);
        (begun.elapsed(), fleet.must_be_right(&asset, &Expected::of(&source)).blobs())
    };

    let (mut fleet, mut coordinators, mut workers) = start();
    let begun = Instant::now();
    let asset = fleet.put(&coordinators[0], &source.path);
    let mut deaths = 0;
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
        if let Some((at, event)) = to_come.next_if(|(at, _)| now.progress >= *at) {
            println!("{at:.2}: {event:?}");
            match event {
                Event::Coordinator => replace(&mut coordinators, &mut rng, || fleet.coordinator()),
                Event::Nats => fleet.restart_nats(),
                Event::StoreRefuses => {
                    let refused = |fleet: &Fleet| fleet.said("worker").matches("Unavailable").count();
                    let before = refused(&fleet);
                    fleet.store_refuses(true);
                    until("the refusal to be felt", READY, || (refused(&fleet) > before).then_some(()));
                    fleet.store_refuses(false);
                }
            }
        } else if fleet.tasks_done() >= (deaths + 1) * TASKS_PER_DEATH {
            deaths += 1;
            replace(&mut workers, &mut rng, || fleet.worker(&[]));
        } else {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let disturbed = begun.elapsed();
    assert_eq!(to_come.count(), 0, "it was over before all had happened");
    assert!(deaths >= 2, "{deaths} workers died");
    assert_eq!(
        fleet.must_be_right(&asset, &Expected::of(&source)).blobs(),
        blobs,
        "the same source, the same bytes"
    );
    println!(
        "makespan {:.2} of the undisturbed {undisturbed:.1?} (bar: 1.25), {deaths} workers died",
        disturbed.as_secs_f64() / undisturbed.as_secs_f64()
    );
}
