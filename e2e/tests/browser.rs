//! A real browser plays: over HTTP/3 without a way out, over what it chooses itself, and without TLS.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use reelmill_e2e::fixtures::{Fixture, Kind, fixture};
use reelmill_e2e::system::{AssetId, System, until};
use reelmill_e2e::tools::node;
use serde::Deserialize;

/// A name that Chromium resolves to this machine; on `localhost` it takes nothing for granted.
const HOST: &str = "edge.test";

/// What `play.mjs` saw.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    ended: bool,
    stalled: bool,
    current_time: f64,
    duration: Option<f64>,
    video_width: u32,
    video_height: u32,
    total_video_frames: u32,
    buffered_ranges: Vec<(f64, f64)>,
    errors: Vec<String>,
    captions: Vec<SeenCaptions>,
    protocols: BTreeMap<String, String>,
}

/// A text track of the page's video.
#[derive(Debug, Deserialize)]
struct SeenCaptions {
    language: String,
    label: String,
    showing: bool,
    cues: Vec<(f64, f64, String)>,
    active: Vec<String>,
}

impl Seen {
    fn captions_in(&self, language: &str) -> &SeenCaptions {
        self.captions
            .iter()
            .find(|captions| captions.language == language)
            .expect("captions in this language")
    }

    fn played_to_the_end(&self, source: &Fixture) {
        let due = source.duration_90k() as f64 / 90_000.0;
        assert!(self.ended && !self.stalled && self.errors.is_empty(), "{self:#?}");
        assert_eq!(self.total_video_frames, source.frames, "{self:#?}");
        assert!((self.duration.unwrap_or(0.0) - due).abs() < 0.034, "{self:#?}");
        assert!((self.current_time - due).abs() < 0.034, "{self:#?}");
        let [(start, end)] = self.buffered_ranges[..] else { panic!("holes: {self:#?}") };
        assert!(start < 0.001 && (end - due).abs() < 0.034, "{self:#?}");
    }

    fn only_over(&self, protocol: &str) {
        assert!(self.protocols.keys().any(|path| path.ends_with(".m4s")), "no segment was loaded: {self:#?}");
        // What a page makes itself has no protocol.
        let others = self.protocols.iter().filter(|(_, used)| !used.is_empty() && *used != protocol);
        assert_eq!(others.count(), 0, "not all over {protocol}: {self:#?}");
    }
}

fn play(arguments: &[&str]) -> Seen {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let seen = node("play.mjs", &arguments).expect("the browser plays");
    serde_json::from_value(seen).expect("what the browser saw")
}

/// Where a screenshot of this name lies after the run.
fn screenshot(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    std::fs::create_dir_all(&folder).expect("a folder for screenshots");
    folder.join(name)
}

fn published(system: &System, source: &Fixture) -> AssetId {
    let asset = system.put(&source.path);
    system.ready(&asset, Duration::from_secs(90));
    asset
}

