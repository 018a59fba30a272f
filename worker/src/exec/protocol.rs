//! What parent and child say to each other over the child's standard input and output.
//!
//! The child is handed a [`Job`], then asks for bytes of the source as it needs them ([`FromChild::Read`], one
//! request at a time, each answered by [`ToChild::Bytes`] or [`ToChild::ReadFailed`]), tells of its results as they
//! are finished, and ends with [`FromChild::Done`], after which it may be handed another job, or [`FromChild::Failed`].
//! For each rendition [`FromChild::Init`] comes before its first [`FromChild::Segment`]; its segments come in order.
//!
//! A message is its length in four bytes, little-endian, and that many bytes of postcard.

use std::io::{self, Read, Write};

use reelmill_av::VideoEngine;
use reelmill_media::ids::RenditionId;
use reelmill_media::image::ImageKind;
use reelmill_media::index::{CodecSetup, Container, Picture, Sample, SourceIndex};
use reelmill_media::ladder::{AudioRung, Rung};
use reelmill_media::task::Failure;
use reelmill_media::time::{FrameRate, Ticks, Timescale};
use reelmill_media::timeline::AudioTimeline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// No message is longer than this, in bytes. The longest is the index of a source that lasts for days.
pub const MAX_MESSAGE_BYTES: usize = 512 << 20;

/// No range asked for is longer than this, in bytes.
pub const MAX_READ_BYTES: u32 = 4 << 20;

/// What the child reads.
#[allow(clippy::large_enum_variant)] // The large one comes once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// The work: the first message, and the next one after [`FromChild::Done`].
    Job(Job),
    /// The bytes last asked for; fewer where the source ends, or where those after them are not there yet.
    Bytes(#[serde(with = "raw")] Vec<u8>),
    /// They cannot be had; the child gives up.
    ReadFailed(String),
}

/// What the child writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// Asks for a byte range of the source.
    Read {
        /// Byte offset in the source.
        offset: u64,
        /// Length in bytes, 1 to [`MAX_READ_BYTES`].
        len: u32,
    },
    /// How far the work is, in 1/1000.
    Progress {
        /// 0 to 1000.
        permille: u16,
    },
    /// A rendition's init segment.
    Init(InitOutput),
    /// A finished media segment.
    Segment(SegmentOutput),
    /// A finished still.
    Image(ImageOutput),
    /// The result of [`Job::Index`], and of [`Job::IndexBeginning`] where the beginning says all.
    Index(Box<SourceIndex>),
    /// The result of [`Job::IndexBeginning`]: what is settled.
    Beginning(Box<SourceIndex>),
    /// All is done; the last message of a job.
    Done,
    /// It cannot be done; the last message.
    Failed(ChildFailure),
}

/// A rendition's init segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitOutput {
    /// Which rendition.
    pub rendition: RenditionId,
    /// What encodes it, as [`super::encoder::stream_name`] has it.
    pub encoder: String,
    /// The rendition's clock.
    pub timescale: Timescale,
    /// RFC 6381 codec string.
    pub codecs: String,
    /// `ftyp` and `moov`.
    #[serde(with = "raw")]
    pub bytes: Vec<u8>,
}

/// A finished media segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentOutput {
    /// Which rendition.
    pub rendition: RenditionId,
    /// Its number in the rendition, from 0.
    pub number: u32,
    /// Presentation start on the rendition's clock.
    pub start: Ticks,
    /// Presentation duration on the rendition's clock.
    pub duration: Ticks,
    /// Video frames, or audio packets.
    pub frames: u32,
    /// Frames (or, for sound, source packets) that could not be decoded and were filled in.
    pub concealed: u32,
    /// Bytes up to the end of the first frame; 0 for sound.
    pub first_frame_bytes: u32,
    /// `moof` and `mdat`.
    #[serde(with = "raw")]
    pub bytes: Vec<u8>,
}

/// A finished still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOutput {
    /// As planned.
    pub still: Still,
    /// A JPEG.
    #[serde(with = "raw")]
    pub bytes: Vec<u8>,
}

/// Why a child gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildFailure {
    /// Code and sentence.
    pub failure: Failure,
    /// The last error lines of libav's log, for whoever looks into it.
    pub log: Vec<String>,
}

/// One piece of work, self-contained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Read the source's metadata.
    Index {
        /// Length of the source in bytes.
        source_bytes: u64,
    },
    /// The same of a source of which only the first bytes are there, and perhaps some of its end.
    IndexBeginning {
        /// Length of the source in bytes, once it is there.
        source_bytes: u64,
        /// How many of the first are there.
        there: u64,
    },
    /// Decode a run of segments once and encode every rung.
    Video(VideoJob),
    /// Encode a run of audio segments.
    Audio(AudioJob),
}

/// Where packets come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// Length of the source in bytes.
    pub source_bytes: u64,
    /// How the source is wrapped.
    pub container: Container,
    /// Track number in the container.
    pub stream: u32,
    /// Decoder parameters.
    pub setup: CodecSetup,
    /// The source track's clock.
    pub timescale: Timescale,
    /// The samples to feed, in decode order: for video, the first is where decoding can start.
    pub samples: Vec<Sample>,
}

