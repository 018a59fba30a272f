//! Chunks cut anywhere join into one stream: every frame once, in its place, with no hole in the decode times.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/boxes.rs"]
mod boxes;
#[path = "harness/entry.rs"]
mod entry;
mod harness;

use std::process::Command;

use harness::{Rendition, Title};
use reelmill_e2e::barcode::read_barcodes;
use reelmill_e2e::fixtures::{Fixture, Kind, ffmpeg, fixture};
use reelmill_media::codec::VideoCodec;
use reelmill_media::profile::Profile;
use reelmill_media::time::{Ticks, Timescale};

/// Segments per chunk, taken in turns.
const CUTS: [&[usize]; 3] = [&[1], &[2, 1], &[100]];

fn check(kind: Kind, codec: VideoCodec) {
    let fixture = fixture(kind);
    let source = std::fs::read(&fixture.path).unwrap();
    let mut profile = Profile::default();
    profile.video[0].codec = codec;
    let title = Title::planned(harness::index(&source).unwrap(), &profile);
    let made: Vec<_> = CUTS.iter().map(|cut| title.make(&source, cut).unwrap()).collect();
    for renditions in &made {
        for (name, rendition) in renditions.iter().filter(|(name, _)| name.starts_with('v')) {
            check_times(&title, rendition);
            check_frames(&fixture, name, rendition);
            check_samples(codec, rendition);
        }
        assert_eq!(renditions.contains_key("a0"), fixture.has_audio);
    }
    check_presentation(&fixture, &title);
    each_segment_decodes_alone(made[0].iter().find(|(name, _)| name.starts_with("v")).unwrap().1);
    assert!(made[0] == title.make(&source, CUTS[0]).unwrap(), "the same job made other bytes");
}

/// Presentation times are the source's, to the tick where its clock was kept.
fn check_presentation(fixture: &Fixture, title: &Title) {
    let clock = title.timeline().timescale;
    assert_eq!(title.timeline().frames.len(), fixture.frames as usize);
    let times = title.timeline().frames.iter().map(|f| f.pts).chain([title.timeline().end]);
    // Sound may begin a moment before the picture: then the first frame is held, and all others come later.
    let late = title.timeline().frames.get(1).map_or(Ticks::ZERO, |f| f.pts - on(clock, fixture.pts_90k(1)));
    assert!(late.micros(clock).abs() < 70_000, "the picture is {} µs late", late.micros(clock));
    for (n, pts) in (0u32..).zip(times).skip(1) {
        let off = (pts - late - on(clock, fixture.pts_90k(n))).micros(clock).abs();
        assert!(off <= 1_000, "frame {n} is off by {off} µs");
    }
}

fn on(clock: Timescale, ticks: u64) -> Ticks {
    Ticks(ticks as i64).rescale(Timescale::MPEG, clock)
}

fn check_times(title: &Title, rendition: &Rendition) {
    let mut end = 0;
    let mut shown = Vec::new();
    for segment in &rendition.segments {
        let rows = boxes::rows(segment);
        assert_eq!(segment.start, Ticks(end), "a hole before segment {}", segment.number);
        assert_eq!(rows[0].dts, end);
        assert_eq!(rows.len(), segment.frames as usize);
        assert_eq!(segment.concealed, 0);
        assert!(rows[0].sync && rows[1..].iter().all(|r| !r.sync), "an IDR at the start and nowhere else");
        assert_eq!(rows[0].pts, segment.start.0, "the first frame is shown first");
        for row in &rows {
            assert_eq!(row.dts, end);
            assert!(row.duration > 0);
            end += row.duration;
            shown.push(row.pts);
        }
        assert_eq!(segment.start + segment.duration, Ticks(end));
    }
    shown.sort_unstable();
    assert_eq!(shown, title.timeline().frames.iter().map(|f| f.pts.0).collect::<Vec<_>>());
    assert_eq!(end, title.timeline().end.0);
}

/// Nothing but pictures: parameter sets are in the init segment, and no sample tells what made it.
fn check_samples(codec: VideoCodec, rendition: &Rendition) {
    for segment in &rendition.segments {
        let samples = boxes::samples(segment);
        for (sample, row) in samples.iter().zip(boxes::rows(segment)) {
            match codec {
                // One slice per picture: IDR (5), or not (1).
                VideoCodec::H264 => {
                    assert_eq!(entry::nal_units(sample, |head| head & 0x1f), [if row.sync { 5 } else { 1 }])
                }
                // One slice per picture: IDR with or without leading pictures (19, 20), or trailing (0, 1).
                VideoCodec::Hevc => {
                    let kinds = entry::nal_units(sample, |head| head >> 1);
                    assert!(
                        matches!((row.sync, &kinds[..]), (true, [19 | 20]) | (false, [0 | 1])),
                        "{kinds:?}"
                    );
                }
                // A sequence header (1) where decoding starts, frames (6), and shown ones repeated (3).
                VideoCodec::Av1 => {
                    let kinds = entry::obus(sample);
                    assert_eq!(kinds[0] == 1, row.sync, "{kinds:?}");
                    assert!(
                        kinds.iter().skip(usize::from(row.sync)).all(|kind| [3, 6].contains(kind)),
                        "{kinds:?}"
                    );
                }
            }
        }
    }
}

