//! The planner: a pure function from index and profile to segments and tasks.
//!
//! All renditions cut at the same times, where decoding of the source can begin if that is near enough. The first segments
//! are short so that a video plays soon: 1, 1, 2, 4, 4, … seconds by default.

mod chunking;
mod cost;
mod cut;
mod growth;
mod images;
mod inflow;
mod layout;
mod reads;
mod slots;
mod tasks;

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize};

pub use growth::{Extent, GrowthError};
pub use images::{ImagePlan, PlannedImage};
pub use inflow::Inflow;
pub use tasks::MAX_TASKS;

use layout::Layout;

use crate::index::SourceIndex;
use crate::ladder::{AudioRung, Ladder};
use crate::profile::Profile;
use crate::task::{Class, Work};
use crate::time::{FrameRate, Ticks, Timescale};
use crate::timeline::AudioTimeline;

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
    /// The target duration in seconds that players were told of a beginning, before all lengths were known.
    #[serde(default, deserialize_with = "or_nothing")]
    pub told_target: Option<u32>,
}

/// Plans that were written before there was such a field end without it.
fn or_nothing<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    Ok(Option::deserialize(from).unwrap_or(None))
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
    /// Cuts a source. `slots` is how many tasks the fleet runs at once: chunks are such that they would all be done with this
    /// source at about the same time.
    pub fn new(index: &SourceIndex, profile: &Profile, slots: u32) -> Result<Plan, PlanError> {
        Self::arriving(index, profile, slots, None)
    }

    /// The same while it still comes in, like this.
    pub fn arriving(
        index: &SourceIndex,
        profile: &Profile,
        slots: u32,
        inflow: Option<Inflow>,
    ) -> Result<Plan, PlanError> {
        let layout = Layout::of(index, profile, None, inflow)?;
        let tasks = layout.tasks(Some(slots), &layout.whole(), MAX_TASKS);
        Ok(layout.plan(index, tasks))
    }

    /// The longest segment of any rendition in whole seconds, rounded to nearest (RFC 8216bis §4.4.3.1).
    pub fn target_duration(&self) -> u32 {
        self.told_target.unwrap_or_else(|| {
            let pictures = self.video.as_ref().map_or(0, |video| video.segments.len());
            self.longest(pictures, |audio| audio.segments.len())
        })
    }

    /// The longest of so many segments of the picture, and of each sound, in whole seconds.
    fn longest(&self, pictures: usize, sounds: impl Fn(&AudioPlan) -> usize) -> u32 {
        let video = self.video.iter().flat_map(|video| {
            video.segments.iter().take(pictures).map(|s| (s.end - s.start).micros(video.timescale))
        });
        let audio = self.audio.iter().flat_map(|audio| audio.lengths().take(sounds(audio)));
        let longest = video.chain(audio).max().unwrap_or(0);
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

/// `amount × to / of`.
fn part(amount: u64, to: u64, of: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(to) / u128::from(of.max(1))).unwrap_or(u64::MAX)
}
