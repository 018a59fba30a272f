//! HEVC in MP4 (ISO 14496-15 §8).

use super::bits::Bits;
use super::nal;
use super::video_config::BadParameterSets;

/// NAL unit types (ITU-T H.265 table 7-1) that are looked at.
const NAL_VPS: u8 = 32;
const NAL_SPS: u8 = 33;
const NAL_PPS: u8 = 34;
const NAL_ACCESS_UNIT_DELIMITER: u8 = 35;
const NAL_PREFIX_SEI: u8 = 39;
const NAL_SUFFIX_SEI: u8 = 40;

/// Parameter sets as an `hvcC` box holds them, and what it repeats of the SPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HevcConfig {
    /// VPS, SPS and PPS.
    sets: [Vec<u8>; 3],
    /// `general_profile_space` to `general_level_idc` of the SPS (ITU-T H.265 §7.3.3).
    profile_tier_level: [u8; 12],
    /// `sps_max_sub_layers_minus1` + 1.
    temporal_layers: u8,
    temporal_id_nested: bool,
    chroma_format: u8,
    luma_depth_minus_8: u8,
    chroma_depth_minus_8: u8,
}

impl HevcConfig {
    /// Takes one VPS, SPS and PPS out of Annex B bytes; an SEI beside them is left out.
    pub fn from_annex_b(bytes: &[u8]) -> Result<Self, BadParameterSets> {
        let one = |kind| {
            let mut found = nal::units(bytes).filter(|n| nal_type(n) == Some(kind));
            match (found.next(), found.next()) {
                (Some(unit), None) if unit.len() <= usize::from(u16::MAX) => Some(unit.to_vec()),
                (Some(_) | None, _) => None,
            }
        };
        let vps = one(NAL_VPS).ok_or(BadParameterSets("not exactly one VPS"))?;
        let sps = one(NAL_SPS).ok_or(BadParameterSets("not exactly one SPS"))?;
        let pps = one(NAL_PPS).ok_or(BadParameterSets("not exactly one PPS"))?;
        Self::read([vps, sps, pps]).ok_or(BadParameterSets("an SPS that cannot be read"))
    }

    /// `seq_parameter_set_rbsp` (ITU-T H.265 §7.3.2.2.1) as far as the `hvcC` repeats it.
    fn read(sets: [Vec<u8>; 3]) -> Option<Self> {
        let sps = nal::unescaped(&sets[1]);
        let profile_tier_level = sps.get(3..15)?.try_into().ok()?;
        let mut bits = Bits::new(&sps);
        bits.skip(16 + 4)?;
        let sub_layers = bits.take(3)?;
        let temporal_id_nested = bits.flag()?;
        bits.skip(12 * 8)?;
        let mut present = Vec::new();
        for layer in 0..8 {
            if sub_layers > 0 {
                let flags = bits.take(2)?;
                if layer < sub_layers {
                    present.push(flags);
                }
            }
        }
        for flags in present {
            bits.skip(if flags & 2 != 0 { 88 } else { 0 })?;
            bits.skip(if flags & 1 != 0 { 8 } else { 0 })?;
        }
        bits.exp_golomb()?;
        let chroma_format = bits.exp_golomb()?;
        if chroma_format == 3 {
            bits.flag()?;
        }
        let (_width, _height) = (bits.exp_golomb()?, bits.exp_golomb()?);
        if bits.flag()? {
            for _ in 0..4 {
                bits.exp_golomb()?;
            }
        }
        let narrow = |value: u32, most: u8| u8::try_from(value).ok().filter(|v| *v <= most);
        Some(Self {
            profile_tier_level,
            temporal_layers: narrow(sub_layers + 1, 7)?,
            temporal_id_nested,
            chroma_format: narrow(chroma_format, 3)?,
            luma_depth_minus_8: narrow(bits.exp_golomb()?, 7)?,
            chroma_depth_minus_8: narrow(bits.exp_golomb()?, 7)?,
            sets,
        })
    }

    /// ISO 14496-15 §E.3: profile, compatibility flags in reverse, tier and level, constraint bytes as far as they say
    /// something.
    pub fn codecs(&self) -> String {
        let [profile, compatible @ .., level] = self.profile_tier_level;
        let [c0, c1, c2, c3, constraints @ ..] = compatible;
        let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
        let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
        let compatibility = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
        let mut out = format!("hvc1.{space}{}.{compatibility:X}.{tier}{level}", profile & 0x1f);
        let said = constraints.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        for byte in constraints.iter().take(said) {
            out += &format!(".{byte:X}");
        }
        out
    }

    /// The `HEVCDecoderConfigurationRecord` (§8.3.3.1).
    pub fn record(&self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend_from_slice(&self.profile_tier_level);
        // Reserved bits are ones. Segmentation and parallelism unknown, average frame rate unspecified.
        out.extend_from_slice(&[0xf0, 0, 0xfc, 0xfc | self.chroma_format]);
        out.extend_from_slice(&[0xf8 | self.luma_depth_minus_8, 0xf8 | self.chroma_depth_minus_8, 0, 0]);
        // Frame rate not said to be constant; four-byte lengths; three arrays.
        out.extend_from_slice(&[self.temporal_layers << 3 | u8::from(self.temporal_id_nested) << 2 | 3, 3]);
        for (kind, set) in [NAL_VPS, NAL_SPS, NAL_PPS].into_iter().zip(&self.sets) {
            // Complete: `hvc1` has none of them in its samples.
            out.extend_from_slice(&[0x80 | kind, 0, 1]);
            out.extend_from_slice(&(set.len() as u16).to_be_bytes());
            out.extend_from_slice(set);
        }
        out
    }
}

/// One access unit as a sample. What repeats the `hvcC` or is for no decoder is left out.
pub fn sample(annex_b: &[u8]) -> Vec<u8> {
    let dropped = [NAL_VPS, NAL_SPS, NAL_PPS, NAL_ACCESS_UNIT_DELIMITER, NAL_PREFIX_SEI, NAL_SUFFIX_SEI];
    nal::length_prefixed(annex_b, |unit| nal_type(unit).is_some_and(|kind| !dropped.contains(&kind)))
}

fn nal_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|b| b >> 1 & 0x3f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_taken(
            sps in prop::collection::vec(any::<u8>(), 0..60),
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0x42), any::<u8>()], 0..200),
        ) {
            let _ = sample(&bytes);
            let sets = [&[0, 0, 1, 0x40, 1][..], &[0, 0, 1, 0x42, 1], &sps, &[0, 0, 1, 0x44, 1]].concat();
            for bytes in [bytes, sets] {
                let _ = HevcConfig::from_annex_b(&bytes).map(|c| (c.codecs(), c.record()));
            }
        }
    }
}
