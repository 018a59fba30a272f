//! The grid that all renditions are cut on.

use std::ops::Range;

use super::{VideoPlan, VideoSpan};
use crate::codec::AudioCodec;
use crate::time::{Ticks, Timescale};
use crate::timeline::{AudioTimeline, VideoTimeline};

/// Boundaries of the first segments, in milliseconds.
const FIRST_MS: [i64; 3] = [1000, 2000, 4000];

/// Short segments first, then equal ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Length of a segment in milliseconds.
    pub(super) segment_ms: i64,
}

impl Grid {
    pub(super) fn new(segment_seconds: u32) -> Self {
        Self { segment_ms: i64::from(segment_seconds.max(1)) * 1000 }
    }

    /// Boundaries after 0, in ticks of `clock`.
    fn boundaries(self, clock: Timescale) -> impl Iterator<Item = Ticks> {
        let first = FIRST_MS.into_iter().filter(move |ms| *ms < self.segment_ms);
        first.chain((1..).map(move |k: i64| k * self.segment_ms)).map(move |ms| Ticks::from_millis(ms, clock))
    }

    pub(super) fn video(self, timeline: &VideoTimeline) -> Vec<VideoSpan> {
        let mut starts: Vec<u32> = vec![0];
        let mut bounds = self.boundaries(timeline.timescale).peekable();
        for (k, frame) in timeline.frames.iter().enumerate().skip(1) {
            let mut crossed = false;
            while bounds.next_if(|b| *b <= frame.pts).is_some() {
                crossed = true;
            }
            if crossed {
                starts.push(k as u32);
            }
        }
        let total = timeline.frames.len() as u32;
        let ends = starts.iter().skip(1).copied().chain([total]);
        starts
            .iter()
            .zip(ends)
            .map(|(&start, end)| VideoSpan {
                frames: start..end,
                start: timeline.frames.get(start as usize).map_or(Ticks::ZERO, |f| f.pts),
                end: timeline.frame_end(end as usize - 1),
            })
            .collect()
    }

    /// Sound is cut at the packet nearest to each cut of the picture, and goes on in equal steps where it is longer;
    /// without a picture it is cut nearest to the boundaries.
    pub(super) fn audio(
        self,
        timeline: &AudioTimeline,
        codec: AudioCodec,
        video: Option<&VideoPlan>,
    ) -> Vec<Range<u32>> {
        let (packet_samples, priming) = (codec.packet_samples(), codec.priming_samples());
        let total = (timeline.samples + priming + packet_samples - 1).div_euclid(packet_samples);
        let rate = timeline.sample_rate;
        let step = Ticks::from_millis(self.segment_ms, rate);
        let cuts: Vec<Ticks> = match video {
            Some(video) => {
                let on_rate = |at: Ticks| at.rescale(video.timescale, rate);
                let end = video.segments.last().map_or(Ticks::ZERO, |s| on_rate(s.end));
                let tail = std::iter::successors(Some(end), |t| Some(*t + step));
                let tail = tail.take_while(|t| t.0 < timeline.samples);
                video.segments.iter().skip(1).map(|s| on_rate(s.start)).chain(tail).collect()
            }
            None => self.boundaries(rate).take_while(|t| t.0 < timeline.samples).collect(),
        };
        let mut out: Vec<Range<u32>> = Vec::new();
        let mut start = 0i64;
        for cut in cuts {
            let packet = (cut.0 + priming + packet_samples / 2).div_euclid(packet_samples);
            // A segment that presents nothing would have no duration.
            let presents = packet > start && packet * packet_samples > priming;
            if presents && packet < total {
                out.push(start as u32..packet as u32);
                start = packet;
            }
        }
        out.push(start as u32..total.min(i64::from(u32::MAX)) as u32);
        out
    }
}
