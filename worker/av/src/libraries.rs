//! Which libraries these are.

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

use ffmpeg_next::ffi;
use reelmill_media::codec::VideoCodec;
use reelmill_media::profile::Effort;
use reelmill_media::time::{FrameRate, Ticks, Timescale};

use crate::proof::test_picture;
use crate::tone::OutputColour;
use crate::video_encoder::{VideoEncoder, VideoEngine, VideoSettings};

unsafe extern "C" {
    /// POSIX; every C library has it.
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// `RTLD_DEFAULT`: all that is loaded.
const DEFAULT: *mut c_void = if cfg!(target_os = "linux") { 0 } else { -2isize as usize } as *mut c_void;

/// libav's libraries and the encoders behind them with their versions, as one text: `libav 5.1.9, avcodec 59.37.100, …`.
pub fn libraries() -> String {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        // SAFETY: the calls take nothing and return numbers.
        let versions = unsafe {
            [
                ("avutil", ffi::avutil_version()),
                ("avcodec", ffi::avcodec_version()),
                ("avformat", ffi::avformat_version()),
                ("avfilter", ffi::avfilter_version()),
                ("swscale", ffi::swscale_version()),
                ("swresample", ffi::swresample_version()),
            ]
        };
        let versions = versions.map(|(name, v)| format!("{name} {}.{}.{}", v >> 16, v >> 8 & 0xff, v & 0xff));
        // SAFETY: a constant text of libav's.
        let build = unsafe { CStr::from_ptr(ffi::av_version_info()) }.to_string_lossy();
        let encoders =
            encoders().map(|(name, version)| format!("{name} {}", version.as_deref().unwrap_or("unknown")));
        format!("libav {build}, {}, {}", versions.join(", "), encoders.join(", "))
    });
    text.clone()
}

/// The version of the software encoder of a codec, as far as it tells.
pub fn encoder_version(codec: VideoCodec) -> Option<String> {
    let [(_, x264), (_, x265), (_, svt_av1), _] = encoders();
    match codec {
        VideoCodec::H264 => x264,
        VideoCodec::Hevc => x265,
        VideoCodec::Av1 => svt_av1,
    }
}

/// Versions of the encoders, as far as they tell. libav does not pass them on, so they are asked by their own symbols,
/// which this process has where libav is linked dynamically.
fn encoders() -> [(&'static str, Option<String>); 4] {
    type Version = unsafe extern "C" fn() -> *const c_char;
    let find = |symbol: &CStr| {
        // SAFETY: a terminated name; the handle searches all that is loaded.
        let found = unsafe { dlsym(DEFAULT, symbol.as_ptr()) };
        (!found.is_null()).then_some(found)
    };
    let text = |text: *const c_char| {
        // SAFETY: each library documents a constant, terminated text, or null.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    let call = |symbol| {
        // SAFETY: the functions named below take nothing and return a text.
        text(unsafe { std::mem::transmute::<*mut c_void, Version>(find(symbol)?)() })
    };
    // SAFETY: the variable holds a pointer to a text.
    let x265 = find(c"x265_version_str").and_then(|at| text(unsafe { *at.cast::<*const c_char>() }));
    [
        ("x264", x264()),
        ("x265", x265),
        ("SVT-AV1", call(c"svt_av1_get_version")),
        ("opus", call(c"opus_get_version_string")),
    ]
}

/// x264 tells its version only in its first frame: `x264 - core 164 r3095 baee400 - H.264/MPEG-4 AVC codec - …`.
fn x264() -> Option<String> {
    let settings = VideoSettings {
        width: 64,
        height: 64,
        timescale: Timescale::MPEG,
        frame_rate: FrameRate { num: 25, den: 1 },
        crf: 23,
        max_kbps: 1000,
        buffer_kbit: 1000,
        effort: Effort::Fast,
        colour: OutputColour { primaries: 1, transfer: 1, matrix: 1 },
    };
    // This is asked in the parent as well, which has no other business with libav.
    crate::log::quiet();
    let mut encoder = VideoEncoder::open(VideoEngine::X264, settings).ok()?;
    let mut coded = Vec::new();
    encoder
        .encode(test_picture(settings.width, settings.height, 0).ok()?, Ticks::ZERO, true, &mut coded)
        .ok()?;
    encoder.finish(&mut coded).ok()?;
    let told = String::from_utf8_lossy(&coded.first()?.data);
    let (_, version) = told.split_once("x264 - ")?;
    Some(version.split(" - ").next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_tells_its_version() {
        let text = libraries();
        let names = ["libav", "avcodec", "swscale", "x264", "x265", "SVT-AV1", "opus"];
        let parts: Vec<_> = text.split(", ").collect();
        for name in names {
            let versions: Vec<_> = parts.iter().filter_map(|p| p.strip_prefix(name)).collect();
            assert!(
                matches!(versions[..], [v] if v.contains(|c: char| c.is_ascii_digit())),
                "{name} in {text}"
            );
        }
    }
}