fn caption(system: &System, asset: &AssetId, language: &str, text: &str, more: &[&str]) {
    let file = system.data().join(language);
    std::fs::write(&file, text).expect("a file of captions");
    let asset = asset.to_string();
    let arguments = [&["caption", &asset, language, file.to_str().unwrap()][..], more].concat();
    let output = system.reelmill(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The edge keeps an answer back: that to the page.
fn holds_one_request(system: &System) -> Option<()> {
    let (_, admin) = system.state.admin.iter().find(|(name, _)| name == "edge")?;
    let metrics = system.http.get(&format!("http://{admin}/metrics"), &[]).text();
    metrics.lines().any(|line| line == "reelmill_edge_held_requests 1").then_some(())
}

#[test]
fn plays_to_the_end_over_http3_without_a_way_out() {
    let system = System::start();
    let (port, spki) = (system.state.edge_port, system.state.spki_sha256.clone());
    let source = fixture(Kind::Custom { width: 1280, height: 720, seconds: 10 });
    let asset = published(&system, &source);
    let page = format!("https://{HOST}:{port}/watch/{asset}");
    let picture = screenshot("watch.png");

    let begun = play(&[&page, "--spki", &spki, "--seconds", "3", "--screenshot", picture.to_str().unwrap()]);
    assert!(begun.current_time >= 3.0 && !begun.stalled && begun.errors.is_empty(), "{begun:#?}");
    begun.only_over("h3");
    assert!(std::fs::metadata(&picture).unwrap().len() > 10_000, "an empty screenshot");

    let seen = play(&[&page, "--spki", &spki, "--until-end"]);
    seen.played_to_the_end(&source);
    seen.only_over("h3");

    let embedded = play(&[&format!("https://{HOST}:{port}/embed/{asset}"), "--spki", &spki, "--until-end"]);
    embedded.played_to_the_end(&source);
}

#[test]
fn captions_are_shown_in_the_language_that_a_viewer_chooses() {
    let system = System::start();
    let (port, spki) = (system.state.edge_port, system.state.spki_sha256.clone());
    let asset = published(&system, &fixture(Kind::Landscape));
    let webvtt = "WEBVTT\n\n00:00.000 --> 01:00.000\nGood evening\n";
    let subrip = "1\n00:00:00,000 --> 00:01:00,000\nGuten Abend\n";
    caption(&system, &asset, "en", webvtt, &["--default"]);
    caption(&system, &asset, "de", subrip, &["--name", "Deutsch"]);
    let page = format!("https://{HOST}:{port}/watch/{asset}");
    let picture = screenshot("captions.png");
    for (choice, language, label, words) in
        [(&[][..], "en", "en", "Good evening"), (&["--captions", "de"][..], "de", "Deutsch", "Guten Abend")]
    {
        let arguments: [&str; 7] =
            [&page, "--spki", &spki, "--seconds", "2", "--screenshot", picture.to_str().unwrap()];
        let seen = play(&[&arguments[..], choice].concat());
        assert!(seen.errors.is_empty() && seen.captions.len() == 2, "{seen:#?}");
        let captions = seen.captions_in(language);
        assert_eq!(captions.cues, [(0.0, 60.0, words.to_owned())], "{seen:#?}");
        assert!(captions.showing && captions.label == label && captions.active == [words], "{seen:#?}");
    }
}

#[test]
fn who_watches_sees_captions_that_come_and_change_meanwhile() {
    let system = System::start();
    let (port, spki) = (system.state.edge_port, system.state.spki_sha256.clone());
    let asset = published(&system, &fixture(Kind::Custom { width: 640, height: 360, seconds: 30 }));
    let webvtt = |words: &str| format!("WEBVTT\n\n00:00.000 --> 01:00.000\n{words}\n");
    caption(&system, &asset, "en", &webvtt("Good evening"), &["--default"]);
    let begun = system.data().join("begun");
    let page = format!("https://{HOST}:{port}/watch/{asset}");
    let seen = std::thread::scope(|scope| {
        let begun_file = begun.to_str().unwrap();
        let viewer = scope.spawn(|| {
            play(&[&page, "--spki", &spki, "--begun", begun_file, "--until-shown", "Good morning"])
        });
        until("the viewer to watch", Duration::from_secs(60), || begun.exists().then_some(()));
        until("the page to wait for changes", Duration::from_secs(60), || holds_one_request(&system));
        caption(&system, &asset, "de", &webvtt("Guten Abend"), &[]);
        caption(&system, &asset, "en", &webvtt("Good morning"), &["--default"]);
        viewer.join().expect("a viewer")
    });
    assert!(!seen.stalled && seen.errors.is_empty() && seen.buffered_ranges.len() == 1, "{seen:#?}");
    assert_eq!(seen.captions.len(), 2, "{seen:#?}");
    let (english, german) = (seen.captions_in("en"), seen.captions_in("de"));
    assert!(english.showing && english.active == ["Good morning"] && !german.showing, "{seen:#?}");
}

#[test]
fn a_viewer_is_told_why_there_is_nothing_to_see() {
    let system = System::start();
    let (port, spki) = (system.state.edge_port, system.state.spki_sha256.clone());
    let private = "This video is private: open it by the link that you were given.";
    for (command, status, sentence) in [
        (&["policy", "--private", "--asset"][..], 401, private),
        (&["purge", "asset"], 410, "This video was taken down."),
    ] {
        let asset = published(&system, &fixture(Kind::HalfSecond)).to_string();
        let output = system.reelmill(&[command, &[asset.as_str()][..]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let index = format!("{}/assets/{asset}/index.m3u8", system.state.edge);
        until("the edge to refuse", Duration::from_secs(60), || {
            (system.http.get(&index, &[]).status == status).then_some(())
        });
        let page = format!("https://{HOST}:{port}/watch/{asset}");
        let seen = play(&[&page, "--spki", &spki, "--until-said", sentence]);
        assert!(!seen.stalled, "{seen:#?}");
    }
}

#[test]
fn portrait_and_silent_videos_play_as_they_lie() {
    let system = System::start();
    let (port, spki) = (system.state.edge_port, system.state.spki_sha256.clone());
    for (kind, size) in [(Kind::Portrait, (360, 640)), (Kind::NoAudio, (640, 360)), (Kind::Vfr, (640, 360))] {
        let source = fixture(kind);
        let asset = published(&system, &source);
        let seen = play(&[&format!("https://{HOST}:{port}/watch/{asset}"), "--spki", &spki, "--until-end"]);
        seen.played_to_the_end(&source);
        assert_eq!((seen.video_width, seen.video_height), size, "{kind:?}");
    }
}

#[test]
fn plays_when_the_browser_chooses_and_without_tls() {
    let system = System::start();
    let (port, spki) = (system.state.edge_port, system.state.spki_sha256.clone());
    let source = fixture(Kind::Landscape);
    let asset = published(&system, &source);

    let page = format!("https://{HOST}:{port}/watch/{asset}");
    let chosen = play(&[&page, "--spki", &spki, "--no-force", "--until-end"]);
    chosen.played_to_the_end(&source);
    let first = &chosen.protocols[&format!("/watch/{asset}")];
    assert_eq!(first, "h2", "the first answer says that there is HTTP/3: {chosen:#?}");
    let known = chosen.protocols.values().filter(|used| !used.is_empty());
    assert!(known.clone().all(|used| used == "h2" || used == "h3"), "{chosen:#?}");
    eprintln!(
        "of {} objects {} came over h3",
        known.clone().count(),
        known.filter(|used| *used == "h3").count()
    );

    let plain = play(&[&format!("{}/watch/{asset}", system.state.edge_plain), "--until-end"]);
    plain.played_to_the_end(&source);
    plain.only_over("http/1.1");
}
