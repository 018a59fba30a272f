//! Byte ranges of a source, out of verified blocks.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use moka::future::Cache;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use reelmill_media::source::{BlockSlice, Source, SourceRef};
use reelmill_media::task::{Failure, FailureCode};
use reelmill_platform::store::{Store, StoreError};

use crate::outage;

/// Why bytes of a source cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The store did not give them.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The block list is not one.
    #[error("the block list {0} cannot be read")]
    BlockList(BlobHash),
    /// The upload has not brought them yet.
    #[error("byte {0} of the source is not there yet")]
    Missing(u64),
}

impl ReadError {
    /// The failure of a task that needs them.
    pub fn failure(&self) -> Failure {
        match self {
            ReadError::Store(error) => outage::failure(error),
            ReadError::BlockList(_) | ReadError::Missing(_) => {
                Failure { code: FailureCode::Internal, reason: self.to_string() }
            }
        }
    }
}

/// Blocks that were fetched lately, shared by all slots: neighbouring chunks share blocks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blocks {
    store: Store,
    cache: Cache<BlobHash, Bytes>,
    tally: Arc<Tally>,
}

/// What was read of sources, in bytes.
#[derive(Debug, Default)]
struct Tally {
    read: AtomicU64,
    fetched: AtomicU64,
}

impl Blocks {
    /// Keeps up to `capacity` bytes.
    pub fn new(store: Store, capacity: u64) -> Self {
        let weigh = |_: &BlobHash, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(capacity).weigher(weigh).build();
        Self { store, cache, tally: Arc::default() }
    }

    /// Bytes of sources that children have been given so far.
    pub fn read_bytes(&self) -> u64 {
        self.tally.read.load(Ordering::Relaxed)
    }

    /// Bytes of blocks and block lists that were fetched for them.
    pub fn fetched_bytes(&self) -> u64 {
        self.tally.fetched.load(Ordering::Relaxed)
    }

    /// Opens a source for reading.
    pub async fn open(&self, source: SourceRef) -> Result<SourceReader, ReadError> {
        let list = self.get(BlobKind::Record, source.blocks).await?;
        let source: Source =
            serde_json::from_slice(&list).map_err(|_| ReadError::BlockList(source.blocks))?;
        Ok(SourceReader { blocks: self.clone(), source: Arc::new(source), wanted: Arc::default() })
    }

    /// One fetch per blob, however many slots ask at once.
    async fn get(&self, kind: BlobKind, hash: BlobHash) -> Result<Bytes, ReadError> {
        let fetch = async {
            let bytes = self.store.get_blob(kind, hash).await?.bytes().clone();
            self.tally.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(bytes)
        };
        self.cache.try_get_with(hash, fetch).await.map_err(ReadError::Store)
    }
}

/// An open source. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SourceReader {
    blocks: Blocks,
    source: Arc<Source>,
    /// Where the furthest range ends that was asked for and is missing; 0 when none was.
    wanted: Arc<AtomicU64>,
}

impl SourceReader {
    /// The bytes of `range`, fewer where the source ends or something is missing.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
        if self.source.gap().contains(&range.start) {
            self.wanted.fetch_max(range.end.min(self.source.bytes()), Ordering::Relaxed);
            return Err(ReadError::Missing(range.start));
        }
        let mut out = Vec::with_capacity(range.end.saturating_sub(range.start).min(1 << 22) as usize);
        for BlockSlice { block, range } in self.source.slices(range) {
            let bytes = self.blocks.get(BlobKind::SourceBlock, block.hash).await?;
            out.extend_from_slice(
                bytes
                    .get(range.start as usize..range.end as usize)
                    .ok_or(ReadError::BlockList(block.hash))?,
            );
        }
        self.blocks.tally.read.fetch_add(out.len() as u64, Ordering::Relaxed);
        Ok(out)
    }

    /// How many bytes are there, from the first on without a gap.
    pub fn there(&self) -> u64 {
        self.source.gap().start
    }

    /// Where the bytes end that were asked for in vain, if any were.
    pub fn waits_for(&self) -> Option<u64> {
        Some(self.wanted.load(Ordering::Relaxed)).filter(|upto| *upto > 0)
    }
}

#[cfg(test)]
mod tests {
    use reelmill_media::source::Block;

    use super::*;

    #[tokio::test]
    async fn what_is_missing_is_named_and_what_is_around_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let mut blocks = Vec::new();
        for bytes in [&b"01234"[..], b"56789", b"uvwxyz"] {
            let hash = store.put_blob(BlobKind::SourceBlock, Bytes::from_static(bytes)).await.unwrap();
            blocks.push(Block { hash, bytes: bytes.len() as u32 });
        }
        let source = Source::with_gap(blocks[..2].to_vec(), 10, blocks[2..].to_vec());
        let list = Bytes::from(serde_json::to_vec(&source).unwrap());
        let list = SourceRef {
            blocks: store.put_blob(BlobKind::Record, list).await.unwrap(),
            bytes: source.bytes(),
        };
        let reader = Blocks::new(store, 1 << 20).open(list).await.unwrap();
        assert_eq!(reader.read(3..7).await.unwrap(), b"3456");
        assert_eq!(reader.read(8..24).await.unwrap(), b"89", "up to what is missing");
        assert_eq!(reader.read(21..99).await.unwrap(), b"vwxyz");
        assert_eq!(reader.waits_for(), None);
        assert!(matches!(reader.read(10..13).await, Err(ReadError::Missing(10))));
        assert!(reader.read(19..99).await.is_err());
        assert_eq!(reader.waits_for(), Some(26), "no more than there will be");
    }
}
