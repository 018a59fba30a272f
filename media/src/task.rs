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
    /// An attempt used more time or memory than it may.
    Limit,
    /// Our own fault, or the machine's: worth another attempt.
    Internal,
}

impl FailureCode {
    /// Whether another attempt may end better. What is wrong with the source stays wrong.
    pub const fn is_retryable(self) -> bool {
        match self {
            FailureCode::Limit | FailureCode::Internal => true,
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
}
