//! How segments are grouped into chunks.

use std::ops::Range;

use super::cost::PictureCosts;
use super::cut::stretched;
use super::layout::Layout;
use super::slots::{self, Slots};
use super::tasks::Reach;
use super::{PlannedTask, VideoPlan};
use crate::ladder::Rung;
use crate::time::Ticks;

/// A chunk should cost no more than this, in milliseconds of one core, unless its segments do: what a lost worker costs, and
/// how long somebody's first segment may have to wait for a slot.
const CHUNK_COST_MS: i64 = 40_000;

/// So many segments at the end of a source are grouped for the slots that there are; how those before are grouped does not
/// decide when all is done.
const GROUPED_FOR_SLOTS: u32 = 256;

/// Beside a picture, sound is cut as long as so many chunks of it: it is there soon after its picture, and while an upload
/// runs the picture does not wait for sound that comes much later.
const CHUNKS_OF_SOUND: i64 = 2;

/// How long the chunks of a picture are.
pub(super) struct Chunking<'a> {
    video: &'a VideoPlan,
    costs: &'a PictureCosts,
    slots: Option<u32>,
    /// A chunk should be no longer, in milliseconds.
    chunk_ms: u64,
    /// What the tasks are spread over.
    spread: Ticks,
    /// No chunk is shorter, but for its segments.
    shortest: Ticks,
    /// Nor than this: beyond the limit on tasks chunks grow instead of their number.
    least: Ticks,
    /// Two of them for each slot.
    share: Ticks,
    /// So many segments at the end are grouped for the slots.
    grouped: u32,
}

impl<'a> Chunking<'a> {
    pub(super) fn of(
        layout: &Layout,
        (video, costs): (&'a VideoPlan, &'a PictureCosts),
        slots: Option<u32>,
        reach: &Reach,
        room: usize,
    ) -> Self {
        let total = video.segments.last().map_or(Ticks::ZERO, |s| s.end);
        let shortest = layout.grid.later(video.timescale);
        let begun = reach.lanes.first().and_then(|of| video.segments.get(of.start as usize));
        let left = begun.map_or(Ticks::ZERO, |first| total - first.start);
        let share = slots.map_or(total, |slots| Ticks(left.0 / i64::from(slots.max(1)) / 2)).max(shortest);
        let lanes = layout.ladder.lanes().count().max(1);
        let spread = if slots.is_some() { left } else { total };
        let least = Ticks(spread.0 / among(room, lanes));
        let grouped = GROUPED_FOR_SLOTS.min((room / (8 * lanes)) as u32);
        Self { video, costs, slots, chunk_ms: layout.chunk_ms, spread, shortest, least, share, grouped }
    }

    /// No chunk of a lane is longer, but for its segments.
    fn longest(&self, lane: &[Rung]) -> Ticks {
        let Self { video, costs, .. } = self;
        let cost_ms = costs.ms(video, &(0..video.segments.len() as u32), lane) as i64;
        let total = video.segments.last().map_or(Ticks::ZERO, |s| s.end);
        let affordable_ms = total.micros(video.timescale) / 1000 * CHUNK_COST_MS / cost_ms.max(1);
        let longest = Ticks::from_millis(affordable_ms.min(self.chunk_ms as i64), video.timescale);
        longest.max(self.shortest).max(self.least)
    }

    /// Of a lane's chunks where they are not grouped for the slots.
    fn length(&self, lane: &[Rung]) -> Ticks {
        stretched(self.longest(lane).min(self.share.max(self.least)))
    }

    /// The chunks of a lane that come after the tasks before.
    pub(super) fn after(&self, before: &[PlannedTask], lane: &[Rung], of: Range<u32>) -> Vec<Range<u32>> {
        let Self { video, costs, .. } = self;
        let Some(slots) = self.slots else { return chunks(video, of, costs, self.length(lane)) };
        let end = of.end.saturating_sub(self.grouped).max(of.start);
        let mut out = chunks(video, of.start..end, costs, self.length(lane));
        let cost_ms = |chunk: &Range<u32>| costs.ms(video, chunk, lane);
        let mut busy = Slots::idle(slots);
        before.iter().for_each(|task| busy.take(task.cost_ms));
        out.iter().for_each(|chunk| busy.take(cost_ms(chunk)));
        let longest = stretched(self.longest(lane));
        let may = |chunk: &Range<u32>| span(video, chunk) <= longest;
        out.extend(slots::chunks(end..of.end, busy, cost_ms, may));
        out
    }

    /// Length of the chunks of sound beside them, in milliseconds.
    pub(super) fn sound_ms(&self, layout: &Layout, room: usize) -> i64 {
        let ms = |time: Ticks| time.micros(self.video.timescale) / 1000;
        let length = layout.ladder.lanes().next().map_or(self.shortest, |lane| self.length(lane));
        let least_ms = ms(self.spread) / among(room, layout.audio.len().max(1));
        (ms(length) * CHUNKS_OF_SOUND).max(least_ms)
    }
}

/// Tasks of each of so many lanes, or sounds, that have room.
fn among(room: usize, tracks: usize) -> i64 {
    (room / (4 * tracks)).max(1) as i64
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

/// How long segments last together, in ticks.
fn span(video: &VideoPlan, segments: &Range<u32>) -> Ticks {
    let spans = video.segments.get(segments.start as usize..segments.end as usize).unwrap_or_default();
    spans.first().zip(spans.last()).map_or(Ticks::ZERO, |(first, last)| last.end - first.start)
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
