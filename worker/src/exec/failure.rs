//! Failures in the job's own words.

use reelmill_av::{AvError, DecodeError};
use reelmill_media::task::{Failure, FailureCode};

use crate::mp4::fragment::BadSegment;
use crate::mp4::read::Mp4Error;
use crate::mp4::video_config::BadParameterSets;

/// A failure of this code.
pub fn fail(code: FailureCode, reason: impl Into<String>) -> Failure {
    Failure { code, reason: reason.into() }
}

/// Our own fault, or the machine's.
pub fn internal(error: impl std::fmt::Display) -> Failure {
    fail(FailureCode::Internal, error.to_string())
}

/// What it means that a file's boxes cannot be read.
pub fn of_mp4(error: Mp4Error) -> Failure {
    let code = match &error {
        Mp4Error::Io(_) => FailureCode::Internal,
        Mp4Error::Truncated(_) => FailureCode::Truncated,
        Mp4Error::Corrupt(_) => FailureCode::Corrupt,
        Mp4Error::TooLarge(_) => FailureCode::TooLarge,
    };
    fail(code, error.to_string())
}

/// A source of which the beginning is there says of a track that it has nothing of yet.
pub fn not_begun() -> Failure {
    fail(FailureCode::Truncated, "a track has not begun yet")
}

/// What it means that a container or a stream cannot be opened or read: what it says of itself is all that can be wrong,
/// but for memory.
pub fn of_source(error: AvError) -> Failure {
    let code = match &error {
        AvError::UnsupportedCodec(_) => FailureCode::Unsupported,
        AvError::OutOfRange { .. } => FailureCode::TooLarge,
        AvError::Call { .. } if error.is_unsupported() => FailureCode::Unsupported,
        AvError::Call { .. } if !error.is_no_memory() => FailureCode::Corrupt,
        AvError::Call { .. } | AvError::NoMemory(_) | AvError::Missing(_) => FailureCode::Internal,
    };
    fail(code, error.to_string())
}

/// What it means that decoding cannot go on.
pub fn of_decode(error: DecodeError) -> Failure {
    match error {
        DecodeError::Broken(error) => fail(FailureCode::Corrupt, error.to_string()),
        DecodeError::Fatal(error) => internal(error),
    }
}

/// Encoders fail by our fault alone.
pub fn of_encode(error: AvError) -> Failure {
    internal(error)
}

/// Segments fail by our fault alone.
pub fn of_segment(error: BadSegment) -> Failure {
    internal(error)
}

/// So do parameter sets.
pub fn of_parameter_sets(error: BadParameterSets) -> Failure {
    internal(error)
}
