//! What is made of a source beside the usual ladder: other codecs, several languages, sound alone, stills.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use reelmill_e2e::barcode::read_barcodes;
use reelmill_e2e::fixtures::{self, Kind, SoundFile, fixture, sound_file};
use reelmill_e2e::judge::{Expected, Sound};
use reelmill_e2e::published::Track;
use reelmill_e2e::sound;
use reelmill_e2e::system::{AssetId, System};
use reelmill_e2e::tools::{decode_strictly, probe};

const READY: Duration = Duration::from_secs(90);

const EVERY_CODEC: &str = r#"{
    "video": [{"codec": "h264", "short_sides": [240]},
              {"codec": "hevc", "short_sides": [240]},
              {"codec": "av1", "short_sides": [240]}],
    "audio": [{"codec": "aac"}, {"codec": "opus"}],
    "segment_seconds": 2
}"#;

fn numbered(frames: u32) -> Vec<Option<u32>> {
    (0..frames).map(Some).collect()
}

fn put(system: &System, file: &Path, profile: &str) -> AssetId {
    let query = reqwest::Url::parse_with_params("http://x/v1/uploads", [("profile", profile)]).unwrap();
    let address = system.api(&format!("/v1/uploads?{}", query.query().unwrap()));
    let answer = system.http.send_file("PUT", &address, &[system.key().pair()], file);
    assert_eq!(answer.status, 201, "{}", answer.text());
    AssetId(answer.json()["id"].as_str().unwrap().to_owned())
}

/// What a sound of the fixtures' six seconds must be.
fn six_seconds_of_sound() -> Expected {
    let samples = fixtures::SOUND_SECONDS * u64::from(sound::RATE_HZ);
    let sound = Sound {
        reference: (0..samples).map(|at| sound::sample(at)[1]).collect(),
        channel: Some(1),
        start_s: 0.0,
        start_tolerance_s: 0.002,
        samples: (samples as i64, 48),
    };
    Expected {
        times_s: Vec::new(),
        time_tolerance_s: 0.0,
        lead_s: 0.0,
        duration_s: fixtures::SOUND_SECONDS as f64,
        display_size: (0, 0),
        barcodes: None,
        sound: Some(sound),
        decode_lowest_only: false,
    }
}

#[test]
fn sound_alone_is_played_as_sound() {
    let system = System::start();
    let asset = system.put(&fixtures::audio_only());
    let shown = system.ready(&asset, READY);
    assert_eq!(shown.renditions.len(), 1);
    assert!((shown.duration_seconds.unwrap() - fixtures::SOUND_SECONDS as f64).abs() < 0.001);
    let published = system.must_be_right(&asset, &six_seconds_of_sound());
    assert!(published.video.is_empty() && published.iframes.is_empty());
    assert_eq!(published.index.says.variants[0].codecs.as_deref(), Some("mp4a.40.2"));
}

#[test]
fn files_of_sound_play_whatever_they_are() {
    let system = System::start();
    for kind in [SoundFile::Mp3, SoundFile::Wav, SoundFile::Flac, SoundFile::OggVorbis] {
        let asset = system.put(&sound_file(kind));
        assert_eq!(system.ready(&asset, READY).renditions.len(), 1, "{kind:?}");
        system.must_be_right(&asset, &six_seconds_of_sound());
    }
}

