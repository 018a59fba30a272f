//! How segments are grouped into tasks, and in which order they are worked on.

use std::ops::Range;

use super::cost::{self, PictureCosts};
use super::cut::stretched;
use super::layout::Layout;
use super::slots::{self, Slots};
use super::{AudioPlan, PlannedTask, VideoPlan};
use crate::ladder::Rung;
use crate::task::{Class, Work};
use crate::time::Ticks;

/// A chunk should cost no more than this, in milliseconds of one core, unless its segments do: what a lost worker costs, and
/// how long somebody's first segment may have to wait for a slot.
const CHUNK_COST_MS: i64 = 40_000;

/// So many segments at the end of a source are grouped for the slots that there are; how those before are grouped does not
/// decide when all is done.
const GROUPED_FOR_SLOTS: u32 = 256;

/// Sound without a picture is cut so long, in milliseconds: it is cheap.
const AUDIO_CHUNK_MS: i64 = 120_000;

/// The first task of sound, in milliseconds: a publish waits for it, and a little slack for where its packets end.
const FIRST_SOUND_MS: i64 = 2100;

/// Beside a picture, sound is cut as long as so many chunks of it: it is there soon after its picture, and while an upload
/// runs the picture does not wait for sound that comes much later.
const CHUNKS_OF_SOUND: i64 = 2;

/// A job never has more tasks than this; longer sources get longer chunks.
pub const MAX_TASKS: usize = 8192;

/// Which segments are to be made: of each lane of the ladder, and of each sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) lanes: Vec<Range<u32>>,
    pub(super) sounds: Vec<Range<u32>>,
}

/// Groups segments into chunks of about `length` (ticks): of the cuts between half and the whole of it, the one that wastes
/// least per frame.
fn chunks(video: &VideoPlan, of: Range<u32>, costs: &PictureCosts, length: Ticks) -> Vec<Range<u32>> {
    let count = of.end;
    let mut out = Vec::new();
    let mut start = of.start;
    while start < count {
        let origin = video.segments[start as usize].start;
        let fits = |end: u32| video.segments[end as usize - 1].end - origin <= length;
        let longest =
            (start + 1..=count).take_while(|end| *end == start + 1 || fits(*end)).last().unwrap_or(start + 1);
        let shortest = start + 1 + (longest - start - 1) / 2;
        let end = if longest == count {
            count
        } else {
            let first = video.segments[start as usize].frames.start;
            let per_frame = |end: u32| {
                // Thousandths, so that they can be compared.
                u64::from(costs.wasted_frames(end)) * 1000
                    / u64::from(video.segments[end as usize].frames.start - first)
            };
            (shortest..=longest).rev().min_by_key(|end| per_frame(*end)).unwrap_or(longest)
        };
        out.push(start..end);
        start = end;
    }
    out
}

/// At most `room` tasks for what `reach` names: what makes the asset playable first, then the first codec with the sound beside
/// it, then the others. Without `slots` nobody knows how much is to come: then chunks are as long as they may be, and the
/// longer the more there is already, so that all that may come takes few times `room`.
pub(super) fn tasks(layout: &Layout, slots: Option<u32>, reach: &Reach, room: usize) -> Vec<PlannedTask> {
    let Layout { ladder, video, audio, costs, grid, chunk_ms, .. } = layout;
    let (Some(video), Some(costs)) = (video, costs) else {
        let (first, rest) = sound_tasks(audio, &reach.sounds, AUDIO_CHUNK_MS);
        return first.into_iter().chain(rest).collect();
    };
    let video_task = |segments: Range<u32>, rungs: &[Rung], class| PlannedTask {
        cost_ms: costs.ms(video, &segments, rungs),
        work: Work::Video { segments, rungs: rungs.iter().map(|r| r.id.clone()).collect() },
        class,
    };
    let total = video.segments.last().map_or(Ticks::ZERO, |s| s.end);
    let shortest = grid.later(video.timescale);
    let begun = reach.lanes.first().and_then(|of| video.segments.get(of.start as usize));
    let left = begun.map_or(Ticks::ZERO, |first| total - first.start);
    let share = slots.map_or(total, |slots| Ticks(left.0 / i64::from(slots.max(1)) / 2)).max(shortest);
    // Beyond the limit chunks grow instead of their number.
    let lanes = ladder.lanes().count().max(1);
    let spread = if slots.is_some() { left } else { total };
    let among = |tracks: usize| (room / (4 * tracks)).max(1) as i64;
    let least = Ticks(spread.0 / among(lanes));
    let grouped = GROUPED_FOR_SLOTS.min((room / (8 * lanes)) as u32);
    let longest_of = |lane: &[Rung]| {
        let cost_ms = costs.ms(video, &(0..video.segments.len() as u32), lane) as i64;
        let affordable_ms = total.micros(video.timescale) / 1000 * CHUNK_COST_MS / cost_ms.max(1);
        Ticks::from_millis(affordable_ms.min(*chunk_ms as i64), video.timescale).max(shortest).max(least)
    };
    let length_of = |lane: &[Rung]| stretched(longest_of(lane).min(share.max(least)));
    // The chunks of a lane that come after the tasks before.
    let chunks_after = |before: &[PlannedTask], lane: &[Rung], of: Range<u32>| {
        let Some(slots) = slots else { return chunks(video, of, costs, length_of(lane)) };
        let end = of.end.saturating_sub(grouped).max(of.start);
        let mut out = chunks(video, of.start..end, costs, length_of(lane));
        let cost_ms = |chunk: &Range<u32>| costs.ms(video, chunk, lane);
        let mut busy = Slots::idle(slots);
        before.iter().for_each(|task| busy.take(task.cost_ms));
        out.iter().for_each(|chunk| busy.take(cost_ms(chunk)));
        let longest = stretched(longest_of(lane));
        let may = |chunk: &Range<u32>| span(video, chunk) <= longest;
        out.extend(slots::chunks(end..of.end, busy, cost_ms, may));
        out
    };
    let length = ladder.lanes().next().map_or(shortest, length_of);
    let sound_ms = |time: Ticks| time.micros(video.timescale) / 1000;
    let least_ms = sound_ms(spread) / among(audio.len().max(1));
    let sound_chunk_ms = (sound_ms(length) * CHUNKS_OF_SOUND).max(least_ms);
    let (first_sounds, sounds) = sound_tasks(audio, &reach.sounds, sound_chunk_ms);
    let mut sounds = sounds.into_iter().peekable();

    let mut out = Vec::new();
    for (n, (lane, of)) in ladder.lanes().zip(&reach.lanes).enumerate() {
        if n > 0 {
            let every = chunks_after(&out, lane, of.clone()).into_iter();
            out.extend(every.map(|segments| video_task(segments, lane, Class::Ladder)));
            continue;
        }
        let begins = of.start == 0 && !of.is_empty();
        // What makes the video playable: the first segment of the lowest rung, and the sound beside it.
        let (lowest, rest) = lane.split_at(lane.len().min(1));
        if begins {
            out.push(video_task(0..1, lowest, Class::Publish));
        }
        out.extend(first_sounds.iter().cloned());
        if begins && !rest.is_empty() {
            out.push(video_task(0..1, rest, Class::Publish));
        }
        for segments in chunks_after(&out, lane, of.start + u32::from(begins)..of.end) {
            // Audio and video segments are numbered alike as long as there is picture.
            out.extend(std::iter::from_fn(|| sounds.next_if(|task| last_segment(task) <= segments.end)));
            out.push(video_task(segments, lane, Class::Ladder));
        }
        out.extend(sounds.by_ref());
    }
    out
}

