//! A video encoder, set so that chunks made anywhere, by any worker, join into one stream bit for bit.
//!
//! What all encoders are told stands here; what only one of them understands, in the file named after it.

use std::ffi::CStr;

use ffmpeg_next::{Dictionary, ffi};
use reelmill_media::time::{FrameRate, Ticks, Timescale};

use crate::context::{CodecContext, Step};
use crate::error::AvError;
use crate::frame::Frame;
use crate::packet::Packet;
use crate::tone::OutputColour;
use crate::x264;

/// The library that encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoEngine {
    /// libx264, for H.264.
    X264,
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
    /// NAL units in Annex B form.
    pub data: Vec<u8>,
}

/// Encodes one rung on one thread.
pub struct VideoEncoder {
    context: CodecContext,
    settings: VideoSettings,
    packet: Packet,
}

impl VideoEngine {
    /// libav's name of the encoder, also for messages.
    const fn encoder(self) -> (&'static CStr, &'static str) {
        match self {
            VideoEngine::X264 => (c"libx264", "libx264"),
        }
    }

    /// What libav is told beyond the fields of the context.
    fn options(self, settings: &VideoSettings) -> Dictionary<'static> {
        match self {
            VideoEngine::X264 => x264::options(settings),
        }
    }
}

impl VideoEncoder {
    /// Opens `engine`.
    pub fn open(engine: VideoEngine, settings: VideoSettings) -> Result<Self, AvError> {
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
        context.open(engine.options(&settings))?;
        Ok(Self { context, settings, packet: Packet::new()? })
    }

    /// Parameter sets in the form of [`EncodedFrame::data`], perhaps with more beside them.
    pub fn parameter_sets(&self) -> &[u8] {
        self.context.extradata()
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
        self.context.send_frame(Some(&frame))?;
        self.receive(out)
    }

    /// Ends the stream and appends all that is left to `out`.
    pub fn finish(&mut self, out: &mut Vec<EncodedFrame>) -> Result<(), AvError> {
        self.context.send_frame(None)?;
        self.receive(out)
    }

    fn receive(&mut self, out: &mut Vec<EncodedFrame>) -> Result<(), AvError> {
        loop {
            match self.context.receive_packet(&mut self.packet)? {
                Step::Got => out.push(EncodedFrame {
                    pts: Ticks(self.packet.pts().ok_or(AvError::Missing("encoder time stamp"))?),
                    sync: self.packet.is_key(),
                    data: self.packet.data().to_vec(),
                }),
                Step::Hungry | Step::Ended => return Ok(()),
            }
        }
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
