//! A reader of the few boxes that a judgement needs (ISO 14496-12), by another hand than the one that writes them:
//! libav's demuxer shifts composition times, so clocks are read here without it.

use anyhow::{Context, bail, ensure};

/// What an init segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// `vide` or `soun`.
    pub handler: [u8; 4],
    /// Ticks a second.
    pub timescale: u32,
    /// Ticks of media before presentation begins (the edit list's media time).
    pub skipped: u64,
    /// Size of the track in whole pixels.
    pub size: (u32, u32),
    /// Profile, constraints and level of `avcC`; of video only.
    pub avc: Option<[u8; 3]>,
    /// `ftyp`'s brands, the major one first.
    pub brands: Vec<[u8; 4]>,
}

/// One sample, with its times on the track's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Decode time.
    pub dts: i64,
    /// Presentation time, before the edit list.
    pub pts: i64,
    /// Ticks until the next sample's decode time.
    pub duration: i64,
    /// Said to be a sync sample.
    pub sync: bool,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// One media segment: one `moof` and one `mdat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// `mfhd`'s number.
    pub sequence: u32,
    /// Decode time of the first sample.
    pub start: i64,
    /// Samples in decode order; never empty.
    pub samples: Vec<Sample>,
}

impl Fragment {
    /// Where decoding of the next segment begins.
    pub fn end(&self) -> i64 {
        self.samples.last().map_or(self.start, |sample| sample.dts + sample.duration)
    }

    /// Presentation times in order.
    pub fn times(&self) -> Vec<i64> {
        let mut times: Vec<i64> = self.samples.iter().map(|sample| sample.pts).collect();
        times.sort_unstable();
        times
    }
}

/// A box at the top of some bytes.
#[derive(Debug, Clone, Copy)]
pub struct Box<'a> {
    /// Four characters.
    pub kind: [u8; 4],
    /// Where it starts in the bytes that were split.
    pub at: usize,
    /// Header included.
    pub bytes: &'a [u8],
}

impl<'a> Box<'a> {
    /// What follows the header.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[8..]
    }
}

/// Splits bytes into the boxes they are made of, without a byte left over.
pub fn split(bytes: &[u8]) -> anyhow::Result<Vec<Box<'_>>> {
    let mut boxes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let head = bytes.get(at..at + 8).context("half a box header at the end")?;
        let size = u32_at(head, 0)? as usize;
        let kind = [head[4], head[5], head[6], head[7]];
        let whole = bytes.get(at..at + size).filter(|b| b.len() >= 8);
        let name = String::from_utf8_lossy(&kind).into_owned();
        boxes.push(Box { kind, at, bytes: whole.with_context(|| format!("box {name} does not fit"))? });
        at += size;
    }
    Ok(boxes)
}

/// The one box at the end of a path.
fn find<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> anyhow::Result<&'a [u8]> {
    find_maybe(bytes, path)?.with_context(|| {
        let names: Vec<_> = path.iter().map(|kind| String::from_utf8_lossy(*kind)).collect();
        format!("no box {}", names.join("/"))
    })
}

fn find_maybe<'a>(mut bytes: &'a [u8], path: &[&[u8; 4]]) -> anyhow::Result<Option<&'a [u8]>> {
    for kind in path {
        let mut found = split(bytes)?.into_iter().filter(|b| b.kind == **kind);
        let Some(one) = found.next() else { return Ok(None) };
        ensure!(found.next().is_none(), "box {} stands twice", String::from_utf8_lossy(*kind));
        bytes = one.body();
    }
    Ok(Some(bytes))
}

