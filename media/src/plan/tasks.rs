//! Which tasks there are, and in which order they are worked on.

use std::ops::Range;

use super::chunking::Chunking;
use super::cost;
use super::layout::Layout;
use super::{AudioPlan, PlannedTask};
use crate::ladder::Rung;
use crate::task::{Class, Work};

/// Sound without a picture is cut so long, in milliseconds: it is cheap.
const AUDIO_CHUNK_MS: i64 = 120_000;

/// The first task of sound, in milliseconds: a publish waits for it, and a little slack for where its packets end.
const FIRST_SOUND_MS: i64 = 2100;

/// A job never has more tasks than this; longer sources get longer chunks.
pub const MAX_TASKS: usize = 8192;

/// Which segments are to be made: of each lane of the ladder, and of each sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) lanes: Vec<Range<u32>>,
    pub(super) sounds: Vec<Range<u32>>,
}

/// At most `room` tasks for what `reach` names: what makes the asset playable first, then the first codec with the sound beside
/// it, then the others. Without `slots` nobody knows how much is to come: then chunks are as long as they may be, and the
/// longer the more there is already, so that all that may come takes few times `room`.
pub(super) fn tasks(layout: &Layout, slots: Option<u32>, reach: &Reach, room: usize) -> Vec<PlannedTask> {
    let Layout { ladder, video, audio, costs, .. } = layout;
    let (Some(video), Some(costs)) = (video, costs) else {
        let (first, rest) = sound_tasks(audio, &reach.sounds, AUDIO_CHUNK_MS);
        return first.into_iter().chain(rest).collect();
    };
    let video_task = |segments: Range<u32>, rungs: &[Rung], class| PlannedTask {
        cost_ms: costs.ms(video, &segments, rungs),
        work: Work::Video { segments, rungs: rungs.iter().map(|r| r.id.clone()).collect() },
        class,
    };
    let chunking = Chunking::of(layout, (video, costs), slots, reach, room);
    let (first_sounds, sounds) = sound_tasks(audio, &reach.sounds, chunking.sound_ms(layout, room));
    let mut sounds = sounds.into_iter().peekable();

    let mut out = Vec::new();
    for (n, (lane, of)) in ladder.lanes().zip(&reach.lanes).enumerate() {
        if n > 0 {
            let every = chunking.after(&out, lane, of.clone()).into_iter();
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
        for segments in chunking.after(&out, lane, of.start + u32::from(begins)..of.end) {
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
