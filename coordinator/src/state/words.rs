//! What the machine is told, and what it answers.

use jiff::{SignedDuration, Timestamp};
use reelmill_media::captions::{Captions, Language};
use reelmill_media::ids::{BlobHash, RenditionId, WorkerId};
use reelmill_media::profile::Profile;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Failure, Recipe, TaskNumber};

use super::asset::{Asset, SourceFacts};
use super::rendition::{Planned, Rendition};
use super::{AboutPatch, Notice};

/// What the machine must know of the world.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// Pause after a task's first failed attempt; each further one is four times as long.
    pub retry_after: SignedDuration,
    /// The asset's owner is to be told of it.
    pub webhook: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Bytes came.
    UploadProgress {
        /// How many there are now.
        bytes: u64,
        /// How many there will be, when known.
        length: Option<u64>,
    },
    /// More of the source is durable, though not all.
    Grown {
        /// What is there, and how long it will be.
        source: SourceRef,
        /// How many bytes are there.
        durable: u64,
        /// Tasks of the plan, in its order, that need no more.
        released: u32,
        /// [`Asset::fence`] of the asset that was looked at.
        fence: u32,
    },
    /// It is of no use to begin before so many bytes are there.
    WaitFor {
        /// The byte after the last of them.
        upto: u64,
    },
    /// The index task needs more of the source than was there.
    IndexWaits {
        /// As in the report.
        epoch: u32,
        /// As in the report.
        upto: u64,
    },
    /// The source is indexed further, and is not what its beginning said.
    Differs {
        /// As in the report.
        epoch: u32,
    },
    /// The bytes so far are void, and others come in their place.
    StartOver,
    /// The last byte is stored.
    UploadComplete {
        /// The bytes.
        source: SourceRef,
    },
    /// The last byte is stored, and what was made of the same bytes before is published.
    Reused {
        /// The bytes.
        source: SourceRef,
        /// What was made of them.
        twin: Box<Twin>,
    },
    /// Its owner wants it made by another profile, by which it is planned.
    Republish {
        /// By which.
        profile: Profile,
        /// What is to be done.
        plan: Box<PlanSummary>,
    },
    /// The upload ended without its bytes.
    UploadFailed(Failure),
    /// It is the turn of all tasks up to this one; the index comes first.
    HandOut {
        /// The last of them.
        upto: TaskNumber,
    },
    /// The source is indexed and planned.
    Indexed {
        /// As in the report.
        epoch: u32,
        /// What is to be done.
        plan: Box<PlanSummary>,
    },
    /// A planned task is done; its output is committed.
    TaskDone {
        /// As in the report.
        number: TaskNumber,
        /// As in the report.
        epoch: u32,
        /// As in the report.
        worker: WorkerId,
        /// What it made.
        made: Made,
    },
    /// A task could not be done.
    TaskFailed {
        /// As in the report.
        number: TaskNumber,
        /// As in the report.
        epoch: u32,
        /// As in the report.
        worker: WorkerId,
        /// Why.
        failure: Failure,
    },
    /// A report came that does not count: the same one again, or one of an attempt given up.
    Again {
        /// As in the report.
        number: TaskNumber,
    },
    /// A task was handed out too often without an end.
    TaskLost {
        /// As in the task.
        number: TaskNumber,
        /// As in the task.
        epoch: u32,
    },
    /// A task takes its worker much longer than it should.
    Straggles {
        /// As in the task.
        number: TaskNumber,
        /// As in the task.
        epoch: u32,
        /// Who is at it.
        worker: WorkerId,
    },
    /// Nothing is heard any more of a worker that is at a task.
    FallsSilent {
        /// As in the task.
        number: TaskNumber,
        /// As in the task.
        epoch: u32,
        /// Who was at it.
        worker: WorkerId,
    },
    /// Playlists were published.
    Published {
        /// They play.
        playable: bool,
        /// They are closed and nothing is missing.
        complete: bool,
    },
    /// Its owner says something of it.
    Described(AboutPatch),
    /// Its owner gives captions, which are stored.
    Captioned(Captions),
    /// Its owner takes the captions in a language away.
    Uncaptioned(Language),
    /// Its owner takes it away.
    Deleted,
    /// Nothing of a deleted asset is published any more.
    Retracted,
    /// Everything was tidied up after the end.
    Closed,
    /// Somebody is about to tell the first notice.
    ClaimNotice,
    /// A try to tell it ended.
    NoticeTried {
        /// Which, as it was claimed.
        notice: Notice,
        /// The receiver took it.
        told: bool,
    },
    /// Time passed.
    Tick,
}

