//! What an init segment says of a video codec, and how its coded frames become samples.

use reelmill_media::codec::VideoCodec;

use super::av1::{self, Av1Config};
use super::avc::{self, AvcConfig};
use super::hevc::{self, HevcConfig};

/// The encoder's parameter sets are not what an init segment can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the encoder's parameter sets hold {0}")]
pub struct BadParameterSets(pub &'static str);

/// A codec's parameter sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoConfig {
    /// H.264.
    Avc(AvcConfig),
    /// HEVC.
    Hevc(HevcConfig),
    /// AV1.
    Av1(Av1Config),
}

impl VideoConfig {
    /// Of an encoder's parameter sets, in the stream's own form.
    pub fn of(codec: VideoCodec, parameter_sets: &[u8]) -> Result<Self, BadParameterSets> {
        match codec {
            VideoCodec::H264 => AvcConfig::from_annex_b(parameter_sets).map(Self::Avc),
            VideoCodec::Hevc => HevcConfig::from_annex_b(parameter_sets).map(Self::Hevc),
            VideoCodec::Av1 => Av1Config::from_obus(parameter_sets).map(Self::Av1),
        }
    }

    /// The codec's name as RFC 6381 has it.
    pub fn codecs(&self) -> String {
        match self {
            Self::Avc(config) => config.codecs(),
            Self::Hevc(config) => config.codecs(),
            Self::Av1(config) => config.codecs(),
        }
    }

    /// A coded frame as a sample.
    pub fn sample(&self, coded: &[u8]) -> Vec<u8> {
        match self {
            Self::Avc(_) => avc::sample(coded),
            Self::Hevc(_) => hevc::sample(coded),
            Self::Av1(_) => av1::sample(coded),
        }
    }

    /// Kinds of the sample entry and of the configuration box in it, and what that box holds.
    pub fn boxes(&self) -> (&'static [u8; 4], &'static [u8; 4], Vec<u8>) {
        match self {
            Self::Avc(config) => (b"avc1", b"avcC", config.record()),
            Self::Hevc(config) => (b"hvc1", b"hvcC", config.record()),
            Self::Av1(config) => (b"av01", b"av1C", config.record()),
        }
    }
}
