//! The planner: a pure function from index and ladder to segments and tasks.
//!
//! All renditions cut at the same times: the start of segment k is the first frame at or after a boundary of the
//! absolute grid 0, 1, 2, 4, 8, 12, … seconds. The first segments are short so that a video plays soon.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::index::{SourceIndex, VideoTrack};
use crate::ladder::{AudioRung, Ladder, Rung};
use crate::task::{Class, Work};
use crate::time::{FrameRate, Ticks, Timescale};
use crate::timeline::{AudioTimeline, VideoTimeline};

/// Samples in one AAC packet (ISO 14496-3 §4.5.2.1.1).
pub const AAC_PACKET_SAMPLES: i64 = 1024;

/// Packets of encoder delay before the first presented sample, declared in the init segment's edit list.
pub const AAC_PRIMING_PACKETS: u32 = 1;

/// Boundaries of the first segments, in milliseconds; after them one every [`SEGMENT_MS`].
const FIRST_BOUNDARIES_MS: [i64; 3] = [1000, 2000, 4000];

/// Length of a segment, in milliseconds.
const SEGMENT_MS: i64 = 4000;

/// A chunk is no longer than this, in milliseconds: what a lost worker costs.
const CHUNK_MS: i64 = 8000;

/// Sound is cheap: one audio task covers this much, in milliseconds.
const AUDIO_CHUNK_MS: i64 = 120_000;

/// The longest source that is planned, in microseconds: a week.
const LONGEST_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;

/// A job never has more tasks than this; longer sources get longer chunks.
pub const MAX_TASKS: usize = 8192;

/// How a source is cut into segments and tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is made.
    pub ladder: Ladder,
    /// The picture's grid.
    pub video: VideoPlan,
    /// The sound's grid.
    pub audio: Option<AudioPlan>,
    /// The work, in the order in which it should be done.
    pub tasks: Vec<PlannedTask>,
}

/// The segments of every video rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoPlan {
    /// Clock of all video renditions.
    pub timescale: Timescale,
    /// Mean frame rate.
    pub frame_rate: FrameRate,
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

/// The segments of the audio rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioPlan {
    /// Length and clock.
    pub timeline: AudioTimeline,
    /// What is made.
    pub rung: AudioRung,
    /// Packets of each segment, in order, without a gap. Packet 0 is the encoder's delay; packet n presents the
    /// samples from (n − 1) × 1024.
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
    #[error("the video track presents no frame")]
    NoFrames,
    /// Whatever lies in it, a plan walks the whole length.
    #[error("the source lasts for more than a week")]
    TooLong,
}

impl AudioPlan {
    /// Presentation span of segment `number` on the audio clock.
    pub fn span(&self, number: usize) -> Option<Range<Ticks>> {
        let packets = self.segments.get(number)?;
        let time = |packet: u32| {
            let samples = (i64::from(packet) - i64::from(AAC_PRIMING_PACKETS)) * AAC_PACKET_SAMPLES;
            Ticks(samples.clamp(0, self.timeline.samples))
        };
        Some(time(packets.start)..time(packets.end))
    }
}

impl Plan {
    /// Cuts a source. `slots` is how many tasks the fleet runs at once: short sources are cut finer to fill it.
    pub fn new(index: &SourceIndex, ladder: Ladder, slots: u32) -> Result<Plan, PlanError> {
        let timeline = VideoTimeline::of(index).ok_or(PlanError::NoFrames)?;
        let sound = AudioTimeline::of(index);
        let ends = [
            timeline.end.micros(timeline.timescale),
            sound.as_ref().map_or(0, |sound| Ticks(sound.samples).micros(sound.sample_rate)),
        ];
        if ends.into_iter().any(|end| end > LONGEST_MICROS) {
            return Err(PlanError::TooLong);
        }
        let segments = cut_video(&timeline);
        let video = VideoPlan { timescale: timeline.timescale, frame_rate: timeline.frame_rate(), segments };
        let audio = match (sound, &ladder.audio) {
            (Some(timeline), Some(rung)) => {
                let segments = cut_audio(&timeline, &video);
                Some(AudioPlan { timeline, rung: rung.clone(), segments })
            }
            (None, _) | (_, None) => None,
        };
        let leads = lead_ins(&index.video, &timeline, &video.segments);
        let tasks = tasks(&ladder, &video, audio.as_ref(), &leads, slots.max(1));
        Ok(Plan {
            ladder: Ladder { audio: audio.as_ref().map(|a| a.rung.clone()), ..ladder },
            video,
            audio,
            tasks,
        })
    }

