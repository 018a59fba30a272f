//! The typed, numbered description of all renditions published together; playlists are texts made of it.

use serde::{Deserialize, Serialize};

use crate::captions::Captions;
use crate::codec::{AudioCodec, VideoCodec};
use crate::ids::{AssetId, BlobHash, RenditionId};
use crate::image::Image;
use crate::segment::{InitSegment, Segment};
use crate::time::{FrameRate, Timescale};

/// Everything that viewers can see of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    /// Whose.
    pub asset: AssetId,
    /// Every segment of every rendition is there.
    pub complete: bool,
    /// EXT-X-TARGETDURATION of all playlists, in seconds. Known from the plan, so it never changes.
    pub target_duration: u32,
    /// Duration of the picture, or of the sound where there is none, in microseconds.
    pub duration_micros: i64,
    /// Video renditions with at least one segment, in the ladder's order.
    pub video: Vec<VideoRendition>,
    /// Audio renditions with at least one segment, in the ladder's order.
    pub audio: Vec<AudioRendition>,
    /// Shown before play begins, once it is made.
    pub poster: Option<Image>,
    /// By time.
    pub thumbnails: Vec<Image>,
    /// Thumbnails put together, once all are there.
    pub storyboard: Option<Storyboard>,
    /// By language.
    #[serde(default)]
    pub captions: Vec<Captions>,
}

/// One encoded video track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoRendition {
    /// In what it is encoded.
    pub codec: VideoCodec,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Mean frame rate.
    pub frame_rate: FrameRate,
    /// The lowest of its codec: what scrubbing is shown from.
    pub lowest: bool,
    /// Its segments.
    pub track: Track,
}

/// One encoded audio track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRendition {
    /// In what it is encoded.
    pub codec: AudioCodec,
    /// Channels.
    pub channels: u16,
    /// Which of the source's audio tracks; 0 is played unless the viewer chooses another.
    pub source_track: u32,
    /// ISO 639-2 code, if known.
    pub language: Option<String>,
    /// Its segments.
    pub track: Track,
}

/// What all renditions have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// Name.
    pub id: RenditionId,
    /// The init segment and encoder of the first segment, and each that follows it; never empty.
    pub runs: Vec<Run>,
    /// From number 0 on, without a gap; never empty.
    pub segments: Vec<Segment>,
    /// No segment is missing.
    pub complete: bool,
}

/// Segments one after another that share an init segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Number of the first of them.
    pub from: u32,
    /// What encoded them.
    pub encoder: String,
    /// Their init segment; clock and codec string are the same in all runs of a track.
    pub init: InitSegment,
}

/// Sprite sheets: thumbnails side by side, row by row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storyboard {
    /// Thumbnails in a full row.
    pub columns: u32,
    /// Rows of a full sheet.
    pub rows: u32,
    /// The sheets, in order.
    pub sheets: Vec<Sheet>,
}

/// One sprite sheet, a JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sheet {
    /// Length in bytes.
    pub bytes: u64,
    /// Content hash.
    pub hash: BlobHash,
}

impl Track {
    /// The rendition's clock.
    pub fn timescale(&self) -> Timescale {
        self.runs.first().map_or(Timescale::MPEG, |run| run.init.timescale)
    }

    /// RFC 6381 codec string.
    pub fn codecs(&self) -> &str {
        self.runs.first().map_or("", |run| &run.init.codecs)
    }

    /// The run that begins with segment `number`, if one does.
    pub fn run_from(&self, number: u32) -> Option<&Run> {
        self.runs.iter().find(|run| run.from == number)
    }
}

impl Presentation {
    /// All tracks, video first.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.video.iter().map(|r| &r.track).chain(self.audio.iter().map(|r| &r.track))
    }
}
