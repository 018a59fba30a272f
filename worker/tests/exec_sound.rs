//! Sound cut into chunks: sample-exact in length and place, and no seam to be heard.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/boxes.rs"]
mod boxes;
mod harness;

use std::collections::BTreeMap;
use std::path::Path;

use harness::Title;
use reelmill_e2e::fixtures::{Kind, SOUND_SECONDS, SoundFile, fixture, sound_file};
use reelmill_e2e::sound;
use reelmill_media::codec::AudioCodec;
use reelmill_media::profile::Profile;

/// Noise is looked at in stretches of so many samples.
const WINDOW: usize = 1024;

fn check(kind: Kind, codec: AudioCodec, tolerance_samples: i64) {
    check_file(&fixture(kind).path, codec, tolerance_samples);
}

fn check_file(path: &Path, codec: AudioCodec, tolerance_samples: i64) {
    let (source, kind) = (std::fs::read(path).unwrap(), path.file_name().unwrap());
    let mut profile = Profile::default();
    profile.audio[0].codec = codec;
    let title = Title::planned(harness::index(&source).unwrap(), &profile).lowest(0);
    let timeline = title.plan.audio[0].timeline;
    let delay = codec.priming_samples();
    let mut unsplit = None;
    for cut in [&[100usize][..], &[1], &[2, 1]] {
        let made = title.make(&source, cut).unwrap();
        assert!(made == title.make(&source, cut).unwrap(), "the same job made other bytes");
        let rendition = made.values().next().unwrap();
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
        assert_eq!(end, timeline.samples + delay, "the length is sample-exact");
        let presented: i64 = rendition.segments.iter().map(|s| s.duration.0).sum();
        assert_eq!(presented, timeline.samples);

        let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(file.path(), rendition.file()).unwrap();
        let heard = sound::read_sound(file.path());
        let lag = lag(&heard, boxes::unskipped(&rendition.init), tolerance_samples);
        let windows = usize::try_from(timeline.samples).unwrap() / WINDOW - 4;
        let at_seams: Vec<usize> = seams
            .iter()
            .map(|s| (s - delay as usize) / WINDOW)
            .flat_map(|seam| [seam - 1, seam])
            .filter(|w| (3..windows).contains(w))
            .collect();
        let noise: BTreeMap<usize, f64> = (3..windows).map(|w| (w, noise(&heard, lag, w))).collect();
        let elsewhere = (3..windows).filter(|w| !at_seams.contains(w)).map(|w| noise[&w]).fold(0.0, f64::max);
        let worst = at_seams.iter().map(|w| noise[w]).fold(0.0, f64::max);
        assert!(elsewhere < 0.02, "{kind:?} is noisy: {elsewhere}");
        assert!(
            worst <= elsewhere * 2.0,
            "{kind:?}, chunks of {cut:?}: noise {worst} at seams, {elsewhere} elsewhere"
        );
        let unsplit = unsplit.get_or_insert_with(|| noise.clone());
        let worse: f64 = at_seams.iter().map(|w| 10.0 * (noise[w] / unsplit[w]).log10()).sum();
        let worse = worse / at_seams.len().max(1) as f64;
        assert!(worse <= 1.0, "{kind:?}, chunks of {cut:?}: seams are {worse:.2} dB worse than without");
    }
}

/// By how many samples the sound is late; the chirp tells.
fn lag(heard: &[[i16; 2]], skipped: usize, tolerance: i64) -> i64 {
    // A stretch of every hundredth sample finds the neighbourhood, all samples of it the place.
    let error = |lag: i64, step: usize| -> f64 {
        (20_000..40_000i64)
            .step_by(step)
            .map(|i| {
                let there = heard[(i + lag) as usize + skipped][1];
                (f64::from(sound::sample(i as u64)[1]) - f64::from(there)).powi(2)
            })
            .sum()
    };
    let near = (-4_000..=4_000i64).min_by(|a, b| error(*a, 97).total_cmp(&error(*b, 97))).unwrap();
    let best = (near - 3..=near + 3).min_by(|a, b| error(*a, 1).total_cmp(&error(*b, 1))).unwrap();
    assert!(best.abs() <= tolerance, "the sound is {best} samples late");
    best + skipped as i64
}

/// Noise power over signal power in a window of the steady tone.
fn noise(heard: &[[i16; 2]], lag: i64, window: usize) -> f64 {
    let (mut noise, mut signal) = (0.0, 1.0);
    for i in window * WINDOW..(window + 1) * WINDOW {
        let there = f64::from(heard[(i as i64 + lag) as usize][0]);
        let meant = f64::from(sound::sample(i as u64)[0]);
        noise += (there - meant).powi(2);
        signal += meant.powi(2);
    }
    noise / signal
}

#[test]
fn mp4() {
    check(Kind::Landscape, AudioCodec::Aac, 0);
}

#[test]
fn fragmented_mp4() {
    // Its muxer puts the tone two frames late, with the picture.
    check(Kind::Fragmented, AudioCodec::Aac, 3_200);
}

