//! What a worker learns of a source by reading only its metadata: tracks, clocks, picture facts and where
//! each sample lies. Everything that plans work is computed from this.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::time::{Ticks, Timescale};

/// How the source is wrapped, which also says how a chunk is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// MP4, MOV and kin (ISO 14496-12), fragmented or not: samples are read by byte range, without a demuxer.
    Mp4,
    /// Matroska and WebM.
    Matroska,
    /// MPEG transport stream, with 188- or 192-byte packets.
    MpegTs,
    /// AVI.
    Avi,
    /// Flash video.
    Flv,
    /// Ogg.
    Ogg,
    /// ASF: Windows Media.
    Asf,
    /// MPEG program stream: VOB and MPG.
    MpegPs,
    /// MPEG audio (layers 2 and 3) without a container, with or without ID3 tags.
    MpegAudio,
    /// RIFF WAVE and RF64.
    Wav,
    /// FLAC without another container.
    Flac,
    /// AIFF and AIFF-C.
    Aiff,
    /// Apple's Core Audio Format.
    Caf,
    /// AAC in ADTS frames without a container, with or without ID3 tags.
    Adts,
}

/// Audio tracks taken of one source, at most.
pub const MAX_AUDIO_TRACKS: usize = 8;

/// The result of indexing. There is a picture or sound, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIndex {
    /// How the source is wrapped.
    pub container: Container,
    /// The one video track that is the picture; absent where there is only sound.
    pub video: Option<VideoTrack>,
    /// The audio tracks, the one to play first at the front.
    pub audio: Vec<AudioTrack>,
}

/// Frames that come before another and are presented after it, at most (H.264 A.3.1, H.265 A.4.2: the size of a decoder's
/// picture buffer).
const MOST_REORDERED: usize = 16;

/// Packets at the end of a part of a sound that may not be whole, or of which the next one says when they end.
const LAST_PACKETS: usize = 2;

impl SourceIndex {
    /// The index of a source's beginning, so that it presents nothing that bytes to come can change.
    pub fn settled(mut self) -> SourceIndex {
        let mut picture_ends = None;
        if let Some(video) = &mut self.video {
            let mut times: Vec<Ticks> =
                video.samples.iter().map(|s| s.pts).filter(|pts| video.window.contains(pts)).collect();
            times.sort_unstable();
            times.dedup();
            video.window.end = last_but(&times, MOST_REORDERED).unwrap_or(video.window.start);
            picture_ends = Some((video.window.end, video.timescale));
        }
        for audio in &mut self.audio {
            let times: Vec<Ticks> = audio.samples.iter().map(|s| s.pts).collect();
            let known = last_but(&times, LAST_PACKETS).unwrap_or(audio.window.start);
            // Beside a picture no more is planned of it, and where it is cut is said by the picture.
            let ends =
                picture_ends.map_or(known, |(end, clock)| known.min(end.rescale(clock, audio.timescale)));
            audio.window.end = ends.min(audio.window.end);
        }
        self
    }
}

/// The one that so many come after.
fn last_but(times: &[Ticks], after: usize) -> Option<Ticks> {
    times.get(times.len().checked_sub(after)?).copied()
}

/// What a decoder needs before its first packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecSetup {
    /// libav's name of the codec: `h264`, `hevc`, `aac`…
    pub codec: String,
    /// Out-of-band parameters (`avcC`, `hvcC`, AudioSpecificConfig…); empty where the stream carries its own.
    pub extradata: Vec<u8>,
    /// What decoders of some sound have to be told besides.
    #[serde(default)]
    pub wave: WaveFacts,
}

impl CodecSetup {
    /// Of a codec whose decoder needs to be told nothing but `extradata`.
    pub fn new(codec: impl Into<String>, extradata: impl Into<Vec<u8>>) -> Self {
        Self { codec: codec.into(), extradata: extradata.into(), wave: WaveFacts::default() }
    }
}

/// Facts of a sound stream that stand in its container alone, as in WAVEFORMATEX; 0 where unsaid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveFacts {
    /// Bytes of a block, of which a decoder takes whole ones alone.
    pub block_bytes: u32,
    /// Bits per second.
    pub bits_per_second: u32,
    /// Bits of a coded sample.
    pub sample_bits: u32,
}

/// One coded frame or audio packet, in the track's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Byte offset in the source: of the sample itself in MP4, of the container's packet elsewhere.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u32,
    /// Decode time. Not all containers store it; then it only orders samples.
    pub dts: Ticks,
    /// Presentation time, edit list applied.
    pub pts: Ticks,
    /// Decoding may start here.
    pub key: bool,
}

/// The picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoTrack {
    /// Track number in the container: the position among libav's streams, or among the `trak` boxes.
    pub stream: u32,
    /// Decoder parameters.
    pub setup: CodecSetup,
    /// The track's clock.
    pub timescale: Timescale,
    /// How the picture lies and looks.
    pub picture: Picture,
    /// All samples in decode order.
    pub samples: Vec<Sample>,
    /// Only samples whose `pts` lies here are presented (the edit list's window).
    pub window: Range<Ticks>,
    /// Duration of the last presented frame, at least 1 tick.
    pub last_duration: Ticks,
}

/// The facts about a picture that decide how it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Coded width in pixels, before rotation.
    pub width: u32,
    /// Coded height in pixels, before rotation.
    pub height: u32,
    /// Width of a pixel …
    pub sar_num: u32,
    /// … to its height.
    pub sar_den: u32,
    /// How the picture must be turned for display.
    pub orientation: Orientation,
    /// Colour as signalled.
    pub colour: Colour,
}