/// What another asset of the same bytes has.
#[derive(Debug, Clone, PartialEq)]
pub struct Twin {
    /// The stored index and plan.
    pub recipe: Recipe,
    /// What the index says of the source.
    pub facts: Option<SourceFacts>,
    /// What was made.
    pub renditions: Vec<Rendition>,
}

/// What a plan says, as far as the machine must know it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSummary {
    /// The stored index and plan.
    pub recipe: Recipe,
    /// Number of planned tasks.
    pub tasks: u32,
    /// How many of them come first because a publish waits for them.
    pub urgent: u32,
    /// The cost of all in milliseconds of one core.
    pub cost_ms: u64,
    /// The cost of the urgent ones in milliseconds of one core.
    pub urgent_cost_ms: u64,
    /// How far it goes, where more of the source is to come.
    pub growth: Option<Beginning>,
    /// What the index says of the source.
    pub facts: SourceFacts,
    /// What will be made.
    pub renditions: Vec<Planned>,
}

/// A part of a source that was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// Its length in bytes.
    pub bytes: u64,
    /// With so many bytes it is worth while to go on.
    pub goes_on_at: u64,
}

/// What a task made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its planned cost in milliseconds of one core.
    pub cost_ms: u64,
    /// Its part of each rendition.
    pub parts: Vec<MadePart>,
}

/// A part of a rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadePart {
    /// Of which.
    pub rendition: RenditionId,
    /// What encoded it.
    pub encoder: String,
    /// Its init segment.
    pub init: BlobHash,
    /// Its codec string.
    pub codecs: String,
    /// How many segments.
    pub segments: u32,
    /// How many bytes these have.
    pub bytes: u64,
    /// How many frames, or packets of sound, were filled in.
    pub concealed: u32,
}

/// What is to be done about it. Doing any of these twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// See what is there of a resumable upload, and what that releases.
    CheckUpload,
    /// Put a task in its queue.
    PublishTask {
        /// Which task.
        number: TaskNumber,
        /// Which attempt.
        epoch: u32,
    },
    /// Put a second copy of an attempt in the queue, for another worker.
    RaceTask {
        /// Which task.
        number: TaskNumber,
        /// Which attempt.
        epoch: u32,
    },
    /// Take all earlier attempts at a task out of the queue, and tell whoever is at one to stop.
    WithdrawTask {
        /// Which task.
        number: TaskNumber,
    },
    /// Note that a worker failed at a task that another then did in the same way.
    Blame {
        /// Whom.
        worker: WorkerId,
        /// For which task.
        number: TaskNumber,
    },
    /// Publish what is made so far.
    RenderPlaylists,
    /// Publish it with the captions that there are now.
    RenderCaptions,
    /// Take the playlist of captions away that the asset has no more. Should it be left behind, nothing leads to it.
    WithdrawCaptions {
        /// Their words.
        words: BlobHash,
    },
    /// Take back tasks and playlists of an asset that failed or was deleted.
    Retract,
    /// Make sure of what is published, remove the records of tasks and upload, and say so by [`Input::Closed`].
    Close,
    /// As [`Effect::Close`], and remove the record itself.
    Forget,
}

/// The next record, and what is to be done once it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The record.
    pub asset: Asset,
    /// In this order.
    pub effects: Vec<Effect>,
}
