//! Everything dies at some point, again and again, and the store refuses for a while: nothing is lost, nothing comes twice,
//! and every byte is what it would have been.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::fleet::{Fleet, Member};
use reelmill_e2e::judge::Expected;
use reelmill_e2e::system::until;

const READY: Duration = Duration::from_secs(400);
const WORKERS: usize = 3;

/// What dies.
#[derive(Debug, Clone, Copy)]
enum Death {
    Worker,
    Coordinator,
    Nats,
    Store,
}

/// When it dies, in parts of all work done: workers again and again, everything else in between. Of two coordinators one is
/// gone for good.
const PLAN: [(f64, Death); 8] = [
    (0.05, Death::Store),
    (0.15, Death::Worker),
    (0.25, Death::Coordinator),
    (0.35, Death::Worker),
    (0.45, Death::Nats),
    (0.55, Death::Worker),
    (0.65, Death::Nats),
    (0.75, Death::Worker),
];

fn start() -> (Fleet, Vec<Member>, Vec<Member>) {
    let mut fleet = Fleet::start();
    let coordinators = vec![fleet.coordinator(), fleet.coordinator()];
    let workers = (0..WORKERS).map(|_| fleet.worker(&[])).collect();
    (fleet, coordinators, workers)
}

#[test]
fn whatever_dies_nothing_is_lost_and_nothing_comes_out_different() {
    let source = fixture(Kind::Custom { width: 640, height: 360, seconds: 120 });
    let (undisturbed, blobs) = {
        let (fleet, coordinators, _workers) = start();
        let begun = Instant::now();
        let asset = fleet.put(&coordinators[0], &source.path);
        fleet.ready(&coordinators[0], &asset, READY);
        (begun.elapsed(), fleet.must_be_right(&asset, &Expected::of(&source)).blobs())
    };

    let (mut fleet, mut coordinators, mut workers) = start();
    // The first victims are those that started first: the one that feeds, since it had the lease first, among them.
    let begun = Instant::now();
    let asset = fleet.put(&coordinators[0], &source.path);
    for (progress, death) in PLAN {
        let asset = until("more to be done", READY, || {
            let asset = coordinators.iter().find_map(|coordinator| fleet.asset(coordinator, &asset))?;
            (asset.progress >= progress || asset.is_at_its_end()).then_some(asset)
        });
        assert_eq!(asset.state, "processing", "it is over before {death:?} at {progress}: {:?}", asset.error);
        match death {
            Death::Worker => {
                workers.remove(0).kill();
                workers.push(fleet.worker(&[]));
            }
            Death::Coordinator => coordinators.remove(0).kill(),
            Death::Nats => fleet.restart_nats(),
            Death::Store => {
                let refused = |fleet: &Fleet| fleet.said("worker").matches("Unavailable").count();
                fleet.store_refuses(true);
                until("the refusal to be felt", READY, || (refused(&fleet) > 0).then_some(()));
                fleet.store_refuses(false);
            }
        }
    }
    fleet.ready(&coordinators[0], &asset, READY);
    let disturbed = begun.elapsed();
    assert_eq!(
        fleet.must_be_right(&asset, &Expected::of(&source)).blobs(),
        blobs,
        "the same source, the same bytes"
    );
    println!(
        "makespan {:.2} of the undisturbed {undisturbed:.1?}",
        disturbed.as_secs_f64() / undisturbed.as_secs_f64()
    );
}
