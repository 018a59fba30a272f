//! A video's whole way: uploaded by one means or the other, transcoded, published, served and judged.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use reelmill_e2e::fixtures::{Fixture, Kind, fixture};
use reelmill_e2e::judge::Expected;
use reelmill_e2e::published::Published;
use reelmill_e2e::system::{AssetId, System};
use reelmill_e2e::tools::probe;

const READY: Duration = Duration::from_secs(60);

/// A tus piece that is no whole number of anything.
const PIECE: usize = 100_003;

/// Uploads, waits, judges what the edge serves, and returns it.
fn made_right(system: &System, source: &Fixture, by_tus: bool) -> (AssetId, Published) {
    let asset = if by_tus { system.upload_by_tus(&source.path, PIECE) } else { system.put(&source.path) };
    let shown = system.ready(&asset, READY);
    let expected = Expected::of(source);
    let published = system.must_be_right(&asset, &expected);
    assert!(shown.playable && shown.error.is_none());
    assert_eq!(published.iframes.len(), 1, "scrubbing is shown from the lowest rung");
    let seconds = shown.duration_seconds.expect("a ready asset has a length");
    let due = expected.duration_s + expected.lead_s;
    assert!((seconds - due).abs() < 0.05, "the API says {seconds} s, the source lasts {due} s");
    let names = |list: Vec<String>| -> Vec<String> {
        let mut list = list;
        list.sort();
        list
    };
    let told = names(shown.renditions.iter().map(|r| r.id.clone()).collect());
    assert_eq!(told, names(published.tracks().map(|track| track.name.clone()).collect()));
    assert!(shown.renditions.iter().all(|r| (r.progress - 1.0).abs() < 1e-9), "{:?}", shown.renditions);
    (asset, published)
}

#[test]
fn five_kinds_of_source_come_out_right() {
    let system = System::start();
    let kinds = [Kind::Landscape, Kind::Portrait, Kind::NoAudio, Kind::Mkv, Kind::MpegTs];
    for (at, kind) in kinds.into_iter().enumerate() {
        let source = fixture(kind);
        let (asset, published) = made_right(&system, &source, at % 2 == 1);
        let sizes: Vec<_> = published.video.iter().map(|track| track.init.size).collect();
        let due = if kind == Kind::Portrait { (360, 640) } else { (640, 360) };
        assert_eq!(sizes, [due], "{kind:?}");
        assert_eq!(published.audio.is_some(), source.has_audio, "{kind:?}");

        // A program by others reads the same over TLS.
        let index = format!("{}/assets/{asset}/index.m3u8", system.state.edge);
        let seen = probe(
            &index,
            &["-select_streams", "v:0", "-count_packets", "-show_entries", "stream=nb_read_packets"],
        );
        assert_eq!(
            seen.expect("ffprobe reads it")["streams"][0]["nb_read_packets"],
            source.frames.to_string()
        );
    }
}

#[test]
fn every_other_kind_of_source_comes_out_right() {
    let system = System::start();
    let rest = [
        Kind::MoovAtEnd,
        Kind::Fragmented,
        Kind::UpsideDown,
        Kind::Portrait270,
        Kind::WebM,
        Kind::OpenGop,
        Kind::LongGop,
        Kind::Vfr,
        Kind::Ntsc,
        Kind::OneFrame,
        Kind::HalfSecond,
    ];
    let mut faults = Vec::new();
    for (at, kind) in rest.into_iter().enumerate() {
        let source = fixture(kind);
        let asset =
            if at % 2 == 0 { system.upload_by_tus(&source.path, PIECE) } else { system.put(&source.path) };
        let made = system.at_its_end(&asset, READY);
        let found = match made.error {
            None => system.judge(&asset, &Expected::of(&source)),
            Some(failure) => vec![format!("failed: {} ({})", failure.reason, failure.code)],
        };
        faults.extend(found.into_iter().map(|fault| format!("{kind:?}: {fault}")));
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn a_ladder_has_every_rung_and_the_first_segment_comes_first() {
    let system = System::start();
    let source = fixture(Kind::Custom { width: 1280, height: 720, seconds: 10 });
    let asset = system.put(&source.path);
    let seen = system.follow(&asset, READY, |asset| asset.is_at_its_end());
    let playable = seen.iter().find(|asset| asset.playable).expect("a playable asset");
    assert!(playable.progress < 1.0, "it plays before it is complete: {seen:?}");
    let progress: Vec<f64> = seen.iter().map(|asset| asset.progress).collect();
    assert!(progress.windows(2).all(|pair| pair[0] <= pair[1]), "progress goes back: {progress:?}");

    let published = system.must_be_right(&asset, &Expected::of(&source));
    let sizes: Vec<_> = published.video.iter().map(|track| track.init.size).collect();
    assert_eq!(sizes, [(640, 360), (854, 480), (1280, 720)]);
    // 0, 1, 2, 4, 8, 10 s.
    assert!(published.video.iter().all(|track| track.segments.len() == 5));
}

#[test]
fn the_same_bytes_again_are_neither_stored_nor_made_twice() {
    let system = System::start();
    let source = fixture(Kind::Landscape);
    let (_, first) = made_right(&system, &source, false);
    let blobs = || walk(&system.store().join("blobs"));
    let before = blobs();
    let (_, second) = made_right(&system, &source, true);
    assert_eq!(first.blobs(), second.blobs(), "equal work has equal results");
    let grown: Vec<_> =
        blobs().into_iter().filter(|name| !before.contains(name) && !name.ends_with(".record")).collect();
    // Cut at other places, the upload's blocks differ; what is served does not.
    assert!(grown.iter().all(|name| name.ends_with(".block")), "{grown:?}");
}

#[test]
fn sources_that_are_alike_in_all_but_their_bytes_are_not_confused() {
    let system = System::start();
    // The same frames at the same times, so one plan; but other bytes at other places.
    let alike = [Kind::Landscape, Kind::MoovAtEnd, Kind::Fragmented, Kind::UpsideDown].map(fixture);
    let assets = alike.each_ref().map(|source| system.put(&source.path));
    for (source, asset) in alike.iter().zip(&assets) {
        system.ready(asset, READY);
        system.must_be_right(asset, &Expected::of(source));
    }
}

/// File names under a folder.
fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        if entry.path().is_dir() {
            names.extend(walk(&entry.path()));
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}
