//! The packets of a job, in decode order, with the times that the index gave them.

use std::collections::VecDeque;

use reelmill_av::{Demuxer, Format, Look, MOST_LOOK_BYTES, Packet, Seek};
use reelmill_media::index::{Container, Sample};
use reelmill_media::task::{Failure, FailureCode};
use reelmill_media::time::Timescale;

use super::failure::{fail, internal, of_source};
use super::matroska::Spliced;
use super::parent::{Input, Parent};
use super::protocol::Feed;
use crate::mp4::read::ReadAt;

/// Packets passed while looking for a sample after a seek; more means that the container has changed its mind.
const MAX_SEARCH_PACKETS: usize = 2_000_000;

/// Packets read at most until the stream wanted has been seen.
const MAX_EARLY_PACKETS: usize = 4096;

/// Samples with no more than this between them, in bytes, are read at once. Of an interleaved file, sound is read without the
/// frames between its pieces: the parent has them at hand, so that to ask once more is cheap.
const MAX_GAP_BYTES: u64 = 4 << 10;

/// Demuxers read no further ahead than this, in bytes: they find out too late that they need no more.
const DEMUXER_AHEAD_BYTES: usize = 256 << 10;

/// What a container says of itself is read in pieces of so many bytes.
const FRONT_BYTES: usize = 16 << 10;

/// A transport stream is looked through for its streams so far at first, in bytes; multiplexers tell of them ten times a
/// second.
const FIRST_LOOK_BYTES: u32 = 256 << 10;

/// libav's mark of an unknown time.
const UNKNOWN_TIME: i64 = i64::MIN;

/// Yields the packets of a [`Feed`].
pub struct Packets {
    samples: Vec<Sample>,
    next: usize,
    from: Origin,
}

enum Origin {
    /// Each sample is a byte range; those before number `run_end` lie close together.
    Ranges { input: Input, run_end: usize },
    /// A demuxer is needed to find them again.
    Demuxer(Box<Demuxed>),
}

struct Demuxed {
    demuxer: Demuxer,
    /// Packets read before the stream was known.
    early: VecDeque<Packet>,
    stream: u32,
    /// The sample searched for first has been found.
    found: bool,
    /// How much further on packets lie in the source than the demuxer sees, in bytes.
    left_out: u64,
    /// Where the last packet with a place of its own lay.
    at: Option<u64>,
}

/// The demuxer for a container that needs one.
pub fn format(container: Container) -> Option<Format> {
    match container {
        Container::Mp4 => None,
        Container::Matroska => Some(Format::Matroska),
        Container::MpegTs => Some(Format::MpegTs),
        Container::Avi => Some(Format::Avi),
        Container::Flv => Some(Format::Flv),
        Container::Ogg => Some(Format::Ogg),
        Container::Asf => Some(Format::Asf),
        Container::MpegPs => Some(Format::MpegPs),
        Container::MpegAudio => Some(Format::MpegAudio),
        Container::Wav => Some(Format::Wav),
        Container::Flac => Some(Format::Flac),
        Container::Aiff => Some(Format::Aiff),
        Container::Caf => Some(Format::Caf),
        Container::Adts => Some(Format::Adts),
    }
}

/// Bytes in front of a sample in FLV: the tag's header, and what the codec has there (FLV specification 10.1, §E.4).
fn flv_header_bytes(codec: &str) -> u64 {
    11 + match codec {
        "h264" => 5,
        "aac" | "vp6f" => 2,
        _ => 1,
    }
}

impl Packets {
    /// Gets ready to read, so many bytes ahead; nothing is read from an MP4 yet.
    pub fn open(parent: &Parent, feed: &Feed, read_ahead: usize) -> Result<Self, Failure> {
        let samples = feed.samples.clone();
        let input = |ahead| Input::new(parent, feed.source_bytes, ahead);
        let from = match format(feed.container) {
            None => Origin::Ranges { input: input(read_ahead), run_end: 0 },
            Some(format) => {
                let demuxed = Demuxed::at_first_of(format, feed, input, read_ahead.min(DEMUXER_AHEAD_BYTES))?;
                Origin::Demuxer(Box::new(demuxed))
            }
        };
        Ok(Self { samples, next: 0, from })
    }

