//! Processes that die between any two lines: nothing that was acknowledged is lost, and nothing comes out different.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::judge::Expected;
use reelmill_e2e::system::{Signal, System, kill, until};

const READY: Duration = Duration::from_secs(180);
const BACK: Duration = Duration::from_secs(20);

#[test]
fn a_worker_killed_in_the_middle_changes_nothing() {
    let source = fixture(Kind::Custom { width: 1280, height: 720, seconds: 24 });
    let undisturbed = {
        let system = System::start();
        let asset = system.put(&source.path);
        system.ready(&asset, READY);
        system.must_be_right(&asset, &Expected::of(&source)).blobs()
    };
    let system = System::start();
    let asset = system.put(&source.path);
    system.follow(&asset, READY, |asset| asset.state == "processing" && asset.progress > 0.0);
    let worker = system.id_of("reelmill-worker").expect("a worker");
    kill(worker, Signal::KILL);
    until("another worker", BACK, || system.id_of("reelmill-worker").filter(|id| *id != worker));
    assert_ne!(system.asset(&asset).state, "ready", "the worker died in the middle");

    system.ready(&asset, READY);
    let disturbed = system.published(&asset).blobs();
    assert_eq!(undisturbed, disturbed, "the same source, the same bytes");
}

#[test]
fn a_coordinator_killed_in_the_middle_of_work_is_taken_over_from() {
    let source = fixture(Kind::Custom { width: 1280, height: 720, seconds: 24 });
    let system = System::start();
    let asset = system.put(&source.path);
    system.follow(&asset, READY, |asset| asset.state == "processing" && asset.progress > 0.0);
    let coordinator = system.id_of("reelmill-coordinator").expect("a coordinator");
    kill(coordinator, Signal::KILL);
    until("another coordinator", BACK, || {
        system.id_of("reelmill-coordinator").filter(|id| *id != coordinator)
    });
    system.ready(&asset, READY);
    system.must_be_right(&asset, &Expected::of(&source));
}

#[test]
fn acknowledged_bytes_survive_a_killed_coordinator() {
    let source = fixture(Kind::Landscape);
    let bytes = std::fs::read(&source.path).unwrap();
    let system = System::start();
    let upload = system.tus(bytes.len() as u64);
    let half = bytes.len() / 2;
    assert_eq!(upload.send(0, bytes[..half].to_vec()).header("upload-offset"), half.to_string());

    let coordinator = system.id_of("reelmill-coordinator").expect("a coordinator");
    kill(coordinator, Signal::KILL);
    let offset = until("the upload's offset", BACK, || {
        system.id_of("reelmill-coordinator").filter(|id| *id != coordinator)?;
        upload.offset()
    });
    assert_eq!(offset, half as u64, "every acknowledged byte is there, and no other");
    assert_eq!(upload.send(offset, bytes[half..].to_vec()).status, 204);
    let asset = upload.asset.clone();
    system.ready(&asset, READY);
    system.must_be_right(&asset, &Expected::of(&source));
}
