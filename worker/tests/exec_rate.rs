//! However much a picture would take, its rate stays under the cap: that of a decoder's buffer filled at the capped rate.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::Title;
use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_media::codec::VideoCodec;
use reelmill_media::profile::Profile;

fn check(codec: VideoCodec) {
    let source = std::fs::read(fixture(Kind::Landscape).path).unwrap();
    let index = harness::index(&source).unwrap();
    let bits = |crf, cap| {
        let mut profile = Profile::default();
        let lane = &mut profile.video[0];
        (lane.codec, lane.crf, lane.max_kbps_1080) = (codec, Some(crf), Some(cap));
        let title = Title::planned(index.clone(), &profile);
        let made = title.make(&source, &[100]).unwrap();
        let rendition = made.iter().find(|(name, _)| name.starts_with('v')).unwrap().1;
        let bits = rendition.segments.iter().map(|s| s.bytes.len() as f64 * 8.0).sum::<f64>();
        let seconds = title.timeline().end.seconds(title.timeline().timescale);
        let rung = &title.plan.ladder.video[0];
        (bits, (f64::from(rung.max_kbps) * seconds + f64::from(rung.buffer_kbit)) * 1000.0)
    };
    let (wanted, _) = bits(10, 100_000);
    let (came, most) = bits(10, 1_500);
    assert!(wanted > most, "{codec}: the cap would hold without an effort");
    assert!(came <= most, "{codec}: {came} bits where {most} are the most");
}

#[test]
fn h264() {
    check(VideoCodec::H264);
}

#[test]
fn hevc() {
    check(VideoCodec::Hevc);
}

#[test]
fn av1() {
    check(VideoCodec::Av1);
}
