//! What a rendition's stream says of itself, read bit by bit by ffmpeg, and the CODECS string that follows from it.

use std::collections::BTreeMap;
use std::process::Command;

use mp4_atom::{Codec, Hvcc, Visual};
use reelmill_e2e::fixtures::ffmpeg;

/// A video sample entry.
pub struct VideoEntry {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// RFC 6381.
    pub codecs: String,
}

/// Looks at the init segment, and at the headers of the stream behind it.
pub fn video(rendition: &super::Rendition) -> VideoEntry {
    let moov = super::boxes::moov(&rendition.init);
    let stream = Headers::of(&rendition.file());
    let size = |visual: &Visual| (u32::from(visual.width), u32::from(visual.height));
    match &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] {
        Codec::Avc1(entry) => VideoEntry { size: size(&entry.visual), codecs: stream.avc() },
        Codec::Hvc1(entry) => {
            complete(&entry.hvcc);
            VideoEntry { size: size(&entry.visual), codecs: stream.hevc() }
        }
        Codec::Av01(entry) => {
            assert!(!entry.av1c.config_obus.is_empty());
            VideoEntry { size: size(&entry.visual), codecs: stream.av1() }
        }
        other => panic!("an entry nobody planned: {other:?}"),
    }
}

/// `hvc1` has all parameter sets in its box (ISO 14496-15 §8.3.3.1).
fn complete(hvcc: &Hvcc) {
    let arrays: Vec<_> =
        hvcc.arrays.iter().map(|a| (a.completeness, a.nal_unit_type, a.nalus.len())).collect();
    assert_eq!(arrays, [(true, 32, 1), (true, 33, 1), (true, 34, 1)]);
    assert_eq!((hvcc.length_size_minus_one, hvcc.chroma_format_idc, hvcc.bit_depth_luma_minus8), (3, 1, 0));
}

/// The types of a sample's NAL units, each behind its length in four bytes.
pub fn nal_units(mut sample: &[u8], kind: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((length, rest)) = sample.split_first_chunk() {
        let (unit, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        kinds.push(kind(unit[0]));
        sample = rest;
    }
    assert!(sample.is_empty());
    kinds
}

/// The types of a sample's OBUs, each with its size in at most four bytes.
pub fn obus(mut sample: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((head, mut rest)) = sample.split_first() {
        assert_eq!(head & 6, 2, "a size and no extension");
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first().unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            rest = after;
            if byte & 0x80 == 0 {
                break;
            }
        }
        kinds.push(head >> 3);
        sample = &rest[length..];
    }
    kinds
}

/// The syntax elements of all headers, by name; where one comes more than once, every value that it has.
struct Headers(BTreeMap<String, Vec<u64>>);

impl Headers {
    fn of(file: &[u8]) -> Self {
        let path = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let output = Command::new(ffmpeg())
            .args(["-nostdin", "-v", "info", "-i"])
            .arg(path.path())
            .args(["-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"])
            .output()
            .unwrap();
        let mut elements: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let mut words = line.split_whitespace().skip_while(|word| !word.ends_with(']')).skip(1);
            let (Some(position), Some(name)) = (words.next(), words.next()) else { continue };
            if let (Ok(_), Some(Ok(value))) =
                (position.parse::<u64>(), line.rsplit(' ').next().map(str::parse))
            {
                let values = elements.entry(name.to_owned()).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        assert!(!elements.is_empty(), "no headers");
        Self(elements)
    }

    /// The value of an element, which must be the same wherever it comes.
    fn one(&self, name: &str) -> u64 {
        match self.0.get(name).map(Vec::as_slice) {
            Some([value]) => *value,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn some(&self, name: &str) -> bool {
        self.0.contains_key(name) && self.one(name) == 1
    }

    /// Flags `name[0]` … or `name0_flag` …, the first as the highest bit of `width`.
    fn bits(&self, width: u64, name: impl Fn(u64) -> String) -> u64 {
        (0..width).fold(0, |bits, n| bits << 1 | u64::from(self.some(&name(n))))
    }

    /// RFC 6381 §3.3.
    fn avc(&self) -> String {
        let flags = self.bits(8, |n| format!("constraint_set{n}_flag"));
        format!("avc1.{:02x}{flags:02x}{:02x}", self.one("profile_idc"), self.one("level_idc"))
    }

    /// ISO 14496-15 §E.3, for streams whose last constraint is in the first byte.
    fn hevc(&self) -> String {
        assert_eq!(self.one("general_profile_space"), 0);
        let compatible = (0..32).rev().fold(0, |bits, n| {
            bits << 1 | u64::from(self.some(&format!("general_profile_compatibility_flag[{n}]")))
        });
        let constraints =
            ["progressive_source", "interlaced_source", "non_packed_constraint", "frame_only_constraint"];
        let constraints = constraints
            .into_iter()
            .fold(0, |bits, name| bits << 1 | u64::from(self.some(&format!("general_{name}_flag"))));
        let tier = if self.some("general_tier_flag") { 'H' } else { 'L' };
        let (profile, level) = (self.one("general_profile_idc"), self.one("general_level_idc"));
        format!("hvc1.{profile}.{compatible:X}.{tier}{level}.{:X}", constraints << 4)
    }

    /// AV1 in ISOBMFF §5, for 8 bits and three planes.
    fn av1(&self) -> String {
        assert!(!self.some("high_bitdepth") && !self.some("mono_chrome"));
        assert!(self.some("color_description_present_flag"));
        let tier = if self.some("seq_tier[0]") { 'H' } else { 'M' };
        let short = format!("av01.{}.{:02}{tier}.08", self.one("seq_profile"), self.one("seq_level_idx[0]"));
        let colour = ["color_primaries", "transfer_characteristics", "matrix_coefficients"];
        let [p, t, m] = colour.map(|name| self.one(name));
        let (position, range) = (self.one("chroma_sample_position"), self.one("color_range"));
        if (position, p, t, m, range) == (0, 1, 1, 1, 0) {
            short
        } else {
            format!("{short}.0.11{position}.{p:02}.{t:02}.{m:02}.{range}")
        }
    }
}
