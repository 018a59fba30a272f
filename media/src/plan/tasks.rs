//! How segments are grouped into tasks, and in which order they are worked on.

use std::ops::Range;

use super::cut::Grid;
use super::{AudioPlan, PlannedTask, VideoPlan, VideoSpan};
use crate::codec::VideoCodec;
use crate::index::VideoTrack;
use crate::ladder::{Ladder, Rung};
use crate::profile::Effort;
use crate::task::{Class, Work};
use crate::time::Ticks;
use crate::timeline::VideoTimeline;

/// A chunk is no longer than this, in milliseconds, unless its segments are: what a lost worker costs.
const CHUNK_MS: i64 = 8000;

/// Sound without a picture is cut so long, in milliseconds: it is cheap.
const AUDIO_CHUNK_MS: i64 = 120_000;

/// The first task of sound, in milliseconds: a publish waits for it, and a little slack for where its packets end.
const FIRST_SOUND_MS: i64 = 2100;

/// Beside a picture, sound is cut as long as so many chunks of it: it is there soon after its picture, and while an upload
/// runs the picture does not wait for sound that comes much later.
const CHUNKS_OF_SOUND: i64 = 2;

/// A job never has more tasks than this; longer sources get longer chunks.
pub const MAX_TASKS: usize = 8192;

/// For each segment, how many samples must be decoded before its first frame comes out.
pub(super) fn lead_ins(track: &VideoTrack, timeline: &VideoTimeline, segments: &[VideoSpan]) -> Vec<u32> {
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

/// All tasks: what makes the asset playable first, then the first codec with the sound beside it, then the others.
pub(super) fn tasks(
    ladder: &Ladder,
    video: Option<&VideoPlan>,
    audio: &[AudioPlan],
    leads: &[u32],
    grid: &Grid,
    slots: u32,
) -> Vec<PlannedTask> {
    let Some(video) = video else {
        let (first, rest) = sound_tasks(audio, AUDIO_CHUNK_MS);
        return first.into_iter().chain(rest).collect();
    };
    let video_task = |segments: Range<u32>, rungs: &[Rung], class| PlannedTask {
        cost_ms: video_cost_ms(video, &segments, rungs, leads),
        work: Work::Video { segments, rungs: rungs.iter().map(|r| r.id.clone()).collect() },
        class,
    };
    let total = video.segments.last().map_or(Ticks::ZERO, |s| s.end);
    let longest = Ticks::from_millis(CHUNK_MS.max(grid.segment_ms), video.timescale);
    let shortest = Ticks::from_millis(grid.segment_ms, video.timescale);
    let share = Ticks(total.0 / i64::from(slots) / 2).max(shortest).min(longest);
    // Beyond the limit chunks grow instead of their number.
    let lanes = ladder.lanes().count().max(1) as i64;
    let length = share.max(Ticks(total.0 / (MAX_TASKS as i64 / (4 * lanes))));
    let sound_ms = |time: Ticks| time.micros(video.timescale) / 1000;
    let least_ms = sound_ms(total) / (MAX_TASKS as i64 / (4 * audio.len().max(1) as i64)).max(1);
    let (first_sounds, sounds) = sound_tasks(audio, (sound_ms(length) * CHUNKS_OF_SOUND).max(least_ms));
    let mut sounds = sounds.into_iter().peekable();

    let mut out = Vec::new();
    for (n, lane) in ladder.lanes().enumerate() {
        if n > 0 {
            let every = chunks(video, 0, leads, length).into_iter();
            out.extend(every.map(|segments| video_task(segments, lane, Class::Ladder)));
            continue;
        }
        // What makes the video playable: the first segment of the lowest rung, and the sound beside it.
        let (lowest, rest) = lane.split_at(lane.len().min(1));
        out.push(video_task(0..1, lowest, Class::Publish));
        out.extend(first_sounds.iter().cloned());
        if !rest.is_empty() {
            out.push(video_task(0..1, rest, Class::Publish));
        }
        for segments in chunks(video, 1, leads, length) {
            // Audio and video segments are numbered alike as long as there is picture.
            out.extend(std::iter::from_fn(|| sounds.next_if(|task| last_segment(task) <= segments.end)));
            out.push(video_task(segments, lane, Class::Ladder));
        }
        out.extend(sounds.by_ref());
    }
    out
}

/// The segment after the last one of a task.
fn last_segment(task: &PlannedTask) -> u32 {
    match &task.work {
        Work::Audio { segments, .. } | Work::Video { segments, .. } => segments.end,
        Work::Index => 0,
    }
}

/// The tasks of all sounds: the first of each, and the others in order of time.
fn sound_tasks(audio: &[AudioPlan], chunk_ms: i64) -> (Vec<PlannedTask>, Vec<PlannedTask>) {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for plan in audio {
        let mut chunks = audio_chunks(plan, chunk_ms).into_iter();
        first.extend(chunks.next());
        rest.extend(chunks);
    }
    rest.sort_by_key(last_segment);
    (first, rest)
}

/// Cost of decoding and encoding, from measurements at the default presets on one core of 2023: per megapixel, decode
/// 5.4 ms, encode with scaling 15 ms of H.264.
fn video_cost_ms(video: &VideoPlan, segments: &Range<u32>, rungs: &[Rung], leads: &[u32]) -> u64 {
    const DECODE_US_PER_MEGAPIXEL: u64 = 5_400;
    let encode_us_per_megapixel = |codec| match codec {
        VideoCodec::H264 => 15_000,
        VideoCodec::Hevc => 45_000,
        VideoCodec::Av1 => 40_000,
    };
    let Some(spans) = video.segments.get(segments.start as usize..segments.end as usize) else { return 0 };
    let frames: u64 = spans.iter().map(|s| u64::from(s.frames.end - s.frames.start)).sum();
    let lead = u64::from(leads.get(segments.start as usize).copied().unwrap_or(0));
    let pixels = |r: &Rung| u64::from(r.width) * u64::from(r.height);
    let halves = |effort| match effort {
        Effort::Fast => 2,
        Effort::Thorough => 5,
    };
    let encoded: u64 =
        rungs.iter().map(|r| pixels(r) * encode_us_per_megapixel(r.codec) / 2 * halves(r.effort)).sum();
    let decoded = rungs.iter().map(pixels).max().unwrap_or(0);
    let decoded_frames = frames * u64::from(video.every) + lead;
    let micros = frames * encoded + decoded_frames * decoded * DECODE_US_PER_MEGAPIXEL;
    (micros / 1_000_000_000).max(1)
}

/// The first task is short, since a publish waits for it.
fn audio_chunks(audio: &AudioPlan, chunk_ms: i64) -> Vec<PlannedTask> {
    const COST_US_PER_SECOND: i64 = 11_000;
    let rate = audio.timeline.sample_rate;
    let count = audio.segments.len();
    let mut out = Vec::new();
    let mut start = 0;
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
            cost_ms: (length * COST_US_PER_SECOND / 1_000_000_000).max(1) as u64,
        });
        start = end;
    }
    out
}
