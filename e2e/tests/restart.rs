//! Stopping and starting again.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::judge::Expected;
use reelmill_e2e::system::{Signal, System, programs_in, until};

const READY: Duration = Duration::from_secs(60);
/// Idle processes stop within this; the time is for the machine, not for them.
const STOP: Duration = Duration::from_secs(5);

#[test]
fn ctrl_c_stops_all_and_the_next_start_finds_all() {
    let source = fixture(Kind::Landscape);
    let system = System::start();
    let asset = system.put(&source.path);
    system.ready(&asset, READY);
    let before = system.must_be_right(&asset, &Expected::of(&source));
    let folder = system.data().to_owned();
    let names: Vec<String> = programs_in(&folder).into_iter().map(|(_, name)| name).collect();
    for name in ["nats-server", "reelmill-coordinator", "reelmill-edge", "reelmill-worker"] {
        assert!(names.iter().any(|running| running == name), "{name} does not run: {names:?}");
    }

    system.signal(Signal::INT);
    let (status, data) = system.ended(STOP);
    assert_eq!(status.code(), Some(0), "{}", data.printed());
    assert_eq!(programs_in(data.path()), [], "nothing is left");
    assert!(!data.path().join("run/state.json").exists(), "nobody is sent to what has ended");

    let again = System::start_on(data);
    assert_eq!(again.asset(&asset).state, "ready");
    let after = again.must_be_right(&asset, &Expected::of(&source));
    assert_eq!(before.blobs(), after.blobs());
    let more = again.put(&fixture(Kind::HalfSecond).path);
    again.ready(&more, READY);
}

#[test]
fn a_stop_in_the_middle_of_work_loses_nothing() {
    let source = fixture(Kind::Custom { width: 1280, height: 720, seconds: 20 });
    let system = System::start();
    let asset = system.put(&source.path);
    system.follow(&asset, READY, |asset| asset.playable);
    system.signal(Signal::INT);
    let (status, data) = system.ended(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{}", data.printed());
    let again = System::start_on(data);
    again.ready(&asset, READY * 2);
    again.must_be_right(&asset, &Expected::of(&source));
}

#[test]
fn a_second_signal_ends_at_once() {
    let source = fixture(Kind::Custom { width: 1280, height: 720, seconds: 20 });
    let system = System::start();
    let asset = system.put(&source.path);
    system.follow(&asset, READY, |asset| asset.state == "processing");
    let folder = system.data().to_owned();
    system.signal(Signal::INT);
    // The first one has been heard.
    until("the first signal's echo", STOP, || {
        std::fs::read_to_string(folder.join("up.txt")).ok()?.contains("stopping").then_some(())
    });
    let told = Instant::now();
    system.signal(Signal::INT);
    let (_, data) = system.ended(STOP);
    assert!(told.elapsed() < Duration::from_secs(2), "it took {:?}", told.elapsed());
    until("all to be gone", Duration::from_secs(2), || programs_in(data.path()).is_empty().then_some(()));
}
