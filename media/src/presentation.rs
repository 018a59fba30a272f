//! The typed, numbered description of all renditions published together; playlists are texts made of it.

use serde::{Deserialize, Serialize};

use crate::captions::Captions;
use crate::codec::{AudioCodec, VideoCodec};
use crate::ids::{AssetId, BlobHash, RenditionId};
use crate::image::Image;
use crate::keys;
use crate::segment::{InitSegment, Segment};
use crate::time::{FrameRate, Timescale};

/// Which of an asset's presentations: the first, or one that was made later by another profile and took its place. Those
/// of one asset have ever higher numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Edition(pub u32);

impl Edition {
    /// It has taken no other's place.
    pub const fn is_first(&self) -> bool {
        self.0 == 0
    }

    /// A rendition's name among the asset's playlists: another one in each edition, so that nobody ever gets a bit of one
    /// and a bit of another.
    pub fn playlist_of(self, rendition: &RenditionId) -> String {
        match self {
            Edition(0) => rendition.to_string(),
            Edition(number) => format!("{rendition}-e{number}"),
        }
    }
}

/// An edition whose place another has taken. Who watched it then may go on to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Which.
    pub edition: Edition,
    /// File names of its media playlists: what they name is still the asset's.
    pub playlists: Vec<String>,
}

/// Everything that viewers can see of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    /// Whose.
    pub asset: AssetId,
    /// Which of the asset's.
    #[serde(default, skip_serializing_if = "Edition::is_first")]
    pub edition: Edition,
    /// Those before it that are not collected yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Past>,
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

    /// A track's name among the asset's playlists.
    pub fn playlist_of(&self, track: &Track) -> String {
        self.edition.playlist_of(&track.id)
    }

    /// The renditions that scrubbing is shown from.
    pub fn lowest(&self) -> impl Iterator<Item = &VideoRendition> {
        self.video.iter().filter(|rendition| rendition.lowest)
    }

    /// How it is remembered when another edition takes its place.
    pub fn as_past(&self) -> Past {
        let media = self.tracks().map(|track| keys::media_playlist_name(self.playlist_of(track)));
        let iframes = self.lowest().map(|r| keys::iframe_playlist_name(self.playlist_of(&r.track)));
        Past { edition: self.edition, playlists: media.chain(iframes).collect() }
    }
}
