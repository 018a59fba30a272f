//! Cuts jobs for a child out of a source's index and its plan. Pure; runs in the parent.

use std::ops::Range;

use reelmill_media::ids::RenditionId;
use reelmill_media::index::{Sample, SourceIndex};
use reelmill_media::plan::{AAC_PACKET_SAMPLES, AAC_PRIMING_PACKETS, Plan};
use reelmill_media::task::Work;
use reelmill_media::time::Ticks;
use reelmill_media::timeline::VideoTimeline;

use super::protocol::{AudioJob, Feed, Job, PlannedFrame, PlannedSegment, VideoJob};

/// Encoder frames made and thrown away before an audio chunk's first packet, so that its seam cannot be heard
/// (measured: with 16 the error at a seam is that of an unsplit encode).
pub const WARM_UP_PACKETS: i64 = 16;

/// Source packets decoded before the first one wanted, in milliseconds: what any audio decoder needs to settle.
const DECODER_LEAD_MS: i64 = 250;

/// A task that does not fit its plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task names {0}, which its plan does not have")]
pub struct NotPlanned(&'static str);

impl Job {
    /// The job for `work`. `recipe` is the index and plan, which only [`Work::Index`] does without.
    pub fn for_work(
        work: &Work,
        source_bytes: u64,
        recipe: Option<(&SourceIndex, &Plan)>,
    ) -> Result<Job, NotPlanned> {
        match (work, recipe) {
            (Work::Index, _) => Ok(Job::Index { source_bytes }),
            (Work::Video { segments, rungs }, Some((index, plan))) => {
                VideoJob::cut(index, plan, source_bytes, segments, rungs).map(Job::Video)
            }
            (Work::Audio { segments }, Some((index, plan))) => {
                AudioJob::cut(index, plan, source_bytes, segments).map(Job::Audio)
            }
            (Work::Video { .. } | Work::Audio { .. }, None) => Err(NotPlanned("a recipe")),
        }
    }

    /// Bytes of the source that this job reads for certain; nothing for indexing.
    pub fn source_span(&self) -> Option<Range<u64>> {
        match self {
            Job::Index { .. } => None,
            Job::Video(job) => span(&job.feed.samples),
            Job::Audio(job) => span(&job.feed.samples),
        }
    }
}

fn span(samples: &[Sample]) -> Option<Range<u64>> {
    let start = samples.iter().map(|s| s.offset).min()?;
    let end = samples.iter().map(|s| s.offset.saturating_add(u64::from(s.bytes))).max()?;
    Some(start..end)
}

impl VideoJob {
    fn cut(
        index: &SourceIndex,
        plan: &Plan,
        source_bytes: u64,
        segments: &Range<u32>,
        rungs: &[RenditionId],
    ) -> Result<VideoJob, NotPlanned> {
        let track = &index.video;
        let timeline = VideoTimeline::of(index).ok_or(NotPlanned("frames"))?;
        let spans = plan
            .video
            .segments
            .get(segments.start as usize..segments.end as usize)
            .ok_or(NotPlanned("video segments"))?;
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
            return Err(NotPlanned("segments"));
        };
        let frames = timeline
            .frames
            .get(first.frames.start as usize..last.frames.end as usize)
            .ok_or(NotPlanned("frames of the timeline"))?;
        let Some(start) = frames.first() else { return Err(NotPlanned("frames of the timeline")) };
        let upto = frames.iter().map(|f| f.sample).max().unwrap_or(start.sample) as usize;
        let key = decode_start(&track.samples, start.sample as usize, start.source_pts);
        let from = packet_start(&track.samples, key);
        let samples = track.samples.get(from..=upto).ok_or(NotPlanned("samples"))?.to_vec();
        let rungs = rungs
            .iter()
            .map(|id| plan.ladder.video.iter().find(|r| r.id == *id).cloned().ok_or(NotPlanned("a rung")))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(VideoJob {
            feed: Feed {
                source_bytes,
                container: index.container,
                stream: track.stream,
                setup: track.setup.clone(),
                timescale: track.timescale,
                samples,
            },
            picture: track.picture,
            frames: frames.iter().map(|f| PlannedFrame { source_pts: f.source_pts, pts: f.pts }).collect(),
            end: last.end,
            timescale: timeline.timescale,
            frame_rate: plan.video.frame_rate,
            segments: spans
                .iter()
                .zip(segments.start..)
                .map(|(s, number)| PlannedSegment { number, first: s.frames.start - first.frames.start })
                .collect(),
            rungs,
        })
    }
}

/// Where decoding must start for the frame of `sample`, presented at `pts`: the last key sample, in decode order, not
/// after it and presented not after it. For a frame that leads an open GOP that is the key sample one earlier.
fn decode_start(samples: &[Sample], sample: usize, pts: Ticks) -> usize {
    samples
        .iter()
        .enumerate()
        .take(sample + 1)
        .rev()
        .find(|(_, s)| s.key && s.pts <= pts)
        .map_or(0, |(i, _)| i)
}

/// The first of the samples that lie in one packet of the container with `sample`: only that one can be found again.
fn packet_start(samples: &[Sample], sample: usize) -> usize {
    let Some(own) = samples.get(sample) else { return sample };
    let before = samples.get(..sample).unwrap_or_default();
    before.iter().rposition(|s| s.offset != own.offset).map_or(0, |i| i + 1)
}

impl AudioJob {
    fn cut(
        index: &SourceIndex,
        plan: &Plan,
        source_bytes: u64,
        segments: &Range<u32>,
    ) -> Result<AudioJob, NotPlanned> {
        let track = index.audio.as_ref().ok_or(NotPlanned("sound"))?;
        let audio = plan.audio.as_ref().ok_or(NotPlanned("sound"))?;
        let ranges = audio
            .segments
            .get(segments.start as usize..segments.end as usize)
            .ok_or(NotPlanned("audio segments"))?;
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
            return Err(NotPlanned("segments"));
        };
        // Output samples that the encoder is fed, warm-up and run-out included, on the source's clock.
        let rate = audio.timeline.sample_rate;
        let time = |packet: i64| {
            let samples =
                packet.saturating_sub(i64::from(AAC_PRIMING_PACKETS)).saturating_mul(AAC_PACKET_SAMPLES);
            Ticks(samples).rescale(rate, track.timescale) + audio.timeline.zero
        };
        let lead = Ticks::from_millis(DECODER_LEAD_MS, track.timescale);
        let from = time(i64::from(first.start) - WARM_UP_PACKETS) - lead;
        let to = time(i64::from(last.end) + 2) + lead;
        let start = packet_start(&track.samples, track.samples.partition_point(|s| s.pts < from));
        let end = track.samples.partition_point(|s| s.pts < to).max(start);
        Ok(AudioJob {
            feed: Feed {
                source_bytes,
                container: index.container,
                stream: track.stream,
                setup: track.setup.clone(),
                timescale: track.timescale,
                samples: track.samples.get(start..end).unwrap_or_default().to_vec(),
            },
            sample_rate: track.sample_rate,
            channels: track.channels,
            language: track.language.clone(),
            timeline: audio.timeline,
            segments: ranges
                .iter()
                .zip(segments.start..)
                .map(|(r, number)| PlannedSegment { number, first: r.start })
                .collect(),
            end_packet: last.end,
            rung: audio.rung.clone(),
        })
    }
}
