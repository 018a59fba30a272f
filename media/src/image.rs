//! Still pictures of a presentation, taken while its first renditions are encoded.

use serde::{Deserialize, Serialize};

use crate::ids::BlobHash;

/// What a still is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// Shown before play begins.
    Poster,
    /// Shown while scrubbing.
    Thumbnail,
}

/// One JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What it is for.
    pub kind: ImageKind,
    /// The presented frame it shows, counted from 0.
    pub frame: u32,
    /// Its presentation time in microseconds.
    pub at_micros: i64,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Length in bytes.
    pub bytes: u64,
    /// Content hash.
    pub hash: BlobHash,
}
