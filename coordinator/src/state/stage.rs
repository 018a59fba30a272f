//! Where an asset is on its way, and the work of one that is planned.

use jiff::Timestamp;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Class, Failure, Recipe};
use serde::{Deserialize, Serialize};

use super::DoneSet;
use super::attempt::Attempt;
use super::growth::Growth;

/// Where an asset is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// Bytes are coming.
    Uploading,
    /// So many bytes are there that the job may begin; it was announced.
    Queued {
        /// The bytes that are there; all of them once the upload is complete. So it is in the stages after this.
        source: SourceRef,
    },
    /// A worker reads its metadata.
    Indexing {
        /// The bytes.
        source: SourceRef,
        /// The present attempt.
        attempt: Attempt,
        /// It began before the last byte was there.
        #[serde(default)]
        partial: bool,
    },
    /// Workers make segments.
    Processing {
        /// The bytes.
        source: SourceRef,
        /// The work.
        job: Job,
    },
    /// Everything is made and published.
    Ready {
        /// The bytes.
        source: SourceRef,
        /// How they were cut.
        recipe: Recipe,
        /// Nothing is left to tidy up.
        closed: bool,
    },
    /// It cannot be done.
    Failed {
        /// Why.
        failure: Failure,
        /// Nothing is left to tidy up.
        closed: bool,
    },
    /// Its owner took it away. The record goes last, when everything else is gone.
    Deleted {
        /// When.
        at: Timestamp,
        /// Nothing of it is published any more.
        retracted: bool,
    },
}

/// The work of a planned asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Index and plan.
    pub recipe: Recipe,
    /// Number of planned tasks.
    pub tasks: u32,
    /// How many of them come first because a publish waits for them.
    #[serde(default)]
    pub urgent: u32,
    /// Tasks, in the plan's order, that read nothing but what is durable; all of them once the upload is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<u32>,
    /// More tasks follow: the plan is that of a beginning of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Position of the first task that was not handed out yet.
    pub next: u32,
    /// Positions that are done.
    pub done: DoneSet,
    /// Tasks handed out and not done, those that wait for another attempt included.
    pub in_flight: Vec<Attempt>,
    /// Estimated cost of all tasks in milliseconds of one core.
    pub cost_ms: u64,
    /// Of that, what a publish waits for.
    #[serde(default)]
    pub urgent_cost_ms: u64,
    /// Of all, done.
    pub done_cost_ms: u64,
}

/// The names of stages, for metrics and for the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    /// See [`Stage::Uploading`].
    Uploading,
    /// See [`Stage::Queued`].
    Queued,
    /// See [`Stage::Indexing`].
    Indexing,
    /// See [`Stage::Processing`].
    Processing,
    /// See [`Stage::Ready`].
    Ready,
    /// See [`Stage::Failed`].
    Failed,
    /// See [`Stage::Deleted`].
    Deleted,
}

impl StageName {
    /// Ready, failed or deleted: nothing more will happen.
    pub const fn is_final(self) -> bool {
        match self {
            StageName::Uploading | StageName::Queued | StageName::Indexing | StageName::Processing => false,
            StageName::Ready | StageName::Failed | StageName::Deleted => true,
        }
    }
}

impl Job {
    /// Every task of it is done, and no others follow.
    pub fn is_done(&self) -> bool {
        self.growth.is_none() && self.done.len() == self.tasks
    }

    /// How urgent the task at a position is.
    pub const fn class_of(&self, position: u32) -> Class {
        if position < self.urgent { Class::Publish } else { Class::Ladder }
    }
}

impl Stage {
    /// It is not known yet how long the presentation will be.
    pub fn grows(&self) -> bool {
        self.job().is_some_and(|job| job.growth.is_some())
    }

    /// The work on it.
    pub const fn job(&self) -> Option<&Job> {
        match self {
            Stage::Processing { job, .. } => Some(job),
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => None,
        }
    }

    /// Why it cannot be done.
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Stage::Failed { failure, .. } => Some(failure),
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Processing { .. }
            | Stage::Ready { .. }
            | Stage::Deleted { .. } => None,
        }
    }

    /// The bytes that it is made of, while or since they are there.
    pub const fn source(&self) -> Option<SourceRef> {
        match self {
            Stage::Queued { source }
            | Stage::Indexing { source, .. }
            | Stage::Processing { source, .. }
            | Stage::Ready { source, .. } => Some(*source),
            Stage::Uploading | Stage::Failed { .. } | Stage::Deleted { .. } => None,
        }
    }

    /// Its name.
    pub const fn name(&self) -> StageName {
        match self {
            Stage::Uploading => StageName::Uploading,
            Stage::Queued { .. } => StageName::Queued,
            Stage::Indexing { .. } => StageName::Indexing,
            Stage::Processing { .. } => StageName::Processing,
            Stage::Ready { .. } => StageName::Ready,
            Stage::Failed { .. } => StageName::Failed,
            Stage::Deleted { .. } => StageName::Deleted,
        }
    }
}
