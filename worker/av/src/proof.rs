//! Whether an encoder does what is asked of it: it is given pictures that are known, and what comes out is counted, decoded
//! in software and looked at.

use ffmpeg_next::ffi;
use reelmill_media::codec::VideoCodec;
use reelmill_media::time::Ticks;

use crate::codec::SourceVideoCodec;
use crate::decode::{DecodeError, Decoded, VideoDecoder};
use crate::error::{AvError, check};
use crate::frame::Frame;
use crate::packet::Packet;
use crate::video_encoder::{EncodedFrame, VideoEncoder};

/// Frames encoded.
const FRAMES: u32 = 10;
/// The frame that a second segment would start with.
const SECOND_START: u32 = 6;
/// What an encoder at the rates of a ladder surpasses by far on smooth pictures, and green ones miss by far: dB.
const ENOUGH_PSNR: f64 = 26.0;
/// Every so many pixels, in both directions, one is looked at.
const LOOK_EVERY: usize = 4;

/// In which way an encoder failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unproven {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] AvError),
    /// The stream cannot be described in an init segment.
    #[error("it gives no parameter sets ahead of its stream")]
    NoParameterSets,
    /// Frames were lost or made up.
    #[error("{came} frames came out for {FRAMES} that went in")]
    Count {
        /// Frames that came out of the encoder, or out of the decoder after it.
        came: usize,
    },
    /// Frames came with other times than they went in with.
    #[error("its frames come with other times than they went in with")]
    Times,
    /// Where segments start, no decoder could.
    #[error("frame {frame} is {}a sync frame", if *.wanted { "not " } else { "" })]
    Sync {
        /// Which frame, from 0.
        frame: u32,
        /// Whether it should be one.
        wanted: bool,
    },
    /// It is no valid stream.
    #[error("its stream cannot be decoded: {0}")]
    Stream(AvError),
    /// It shows something else.
    #[error("its picture is not the one that went in ({psnr:.0} dB)")]
    Picture {
        /// Peak signal-to-noise ratio of the worst plane of the worst frame, in dB.
        psnr: f64,
    },
}

/// Encodes a few pictures and looks at what comes out. The encoder's clock is to count frames.
pub fn prove(mut encoder: VideoEncoder, codec: VideoCodec) -> Result<(), Unproven> {
    let (width, height) = encoder.size();
    let parameter_sets = encoder.parameter_sets().to_vec();
    if parameter_sets.is_empty() {
        return Err(Unproven::NoParameterSets);
    }
    let mut coded = Vec::new();
    let starts = |n: u32| n == 0 || n == SECOND_START;
    for n in 0..FRAMES {
        encoder.encode(test_picture(width, height, n)?, Ticks(i64::from(n)), starts(n), &mut coded)?;
    }
    encoder.finish(&mut coded)?;
    drop(encoder);
    if coded.len() != FRAMES as usize {
        return Err(Unproven::Count { came: coded.len() });
    }
    let mut times: Vec<_> = coded.iter().map(|f| f.pts).collect();
    times.sort_unstable();
    if times.iter().zip(0..).any(|(time, n)| *time != Ticks(n)) {
        return Err(Unproven::Times);
    }
    let wrong = coded.iter().find_map(|f| {
        let (frame, wanted) = (u32::try_from(f.pts.0).ok()?, starts(u32::try_from(f.pts.0).ok()?));
        (f.sync != wanted).then_some(Unproven::Sync { frame, wanted })
    });
    wrong.map_or(Ok(()), Err)?;
    let codec = SourceVideoCodec::named(codec.name())?;
    let seen = decode(codec, &parameter_sets, (width, height), &coded)?;
    // A second segment is decoded without the first.
    let second = coded.iter().position(|f| f.pts == Ticks(i64::from(SECOND_START))).unwrap_or(0);
    let alone = decode(codec, &parameter_sets, (width, height), &coded[second..])?;
    if seen != FRAMES || alone != FRAMES - SECOND_START {
        return Err(Unproven::Count { came: seen.min(SECOND_START + alone) as usize });
    }
    Ok(())
}