/// Reads an init segment.
pub fn init(bytes: &[u8]) -> anyhow::Result<Init> {
    let ftyp = find(bytes, &[b"ftyp"])?;
    let brand = |at: usize| -> anyhow::Result<[u8; 4]> {
        Ok(ftyp.get(at..at + 4).context("half a brand")?.try_into()?)
    };
    let mut brands = vec![brand(0)?];
    for at in (8..ftyp.len()).step_by(4) {
        brands.push(brand(at)?);
    }
    find(bytes, &[b"moov", b"mvex", b"trex"])?;
    let mdhd = find(bytes, &[b"moov", b"trak", b"mdia", b"mdhd"])?;
    let timescale = u32_at(mdhd, if mdhd.first() == Some(&1) { 20 } else { 12 })?;
    let hdlr = find(bytes, &[b"moov", b"trak", b"mdia", b"hdlr"])?;
    let handler: [u8; 4] = hdlr.get(8..12).context("a short hdlr")?.try_into()?;
    let tkhd = find(bytes, &[b"moov", b"trak", b"tkhd"])?;
    let end = tkhd.len().checked_sub(8).context("a short tkhd")?;
    let size = (u32_at(tkhd, end)? >> 16, u32_at(tkhd, end + 4)? >> 16);
    let skipped = match find_maybe(bytes, &[b"moov", b"trak", b"edts", b"elst"])? {
        Some(elst) => skipped(elst)?,
        None => 0,
    };
    let stsd = find(bytes, &[b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"])?;
    let avc = match find_maybe(stsd.get(8..).context("a short stsd")?, &[b"avc1"])? {
        Some(entry) => {
            let avcc = find(entry.get(78..).context("a short avc1")?, &[b"avcC"])?;
            Some(avcc.get(1..4).context("a short avcC")?.try_into()?)
        }
        None => None,
    };
    Ok(Init { handler, timescale, skipped, size, avc, brands })
}

fn skipped(elst: &[u8]) -> anyhow::Result<u64> {
    let long = elst.first() == Some(&1);
    ensure!(u32_at(elst, 4)? == 1, "an edit list that does more than skip");
    let start = if long { u64_at(elst, 16)? as i64 } else { i64::from(u32_at(elst, 12)? as i32) };
    u64::try_from(start).context("an edit list with an empty edit")
}

const TFHD_BASE_OFFSET: u32 = 0x1;
const TFHD_DESCRIPTION: u32 = 0x2;
const TFHD_DURATION: u32 = 0x8;
const TFHD_SIZE: u32 = 0x10;
const TFHD_FLAGS: u32 = 0x20;
const TFHD_BASE_IS_MOOF: u32 = 0x2_0000;
const TRUN_OFFSET: u32 = 0x1;
const TRUN_FIRST_FLAGS: u32 = 0x4;
const TRUN_DURATION: u32 = 0x100;
const TRUN_SIZE: u32 = 0x200;
const TRUN_FLAGS: u32 = 0x400;
const TRUN_COMPOSITION: u32 = 0x800;
/// `sample_is_non_sync_sample`.
const NON_SYNC: u32 = 0x1_0000;

/// Reads a media segment. Whatever a CMAF segment of one fragment must not be is an error.
pub fn fragment(bytes: &[u8]) -> anyhow::Result<Fragment> {
    let boxes: Vec<_> =
        split(bytes)?.into_iter().filter(|b| b.kind != *b"styp" && b.kind != *b"sidx").collect();
    let [moof, mdat] = boxes.as_slice() else { bail!("{} boxes instead of moof and mdat", boxes.len()) };
    ensure!((moof.kind, mdat.kind) == (*b"moof", *b"mdat"), "not moof and mdat");
    let sequence = u32_at(find(moof.body(), &[b"mfhd"])?, 4)?;
    let traf = find(moof.body(), &[b"traf"])?;

    let mut tfhd = Fields::new(find(traf, &[b"tfhd"])?);
    let flags = tfhd.next()?;
    ensure!(flags & TFHD_BASE_IS_MOOF != 0, "default-base-is-moof is not set");
    ensure!(flags & TFHD_BASE_OFFSET == 0, "a base offset");
    tfhd.next()?;
    tfhd.when(flags & TFHD_DESCRIPTION != 0)?;
    let default_duration = tfhd.when(flags & TFHD_DURATION != 0)?;
    let default_size = tfhd.when(flags & TFHD_SIZE != 0)?;
    let default_flags = tfhd.when(flags & TFHD_FLAGS != 0)?;

    let tfdt = find(traf, &[b"tfdt"])?;
    let start = if tfdt.first() == Some(&1) { u64_at(tfdt, 4)? as i64 } else { i64::from(u32_at(tfdt, 4)?) };

    let mut trun = Fields::new(find(traf, &[b"trun"])?);
    let flags = trun.next()?;
    let count = trun.next()?;
    ensure!(flags & TRUN_OFFSET != 0 && count > 0, "a run without data offset or samples");
    let mut data = moof.at + trun.next()? as usize;
    ensure!(data == mdat.at + 8, "samples do not start where mdat's bytes do");
    let first_flags = trun.when(flags & TRUN_FIRST_FLAGS != 0)?;
    let mut samples = Vec::new();
    let mut dts = start;
    for number in 0..count {
        let duration = trun.when(flags & TRUN_DURATION != 0)?.or(default_duration).context("no duration")?;
        let size = trun.when(flags & TRUN_SIZE != 0)?.or(default_size).context("no size")? as usize;
        let own = trun.when(flags & TRUN_FLAGS != 0)?;
        let composition = trun.when(flags & TRUN_COMPOSITION != 0)?.unwrap_or(0) as i32;
        let said = if number == 0 { first_flags.or(own) } else { own };
        let sync = said.or(default_flags).is_none_or(|flags| flags & NON_SYNC == 0);
        let body = bytes.get(data..data + size).with_context(|| format!("sample {number} lies outside"))?;
        let duration = i64::from(duration);
        samples.push(Sample { dts, pts: dts + i64::from(composition), duration, sync, data: body.to_vec() });
        (dts, data) = (dts + duration, data + size);
    }
    ensure!(data == bytes.len(), "{} bytes of mdat belong to no sample", bytes.len().abs_diff(data));
    Ok(Fragment { sequence, start, samples })
}

/// Types of the NAL units in a sample (four-byte lengths).
pub fn nal_types(sample: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut types = Vec::new();
    let mut at = 0;
    while at < sample.len() {
        let length = u32_at(sample, at)? as usize;
        let unit = sample.get(at + 4..at + 4 + length).context("a NAL unit longer than its sample")?;
        types.push(unit.first().context("an empty NAL unit")? & 0x1f);
        at += 4 + length;
    }
    Ok(types)
}

/// Consecutive 32-bit fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn next(&mut self) -> anyhow::Result<u32> {
        let value = u32_at(self.0, 0)?;
        self.0 = &self.0[4..];
        // The first field holds version and flags; all that is asked of it are the flags.
        Ok(value)
    }

    fn when(&mut self, present: bool) -> anyhow::Result<Option<u32>> {
        present.then(|| self.next()).transpose()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    Ok(u32::from_be_bytes(bytes.get(at..at + 4).context("a field outside its box")?.try_into()?))
}

fn u64_at(bytes: &[u8], at: usize) -> anyhow::Result<u64> {
    Ok(u64::from_be_bytes(bytes.get(at..at + 8).context("a field outside its box")?.try_into()?))
}
