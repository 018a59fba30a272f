//! The samples of fragmented files (ISO 14496-12 §8.8).

use std::collections::BTreeMap;

use reelmill_media::index::Sample;
use reelmill_media::time::Ticks;

use super::entry::Entry;
use super::read::{Cursor, Mp4Error, boxes, need};
use super::samples::{MAX_SAMPLES, sample_end};
use super::track::Track;

/// `sample_is_non_sync_sample` (§8.8.3.1).
const NON_SYNC: u32 = 0x1_0000;

/// What `trex` says for samples that do not say it themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Defaults {
    duration: u32,
    bytes: u32,
    flags: u32,
}

/// Reads the body of `mvex`: defaults by track id.
pub fn defaults(mvex: &[u8]) -> Result<BTreeMap<u32, Defaults>, Mp4Error> {
    let mut out = BTreeMap::new();
    for next in boxes(mvex) {
        let (kind, body) = next?;
        if &kind == b"trex" {
            let mut c = Cursor::new(body);
            c.full()?;
            let track = c.u32()?;
            c.u32()?;
            out.insert(track, Defaults { duration: c.u32()?, bytes: c.u32()?, flags: c.u32()? });
        }
    }
    Ok(out)
}

/// Adds the samples of one `moof` (its body, found at byte `start` of the file) to their tracks.
pub fn add(
    moof: &[u8],
    start: u64,
    tracks: &mut [Track],
    defaults: &BTreeMap<u32, Defaults>,
    file_bytes: u64,
) -> Result<(), Mp4Error> {
    // Without a base of its own, a later track's data follows the one before (§8.8.7.1).
    let mut follows = start;
    for next in boxes(moof) {
        let (kind, traf) = next?;
        if &kind != b"traf" {
            continue;
        }
        let header =
            Header::read(need(traf, b"tfhd", "a track fragment has no tfhd box")?, start, follows, defaults)?;
        let Some(track) = tracks.iter_mut().find(|t| t.id == header.track) else { continue };
        if matches!(track.entry, Entry::Unknown(_)) {
            continue;
        }
        follows = runs(traf, &header, track, file_bytes)?;
    }
    Ok(())
}

/// `tfhd` (§8.8.7).
struct Header {
    track: u32,
    base: u64,
    defaults: Defaults,
}

impl Header {
    fn read(
        tfhd: &[u8],
        moof_start: u64,
        follows: u64,
        defaults: &BTreeMap<u32, Defaults>,
    ) -> Result<Self, Mp4Error> {
        let mut c = Cursor::new(tfhd);
        let (_, flags) = c.full()?;
        let track = c.u32()?;
        let base = match (flags & 1 != 0, flags & 0x2_0000 != 0) {
            (true, _) => c.u64()?,
            (false, true) => moof_start,
            (false, false) => follows,
        };
        if flags & 2 != 0 {
            c.skip(4)?;
        }
        let mut own = defaults.get(&track).copied().unwrap_or_default();
        if flags & 8 != 0 {
            own.duration = c.u32()?;
        }
        if flags & 0x10 != 0 {
            own.bytes = c.u32()?;
        }
        if flags & 0x20 != 0 {
            own.flags = c.u32()?;
        }
        Ok(Self { track, base, defaults: own })
    }
}

/// Reads all `trun` boxes of a `traf`; gives back where the data ends.
fn runs(traf: &[u8], header: &Header, track: &mut Track, file_bytes: u64) -> Result<u64, Mp4Error> {
    let table = &mut track.samples;
    let mut dts = table.samples.last().map_or(Ticks::ZERO, |s| s.dts + table.last_duration);
    let mut offset = header.base;
    for next in boxes(traf) {
        let (kind, body) = next?;
        let mut c = Cursor::new(body);
        match &kind {
            b"tfdt" => {
                let (version, _) = c.full()?;
                let time = if version == 1 { c.u64()? } else { u64::from(c.u32()?) };
                dts = Ticks(i64::try_from(time).map_err(|_| Mp4Error::Corrupt("an absurd decode time"))?);
            }
            b"trun" => {
                let (_, flags) = c.full()?;
                let count = c.u32()? as usize;
                if flags & 1 != 0 {
                    let relative = i64::from(c.i32()?);
                    offset = header
                        .base
                        .checked_add_signed(relative)
                        .ok_or(Mp4Error::Corrupt("a bad data offset"))?;
                }
                let first_flags = if flags & 4 != 0 { Some(c.u32()?) } else { None };
                let row_bytes = (flags & 0xf00).count_ones() as usize * 4;
                let fits = count.checked_mul(row_bytes).is_some_and(|bytes| bytes <= c.left());
                // Rows without a byte of their own are bounded by the file's length alone, so they must have a size.
                if !fits || (row_bytes == 0 && header.defaults.bytes == 0 && count > 0) {
                    return Err(Mp4Error::Corrupt("a track run is longer than its box"));
                }
                if count > MAX_SAMPLES - table.samples.len().min(MAX_SAMPLES) {
                    return Err(Mp4Error::TooLarge("too many samples"));
                }
                for i in 0..count {
                    let duration = if flags & 0x100 != 0 { c.u32()? } else { header.defaults.duration };
                    let bytes = if flags & 0x200 != 0 { c.u32()? } else { header.defaults.bytes };
                    let own = if flags & 0x400 != 0 { Some(c.u32()?) } else { None };
                    let shift = if flags & 0x800 != 0 { i64::from(c.i32()?) } else { 0 };
                    let said = own.or(first_flags.filter(|_| i == 0)).unwrap_or(header.defaults.flags);
                    table.samples.push(Sample {
                        offset,
                        bytes,
                        dts,
                        pts: dts + Ticks(shift),
                        key: said & NON_SYNC == 0,
                    });
                    offset = sample_end(offset, bytes, file_bytes)?;
                    dts = dts + Ticks(i64::from(duration));
                    table.last_duration = Ticks(i64::from(duration).max(1));
                }
            }
            _ => {}
        }
    }
    Ok(offset)
}
