//! Plans of sources whose end is still to come.
//!
//! What a beginning settles is planned: where it is cut, and tasks that read nothing beyond. A longer index goes on from
//! there, and what was planned stays as it is. Should it say otherwise of what was planned, nothing of that counts.

use super::inflow::{self, Inflow};
use super::layout::Layout;
use super::reads;
use super::tasks::{MAX_TASKS, Reach};
use super::{AudioPlan, Plan, PlanError, PlannedTask, part};
use crate::ids::RenditionId;
use crate::index::{AudioTrack, SourceIndex, VideoTrack};
use crate::ladder::Rung;
use crate::profile::Profile;
use crate::task::Work;
use crate::timeline::VideoTimeline;

/// Less than this, in milliseconds, says too little of a source: millisecond clocks tell 23.976 from 24 frames a second
/// after two seconds.
const LEAST_MS: u64 = 4_000;
/// Most chunks are settled when so much more is known than their length, in milliseconds: the key frame that follows.
const SETTLES_MS: u64 = 100;
/// Reading all again is worth an eighth more: then all of it is read nine times at most.
const PARTS_OF_GROWTH: u64 = 8;
/// Up to so many bytes are read again in a fifth of a second, from a worker's memory.
const CHEAP_BYTES: u64 = 64 << 20;
/// Of so few a thirty-second is worth it, and half of what another chunk should take: where the picture gets calm, it is there
/// long before.
const PARTS_WHILE_CHEAP: u64 = 32;
/// Towards the end it is worth half of what is still to come, or that would all be planned, and made, when everything is there; but
/// not less than this part, so that it is read four times more at most.
const LEAST_PARTS_OF_GROWTH: u64 = 64;
/// What is planned at once of a beginning takes no more tasks than this. Chunks last for the longer the more is there, so that
/// all beginnings of a source take this many times the logarithm of its length.
const ROOM_AT_ONCE: usize = MAX_TASKS / 4;
/// Beyond so many tasks the rest is left to the plan of the whole: that of a source of several days.
const MOST_TASKS: usize = MAX_TASKS / 4 * 3;

/// How much of a source an index speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole {
        /// As in [`Plan::new`].
        slots: u32,
    },
    /// Its first so many bytes: a [settled](SourceIndex::settled) index.
    Beginning {
        /// How many.
        bytes: u64,
    },
}

