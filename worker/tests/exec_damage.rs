//! A stretch that cannot be decoded costs that stretch: all around it every frame is its own, at its time.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/boxes.rs"]
mod boxes;
mod harness;

use std::ops::Range;
use std::process::Command;

use harness::{Rendition, Title};
use reelmill_e2e::barcode::read_barcodes;
use reelmill_e2e::fixtures::{Kind, ffmpeg, fixture};
use reelmill_e2e::sound;
use reelmill_media::index::Sample;
use reelmill_media::time::Timescale;

const FRAMES: u32 = 180;
/// Frames per second.
const RATE: f64 = 30.0;
/// What is destroyed of the source: the third second, in which frames 60 to 89 begin.
const LOST_S: Range<f64> = 2.0..3.0;

/// The fixtures' pictures in another codec, each second a GOP.
fn encoded(arguments: &str) -> Vec<u8> {
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    let mut command = Command::new(ffmpeg());
    command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(fixture(Kind::Landscape).path);
    command.args(["-an", "-g", "30"]).args(arguments.split_whitespace()).arg(file.path());
    assert!(command.status().unwrap().success());
    std::fs::read(file.path()).unwrap()
}

/// Zeros instead of what is shown while it is lost; how many samples that were.
fn destroy(source: &mut [u8], samples: &[Sample], clock: Timescale) -> u32 {
    let shown = |sample: &&Sample| LOST_S.contains(&sample.pts.seconds(clock));
    samples.iter().filter(shown).fold(0, |lost, sample| {
        let from = sample.offset as usize;
        source[from..from + sample.bytes as usize].fill(0);
        lost + 1
    })
}

fn concealed(rendition: &Rendition) -> u32 {
    rendition.segments.iter().map(|segment| segment.concealed).sum()
}

fn numbers(rendition: &Rendition) -> Vec<Option<u32>> {
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    std::fs::write(file.path(), rendition.file()).unwrap();
    read_barcodes(file.path(), 0)
}

fn check(mut source: Vec<u8>) {
    let title = Title::of(&source).unwrap().lowest(1);
    let track = title.index.video.as_ref().unwrap();
    let codec = track.setup.codec.clone();
    let lost = destroy(&mut source, &track.samples, track.timescale);
    assert_eq!(lost, 30, "{codec}");
    for cut in [&[100][..], &[1]] {
        let mut made = title.make(&source, cut).unwrap();
        let rendition = made.remove("v360").unwrap();
        let times: Vec<i64> = rendition.segments.iter().flat_map(boxes::rows).map(|row| row.dts).collect();
        assert_eq!(times.len(), FRAMES as usize, "{codec}: frames");
        assert!(times.windows(2).all(|w| w[0] < w[1]), "{codec}: times");
        let numbers = numbers(&rendition);
        let own = (0..FRAMES).filter(|n| numbers[*n as usize] == Some(*n)).count() as u32;
        assert_eq!(own + concealed(&rendition), FRAMES, "{codec}: {numbers:?}");
        assert_eq!(concealed(&rendition), lost, "{codec}: {numbers:?}");
        let held = numbers[60..90].iter().all(|number| *number == Some(59) || *number == Some(90));
        assert!(held, "{codec}: the picture beside is held: {:?}", &numbers[58..92]);
        for segment in &rendition.segments {
            let clock = title.timeline().timescale;
            let from = segment.start.seconds(clock);
            let to = (segment.start + segment.duration).seconds(clock);
            let hit = from < LOST_S.end && to > LOST_S.start;
            assert_eq!(segment.concealed > 0, hit, "{codec}: where it is recorded");
        }
    }
}

#[test]
fn h264() {
    check(encoded("-c:v libx264 -preset veryfast -crf 20 -bf 3"));
}

#[test]
fn hevc() {
    check(encoded(
        "-c:v libx265 -preset ultrafast -crf 20 -tag:v hvc1 -x265-params open-gop=0:log-level=none",
    ));
}

#[test]
fn av1() {
    check(encoded("-c:v libsvtav1 -preset 12 -crf 25"));
}

#[test]
fn vp9() {
    check(encoded("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 1M"));
}

#[test]
fn lost_packets_of_a_transport_stream() {
    let whole = std::fs::read(fixture(Kind::MpegTs).path).unwrap();
    let packets = whole.len() / 188;
    // A receiver that was in a tunnel for a moment.
    let (from, to) = (packets * 45 / 100 * 188, packets * 55 / 100 * 188);
    let source = [&whole[..from], &whole[to..]].concat();
    let title = Title::of(&source).unwrap().lowest(1);
    let made = title.make(&source, &[1]).unwrap();
    let rendition = &made["v360"];
    let clock = title.timeline().timescale;
    let mut shown: Vec<i64> = rendition.segments.iter().flat_map(boxes::rows).map(|row| row.pts).collect();
    shown.sort_unstable();
    let numbers = numbers(rendition);
    assert_eq!(numbers.len(), shown.len());
    // Sound may begin before the picture, whose first frame is then held: the second is where it was shot.
    let late = shown[1] as f64 / f64::from(clock.get()) - 1.0 / RATE;
    let mut own = 0;
    for (number, pts) in numbers.iter().zip(&shown).skip(1) {
        let shot = (*pts as f64 / f64::from(clock.get()) - late) * RATE;
        match number {
            Some(number) if (f64::from(*number) - shot).abs() < 0.05 => own += 1,
            // Held, or torn: in the GOPs that lost something.
            Some(_) | None => {
                assert!((50.0..130.0).contains(&shot), "{number:?} is shown in place of {shot}")
            }
        }
    }
    assert!(own > 120, "{own} frames are left: {numbers:?}");
}

#[test]
fn sound() {
    let mut source = std::fs::read(fixture(Kind::Landscape).path).unwrap();
    let title = Title::of(&source).unwrap().lowest(0);
    let track = &title.index.audio[0];
    let lost = destroy(&mut source, &track.samples, track.timescale);
    let made = title.make(&source, &[1]).unwrap();
    let rendition = &made["a0"];
    assert_eq!(concealed(rendition), lost, "every packet that was lost is recorded");
    let presented: i64 = rendition.segments.iter().map(|segment| segment.duration.0).sum();
    assert_eq!(presented, title.plan.audio[0].timeline.samples, "the length is kept");

    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    std::fs::write(file.path(), rendition.file()).unwrap();
    let heard = &sound::read_sound(file.path())[boxes::unskipped(&rendition.init)..];
    // Noise over signal of the tone, in tenths of a second.
    for tenth in 1..58u64 {
        let (mut noise, mut signal, mut loudness) = (0.0, 0.0, 0.0);
        for at in tenth * 4_800..(tenth + 1) * 4_800 {
            let (meant, there) = (f64::from(sound::sample(at)[0]), f64::from(heard[at as usize][0]));
            noise += (meant - there).powi(2);
            signal += meant * meant;
            loudness += there * there;
        }
        match tenth {
            // Packets reach over the edges of the stretch.
            19 | 20 | 29 | 30 => {}
            21..=28 => assert!(loudness < signal * 1e-4, "no silence at {tenth}/10 s"),
            _ => assert!(noise < signal * 0.02, "noise of {} at {tenth}/10 s", noise / signal),
        }
    }
}
