//! AV1 in MP4 (AV1 Codec ISO Media File Format Binding 1.2).

use super::bits::Bits;
use super::video_config::BadParameterSets;

/// OBU types (AV1 §6.2.2) that are looked at.
const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_REDUNDANT_FRAME_HEADER: u8 = 7;
const OBU_TILE_LIST: u8 = 8;
const OBU_PADDING: u8 = 15;

/// The sequence header, and what `av1C` and the codec string repeat of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Av1Config {
    /// The whole OBU, with its size field.
    obu: Vec<u8>,
    header: SequenceHeader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SequenceHeader {
    profile: u8,
    level: u8,
    high_tier: bool,
    colour: ColourConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ColourConfig {
    high_bitdepth: bool,
    twelve_bit: bool,
    monochrome: bool,
    subsampling: [bool; 2],
    chroma_sample_position: u8,
    primaries: u8,
    transfer: u8,
    matrix: u8,
    full_range: bool,
}

impl Av1Config {
    /// Takes the one sequence header out of OBUs.
    pub fn from_obus(bytes: &[u8]) -> Result<Self, BadParameterSets> {
        let mut headers = obus(bytes).filter(|o| o.kind == OBU_SEQUENCE_HEADER && o.sized);
        let (Some(obu), None) = (headers.next(), headers.next()) else {
            return Err(BadParameterSets("not exactly one sequence header"));
        };
        let header = SequenceHeader::read(obu.payload)
            .ok_or(BadParameterSets("a sequence header that cannot be read"))?;
        Ok(Self { obu: obu.whole.to_vec(), header })
    }

    /// §5: profile, level and tier, depth; and the rest of the colour where it is not what an omission means.
    pub fn codecs(&self) -> String {
        let SequenceHeader { profile, level, high_tier, colour } = self.header;
        let tier = if high_tier { 'H' } else { 'M' };
        let short = format!("av01.{profile}.{level:02}{tier}.{:02}", colour.depth());
        let flag = u8::from;
        let [x, y] = colour.subsampling;
        let position = if x && y { colour.chroma_sample_position } else { 0 };
        let long = format!(
            ".{}.{}{}{position}.{:02}.{:02}.{:02}.{}",
            flag(colour.monochrome),
            flag(x),
            flag(y),
            colour.primaries,
            colour.transfer,
            colour.matrix,
            flag(colour.full_range)
        );
        if long == ".0.110.01.01.01.0" { short } else { short + &long }
    }

    /// The `AV1CodecConfigurationRecord` (§2.3.3).
    pub fn record(&self) -> Vec<u8> {
        let SequenceHeader { profile, level, high_tier, colour } = self.header;
        let [x, y] = colour.subsampling;
        let flags = [high_tier, colour.high_bitdepth, colour.twelve_bit, colour.monochrome, x, y];
        let flags = flags.into_iter().fold(0, |bits, flag| bits << 1 | u8::from(flag));
        // Marker and version 1; no presentation delay is given.
        let mut out = vec![0x81, profile << 5 | level, flags << 2 | colour.chroma_sample_position, 0];
        out.extend_from_slice(&self.obu);
        out
    }
}

impl ColourConfig {
    const fn depth(self) -> u8 {
        match (self.high_bitdepth, self.twelve_bit) {
            (true, true) => 12,
            (true, false) => 10,
            (false, _) => 8,
        }
    }

    /// `color_config` (AV1 §5.5.2).
    fn read(bits: &mut Bits<'_>, profile: u8) -> Option<Self> {
        let high_bitdepth = bits.flag()?;
        let twelve_bit = profile == 2 && high_bitdepth && bits.flag()?;
        let monochrome = profile != 1 && bits.flag()?;
        let (mut primaries, mut transfer, mut matrix) = (2, 2, 2);
        if bits.flag()? {
            (primaries, transfer, matrix) = (bits.take(8)? as u8, bits.take(8)? as u8, bits.take(8)? as u8);
        }
        let mut colour = Self {
            high_bitdepth,
            twelve_bit,
            monochrome,
            subsampling: [true, true],
            chroma_sample_position: 0,
            primaries,
            transfer,
            matrix,
            full_range: false,
        };
        if monochrome {
            colour.full_range = bits.flag()?;
        } else if (primaries, transfer, matrix) == (1, 13, 0) {
            colour.full_range = true;
            colour.subsampling = [false, false];
        } else {
            colour.full_range = bits.flag()?;
            colour.subsampling = match profile {
                0 => [true, true],
                1 => [false, false],
                _ if twelve_bit => {
                    let x = bits.flag()?;
                    [x, x && bits.flag()?]
                }
                _ => [true, false],
            };
            if colour.subsampling == [true, true] {
                colour.chroma_sample_position = bits.take(2)? as u8;
            }
        }
        Some(colour)
    }
}

impl SequenceHeader {
    /// `sequence_header_obu` (AV1 §5.5.1) as far as the colour.
    fn read(payload: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(payload);
        let b = &mut bits;
        let profile = b.take(3)? as u8;
        b.flag()?;
        let reduced = b.flag()?;
        let (level, high_tier) = if reduced { (b.take(5)? as u8, false) } else { operating_points(b)? };
        let (width_bits, height_bits) = (b.take(4)? + 1, b.take(4)? + 1);
        b.skip((width_bits + height_bits) as usize)?;
        // Frame numbers.
        if !reduced && b.flag()? {
            b.skip(7)?;
        }
        b.skip(3)?;
        if !reduced {
            b.skip(4)?;
            let order_hint = b.flag()?;
            if order_hint {
                b.skip(2)?;
            }
            let screen_content = if b.flag()? { true } else { b.flag()? };
            if screen_content && !b.flag()? {
                b.flag()?;
            }
            if order_hint {
                b.skip(3)?;
            }
        }
        b.skip(3)?;
        Some(Self { profile, level, high_tier, colour: ColourConfig::read(b, profile)? })
    }
}

/// Timing, decoder model and operating points; level and tier of the first.
fn operating_points(b: &mut Bits<'_>) -> Option<(u8, bool)> {
    let mut delay_bits = None;
    if b.flag()? {
        b.skip(64)?;
        if b.flag()? {
            b.exp_golomb()?;
        }
        if b.flag()? {
            delay_bits = Some(b.take(5)? as usize + 1);
            b.skip(32 + 5 + 5)?;
        }
    }
    let display_delay = b.flag()?;
    let mut first = None;
    for _ in 0..=b.take(5)? {
        b.skip(12)?;
        let level = b.take(5)? as u8;
        let high_tier = level > 7 && b.flag()?;
        if let Some(delay_bits) = delay_bits
            && b.flag()?
        {
            b.skip(2 * delay_bits + 1)?;
        }
        if display_delay && b.flag()? {
            b.skip(4)?;
        }
        first = first.or(Some((level, high_tier)));
    }
    first
}

/// One temporal unit as a sample (§2.4), without what a sample must not or need not hold.
pub fn sample(temporal_unit: &[u8]) -> Vec<u8> {
    let dropped = [OBU_TEMPORAL_DELIMITER, OBU_REDUNDANT_FRAME_HEADER, OBU_TILE_LIST, OBU_PADDING];
    obus(temporal_unit).filter(|o| !dropped.contains(&o.kind)).flat_map(|o| o.whole).copied().collect()
}

struct Obu<'a> {
    kind: u8,
    sized: bool,
    whole: &'a [u8],
    payload: &'a [u8],
}

