//! Hardware encoders: which ones libav knows, what each is told, and how a picture gets to the device.
//!
//! That a wrapper is built in says nothing of the machine, and a device that opens may still give green pictures: only
//! [`crate::prove`] tells.

use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr::{self, NonNull};

use ffmpeg_next::{Dictionary, ffi};
use reelmill_media::codec::VideoCodec;
use serde::{Deserialize, Serialize};

use crate::context::CodecContext;
use crate::error::{AvError, check};
use crate::frame::Frame;
use crate::video_encoder::VideoSettings;

/// Pictures on their way to a device, beyond those that the encoder holds.
const POOL_PICTURES: i32 = 20;

/// Longer than any segment in frames, so that only the plan makes sync frames; drivers calculate with it.
const GOP_FRAMES: i32 = 1 << 14;

/// How a machine's encoder is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// NVIDIA's encoder.
    Nvenc,
    /// Intel Quick Sync Video.
    Qsv,
    /// A Linux render node, through libva.
    Vaapi,
    /// AMD's Advanced Media Framework.
    Amf,
    /// A memory-to-memory device of Video4Linux, as small boards have.
    #[serde(rename = "v4l2m2m")]
    V4l2M2m,
    /// Apple's.
    #[serde(rename = "videotoolbox")]
    VideoToolbox,
}

/// One encoder of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hardware {
    /// How it is reached.
    pub family: Family,
    /// What it encodes.
    pub codec: VideoCodec,
    /// The number of the render node, as in `/dev/dri/renderD128`; for [`Family::Vaapi`] alone, which without it takes
    /// the first that libva finds.
    pub render_node: Option<u32>,
    /// The level to signal, as the codec numbers it (31 or 93 for level 3.1 of H.264 or HEVC); without it the driver
    /// chooses.
    pub level: Option<u8>,
}

impl Family {
    /// All of them, the first choice first.
    pub const ALL: [Family; 6] =
        [Family::Nvenc, Family::Qsv, Family::Vaapi, Family::Amf, Family::V4l2M2m, Family::VideoToolbox];

    /// libav's name.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Nvenc => "nvenc",
            Family::Qsv => "qsv",
            Family::Vaapi => "vaapi",
            Family::Amf => "amf",
            Family::V4l2M2m => "v4l2m2m",
            Family::VideoToolbox => "videotoolbox",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Hardware {
    /// Every family in every codec.
    pub fn candidates() -> impl Iterator<Item = Hardware> {
        let codecs = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1];
        Family::ALL.into_iter().flat_map(move |family| {
            codecs.map(|codec| Hardware { family, codec, render_node: None, level: None })
        })
    }

