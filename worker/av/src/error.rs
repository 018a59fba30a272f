//! What can go wrong inside the fence.

use std::ffi::CStr;

use ffmpeg_next::ffi;

/// An error of libav, or a refusal of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AvError {
    /// A libav call failed.
    #[error("{call}: {reason}")]
    Call {
        /// The C function.
        call: &'static str,
        /// Its return value.
        code: i32,
        /// libav's own words for it.
        reason: String,
    },
    /// libav could not allocate.
    #[error("out of memory in {0}")]
    NoMemory(&'static str),
    /// This build of libav lacks a part we rely on.
    #[error("this build of libav has no {0}")]
    Missing(&'static str),
    /// Not on the allow-list of decoders.
    #[error("codec {0:?} is not supported")]
    UnsupportedCodec(String),
    /// A value is outside what we accept.
    #[error("{what} of {value} is outside what is accepted")]
    OutOfRange {
        /// The thing measured, with its unit.
        what: &'static str,
        /// Its value.
        value: i64,
    },
}

impl AvError {
    fn call(call: &'static str, code: i32) -> Self {
        let mut text = [0u8; ffi::AV_ERROR_MAX_STRING_SIZE];
        // SAFETY: the buffer is writable for the length given; av_strerror always terminates it.
        unsafe { ffi::av_strerror(code, text.as_mut_ptr().cast(), text.len()) };
        let reason = CStr::from_bytes_until_nul(&text)
            .map_or_else(|_| code.to_string(), |t| t.to_string_lossy().into());
        AvError::Call { call, code, reason }
    }

    /// Whether libav found the data itself broken, as against a fault of ours or of the machine. Demuxers call it an
    /// I/O error, too, when a file ends in the middle of an element; who reads knows better whether bytes came.
    pub fn is_bad_data(&self) -> bool {
        match self {
            AvError::Call { code, .. } => {
                [ffi::AVERROR_INVALIDDATA, ffi::AVERROR_EOF, ffi::AVERROR(ffi::EIO)].contains(code)
            }
            AvError::NoMemory(_) | AvError::Missing(_) => false,
            AvError::UnsupportedCodec(_) | AvError::OutOfRange { .. } => true,
        }
    }

    /// Whether libav knows what the data is and does not implement it.
    pub fn is_unsupported(&self) -> bool {
        match self {
            AvError::Call { code, .. } => *code == ffi::AVERROR_PATCHWELCOME,
            AvError::UnsupportedCodec(_) => true,
            AvError::NoMemory(_) | AvError::Missing(_) | AvError::OutOfRange { .. } => false,
        }
    }

    /// Whether memory ran out.
    pub fn is_no_memory(&self) -> bool {
        match self {
            AvError::Call { code, .. } => *code == ffi::AVERROR(ffi::ENOMEM),
            AvError::NoMemory(_) => true,
            AvError::Missing(_) | AvError::UnsupportedCodec(_) | AvError::OutOfRange { .. } => false,
        }
    }
}

/// Turns a libav return value into a result.
pub(crate) fn check(call: &'static str, code: i32) -> Result<i32, AvError> {
    if code < 0 { Err(AvError::call(call, code)) } else { Ok(code) }
}
