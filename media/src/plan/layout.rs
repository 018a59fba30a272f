//! What is made of a source and where it is cut, before anything is said of who makes it.

use super::cost::PictureCosts;
use super::cut::Grid;
use super::inflow::{self, Inflow};
use super::tasks::{self, Reach};
use super::{AudioPlan, ImagePlan, Plan, PlanError, PlannedTask, VideoPlan, reads};
use crate::index::SourceIndex;
use crate::ladder::{AudioRung, Ladder};
use crate::profile::Profile;
use crate::time::{FrameRate, Ticks};
use crate::timeline::{AudioTimeline, VideoTimeline};

/// The longest source that is planned, in microseconds: a week.
const LONGEST_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;

/// A plan without its tasks.
pub(super) struct Layout {
    pub(super) ladder: Ladder,
    /// The frames that are kept.
    pub(super) timeline: Option<VideoTimeline>,
    pub(super) video: Option<VideoPlan>,
    pub(super) audio: Vec<AudioPlan>,
    images: Option<ImagePlan>,
    /// There where a picture is.
    pub(super) costs: Option<PictureCosts>,
    pub(super) grid: Grid,
    /// So many segments of the picture end where they do, whatever is still to come.
    pub(super) settled_pictures: u32,
    /// A chunk should be no longer than this, in milliseconds, unless its segments are.
    pub(super) chunk_ms: u64,
}

impl Layout {
    /// As far as `index` goes, of a source that comes in like this, if it still does. The rate of frames is what an earlier
    /// plan has said.
    pub(super) fn of(
        index: &SourceIndex,
        profile: &Profile,
        earlier: Option<&Plan>,
        inflow: Option<Inflow>,
    ) -> Result<Layout, PlanError> {
        let said = earlier.and_then(|plan| plan.video.as_ref());
        let whole = VideoTimeline::of(index);
        let rate = whole.as_ref().map_or(FrameRate { num: 30, den: 1 }, VideoTimeline::frame_rate);
        let every = match said {
            Some(video) => video.every,
            None => profile.max_frame_rate.map_or(1, |most| rate.steps_to(most)),
        };
        let timeline = whole.map(|timeline| timeline.thinned(every));
        let mean = timeline.as_ref().map_or(rate, VideoTimeline::frame_rate);
        let rate = said.map_or(mean, |video| video.frame_rate);
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
        let length_ms =
            timeline.as_ref().map_or(0, |t| t.end.micros(t.timescale).max(0).unsigned_abs() / 1000);
        let chunk_ms = inflow::chunk_ms(inflow, length_ms);
        let grid = Grid::new(profile.segment_seconds);
        let picture = index.video.as_ref().zip(timeline.as_ref());
        let cut = picture.map(|(track, timeline)| (grid.video(track, timeline), timeline.timescale));
        let settled_pictures = cut.as_ref().map_or(0, |((_, settled), _)| *settled);
        let video =
            cut.map(|((segments, _), timescale)| VideoPlan { timescale, frame_rate: rate, every, segments });
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
        let costs = match (&index.video, &timeline, &video) {
            (Some(track), Some(timeline), Some(video)) => {
                Some(PictureCosts::of(track, timeline, &video.segments))
            }
            (Some(_) | None, Some(_) | None, Some(_) | None) => None,
        };
        Ok(Layout { ladder, timeline, video, audio, images, costs, grid, settled_pictures, chunk_ms })
    }

    /// Everything that there is.
    pub(super) fn whole(&self) -> Reach {
        let pictures = self.video.as_ref().map_or(0, |video| video.segments.len() as u32);
        Reach {
            lanes: self.ladder.lanes().map(|_| 0..pictures).collect(),
            sounds: self.audio.iter().map(|audio| 0..audio.segments.len() as u32).collect(),
        }
    }

    /// The tasks for a part of it; see [`tasks::tasks`].
    pub(super) fn tasks(&self, slots: Option<u32>, reach: &Reach, room: usize) -> Vec<PlannedTask> {
        tasks::tasks(self, slots, reach, room)
    }

    /// With these tasks.
    pub(super) fn plan(self, index: &SourceIndex, tasks: Vec<PlannedTask>) -> Plan {
        let Layout { ladder, timeline, video, audio, images, .. } = self;
        let reads = reads::reads(index, timeline.as_ref(), video.as_ref(), &audio, &tasks);
        Plan { ladder, video, audio, images, tasks, reads, told_target: None }
    }
}