#[test]
fn videos_play_whatever_wraps_them() {
    let system = System::start();
    for kind in [Kind::Flv, Kind::Wmv, Kind::Mpg, Kind::Ogv, Kind::Avi] {
        let source = fixture(kind);
        let asset = put(&system, &source.path, r#"{"video": [{"codec": "h264", "short_sides": [240]}]}"#);
        system.ready(&asset, READY);
        let published = system.published(&asset);
        assert!(published.audio.is_some(), "{kind:?} has sound");
        let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(file.path(), published.video[0].whole()).unwrap();
        assert_eq!(read_barcodes(file.path(), 0), numbered(source.frames), "{kind:?}");
    }
}

#[test]
fn every_language_is_there_to_be_chosen() {
    let system = System::start();
    let asset = system.put(&fixtures::two_languages());
    system.ready(&asset, READY);
    let published = system.published(&asset);
    let said: Vec<_> = published
        .index
        .says
        .alternatives
        .iter()
        .map(|sound| (sound.language.clone().unwrap(), sound.default, sound.autoselect))
        .collect();
    assert_eq!(said, [("en".to_owned(), true, true), ("de".to_owned(), false, true)]);
    let folder = tempfile::tempdir().unwrap();
    let loudness = |track: &Track| {
        let path = folder.path().join(format!("{}.mp4", track.name));
        std::fs::write(&path, track.whole()).unwrap();
        let heard = sound::read_sound(&path);
        assert!(heard.len().abs_diff(6 * 48_000) < 3000, "{}", heard.len());
        heard.iter().map(|s| f64::from(s[0]).powi(2)).sum::<f64>().sqrt()
    };
    let (english, german) = (published.audio.as_ref().unwrap(), &published.other_audio[0]);
    let ratio = loudness(german) / loudness(english);
    assert!((ratio - 0.25).abs() < 0.01, "the second language is {ratio} as loud, not a quarter");
}

#[test]
fn every_codec_shows_every_frame() {
    let system = System::start();
    let source = fixture(Kind::Custom { width: 320, height: 240, seconds: 5 });
    let asset = put(&system, &source.path, EVERY_CODEC);
    system.ready(&asset, READY);
    let published = system.published(&asset);
    // Each picture beside each sound, and one row of I-frames per codec.
    assert_eq!(published.index.says.variants.len(), 3 * 2 + 3);
    assert_eq!(published.video.len(), 3);
    let folder = tempfile::tempdir().unwrap();
    for (track, (codec, named)) in
        published.video.iter().zip([("h264", "avc1.64"), ("hevc", "hvc1.1."), ("av1", "av01.0.")])
    {
        let path = folder.path().join(format!("{}.mp4", track.name));
        std::fs::write(&path, track.whole()).unwrap();
        let said = track.variant.as_ref().unwrap().codecs.as_deref().unwrap();
        assert!(said.starts_with(named), "{codec} is called {said}");
        let found = probe(&path, &["-show_entries", "stream=codec_name"]).unwrap();
        assert_eq!(found["streams"][0]["codec_name"], codec);
        assert_eq!(read_barcodes(&path, 0), numbered(source.frames), "{codec}");
        let starts: Vec<i64> = track.segments.iter().map(|segment| segment.fragment.start).collect();
        let first: Vec<i64> = published.video[0].segments.iter().map(|s| s.fragment.start).collect();
        assert_eq!(starts, first, "all codecs are cut at the same times");
        for number in 0..track.segments.len() {
            std::fs::write(&path, track.alone(number)).unwrap();
            let frames = decode_strictly(&path).unwrap();
            assert_eq!(frames, track.segments[number].fragment.samples.len(), "{codec} segment {number}");
        }
    }
    for (track, codec) in published.audio.iter().chain(&published.other_audio).zip(["aac", "opus"]) {
        assert_eq!(track.end() * 48_000 / i64::from(track.init.timescale), 5 * 48_000, "{codec}");
        let path = folder.path().join(format!("{}.mp4", track.name));
        std::fs::write(&path, track.whole()).unwrap();
        let found = probe(&path, &["-show_entries", "stream=codec_name"]).unwrap();
        assert_eq!(found["streams"][0]["codec_name"], codec);
    }
}

#[test]
fn stills_show_what_they_say() {
    let system = System::start();
    let source = fixture(Kind::Custom { width: 640, height: 360, seconds: 12 });
    let asset = system.put(&source.path);
    system.ready(&asset, READY);
    let base = format!("{}/assets/{asset}", system.state.edge);
    let described = system.http.get(&format!("{base}/presentation.json"), &[]).json();
    let blob = |image: &serde_json::Value| {
        let hash = image["hash"].as_str().unwrap().to_owned();
        let answer = system.http.get(&format!("{}/blobs/{}/{hash}.jpg", system.state.edge, &hash[..2]), &[]);
        assert_eq!((answer.status, answer.header("content-type")), (200, "image/jpeg"));
        answer.body
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("still.jpg");

    // The poster is the last frame of the first second, as large as it was shot, with its number in it.
    std::fs::write(&path, blob(&described["poster"])).unwrap();
    assert_eq!(described["poster"]["frame"], 29);
    assert_eq!(read_barcodes(&path, 0), numbered(30)[29..]);

    let thumbnails = described["thumbnails"].as_array().unwrap();
    assert_eq!(thumbnails.len(), 12);
    let answer = system.http.get(&format!("{base}/storyboard.vtt"), &[]);
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/vtt"));
    let storyboard = answer.text();
    let cues: Vec<&str> = storyboard.split("\n\n").skip(1).collect();
    assert_eq!(cues.len(), 12);
    assert!(cues[11].starts_with("00:00:11.000 --> 00:00:12.000\n../../blobs/"), "{}", cues[11]);
    assert!(cues[11].trim_end().ends_with("#xywh=160,90,160,90"), "{}", cues[11]);
    std::fs::write(&path, blob(&described["storyboard"]["sheets"][0])).unwrap();
    let found = probe(&path, &["-show_entries", "stream=width,height"]).unwrap();
    assert_eq!((&found["streams"][0]["width"], &found["streams"][0]["height"]), (&1600.into(), &180.into()));
}