    /// The longest segment of any rendition in whole seconds, rounded to nearest (RFC 8216bis §4.4.3.1).
    pub fn target_duration(&self) -> u32 {
        let video = self.video.segments.iter().map(|s| (s.end - s.start).micros(self.video.timescale));
        let audio = self.audio.iter().flat_map(|plan| {
            (0..plan.segments.len())
                .filter_map(|n| plan.span(n))
                .map(|span| (span.end - span.start).micros(plan.timeline.sample_rate))
        });
        let longest = video.chain(audio).max().unwrap_or(0);
        ((longest + 500_000) / 1_000_000).clamp(1, i64::from(u32::MAX)) as u32
    }

    /// Duration of the picture, in microseconds.
    pub fn duration_micros(&self) -> i64 {
        self.video.segments.last().map_or(0, |s| s.end.micros(self.video.timescale))
    }
}

/// Grid boundaries after 0, in ticks of `clock`.
fn boundaries(clock: Timescale) -> impl Iterator<Item = Ticks> {
    let first = FIRST_BOUNDARIES_MS.into_iter();
    let start = FIRST_BOUNDARIES_MS[FIRST_BOUNDARIES_MS.len() - 1];
    let rest = (1..).map(move |k: i64| start + k * SEGMENT_MS);
    first.chain(rest).map(move |ms| Ticks::from_millis(ms, clock))
}

