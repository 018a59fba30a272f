//! What is made of an asset, and what has made it.

use reelmill_media::ids::{BlobHash, RenditionId};
use serde::{Deserialize, Serialize};

/// One rendition and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendition {
    /// What was planned.
    #[serde(flatten)]
    pub planned: Planned,
    /// Segments that are made.
    pub made: u32,
    /// Their bytes.
    #[serde(default)]
    pub bytes: u64,
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
