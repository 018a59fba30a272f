//! What tasks cost, in milliseconds of one core: estimates, from measurements at the default presets on one core of 2023.

use std::ops::Range;

use super::{VideoPlan, VideoSpan};
use crate::codec::VideoCodec;
use crate::index::VideoTrack;
use crate::ladder::Rung;
use crate::profile::Effort;
use crate::timeline::VideoTimeline;

/// What a task of the picture costs by itself, in frames of decoding: encoders are opened and their memory is touched.
pub(super) const START_FRAMES: u32 = 15;

const DECODE_US_PER_MEGAPIXEL: u64 = 5_400;

/// Encoding with scaling, at the faster effort.
const fn encode_us_per_megapixel(codec: VideoCodec) -> u64 {
    match codec {
        VideoCodec::H264 => 15_000,
        VideoCodec::Hevc => 45_000,
        VideoCodec::Av1 => 40_000,
    }
}

/// Sound, decoded and encoded, of so many microseconds.
pub(super) fn sound_ms(micros: i64) -> u64 {
    const US_PER_SECOND: u64 = 11_000;
    (micros.max(0).unsigned_abs() * US_PER_SECOND / 1_000_000_000).max(1)
}

/// What the segments of a picture cost.
#[derive(Debug, Clone)]
pub(super) struct PictureCosts {
    /// For each segment, how many samples must be decoded before its first frame comes out.
    leads: Vec<u32>,
    /// Pixels of a frame of the source.
    pixels: u64,
}

impl PictureCosts {
    pub(super) fn of(track: &VideoTrack, timeline: &VideoTimeline, segments: &[VideoSpan]) -> Self {
        let pixels = u64::from(track.picture.width) * u64::from(track.picture.height);
        Self { leads: lead_ins(track, timeline, segments), pixels }
    }

    /// Of a picture that is like this before its segments.
    #[cfg(test)]
    pub(super) fn after(leads: &[u32]) -> Self {
        Self { leads: leads.to_vec(), pixels: 1 }
    }

    /// Frames of decoding that a task costs which begins with this segment, before its first one comes out.
    pub(super) fn wasted_frames(&self, first: u32) -> u32 {
        self.leads.get(first as usize).copied().unwrap_or(0).saturating_add(START_FRAMES)
    }

    /// Of these segments in these rungs.
    pub(super) fn ms(&self, video: &VideoPlan, segments: &Range<u32>, rungs: &[Rung]) -> u64 {
        let spans = video.segments.get(segments.start as usize..segments.end as usize).unwrap_or_default();
        let frames: u64 = spans.iter().map(|s| u64::from(s.frames.end - s.frames.start)).sum();
        let halves = |effort| match effort {
            Effort::Fast => 2,
            Effort::Thorough => 5,
        };
        let encoded = rungs.iter().map(|r| {
            let pixels = u64::from(r.width) * u64::from(r.height);
            pixels * encode_us_per_megapixel(r.codec) / 2 * halves(r.effort)
        });
        let decoded_frames = frames * u64::from(video.every) + u64::from(self.wasted_frames(segments.start));
        let micros = frames * encoded.sum::<u64>() + decoded_frames * self.pixels * DECODE_US_PER_MEGAPIXEL;
        (micros / 1_000_000_000).max(1)
    }
}

fn lead_ins(track: &VideoTrack, timeline: &VideoTimeline, segments: &[VideoSpan]) -> Vec<u32> {
    let keys: Vec<u32> =
        track.samples.iter().enumerate().filter(|(_, s)| s.key).map(|(i, _)| i as u32).collect();
    segments
        .iter()
        .map(|segment| {
            let Some(frame) = timeline.frames.get(segment.frames.start as usize) else { return 0 };
            let upto = keys.partition_point(|k| *k <= frame.sample);
            let key = keys[..upto]
                .iter()
                .rev()
                .find(|k| track.samples.get(**k as usize).is_some_and(|s| s.pts <= frame.source_pts));
            frame.sample - key.copied().unwrap_or(0)
        })
        .collect()
}