    /// libav's name of the encoder: codec and family.
    pub(crate) const fn encoder(self) -> &'static CStr {
        use VideoCodec::{Av1, H264, Hevc};
        match (self.family, self.codec) {
            (Family::Nvenc, H264) => c"h264_nvenc",
            (Family::Nvenc, Hevc) => c"hevc_nvenc",
            (Family::Nvenc, Av1) => c"av1_nvenc",
            (Family::Qsv, H264) => c"h264_qsv",
            (Family::Qsv, Hevc) => c"hevc_qsv",
            (Family::Qsv, Av1) => c"av1_qsv",
            (Family::Vaapi, H264) => c"h264_vaapi",
            (Family::Vaapi, Hevc) => c"hevc_vaapi",
            (Family::Vaapi, Av1) => c"av1_vaapi",
            (Family::Amf, H264) => c"h264_amf",
            (Family::Amf, Hevc) => c"hevc_amf",
            (Family::Amf, Av1) => c"av1_amf",
            (Family::V4l2M2m, H264) => c"h264_v4l2m2m",
            (Family::V4l2M2m, Hevc) => c"hevc_v4l2m2m",
            (Family::V4l2M2m, Av1) => c"av1_v4l2m2m",
            (Family::VideoToolbox, H264) => c"h264_videotoolbox",
            (Family::VideoToolbox, Hevc) => c"hevc_videotoolbox",
            (Family::VideoToolbox, Av1) => c"av1_videotoolbox",
        }
    }

    /// Whether this libav has the wrapper. Touches no device.
    pub fn is_built(self) -> bool {
        // SAFETY: a terminated string; the codec list is static.
        !unsafe { ffi::avcodec_find_encoder_by_name(self.encoder().as_ptr()) }.is_null()
    }

    /// libav's name of the encoder.
    pub const fn name(self) -> &'static str {
        match self.encoder().to_str() {
            Ok(name) => name,
            Err(_) => "",
        }
    }

    /// What libav is told in the fields of the context. No B-frames: pictures come out in the order they go in. A mean
    /// rate below the cap is the one kind of rate control that all families have.
    fn configure(self, settings: &VideoSettings, raw: &mut ffi::AVCodecContext) {
        raw.gop_size = GOP_FRAMES;
        raw.max_b_frames = 0;
        raw.bit_rate = i64::from(settings.max_kbps) * 1000 * 2 / 3;
        raw.profile = match self.codec {
            VideoCodec::H264 => ffi::FF_PROFILE_H264_HIGH,
            VideoCodec::Hevc => ffi::FF_PROFILE_HEVC_MAIN,
            VideoCodec::Av1 => ffi::FF_PROFILE_AV1_MAIN,
        };
        if let Some(level) = self.level.map(i32::from) {
            // Intel counts 31 for level 3.1 in every codec, where HEVC's own number is 93 and AV1's 5.
            raw.level = match (self.family == Family::Qsv, self.codec) {
                (true, VideoCodec::Hevc) => level / 3,
                (true, VideoCodec::Av1) => (level / 4 + 2) * 10 + level % 4,
                (true | false, VideoCodec::H264 | VideoCodec::Hevc | VideoCodec::Av1) => level,
            };
        }
    }

    /// What libav is told beyond that.
    pub(crate) fn options(self) -> Dictionary<'static> {
        let profile = if self.codec == VideoCodec::H264 { "high" } else { "main" };
        let pairs: &[(&str, &str)] = match self.family {
            Family::Nvenc => &[("profile", profile), ("rc", "vbr"), ("forced-idr", "1"), ("a53cc", "0")],
            Family::Qsv => &[("profile", profile), ("forced_idr", "1"), ("a53cc", "0")],
            // An I picture is an IDR picture here, since there are no other I pictures.
            Family::Vaapi => &[("profile", profile), ("rc_mode", "VBR"), ("sei", "0")],
            Family::Amf => &[("profile", profile), ("rc", "vbr_peak"), ("forced_idr", "1")],
            // The profile stands in the context, and the driver chooses the level.
            Family::V4l2M2m => &[],
            Family::VideoToolbox => &[("profile", profile), ("allow_sw", "0"), ("realtime", "0")],
        };
        let mut options: Dictionary<'static> = pairs.iter().copied().collect();
        let has_option = match self.family {
            Family::Nvenc | Family::Vaapi | Family::Amf | Family::VideoToolbox => true,
            Family::Qsv | Family::V4l2M2m => false,
        };
        if let Some(level) = self.level.filter(|_| has_option) {
            options.set("level", &level.to_string());
        }
        options
    }
}

/// Takes pictures to the form that a hardware encoder reads: NV12 in memory, which all families take, or on the device.
pub(crate) struct Upload {
    scaler: Scaler,
    device: Option<Buffer>,
    width: i32,
    height: i32,
}

