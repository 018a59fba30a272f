//! H.264 in MP4 (ISO 14496-15 §5).

use super::nal;
use super::video_config::BadParameterSets;

/// NAL unit types (ITU-T H.264 table 7-1) that are looked at.
const NAL_SEI: u8 = 6;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;
const NAL_ACCESS_UNIT_DELIMITER: u8 = 9;

/// Parameter sets as an `avcC` box holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvcConfig {
    sps: Vec<u8>,
    pps: Vec<u8>,
}

impl AvcConfig {
    /// Takes one SPS and one PPS out of Annex B bytes; an SEI beside them is left out.
    pub fn from_annex_b(bytes: &[u8]) -> Result<Self, BadParameterSets> {
        let one = |kind| {
            let mut found = nal::units(bytes).filter(|n| nal_type(n) == Some(kind));
            match (found.next(), found.next()) {
                (Some(unit), None) if unit.len() <= usize::from(u16::MAX) => Some(unit.to_vec()),
                (Some(_) | None, _) => None,
            }
        };
        let sps = one(NAL_SPS).filter(|s| s.len() >= 4).ok_or(BadParameterSets("not exactly one SPS"))?;
        let pps = one(NAL_PPS).ok_or(BadParameterSets("not exactly one PPS"))?;
        Ok(Self { sps, pps })
    }

    /// Profile, constraint flags and level.
    fn profile_level(&self) -> [u8; 3] {
        let at = |i: usize| self.sps.get(i).copied().unwrap_or(0);
        [at(1), at(2), at(3)]
    }

    /// RFC 6381 §3.3: `avc1.PPCCLL`.
    pub fn codecs(&self) -> String {
        let [profile, constraints, level] = self.profile_level();
        format!("avc1.{profile:02x}{constraints:02x}{level:02x}")
    }

    /// The `AVCDecoderConfigurationRecord` (§5.3.3.1) for 8-bit 4:2:0.
    pub fn record(&self) -> Vec<u8> {
        let [profile, constraints, level] = self.profile_level();
        // Four-byte lengths; one SPS. Reserved bits are ones.
        let mut out = vec![1, profile, constraints, level, 0xfc | 3, 0xe0 | 1];
        for (set, after) in [(&self.sps, &[1u8][..]), (&self.pps, &[])] {
            out.extend_from_slice(&(set.len() as u16).to_be_bytes());
            out.extend_from_slice(set);
            out.extend_from_slice(after);
        }
        if matches!(profile, 100 | 110 | 122 | 144) {
            // chroma_format 4:2:0, luma and chroma 8 bits, no SPS extensions.
            out.extend_from_slice(&[0xfc | 1, 0xf8, 0xf8, 0]);
        }
        out
    }
}

/// One access unit as a sample. What repeats the `avcC` or is for no decoder (SEI: the encoder's name and settings) is
/// left out.
pub fn sample(annex_b: &[u8]) -> Vec<u8> {
    let dropped = [NAL_SEI, NAL_SPS, NAL_PPS, NAL_ACCESS_UNIT_DELIMITER];
    nal::length_prefixed(annex_b, |unit| nal_type(unit).is_some_and(|kind| !dropped.contains(&kind)))
}

fn nal_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|b| b & 0x1f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPS: [u8; 6] = [0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9];

    fn annex_b(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|u| [&[0, 0, 0, 1], *u].concat()).collect()
    }

    #[test]
    fn config_and_codec_string_come_from_the_sps() {
        let config = AvcConfig::from_annex_b(&annex_b(&[&SPS, &[0x68, 0xeb], &[0x06, 5, 1]])).unwrap();
        assert_eq!(config.codecs(), "avc1.64001f");
        let record = config.record();
        assert_eq!(record[..8], [1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 6]);
        assert_eq!(record[record.len() - 4..], [0xfd, 0xf8, 0xf8, 0]);
        assert!(AvcConfig::from_annex_b(&annex_b(&[&SPS])).is_err());
    }

    #[test]
    fn slices_keep_their_bytes_and_sei_goes() {
        let unit = annex_b(&[&[0x06, 1, 2, 0x80], &[0x65, 0, 0, 3, 1, 0x80]]);
        assert_eq!(sample(&unit), [0, 0, 0, 6, 0x65, 0, 0, 3, 1, 0x80]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200)) {
            let _ = sample(&bytes);
            let _ = AvcConfig::from_annex_b(&bytes);
        }
    }
}
