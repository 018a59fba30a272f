//! Sound cut into chunks: sample-exact in length and place, and no seam to be heard.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/boxes.rs"]
mod boxes;
mod harness;

use harness::Title;
use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::sound;

/// Samples of encoder delay before the first presented one.
const DELAY: usize = 1024;

fn check(kind: Kind, tolerance_samples: i64) {
    let fixture = fixture(kind);
    let source = std::fs::read(&fixture.path).unwrap();
    let title = Title::of(&source).unwrap();
    let timeline = title.plan.audio[0].timeline;
    for cut in [&[1usize][..], &[2, 1], &[100]] {
        let made = title.make(&source, cut).unwrap();
        let rendition = &made["a0"];
        let mut end = 0;
        let mut seams = Vec::new();
        for segment in &rendition.segments {
            let rows = boxes::rows(segment);
            assert_eq!(rows.len(), segment.frames as usize);
            for row in rows {
                assert_eq!((row.dts, row.pts), (end, end), "a hole in the sound");
                end += row.duration;
            }
            seams.push(end as usize);
        }
        assert_eq!(end, timeline.samples + DELAY as i64, "the length is sample-exact");
        let presented: i64 = rendition.segments.iter().map(|s| s.duration.0).sum();
        assert_eq!(presented, timeline.samples);

        let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(file.path(), rendition.file()).unwrap();
        let heard = sound::read_sound(file.path());
        let lag = lag(&heard, tolerance_samples);
        let noise = |window: usize| noise(&heard, lag, window);
        let windows = usize::try_from(timeline.samples).unwrap() / 1024 - 4;
        let at_seams: Vec<usize> = seams
            .iter()
            .flat_map(|s| [s / 1024 - 2, s / 1024 - 1])
            .filter(|w| (3..windows).contains(w))
            .collect();
        let elsewhere = (3..windows).filter(|w| !at_seams.contains(w)).map(noise).fold(0.0, f64::max);
        let worst = at_seams.iter().map(|w| noise(*w)).fold(0.0, f64::max);
        assert!(elsewhere < 0.02, "{kind:?} is noisy: {elsewhere}");
        assert!(
            worst <= elsewhere * 2.0,
            "{kind:?}, chunks of {cut:?}: noise {worst} at seams, {elsewhere} elsewhere"
        );
    }
}

/// By how many samples the sound is late; the chirp tells.
fn lag(heard: &[[i16; 2]], tolerance: i64) -> i64 {
    // A stretch of every hundredth sample finds the neighbourhood, all samples of it the place.
    let error = |lag: i64, step: usize| -> f64 {
        (20_000..40_000i64)
            .step_by(step)
            .map(|i| {
                let there = heard[(i + lag) as usize + DELAY][1];
                (f64::from(sound::sample(i as u64)[1]) - f64::from(there)).powi(2)
            })
            .sum()
    };
    let near = (-4_000..=4_000i64).min_by(|a, b| error(*a, 97).total_cmp(&error(*b, 97))).unwrap();
    let best = (near - 3..=near + 3).min_by(|a, b| error(*a, 1).total_cmp(&error(*b, 1))).unwrap();
    assert!(best.abs() <= tolerance, "the sound is {best} samples late");
    best
}

/// Noise power over signal power in 1024 samples of the steady tone.
fn noise(heard: &[[i16; 2]], lag: i64, window: usize) -> f64 {
    let (mut noise, mut signal) = (0.0, 1.0);
    for i in window * 1024..(window + 1) * 1024 {
        let there = f64::from(heard[(i as i64 + lag) as usize + DELAY][0]);
        let meant = f64::from(sound::sample(i as u64)[0]);
        noise += (there - meant).powi(2);
        signal += meant.powi(2);
    }
    noise / signal
}

#[test]
fn mp4() {
    check(Kind::Landscape, 0);
}

#[test]
fn fragmented_mp4() {
    // Its muxer puts the tone two frames late, with the picture.
    check(Kind::Fragmented, 3_200);
}

#[test]
fn matroska() {
    check(Kind::Mkv, 1100);
}

#[test]
fn transport_stream() {
    check(Kind::MpegTs, 1100);
}

#[test]
fn opus_in_webm() {
    check(Kind::WebM, 48);
}