    /// The next packet, or `None` after the last.
    pub fn next(&mut self) -> Result<Option<Packet>, Failure> {
        match &mut self.from {
            Origin::Ranges { input, run_end } => {
                let Some(sample) = self.samples.get(self.next) else { return Ok(None) };
                if self.next >= *run_end {
                    let (length, end) = run(self.samples.get(self.next..).unwrap_or_default());
                    *run_end = self.next + length;
                    input.read_ahead_to(end);
                }
                self.next += 1;
                let mut bytes = vec![0; sample.bytes as usize];
                input.read_at(sample.offset, &mut bytes).map_err(internal)?;
                Packet::from_bytes(&bytes, sample.pts.0, sample.dts.0, sample.key).map(Some).map_err(internal)
            }
            Origin::Demuxer(demuxed) => demuxed.next(&self.samples, &mut self.next),
        }
    }
}

/// How many of the samples, from the first on, lie close together in their order, and the byte where the last of them ends.
fn run(samples: &[Sample]) -> (usize, u64) {
    let end_of = |sample: &Sample| sample.offset.saturating_add(u64::from(sample.bytes));
    let close = |pair: &&[Sample]| {
        pair[1].offset.checked_sub(end_of(&pair[0])).is_some_and(|gap| gap <= MAX_GAP_BYTES)
    };
    let length = 1 + samples.windows(2).take_while(close).count();
    (length, samples.get(length - 1).map_or(0, end_of))
}

impl Demuxed {
    /// Gets ready to find the first of the samples by reading on.
    fn at_first_of(
        format: Format,
        feed: &Feed,
        input: impl Fn(usize) -> Input,
        ahead: usize,
    ) -> Result<Self, Failure> {
        let open = || Self::open(format, || input(ahead), feed.stream);
        let Some(first) = feed.samples.first() else { return open() };
        if format == Format::Matroska {
            let spliced = Spliced::at(input(FRONT_BYTES), input(ahead), first.offset).map_err(internal)?;
            if let Some(source) = spliced {
                let left_out = source.left_out();
                let demuxer = Demuxer::open(format, source, Look::Streams(MOST_LOOK_BYTES));
                return Self::over(demuxer.map_err(of_source)?, feed.stream, left_out);
            }
        }
        let mut demuxed = open()?;
        // Not every demuxer finds the start again once it has been to the end.
        if demuxed.seek(format, first, feed.timescale)? { Ok(demuxed) } else { open() }
    }

    /// Opens the whole source. A transport stream is looked through for its tables, no further than needed.
    fn open(format: Format, input: impl Fn() -> Input, stream: u32) -> Result<Self, Failure> {
        let mut look = if format == Format::MpegTs { FIRST_LOOK_BYTES } else { MOST_LOOK_BYTES };
        loop {
            let demuxer = Demuxer::open(format, input(), Look::Streams(look)).map_err(of_source)?;
            if look >= MOST_LOOK_BYTES || demuxer.streams().len() > stream as usize {
                return Self::over(demuxer, stream, 0);
            }
            look *= 2;
        }
    }

    fn over(mut demuxer: Demuxer, stream: u32, left_out: u64) -> Result<Self, Failure> {
        // Some containers tell of a stream by its first packet alone.
        let mut early = VecDeque::new();
        while demuxer.streams().len() <= stream as usize && early.len() < MAX_EARLY_PACKETS {
            let mut packet = Packet::new().map_err(internal)?;
            if !demuxer.read(&mut packet).unwrap_or(false) {
                break;
            }
            early.push_back(packet);
        }
        demuxer.keep_only(&[stream]);
        Ok(Self { demuxer, early, stream, found: false, left_out, at: None })
    }

