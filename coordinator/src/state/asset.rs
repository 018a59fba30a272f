//! The record of an asset, as it lies in the bucket `assets`. Its size does not grow with the asset's length beyond
//! one bit per task.

use jiff::Timestamp;
use reelmill_media::captions::Captions;
use reelmill_media::ids::{AssetId, TenantId, UploadId};
use reelmill_media::index::Container;
use reelmill_media::presentation::Edition;
use reelmill_media::profile::Profile;
use reelmill_media::task::TaskNumber;
use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::edition::{Abandoned, Standing};
use super::rendition::{Rendition, RenditionKind};
use super::stage::Stage;
use super::{About, Notice};

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
    /// Which edition its profile and renditions are of.
    #[serde(default, skip_serializing_if = "Edition::is_first")]
    pub edition: Edition,
    /// What viewers have, where another edition is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// The last try at another edition, if it came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<Abandoned>,
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
            edition: Edition::default(),
            standing: None,
            abandoned: None,
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
