//! A video encoder, set so that chunks made anywhere, by any worker, join into one stream bit for bit.
//!
//! What all encoders are told stands here; what only one of them understands, in the file named after it.

use std::ffi::CStr;

use ffmpeg_next::{Dictionary, ffi};
use reelmill_media::codec::VideoCodec;
use reelmill_media::profile::Effort;
use reelmill_media::time::{FrameRate, Ticks, Timescale};
use serde::{Deserialize, Serialize};

use crate::context::{CodecContext, Step};
use crate::error::AvError;
#[cfg(any(test, feature = "faulty-encoder"))]
use crate::faulty::{Fault, Faults};
use crate::frame::Frame;
use crate::hardware::{Family, Hardware, Upload};
use crate::packet::Packet;
use crate::proof::test_picture;
use crate::tone::OutputColour;
use crate::{svt_av1, x264, x265};

/// The library that encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoEngine {
    /// libx264, for H.264.
    X264,
    /// libx265, for HEVC.
    X265,
    /// SVT-AV1, for AV1.
    SvtAv1,
    /// A device of the machine.
    Hardware(Hardware),
    /// libx264 with a fault, for tests.
    #[cfg(any(test, feature = "faulty-encoder"))]
    Faulty(Fault),
}

/// What one rung's encoder is set to; equal settings make joinable chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoSettings {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Clock of the frames' pts.
    pub timescale: Timescale,
    /// Mean frame rate, for rate control and level.
    pub frame_rate: FrameRate,
    /// Constant rate factor on the codec's own scale.
    pub crf: u8,
    /// Rate cap in kbit/s.
    pub max_kbps: u32,
    /// Buffer of the cap in kbit.
    pub buffer_kbit: u32,
    /// How long a software encoder may take; hardware has a pace of its own.
    pub effort: Effort,
    /// Tags of the stream.
    pub colour: OutputColour,
}

/// One coded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    /// Presentation time on the clock of the settings.
    pub pts: Ticks,
    /// Decoding can start here, and nothing after it refers to what was before.
    pub sync: bool,
    /// H.264 and HEVC: NAL units in Annex B form. AV1: a temporal unit in low-overhead form (AV1 §5.2).
    pub data: Vec<u8>,
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No picture was sent.
    Fresh,
    /// Some were.
    Fed,
    /// All were.
    Ended,
}

/// Encodes one rung on one thread.
pub struct VideoEncoder {
    context: CodecContext,
    engine: VideoEngine,
    settings: VideoSettings,
    packet: Packet,
    stage: Stage,
    /// A frame that holds the parameter sets, of an encoder that does not give them ahead of the stream.
    in_stream: Vec<u8>,
    upload: Option<Upload>,
    #[cfg(any(test, feature = "faulty-encoder"))]
    faults: Option<Faults>,
}

impl VideoEngine {
    /// The engine that needs no hardware.
    pub const fn software(codec: VideoCodec) -> Self {
        match codec {
            VideoCodec::H264 => VideoEngine::X264,
            VideoCodec::Hevc => VideoEngine::X265,
            VideoCodec::Av1 => VideoEngine::SvtAv1,
        }
    }

    /// What it encodes.
    pub const fn codec(self) -> VideoCodec {
        match self {
            VideoEngine::X264 => VideoCodec::H264,
            VideoEngine::X265 => VideoCodec::Hevc,
            VideoEngine::SvtAv1 => VideoCodec::Av1,
            VideoEngine::Hardware(hardware) => hardware.codec,
            #[cfg(any(test, feature = "faulty-encoder"))]
            VideoEngine::Faulty(_) => VideoCodec::H264,
        }
    }

    /// Whether it needs no device.
    pub const fn is_software(self) -> bool {
        match self {
            VideoEngine::X264 | VideoEngine::X265 | VideoEngine::SvtAv1 => true,
            VideoEngine::Hardware(_) => false,
            #[cfg(any(test, feature = "faulty-encoder"))]
            VideoEngine::Faulty(_) => false,
        }
    }

    /// How its device is reached.
    pub fn family(self) -> Option<Family> {
        self.hardware().map(|hardware| hardware.family)
    }

    /// The device, if it is one.
    pub const fn hardware(self) -> Option<Hardware> {
        match self {
            VideoEngine::Hardware(hardware) => Some(hardware),
            VideoEngine::X264 | VideoEngine::X265 | VideoEngine::SvtAv1 => None,
            #[cfg(any(test, feature = "faulty-encoder"))]
            VideoEngine::Faulty(_) => None,
        }
    }