/// Why there is no plan of a source that grows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrowthError {
    /// It is too short yet.
    #[error("too little of the source is there; about {upto} bytes may be enough")]
    TooShort {
        /// How many bytes may be enough.
        upto: u64,
    },
    /// The longer index says otherwise of what was planned.
    #[error("the source is not what its beginning said")]
    Differs,
    /// There is none of the whole either.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Plan {
    /// Plans what the first `bytes` of a source settle: enough of it to play, or nothing.
    pub fn of_beginning(
        index: &SourceIndex,
        profile: &Profile,
        bytes: u64,
        inflow: Option<Inflow>,
    ) -> Result<Plan, GrowthError> {
        let nothing = || GrowthError::TooShort { upto: bytes.saturating_mul(2) };
        let layout = match Layout::of(index, profile, None, inflow) {
            Err(PlanError::Nothing) => return Err(nothing()),
            layout => layout?,
        };
        let all_begun = index.audio.iter().all(|track| track.span().is_some())
            && layout.timeline.is_some() == index.video.is_some();
        if !all_begun {
            return Err(nothing());
        }
        let settled = layout.settled();
        let tasks = layout.tasks(None, &settled, ROOM_AT_ONCE);
        let mut plan = layout.plan(index, tasks).within(0, bytes);
        plan.told_target = Some(plan.longest_made().max(profile.segment_seconds));
        let begins = plan.ladder.video.iter().map(|r| &r.id).chain(plan.ladder.audio.iter().map(|r| &r.id));
        let plays = begins.map(|id| made(&plan.tasks, id)).all(|made| made > 0);
        let there_ms = plan.length_ms().max(1);
        match (plays, there_ms >= LEAST_MS) {
            (true, true) => Ok(plan),
            (false, true) => Err(GrowthError::TooShort { upto: bytes.saturating_add(bytes / 2) }),
            // What the first frames cost says little of the next ones, least of all where few of them are settled.
            (_, false) => {
                let upto = part(bytes, LEAST_MS + LEAST_MS / 4, there_ms);
                Err(GrowthError::TooShort { upto: upto.min(bytes.saturating_mul(2)) })
            }
        }
    }

    /// Goes on from a plan of the beginning, which was made of the index `was`: its tasks come first, as they are.
    pub fn continued(
        &self,
        was: &SourceIndex,
        now: &SourceIndex,
        profile: &Profile,
        extent: Extent,
        inflow: Option<Inflow>,
    ) -> Result<Plan, GrowthError> {
        let layout = match Layout::of(now, profile, Some(self), inflow) {
            Err(PlanError::Nothing) => return Err(GrowthError::Differs),
            layout => layout?,
        };
        if !self.is_confirmed(was, now, &layout) {
            return Err(GrowthError::Differs);
        }
        let before = self.tasks.len();
        let (slots, upto, room) = match extent {
            Extent::Whole { slots } => (Some(slots), layout.whole(), MAX_TASKS.saturating_sub(before)),
            Extent::Beginning { .. } => (None, layout.settled(), ROOM_AT_ONCE),
        };
        let reach = Reach {
            lanes: self.ladder.lanes().zip(upto.lanes).map(|(lane, to)| self.of_lane(lane)..to.end).collect(),
            sounds: self
                .audio
                .iter()
                .zip(upto.sounds)
                .map(|(a, to)| made(&self.tasks, &a.rung.id)..to.end)
                .collect(),
        };
        let mut tasks = self.tasks.clone();
        if slots.is_some() || before < MOST_TASKS {
            tasks.extend(layout.tasks(slots, &reach, room));
        }
        let plan = Plan { told_target: self.told_target, ..layout.plan(now, tasks) };
        let plan = match extent {
            Extent::Whole { .. } => plan,
            Extent::Beginning { bytes } => plan.within(before, bytes),
        };
        if plan.longest_made() <= plan.target_duration() { Ok(plan) } else { Err(GrowthError::Differs) }
    }

    /// With how many bytes it is worth while to go on from this plan of the first `bytes`.
    pub fn goes_on_at(&self, bytes: u64, inflow: Option<Inflow>) -> u64 {
        let there_ms = self.length_ms().max(1);
        // A chunk is a segment at least.
        let chunk_ms = inflow::chunk_ms(inflow, there_ms).max(u64::from(self.target_duration()) * 1000);
        let settled_ms = self.planned_ms() + chunk_ms + SETTLES_MS;
        let next_ms = settled_ms.min(there_ms.saturating_mul(2));
        let rest = inflow.and_then(|inflow| inflow.rest(bytes)).unwrap_or(u64::MAX);
        let is_cheap = bytes <= CHEAP_BYTES;
        let parts = if is_cheap { PARTS_WHILE_CHEAP } else { PARTS_OF_GROWTH };
        let more = (rest / 2).clamp(bytes / LEAST_PARTS_OF_GROWTH, bytes / parts);
        let expected = part(bytes, next_ms, there_ms).saturating_sub(bytes);
        let soon = if is_cheap { expected / 2 } else { expected };
        bytes.saturating_add(soon.max(more))
    }

    /// Without tasks, from number `from` on, that need more than the first `bytes`, and those that come after them.
    fn within(mut self, from: usize, bytes: u64) -> Plan {
        let mut ended: Vec<RenditionId> = Vec::new();
        let mut kept = Vec::new();
        for (n, (task, reads)) in self.tasks.into_iter().zip(self.reads).enumerate() {
            let ids = task.work.renditions();
            if n < from || (reads <= bytes && !ids.iter().any(|id| ended.contains(id))) {
                kept.push((task, reads));
            } else {
                ended.extend(ids.iter().cloned());
            }
        }
        (self.tasks, self.reads) = kept.into_iter().unzip();
        self
    }

    /// Segments of a lane that its tasks make.
    fn of_lane(&self, lane: &[Rung]) -> u32 {
        lane.iter().map(|rung| made(&self.tasks, &rung.id)).min().unwrap_or(0)
    }

    /// Segments of the picture that tasks make, of any rendition.
    fn pictures_made(&self) -> u32 {
        self.ladder.video.iter().map(|rung| made(&self.tasks, &rung.id)).max().unwrap_or(0)
    }

    /// How long that is of which every rendition's tasks are planned, in milliseconds.
    fn planned_ms(&self) -> u64 {
        let pictures = self.video.iter().flat_map(|video| {
            self.ladder.lanes().map(move |lane| {
                let last = self.of_lane(lane).checked_sub(1).and_then(|n| video.segments.get(n as usize));
                last.map_or(0, |span| span.end.micros(video.timescale) / 1000)
            })
        });
        let sounds = self.audio.iter().filter(|_| self.video.is_none()).map(|audio| {
            let last = made(&self.tasks, &audio.rung.id).checked_sub(1).and_then(|n| audio.span(n as usize));
            last.map_or(0, |span| span.end.micros(audio.timeline.sample_rate) / 1000)
        });
        u64::try_from(pictures.chain(sounds).min().unwrap_or(0)).unwrap_or(0)
    }

    fn length_ms(&self) -> u64 {
        u64::try_from(self.duration_micros() / 1000).unwrap_or(0)
    }

    /// The longest segment that tasks make, as [`Plan::target_duration`] has it.
    fn longest_made(&self) -> u32 {
        self.longest(self.pictures_made() as usize, |audio| made(&self.tasks, &audio.rung.id) as usize)
    }

    /// Whether all that its tasks are made of is the same in a longer index.
    fn is_confirmed(&self, was: &SourceIndex, now: &SourceIndex, next: &Layout) -> bool {
        let same_picture = match (&was.video, &now.video) {
            (None, None) => true,
            (Some(was_track), Some(now_track)) => {
                same_track(was_track, now_track) && self.frames_are_the_same(was, now, next)
            }
            (Some(_), None) | (None, Some(_)) => false,
        };
        let mut sounds = was.audio.iter().zip(&now.audio);
        was.container == now.container
            && was.audio.len() == now.audio.len()
            && self.ladder == next.ladder
            && same_picture
            && sounds.all(|(was, now)| same_sound(was, now))
            && self
                .audio
                .iter()
                .zip(&next.audio)
                .all(|(one, other)| self.sound_is_the_same(one, other, was, now))
    }

    fn frames_are_the_same(&self, was: &SourceIndex, now: &SourceIndex, next: &Layout) -> bool {
        let (Some(video), Some(then), Some(timeline)) = (&self.video, VideoTimeline::of(was), &next.timeline)
        else {
            return false;
        };
        let (Some(was), Some(now)) = (&was.video, &now.video) else { return false };
        let then = then.thinned(video.every);
        let spans = self.pictures_made() as usize;
        let frames =
            spans.checked_sub(1).and_then(|n| video.segments.get(n)).map_or(0, |s| s.frames.end as usize);
        let samples = then.frames.iter().take(frames).map(|f| f.sample as usize + 1).max().unwrap_or(0);
        let cuts = next.video.as_ref().and_then(|next| next.segments.get(..spans));
        then.timescale == timeline.timescale
            && then.frames.get(..frames) == timeline.frames.get(..frames)
            && was.samples.get(..samples) == now.samples.get(..samples)
            && video.segments.get(..spans) == cuts
    }

    fn sound_is_the_same(
        &self,
        one: &AudioPlan,
        other: &AudioPlan,
        was: &SourceIndex,
        now: &SourceIndex,
    ) -> bool {
        let tracks = (was.audio.get(one.rung.track as usize), now.audio.get(one.rung.track as usize));
        let (Some(was), Some(now)) = tracks else { return false };
        let segments = made(&self.tasks, &one.rung.id) as usize;
        let count = reads::packets_of_source(one, was, segments as u32).unwrap_or(0);
        let (then, after) = (&one.timeline, &other.timeline);
        (then.sample_rate, then.zero, then.start) == (after.sample_rate, after.zero, after.start)
            && one.segments.get(..segments) == other.segments.get(..segments)
            && was.samples.get(..count) == now.samples.get(..count)
    }
}