/// Decodes and compares; how many pictures came.
fn decode(
    codec: SourceVideoCodec,
    parameter_sets: &[u8],
    (width, height): (u32, u32),
    coded: &[EncodedFrame],
) -> Result<u32, Unproven> {
    let clock = reelmill_media::time::Timescale::MPEG;
    let pixels = u64::from(width) * u64::from(height) * 2;
    let mut decoder = VideoDecoder::open(codec, parameter_sets, clock, (width, height), pixels)?;
    let mut frame = Frame::new()?;
    let mut seen = 0;
    let broken = |error| match error {
        DecodeError::Broken(error) => Unproven::Stream(error),
        DecodeError::Fatal(error) => Unproven::Call(error),
    };
    let packets = coded.iter().map(|f| Packet::from_bytes(&f.data, f.pts.0, f.pts.0, f.sync).map(Some));
    for packet in packets.chain([Ok(None)]) {
        decoder.send(packet?.as_ref()).map_err(broken)?;
        while let Decoded::Frame = decoder.receive(&mut frame).map_err(broken)? {
            let n = frame.pts().and_then(|pts| u32::try_from(pts).ok()).ok_or(Unproven::Times)?;
            let psnr = likeness(&frame, &test_picture(width, height, n)?);
            if psnr < ENOUGH_PSNR {
                return Err(Unproven::Picture { psnr });
            }
            seen += 1;
        }
    }
    Ok(seen)
}

/// Picture `n`, below 10, of a known sequence: smooth ramps that run diagonally, in each plane and in each frame from
/// another place on.
pub fn test_picture(width: u32, height: u32, n: u32) -> Result<Frame, AvError> {
    let mut frame = Frame::new()?;
    let raw = frame.raw_mut();
    raw.width = i32::try_from(width).unwrap_or(i32::MAX);
    raw.height = i32::try_from(height).unwrap_or(i32::MAX);
    raw.format = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as i32;
    // SAFETY: a frame whose size and format are set gets its own buffers, or an error.
    check("av_frame_get_buffer", unsafe { ffi::av_frame_get_buffer(frame.as_mut_ptr(), 0) })?;
    let ramp: Vec<u8> = (0..(width + height + 64 + 4 * FRAMES) as usize)
        .map(|i| if i / 128 % 2 == 0 { 32 + i % 128 } else { 159 - i % 128 } as u8)
        .collect();
    for plane in 0..3 {
        for y in 0..rows(&frame, plane) {
            let from = y + plane * 32 + n as usize * 4;
            let row = row_mut(&mut frame, plane, y);
            let length = row.len();
            row.copy_from_slice(&ramp[from..from + length]);
        }
    }
    Ok(frame)
}

/// Peak signal-to-noise ratio of the worst plane, in dB; 0 for pictures of another size or format.
fn likeness(a: &Frame, b: &Frame) -> f64 {
    if (a.width(), a.height(), a.format()) != (b.width(), b.height(), b.format()) {
        return 0.0;
    }
    let psnr = |plane| {
        let (mut error, mut looked) = (0.0, 0.0);
        for y in (0..rows(a, plane)).step_by(LOOK_EVERY) {
            for (a, b) in row(a, plane, y).iter().zip(row(b, plane, y)).step_by(LOOK_EVERY) {
                error += f64::from(a.abs_diff(*b)).powi(2);
                looked += 1.0;
            }
        }
        10.0 * (255.0f64.powi(2) * looked / f64::max(error, 1.0)).log10()
    };
    (0..3).map(psnr).fold(f64::INFINITY, f64::min)
}

/// Rows of a plane of a planar 4:2:0 picture.
fn rows(frame: &Frame, plane: usize) -> usize {
    let height = frame.height() as usize;
    if plane == 0 { height } else { height.div_ceil(2) }
}

/// Pixels in a row of a plane.
fn columns(frame: &Frame, plane: usize) -> usize {
    let width = frame.width() as usize;
    if plane == 0 { width } else { width.div_ceil(2) }
}