    /// libav's name of the encoder, and what it is called.
    const fn encoder(self) -> (&'static CStr, &'static str) {
        match self {
            VideoEngine::X264 => (c"libx264", "libx264"),
            VideoEngine::X265 => (c"libx265", "libx265"),
            VideoEngine::SvtAv1 => (c"libsvtav1", "libsvtav1"),
            VideoEngine::Hardware(hardware) => (hardware.encoder(), hardware.name()),
            #[cfg(any(test, feature = "faulty-encoder"))]
            VideoEngine::Faulty(_) => (c"libx264", "faulty"),
        }
    }

    /// What libav is told beyond the fields of the context.
    fn options(self, settings: &VideoSettings) -> Dictionary<'static> {
        match self {
            VideoEngine::X264 => x264::options(settings),
            VideoEngine::X265 => x265::options(settings),
            VideoEngine::SvtAv1 => svt_av1::options(settings),
            VideoEngine::Hardware(hardware) => hardware.options(),
            #[cfg(any(test, feature = "faulty-encoder"))]
            VideoEngine::Faulty(fault) => fault.options(settings),
        }
    }

    /// libav's name of the encoder.
    pub const fn name(self) -> &'static str {
        self.encoder().1
    }

    /// The same encoder, told which level to signal, as its codec numbers it, where it does not find that by itself.
    pub fn at_level(self, level: u8) -> Self {
        match self.hardware() {
            Some(hardware) => VideoEngine::Hardware(Hardware { level: Some(level), ..hardware }),
            None => self,
        }
    }
}

impl VideoEncoder {
    /// Opens `engine`.
    pub fn open(engine: VideoEngine, settings: VideoSettings) -> Result<Self, AvError> {
        let mut opened = Self::open_stream(engine, settings)?;
        if opened.parameter_sets().is_empty() {
            // Small boards' encoders give them in the stream alone: the first frame of another stream is asked for them.
            let mut out = Vec::new();
            opened.encode(test_picture(settings.width, settings.height, 0)?, Ticks::ZERO, true, &mut out)?;
            opened.finish(&mut out)?;
            opened = Self::open_stream(engine, settings)?;
            opened.in_stream = out.into_iter().next().map(|first| first.data).unwrap_or_default();
        }
        Ok(opened)
    }