/// OBUs in low-overhead form (AV1 §5.2), as far as they are whole.
fn obus(bytes: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let head = *rest.first()?;
        let (extended, sized) = (head & 4 != 0, head & 2 != 0);
        let mut start = 1 + usize::from(extended);
        let length = if sized {
            let (length, bytes) = leb128(rest.get(start..)?)?;
            start += bytes;
            length
        } else {
            rest.len().checked_sub(start)?
        };
        let end = start.checked_add(length)?;
        let obu =
            Obu { kind: head >> 3 & 0xf, sized, whole: rest.get(..end)?, payload: rest.get(start..end)? };
        rest = &rest[end..];
        Some(obu)
    })
}

/// AV1 §4.10.5: value and length in bytes.
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delimiters_go_and_frames_stay() {
        let unit = [0x12, 0, 0x0a, 2, 7, 8, 0x32, 0x81, 0, 9, 0x7a, 1, 0, 0x34, 0, 5];
        assert_eq!(sample(&unit), [0x0a, 2, 7, 8, 0x32, 0x81, 0, 9, 0x34, 0, 5]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = sample(&bytes);
            let header = [&[0x0a, bytes.len() as u8][..], &bytes].concat();
            let _ = Av1Config::from_obus(&header).map(|c| (c.codecs(), c.record()));
        }
    }
}