pub(crate) fn row(frame: &Frame, plane: usize, y: usize) -> &[u8] {
    // SAFETY: the row lies in the frame, which is borrowed.
    unsafe { std::slice::from_raw_parts(start(frame, plane, y), columns(frame, plane)) }
}

fn row_mut(frame: &mut Frame, plane: usize, y: usize) -> &mut [u8] {
    // SAFETY: as above, mutably, and nobody else has the frame's buffers yet.
    unsafe { std::slice::from_raw_parts_mut(start(frame, plane, y), columns(frame, plane)) }
}

/// The first pixel of a row.
fn start(frame: &Frame, plane: usize, y: usize) -> *mut u8 {
    let raw = frame.raw();
    assert!(
        raw.format == ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as i32 && plane < 3 && y < rows(frame, plane)
    );
    // SAFETY: the planes of a planar 4:2:0 picture have that many rows, `linesize` apart, which may be negative.
    unsafe { raw.data[plane].offset(y as isize * raw.linesize[plane] as isize) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::Fault;
    use crate::hardware::Hardware;
    use crate::tone::OutputColour;
    use crate::video_encoder::{VideoEngine, VideoSettings};
    use reelmill_media::profile::Effort;
    use reelmill_media::time::{FrameRate, Timescale};

    fn open(engine: VideoEngine) -> Result<VideoEncoder, AvError> {
        let colour = OutputColour { primaries: 1, transfer: 1, matrix: 1 };
        let settings = VideoSettings {
            width: 256,
            height: 144,
            timescale: Timescale::new(30).unwrap(),
            frame_rate: FrameRate { num: 30, den: 1 },
            crf: 23,
            max_kbps: 400,
            buffer_kbit: 800,
            effort: Effort::Fast,
            colour,
        };
        VideoEncoder::open(engine, settings)
    }

    fn proven(engine: VideoEngine, codec: VideoCodec) -> Result<(), Unproven> {
        prove(open(engine)?, codec)
    }

    #[test]
    fn software_passes() {
        for codec in [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1] {
            assert_eq!(proven(VideoEngine::software(codec), codec), Ok(()), "{codec}");
        }
        assert_eq!(proven(VideoEngine::Faulty(Fault::None), VideoCodec::H264), Ok(()));
        assert_eq!(proven(VideoEngine::Faulty(Fault::SetsInStream), VideoCodec::H264), Ok(()));
    }

    #[test]
    fn encoders_close_whenever_they_are_dropped() {
        for codec in [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1] {
            for pictures in [0, 1, 3] {
                let mut encoder = open(VideoEngine::software(codec)).unwrap();
                for n in 0..pictures {
                    let picture = test_picture(256, 144, n).unwrap();
                    encoder.encode(picture, Ticks(i64::from(n)), n == 0, &mut Vec::new()).unwrap();
                }
                drop(encoder);
            }
        }
    }

    #[test]
    fn every_fault_is_found() {
        let fault = |fault| proven(VideoEngine::Faulty(fault), VideoCodec::H264).unwrap_err();
        assert!(matches!(fault(Fault::FailsAt(3)), Unproven::Call(_)));
        assert_eq!(fault(Fault::Loses), Unproven::Count { came: 9 });
        let Unproven::Picture { psnr } = fault(Fault::Green) else { panic!("green is taken for a picture") };
        assert!(psnr < 15.0, "{psnr}");
        assert!(proven(VideoEngine::X264, VideoCodec::Hevc).is_err(), "H.264 is no HEVC");
    }

    #[test]
    fn a_wrapper_without_its_device_is_refused_quickly_and_names_why() {
        crate::quiet();
        for hardware in Hardware::candidates().filter(|h| h.is_built()) {
            // A machine that has the device is proven or refused by the probe's own tests.
            if let Err(error) = open(VideoEngine::Hardware(hardware)) {
                assert!(matches!(error, AvError::Call { .. }), "{}: {error}", hardware.name());
            }
        }
    }
}
