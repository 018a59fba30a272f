//! Which libraries these are.

use ffmpeg_next::ffi;

/// libav's libraries with their versions, as one text: `avcodec 59.37.100, …`.
pub fn libraries() -> String {
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
    let named = versions.map(|(name, v)| format!("{name} {}.{}.{}", v >> 16, v >> 8 & 0xff, v & 0xff));
    named.join(", ")
}