/// A run of video segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoJob {
    /// Where packets come from.
    pub feed: Feed,
    /// How the source's picture lies and looks.
    pub picture: Picture,
    /// The frames to make, in presentation order.
    pub frames: Vec<PlannedFrame>,
    /// Where the last of them ends, on the output clock.
    pub end: Ticks,
    /// The output clock.
    pub timescale: Timescale,
    /// Mean frame rate of the whole presentation.
    pub frame_rate: FrameRate,
    /// The segments, in order; the first begins at frame 0 of this job.
    pub segments: Vec<PlannedSegment>,
    /// What to encode.
    pub rungs: Vec<Rung>,
    /// With what, where that is not the software encoder of the rung's codec.
    pub engine: Option<VideoEngine>,
    /// Nothing is read and nothing decoded: the picture is black.
    pub conceal: bool,
    /// Stills to take from the rungs' pictures, by their place in this job.
    pub stills: Vec<Still>,
}

/// A still to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Still {
    /// What it is for.
    pub kind: ImageKind,
    /// The frame of this job.
    pub at: u32,
    /// The rung of this job from whose picture it is taken.
    pub rung: u32,
    /// The presented frame of the asset, counted from 0.
    pub frame: u32,
    /// Its presentation time in microseconds.
    pub at_micros: i64,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// One frame to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFrame {
    /// Its identity: presentation time on the source track's clock.
    pub source_pts: Ticks,
    /// Presentation time on the output clock.
    pub pts: Ticks,
}

/// One segment to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSegment {
    /// Its number in the rendition, from 0.
    pub number: u32,
    /// Its first frame (in this job) or packet (in the rendition).
    pub first: u32,
}

/// A run of audio segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioJob {
    /// Where packets come from.
    pub feed: Feed,
    /// Samples per second as signalled.
    pub sample_rate: u32,
    /// Channels as signalled.
    pub channels: u16,
    /// Length and clock of the whole rendition.
    pub timeline: AudioTimeline,
    /// The segments, in order; `first` counts the rendition's packets, of which number 0 is the encoder's delay.
    pub segments: Vec<PlannedSegment>,
    /// The packet after the last segment's last.
    pub end_packet: u32,
    /// What to encode.
    pub rung: AudioRung,
    /// Nothing is read and nothing decoded: the sound is silence.
    pub conceal: bool,
}

/// Bytes as one piece: serde would take a `Vec<u8>` for a list of numbers, and walk through it.
mod raw {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}

/// Writes one message and flushes it.
pub fn write_message<M: Serialize>(to: &mut impl Write, message: &M) -> io::Result<()> {
    let bytes = encode_message(message)?;
    to.write_all(&bytes)?;
    to.flush()
}

/// A message with its length before it, for writers that are not [`Write`].
pub fn encode_message<M: Serialize>(message: &M) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(message, vec![0u8; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - 4)
        .ok()
        .filter(|n| *n as usize <= MAX_MESSAGE_BYTES)
        .ok_or_else(|| io::Error::other("message too long"))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Reads one message; `None` when the other side has closed cleanly.
pub fn read_message<M: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<M>> {
    let mut length = [0u8; 4];
    let mut have = 0;
    while have < length.len() {
        match from.read(&mut length[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let length = message_length(length)?;
    // Grows as bytes come, so that a false length costs nothing.
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode_message(&bytes).map(Some)
}

/// Checks the four bytes before a message.
pub fn message_length(prefix: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_MESSAGE_BYTES { Err(io::Error::other("message too long")) } else { Ok(length) }
}

/// A message without its length: all of the bytes, or it is none.
pub fn decode_message<M: DeserializeOwned>(bytes: &[u8]) -> io::Result<M> {
    match postcard::take_from_bytes(bytes).map_err(io::Error::other)? {
        (message, []) => Ok(message),
        (_, _) => Err(io::Error::other("a message longer than what it says")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_end_cleanly() {
        let mut wire = Vec::new();
        let messages =
            [FromChild::Read { offset: 7, len: 9 }, FromChild::Progress { permille: 500 }, FromChild::Done];
        for message in &messages {
            write_message(&mut wire, message).unwrap();
        }
        let mut from = wire.as_slice();
        for message in messages {
            assert_eq!(read_message::<FromChild>(&mut from).unwrap(), Some(message));
        }
        assert_eq!(read_message::<FromChild>(&mut from).unwrap(), None);
    }

    #[test]
    fn cut_or_oversized_messages_are_errors() {
        let mut wire = encode_message(&ToChild::Bytes(vec![1, 2, 3])).unwrap();
        wire.pop();
        assert!(read_message::<ToChild>(&mut wire.as_slice()).is_err());
        assert!(read_message::<ToChild>(&mut [0xff; 8].as_slice()).is_err());
        let mut long = encode_message(&FromChild::Done).unwrap();
        long[0] += 1;
        long.push(0);
        assert!(read_message::<FromChild>(&mut long.as_slice()).is_err());
    }
}
