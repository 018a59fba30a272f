//! Why a blob does not come in: as one source has it, and as those who wait are told.

use reelmill_platform::hash_tree::WrongGroup;
use reelmill_platform::store::StoreError;
use reelmill_platform::verified::WrongContent;

use super::room::NoRoom;
use super::source::IncomingError;
use crate::limits::ORIGIN_HEAD_DEADLINE;
use crate::pop::PeerError;

/// Why a blob could not be brought in, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The origin does not have it.
    #[error("there is no such blob")]
    Absent,
    /// The origin's bytes are not the hash's.
    #[error("the origin's copy of this blob is damaged and was not passed on")]
    Corrupt,
    /// The origin failed.
    #[error("the origin is not available")]
    Unavailable,
    /// The origin did not answer in time.
    #[error("the origin did not answer in time")]
    Deadline,
    /// It was taken down.
    #[error("this blob was taken down")]
    Purged,
    /// This edge is going away.
    #[error("this edge is shutting down")]
    Ended,
    /// It was brought in ahead, and whoever was to watch it went elsewhere.
    #[error("nobody wants it any more")]
    Unwanted,
    /// There is no memory for it.
    #[error("this edge has no memory for it at the moment")]
    NoRoom,
    /// To a peer: it is not here, and nobody else is to be asked.
    #[error("this edge does not hold it")]
    NotHeld,
    /// To a peer: the next one in rank has to take this fill.
    #[error("this edge has its hands full")]
    Overloaded,
    /// To a peer: this edge itself waits for a peer.
    #[error("this edge takes another one for the owner")]
    Misdirected,
}

/// Why one attempt ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Incoming(#[from] IncomingError),
    #[error(transparent)]
    Content(#[from] WrongContent),
    #[error(transparent)]
    Group(#[from] WrongGroup),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("the blob's length changed from {was} to {is} bytes")]
    Length { was: u64, is: u64 },
    #[error("it ended early")]
    Short,
    #[error("it goes on past its end")]
    Long,
    #[error("it did not answer within {} s", ORIGIN_HEAD_DEADLINE.as_secs())]
    Silent,
}

impl AttemptError {
    /// Whether a peer did not answer, or not to the end.
    pub(super) fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Short | Self::Peer(PeerError::Link { .. }) | Self::Incoming(IncomingError::Link(_))
        )
    }

    pub(super) fn outcome(&self) -> FillError {
        match self {
            Self::Content(_) | Self::Group(_) | Self::Length { .. } | Self::Long => FillError::Corrupt,
            Self::Silent | Self::Incoming(IncomingError::Stalled) => FillError::Deadline,
            Self::Peer(PeerError::Refused { reason, .. }) => *reason,
            Self::NoRoom(NoRoom) => FillError::NoRoom,
            Self::Short | Self::Peer(PeerError::Link { .. }) | Self::Incoming(IncomingError::Link(_)) => {
                FillError::Unavailable
            }
            Self::Store(error) | Self::Incoming(IncomingError::Store(error)) => match error {
                StoreError::NotFound { .. } => FillError::Absent,
                StoreError::Corrupt(_) => FillError::Corrupt,
                StoreError::Deadline { .. } => FillError::Deadline,
                StoreError::Open { .. } | StoreError::TooLarge { .. } | StoreError::Unavailable { .. } => {
                    FillError::Unavailable
                }
            },
        }
    }
}
