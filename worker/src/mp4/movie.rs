//! A whole file: walks its top-level boxes and reads only those that describe media.

use reelmill_media::index::Sample;
use reelmill_media::source::ENDLESS_BYTES;

use super::fragments;
use super::read::{Cursor, Mp4Error, ReadAt, boxes, find, need};
use super::track::{self, Track};

/// The largest `moov` read, in bytes: about 5 MB an hour with sound is usual.
const MAX_MOOV_BYTES: u64 = 256 << 20;
/// The largest `moof` read, in bytes.
const MAX_MOOF_BYTES: u64 = 16 << 20;
/// Top-level boxes passed: fragments of half a second for three days.
const MAX_BOXES: usize = 1_000_000;
/// Length of the longest box header, in bytes.
const LONGEST_HEADER: u64 = 16;
/// Tracks read.
const MAX_TRACKS: usize = 64;

/// What the boxes say.
#[derive(Debug)]
pub struct Boxes {
    /// Tracks and samples; samples are in decode order and lie wholly in what is there.
    pub tracks: Vec<Track>,
    /// There are no more samples than these.
    pub whole: bool,
}

/// Reads tracks and samples of all fragments of which the first `there` bytes of the file tell. What comes before the
/// first fragment is read wherever it lies.
pub fn read(source: &mut impl ReadAt, there: u64) -> Result<Boxes, Mp4Error> {
    let length = source.length();
    let mut found: Option<Movie> = None;
    let mut at = 0u64;
    let mut cut_short = false;
    let endless = length >= ENDLESS_BYTES;
    for _ in 0..MAX_BOXES {
        if found.is_some() && there < length && at.saturating_add(LONGEST_HEADER) > there {
            break;
        }
        let Some(header) = BoxHeader::read(source, at, length)? else { break };
        cut_short = header.end > length;
        match &header.kind {
            b"moov" if found.is_none() => {
                let body = body(source, &header, length, MAX_MOOV_BYTES, "a moov box of more than 256 MiB")?;
                let movie = Movie::read(&body, length)?;
                let whole = movie.extends.is_none();
                found = Some(movie);
                if whole {
                    break;
                }
            }
            // The next fragment is on its way.
            b"moof" if header.end > there && there < length => break,
            b"moof" => {
                if let Some(Movie { tracks, extends: Some(defaults) }) = &mut found {
                    // The last fragment of a recording that was cut off is left out.
                    if cut_short {
                        break;
                    }
                    let body =
                        body(source, &header, length, MAX_MOOF_BYTES, "a moof box of more than 16 MiB")?;
                    fragments::add(&body, at, tracks, defaults, length)?;
                }
            }
            _ => {}
        }
        at = header.end;
    }
    match found {
        Some(Movie { mut tracks, extends }) => {
            let whole = there == length || (extends.is_none() && !endless);
            if !whole {
                tracks.iter_mut().for_each(|track| keep_what_is_there(track, there));
            }
            Ok(Boxes { tracks, whole })
        }
        None if cut_short => Err(Mp4Error::Truncated("it ends before its moov box")),
        None => Err(Mp4Error::Corrupt("it has no moov box")),
    }
}

fn keep_what_is_there(track: &mut Track, there: u64) {
    let samples = &mut track.samples.samples;
    let is_there = |sample: &Sample| sample.offset.saturating_add(u64::from(sample.bytes)) <= there;
    let known = samples.iter().take_while(|sample| is_there(sample)).count();
    samples.truncate(known);
}

struct Movie {
    tracks: Vec<Track>,
    /// Defaults of fragments, when there may be some.
    extends: Option<std::collections::BTreeMap<u32, fragments::Defaults>>,
}

impl Movie {
    fn read(moov: &[u8], file_bytes: u64) -> Result<Self, Mp4Error> {
        if find(moov, b"cmov")?.is_some() {
            return Err(Mp4Error::Corrupt("its moov box is compressed, which is not supported"));
        }
        let timescale = track::movie_timescale(need(moov, b"mvhd", "it has no mvhd box")?)?;
        let mut tracks = Vec::new();
        for next in boxes(moov) {
            let (kind, body) = next?;
            if &kind == b"trak" && tracks.len() < MAX_TRACKS {
                tracks.push(Track::read(body, timescale, file_bytes)?);
            }
        }
        let extends = find(moov, b"mvex")?.map(fragments::defaults).transpose()?;
        Ok(Self { tracks, extends })
    }
}

struct BoxHeader {
    kind: [u8; 4],
    body: u64,
    end: u64,
}

impl BoxHeader {
    /// The header at `at`, or `None` at the end of the file.
    fn read(source: &mut impl ReadAt, at: u64, length: u64) -> Result<Option<Self>, Mp4Error> {
        let left = length.saturating_sub(at);
        if left < 8 {
            return Ok(None);
        }
        let mut head = [0u8; 16];
        let have = left.min(16) as usize;
        source.read_at(at, &mut head[..have])?;
        let mut c = Cursor::new(&head[..have]);
        let (size, kind) = (c.u32()?, c.kind()?);
        let (header, size) = match size {
            0 => (8, left),
            1 => (16, c.u64()?),
            n => (8, u64::from(n)),
        };
        if size < header {
            return Err(Mp4Error::Corrupt("a box is smaller than its own header"));
        }
        let end = at.checked_add(size).ok_or(Mp4Error::Corrupt("a box larger than any file"))?;
        Ok(Some(Self { kind, body: at + header, end }))
    }
}

fn body(
    source: &mut impl ReadAt,
    header: &BoxHeader,
    length: u64,
    max: u64,
    too_large: &'static str,
) -> Result<Vec<u8>, Mp4Error> {
    if header.end > length {
        return Err(Mp4Error::Truncated("it ends inside its index"));
    }
    let bytes = header.end - header.body;
    if bytes > max {
        return Err(Mp4Error::TooLarge(too_large));
    }
    let mut out = vec![0; bytes as usize];
    source.read_at(header.body, &mut out)?;
    Ok(out)
}
