//! What plays while its upload still runs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reelmill_e2e::fixtures::{Fixture, Kind, ffmpeg, fixture};
use reelmill_e2e::gate::Gate;
use reelmill_e2e::judge::Expected;
use reelmill_e2e::published::Published;
use reelmill_e2e::system::{AssetId, Signal, System, kill, program, until};
use reelmill_e2e::tools::decode_strictly;
use serde_json::Value;

const READY: Duration = Duration::from_secs(180);

/// One minute: so long that a quarter of it holds a first segment and the sound beside it.
fn minute() -> Fixture {
    fixture(Kind::Custom { width: 640, height: 360, seconds: 60 })
}

/// The same media in another container, or in another order.
fn wrapped(source: &Fixture, folder: &Path, name: &str, kind: Kind, how: &[&str]) -> Fixture {
    let path = folder.join(name);
    let copied = Command::new(ffmpeg())
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(&source.path)
        .args(["-map", "0", "-c", "copy"])
        .args(how)
        .arg(&path)
        .status();
    assert!(copied.expect("ffmpeg starts").success());
    Fixture { path, kind, ..source.clone() }
}

fn upload(system: &System, gate: &Gate, file: &Path) -> Child {
    Command::new(program("reelmill"))
        .arg("upload")
        .arg(file)
        .args(["--api", &gate.address, "--key", &system.state.api_key, "--data"])
        .arg(system.data())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("reelmill starts")
}

/// The only asset there is.
fn the_asset(system: &System) -> AssetId {
    until("an asset", READY, || {
        let answer = system.http.get(&system.api("/v1/assets"), &[system.key().pair()]);
        let list: Value = answer.json();
        Some(AssetId(list["assets"][0]["id"].as_str()?.to_owned()))
    })
}

fn bytes_in(system: &System, asset: &AssetId) -> u64 {
    let answer = system.http.get(&system.api(&format!("/v1/assets/{asset}")), &[system.key().pair()]);
    answer.json()["upload"]["bytes"].as_u64().expect("bytes")
}

/// Looks that the first rung can be watched now: what the edge serves of it decodes.
fn plays(system: &System, asset: &AssetId, source: &Fixture, folder: &Path) {
    let published = system.published(asset);
    let lowest = published.video.first().expect("a picture");
    assert!(!published.audio.as_ref().expect("a sound").segments.is_empty());
    let first: PathBuf = folder.join("first.mp4");
    std::fs::write(&first, lowest.alone(0)).expect("a file");
    // Where the sound begins first, the first frame is held, on a millisecond clock for whole frames.
    let lead_s = Expected::of(source).lead_s;
    let due = (0..30).filter(|frame| f64::from(*frame) / 30.0 + lead_s < 1.0 - 1e-6).count();
    let decoded = decode_strictly(&first).expect("it decodes");
    assert!((due - 1..=due).contains(&decoded), "{decoded} frames in the first second instead of {due}");
}

/// Uploads a source, of which the first rung plays while a gate holds all but a quarter back; gives what all of it became.
fn plays_with_a_quarter(source: &Fixture, folder: &Path) -> Published {
    let length = std::fs::metadata(&source.path).unwrap().len();
    let system = System::start();
    let gate = Gate::before(&system.state.api, length / 4);
    let mut sending = upload(&system, &gate, &source.path);
    let asset = the_asset(&system);
    system.follow(&asset, READY, |asset| asset.playable);
    assert!(bytes_in(&system, &asset) <= length / 4, "{}", source.path.display());
    assert_eq!(system.asset(&asset).state, "processing");
    plays(&system, &asset, source, folder);
    gate.open();
    assert!(sending.wait().unwrap().success());
    system.ready(&asset, READY);
    system.must_be_right(&asset, &Expected::of(source))
}

#[test]
fn the_first_rung_plays_with_a_quarter_of_the_bytes_and_the_rest_is_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().unwrap();
    let first = minute();
    // As cameras write it: the index behind the media.
    let last = wrapped(&first, folder.path(), "index-last.mp4", first.kind, &[]);
    for source in [first, last] {
        let overlapped = plays_with_a_quarter(&source, folder.path());

        // By itself it comes out the same, to the byte.
        let alone = System::start();
        let asset = alone.put(&source.path);
        alone.ready(&asset, READY);
        assert_eq!(alone.must_be_right(&asset, &Expected::of(&source)).blobs(), overlapped.blobs());
    }
}

#[test]
fn what_has_its_index_between_its_media_plays_as_soon_and_no_frame_is_lost() {
    const FRAGMENTS: [&str; 2] = ["-movflags", "+frag_keyframe+empty_moov+default_base_moof"];
    let folder = tempfile::tempdir().unwrap();
    let first = minute();
    let wraps: [(&str, Kind, &[&str]); 3] = [
        ("fragments.mp4", Kind::Fragmented, &FRAGMENTS),
        ("stream.ts", Kind::MpegTs, &[]),
        ("matroska.mkv", Kind::Mkv, &[]),
    ];
    for (name, kind, how) in wraps {
        let source = wrapped(&first, folder.path(), name, kind, how);
        plays_with_a_quarter(&source, folder.path());
    }
}

#[test]
fn a_coordinator_that_is_killed_while_bytes_come_in_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let source = minute();
    let length = std::fs::metadata(&source.path).unwrap().len();
    let system = System::start();
    let gate = Gate::before(&system.state.api, length / 2);
    let mut sending = upload(&system, &gate, &source.path);
    let asset = the_asset(&system);
    system.follow(&asset, READY, |asset| asset.playable);
    kill(system.id_of("reelmill-coordinator").expect("it runs"), Signal::KILL);
    gate.open();
    assert!(sending.wait().unwrap().success());
    system.ready(&asset, READY);
    system.must_be_right(&asset, &Expected::of(&source));
    plays(&system, &asset, &source, folder.path());
}
