//! The decoders we allow. A codec's name is libav's; which decoder serves it is ours to say.

use std::ffi::CStr;

use crate::error::AvError;

/// An allowed video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceVideoCodec(&'static Entry);

/// An allowed audio codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceAudioCodec(&'static Entry);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    codec: &'static str,
    decoder: &'static CStr,
}

const fn entry(codec: &'static str, decoder: &'static CStr) -> Entry {
    Entry { codec, decoder }
}

static VIDEO: &[Entry] = &[
    entry("h264", c"h264"),
    entry("hevc", c"hevc"),
    entry("av1", c"libdav1d"),
    entry("vp8", c"vp8"),
    entry("vp9", c"vp9"),
    entry("mpeg4", c"mpeg4"),
    entry("mpeg2video", c"mpeg2video"),
    entry("mpeg1video", c"mpeg1video"),
    entry("h263", c"h263"),
    entry("msmpeg4v2", c"msmpeg4v2"),
    entry("msmpeg4v3", c"msmpeg4"),
    entry("wmv1", c"wmv1"),
    entry("wmv2", c"wmv2"),
    entry("wmv3", c"wmv3"),
    entry("vc1", c"vc1"),
    entry("theora", c"theora"),
    entry("flv1", c"flv"),
    entry("vp6f", c"vp6f"),
    entry("mjpeg", c"mjpeg"),
    entry("prores", c"prores"),
    entry("dnxhd", c"dnxhd"),
    entry("ffv1", c"ffv1"),
];

static AUDIO: &[Entry] = &[
    entry("aac", c"aac"),
    entry("mp3", c"mp3float"),
    entry("mp2", c"mp2float"),
    entry("ac3", c"ac3"),
    entry("eac3", c"eac3"),
    entry("opus", c"opus"),
    entry("vorbis", c"vorbis"),
    entry("flac", c"flac"),
    entry("alac", c"alac"),
    entry("dts", c"dca"),
    entry("amr_nb", c"amrnb"),
    entry("amr_wb", c"amrwb"),
    entry("wmav1", c"wmav1"),
    entry("wmav2", c"wmav2"),
    entry("wmapro", c"wmapro"),
    entry("adpcm_ms", c"adpcm_ms"),
    entry("adpcm_ima_wav", c"adpcm_ima_wav"),
    entry("pcm_u8", c"pcm_u8"),
    entry("pcm_s16le", c"pcm_s16le"),
    entry("pcm_s16be", c"pcm_s16be"),
    entry("pcm_s24le", c"pcm_s24le"),
    entry("pcm_s24be", c"pcm_s24be"),
    entry("pcm_s32le", c"pcm_s32le"),
    entry("pcm_s32be", c"pcm_s32be"),
    entry("pcm_f32le", c"pcm_f32le"),
    entry("pcm_f32be", c"pcm_f32be"),
    entry("pcm_alaw", c"pcm_alaw"),
    entry("pcm_mulaw", c"pcm_mulaw"),
    entry("pcm_bluray", c"pcm_bluray"),
    entry("pcm_dvd", c"pcm_dvd"),
];

fn find(list: &'static [Entry], codec: &str) -> Result<&'static Entry, AvError> {
    list.iter()
        .find(|e| e.codec == codec)
        .ok_or_else(|| AvError::UnsupportedCodec(codec.chars().take(32).collect()))
}

impl SourceVideoCodec {
    /// The allowed codec of this libav name.
    pub fn named(codec: &str) -> Result<Self, AvError> {
        find(VIDEO, codec).map(Self)
    }

    /// libav's name.
    pub fn name(self) -> &'static str {
        self.0.codec
    }

    pub(crate) fn decoder(self) -> &'static CStr {
        self.0.decoder
    }
}

impl SourceAudioCodec {
    /// The allowed codec of this libav name.
    pub fn named(codec: &str) -> Result<Self, AvError> {
        find(AUDIO, codec).map(Self)
    }

    /// libav's name.
    pub fn name(self) -> &'static str {
        self.0.codec
    }

    pub(crate) fn decoder(self) -> &'static CStr {
        self.0.decoder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_decoder_is_in_this_build_or_named_as_missing() {
        for entry in VIDEO.iter().chain(AUDIO) {
            // SAFETY: a terminated constant string.
            let found = unsafe { ffmpeg_next::ffi::avcodec_find_decoder_by_name(entry.decoder.as_ptr()) };
            assert!(!found.is_null(), "{} is missing", entry.codec);
        }
    }

    #[test]
    fn other_codecs_are_refused() {
        assert!(SourceVideoCodec::named("gif").is_err());
        assert!(SourceAudioCodec::named("h264").is_err());
    }
}
