//! libx264, set so that chunks made anywhere, by any worker, join into one stream bit for bit.

use ffmpeg_next::{Dictionary, ffi};
use reelmill_media::time::{FrameRate, Ticks, Timescale};

use crate::context::{CodecContext, Step};
use crate::error::AvError;
use crate::frame::Frame;
use crate::packet::Packet;
use crate::tone::OutputColour;

/// libx264's speed preset. It fixes the number of B-frames and references, hence the reorder delay and the SPS.
const PRESET: &str = "veryfast";

/// `cpu-independent`: the same bytes on every CPU. `stitchable`: headers do not depend on the chunk's content.
/// No scene cuts: key frames stand where the plan says and nowhere else.
const PARAMETERS: &str =
    "cpu-independent=1:stitchable=1:scenecut=0:keyint=infinite:open-gop=0:bframes=3:b-pyramid=1";

/// What one rung's encoder is set to; equal settings make joinable chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H264Settings {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Clock of the frames' pts.
    pub timescale: Timescale,
    /// Mean frame rate, for rate control and level.
    pub frame_rate: FrameRate,
    /// Constant rate factor.
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
    /// An IDR frame.
    pub idr: bool,
    /// NAL units in Annex B form.
    pub annex_b: Vec<u8>,
}

/// Encodes one rung on one thread.
pub struct H264Encoder {
    context: CodecContext,
    settings: H264Settings,
    packet: Packet,
}

impl H264Encoder {
    /// Opens libx264.
    pub fn open(settings: H264Settings) -> Result<Self, AvError> {
        let mut context = CodecContext::for_encoder(c"libx264", "libx264")?;
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
        let mut options = Dictionary::new();
        options.set("preset", PRESET);
        options.set("profile", "high");
        options.set("crf", &settings.crf.to_string());
        options.set("forced-idr", "1");
        options.set("a53cc", "0");
        options.set("x264-params", PARAMETERS);
        context.open(options)?;
        Ok(Self { context, settings, packet: Packet::new()? })
    }

    /// SPS and PPS in Annex B form, perhaps with an SEI.
    pub fn parameter_sets(&self) -> &[u8] {
        self.context.extradata()
    }

    /// Encodes one picture, as an IDR frame where a segment starts, and appends what comes out to `out`.
    pub fn encode(
        &mut self,
        mut frame: Frame,
        pts: Ticks,
        idr: bool,
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
        raw.pict_type = if idr {
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
                    idr: self.packet.is_key(),
                    annex_b: self.packet.data().to_vec(),
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
