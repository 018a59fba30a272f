//! Reads a source's metadata: what it is, its tracks, and where each sample lies.

mod caf;
mod demuxed;
mod mp4;
mod probe;
mod sound;

use reelmill_media::index::{Container, Picture, SourceIndex, VideoTrack};
use reelmill_media::task::{Failure, FailureCode};
use reelmill_media::time::{Ticks, Timescale};

use super::failure::{fail, internal};
use super::magic::{self, HEAD_BYTES};
use super::parent::{Input, Parent};
use crate::mp4::read::ReadAt;

/// Pixels of the largest picture accepted: 8K and a little.
pub const MAX_PIXELS: u64 = 8192 * 4352;
/// The longest side accepted, in pixels.
const MAX_SIDE: u32 = 16_384;
/// Pixels of the shortest side accepted.
const MIN_SIDE: u32 = 8;

/// Ticks per second up to which a source's clock is kept: above it, a still frame's duration could outgrow 32 bits.
const FASTEST_CLOCK: u32 = 10_000_000;

/// The longest presentation accepted, in seconds: a week. Plans walk its whole length, whatever lies in it.
const MAX_SECONDS: i64 = 7 * 24 * 3600;

/// Bytes read at once while hopping from box to box.
const HOP_BYTES: usize = 64 << 10;

/// How much of a source an index speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// What is settled by its first bytes.
    Beginning,
}

/// Indexes the source of `length` bytes.
pub fn run(parent: &Parent, length: u64) -> Result<SourceIndex, Failure> {
    beginning(parent, length, length).map(|(index, _)| index)
}

/// The same of a source of which the first `there` bytes are there. Reading fails where it needs others.
pub fn beginning(parent: &Parent, length: u64, there: u64) -> Result<(SourceIndex, Extent), Failure> {
    let mut input = Input::new(parent, length, HOP_BYTES);
    let mut head = vec![0; HEAD_BYTES.min(usize::try_from(length).unwrap_or(HEAD_BYTES))];
    input.read_at(0, &mut head).map_err(internal)?;
    let container = magic::container(&head, length)?;
    let extent = |whole| if whole { Extent::Whole } else { Extent::Beginning };
    let (mut index, readable, extent) = match container {
        Container::Mp4 => {
            let (index, whole) = mp4::run(&mut input, there)?;
            (index, length, extent(whole))
        }
        // What is there of these is a shorter file.
        Container::Matroska | Container::MpegTs => {
            (demuxed::run(parent, container, there, there == length)?, there, extent(there == length))
        }
        Container::Avi
        | Container::Flv
        | Container::Ogg
        | Container::Asf
        | Container::MpegPs
        | Container::MpegAudio
        | Container::Wav
        | Container::Flac
        | Container::Aiff
        | Container::Caf
        | Container::Adts => {
            // A demuxer reads to the end: while that is missing there is no use in beginning.
            input.read_at(length.saturating_sub(1), &mut [0]).map_err(internal)?;
            (demuxed::run(parent, container, length, true)?, length, Extent::Whole)
        }
    };
    index.video = index.video.filter(|video| !video.samples.is_empty());
    if index.video.is_none() && index.audio.is_empty() {
        return Err(fail(FailureCode::NoTracks, "its tracks are empty"));
    }
    check_length(&index)?;
    if let Some(video) = &mut index.video {
        keep_what_is_shown(video);
        slow_down(video);
    }
    if extent == Extent::Beginning {
        index = index.settled();
    }
    if let Some(video) = &mut index.video {
        video.picture = probe::picture(parent, container, video, readable)?;
        check(&video.picture)?;
    }
    Ok((index, extent))
}

fn check_length(index: &SourceIndex) -> Result<(), Failure> {
    let on = |time: Ticks, clock: Timescale| time.rescale(clock, Timescale::MPEG);
    let picture = index.video.as_ref().and_then(|track| {
        let shown = || track.samples.iter().map(|s| s.pts).filter(|pts| track.window.contains(pts));
        let (start, end) = (shown().min()?, shown().max()? + track.last_duration);
        Some((on(start, track.timescale), on(end, track.timescale)))
    });
    let sounds = index.audio.iter().filter_map(|track| {
        let span = track.span()?;
        Some((on(span.start, track.timescale), on(span.end, track.timescale)))
    });
    let whole = picture.into_iter().chain(sounds).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let longest = Ticks::from_millis(MAX_SECONDS * 1000, Timescale::MPEG);
    if whole.is_some_and(|(start, end)| end - start > longest) {
        return Err(fail(FailureCode::TooLarge, "the file says that it lasts for more than a week"));
    }
    Ok(())
}

fn check(picture: &Picture) -> Result<(), Failure> {
    let Picture { width, height, .. } = *picture;
    if u64::from(width) * u64::from(height) > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(fail(
            FailureCode::TooLarge,
            format!("pictures of {width} by {height} pixels are too large"),
        ));
    }
    if width.min(height) < MIN_SIDE {
        return Err(fail(
            FailureCode::Unsupported,
            format!("pictures of {width} by {height} pixels are too small"),
        ));
    }
    Ok(())
}

/// An edit list may begin while the last frame is shown: then that one is presented, from its own time on.
fn keep_what_is_shown(track: &mut VideoTrack) {
    let VideoTrack { samples, window, last_duration, .. } = track;
    let last = samples.iter().map(|sample| sample.pts).max();
    if let Some(last) = last.filter(|pts| (*pts..*pts + *last_duration).contains(&window.start)) {
        window.start = last;
    }
}

/// Puts a track with an overly fast clock on a slower one.
fn slow_down(track: &mut VideoTrack) {
    let VideoTrack { timescale, samples, window, last_duration, .. } = track;
    if timescale.get() > FASTEST_CLOCK {
        let (from, to) = (*timescale, Timescale::MPEG);
        for sample in samples {
            sample.pts = sample.pts.rescale(from, to);
            sample.dts = sample.dts.rescale(from, to);
        }
        // The ends of an unbounded window stay far beyond everything.
        *window = window.start.rescale(from, to)..window.end.rescale(from, to);
        *last_duration = last_duration.rescale(from, to);
        *timescale = to;
    }
}
