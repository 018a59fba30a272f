//! Uploads: from bodies to durable blocks, from blocks to a source.

mod body;
mod checksum;
pub mod expiry;
pub mod overlap;
pub mod parts;
mod record;
mod writers;

pub use body::{BlockReader, End, Event, OnCut};
pub use checksum::{ALGORITHMS, Checksum, ChecksumError};
pub use record::{BlockList, Concat, Phase, UploadRecord};
pub use writers::{Turn, Writers};

use bytes::Bytes;
use reelmill_media::ids::{AssetId, UploadId};
use reelmill_media::keys::BlobKind;
use reelmill_media::source::{Block, Source, SourceRef};
use reelmill_platform::bus::BusError;
use reelmill_platform::kv::{Bucket, Revision, Written};
use reelmill_platform::store::{Store, StoreError};

use crate::assets::backoff;
use crate::engine::{Engine, EngineError};
use crate::state::{Asset, Input};
use crate::twins;

/// An upload in more pieces than this would have an unwieldy block list.
pub const MAX_BLOCKS: u32 = 1 << 18;
/// Rounds of writing and reading again before the request is refused.
const MAX_CONFLICTS: u32 = 20;

/// Why an upload was not finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The asset did not take it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A record cannot be written or read.
    #[error("a record of the upload is not readable: {0}")]
    Record(#[from] serde_json::Error),
}

/// Why an upload's record was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// Another request has changed it.
    #[error("another request writes to this upload")]
    Raced,
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Replaces an upload's record as it was `seen`. A conflict is no proof of a rival, and a lost answer none of failure:
/// the record itself says whose write stands.
pub async fn advance(
    bucket: &Bucket<UploadRecord>,
    id: UploadId,
    next: &UploadRecord,
    seen: Revision,
) -> Result<Revision, AdvanceError> {
    let key = id.to_string();
    let mut last = None;
    for attempt in 0..MAX_CONFLICTS {
        match bucket.update(&key, next, seen).await {
            Ok(Written::Stored(revision)) => return Ok(revision),
            Ok(Written::Conflict) => {}
            Err(error) => last = Some(error),
        }
        match bucket.get(&key).await {
            Ok(Some((_, revision))) if revision == seen => {}
            Ok(Some((standing, revision))) if standing == *next => return Ok(revision),
            Ok(Some(_) | None) => return Err(AdvanceError::Raced),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(backoff(attempt)).await;
    }
    Err(last.map_or(AdvanceError::Raced, AdvanceError::Bus))
}

/// Stores a block list, and tells the asset that its bytes are there.
pub async fn complete(engine: &Engine, asset: AssetId, blocks: Vec<Block>) -> Result<Asset, FinishError> {
    let source = Source { blocks, ..Source::default() };
    let bytes = source.bytes();
    let text = Bytes::from(serde_json::to_vec(&source)?);
    let blocks = engine.store.put_blob(BlobKind::Record, text).await?;
    let source = SourceRef { blocks, bytes };
    if let Some(asset) = twins::reuse(engine, asset, source).await? {
        return Ok(asset);
    }
    Ok(engine.feed(asset, Input::UploadComplete { source }).await?)
}

/// Tells the asset of an upload what there is of it. Doing it twice is harmless: a coordinator may have died before.
pub async fn look_after(engine: &Engine, id: UploadId) -> Result<(), FinishError> {
    let Some((record, revision)) = engine.uploads.get(&id.to_string()).await? else { return Ok(()) };
    overlap::grown(engine, id, &record).await?;
    finish(engine, id, record, revision).await
}

/// Turns an upload whose bytes are all there into its asset's source.
pub async fn finish(
    engine: &Engine,
    id: UploadId,
    record: UploadRecord,
    revision: Revision,
) -> Result<(), FinishError> {
    let Some((record, revision)) = parts::joined(engine, id, record, revision).await? else { return Ok(()) };
    let Some(asset) = record.asset.filter(|_| record.phase == Phase::Open && record.is_full()) else {
        return Ok(());
    };
    complete(engine, asset, unfold(&engine.store, &record.blocks).await?).await?;
    // The asset knows the blocks now.
    let blocks = BlockList { folded: None, tail: Vec::new(), ..record.blocks };
    let done = UploadRecord { phase: Phase::Complete, blocks, ..record };
    match advance(&engine.uploads, id, &done, revision).await {
        // Whoever raced us finishes it as well.
        Ok(_) | Err(AdvanceError::Raced) => Ok(()),
        Err(AdvanceError::Bus(error)) => Err(error.into()),
    }
}

/// Moves a full tail of the list to the store, so that the record stays small.
pub async fn fold(store: &Store, list: &mut BlockList) -> Result<(), FinishError> {
    if let Some(page) = list.full_page() {
        let text = Bytes::from(serde_json::to_vec(&page)?);
        list.folded = Some(store.put_blob(BlobKind::Record, text).await?);
        list.tail.clear();
    }
    Ok(())
}

/// All blocks, first byte first.
pub async fn unfold(store: &Store, list: &BlockList) -> Result<Vec<Block>, FinishError> {
    let mut pages = vec![list.tail.clone()];
    let mut next = list.folded;
    while let Some(hash) = next {
        let blob = store.get_blob(BlobKind::Record, hash).await?;
        let page: record::Page = serde_json::from_slice(blob.bytes())?;
        next = page.before;
        pages.push(page.blocks);
    }
    Ok(pages.into_iter().rev().flatten().collect())
}
