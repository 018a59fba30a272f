//! Blobs near the viewer: where one was found, and how it comes in.

mod blob;
mod blob_reader;
mod disk;
mod failure;
mod fill;
mod live;
mod memory;
mod room;
mod source;

pub use blob::Blob;
pub(crate) use blob_reader::BlobReader;
pub(crate) use disk::Folder as DiskFolder;
pub use disk::{DiskError, DiskSettings};
pub use failure::FillError;
pub use memory::BlobCache;
pub(crate) use source::Tier;

/// Where the bytes of a response came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Held in memory.
    Memory,
    /// Read from the local disk for this request.
    Disk,
    /// Waited on a fill that another request began.
    Joined,
    /// Fetched from another edge of the PoP for this request.
    Peer,
    /// Fetched from the shield for this request.
    Shield,
    /// Fetched from the origin for this request.
    Origin,
    /// A playlist past its freshness, because the origin is away.
    Stale,
}

/// Why a blob had to be fetched from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissReason {
    /// It was never here, as far as is known.
    Cold,
    /// It was here and had to make room.
    Evicted,
    /// Its file on disk was damaged.
    Corrupt,
    /// It may be on disk, but what was taken down meanwhile is not known yet.
    Unsure,
    /// It was taken down, and then allowed again.
    Purged,
    /// The peer that owns it does not answer, so it was asked of somebody else.
    PeerDown,
    /// The peer that owns it has its hands full, so it was asked of somebody else.
    Overload,
}

impl MissReason {
    /// As in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Evicted => "evicted",
            Self::Corrupt => "corrupt",
            Self::Unsure => "unsure",
            Self::Purged => "purged",
            Self::PeerDown => "peer_down",
            Self::Overload => "overload",
        }
    }
}

impl Lookup {
    /// As in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Joined => "joined",
            Self::Peer => "peer",
            Self::Shield => "shield",
            Self::Origin => "origin",
            Self::Stale => "stale",
        }
    }

    /// As the `Cache-Status` field has it (RFC 9211).
    pub(crate) fn cache_status(self) -> &'static str {
        match self {
            Self::Memory => "reelmill; hit",
            Self::Disk => "reelmill; hit; detail=disk",
            Self::Joined => "reelmill; fwd=uri-miss; collapsed",
            Self::Peer => "reelmill; fwd=uri-miss; stored; detail=peer",
            Self::Shield => "reelmill; fwd=uri-miss; stored; detail=shield",
            Self::Origin => "reelmill; fwd=uri-miss; stored",
            Self::Stale => "reelmill; hit; detail=stale-if-error",
        }
    }
}
