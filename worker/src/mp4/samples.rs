//! Sample tables (ISO 14496-12 §8.6, §8.7): where each sample lies and when it is shown.

use reelmill_media::index::Sample;
use reelmill_media::time::Ticks;

use super::read::{Cursor, Mp4Error, find, need};

/// Samples of one track: 37 hours at 60 frames per second.
pub const MAX_SAMPLES: usize = 8_000_000;

/// Uncompressed sound is handed on in packets of at most so many samples per channel.
const PCM_PACKET_SAMPLES: u32 = 4096;

/// Samples as the tables say, without edit list; and how long the last one lasts, in ticks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Samples {
    /// In decode order.
    pub samples: Vec<Sample>,
    /// Duration of the last sample, in ticks.
    pub last_duration: Ticks,
}

/// Reads `stbl` of a file of `file_bytes`. `pcm_frame_bytes` is set for uncompressed sound, whose "samples" are too
/// small to be packets.
pub fn read(stbl: &[u8], pcm_frame_bytes: Option<u32>, file_bytes: u64) -> Result<Samples, Mp4Error> {
    let sizes = Sizes::read(stbl)?;
    let chunks = Chunks::read(stbl)?;
    let mut times = Runs::times(need(stbl, b"stts", "a track has no stts box")?)?;
    if let Some(frame_bytes) = pcm_frame_bytes.filter(|b| *b > 0 && sizes.count() > 0) {
        return pcm(&chunks, &sizes, frame_bytes, times.next().unwrap_or(1), file_bytes);
    }
    let mut offsets = find(stbl, b"ctts")?.map(Runs::offsets).transpose()?;
    let mut sync = Sync::read(stbl)?;
    let total = sizes.count();
    let mut out = Vec::with_capacity(total.min(1 << 16));
    let mut dts = 0i64;
    let mut last = 1i64;
    let mut number = 0usize;
    for (chunk_offset, chunk_samples) in chunks.iter() {
        let mut offset = chunk_offset;
        for _ in 0..chunk_samples {
            if number == total {
                break;
            }
            let bytes = sizes.get(number)?;
            // Both tables may be short by a sample or two in files of careless writers: the last row goes on.
            let delta = times.next().unwrap_or(last);
            let shift = offsets.as_mut().and_then(Iterator::next).unwrap_or(0);
            out.push(Sample {
                offset,
                bytes,
                dts: Ticks(dts),
                pts: Ticks(dts.saturating_add(shift)),
                key: sync.contains(number),
            });
            offset = sample_end(offset, bytes, file_bytes)?;
            dts = dts.saturating_add(delta);
            last = delta;
            number += 1;
        }
    }
    if number < total {
        return Err(Mp4Error::Corrupt("chunks hold fewer samples than there are sizes"));
    }
    Ok(Samples { samples: out, last_duration: Ticks(last.max(1)) })
}

/// Where the next sample begins; an error when this one does not lie wholly in the file.
pub fn sample_end(offset: u64, bytes: u32, file_bytes: u64) -> Result<u64, Mp4Error> {
    offset
        .checked_add(u64::from(bytes))
        .filter(|end| *end <= file_bytes)
        .ok_or(Mp4Error::Truncated("its sample table names bytes beyond the end of the file"))
}

fn pcm(
    chunks: &Chunks,
    sizes: &Sizes<'_>,
    frame_bytes: u32,
    delta: i64,
    file_bytes: u64,
) -> Result<Samples, Mp4Error> {
    let mut out: Vec<Sample> = Vec::new();
    let mut at = 0i64;
    let mut left = sizes.count() as u64;
    let mut last = 0u32;
    for (chunk_offset, chunk_samples) in chunks.iter() {
        let mut here = u64::from(chunk_samples).min(left);
        left -= here;
        let mut offset = chunk_offset;
        while here > 0 {
            let frames = here.min(u64::from(PCM_PACKET_SAMPLES)) as u32;
            let bytes =
                frames.checked_mul(frame_bytes).ok_or(Mp4Error::Corrupt("sound samples of absurd size"))?;
            if out.len() == MAX_SAMPLES {
                return Err(Mp4Error::TooLarge("too many samples"));
            }
            out.push(Sample { offset, bytes, dts: Ticks(at), pts: Ticks(at), key: true });
            offset = sample_end(offset, bytes, file_bytes)?;
            at = at.saturating_add(i64::from(frames).saturating_mul(delta));
            last = frames;
            here -= u64::from(frames);
        }
    }
    Ok(Samples { samples: out, last_duration: Ticks(i64::from(last).saturating_mul(delta).max(1)) })
}

/// `stsz` or `stz2` (§8.7.3).
enum Sizes<'a> {
    Equal { bytes: u32, count: usize },
    Each { rows: &'a [u8], bits: usize, count: usize },
}

impl<'a> Sizes<'a> {
    fn read(stbl: &'a [u8]) -> Result<Self, Mp4Error> {
        if let Some(stz2) = find(stbl, b"stz2")? {
            let mut c = Cursor::new(stz2);
            c.full()?;
            let bits = (c.u32()? & 0xff) as usize;
            let count = c.u32()? as usize;
            if !matches!(bits, 4 | 8 | 16) || count > MAX_SAMPLES || (count * bits).div_ceil(8) > c.left() {
                return Err(Mp4Error::Corrupt("a bad stz2 box"));
            }
            return Ok(Sizes::Each { rows: c.rest(), bits, count });
        }
        let mut c = Cursor::new(need(stbl, b"stsz", "a track has no stsz box")?);
        c.full()?;
        let equal = c.u32()?;
        if equal != 0 {
            // No table bounds this count: chunks must hold the samples, which is checked when walking them. Sound of
            // one byte a sample reaches 2^32 in a day.
            return Ok(Sizes::Equal { bytes: equal, count: c.u32()? as usize });
        }
        let count = c.count(4)?;
        if count > MAX_SAMPLES {
            return Err(Mp4Error::TooLarge("too many samples"));
        }
        Ok(Sizes::Each { rows: c.rest(), bits: 32, count })
    }

