//! The record of an asset, as it lies in the bucket `assets`. Its size does not grow with the asset's length beyond
//! one bit per task.

use jiff::Timestamp;
use reelmill_media::captions::Captions;
use reelmill_media::ids::{AssetId, BlobHash, RenditionId, TenantId, UploadId, WorkerId};
use reelmill_media::index::Container;
use reelmill_media::profile::Profile;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Failure, Recipe, TaskNumber, Way};
use serde::{Deserialize, Serialize};

use super::{About, DoneSet, Notice};

/// One asset and the state of its job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// Which one.
    pub id: AssetId,
    /// Whose.
    pub tenant: TenantId,
    /// What its owner calls it.
    pub name: Option<String>,
    /// What else its owner says of it.
    #[serde(default)]
    pub about: About,
    /// Captions that its owner gave, by language.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captions: Vec<Captions>,
    /// When its upload began.
    pub created_at: Timestamp,
    /// What is to be made of it.
    #[serde(default)]
    pub profile: Profile,
    /// How its bytes come.
    pub upload: Upload,
    /// When it reached what.
    pub timings: Timings,
    /// What the index says of the source, once there is one.
    pub facts: Option<SourceFacts>,
    /// What is made of it, once it is planned; lowest first, sound last.
    pub renditions: Vec<Rendition>,
    /// Epochs up to this one were given out by jobs, or tries at indexing, that count no more.
    #[serde(default)]
    pub fence: u32,
    /// What its owner is still to be told, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Where it is on its way.
    pub stage: Stage,
}

/// The upload as seen from the asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Bytes that have come; durable ones where the upload is resumable.
    pub bytes: u64,
    /// Bytes there will be, when declared.
    pub length: Option<u64>,
    /// How they come.
    pub arrival: Arrival,
    /// When some last came.
    pub touched_at: Timestamp,
    /// Bytes that the job may read.
    #[serde(default)]
    pub durable: u64,
    /// Nothing is begun before the byte before this one is there: an index task asked for it in vain.
    #[serde(default)]
    pub wants: u64,
}

/// How an upload comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "arrival", rename_all = "snake_case")]
pub enum Arrival {
    /// In one request: a cut ends it.
    Whole,
    /// In as many requests as it takes.
    Resumable {
        /// The upload's record.
        upload: UploadId,
    },
    /// By us, from where its owner says.
    Pulled {
        /// The upload's record.
        upload: UploadId,
    },
}

impl Arrival {
    /// The upload's record, where there is one.
    pub const fn upload(self) -> Option<UploadId> {
        match self {
            Arrival::Whole => None,
            Arrival::Resumable { upload } | Arrival::Pulled { upload } => Some(upload),
        }
    }
}

/// Moments of an asset's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Its last byte was stored.
    pub received_at: Option<Timestamp>,
    /// A playlist that plays was published.
    pub playable_at: Option<Timestamp>,
    /// It became ready, or failed.
    pub completed_at: Option<Timestamp>,
}

/// What people want to know of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// How it is wrapped.
    pub container: Container,
    /// The picture, if there is one.
    pub video: Option<VideoFacts>,
    /// Codec of each sound track.
    pub audio_codecs: Vec<String>,
    /// Duration of the picture, or of the sound where there is none, in microseconds.
    pub duration_micros: i64,
}

/// What people want to know of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoFacts {
    /// Its codec.
    pub codec: String,
    /// Width in pixels as a viewer sees it.
    pub width: u32,
    /// Height in pixels as a viewer sees it.
    pub height: u32,
    /// Mean frames per second.
    pub frame_rate: f64,
}

/// One rendition and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendition {
    /// What was planned.
    #[serde(flatten)]
    pub planned: Planned,
    /// Segments that are made.
    pub made: u32,
    /// What has encoded parts of it: all parts from one encoder have the same init segment.
    #[serde(default)]
    pub encoders: Vec<Encoder>,
    /// RFC 6381 codec string, from the first part made.
    pub codecs: Option<String>,
    /// Frames (of sound, packets) of the source that could not be decoded and were filled in.
    #[serde(default)]
    pub concealed: u32,
    /// Segments of those made that show nothing of the source: see [`Way::Concealed`].
    #[serde(default)]
    pub blank: u32,
}

