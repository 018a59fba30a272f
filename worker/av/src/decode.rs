//! Decoders, opened from a codec's name and its out-of-band parameters.

use ffmpeg_next::{Dictionary, ffi};
use reelmill_media::index::CodecSetup;
use reelmill_media::time::Timescale;

use crate::codec::{SourceAudioCodec, SourceVideoCodec};
use crate::context::{CodecContext, Step};
use crate::error::AvError;
use crate::frame::Frame;
use crate::packet::Packet;

/// What a decoder had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// The frame was filled.
    Frame,
    /// Send the next packet.
    Hungry,
    /// Everything is out after draining.
    Ended,
}

/// A decoder's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// This packet is broken; the next may be fine.
    #[error("broken data: {0}")]
    Broken(AvError),
    /// Decoding cannot go on.
    #[error(transparent)]
    Fatal(AvError),
}

impl DecodeError {
    fn of(error: AvError) -> Self {
        // Decoders report what they dislike in a packet by many codes; only memory is not the packet's fault.
        match &error {
            AvError::Call { code, .. } if *code != ffi::AVERROR(ffi::ENOMEM) => DecodeError::Broken(error),
            AvError::Call { .. }
            | AvError::NoMemory(_)
            | AvError::Missing(_)
            | AvError::UnsupportedCodec(_)
            | AvError::OutOfRange { .. } => DecodeError::Fatal(error),
        }
    }
}

fn send(context: &mut CodecContext, packet: Option<&Packet>) -> Result<(), DecodeError> {
    context.send_packet(packet).map_err(DecodeError::of)
}

fn receive(context: &mut CodecContext, frame: &mut Frame) -> Result<Decoded, DecodeError> {
    Ok(match context.receive_frame(frame).map_err(DecodeError::of)? {
        Step::Got => Decoded::Frame,
        Step::Hungry => Decoded::Hungry,
        Step::Ended => Decoded::Ended,
    })
}

fn pkt_timebase(clock: Timescale) -> ffi::AVRational {
    ffi::AVRational { num: 1, den: i32::try_from(clock.get()).unwrap_or(i32::MAX) }
}

/// Decodes pictures on one thread.
pub struct VideoDecoder(CodecContext);

impl VideoDecoder {
    /// Opens `codec`. `max_pixels` bounds width times height of every picture.
    pub fn open(
        codec: SourceVideoCodec,
        extradata: &[u8],
        clock: Timescale,
        (width, height): (u32, u32),
        max_pixels: u64,
    ) -> Result<Self, AvError> {
        let mut context = CodecContext::for_decoder(codec.decoder())?;
        context.set_extradata(extradata)?;
        let raw = context.raw_mut();
        raw.thread_count = 1;
        raw.max_pixels = i64::try_from(max_pixels).unwrap_or(i64::MAX);
        raw.pkt_timebase = pkt_timebase(clock);
        // A hint for codecs whose stream does not say it; others replace it.
        raw.width = i32::try_from(width).unwrap_or(0);
        raw.height = i32::try_from(height).unwrap_or(0);
        context.open(Dictionary::new())?;
        Ok(Self(context))
    }

    /// Feeds a packet, or starts draining with `None`. All frames must have been received before.
    pub fn send(&mut self, packet: Option<&Packet>) -> Result<(), DecodeError> {
        send(&mut self.0, packet)
    }

    /// Takes the next picture into `frame`, in presentation order.
    pub fn receive(&mut self, frame: &mut Frame) -> Result<Decoded, DecodeError> {
        receive(&mut self.0, frame)
    }
}

/// Decodes sound on one thread.
pub struct AudioDecoder(CodecContext);

impl AudioDecoder {
    /// Opens `codec`, which is that of `setup`; rate (in hertz) and channel count are what the container says.
    pub fn open(
        codec: SourceAudioCodec,
        setup: &CodecSetup,
        clock: Timescale,
        sample_rate: u32,
        channels: u16,
    ) -> Result<Self, AvError> {
        let mut context = CodecContext::for_decoder(codec.decoder())?;
        context.set_extradata(&setup.extradata)?;
        let raw = context.raw_mut();
        raw.block_align = i32::try_from(setup.wave.block_bytes).unwrap_or(0);
        raw.bits_per_coded_sample = i32::try_from(setup.wave.sample_bits).unwrap_or(0);
        raw.bit_rate = i64::from(setup.wave.bits_per_second);
        raw.thread_count = 1;
        raw.pkt_timebase = pkt_timebase(clock);
        raw.sample_rate = i32::try_from(sample_rate).unwrap_or(0);
        // SAFETY: writes the default layout for that many channels into a field of a context we own.
        unsafe { ffi::av_channel_layout_default(&mut raw.ch_layout, i32::from(channels)) };
        context.open(Dictionary::new())?;
        Ok(Self(context))
    }

    /// Feeds a packet, or starts draining with `None`. All frames must have been received before.
    pub fn send(&mut self, packet: Option<&Packet>) -> Result<(), DecodeError> {
        send(&mut self.0, packet)
    }

    /// Takes the next run of samples into `frame`.
    pub fn receive(&mut self, frame: &mut Frame) -> Result<Decoded, DecodeError> {
        receive(&mut self.0, frame)
    }
}