    fn count(&self) -> usize {
        match self {
            Sizes::Equal { count, .. } | Sizes::Each { count, .. } => *count,
        }
    }

    fn get(&self, number: usize) -> Result<u32, Mp4Error> {
        match self {
            Sizes::Equal { bytes, .. } if number < MAX_SAMPLES => Ok(*bytes),
            Sizes::Equal { .. } => Err(Mp4Error::TooLarge("too many samples")),
            Sizes::Each { rows, bits, .. } => {
                let row =
                    |at: usize, n: usize| rows.get(at..at + n).ok_or(Mp4Error::Corrupt("a short stsz box"));
                let joined = |bytes: &[u8]| bytes.iter().fold(0u32, |v, b| v << 8 | u32::from(*b));
                match bits {
                    4 => {
                        let byte = joined(row(number / 2, 1)?);
                        Ok(if number.is_multiple_of(2) { byte >> 4 } else { byte & 0xf })
                    }
                    8 => row(number, 1).map(joined),
                    16 => row(number * 2, 2).map(joined),
                    _ => row(number * 4, 4).map(joined),
                }
            }
        }
    }
}

/// `stco` or `co64`, and `stsc` (§8.7.4, §8.7.5).
struct Chunks {
    offsets: Vec<u64>,
    runs: Vec<(u32, u32)>,
}

impl Chunks {
    fn read(stbl: &[u8]) -> Result<Self, Mp4Error> {
        let (table, wide) = match find(stbl, b"stco")? {
            Some(table) => (table, false),
            None => (need(stbl, b"co64", "a track has no stco box")?, true),
        };
        let mut c = Cursor::new(table);
        c.full()?;
        let count = c.count(if wide { 8 } else { 4 })?;
        let mut offsets = Vec::with_capacity(count);
        for _ in 0..count {
            offsets.push(if wide { c.u64()? } else { u64::from(c.u32()?) });
        }
        let mut c = Cursor::new(need(stbl, b"stsc", "a track has no stsc box")?);
        c.full()?;
        let count = c.count(12)?;
        let mut runs: Vec<(u32, u32)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (first, samples) = (c.u32()?, c.u32()?);
            c.skip(4)?;
            if first == 0 || runs.last().is_some_and(|(previous, _)| *previous >= first) {
                return Err(Mp4Error::Corrupt("an stsc box whose chunks do not increase"));
            }
            runs.push((first, samples));
        }
        if runs.first().is_some_and(|(first, _)| *first != 1) {
            return Err(Mp4Error::Corrupt("an stsc box that does not start at chunk 1"));
        }
        Ok(Self { offsets, runs })
    }

    /// Byte offset and number of samples of each chunk.
    fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        let mut run = 0;
        (1u32..).zip(&self.offsets).map(move |(chunk, offset)| {
            while self.runs.get(run + 1).is_some_and(|(first, _)| *first <= chunk) {
                run += 1;
            }
            (*offset, self.runs.get(run).map_or(0, |(_, samples)| *samples))
        })
    }
}

/// Run-length coded values of `stts` and `ctts`.
struct Runs<'a> {
    rows: Cursor<'a>,
    left: u32,
    value: i64,
}

impl<'a> Runs<'a> {
    fn read(table: &'a [u8]) -> Result<Self, Mp4Error> {
        let mut c = Cursor::new(table);
        c.full()?;
        let count = c.count(8)?;
        Ok(Self { rows: Cursor::new(c.take(count * 8)?), left: 0, value: 0 })
    }

    /// Durations (§8.6.1.2). Values with the top bit set are a known fault of writers whose clock went back.
    fn times(stts: &'a [u8]) -> Result<impl Iterator<Item = i64>, Mp4Error> {
        Ok(Self::read(stts)?.map(|value| if value < 0 { 1 } else { value }))
    }

    /// Composition offsets (§8.6.1.3). Version 0 is unsigned by the book, but signed in the wild.
    fn offsets(ctts: &'a [u8]) -> Result<Self, Mp4Error> {
        Self::read(ctts)
    }
}

impl Iterator for Runs<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        while self.left == 0 {
            self.left = self.rows.u32().ok()?;
            self.value = i64::from(self.rows.i32().ok()?);
        }
        self.left -= 1;
        Some(self.value)
    }
}

/// `stss` (§8.6.2): no box means that every sample is a sync sample.
enum Sync<'a> {
    All,
    Some { rows: Cursor<'a>, next: Option<u32> },
}

impl<'a> Sync<'a> {
    fn read(stbl: &'a [u8]) -> Result<Self, Mp4Error> {
        let Some(stss) = find(stbl, b"stss")? else { return Ok(Sync::All) };
        let mut c = Cursor::new(stss);
        c.full()?;
        let count = c.count(4)?;
        let mut rows = Cursor::new(c.take(count * 4)?);
        let next = rows.u32().ok();
        Ok(Sync::Some { rows, next })
    }

    /// Asked in increasing order, from 0.
    fn contains(&mut self, number: usize) -> bool {
        match self {
            Sync::All => true,
            Sync::Some { rows, next } => {
                while next.is_some_and(|n| (n as usize) < number + 1) {
                    *next = rows.u32().ok();
                }
                *next == u32::try_from(number + 1).ok() && next.is_some()
            }
        }
    }
}