fn check_frames(fixture: &Fixture, name: &str, rendition: &Rendition) {
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    std::fs::write(file.path(), rendition.file()).unwrap();
    let expected: Vec<_> = (0..fixture.frames).map(Some).collect();
    assert_eq!(read_barcodes(file.path(), fixture.rotation), expected, "{name} of {:?}", fixture.kind);
    let entry = entry::video(rendition);
    assert_eq!(entry.size, fixture.presented_size());
    assert_eq!(entry.codecs, rendition.codecs);
}

fn each_segment_decodes_alone(rendition: &Rendition) {
    for segment in &rendition.segments {
        let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(file.path(), [rendition.init.as_slice(), &segment.bytes].concat()).unwrap();
        let output = Command::new(ffmpeg())
            .args(["-nostdin", "-v", "error", "-xerror", "-i"])
            .arg(file.path())
            .args(["-fps_mode", "passthrough", "-f", "framemd5", "-"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(text.lines().filter(|l| !l.starts_with('#')).count(), segment.frames as usize);
    }
}

/// Players show a frame until the next one comes, and so the last one until the end.
#[test]
fn an_edit_list_that_begins_within_the_only_frame_shows_it() {
    let mut source = std::fs::read(fixture(Kind::OneFrame).path).unwrap();
    let list = source.windows(4).position(|name| name == b"elst").unwrap();
    // Version and flags, number of edits, duration, and then where in the media: here some way into the frame.
    let start: &mut [u8; 4] = source[list + 16..].first_chunk_mut().unwrap();
    *start = (u32::from_be_bytes(*start) + 100).to_be_bytes();
    let title = Title::of(&source).unwrap();
    assert_eq!(title.timeline().frames.len(), 1);
    let made = title.make(&source, &[1]).unwrap();
    check_times(&title, made.values().next().unwrap());
}

/// Its clock counts milliseconds, and so late is the picture.
#[test]
fn matroska_with_sound_first() {
    let folder = tempfile::tempdir().unwrap();
    let (from, file) = (fixture(Kind::Landscape).path, folder.path().join("late.mkv"));
    let mut command = Command::new(ffmpeg());
    command.args(["-nostdin", "-v", "error", "-itsoffset", "0.017", "-i"]).arg(&from).arg("-i").arg(&from);
    command.args(["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "flac"]).arg(&file);
    assert!(command.status().unwrap().success());
    let source = std::fs::read(file).unwrap();
    let title = Title::of(&source).unwrap().lowest(1);
    let clock = title.timeline().timescale;
    for (n, frame) in title.timeline().frames.iter().enumerate().skip(1) {
        let there = 0.017 + n as f64 / 30.0;
        let here = frame.pts.seconds(clock);
        assert!((here - there).abs() < 0.0011, "frame {n} is shown at {here}, not {there}");
    }
    check_times(&title, &title.make(&source, &[2, 1]).unwrap()[title.rungs()[0].as_str()]);
}

macro_rules! kinds {
    ($codec:ident: $($name:ident: $kind:ident,)*) => {
        $(#[test] fn $name() { check(Kind::$kind, VideoCodec::$codec); })*
    };
}

mod h264 {
    use super::*;

    kinds! {
        H264:
        plain: Landscape,
        moov_at_end: MoovAtEnd,
        fragmented: Fragmented,
        turned_by_90: Portrait,
        turned_by_180: UpsideDown,
        turned_by_270: Portrait270,
        silent: NoAudio,
        matroska: Mkv,
        webm: WebM,
        transport_stream: MpegTs,
        flash: Flv,
        spark: Spark,
        windows_media: Wmv,
        program_stream: Mpg,
        ogg: Ogv,
        avi: Avi,
        open_gop: OpenGop,
        one_long_gop: LongGop,
        uneven_frames: Vfr,
        ntsc: Ntsc,
        one_frame: OneFrame,
        half_a_second: HalfSecond,
    }
}

mod hevc {
    use super::*;

    kinds! {
        Hevc:
        turned_by_90: Portrait,
        open_gop: OpenGop,
        uneven_frames: Vfr,
        ntsc: Ntsc,
        one_frame: OneFrame,
        half_a_second: HalfSecond,
    }
}

mod av1 {
    use super::*;

    kinds! {
        Av1:
        turned_by_90: Portrait,
        open_gop: OpenGop,
        uneven_frames: Vfr,
        ntsc: Ntsc,
        one_frame: OneFrame,
        half_a_second: HalfSecond,
    }
}
