//! Cuts jobs for a child out of a source's index and its plan. Pure; runs in the parent.

use std::ops::Range;

use reelmill_media::codec::AudioCodec;
use reelmill_media::ids::RenditionId;
use reelmill_media::image::ImageKind;
use reelmill_media::index::{Sample, SourceIndex};
use reelmill_media::ladder::Rung;
use reelmill_media::plan::Plan;
use reelmill_media::task::Work;
use reelmill_media::time::Ticks;
use reelmill_media::timeline::VideoTimeline;

use super::protocol::{AudioJob, Feed, Job, PlannedFrame, PlannedSegment, Still, VideoJob};

/// The first packet that the encoder of a run of sound makes. Those before the run's own are thrown away: they bring the
/// encoder to where an unsplit encode would have it, so that a seam cannot be heard.
///
/// With this many the error at seams is on the mean within 0.5 dB of an unsplit encode's. AAC's psychoacoustic model
/// forgets over 512 packets: with 16, film sound at 128 kbit/s is 5 dB worse for seconds after a seam.
pub fn first_packet(codec: AudioCodec, first: u32) -> i64 {
    let warm_up = match codec {
        AudioCodec::Aac => 256,
        AudioCodec::Opus => 16,
    };
    // There is no sound before the beginning to warm up on.
    (i64::from(first) - warm_up).max(0)
}

/// Video samples fed at least, where there are so many. After a recovery point that is no IDR, libav's H.264 decoder keeps
/// to itself what is still being reordered when the stream ends, unless a frame has come out before; it holds back 16.
const LEAST_FED: usize = 17;

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
            (Work::Audio { rendition, segments }, Some((index, plan))) => {
                AudioJob::cut(index, plan, source_bytes, rendition, segments).map(Job::Audio)
            }
            (Work::Video { .. } | Work::Audio { .. }, None) => Err(NotPlanned("a recipe")),
        }
    }

    /// Has it fill in everything, and touch nothing of the source.
    pub fn conceal(&mut self) {
        match self {
            Job::Index { .. } | Job::IndexBeginning { .. } => {}
            Job::Video(job) => job.conceal = true,
            Job::Audio(job) => job.conceal = true,
        }
    }

    /// Bytes of the source that this job reads for certain; nothing for indexing.
    pub fn source_span(&self) -> Option<Range<u64>> {
        match self {
            Job::Index { .. } | Job::IndexBeginning { .. } => None,
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
        let track = index.video.as_ref().ok_or(NotPlanned("a picture"))?;
        let video = plan.video.as_ref().ok_or(NotPlanned("a picture"))?;
        let timeline = VideoTimeline::of(index).ok_or(NotPlanned("frames"))?;
        let timeline = timeline.thinned(video.every).on(video.timescale);
        let spans = video
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
        let key = decode_start(&track.samples, start.sample as usize, start.source_pts, upto);
        let from = packet_start(&track.samples, key);
        let samples = track.samples.get(from..=upto).ok_or(NotPlanned("samples"))?.to_vec();
        let stills = stills(plan, &timeline, first.frames.start..last.frames.end, rungs);
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
            frame_rate: video.frame_rate,
            segments: spans
                .iter()
                .zip(segments.start..)
                .map(|(s, number)| PlannedSegment { number, first: s.frames.start - first.frames.start })
                .collect(),
            rungs,
            engine: None,
            conceal: false,
            stills,
        })
    }
}

/// The stills that a task makes: those of its frames, where it makes the rung that they are taken from.
fn stills(plan: &Plan, timeline: &VideoTimeline, frames: Range<u32>, rungs: &[RenditionId]) -> Vec<Still> {
    let (Some(images), Some(lane)) = (&plan.images, plan.ladder.lanes().next()) else { return Vec::new() };
    let made = |rung: Option<&Rung>| {
        let id = &rung?.id;
        rungs.iter().position(|made| made == id).map(|n| n as u32)
    };
    let still = |kind, rung, frame: u32, (width, height)| {
        let at_micros = timeline.frames.get(frame as usize)?.pts.micros(timeline.timescale);
        let at = frame.checked_sub(frames.start).filter(|_| frame < frames.end)?;
        Some(Still { kind, at, rung, frame, at_micros, width, height })
    };
    let posters = made(lane.last()).into_iter().flat_map(|rung| {
        let size = (images.poster.width, images.poster.height);
        let frames = std::iter::once(&images.poster.frame).chain(&images.later_posters);
        frames.filter_map(move |frame| still(ImageKind::Poster, rung, *frame, size)).collect::<Vec<_>>()
    });
    let thumbnails = made(lane.first()).into_iter().flat_map(|rung| {
        let of_task = images
            .thumbnails
            .iter()
            .filter_map(move |frame| still(ImageKind::Thumbnail, rung, *frame, images.thumbnail_size));
        of_task.collect::<Vec<_>>()
    });
    let mut stills: Vec<Still> = posters.chain(thumbnails).collect();
    stills.sort_by_key(|still| still.at);
    stills
}

/// Where decoding must start for the frames from that of `sample`, presented at `pts`, to that of sample `upto`: the last
/// key sample, in decode order, not after the first and presented not after it. For a frame that leads an open GOP that is
/// the key sample one earlier.
fn decode_start(samples: &[Sample], sample: usize, pts: Ticks, upto: usize) -> usize {
    let latest = sample.min((upto + 1).saturating_sub(LEAST_FED));
    samples
        .iter()
        .enumerate()
        .take(latest + 1)
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
        rendition: &RenditionId,
        segments: &Range<u32>,
    ) -> Result<AudioJob, NotPlanned> {
        let audio = plan.sound(rendition).ok_or(NotPlanned("sound"))?;
        let track = index.audio.get(audio.rung.track as usize).ok_or(NotPlanned("sound"))?;
        let ranges = audio
            .segments
            .get(segments.start as usize..segments.end as usize)
            .ok_or(NotPlanned("audio segments"))?;
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
            return Err(NotPlanned("segments"));
        };
        // Output samples that the encoder is fed, warm-up and run-out included, on the source's clock.
        let (rate, codec) = (audio.timeline.sample_rate, audio.rung.codec);
        let time = |packet: i64| {
            let samples =
                packet.saturating_mul(codec.packet_samples()).saturating_sub(codec.priming_samples());
            Ticks(samples).rescale(rate, track.timescale) + audio.timeline.zero
        };
        let lead = Ticks::from_millis(DECODER_LEAD_MS, track.timescale);
        let from = time(first_packet(codec, first.start) - 1) - lead;
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
            timeline: audio.timeline,
            segments: ranges
                .iter()
                .zip(segments.start..)
                .map(|(r, number)| PlannedSegment { number, first: r.start })
                .collect(),
            end_packet: last.end,
            rung: audio.rung.clone(),
            conceal: false,
        })
    }
}
