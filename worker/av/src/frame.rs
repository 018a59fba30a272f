//! One decoded picture, or a run of audio samples.

use std::ptr::{NonNull, addr_of};

use ffmpeg_next::ffi;
use reelmill_media::index::Colour;

use crate::error::{AvError, check};
use crate::packet::said;

/// Owns an `AVFrame`. Times are ticks of the clock that its packets had.
pub struct Frame(NonNull<ffi::AVFrame>);

// SAFETY: an AVFrame has no ties to a thread, its buffers are reference-counted atomically, and we own it alone.
unsafe impl Send for Frame {}

impl Frame {
    /// An empty frame, to be received into.
    pub fn new() -> Result<Self, AvError> {
        // SAFETY: the call takes nothing; null means no memory.
        NonNull::new(unsafe { ffi::av_frame_alloc() }).map(Self).ok_or(AvError::NoMemory("av_frame_alloc"))
    }

    /// A black picture of BT.709.
    pub fn black(width: u32, height: u32) -> Result<Self, AvError> {
        let mut frame = Self::new()?;
        let raw = frame.raw_mut();
        raw.width = i32::try_from(width).unwrap_or(i32::MAX);
        raw.height = i32::try_from(height).unwrap_or(i32::MAX);
        raw.format = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as i32;
        raw.color_primaries = ffi::AVColorPrimaries::AVCOL_PRI_BT709;
        raw.color_trc = ffi::AVColorTransferCharacteristic::AVCOL_TRC_BT709;
        raw.colorspace = ffi::AVColorSpace::AVCOL_SPC_BT709;
        raw.color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
        // SAFETY: a frame whose size and format are set gets its own buffers, or an error.
        check("av_frame_get_buffer", unsafe { ffi::av_frame_get_buffer(frame.as_mut_ptr(), 0) })?;
        for (plane, black) in [16u8, 128, 128].into_iter().enumerate() {
            let rows = if plane == 0 { height } else { height.div_ceil(2) } as usize;
            let raw = frame.raw_mut();
            let bytes = usize::try_from(raw.linesize[plane]).unwrap_or(0) * rows;
            // SAFETY: a plane has `linesize` bytes for each of its rows, and nobody else has the buffers yet.
            unsafe { raw.data[plane].write_bytes(black, bytes) };
        }
        Ok(frame)
    }

    /// Another handle on the same pixels or samples.
    pub fn share(&self) -> Result<Self, AvError> {
        let mut copy = Self::new()?;
        // SAFETY: both frames are valid; the new one is empty, as av_frame_ref demands.
        check("av_frame_ref", unsafe { ffi::av_frame_ref(copy.as_mut_ptr(), self.as_ptr()) })?;
        Ok(copy)
    }

    /// Takes over everything but pixels and size.
    pub(crate) fn copy_properties(&mut self, from: &Frame) -> Result<(), AvError> {
        // SAFETY: two valid frames.
        check("av_frame_copy_props", unsafe { ffi::av_frame_copy_props(self.as_mut_ptr(), from.as_ptr()) })
            .map(drop)
    }

    /// Presentation time in ticks, or the decoder's best guess.
    pub fn pts(&self) -> Option<i64> {
        said(self.raw().pts).or_else(|| said(self.raw().best_effort_timestamp))
    }

    /// Sets the presentation time in ticks.
    pub fn set_pts(&mut self, pts: i64) {
        self.raw_mut().pts = pts;
    }

    /// Width in pixels; 0 for audio.
    pub fn width(&self) -> u32 {
        u32::try_from(self.raw().width).unwrap_or(0)
    }

    /// Height in pixels; 0 for audio.
    pub fn height(&self) -> u32 {
        u32::try_from(self.raw().height).unwrap_or(0)
    }

    /// Pixel width to height, if said and sane.
    pub fn sample_aspect(&self) -> Option<(u32, u32)> {
        let sar = self.raw().sample_aspect_ratio;
        match (u32::try_from(sar.num), u32::try_from(sar.den)) {
            (Ok(num), Ok(den)) if num > 0 && den > 0 => Some((num, den)),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => None,
        }
    }

    /// Coded as two fields.
    pub fn is_interlaced(&self) -> bool {
        self.raw().interlaced_frame != 0
    }

    /// Colour as the decoder says, with H.273 code points.
    pub fn colour(&self) -> Colour {
        let raw = self.raw();
        // SAFETY: the fields are read as plain integers, because a stream can put values there that the generated
        // enums do not name.
        let (primaries, transfer, matrix, range) = unsafe {
            (
                addr_of!(raw.color_primaries).cast::<i32>().read(),
                addr_of!(raw.color_trc).cast::<i32>().read(),
                addr_of!(raw.colorspace).cast::<i32>().read(),
                addr_of!(raw.color_range).cast::<i32>().read(),
            )
        };
        Colour {
            primaries: code_point(primaries),
            transfer: code_point(transfer),
            matrix: code_point(matrix),
            full_range: match range {
                1 => Some(false),
                2 => Some(true),
                _ => self.is_jpeg_range().then_some(true),
            },
        }
    }

    /// The `yuvj` pixel formats imply the full range.
    fn is_jpeg_range(&self) -> bool {
        use ffi::AVPixelFormat::{
            AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUVJ440P, AV_PIX_FMT_YUVJ444P,
        };
        [AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUVJ440P]
            .into_iter()
            .any(|format| format as i32 == self.raw().format)
    }

    /// Pixel or sample format, as libav's number.
    pub(crate) fn format(&self) -> i32 {
        self.raw().format
    }

    /// Samples per channel; 0 for video.
    pub fn samples(&self) -> usize {
        usize::try_from(self.raw().nb_samples).unwrap_or(0)
    }

    /// Samples per second; 0 for video.
    pub fn sample_rate(&self) -> u32 {
        u32::try_from(self.raw().sample_rate).unwrap_or(0)
    }

    pub(crate) fn raw(&self) -> &ffi::AVFrame {
        // SAFETY: the pointer is valid from allocation to drop.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn raw_mut(&mut self) -> &mut ffi::AVFrame {
        // SAFETY: as above, and we hold the frame mutably.
        unsafe { self.0.as_mut() }
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVFrame {
        self.0.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVFrame {
        self.0.as_ptr()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: we own the frame; the call frees it and nulls our copy of the pointer.
        unsafe { ffi::av_frame_free(&mut raw) };
    }
}

/// libav's numbers for colour are H.273's; 2 is "unspecified" in all three lists, 0 and 3 are reserved or RGB.
fn code_point(value: i32) -> u8 {
    u8::try_from(value).unwrap_or(2)
}