    /// Goes to where `first` can be found by reading on; false where there is no such place but the start.
    fn seek(&mut self, format: Format, first: &Sample, clock: Timescale) -> Result<bool, Failure> {
        let streams = self.demuxer.streams();
        let facts = streams
            .get(self.stream as usize)
            .ok_or_else(|| internal("a stream of the index is not there"))?;
        let to = match format {
            Format::MpegTs
            | Format::MpegPs
            | Format::MpegAudio
            | Format::Wav
            | Format::Flac
            | Format::Aiff
            | Format::Adts => Seek::Byte(first.offset),
            Format::Flv => Seek::Byte(first.offset.saturating_sub(flv_header_bytes(&facts.codec))),
            Format::Matroska | Format::Avi | Format::Ogg | Format::Asf | Format::Caf => {
                // Seconds are `ticks × num / den` on the container's clock. One tick early never lands late.
                let (num, den) = facts.time_base;
                let ticks = i128::from(first.pts.0.min(first.dts.0)) * i128::from(den)
                    / (i128::from(clock.get()) * i128::from(num.max(1)));
                Seek::Time { stream: self.stream, ticks: i64::try_from(ticks - 1).unwrap_or(0).max(0) }
            }
        };
        self.early.clear();
        Ok(self.demuxer.seek(to).is_ok() && self.lands_before(first)? && self.demuxer.seek(to).is_ok())
    }

    /// Whether the first packet read now lies at or before `first`.
    fn lands_before(&mut self, first: &Sample) -> Result<bool, Failure> {
        let mut packet = Packet::new().map_err(internal)?;
        while self.demuxer.read(&mut packet).unwrap_or(false) {
            if packet.stream() == self.stream {
                return Ok(packet.position().is_some_and(|p| p <= first.offset));
            }
        }
        Ok(false)
    }

    fn read(&mut self) -> Result<Option<Packet>, Failure> {
        if let Some(packet) = self.early.pop_front() {
            return Ok(Some(packet));
        }
        let mut packet = Packet::new().map_err(internal)?;
        match self.demuxer.read(&mut packet) {
            Ok(true) => Ok(Some(packet)),
            Ok(false) => Ok(None),
            Err(error) if error.is_no_memory() => Err(internal(error)),
            // What is damaged is skipped by the demuxer; what it cannot skip ends the stream.
            Err(_) => Ok(None),
        }
    }

    fn next(&mut self, samples: &[Sample], next: &mut usize) -> Result<Option<Packet>, Failure> {
        let last = samples.last().map_or(0, |s| s.offset);
        for _ in 0..MAX_SEARCH_PACKETS {
            let Some(mut packet) = self.read()? else { return Ok(None) };
            if packet.stream() != self.stream {
                continue;
            }
            // Of several frames in one packet of the container, only the first has a place of its own.
            self.at = packet.position().map(|at| at + self.left_out).or(self.at);
            let Some(position) = self.at else { continue };
            // Samples that did not come again are left to concealment.
            while samples.get(*next).is_some_and(|s| s.offset < position) && position <= last {
                *next += 1;
            }
            match samples.get(*next) {
                Some(sample) if sample.offset == position => {
                    self.found = true;
                    *next += 1;
                    packet.set_times(sample.pts.0, sample.dts.0);
                    return Ok(Some(packet));
                }
                Some(_) | None if position > last => return Ok(None),
                // Between two samples: the second field of a frame, or a part of it without a time.
                Some(_) | None if self.found => {
                    packet.set_times(UNKNOWN_TIME, UNKNOWN_TIME);
                    return Ok(Some(packet));
                }
                Some(_) | None => {}
            }
        }
        Err(fail(FailureCode::Corrupt, "the container leads in circles"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reelmill_media::time::Ticks;

    #[test]
    fn a_run_ends_where_something_else_lies_between() {
        let sample = |offset, bytes| Sample { offset, bytes, pts: Ticks(0), dts: Ticks(0), key: true };
        let far = 1000 + MAX_GAP_BYTES + 1;
        let samples = [sample(0, 100), sample(100, 400), sample(600, 400), sample(far, 10), sample(0, 5)];
        assert_eq!(run(&samples), (3, 1000));
        assert_eq!(run(&samples[3..]), (1, far + 10));
        assert_eq!(run(&samples[4..]), (1, 5));
    }
}
