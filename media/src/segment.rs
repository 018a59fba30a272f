//! The addressable units of delivery.

use serde::{Deserialize, Serialize};

use crate::ids::BlobHash;
use crate::time::{Ticks, Timescale};

/// One media segment: one fragment, starting with an IDR frame where it is video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Position in the rendition, from 0.
    pub number: u32,
    /// Presentation start on the rendition's clock.
    pub start: Ticks,
    /// Presentation duration on the rendition's clock.
    pub duration: Ticks,
    /// Video frames, or audio packets.
    pub frames: u32,
    /// Frames that could not be decoded and repeat their predecessor; of sound, packets that became silence.
    pub concealed: u32,
    /// Bytes from the segment's start to the end of its first frame, which stands alone; 0 for sound.
    pub first_frame_bytes: u32,
    /// Length in bytes.
    pub bytes: u64,
    /// Content hash.
    pub hash: BlobHash,
}

/// `ftyp` + `moov` of a rendition, and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitSegment {
    /// Content hash.
    pub hash: BlobHash,
    /// Length in bytes.
    pub bytes: u64,
    /// The rendition's clock.
    pub timescale: Timescale,
    /// RFC 6381 codec string, read from the encoder's own parameters.
    pub codecs: String,
}
