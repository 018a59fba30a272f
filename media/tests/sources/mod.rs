//! Sources of every shape that the planner may meet, as proptest strategies.

#![allow(dead_code)] // Each test program uses its own part of this.

use proptest::prelude::*;
use reelmill_media::codec::{AudioCodec, VideoCodec};
use reelmill_media::index::{AudioTrack, CodecSetup, Container, Picture, Sample, SourceIndex, VideoTrack};
use reelmill_media::profile::{AudioLane, Profile, VideoLane};
use reelmill_media::time::{Ticks, Timescale};

/// An index with `steps` between frames (ticks of `timescale`), starting at `start`, a key frame every `gop`, and
/// frames reordered in pairs.
fn video(timescale: u32, start: i64, steps: &[i64], gop: usize, size: (u32, u32)) -> VideoTrack {
    let mut pts: Vec<i64> = vec![start];
    for step in steps {
        pts.push(pts[pts.len() - 1] + step);
    }
    let mut samples: Vec<Sample> = pts
        .iter()
        .enumerate()
        .map(|(k, &t)| Sample {
            offset: k as u64 * 1000,
            bytes: 1000,
            dts: Ticks(t),
            pts: Ticks(t),
            key: k % gop == 0,
        })
        .collect();
    // Decode order differs from presentation order inside a GOP.
    for k in 1..samples.len().saturating_sub(1) {
        if k % gop == 1 && (k + 1) % gop != 0 {
            let (a, b) = (samples[k].pts, samples[k + 1].pts);
            samples[k].pts = b;
            samples[k + 1].pts = a;
        }
    }
    VideoTrack {
        stream: 0,
        setup: CodecSetup::new("h264", []),
        timescale: Timescale::new(timescale).unwrap(),
        picture: Picture::plain(size.0, size.1),
        samples,
        window: Ticks(i64::MIN)..Ticks(i64::MAX),
        last_duration: Ticks(steps.last().copied().unwrap_or(1)),
    }
}

fn audio(rate: u32, start: i64, packets: usize) -> AudioTrack {
    AudioTrack {
        stream: 1,
        setup: CodecSetup::new("aac", []),
        timescale: Timescale::new(rate).unwrap(),
        sample_rate: rate,
        channels: 2,
        language: None,
        samples: (0..packets as i64)
            .map(|k| {
                let at = Ticks(start + k * 1024);
                Sample { offset: 0, bytes: 100, dts: at, pts: at, key: true }
            })
            .collect(),
        window: Ticks(i64::MIN)..Ticks(i64::MAX),
    }
}

/// Constant and variable rates, any start, with or without sound of another length and start.
pub fn any_source() -> impl Strategy<Value = SourceIndex> {
    let clock = prop_oneof![Just(1000u32), Just(15_360), Just(30_000), Just(90_000), Just(57_600)];
    let frames = 1usize..900;
    (
        clock,
        frames,
        1usize..300,
        -100_000i64..1_000_000,
        any::<bool>(),
        any::<bool>(),
        1usize..2000,
        -200_000i64..200_000,
    )
        .prop_flat_map(|(clock, frames, gop, start, even, sound, packets, shift)| {
            let mean = i64::from(clock) / 25;
            let steps = if even {
                Just(vec![mean; frames - 1]).boxed()
            } else {
                prop::collection::vec(1..mean * 12, frames - 1).boxed()
            };
            steps.prop_map(move |steps| SourceIndex {
                container: Container::Mp4,
                video: Some(video(clock, start, &steps, gop, (640, 360))),
                audio: (0..if sound { 1 + packets % 2 } else { 0 } as u32)
                    .map(|n| {
                        let near = start * 48_000 / i64::from(clock) + shift + i64::from(n) * 700;
                        audio(48_000, near, packets)
                    })
                    .collect(),
            })
        })
}

/// So many seconds of 1080p at 30 frames per second, a key frame every `gop`, with sound.
pub fn steady(seconds: usize, gop: usize) -> SourceIndex {
    SourceIndex {
        container: Container::Mp4,
        video: Some(video(15_360, 0, &vec![512; seconds * 30 - 1], gop, (1920, 1080))),
        audio: vec![audio(48_000, 0, seconds * 48_000 / 1024)],
    }
}

/// So many hours of a picture with sound of which a frame and a packet come every four seconds.
pub fn sparse(hours: usize) -> SourceIndex {
    let frames = hours * 900;
    let mut sound = audio(48_000, 0, frames);
    for (sample, at) in sound.samples.iter_mut().zip(0i64..) {
        (sample.pts, sample.dts) = (Ticks(at * 4 * 48_000), Ticks(at * 4 * 48_000));
    }
    SourceIndex {
        container: Container::MpegTs,
        video: Some(video(15_360, 0, &vec![4 * 15_360; frames - 1], 1, (640, 360))),
        audio: vec![sound],
    }
}

/// Profiles of any codecs and segment lengths.
pub fn any_profile() -> impl Strategy<Value = Profile> {
    let video = prop::sample::subsequence(vec![VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1], 1..=3);
    let audio = prop::sample::subsequence(vec![AudioCodec::Aac, AudioCodec::Opus], 0..=2);
    (video, audio, 1u32..=10, prop::option::of(10u32..60)).prop_map(
        |(video, audio, segment_seconds, max_frame_rate)| {
            let lane = |codec| VideoLane {
                codec,
                short_sides: vec![120, 240],
                ..Profile::default().video[0].clone()
            };
            Profile {
                video: video.into_iter().map(lane).collect(),
                audio: audio.into_iter().map(|codec| AudioLane { codec, kbps: None }).collect(),
                segment_seconds,
                max_frame_rate,
                hardware: false,
            }
        },
    )
}
