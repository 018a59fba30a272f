//! The planner: a pure function from index and profile to segments and tasks.
//!
//! All renditions cut at the same times, where decoding of the source can begin if that is near enough. The first segments
//! are short so that a video plays soon: 1, 1, 2, 4, 4, … seconds by default.

mod cut;
mod images;
mod reads;
mod tasks;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use images::{ImagePlan, PlannedImage};
pub use tasks::MAX_TASKS;

use crate::index::SourceIndex;
use crate::ladder::{AudioRung, Ladder};
use crate::profile::Profile;
use crate::task::{Class, Work};
use crate::time::{FrameRate, Ticks, Timescale};
use crate::timeline::{AudioTimeline, VideoTimeline};

/// The longest source that is planned, in microseconds: a week.
const LONGEST_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;

/// How a source is cut into segments and tasks. There is a picture or sound, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is made.
    pub ladder: Ladder,
    /// The picture's grid.
    pub video: Option<VideoPlan>,
    /// The grid of each audio rendition, in the ladder's order.
    pub audio: Vec<AudioPlan>,
    /// The stills.
    pub images: Option<ImagePlan>,
    /// The work, in the order in which it should be done.
    pub tasks: Vec<PlannedTask>,
    /// For each task, how far into the source it reads: the bytes before this one suffice for it.
    pub reads: Vec<u64>,
}

/// The segments of every video rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoPlan {
    /// Clock of all video renditions.
    pub timescale: Timescale,
    /// Mean frame rate.
    pub frame_rate: FrameRate,
    /// Of the source's presented frames every so many is kept, from the first on.
    pub every: u32,
    /// In order, without a gap.
    pub segments: Vec<VideoSpan>,
}

/// One video segment to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoSpan {
    /// Frames of the timeline, in presentation order; never empty.
    pub frames: Range<u32>,
    /// Presentation time of the first frame.
    pub start: Ticks,
    /// Where the last frame ends.
    pub end: Ticks,
}

/// The segments of one audio rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioPlan {
    /// Length and clock.
    pub timeline: AudioTimeline,
    /// What is made.
    pub rung: AudioRung,
    /// Packets of each segment, in order, without a gap. Packet n ends the encoder's delay, or presents the samples
    /// from n packets minus that delay on.
    pub segments: Vec<Range<u32>>,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedTask {
    /// What is to be done.
    pub work: Work,
    /// How urgent it is.
    pub class: Class,
    /// Estimated cost in milliseconds of one core.
    pub cost_ms: u64,
}

/// Why a source cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The edit list or the sample table presents nothing.
    #[error("the tracks present neither a frame nor a sound")]
    Nothing,
    /// Whatever lies in it, a plan walks the whole length.
    #[error("the source lasts for more than a week")]
    TooLong,
}

impl AudioPlan {
    /// Presentation span of segment `number` on the audio clock.
    pub fn span(&self, number: usize) -> Option<Range<Ticks>> {
        let packets = self.segments.get(number)?;
        let codec = self.rung.codec;
        let time = |packet: u32| {
            let samples = i64::from(packet) * codec.packet_samples() - codec.priming_samples();
            Ticks(samples.clamp(0, self.timeline.samples))
        };
        Some(time(packets.start)..time(packets.end))
    }

    /// Presentation length of the segments in microseconds.
    fn lengths(&self) -> impl Iterator<Item = i64> {
        (0..self.segments.len())
            .filter_map(|n| self.span(n))
            .map(|span| (span.end - span.start).micros(self.timeline.sample_rate))
    }
}

impl Plan {
    /// Cuts a source. `slots` is how many tasks the fleet runs at once: short sources are cut finer to fill it.
    pub fn new(index: &SourceIndex, profile: &Profile, slots: u32) -> Result<Plan, PlanError> {
        let whole = VideoTimeline::of(index);
        let rate = whole.as_ref().map_or(FrameRate { num: 30, den: 1 }, VideoTimeline::frame_rate);
        let every = profile.max_frame_rate.map_or(1, |most| rate.steps_to(most));
        let timeline = whole.map(|timeline| timeline.thinned(every));
        let rate = timeline.as_ref().map_or(rate, VideoTimeline::frame_rate);
        let mut ladder = Ladder::of(profile, index, rate);
        if timeline.is_none() {
            ladder.video.clear();
        }
        let sounds: Vec<(AudioRung, AudioTimeline)> = std::mem::take(&mut ladder.audio)
            .into_iter()
            .filter_map(|rung| {
                let timeline = AudioTimeline::of(index, rung.track as usize, rung.codec)?;
                Some((rung, timeline))
            })
            .collect();
        let picture_end = timeline.iter().map(|t| t.end.micros(t.timescale));
        let sound_ends = sounds.iter().map(|(_, sound)| Ticks(sound.samples).micros(sound.sample_rate));
        if picture_end.chain(sound_ends).any(|end| end > LONGEST_MICROS) {
            return Err(PlanError::TooLong);
        }
        let grid = cut::Grid::new(profile.segment_seconds);
        let video = index.video.as_ref().zip(timeline.as_ref()).map(|(track, timeline)| VideoPlan {
            timescale: timeline.timescale,
            frame_rate: timeline.frame_rate(),
            every,
            segments: grid.video(track, timeline),
        });
        let audio: Vec<AudioPlan> = sounds
            .into_iter()
            .map(|(rung, timeline)| {
                let segments = grid.audio(&timeline, rung.codec, video.as_ref());
                AudioPlan { timeline, rung, segments }
            })
            .collect();
        ladder.audio = audio.iter().map(|plan| plan.rung.clone()).collect();
        if ladder.video.is_empty() && audio.is_empty() {
            return Err(PlanError::Nothing);
        }
        let images = match (&video, &timeline) {
            (Some(video), Some(timeline)) => ImagePlan::of(&ladder, video, timeline),
            (Some(_) | None, Some(_) | None) => None,
        };
        let leads = match (&index.video, &timeline, &video) {
            (Some(track), Some(timeline), Some(video)) => tasks::lead_ins(track, timeline, &video.segments),
            (Some(_) | None, Some(_) | None, Some(_) | None) => Vec::new(),
        };
        let tasks = tasks::tasks(&ladder, video.as_ref(), &audio, &leads, &grid, slots.max(1));
        let reads = reads::reads(index, timeline.as_ref(), video.as_ref(), &audio, &tasks);
        Ok(Plan { ladder, video, audio, images, tasks, reads })
    }

    /// The longest segment of any rendition in whole seconds, rounded to nearest (RFC 8216bis §4.4.3.1).
    pub fn target_duration(&self) -> u32 {
        let video = self
            .video
            .iter()
            .flat_map(|video| video.segments.iter().map(|s| (s.end - s.start).micros(video.timescale)));
        let longest = video.chain(self.audio.iter().flat_map(AudioPlan::lengths)).max().unwrap_or(0);
        ((longest + 500_000) / 1_000_000).clamp(1, i64::from(u32::MAX)) as u32
    }

    /// Duration of the picture, or of the longest sound where there is none, in microseconds.
    pub fn duration_micros(&self) -> i64 {
        let picture =
            self.video.as_ref().and_then(|video| Some(video.segments.last()?.end.micros(video.timescale)));
        let sounds = self.audio.iter().map(|a| Ticks(a.timeline.samples).micros(a.timeline.sample_rate));
        picture.or(sounds.max()).unwrap_or(0)
    }

    /// The plan of an audio rendition.
    pub fn sound(&self, rendition: &crate::ids::RenditionId) -> Option<&AudioPlan> {
        self.audio.iter().find(|audio| audio.rung.id == *rendition)
    }
}
