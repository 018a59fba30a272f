//! Opens the encoder of a rung, and says what its stream is called.
//!
//! A rendition has one CODECS string, whoever encodes a part of it. So a hardware encoder is told the level that the
//! software encoder would signal, and is not used where its stream needs more of a decoder than that.

use reelmill_av::{AvError, VideoEncoder, VideoEngine, VideoSettings};
use reelmill_media::ids::BlobHash;

use crate::mp4::video_config::{BadParameterSets, VideoConfig};

/// An open encoder and what describes its stream.
pub struct Opened {
    /// The encoder.
    pub encoder: VideoEncoder,
    /// What the init segment says of its stream.
    pub config: VideoConfig,
    /// The rendition's CODECS string (RFC 6381): that of the software encoder.
    pub codecs: String,
}

/// Why an encoder is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncoderError {
    /// libav does not open it.
    #[error(transparent)]
    Open(#[from] AvError),
    /// Its stream cannot be described.
    #[error(transparent)]
    ParameterSets(#[from] BadParameterSets),
    /// Its stream is another than the rendition's.
    #[error("its stream is {is}, where {wanted} is wanted")]
    OtherCodecs {
        /// What the rendition is called.
        wanted: String,
        /// What the stream would be called.
        is: String,
    },
}

/// Opens `engine`.
pub fn open(engine: VideoEngine, settings: VideoSettings) -> Result<Opened, EncoderError> {
    if engine.is_software() {
        return open_alone(engine, settings);
    }
    let wanted = open_alone(VideoEngine::software(engine.codec()), settings)?.codecs;
    let engine = level(&wanted).map_or(engine, |level| engine.at_level(level));
    let opened = open_alone(engine, settings)?;
    if !covers(&wanted, &opened.codecs) {
        return Err(EncoderError::OtherCodecs { wanted, is: opened.codecs });
    }
    Ok(Opened { codecs: wanted, ..opened })
}

fn open_alone(engine: VideoEngine, settings: VideoSettings) -> Result<Opened, EncoderError> {
    let encoder = VideoEncoder::open(engine, settings)?;
    let config = VideoConfig::of(engine.codec(), encoder.parameter_sets())?;
    Ok(Opened { codecs: config.codecs(), config, encoder })
}

/// What the maker of a stream is called: libav's name, and for a device the first digits of its init segment's hash, since
/// another generation of it writes other headers under the same name.
pub fn stream_name(engine: VideoEngine, init: &[u8]) -> String {
    if engine.is_software() {
        return engine.name().to_owned();
    }
    let hash = BlobHash::of(init).to_string();
    format!("{}-{}", engine.name(), hash.get(..8).unwrap_or(&hash))
}

/// The level in a CODECS string, as the codec numbers it: RFC 6381 §3.3, ISO 14496-15 annex E, AV1-ISOBMFF §5.
fn level(codecs: &str) -> Option<u8> {
    let mut parts = codecs.split('.');
    match parts.next()? {
        "avc1" => u8::from_str_radix(parts.next()?.get(4..6)?, 16).ok(),
        "hvc1" => parts.nth(2)?.get(1..)?.parse().ok(),
        "av01" => parts.nth(1)?.get(..2)?.parse().ok(),
        _ => None,
    }
}

/// Whether a decoder for `wanted` decodes what is called `is`. H.264's constraint flags are promises: with more of them a
/// stream needs no more of a decoder (ITU-T H.264 §7.4.2.1.1).
fn covers(wanted: &str, is: &str) -> bool {
    let avc = |codecs: &str| u32::from_str_radix(codecs.strip_prefix("avc1.")?, 16).ok();
    match (avc(wanted), avc(is)) {
        (Some(wanted), Some(is)) => wanted & 0xff_00ff == is & 0xff_00ff && wanted & 0xff00 & !is == 0,
        (Some(_) | None, Some(_) | None) => wanted == is,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_every_codecs_own_numbers() {
        assert_eq!(level("avc1.64001f"), Some(31));
        assert_eq!(level("hvc1.1.6.L93.B0"), Some(93));
        assert_eq!(level("av01.0.04M.08"), Some(4));
        assert_eq!(level("avc1"), None);
    }

    #[test]
    fn more_promises_are_covered_and_more_demands_are_not() {
        assert!(covers("avc1.64001f", "avc1.64001f"));
        assert!(covers("avc1.64001f", "avc1.640c1f"));
        assert!(!covers("avc1.640c1f", "avc1.64001f"));
        assert!(!covers("avc1.64001f", "avc1.640020"));
        assert!(!covers("avc1.64001f", "avc1.4d001f"));
        assert!(covers("hvc1.1.6.L93.B0", "hvc1.1.6.L93.B0"));
        assert!(!covers("hvc1.1.6.L93.B0", "hvc1.1.6.L90.B0"));
    }
}
