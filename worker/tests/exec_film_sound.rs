//! Sound as films have it, cut into chunks: what is lost at a seam is no more than what the encoder loses anywhere.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/boxes.rs"]
mod boxes;
mod harness;

use std::ops::Range;
use std::process::Command;

use harness::Title;
use reelmill_e2e::fixtures::{Film, ffmpeg, film};
use reelmill_e2e::sound;
use reelmill_media::codec::AudioCodec;
use reelmill_media::profile::Profile;

/// Samples in which noise is looked at together: a packet of AAC.
const WINDOW: usize = 1024;

/// How long after a seam an encoder may still be learning, in windows: two seconds.
const AFTER: usize = 94;

/// Noise at seams may be so much above that of an unsplit encode, on the mean, in dB.
const MOST_DB: f64 = 1.0;

/// Signal over noise of the unsplit encode, in dB. At 128 kbit/s hiss and wind are lost first.
const LEAST_SNR_DB: f64 = 9.0;

/// What is heard is as loud as its source, but for so much of it.
const SOFTER_OR_LOUDER: f64 = 0.1;

fn check(source: Film, codec: AudioCodec) {
    let path = film(source);
    let bytes = std::fs::read(&path).unwrap();
    let truth = sound::read_sound_through(&path, source.to_stereo());
    let mut profile = Profile::default();
    profile.audio[0].codec = codec;
    let title = Title::planned(harness::index(&bytes).unwrap(), &profile);
    let timeline = title.plan.audio[0].timeline;
    let rate = timeline.sample_rate.get();
    assert_eq!(timeline.samples, i64::from(source.seconds * rate), "{source:?}: the length");

    let mut unsplit: Option<Vec<f64>> = None;
    for cut in [&[1_000usize][..], &[1], &[2, 1]] {
        let made = title.make(&bytes, cut).unwrap();
        let rendition = made.values().next().unwrap();
        let rows: Vec<_> = rendition.segments.iter().flat_map(boxes::rows).collect();
        assert!(rows.windows(2).all(|w| w[0].dts + w[0].duration == w[1].dts), "{source:?}: a hole");
        let end = rows.last().map(|row| row.dts + row.duration);
        assert_eq!(end, Some(timeline.samples + codec.priming_samples()), "{source:?}: the media's length");

        let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(file.path(), rendition.file()).unwrap();
        let heard = sound::read_sound(file.path());
        let skipped = boxes::unskipped(&rendition.init) * sound::RATE_HZ as usize / rate as usize;
        let windows = (truth.len().min(heard.len() - skipped)) / WINDOW;
        let noise: Vec<f64> =
            (0..windows).map(|w| noise(&truth, &heard[skipped..], w * WINDOW..(w + 1) * WINDOW)).collect();
        let Some(unsplit) = &unsplit else {
            let signal: f64 = (0..windows).map(|w| power(&truth[w * WINDOW..(w + 1) * WINDOW])).sum();
            let snr = 10.0 * (signal / noise.iter().sum::<f64>()).log10();
            assert!(snr >= LEAST_SNR_DB, "{source:?} to {codec}: {snr:.1} dB");
            let level = level(&truth, &heard[skipped..]);
            println!("{source:?} to {codec}: {snr:.1} dB, level {level:.3}");
            assert!((level - 1.0).abs() < SOFTER_OR_LOUDER, "{source:?} to {codec}: the level is {level:.3}");
            unsplit = Some(noise);
            continue;
        };
        // Where a chunk begins: every first segment of a cut.
        let seams = cut
            .iter()
            .cycle()
            .scan(0, |at, step| {
                *at += step;
                rendition.segments.get(*at)
            })
            .map(|segment| segment.start.0 as usize * sound::RATE_HZ as usize / rate as usize / WINDOW);
        let near: Vec<usize> =
            seams.flat_map(|seam| seam - 2..seam + AFTER).filter(|w| *w < windows).collect();
        assert!(near.len() > 5 * AFTER, "{source:?}: few seams");
        let worse =
            near.iter().map(|w| 10.0 * ((noise[*w] + 1.0) / (unsplit[*w] + 1.0)).log10()).sum::<f64>()
                / near.len() as f64;
        println!("{source:?} to {codec}, chunks of {cut:?}: {worse:.2} dB");
        assert!(worse <= MOST_DB, "{source:?} to {codec}, chunks of {cut:?}: seams are {worse:.2} dB worse");
    }
}

fn power(samples: &[[i16; 2]]) -> f64 {
    samples.iter().flatten().map(|s| f64::from(*s).powi(2)).sum()
}

/// How loud what is heard is beside the truth: the factor that fits best.
fn level(truth: &[[i16; 2]], heard: &[[i16; 2]]) -> f64 {
    let pairs = truth.iter().flatten().zip(heard.iter().flatten());
    pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() / power(truth)
}