impl Upload {
    /// Sets up `context`, in which the size stands already and which is opened after this.
    pub(crate) fn open(
        hardware: Hardware,
        settings: &VideoSettings,
        context: &mut CodecContext,
    ) -> Result<Self, AvError> {
        let raw = context.raw_mut();
        hardware.configure(settings, raw);
        let (width, height) = (raw.width, raw.height);
        let scaler = Scaler::open(width, height)?;
        let device = match hardware.family {
            Family::Vaapi => {
                let frames = device_frames(hardware.render_node, width, height)?;
                raw.pix_fmt = ffi::AVPixelFormat::AV_PIX_FMT_VAAPI;
                raw.hw_frames_ctx = frames.share()?;
                Some(frames)
            }
            Family::Nvenc | Family::Qsv | Family::Amf | Family::V4l2M2m | Family::VideoToolbox => {
                raw.pix_fmt = ffi::AVPixelFormat::AV_PIX_FMT_NV12;
                None
            }
        };
        Ok(Self { scaler, device, width, height })
    }

    /// The picture as the encoder takes it. `frame` is planar 4:2:0 of the encoder's size.
    pub(crate) fn take(&mut self, frame: &Frame) -> Result<Frame, AvError> {
        let picture = self.scaler.interleaved(frame, self.width, self.height)?;
        let Some(device) = &self.device else { return Ok(picture) };
        let mut there = Frame::new()?;
        // SAFETY: a frames context we hold, an empty frame, and then two frames of the same size.
        unsafe {
            let code = ffi::av_hwframe_get_buffer(device.0.as_ptr(), there.as_mut_ptr(), 0);
            check("av_hwframe_get_buffer", code)?;
            let code = ffi::av_hwframe_transfer_data(there.as_mut_ptr(), picture.as_ptr(), 0);
            check("av_hwframe_transfer_data", code)?;
        }
        there.copy_properties(&picture)?;
        Ok(there)
    }
}

/// Surfaces on a render node; the first that libva finds where none is named.
fn device_frames(render_node: Option<u32>, width: i32, height: i32) -> Result<Buffer, AvError> {
    let node = render_node.and_then(|n| CString::new(format!("/dev/dri/renderD{n}")).ok());
    let mut raw = ptr::null_mut();
    // SAFETY: a terminated name or null, and a place for the result, which is ours when the call succeeds.
    let code = unsafe {
        ffi::av_hwdevice_ctx_create(
            &mut raw,
            ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI,
            node.as_deref().map_or(ptr::null(), CStr::as_ptr),
            ptr::null_mut(),
            0,
        )
    };
    check("av_hwdevice_ctx_create", code)?;
    let device = Buffer::own(raw, "av_hwdevice_ctx_create")?;
    // SAFETY: a device we hold; the frames context takes its own reference.
    let frames =
        Buffer::own(unsafe { ffi::av_hwframe_ctx_alloc(device.0.as_ptr()) }, "av_hwframe_ctx_alloc")?;
    // SAFETY: a fresh frames context is an AVHWFramesContext behind its buffer's data, to be filled in before the call.
    unsafe {
        let context = &mut *(*frames.0.as_ptr()).data.cast::<ffi::AVHWFramesContext>();
        context.format = ffi::AVPixelFormat::AV_PIX_FMT_VAAPI;
        context.sw_format = ffi::AVPixelFormat::AV_PIX_FMT_NV12;
        (context.width, context.height) = (width, height);
        context.initial_pool_size = POOL_PICTURES;
        check("av_hwframe_ctx_init", ffi::av_hwframe_ctx_init(frames.0.as_ptr()))?;
    }
    Ok(frames)
}

/// Owns a reference to a libav buffer.
struct Buffer(NonNull<ffi::AVBufferRef>);

// SAFETY: references are counted atomically, and we own this one alone.
unsafe impl Send for Buffer {}

impl Buffer {
    fn own(raw: *mut ffi::AVBufferRef, call: &'static str) -> Result<Self, AvError> {
        NonNull::new(raw).map(Self).ok_or(AvError::NoMemory(call))
    }

