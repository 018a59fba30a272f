//! How far into the source each task reads.

use std::ops::Range;

use super::{AudioPlan, Plan, PlannedTask, VideoPlan};
use crate::ids::RenditionId;
use crate::index::{AudioTrack, Container, Sample, SourceIndex};
use crate::task::Work;
use crate::time::Ticks;
use crate::timeline::VideoTimeline;

/// A decoder of sound is fed at most this much after the sound wanted of it, in milliseconds …
const AFTER_SOUND_MS: i64 = 250;
/// … and so many packets of the encoder's.
const AFTER_SOUND_PACKETS: i64 = 3;
/// Samples of a track after which one lies whole in its container: packets of a transport stream and groups of frames
/// overlap.
const SAMPLES_AFTER: usize = 2;

/// Where tracks lie in the source.
struct Track {
    /// Samples lie where the index says, each by itself.
    by_range: bool,
    /// By sample: where the last byte of it and of those before it lies.
    ends: Vec<u64>,
}

impl Track {
    fn of(container: Container, samples: &[Sample]) -> Track {
        let mut far = 0;
        let ends = samples.iter().map(|sample| {
            far = sample.offset.saturating_add(u64::from(sample.bytes)).max(far);
            far
        });
        Track { by_range: container == Container::Mp4, ends: ends.collect() }
    }

    /// Where the first `count` samples have ended.
    fn end(&self, count: usize) -> u64 {
        // Where only a demuxer knows what belongs to a sample, the next ones say that it has ended.
        let last = if self.by_range { count.min(self.ends.len()) } else { count + SAMPLES_AFTER };
        match last.checked_sub(1) {
            Some(last) => self.ends.get(last).copied().unwrap_or(u64::MAX),
            None => 0,
        }
    }
}

/// What a task of sound reads beyond its own, in output samples.
pub(super) fn samples_after(plan: &AudioPlan) -> Ticks {
    let packets = Ticks(AFTER_SOUND_PACKETS * plan.rung.codec.packet_samples());
    packets + Ticks::from_millis(AFTER_SOUND_MS, plan.timeline.sample_rate)
}

/// How many packets of the source, from its first on, the segments before `end` are made of.
pub(super) fn packets_of_source(plan: &AudioPlan, track: &AudioTrack, end: u32) -> Option<usize> {
    let last = plan.segments.get((end as usize).checked_sub(1)?)?.end;
    let samples = Ticks(i64::from(last) * plan.rung.codec.packet_samples()) + samples_after(plan);
    let end = samples.rescale(plan.timeline.sample_rate, track.timescale) + plan.timeline.zero;
    Some(track.samples.partition_point(|sample| sample.pts < end))
}

/// For each task, the first byte of the source that it can do without, with all bytes after that; the end of time where it
/// needs all.
pub(super) fn reads(
    index: &SourceIndex,
    timeline: Option<&VideoTimeline>,
    video: Option<&VideoPlan>,
    audio: &[AudioPlan],
    tasks: &[PlannedTask],
) -> Vec<u64> {
    let picture = index.video.as_ref().map(|track| Track::of(index.container, &track.samples));
    let sounds: Vec<Track> =
        index.audio.iter().map(|track| Track::of(index.container, &track.samples)).collect();
    let of_video = |segments: &Range<u32>| {
        let spans = video?.segments.get(segments.start as usize..segments.end as usize)?;
        let frames = spans.first()?.frames.start as usize..spans.last()?.frames.end as usize;
        let last = timeline?.frames.get(frames)?.iter().map(|frame| frame.sample).max()?;
        Some(picture.as_ref()?.end(last as usize + 1))
    };
    let of_sound = |rendition: &RenditionId, segments: &Range<u32>| {
        let plan = audio.iter().find(|plan| plan.rung.id == *rendition)?;
        let count = packets_of_source(plan, index.audio.get(plan.rung.track as usize)?, segments.end)?;
        Some(sounds.get(plan.rung.track as usize)?.end(count))
    };
    let read = tasks.iter().map(|task| {
        let known = match &task.work {
            Work::Index => None,
            Work::Video { segments, .. } => of_video(segments),
            Work::Audio { rendition, segments } => of_sound(rendition, segments),
        };
        known.unwrap_or(u64::MAX)
    });
    read.collect()
}

impl Plan {
    /// How many tasks, in their order, need no more than the first `bytes` of the source.
    pub fn released(&self, bytes: u64) -> u32 {
        self.reads.iter().take_while(|end| **end <= bytes).count() as u32
    }
}