fn noise(truth: &[[i16; 2]], heard: &[[i16; 2]], at: Range<usize>) -> f64 {
    let pairs = truth[at.clone()].iter().flatten().zip(heard[at].iter().flatten());
    pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

const STEREO: Film = Film { rate_hz: 48_000, layout: "stereo", seconds: 30 };

#[test]
fn stereo() {
    check(STEREO, AudioCodec::Aac);
    check(STEREO, AudioCodec::Opus);
}

#[test]
fn cd_rate() {
    check(Film { rate_hz: 44_100, ..STEREO }, AudioCodec::Aac);
    check(Film { rate_hz: 44_100, ..STEREO }, AudioCodec::Opus);
}

#[test]
fn five_channels_and_a_subwoofer() {
    check(Film { layout: "5.1", ..STEREO }, AudioCodec::Aac);
    check(Film { layout: "5.1", ..STEREO }, AudioCodec::Opus);
}

#[test]
fn seven_channels_and_a_subwoofer() {
    check(Film { layout: "7.1", ..STEREO }, AudioCodec::Aac);
}

#[test]
fn mono() {
    check(Film { layout: "mono", ..STEREO }, AudioCodec::Aac);
    check(Film { layout: "mono", ..STEREO }, AudioCodec::Opus);
}

#[test]
fn odd_rates() {
    for rate_hz in [8_000, 11_025, 22_050, 96_000] {
        check(Film { rate_hz, ..STEREO }, AudioCodec::Aac);
        check(Film { rate_hz, ..STEREO }, AudioCodec::Opus);
    }
}

/// Packets that are missing, as a recorder leaves them out whose disk was busy or whose microphone was muted.
const MISSING: Range<usize> = 235..305;

/// How far off the truth sound is placed, of these numbers of samples: what fits best.
fn lag(truth: &[[i16; 2]], heard: &[[i16; 2]], at: usize, among: Range<i64>) -> i64 {
    let error = |lag: i64| -> f64 {
        let there = &heard[(at as i64 + lag) as usize..];
        truth[at..at + 2 * WINDOW]
            .iter()
            .zip(there)
            .map(|(a, b)| (f64::from(a[0]) - f64::from(b[0])).powi(2))
            .sum()
    };
    among.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap()
}

#[test]
fn holes_are_silent_and_move_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let original = film(STEREO);
    let truth = sound::read_sound_through(&original, STEREO.to_stereo());
    for (container, codec) in [("mp4", "aac"), ("mkv", "aac"), ("ts", "aac"), ("flv", "aac"), ("mkv", "mp2")]
    {
        let file = folder.path().join("holed").with_extension(container);
        let drop = format!("noise=drop=between(n\\,{}\\,{})", MISSING.start, MISSING.end - 1);
        let mut command = Command::new(ffmpeg());
        command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(&original);
        command.args(["-c:a", codec, "-b:a", "192k", "-bsf:a", &drop]).arg(&file);
        assert!(command.status().unwrap().success());
        let bytes = std::fs::read(&file).unwrap();
        let title = Title::of(&bytes).unwrap();
        let packet = if codec == "mp2" { 1152 } else { 1024 };
        // The packets at the ends are faded by what is missing beside them.
        let hole = (MISSING.start + 1) * packet..(MISSING.end - 2) * packet;
        let mut late = None;
        for cut in [&[1_000usize][..], &[1], &[2, 1]] {
            let what = format!("{codec} in {container}, chunks of {cut:?}");
            let made = title.make(&bytes, cut).unwrap();
            let rendition = made.values().next().unwrap();
            let rows: Vec<_> = rendition.segments.iter().flat_map(boxes::rows).collect();
            assert!(rows.windows(2).all(|w| w[0].dts + w[0].duration == w[1].dts), "{what}: a hole");
            let whole = folder.path().join("made.mp4");
            std::fs::write(&whole, rendition.file()).unwrap();
            let heard = sound::read_sound(&whole);
            let heard = &heard[boxes::unskipped(&rendition.init)..];
            let lag = |at: usize, among| lag(&truth, heard, at * sound::RATE_HZ as usize, among);
            let late = *late.get_or_insert_with(|| lag(3, -3_000..3_000));
            for at in [3, 8, 15, 25] {
                // Matroska and Flash count milliseconds.
                let here = lag(at, late - 200..late + 200);
                assert!((here - late).abs() <= 48, "{what}: {here} samples late after {at} s, not {late}");
            }
            let silent =
                &heard[(hole.start as i64 + late.max(0)) as usize..(hole.end as i64 + late.min(0)) as usize];
            let loudest = silent.iter().flatten().map(|s| s.unsigned_abs()).max();
            assert!(loudest < Some(8), "{what}: {loudest:?} in the hole");
        }
    }
}