    /// Another reference, which the caller owns.
    fn share(&self) -> Result<*mut ffi::AVBufferRef, AvError> {
        // SAFETY: a reference we hold; null back means no memory.
        let raw = unsafe { ffi::av_buffer_ref(self.0.as_ptr()) };
        if raw.is_null() { Err(AvError::NoMemory("av_buffer_ref")) } else { Ok(raw) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: we own the reference.
        unsafe { ffi::av_buffer_unref(&mut raw) };
    }
}

/// Interleaves the two chroma planes.
struct Scaler(NonNull<ffi::SwsContext>);

// SAFETY: the context has no ties to a thread, and we own it alone.
unsafe impl Send for Scaler {}

impl Scaler {
    fn open(width: i32, height: i32) -> Result<Self, AvError> {
        use ffi::AVPixelFormat::{AV_PIX_FMT_NV12, AV_PIX_FMT_YUV420P};
        // SAFETY: plain values; null filters and parameters mean none.
        let raw = unsafe {
            ffi::sws_getContext(
                width,
                height,
                AV_PIX_FMT_YUV420P,
                width,
                height,
                AV_PIX_FMT_NV12,
                ffi::SWS_POINT,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null(),
            )
        };
        NonNull::new(raw).map(Self).ok_or(AvError::NoMemory("sws_getContext"))
    }

    fn interleaved(&mut self, frame: &Frame, width: i32, height: i32) -> Result<Frame, AvError> {
        let mut out = Frame::new()?;
        let raw = out.raw_mut();
        (raw.width, raw.height) = (width, height);
        raw.format = ffi::AVPixelFormat::AV_PIX_FMT_NV12 as i32;
        // SAFETY: a frame whose size and format are set gets its own buffers; the source is planar 4:2:0 of the same
        // size, as `VideoEncoder::encode` has checked.
        unsafe {
            check("av_frame_get_buffer", ffi::av_frame_get_buffer(out.as_mut_ptr(), 0))?;
            let (from, to) = (frame.raw(), out.raw_mut());
            let code = ffi::sws_scale(
                self.0.as_ptr(),
                from.data.as_ptr().cast(),
                from.linesize.as_ptr(),
                0,
                height,
                to.data.as_ptr(),
                to.linesize.as_ptr(),
            );
            check("sws_scale", code)?;
        }
        out.copy_properties(frame)?;
        Ok(out)
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        // SAFETY: we own the context.
        unsafe { ffi::sws_freeContext(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_libavs_rule_and_no_candidate_comes_twice() {
        let names: std::collections::BTreeSet<_> = Hardware::candidates().map(Hardware::name).collect();
        assert_eq!(names.len(), 18);
        for hardware in Hardware::candidates() {
            assert_eq!(hardware.name(), format!("{}_{}", hardware.codec, hardware.family));
        }
    }
    #[test]
    fn interleaving_moves_every_sample_and_changes_none() {
        let picture = crate::proof::test_picture(64, 48, 3).unwrap();
        let nv12 = Scaler::open(64, 48).unwrap().interleaved(&picture, 64, 48).unwrap();
        let raw = nv12.raw();
        assert_eq!(raw.format, ffi::AVPixelFormat::AV_PIX_FMT_NV12 as i32);
        for (plane, y) in (0..48).map(|y| (0, y)).chain((0..24).map(|y| (1, y))) {
            // SAFETY: both planes of NV12 have rows of `width` bytes, `linesize` apart.
            let row = unsafe {
                std::slice::from_raw_parts(raw.data[plane].add(y * raw.linesize[plane] as usize), 64)
            };
            let expected: Vec<u8> = match plane {
                0 => crate::proof::row(&picture, 0, y).to_vec(),
                _ => std::iter::zip(crate::proof::row(&picture, 1, y), crate::proof::row(&picture, 2, y))
                    .flat_map(|(u, v)| [*u, *v])
                    .collect(),
            };
            assert_eq!(row, expected, "plane {plane}, row {y}");
        }
    }
}