/// An encoder at work on a rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoder {
    /// Its name.
    pub name: String,
    /// The init segment of its parts.
    pub init: BlobHash,
}

impl Rendition {
    /// Whether a part from this encoder with this init segment belongs to it.
    pub fn fits(&self, encoder: &str, init: BlobHash) -> bool {
        match self.encoders.iter().find(|known| known.name == encoder) {
            Some(known) => known.init == init,
            None => self.encoders.len() < MAX_ENCODERS,
        }
    }
}

/// Encoders of one rendition: software, and a device that gave up or came late.
const MAX_ENCODERS: usize = 4;

/// A rendition to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its name.
    pub id: RenditionId,
    /// Picture or sound.
    #[serde(flatten)]
    pub kind: RenditionKind,
    /// ISO 639-2 code, of sound and if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// How many segments it will have.
    pub segments: u32,
}

/// Picture or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RenditionKind {
    /// Picture.
    Video {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// Sound.
    Audio,
}

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

/// The present attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which task.
    pub number: TaskNumber,
    /// Which attempt: reports of another one are late.
    pub epoch: u32,
    /// Attempts at this task that have failed.
    pub failures: u8,
    /// Attempts that came to nothing because something they needed was not there. They cost nothing but time.
    #[serde(default)]
    pub outages: u8,
    /// How it is gone about.
    #[serde(default)]
    pub way: Way,
    /// Workers that have failed at this task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_by: Vec<WorkerId>,
    /// It takes this worker too long, so that the same attempt was given to another as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raced: Option<WorkerId>,
    /// It waits in no queue before this: the attempt before it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::optional")]
    pub not_before: Option<Timestamp>,
    /// When this attempt began.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub opened_at: Timestamp,
    /// When it was last put in the queue.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub published_at: Timestamp,
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

impl Stage {
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

impl Asset {
    /// An asset whose upload begins.
    pub fn new(
        id: AssetId,
        tenant: TenantId,
        name: Option<String>,
        length: Option<u64>,
        arrival: Arrival,
        now: Timestamp,
    ) -> Asset {
        Asset {
            id,
            tenant,
            name,
            about: About::default(),
            captions: Vec::new(),
            created_at: now,
            profile: Profile::default(),
            upload: Upload { bytes: 0, length, arrival, touched_at: now, durable: 0, wants: 0 },
            timings: Timings::default(),
            facts: None,
            renditions: Vec::new(),
            fence: 0,
            notices: Vec::new(),
            stage: Stage::Uploading,
        }
    }

    /// Whether the sweeper can forget it.
    pub const fn is_closed(&self) -> bool {
        match &self.stage {
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Processing { .. }
            | Stage::Deleted { .. } => false,
            Stage::Ready { closed, .. } | Stage::Failed { closed, .. } => *closed && self.notices.is_empty(),
        }
    }

    /// Something of it plays.
    pub const fn is_playable(&self) -> bool {
        self.timings.playable_at.is_some()
            && !matches!(self.stage, Stage::Failed { .. } | Stage::Deleted { .. })
    }

    /// Tasks that are handed out now.
    pub fn in_flight(&self) -> &[Attempt] {
        match &self.stage {
            Stage::Indexing { attempt, .. } => std::slice::from_ref(attempt),
            Stage::Processing { job, .. } => &job.in_flight,
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => &[],
        }
    }

    /// The present attempt at a task; `None` when the task is not handed out.
    pub fn attempt(&self, number: TaskNumber) -> Option<&Attempt> {
        self.in_flight().iter().find(|attempt| attempt.number == number)
    }

    /// The epoch that counts for a task; `None` when the task is not handed out.
    pub fn epoch(&self, number: TaskNumber) -> Option<u32> {
        self.attempt(number).map(|attempt| attempt.epoch)
    }

    /// Something of the picture, or of the sound where there is no picture, comes from the source.
    pub(super) fn shows_something(&self) -> bool {
        let is_video = |r: &&Rendition| matches!(r.planned.kind, RenditionKind::Video { .. });
        let has_video = self.renditions.iter().any(|r| is_video(&r));
        self.renditions.iter().filter(|r| !has_video || is_video(r)).any(|r| r.made > r.blank)
    }

    /// When the first of its waiting attempts may begin.
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.in_flight().iter().filter_map(|attempt| attempt.not_before).min()
    }
}