    fn open_stream(engine: VideoEngine, settings: VideoSettings) -> Result<Self, AvError> {
        let (name, missing) = engine.encoder();
        let mut context = CodecContext::for_encoder(name, missing)?;
        let small = |what, value: u32| {
            i32::try_from(value).map_err(|_| AvError::OutOfRange { what, value: i64::from(value) })
        };
        let raw = context.raw_mut();
        raw.width = small("width in pixels", settings.width)?;
        raw.height = small("height in pixels", settings.height)?;
        raw.pix_fmt = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P;
        raw.sample_aspect_ratio = ffi::AVRational { num: 1, den: 1 };
        raw.time_base = ffi::AVRational { num: 1, den: small("timescale", settings.timescale.get())? };
        raw.framerate = ffi::AVRational {
            num: small("frame rate", settings.frame_rate.num)?,
            den: small("frame rate", settings.frame_rate.den)?,
        };
        raw.thread_count = 1;
        raw.flags |= (ffi::AV_CODEC_FLAG_GLOBAL_HEADER | ffi::AV_CODEC_FLAG_CLOSED_GOP) as i32;
        raw.rc_max_rate = i64::from(settings.max_kbps) * 1000;
        raw.rc_buffer_size = small("rate buffer in bits", settings.buffer_kbit.saturating_mul(1000))?;
        raw.color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
        raw.color_primaries = primaries(settings.colour.primaries);
        raw.color_trc = transfer(settings.colour.transfer);
        raw.colorspace = matrix(settings.colour.matrix);
        raw.chroma_sample_location = ffi::AVChromaLocation::AVCHROMA_LOC_LEFT;
        let upload = match engine {
            VideoEngine::Hardware(hardware) => Some(Upload::open(hardware, &settings, &mut context)?),
            VideoEngine::X264 | VideoEngine::X265 | VideoEngine::SvtAv1 => None,
            #[cfg(any(test, feature = "faulty-encoder"))]
            VideoEngine::Faulty(_) => None,
        };
        #[cfg(any(test, feature = "faulty-encoder"))]
        if engine == VideoEngine::Faulty(Fault::SetsInStream) {
            context.raw_mut().flags &= !(ffi::AV_CODEC_FLAG_GLOBAL_HEADER as i32);
        }
        context.open(engine.options(&settings))?;
        Ok(Self {
            context,
            engine,
            settings,
            packet: Packet::new()?,
            stage: Stage::Fresh,
            in_stream: Vec::new(),
            upload,
            #[cfg(any(test, feature = "faulty-encoder"))]
            faults: Faults::of(engine),
        })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.settings.width, self.settings.height)
    }

    /// Parameter sets in the form of [`EncodedFrame::data`], perhaps with more beside them.
    pub fn parameter_sets(&self) -> &[u8] {
        if self.in_stream.is_empty() { self.context.extradata() } else { &self.in_stream }
    }

    /// Encodes one picture, as a sync frame where a segment starts, and appends what comes out to `out`.
    pub fn encode(
        &mut self,
        mut frame: Frame,
        pts: Ticks,
        sync: bool,
        out: &mut Vec<EncodedFrame>,
    ) -> Result<(), AvError> {
        let right = frame.width() == self.settings.width
            && frame.height() == self.settings.height
            && frame.format() == ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as i32;
        if !right {
            // libavcodec would read past the picture's end.
            return Err(AvError::OutOfRange {
                what: "picture width in pixels",
                value: i64::from(frame.width()),
            });
        }
        let raw = frame.raw_mut();
        raw.pts = pts.0;
        // The decoder's picture types would be taken as orders.
        raw.pict_type = if sync {
            ffi::AVPictureType::AV_PICTURE_TYPE_I
        } else {
            ffi::AVPictureType::AV_PICTURE_TYPE_NONE
        };
        #[cfg(any(test, feature = "faulty-encoder"))]
        if let Some(faults) = &mut self.faults {
            faults.before(&mut frame)?;
        }
        if let Some(upload) = &mut self.upload {
            frame = upload.take(&frame)?;
        }
        self.context.send_frame(Some(&frame))?;
        self.stage = Stage::Fed;
        self.receive(out)
    }

    /// Ends the stream and appends all that is left to `out`.
    pub fn finish(&mut self, out: &mut Vec<EncodedFrame>) -> Result<(), AvError> {
        self.context.send_frame(None)?;
        self.stage = Stage::Ended;
        self.receive(out)
    }

    fn receive(&mut self, out: &mut Vec<EncodedFrame>) -> Result<(), AvError> {
        while let Step::Got = self.context.receive_packet(&mut self.packet)? {
            out.push(EncodedFrame {
                pts: Ticks(self.packet.pts().ok_or(AvError::Missing("encoder time stamp"))?),
                sync: self.packet.is_key(),
                data: self.packet.data().to_vec(),
            });
        }
        #[cfg(any(test, feature = "faulty-encoder"))]
        if let Some(faults) = &mut self.faults {
            faults.after(out);
        }
        Ok(())
    }
}

impl Drop for VideoEncoder {
    fn drop(&mut self) {
        // SVT-AV1 waits for ever when it is closed before a stream has ended that has a picture in it.
        if self.engine != VideoEngine::SvtAv1 {
            return;
        }
        let mut unwanted = Vec::new();
        let (width, height) = self.size();
        let fed = match self.stage {
            Stage::Fresh => test_picture(width, height, 0)
                .and_then(|picture| self.encode(picture, Ticks::ZERO, true, &mut unwanted)),
            Stage::Fed => Ok(()),
            Stage::Ended => return,
        };
        let _ = fed.and_then(|()| self.finish(&mut unwanted));
    }
}

fn primaries(code: u8) -> ffi::AVColorPrimaries {
    match code {
        5 => ffi::AVColorPrimaries::AVCOL_PRI_BT470BG,
        6 => ffi::AVColorPrimaries::AVCOL_PRI_SMPTE170M,
        _ => ffi::AVColorPrimaries::AVCOL_PRI_BT709,
    }
}

fn transfer(code: u8) -> ffi::AVColorTransferCharacteristic {
    match code {
        6 => ffi::AVColorTransferCharacteristic::AVCOL_TRC_SMPTE170M,
        _ => ffi::AVColorTransferCharacteristic::AVCOL_TRC_BT709,
    }
}

fn matrix(code: u8) -> ffi::AVColorSpace {
    match code {
        5 => ffi::AVColorSpace::AVCOL_SPC_BT470BG,
        6 => ffi::AVColorSpace::AVCOL_SPC_SMPTE170M,
        _ => ffi::AVColorSpace::AVCOL_SPC_BT709,
    }
}
