//! A blob on its way here, whoever sends it.

use bytes::Bytes;
use reelmill_platform::hash_tree::HashTree;
use reelmill_platform::store::{ObjectStream, StoreError};
use tokio::time::timeout;

use super::Lookup;
use crate::limits::ORIGIN_STALL;
use crate::pop::{LinkError, PeerBlob};

/// How far away a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Another edge of the PoP.
    Peer,
    /// The shield.
    Shield,
    /// The origin.
    Origin,
}

impl Tier {
    /// As in metrics.
    pub(crate) fn label(self) -> &'static str {
        self.lookup().label()
    }

    pub(super) fn lookup(self) -> Lookup {
        match self {
            Self::Peer => Lookup::Peer,
            Self::Shield => Lookup::Shield,
            Self::Origin => Lookup::Origin,
        }
    }
}

/// The bytes of one attempt.
pub(super) enum Incoming {
    Origin(ObjectStream),
    Peer(Box<PeerBlob>),
}

/// Why there are no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum IncomingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("it did not go on within {} s", ORIGIN_STALL.as_secs())]
    Stalled,
}

impl Incoming {
    /// Length of the whole blob.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Origin(stream) => stream.length(),
            Self::Peer(blob) => blob.length,
        }
    }

    /// What proves the blob, where the source says it along with the bytes.
    pub(super) fn tree(&self) -> Option<&HashTree> {
        match self {
            Self::Origin(_) => None,
            Self::Peer(blob) => blob.tree.as_ref(),
        }
    }

    /// The next bytes, in pieces of no particular size; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, IncomingError> {
        match self {
            Self::Origin(stream) => {
                Ok(timeout(ORIGIN_STALL, stream.next()).await.map_err(|_| IncomingError::Stalled)??)
            }
            Self::Peer(blob) => Ok(blob.next().await?),
        }
    }
}
