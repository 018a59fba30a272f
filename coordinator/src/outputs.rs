//! What tasks made, committed: one key per task while the asset is in work. Of two results of one attempt the first
//! counts.

use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::image::Image;
use reelmill_media::plan::{Plan, PlannedTask};
use reelmill_media::segment::Segment;
use reelmill_media::task::{RenditionOutput, TaskNumber, Work};
use reelmill_media::time::{Ticks, Timescale};
use reelmill_platform::bus::BusError;
use reelmill_platform::kv::{Bucket, Written};
use serde::{Deserialize, Serialize};

use crate::assets::backoff;
use crate::state::{Made, MadePart};

/// Rounds of writing and reading again before the message is given back.
const MAX_CONFLICTS: u32 = 20;

/// The value under `<asset>.<task number>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Which attempt made it.
    pub epoch: u32,
    /// Names what was made of what by which engine.
    pub recipe: BlobHash,
    /// What it made.
    pub outputs: Vec<RenditionOutput>,
    /// Stills of this part.
    pub images: Vec<Image>,
}

/// An output that is not what was planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {} made something else than planned: {reason}", number.0)]
pub struct Unplanned {
    number: TaskNumber,
    reason: String,
}

/// Why an output was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A later attempt has committed.
    #[error("a later attempt has committed its output")]
    Late,
    /// Others changed it faster than we could.
    #[error("output {0} is changed by others all the time")]
    Contended(String),
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// The key of a task's output.
pub fn key(asset: AssetId, number: TaskNumber) -> String {
    format!("{asset}.{}", number.0)
}

/// Commits a task's output, and returns the one that stands: an earlier one of the same attempt counts. What an older
/// attempt left is replaced: it never counted.
pub async fn commit(
    bucket: &Bucket<OutputRecord>,
    key: &str,
    record: OutputRecord,
) -> Result<OutputRecord, CommitError> {
    for attempt in 0..MAX_CONFLICTS {
        let written = match bucket.get(key).await? {
            None => bucket.create(key, &record).await?,
            Some((standing, _)) if standing.epoch == record.epoch => return Ok(standing),
            Some((standing, _)) if standing.epoch > record.epoch => return Err(CommitError::Late),
            Some((_, revision)) => bucket.update(key, &record, revision).await?,
        };
        match written {
            Written::Stored(_) => return Ok(record),
            Written::Conflict => tokio::time::sleep(backoff(attempt)).await,
        }
    }
    Err(CommitError::Contended(key.to_owned()))
}

/// What the machine must know of an output.
pub fn made(task: &PlannedTask, outputs: &[RenditionOutput]) -> Made {
    let parts = outputs.iter().map(|output| MadePart {
        rendition: output.rendition.clone(),
        encoder: output.encoder.clone(),
        init: output.init.hash,
        codecs: output.init.codecs.clone(),
        segments: output.segments.len() as u32,
        bytes: output.segments.iter().map(|segment| segment.bytes).sum(),
        concealed: output.segments.iter().map(|segment| segment.concealed).sum(),
    });
    Made { cost_ms: task.cost_ms, parts: parts.collect() }
}

/// A segment as planned.
struct Expected {
    start: Ticks,
    duration: Ticks,
    frames: u32,
}

/// Compares what a task made with what it was to make.
pub fn check(
    plan: &Plan,
    number: TaskNumber,
    task: &PlannedTask,
    outputs: &[RenditionOutput],
) -> Result<(), Unplanned> {
    let refuse = |reason: String| Unplanned { number, reason };
    let (range, clock, rungs, expected): (_, _, _, Vec<Expected>) = match &task.work {
        Work::Index => return Err(refuse("indexing is not planned".to_owned())),
        Work::Video { segments, rungs } => {
            let Some(video) = &plan.video else { return Err(refuse("no picture is planned".to_owned())) };
            let spans = video.segments.get(segments.start as usize..segments.end as usize);
            let expected = spans.unwrap_or_default().iter().map(|span| Expected {
                start: span.start,
                duration: span.end - span.start,
                frames: span.frames.end - span.frames.start,
            });
            (segments.clone(), video.timescale, rungs.clone(), expected.collect())
        }
        Work::Audio { rendition, segments } => {
            let Some(audio) = plan.sound(rendition) else {
                return Err(refuse(format!("no sound {rendition} is planned")));
            };
            let expected = segments.clone().filter_map(|n| {
                let (span, packets) = (audio.span(n as usize)?, audio.segments.get(n as usize)?);
                let duration = span.end - span.start;
                Some(Expected { start: span.start, duration, frames: packets.end - packets.start })
            });
            (segments.clone(), audio.timeline.sample_rate, vec![audio.rung.id.clone()], expected.collect())
        }
    };
    let mut wanted: Vec<_> = rungs.iter().collect();
    let mut got: Vec<_> = outputs.iter().map(|output| &output.rendition).collect();
    wanted.sort_unstable();
    got.sort_unstable();
    if wanted != got {
        return Err(refuse(format!("renditions {got:?} instead of {wanted:?}")));
    }
    for output in outputs {
        check_track(clock, range.start, &expected, output)
            .map_err(|reason| refuse(format!("{}: {reason}", output.rendition)))?;
    }
    Ok(())
}

fn check_track(
    clock: Timescale,
    first: u32,
    expected: &[Expected],
    output: &RenditionOutput,
) -> Result<(), String> {
    if output.init.timescale != clock {
        return Err(format!("clock {} instead of {}", output.init.timescale.get(), clock.get()));
    }
    if output.segments.len() != expected.len() {
        return Err(format!("{} segments instead of {}", output.segments.len(), expected.len()));
    }
    for ((number, expected), segment) in (first..).zip(expected).zip(&output.segments) {
        let Segment { start, duration, frames, bytes, .. } = *segment;
        if segment.number != number {
            return Err(format!("segment {} where {number} belongs", segment.number));
        }
        if (start, duration, frames) != (expected.start, expected.duration, expected.frames) || bytes == 0 {
            return Err(format!(
                "segment {number} has start {}, duration {}, {frames} frames, {bytes} bytes; planned are {}, {}, {}",
                start.0, duration.0, expected.start.0, expected.duration.0, expected.frames
            ));
        }
    }
    Ok(())
}
