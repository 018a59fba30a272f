//! What travels between coordinator and workers: tasks one way, reports the other.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::{AssetId, BlobHash, RenditionId, TenantId, WorkerId};
use crate::image::Image;
use crate::segment::{InitSegment, Segment};
use crate::source::SourceRef;

/// Number of a task inside its job: 0 is indexing, the rest are the plan's tasks in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskNumber(pub u32);

impl TaskNumber {
    /// The task that reads the source's metadata.
    pub const INDEX: TaskNumber = TaskNumber(0);

    /// The number of the plan's task at `position`.
    pub const fn planned(position: u32) -> TaskNumber {
        TaskNumber(position + 1)
    }

    /// Position among the plan's tasks; `None` for the index task.
    pub const fn position(self) -> Option<u32> {
        self.0.checked_sub(1)
    }
}

/// How urgent a task is; each class has its own queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Somebody waits for this asset to become playable.
    Publish,
    /// The rest of the ladder.
    Ladder,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Class; 2] = [Class::Publish, Class::Ladder];
}

/// What is to be done.
// Not internally tagged: plans are written in postcard, which does not describe itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Read the source's metadata.
    Index,
    /// Decode once, encode every named rung.
    Video {
        /// Segments of the plan's video grid.
        segments: Range<u32>,
        /// Rungs of the plan's ladder, all of one codec.
        rungs: Vec<RenditionId>,
    },
    /// Encode sound.
    Audio {
        /// Which rendition of the plan's.
        rendition: RenditionId,
        /// Segments of its grid.
        segments: Range<u32>,
    },
}

impl Work {
    /// The renditions that it makes segments of.
    pub fn renditions(&self) -> &[RenditionId] {
        match self {
            Work::Index => &[],
            Work::Video { rungs, .. } => rungs,
            Work::Audio { rendition, .. } => std::slice::from_ref(rendition),
        }
    }
}

/// How an attempt goes about its work. Each way gives up more than the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// On hardware where the profile allows it and the worker has some, else in software.
    #[default]
    Any,
    /// In software.
    Software,
    /// Without decoding: all of it is concealed.
    Concealed,
}

/// One attempt at a piece of work, as it lies in the queue. Carries all that a worker needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Whose work it is part of.
    pub asset: AssetId,
    /// Who pays for it.
    pub tenant: TenantId,
    /// Which task of the job.
    pub number: TaskNumber,
    /// Fencing number: a report with another epoch than the job's current one is refused. Starts at 1.
    pub epoch: u32,
    /// Which queue.
    pub class: Class,
    /// The uploaded bytes.
    pub source: SourceRef,
    /// Blobs holding the index and the plan; absent while indexing.
    pub recipe: Option<Recipe>,
    /// What is to be done.
    pub work: Work,
    /// Estimated cost in milliseconds of one core.
    pub cost_ms: u64,
    /// How it is to be gone about.
    #[serde(default)]
    pub way: Way,
    /// Workers that failed at it or take too long: others do it, if there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<WorkerId>,
    /// A second copy of the same attempt: whoever reports first counts.
    #[serde(default)]
    pub race: bool,
}

/// The blobs that say how a source is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recipe {
    /// A [`crate::index::SourceIndex`], postcard-encoded.
    pub index: BlobHash,
    /// A [`crate::plan::Plan`], postcard-encoded.
    pub plan: BlobHash,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// As in the task.
    pub asset: AssetId,
    /// As in the task.
    pub number: TaskNumber,
    /// As in the task.
    pub epoch: u32,
    /// Who did it.
    pub worker: WorkerId,
    /// What came of it.
    pub outcome: Outcome,
}

/// Done or not. What is done is durably stored before it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The source is indexed.
    Indexed {
        /// Blob holding the [`crate::index::SourceIndex`], postcard-encoded.
        index: BlobHash,
        /// How many bytes of the source it speaks of, where that is not all: it is
        /// [settled](crate::index::SourceIndex::settled).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upto: Option<u64>,
    },
    /// The source's metadata are not all there yet, since its upload still runs.
    Waiting {
        /// The first byte after those that were asked for in vain.
        upto: u64,
    },
    /// Segments are made.
    Made {
        /// Names what was made of what by which engine: the same name means the same bytes.
        recipe: BlobHash,
        /// One entry per rendition that the task was to make.
        outputs: Vec<RenditionOutput>,
        /// The pictures planned for this part.
        images: Vec<Image>,
    },
    /// It could not be done.
    Failed(Failure),
}

/// The part of a rendition that one task made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenditionOutput {
    /// Which rendition.
    pub rendition: RenditionId,
    /// What encoded it, by libav's name: `libx264`; a device with what tells its streams from others': `h264_nvenc-5ae1c0f3`.
    pub encoder: String,
    /// Its init segment: equal for all parts from the same encoder, or the output is refused.
    pub init: InitSegment,
    /// The segments, in order.
    pub segments: Vec<Segment>,
}

/// Why something failed: a stable code for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable.
    pub code: FailureCode,
    /// One clear sentence.
    pub reason: String,
}

/// Stable codes of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// Nothing was uploaded.
    Empty,
    /// Fewer bytes came than were declared.
    Incomplete,
    /// What was to be pulled from somewhere cannot be had from there.
    Unreachable,
    /// The bytes are no video container that is known here.
    NotMedia,
    /// A container, but with neither picture nor sound in it.
    NoTracks,
    /// A container or codec that is known but not supported.
    Unsupported,
    /// The container promises bytes that are not there.
    Truncated,
    /// Nothing of it can be decoded.
    Corrupt,
    /// Beyond a limit of size, duration or dimensions.
    TooLarge,
    /// An attempt used more time or memory, or made more bytes, than it may.
    Limit,
    /// Our own fault, or the machine's: worth another attempt.
    Internal,
    /// The store did not do its part: worth another attempt, and neither the worker's fault nor the source's.
    Unavailable,
}

impl FailureCode {
    /// Whether another attempt may end better. What is wrong with the source stays wrong.
    pub const fn is_retryable(self) -> bool {
        match self {
            FailureCode::Limit | FailureCode::Internal | FailureCode::Unavailable => true,
            FailureCode::Empty
            | FailureCode::Incomplete
            | FailureCode::Unreachable
            | FailureCode::NotMedia
            | FailureCode::NoTracks
            | FailureCode::Unsupported
            | FailureCode::Truncated
            | FailureCode::Corrupt
            | FailureCode::TooLarge => false,
        }
    }
}

/// A task is over, or an attempt at it is. A hint: it saves the work of those who hear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOver {
    /// Whose task.
    pub asset: AssetId,
    /// Which; all of the asset's, if none is named.
    pub number: Option<TaskNumber>,
    /// The attempt that still counts, if there is one.
    pub but: Option<u32>,
}

impl TaskOver {
    /// Whether this attempt is.
    pub fn concerns(&self, task: &Task) -> bool {
        self.asset == task.asset
            && self.number.is_none_or(|number| number == task.number)
            && self.but != Some(task.epoch)
    }
}

/// How far a running attempt is. A hint: it may be lost, and nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// As in the task.
    pub asset: AssetId,
    /// As in the task.
    pub number: TaskNumber,
    /// As in the task.
    pub epoch: u32,
    /// Parts done in 1/1000, 0 to 1000.
    pub permille: u16,
    /// Who is at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// As in the task.
    #[serde(default)]
    pub cost_ms: u64,
}
