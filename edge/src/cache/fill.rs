//! Bringing a blob in from the origin, group by group, each proven before anybody sees it.

use bytes::{Bytes, BytesMut};
use reelmill_media::keys;
use reelmill_platform::hash_tree::{GROUP_BYTES, HashTree, WrongGroup};
use reelmill_platform::store::{ObjectStream, Store, StoreError};
use reelmill_platform::verified::{VerifiedBytes, WrongContent};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::blob::Blob;
use crate::limits::{FILL_ATTEMPTS, FILL_DEADLINE, FILLS_AT_ONCE, ORIGIN_STALL};
use crate::metrics::{Metrics, OriginRead};

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
}

/// The origin, asked for a bounded number of blobs at once.
#[derive(Debug)]
pub(super) struct Origin {
    store: Store,
    slots: Semaphore,
    metrics: Metrics,
}

/// Why one attempt ended.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Content(#[from] WrongContent),
    #[error(transparent)]
    Group(#[from] WrongGroup),
    #[error("the blob's length changed from {was} to {is} bytes")]
    Length { was: u64, is: u64 },
    #[error("the origin ended the blob early")]
    Short,
    #[error("the origin did not go on within {} s", ORIGIN_STALL.as_secs())]
    Stalled,
}

impl AttemptError {
    fn outcome(&self) -> FillError {
        match self {
            Self::Store(StoreError::NotFound { .. }) => FillError::Absent,
            Self::Content(_) | Self::Group(_) | Self::Length { .. } => FillError::Corrupt,
            Self::Store(StoreError::Corrupt(_)) => FillError::Corrupt,
            Self::Stalled | Self::Store(StoreError::Deadline { .. }) => FillError::Deadline,
            Self::Short
            | Self::Store(
                StoreError::Open { .. } | StoreError::TooLarge { .. } | StoreError::Unavailable { .. },
            ) => FillError::Unavailable,
        }
    }
}

/// How the bytes of one fill are proven; decided when the origin first answers.
enum Proof {
    Undecided,
    /// Each group by its entry in the tree.
    Groups(HashTree),
    /// Only all of it at once: it is small, or has no usable tree.
    Whole,
}

impl Origin {
    pub(super) fn new(store: Store, metrics: Metrics) -> Self {
        Self { store, slots: Semaphore::new(FILLS_AT_ONCE), metrics }
    }

    /// Fetches what is missing of a blob. An attempt that breaks off is followed by another one, from where it stopped,
    /// for all who wait.
    pub(super) async fn fill(&self, blob: &Blob) -> Result<(), FillError> {
        let outcome = timeout(FILL_DEADLINE, self.attempts(blob)).await;
        let outcome = outcome.unwrap_or(Err(FillError::Deadline));
        self.metrics.filled(outcome.map(|()| blob.length()));
        outcome
    }

    async fn attempts(&self, blob: &Blob) -> Result<(), FillError> {
        let _slot = self.slots.acquire().await.map_err(|_| FillError::Ended)?;
        let mut proof = Proof::Undecided;
        let mut attempt = 1;
        loop {
            let Err(error) = self.attempt(blob, &mut proof).await else { return Ok(()) };
            let outcome = error.outcome();
            match outcome {
                FillError::Absent => return Err(outcome),
                FillError::Corrupt => self.metrics.corrupt_blob(),
                FillError::Unavailable | FillError::Deadline | FillError::Purged | FillError::Ended => {}
            }
            tracing::warn!(hash = %blob.hash(), attempt, %error, "fill failed");
            if attempt == FILL_ATTEMPTS {
                return Err(outcome);
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, blob: &Blob, proof: &mut Proof) -> Result<(), AttemptError> {
        self.metrics.origin_read(OriginRead::Blob);
        let from = (blob.proven_groups() * GROUP_BYTES) as u64;
        let opening = self.store.open_blob(blob.name().kind(), blob.hash(), from);
        let mut stream = timeout(ORIGIN_STALL, opening).await.map_err(|_| AttemptError::Stalled)??;
        if matches!(proof, Proof::Undecided) {
            *proof = self.proof(blob, stream.length()).await;
        }
        match proof {
            Proof::Groups(tree) => by_groups(blob, &mut stream, tree).await,
            Proof::Undecided | Proof::Whole => at_once(blob, &mut stream).await,
        }
    }

    async fn proof(&self, blob: &Blob, length: u64) -> Proof {
        if length <= GROUP_BYTES as u64 {
            return Proof::Whole;
        }
        self.metrics.origin_read(OriginRead::Tree);
        let key = keys::hash_tree(&blob.hash(), blob.name().kind());
        let fetched = timeout(ORIGIN_STALL, self.store.get_object(&key, HashTree::MAX_BYTES)).await;
        let encoded = match fetched {
            Ok(Ok(encoded)) => encoded,
            Ok(Err(StoreError::NotFound { .. })) => return Proof::Whole,
            Ok(Err(error)) => {
                tracing::warn!(%error, "no hash tree, the blob has to be complete first");
                return Proof::Whole;
            }
            Err(_) => return Proof::Whole,
        };
        match HashTree::decode(blob.hash(), &encoded) {
            Ok(tree) if tree.length() == length => Proof::Groups(tree),
            Ok(_) => {
                tracing::warn!(hash = %blob.hash(), length, "blob and hash tree differ in length");
                Proof::Whole
            }
            Err(error) => {
                self.metrics.corrupt_tree();
                tracing::warn!(%error, "the blob has to be complete first");
                Proof::Whole
            }
        }
    }
}

async fn next(stream: &mut ObjectStream) -> Result<Option<Bytes>, AttemptError> {
    Ok(timeout(ORIGIN_STALL, stream.next()).await.map_err(|_| AttemptError::Stalled)??)
}

async fn by_groups(blob: &Blob, stream: &mut ObjectStream, tree: &HashTree) -> Result<(), AttemptError> {
    if stream.length() != tree.length() {
        return Err(AttemptError::Length { was: tree.length(), is: stream.length() });
    }
    let mut index = blob.proven_groups();
    let mut missing = tree.group_length(index);
    let mut partial = BytesMut::new();
    while missing > 0 {
        let Some(mut piece) = next(stream).await? else { return Err(AttemptError::Short) };
        while !piece.is_empty() && missing > 0 {
            let part = piece.split_to(missing.min(piece.len()));
            missing -= part.len();
            let group = if missing > 0 || !partial.is_empty() {
                partial.reserve(part.len() + missing);
                partial.extend_from_slice(&part);
                if missing > 0 {
                    continue;
                }
                partial.split().freeze()
            } else {
                part
            };
            let group = tree.check(index, group)?;
            // Only now: the length is as good as the tree, and that has just matched a piece of the blob.
            blob.set_length(tree.length());
            blob.place(group);
            index += 1;
            missing = tree.group_length(index);
        }
    }
    Ok(())
}

async fn at_once(blob: &Blob, stream: &mut ObjectStream) -> Result<(), AttemptError> {
    let mut bytes = BytesMut::new();
    let announced = usize::try_from(stream.length()).unwrap_or(usize::MAX);
    while let Some(piece) = next(stream).await? {
        if bytes.is_empty() {
            bytes.reserve(announced.max(piece.len()));
        }
        bytes.extend_from_slice(&piece);
    }
    let proven = VerifiedBytes::check(blob.hash(), bytes.freeze())?;
    blob.set_length(proven.bytes().len() as u64);
    proven.groups().for_each(|group| blob.place(group));
    Ok(())
}