fn cut_video(timeline: &VideoTimeline) -> Vec<VideoSpan> {
    let mut starts: Vec<u32> = vec![0];
    let mut bounds = boundaries(timeline.timescale).peekable();
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

/// Sound is cut at the packet nearest to each video cut, and goes on in steps of [`SEGMENT_MS`] where it is longer
/// than the picture.
fn cut_audio(timeline: &AudioTimeline, video: &VideoPlan) -> Vec<Range<u32>> {
    let total = timeline.samples.div_euclid(AAC_PACKET_SAMPLES)
        + i64::from(timeline.samples.rem_euclid(AAC_PACKET_SAMPLES) > 0)
        + i64::from(AAC_PRIMING_PACKETS);
    let cuts = video.segments.iter().skip(1).map(|s| s.start.rescale(video.timescale, timeline.sample_rate));
    let picture_end =
        video.segments.last().map_or(Ticks::ZERO, |s| s.end.rescale(video.timescale, timeline.sample_rate));
    let step = Ticks::from_millis(SEGMENT_MS, timeline.sample_rate);
    let tail =
        std::iter::successors(Some(picture_end), |t| Some(*t + step)).take_while(|t| t.0 < timeline.samples);
    let mut out: Vec<Range<u32>> = Vec::new();
    let mut start = 0i64;
    for cut in cuts.chain(tail) {
        let packet = (cut.0 + AAC_PACKET_SAMPLES / 2) / AAC_PACKET_SAMPLES + i64::from(AAC_PRIMING_PACKETS);
        // A segment that presents nothing would have no duration.
        if packet > start + i64::from(AAC_PRIMING_PACKETS) && packet < total {
            out.push(start as u32..packet as u32);
            start = packet;
        }
    }
    out.push(start as u32..total.min(i64::from(u32::MAX)) as u32);
    out
}

/// For each segment, how many samples must be decoded before its first frame comes out.
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

/// Groups segments into chunks of about `length` (ticks): of the cuts between half and the whole of it, the one that
/// wastes least decoding.
fn chunks(video: &VideoPlan, from: u32, leads: &[u32], length: Ticks) -> Vec<Range<u32>> {
    let count = video.segments.len() as u32;
    let mut out = Vec::new();
    let mut start = from;
    while start < count {
        let origin = video.segments[start as usize].start;
        let fits = |end: u32| video.segments[end as usize - 1].end - origin <= length;
        let longest =
            (start + 1..=count).take_while(|end| *end == start + 1 || fits(*end)).last().unwrap_or(start + 1);
        let shortest = start + 1 + (longest - start - 1) / 2;
        let end = if longest == count {
            count
        } else {
            (shortest..=longest)
                .rev()
                .min_by_key(|end| leads.get(*end as usize).copied().unwrap_or(0))
                .unwrap_or(longest)
        };
        out.push(start..end);
        start = end;
    }
    out
}

fn tasks(
    ladder: &Ladder,
    video: &VideoPlan,
    audio: Option<&AudioPlan>,
    leads: &[u32],
    slots: u32,
) -> Vec<PlannedTask> {
    let all: Vec<_> = ladder.video.iter().collect();
    let lowest = &all[..all.len().min(1)];
    let rest = &all[all.len().min(1)..];
    let video_task = |segments: Range<u32>, rungs: &[&Rung], class| PlannedTask {
        cost_ms: video_cost_ms(video, &segments, rungs, leads),
        work: Work::Video { segments, rungs: rungs.iter().map(|r| r.id.clone()).collect() },
        class,
    };

    // What makes the video playable: the first segment of the lowest rung, and the sound beside it.
    let mut out = vec![video_task(0..1, lowest, Class::Publish)];
    let mut sound = audio.map(audio_chunks).unwrap_or_default().into_iter();
    out.extend(sound.next());
    if !rest.is_empty() {
        out.push(video_task(0..1, rest, Class::Publish));
    }

    let total = video.segments.last().map_or(Ticks::ZERO, |s| s.end);
    let longest = Ticks::from_millis(CHUNK_MS, video.timescale);
    let shortest = Ticks::from_millis(SEGMENT_MS, video.timescale);
    let share = Ticks(total.0 / i64::from(slots) / 2).max(shortest).min(longest);
    // Beyond the limit chunks grow instead of their number.
    let length = share.max(Ticks(total.0 / (MAX_TASKS as i64 / 4)));
    let mut sound = sound.peekable();
    for segments in chunks(video, 1, leads, length) {
        let end = segments.end;
        out.push(video_task(segments, &all, Class::Ladder));
        out.extend(std::iter::from_fn(|| sound.next_if(|task| starts_before(task, end))));
    }
    out.extend(sound);
    out
}

/// Audio and video segments are numbered alike as long as there is picture.
fn starts_before(task: &PlannedTask, segment: u32) -> bool {
    match &task.work {
        Work::Audio { segments } => segments.start < segment,
        Work::Video { .. } | Work::Index => false,
    }
}

/// Cost of decoding and encoding, from measurements at the default preset on one core of 2023: per megapixel, decode
/// 5.4 ms, encode with scaling 15 ms.
fn video_cost_ms(video: &VideoPlan, segments: &Range<u32>, rungs: &[&Rung], leads: &[u32]) -> u64 {
    const ENCODE_US_PER_MEGAPIXEL: u64 = 15_000;
    const DECODE_US_PER_MEGAPIXEL: u64 = 5_400;
    let Some(spans) = video.segments.get(segments.start as usize..segments.end as usize) else { return 0 };
    let frames: u64 = spans.iter().map(|s| u64::from(s.frames.end - s.frames.start)).sum();
    let lead = u64::from(leads.get(segments.start as usize).copied().unwrap_or(0));
    let pixels = |r: &Rung| u64::from(r.width) * u64::from(r.height);
    let encoded: u64 = rungs.iter().map(|r| pixels(r)).sum();
    let decoded = rungs.iter().map(|r| pixels(r)).max().unwrap_or(0);
    let micros =
        frames * encoded * ENCODE_US_PER_MEGAPIXEL + (frames + lead) * decoded * DECODE_US_PER_MEGAPIXEL;
    (micros / 1_000_000_000).max(1)
}

/// The first task is short, since a publish waits for it; the others are long, since sound is cheap.
fn audio_chunks(audio: &AudioPlan) -> Vec<PlannedTask> {
    const COST_US_PER_SECOND: i64 = 11_000;
    let rate = audio.timeline.sample_rate;
    let count = audio.segments.len();
    let mut out = Vec::new();
    let mut start = 0;
    while start < count {
        let (limit, class) =
            if start == 0 { (CHUNK_MS, Class::Publish) } else { (AUDIO_CHUNK_MS, Class::Ladder) };
        let Some(origin) = audio.span(start).map(|s| s.start) else { break };
        let fits = |n: &usize| audio.span(*n).is_some_and(|s| (s.end - origin).micros(rate) <= limit * 1000);
        let end = (start + 1..count).take_while(fits).last().map_or(start + 1, |n| n + 1);
        let length = audio.span(end - 1).map_or(0, |s| (s.end - origin).micros(rate));
        out.push(PlannedTask {
            work: Work::Audio { segments: start as u32..end as u32 },
            class,
            cost_ms: (length * COST_US_PER_SECOND / 1_000_000_000).max(1) as u64,
        });
        start = end;
    }
    out
}
