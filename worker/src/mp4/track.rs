//! One `trak` (ISO 14496-12 §8.3).

use reelmill_media::index::Orientation;
use reelmill_media::time::Timescale;

use super::edits::Edit;
use super::entry::{self, Entry, VideoEntry};
use super::read::{Cursor, Mp4Error, find, need};
use super::samples::{self, Samples};

/// A track and all its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// `track_ID`.
    pub id: u32,
    /// `track_enabled`: meant to be played.
    pub enabled: bool,
    /// The codec.
    pub entry: Entry,
    /// The track's clock.
    pub timescale: Timescale,
    /// ISO 639-2 code, if said.
    pub language: Option<String>,
    /// How the picture must be turned for display.
    pub orientation: Orientation,
    /// Size for display before turning, in 1/65536 pixel; 0 when unsaid.
    pub display: (u32, u32),
    /// The edit list.
    pub edit: Edit,
    /// Samples in decode order, edit list not applied.
    pub samples: Samples,
}

impl Track {
    /// Reads the body of `trak`.
    pub fn read(trak: &[u8], movie: Timescale, file_bytes: u64) -> Result<Track, Mp4Error> {
        let Header { id, enabled, orientation, display } =
            header(need(trak, b"tkhd", "a track has no tkhd box")?)?;
        let mdia = need(trak, b"mdia", "a track has no mdia box")?;
        let (timescale, language) = media_header(need(mdia, b"mdhd", "a track has no mdhd box")?)?;
        let mut hdlr = Cursor::new(need(mdia, b"hdlr", "a track has no hdlr box")?);
        hdlr.skip(8)?;
        let handler = hdlr.kind()?;
        let minf = need(mdia, b"minf", "a track has no minf box")?;
        let stbl = need(minf, b"stbl", "a track has no stbl box")?;
        let entry = if matches!(&handler, b"vide" | b"soun") {
            entry::read(need(stbl, b"stsd", "a track has no stsd box")?, &handler)?
        } else {
            Entry::Unknown(String::new())
        };
        let samples = match &entry {
            Entry::Video(_) => samples::read(stbl, None, file_bytes)?,
            Entry::Audio(audio) => samples::read(stbl, audio.pcm_frame_bytes, file_bytes)?,
            Entry::Unknown(_) => Samples::default(),
        };
        let edit = match find(trak, b"edts")?.map(|edts| find(edts, b"elst")).transpose()?.flatten() {
            Some(elst) => Edit::read(elst, movie, timescale)?,
            None => Edit::NONE,
        };
        Ok(Track { id, enabled, entry, timescale, language, orientation, display, edit, samples })
    }

    /// Pixel width to height, where the display size stretches the coded one by more than rounding does.
    pub fn sample_aspect(&self, entry: &VideoEntry) -> Option<(u32, u32)> {
        let (shown, coded) = (self.display, (entry.width, entry.height));
        let num = u64::from(shown.0) * u64::from(coded.1);
        let den = u64::from(shown.1) * u64::from(coded.0);
        if num == 0 || den == 0 || num.abs_diff(den) * 200 < den {
            return None;
        }
        let divisor = gcd(num, den);
        // Odd sizes in 16.16 need more bits than there are; the aspect needs no more than these.
        let shift = (num.max(den) / divisor).ilog2().saturating_sub(15);
        let part = |n: u64| u32::try_from((n / divisor) >> shift).ok().filter(|n| *n > 0);
        Some((part(num)?, part(den)?))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `tkhd` (§8.3.2).
struct Header {
    id: u32,
    enabled: bool,
    orientation: Orientation,
    display: (u32, u32),
}

fn header(tkhd: &[u8]) -> Result<Header, Mp4Error> {
    let mut c = Cursor::new(tkhd);
    let (version, flags) = c.full()?;
    c.skip(if version == 1 { 16 } else { 8 })?;
    let id = c.u32()?;
    // Reserved, duration; reserved, layer, alternate group, volume, reserved.
    c.skip(if version == 1 { 12 } else { 8 } + 16)?;
    let (a, b, _, cc, d) = (c.i32()?, c.i32()?, c.i32()?, c.i32()?, c.i32()?);
    c.skip(16)?;
    let display = (c.u32()?, c.u32()?);
    Ok(Header { id, enabled: flags & 1 != 0, orientation: Orientation::from_matrix([a, b, cc, d]), display })
}

/// `mdhd` (§8.4.2): clock and language.
fn media_header(mdhd: &[u8]) -> Result<(Timescale, Option<String>), Mp4Error> {
    let mut c = Cursor::new(mdhd);
    let (version, _) = c.full()?;
    c.skip(if version == 1 { 16 } else { 8 })?;
    let timescale = c.u32()?;
    c.skip(if version == 1 { 8 } else { 4 })?;
    let packed = c.u16()?;
    // An encoder's clock must fit its 32-bit sign.
    let timescale = Timescale::new(timescale)
        .filter(|t| i32::try_from(t.get()).is_ok())
        .ok_or(Mp4Error::Corrupt("a track has no usable clock"))?;
    Ok((timescale, language(packed)))
}

/// Three letters of five bits; QuickTime's own numbers, which are below 0x400, say nothing here.
fn language(packed: u16) -> Option<String> {
    let letters = [packed >> 10, packed >> 5, packed].map(|five| (five & 0x1f) as u8 + 0x60);
    let code: String = letters.iter().map(|b| char::from(*b)).collect();
    (packed >= 0x400 && letters.iter().all(u8::is_ascii_lowercase) && code != "und").then_some(code)
}

/// `mvhd` (§8.2.2): the clock of edit lists.
pub fn movie_timescale(mvhd: &[u8]) -> Result<Timescale, Mp4Error> {
    let mut c = Cursor::new(mvhd);
    let (version, _) = c.full()?;
    c.skip(if version == 1 { 16 } else { 8 })?;
    Timescale::new(c.u32()?).ok_or(Mp4Error::Corrupt("the movie has no usable clock"))
}