#[test]
fn matroska() {
    check(Kind::Mkv, AudioCodec::Aac, 1100);
}

#[test]
fn transport_stream() {
    check(Kind::MpegTs, AudioCodec::Aac, 1100);
}

#[test]
fn opus_in_webm() {
    check(Kind::WebM, AudioCodec::Aac, 48);
}

#[test]
fn to_opus() {
    check(Kind::Landscape, AudioCodec::Opus, 0);
}

#[test]
fn opus_to_opus() {
    check(Kind::WebM, AudioCodec::Opus, 48);
}

#[test]
fn flash() {
    // Its clock counts milliseconds, and its sound was made at another rate.
    check(Kind::Flv, AudioCodec::Aac, 3_200);
    check(Kind::Spark, AudioCodec::Aac, 3_200);
}

#[test]
fn windows_media() {
    check(Kind::Wmv, AudioCodec::Aac, 4_100);
}

#[test]
fn program_stream() {
    check(Kind::Mpg, AudioCodec::Aac, 3_200);
}

#[test]
fn theora_and_vorbis() {
    check(Kind::Ogv, AudioCodec::Aac, 1_100);
}

#[test]
fn avi() {
    check(Kind::Avi, AudioCodec::Aac, 3_200);
}

fn check_alone(kinds: &[SoundFile]) {
    for &kind in kinds {
        let path = sound_file(kind);
        // What these say of their encoder's delay is obeyed: not a sample is late, and none is lost or added.
        let (late, longer) = match kind {
            SoundFile::M4a
            | SoundFile::Mp3
            | SoundFile::Wav
            | SoundFile::Flac
            | SoundFile::OggVorbis
            | SoundFile::Aiff
            | SoundFile::Caf
            | SoundFile::MkaFlac
            | SoundFile::MkaPcm => (0, 0),
            SoundFile::OggOpus | SoundFile::WebmOpus => (1, 0),
            // ffmpeg dates the second packet after the first, in which nothing is to be heard; and it rounds.
            SoundFile::MkaVorbis => (128 + 24, 1_024),
            // These say nothing.
            SoundFile::BareMp3 => (1_200, 3_000),
            SoundFile::Adts => (1_024, 2_048),
            SoundFile::Wma => (2_100, 4_200),
        };
        check_file(&path, AudioCodec::Aac, late);
        let title = Title::of(&std::fs::read(&path).unwrap()).unwrap();
        let length = title.plan.audio[0].timeline.samples;
        let exact = SOUND_SECONDS as i64 * i64::from(sound::RATE_HZ);
        assert!((0..=longer).contains(&(length - exact)), "{kind:?}: {length} samples, not {exact}");
    }
}

#[test]
fn files_of_sound_alone() {
    use SoundFile::*;
    check_alone(&[M4a, Mp3, BareMp3, Wav, Flac, OggVorbis, OggOpus, Wma]);
}

#[test]
fn what_recorders_and_studios_write() {
    check_alone(&[SoundFile::Aiff, SoundFile::Caf, SoundFile::Adts]);
}

#[test]
fn matroska_without_a_picture() {
    check_alone(&[SoundFile::MkaFlac, SoundFile::MkaVorbis, SoundFile::MkaPcm, SoundFile::WebmOpus]);
}

/// Samples that are heard of a source.
fn samples(source: &[u8]) -> i64 {
    Title::of(source).unwrap().plan.audio[0].timeline.samples
}

/// The bytes after the only place in `source` where these are, so many.
fn after<'a, const N: usize>(source: &'a mut [u8], mark: &[u8]) -> &'a mut [u8; N] {
    let places: Vec<usize> =
        (0..source.len() - mark.len()).filter(|at| source[*at..].starts_with(mark)).collect();
    assert_eq!(places.len(), 1);
    source[places[0] + mark.len()..].first_chunk_mut().unwrap()
}

#[test]
fn what_containers_say_of_the_ends_is_obeyed_to_the_sample() {
    let whole = i64::from(SOUND_SECONDS as u32 * sound::RATE_HZ);
    // DiscardPadding (RFC 9559 §5.1.3.5.7): nanoseconds, in as many bytes as ffmpeg took.
    let mut webm = std::fs::read(sound_file(SoundFile::WebmOpus)).unwrap();
    let padding: &mut [u8; 4] = after(&mut webm, &[0x75, 0xa2, 0x84]);
    *padding = (u32::from_be_bytes(*padding) + 1_500_000).to_be_bytes();
    assert_eq!(samples(&webm), whole - 72);
    // The packet table of CAF: what comes first, and what fills up the last packet of 4096.
    let mut caf = std::fs::read(sound_file(SoundFile::Caf)).unwrap();
    let filled = (4096 - whole % 4096) as u32;
    let table: &mut [u8; 8 + 24] = after(&mut caf, b"pakt");
    table[24..28].copy_from_slice(&100u32.to_be_bytes());
    table[28..32].copy_from_slice(&(filled + 7).to_be_bytes());
    assert_eq!(samples(&caf), whole - 100 - 7);
}
