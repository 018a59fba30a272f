//! The codecs that renditions are encoded in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timescale;

/// A codec of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoCodec {
    /// H.264 (ITU-T H.264, ISO 14496-10).
    H264,
    /// HEVC (ITU-T H.265, ISO 23008-2).
    Hevc,
    /// AV1.
    Av1,
}

/// A codec of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioCodec {
    /// AAC-LC (ISO 14496-3).
    Aac,
    /// Opus (RFC 6716).
    Opus,
}

impl VideoCodec {
    /// Its name in profiles and in the names of renditions.
    pub const fn name(self) -> &'static str {
        match self {
            VideoCodec::H264 => "h264",
            VideoCodec::Hevc => "hevc",
            VideoCodec::Av1 => "av1",
        }
    }

    /// The least width and height that encoders take, in pixels: SVT-AV1 refuses less than 64.
    pub const fn min_side(self) -> u32 {
        match self {
            VideoCodec::H264 | VideoCodec::Hevc => 16,
            VideoCodec::Av1 => 64,
        }
    }

    /// The largest constant rate factor of the encoder's scale.
    pub const fn max_crf(self) -> u8 {
        match self {
            VideoCodec::H264 | VideoCodec::Hevc => 51,
            VideoCodec::Av1 => 63,
        }
    }
}

impl AudioCodec {
    /// Its name in profiles and in the names of renditions.
    pub const fn name(self) -> &'static str {
        match self {
            AudioCodec::Aac => "aac",
            AudioCodec::Opus => "opus",
        }
    }

    /// Output samples in one packet: ISO 14496-3 §4.5.2.1.1; 20 ms of Opus (RFC 6716 §2.1.4).
    pub const fn packet_samples(self) -> i64 {
        match self {
            AudioCodec::Aac => 1024,
            AudioCodec::Opus => 960,
        }
    }

    /// Output samples of encoder delay before the first presented one, declared in the init segment's edit list: one
    /// packet of AAC; libopus's 6.5 ms of look-ahead.
    pub const fn priming_samples(self) -> i64 {
        match self {
            AudioCodec::Aac => 1024,
            AudioCodec::Opus => 312,
        }
    }

    /// The rate that sound of `source` samples per second is encoded at: AAC keeps 44.1 kHz, all else becomes 48 kHz.
    pub fn sample_rate(self, source: u32) -> Timescale {
        match (self, source) {
            (AudioCodec::Aac, 44_100) => Timescale::HZ_44_100,
            (AudioCodec::Aac | AudioCodec::Opus, _) => Timescale::HZ_48_000,
        }
    }
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