impl Picture {
    /// Upright, with square pixels, and of a colour that nothing is said of.
    pub const fn plain(width: u32, height: u32) -> Self {
        let orientation = Orientation { mirrored: false, quarter_turns: 0 };
        Self { width, height, sar_num: 1, sar_den: 1, orientation, colour: Colour::UNSPECIFIED }
    }
}

/// A turn by quarter circles after an optional mirroring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orientation {
    /// Mirror left to right first.
    pub mirrored: bool,
    /// Then turn clockwise by so many quarters, 0 to 3.
    pub quarter_turns: u8,
}

impl Orientation {
    /// The nearest quarter turn to a transformation `x' = a·x + c·y`, `y' = b·x + d·y`, given as `[a, b, c, d]`: the
    /// linear part of a track's display matrix (ISO 14496-12 §8.3.2).
    pub const fn from_matrix([a, b, c, d]: [i32; 4]) -> Self {
        let kept = a.unsigned_abs() as u64 + d.unsigned_abs() as u64;
        let swapped = b.unsigned_abs() as u64 + c.unsigned_abs() as u64;
        let (mirrored, quarter_turns) = if kept >= swapped {
            match (a < 0, d < 0) {
                (false, false) => (false, 0),
                (true, true) => (false, 2),
                (true, false) => (true, 0),
                (false, true) => (true, 2),
            }
        } else {
            match (b < 0, c < 0) {
                (false, true) => (false, 1),
                (true, false) => (false, 3),
                (true, true) => (true, 1),
                (false, false) => (true, 3),
            }
        };
        Self { mirrored, quarter_turns }
    }

    /// Whether width and height change places.
    pub const fn swaps_sides(self) -> bool {
        self.quarter_turns % 2 == 1
    }
}

/// Code points of ITU-T H.273; 2 means unspecified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Colour {
    /// ColourPrimaries (H.273 §8.1).
    pub primaries: u8,
    /// TransferCharacteristics (H.273 §8.2).
    pub transfer: u8,
    /// MatrixCoefficients (H.273 §8.3).
    pub matrix: u8,
    /// Samples use the full range; `None` when unsaid.
    pub full_range: Option<bool>,
}

impl Colour {
    /// Nothing is said.
    pub const UNSPECIFIED: Colour = Colour { primaries: 2, transfer: 2, matrix: 2, full_range: None };

    /// PQ or HLG: must be tone-mapped for SDR renditions.
    pub const fn is_hdr(self) -> bool {
        matches!(self.transfer, 16 | 18)
    }
}

impl Picture {
    /// Size in square pixels as the viewer sees it: pixel aspect and turn applied, in pixels.
    pub fn display_size(&self) -> (u32, u32) {
        let (num, den) = (u64::from(self.sar_num.max(1)), u64::from(self.sar_den.max(1)));
        // Stretch the side that grows, so that no detail is thrown away before scaling.
        let (w, h) = if num >= den {
            (((u64::from(self.width) * num + den / 2) / den) as u32, self.height)
        } else {
            (self.width, ((u64::from(self.height) * den + num / 2) / num) as u32)
        };
        if self.orientation.swaps_sides() { (h, w) } else { (w, h) }
    }
}

/// One sound track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioTrack {
    /// Track number, as in [`VideoTrack::stream`].
    pub stream: u32,
    /// Decoder parameters.
    pub setup: CodecSetup,
    /// The track's clock.
    pub timescale: Timescale,
    /// Samples per second as signalled.
    pub sample_rate: u32,
    /// Channels as signalled.
    pub channels: u16,
    /// ISO 639-2 code, when said and meaningful.
    pub language: Option<String>,
    /// All packets in decode order.
    pub samples: Vec<Sample>,
    /// Only sound inside this span is presented (the edit list's window).
    pub window: Range<Ticks>,
}

impl AudioTrack {
    /// When the presented sound begins and ends, on the track's clock: the window cut to what the packets hold.
    pub fn span(&self) -> Option<Range<Ticks>> {
        let first = self.samples.iter().map(|s| s.pts).min()?;
        let last = self.samples.iter().map(|s| s.pts).max()?;
        let step = self.typical_step();
        let span = first.max(self.window.start)..(last + step).min(self.window.end);
        (span.start < span.end).then_some(span)
    }

    /// The most usual distance between neighbouring packets, at least 1 tick.
    fn typical_step(&self) -> Ticks {
        let mut steps: Vec<i64> =
            self.samples.windows(2).map(|w| (w[1].pts - w[0].pts).0).filter(|d| *d > 0).collect();
        steps.sort_unstable();
        Ticks(steps.get(steps.len() / 2).copied().unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_become_quarter_turns() {
        const ONE: i32 = 0x1_0000;
        let turned = |mirrored, quarter_turns| Orientation { mirrored, quarter_turns };
        for (matrix, expected) in [
            ([ONE, 0, 0, ONE], turned(false, 0)),
            ([0, ONE, -ONE, 0], turned(false, 1)),
            ([-ONE, 0, 0, -ONE], turned(false, 2)),
            ([0, -ONE, ONE, 0], turned(false, 3)),
            ([-ONE, 0, 0, ONE], turned(true, 0)),
            ([ONE, 0, 0, -ONE], turned(true, 2)),
            ([i32::MIN; 4], turned(false, 2)),
        ] {
            assert_eq!(Orientation::from_matrix(matrix), expected);
        }
    }
}