/// How long segments last together, in ticks.
fn span(video: &VideoPlan, segments: &Range<u32>) -> Ticks {
    let spans = video.segments.get(segments.start as usize..segments.end as usize).unwrap_or_default();
    spans.first().zip(spans.last()).map_or(Ticks::ZERO, |(first, last)| last.end - first.start)
}

/// The segment after the last one of a task.
fn last_segment(task: &PlannedTask) -> u32 {
    match &task.work {
        Work::Audio { segments, .. } | Work::Video { segments, .. } => segments.end,
        Work::Index => 0,
    }
}

/// The tasks of all sounds: those that they begin with, and the others in order of time.
fn sound_tasks(
    audio: &[AudioPlan],
    reach: &[Range<u32>],
    chunk_ms: i64,
) -> (Vec<PlannedTask>, Vec<PlannedTask>) {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (plan, of) in audio.iter().zip(reach) {
        let mut chunks = audio_chunks(plan, of, chunk_ms).into_iter();
        if of.start == 0 {
            first.extend(chunks.next());
        }
        rest.extend(chunks);
    }
    rest.sort_by_key(last_segment);
    (first, rest)
}

/// The first task is short, since a publish waits for it.
fn audio_chunks(audio: &AudioPlan, of: &Range<u32>, chunk_ms: i64) -> Vec<PlannedTask> {
    let rate = audio.timeline.sample_rate;
    let count = of.end as usize;
    let mut out = Vec::new();
    let mut start = of.start as usize;
    while start < count {
        let (limit, class) =
            if start == 0 { (FIRST_SOUND_MS, Class::Publish) } else { (chunk_ms, Class::Ladder) };
        let Some(origin) = audio.span(start).map(|s| s.start) else { break };
        let fits = |n: &usize| audio.span(*n).is_some_and(|s| (s.end - origin).micros(rate) <= limit * 1000);
        let end = (start + 1..count).take_while(fits).last().map_or(start + 1, |n| n + 1);
        let length = audio.span(end - 1).map_or(0, |s| (s.end - origin).micros(rate));
        out.push(PlannedTask {
            work: Work::Audio { rendition: audio.rung.id.clone(), segments: start as u32..end as u32 },
            class,
            cost_ms: cost::sound_ms(length),
        });
        start = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::VideoSpan;
    use crate::time::{FrameRate, Timescale};

    /// 30 frames a second, cut at these seconds.
    fn video(cuts: &[u32]) -> VideoPlan {
        let ticks = |second: u32| Ticks(i64::from(second) * 1000);
        let span = |cut: &[u32]| VideoSpan {
            frames: cut[0] * 30..cut[1] * 30,
            start: ticks(cut[0]),
            end: ticks(cut[1]),
        };
        VideoPlan {
            timescale: Timescale::new(1000).unwrap(),
            frame_rate: FrameRate { num: 30, den: 1 },
            every: 1,
            segments: cuts.windows(2).map(span).collect(),
        }
    }

    #[test]
    fn a_chunk_is_cut_short_only_where_that_saves_decoding() {
        let video = video(&[0, 1, 2, 4, 8, 12, 16, 20]);
        let chunks = |leads: [u32; 7]| chunks(&video, 1..7, &PictureCosts::after(&leads), Ticks(8000));
        assert_eq!(chunks([0; 7]), [1..4, 4..6, 6..7]);
        // One frame less before the shorter one is not worth another chunk.
        assert_eq!(chunks([0, 15, 45, 45, 46, 45, 46]), [1..4, 4..6, 6..7]);
        // Many frames less are.
        assert_eq!(chunks([0, 0, 0, 5, 200, 5, 200]), [1..3, 3..5, 5..7]);
    }
}
