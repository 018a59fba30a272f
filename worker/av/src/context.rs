//! An `AVCodecContext` and the send/receive walk that decoders and encoders share.

use std::ffi::CStr;
use std::ptr::{self, NonNull};

use ffmpeg_next::{Dictionary, ffi};

use crate::error::{AvError, check};
use crate::frame::Frame;
use crate::packet::Packet;

/// The largest extradata accepted, in bytes: parameter sets take hundreds, FLAC with pictures some megabytes.
const MAX_EXTRADATA_BYTES: usize = 8 << 20;

/// Owns a codec context.
pub(crate) struct CodecContext(NonNull<ffi::AVCodecContext>);

// SAFETY: a codec context with one thread has no ties to the thread that made it, and we own it alone.
unsafe impl Send for CodecContext {}

/// What a receive call came back with.
pub(crate) enum Step {
    /// Something was received.
    Got,
    /// Feed more first.
    Hungry,
    /// Drained to the end.
    Ended,
}

impl CodecContext {
    /// A context for the named decoder.
    pub(crate) fn for_decoder(name: &CStr) -> Result<Self, AvError> {
        // SAFETY: a terminated string; the codec list is static.
        let codec = unsafe { ffi::avcodec_find_decoder_by_name(name.as_ptr()) };
        Self::alloc(codec, "this decoder")
    }

    /// A context for the named encoder.
    pub(crate) fn for_encoder(name: &CStr, missing: &'static str) -> Result<Self, AvError> {
        // SAFETY: as above.
        let codec = unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()) };
        Self::alloc(codec, missing)
    }

    fn alloc(codec: *const ffi::AVCodec, missing: &'static str) -> Result<Self, AvError> {
        if codec.is_null() {
            return Err(AvError::Missing(missing));
        }
        // SAFETY: a codec from libav's static list; null back means no memory.
        let raw = unsafe { ffi::avcodec_alloc_context3(codec) };
        NonNull::new(raw).map(Self).ok_or(AvError::NoMemory("avcodec_alloc_context3"))
    }

    pub(crate) fn raw(&self) -> &ffi::AVCodecContext {
        // SAFETY: valid from allocation to drop.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn raw_mut(&mut self) -> &mut ffi::AVCodecContext {
        // SAFETY: as above, and held mutably.
        unsafe { self.0.as_mut() }
    }

    /// Gives the context a padded copy of `bytes`; to be called once, before opening.
    pub(crate) fn set_extradata(&mut self, bytes: &[u8]) -> Result<(), AvError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() > MAX_EXTRADATA_BYTES {
            return Err(AvError::OutOfRange { what: "extradata size in bytes", value: bytes.len() as i64 });
        }
        // SAFETY: the zeroed allocation is longer than the copy by the padding libav demands; the context frees it.
        unsafe {
            let copy = ffi::av_mallocz(bytes.len() + ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize).cast::<u8>();
            if copy.is_null() {
                return Err(AvError::NoMemory("av_mallocz"));
            }
            ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
            let raw = self.raw_mut();
            raw.extradata = copy;
            raw.extradata_size = bytes.len() as i32;
        }
        Ok(())
    }

    /// Out-of-band parameters the encoder made.
    pub(crate) fn extradata(&self) -> &[u8] {
        let raw = self.raw();
        match usize::try_from(raw.extradata_size) {
            // SAFETY: libav keeps that many bytes there while the context lives.
            Ok(size) if size > 0 && !raw.extradata.is_null() => unsafe {
                std::slice::from_raw_parts(raw.extradata, size)
            },
            Ok(_) | Err(_) => &[],
        }
    }

    /// Opens the codec with private options.
    pub(crate) fn open(&mut self, options: Dictionary<'_>) -> Result<(), AvError> {
        // SAFETY: the context was made for its codec; what is left of the options is taken back and freed.
        let code = unsafe {
            let mut options = options.disown();
            let code = ffi::avcodec_open2(self.0.as_ptr(), ptr::null(), &mut options);
            drop(Dictionary::own(options));
            code
        };
        check("avcodec_open2", code).map(drop)
    }

    pub(crate) fn send_packet(&mut self, packet: Option<&Packet>) -> Result<(), AvError> {
        // SAFETY: an open decoder; null starts draining.
        let code =
            unsafe { ffi::avcodec_send_packet(self.0.as_ptr(), packet.map_or(ptr::null(), |p| p.as_ptr())) };
        check("avcodec_send_packet", code).map(drop)
    }

    pub(crate) fn receive_frame(&mut self, frame: &mut Frame) -> Result<Step, AvError> {
        // SAFETY: an open decoder and a valid frame, which the call clears first.
        let code = unsafe { ffi::avcodec_receive_frame(self.0.as_ptr(), frame.as_mut_ptr()) };
        step("avcodec_receive_frame", code)
    }

    pub(crate) fn send_frame(&mut self, frame: Option<&Frame>) -> Result<(), AvError> {
        // SAFETY: an open encoder; the caller has checked the frame's size and format; null starts draining.
        let code =
            unsafe { ffi::avcodec_send_frame(self.0.as_ptr(), frame.map_or(ptr::null(), |f| f.as_ptr())) };
        check("avcodec_send_frame", code).map(drop)
    }

    pub(crate) fn receive_packet(&mut self, packet: &mut Packet) -> Result<Step, AvError> {
        // SAFETY: an open encoder and a valid packet, which the call clears first.
        let code = unsafe { ffi::avcodec_receive_packet(self.0.as_ptr(), packet.as_mut_ptr()) };
        step("avcodec_receive_packet", code)
    }
}

fn step(call: &'static str, code: i32) -> Result<Step, AvError> {
    if code == ffi::AVERROR(ffi::EAGAIN) {
        Ok(Step::Hungry)
    } else if code == ffi::AVERROR_EOF {
        Ok(Step::Ended)
    } else {
        check(call, code).map(|_| Step::Got)
    }
}

impl Drop for CodecContext {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: we own the context; the call closes and frees it with its extradata.
        unsafe { ffi::avcodec_free_context(&mut raw) };
    }
}