impl Layout {
    /// What no byte to come can change: of the picture the segments of which the end is known, and sound that is encoded
    /// without the end of what is there.
    fn settled(&self) -> Reach {
        let pictures = self.settled_pictures;
        // Sound is cut at the packet nearest to each cut of the picture.
        let last = self.video.as_ref().and_then(|video| {
            let last = video.segments.get((pictures as usize).checked_sub(1)?)?;
            Some((last.end, video.timescale))
        });
        let sound = |audio: &AudioPlan| {
            let rate = audio.timeline.sample_rate;
            let there = audio.timeline.samples - reads::samples_after(audio).0;
            let beside = match (&self.video, last) {
                (Some(_), Some((end, clock))) => {
                    end.rescale(clock, rate).0 + audio.rung.codec.packet_samples() / 2
                }
                (Some(_), None) => 0,
                (None, _) => there,
            };
            let open = audio.segments.len().saturating_sub(1);
            let ends = (0..open).filter_map(|n| audio.span(n)).take_while(|s| s.end.0 <= there.min(beside));
            ends.count() as u32
        };
        Reach {
            lanes: self.ladder.lanes().map(|_| 0..pictures).collect(),
            sounds: self.audio.iter().map(|audio| 0..sound(audio)).collect(),
        }
    }
}

/// Segments of a rendition that tasks make, from the first on.
fn made(tasks: &[PlannedTask], id: &RenditionId) -> u32 {
    let ends = tasks.iter().filter(|task| task.work.renditions().contains(id)).map(|task| match &task.work {
        Work::Video { segments, .. } | Work::Audio { segments, .. } => segments.end,
        Work::Index => 0,
    });
    ends.max().unwrap_or(0)
}

fn same_track(one: &VideoTrack, other: &VideoTrack) -> bool {
    let facts = |track: &VideoTrack| (track.stream, track.timescale, track.picture, track.window.start);
    facts(one) == facts(other) && one.setup == other.setup
}

fn same_sound(one: &AudioTrack, other: &AudioTrack) -> bool {
    let facts = |track: &AudioTrack| {
        (track.stream, track.timescale, track.sample_rate, track.channels, track.window.start)
    };
    facts(one) == facts(other) && one.setup == other.setup && one.language == other.language
}
