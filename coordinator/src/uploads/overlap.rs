//! What part of a source is durable while its upload runs, and which work that releases.
//!
//! It is derived from the upload's record each time a block was stored, after each index, and by the sweep: whoever
//! should have told the asset may have died before doing so. The machine takes growth only, in whatever order it is told.

use bytes::Bytes;
use reelmill_media::ids::{AssetId, UploadId};
use reelmill_media::keys::BlobKind;
use reelmill_media::source::{ENDLESS_BYTES, Source, SourceRef};
use reelmill_media::task::TaskNumber;

use super::{BlockList, Concat, FinishError, Phase, UploadRecord, parts, unfold};
use crate::engine::{Engine, EngineError};
use crate::state::{Asset, Input, Job, Stage};
use crate::twins;

/// A running job hears of growth when what is durable has grown by one part in so many: each time a list of all blocks
/// is written, and all of those lists together stay short of the source by far.
const PARTS_OF_GROWTH: u64 = 64;

/// How much is there, from both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// Bytes from the first on.
    pub head: u64,
    /// Bytes before the end.
    pub tail: u64,
    /// Bytes there will be.
    pub length: u64,
}

impl Durable {
    /// Bytes from the first on, without a gap.
    fn prefix(self) -> u64 {
        if self.bytes() == self.length { self.length } else { self.head }
    }

    fn bytes(self) -> u64 {
        self.head.saturating_add(self.tail).min(self.length)
    }

    /// Whether the byte before `upto` is there, and the first one is.
    fn holds(self, upto: u64) -> bool {
        let beyond_gap = upto > self.length.saturating_sub(self.tail) && upto <= self.length;
        self.head > 0 && (upto <= self.head || beyond_gap)
    }
}

/// The blocks of an open upload, from both ends.
struct Held {
    asset: AssetId,
    durable: Durable,
    head: Vec<BlockList>,
    tail: Vec<BlockList>,
}

/// Tells the asset of an upload, or of the one that it is part of, what may begin now.
pub async fn grown(engine: &Engine, id: UploadId, record: &UploadRecord) -> Result<(), FinishError> {
    let Some(held) = look(engine, id, record).await? else { return Ok(()) };
    let Some(due) = due(engine, held.asset, held.durable).await? else { return Ok(()) };
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for list in &held.head {
        head.extend(unfold(&engine.store, list).await?);
    }
    for list in &held.tail {
        tail.extend(unfold(&engine.store, list).await?);
    }
    let missing = held.durable.length - held.durable.bytes();
    tell(engine, held.asset, Source::with_gap(head, missing, tail), due).await
}

async fn look(engine: &Engine, id: UploadId, record: &UploadRecord) -> Result<Option<Held>, FinishError> {
    let (last, whole) = match (record.asset, record.part_of) {
        (Some(_), _) => (id, record.clone()),
        (None, Some(last)) => match engine.uploads.get(&last.to_string()).await? {
            Some((whole, _)) => (last, whole),
            None => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    let (Some(asset), Phase::Open) = (whole.asset, whole.phase) else { return Ok(None) };
    let length = whole.length.unwrap_or(ENDLESS_BYTES);
    let (head, tail) = match &whole.concat {
        Some(Concat::Final { of }) if !whole.is_full() => {
            let Some(parts) = parts::read(engine, last, of).await? else { return Ok(None) };
            let news = Input::UploadProgress {
                bytes: parts.iter().map(|p| p.blocks.bytes).sum(),
                length: whole.length,
            };
            engine.feed(asset, news).await?;
            parts::ends(parts)
        }
        Some(Concat::Final { .. } | Concat::Partial) | None => (vec![whole.blocks], Vec::new()),
    };
    let bytes = |lists: &[BlockList]| lists.iter().map(|list| list.bytes).sum();
    let durable = Durable { head: bytes(&head), tail: bytes(&tail), length };
    Ok((durable.bytes() < length).then_some(Held { asset, durable, head, tail }))
}

/// The same where only the asset's own record says what is there: of an upload in one request.
pub async fn planned(engine: &Engine, asset: &Asset) -> Result<(), FinishError> {
    let Stage::Processing { source, .. } = asset.stage else { return Ok(()) };
    let durable = asset.upload.durable;
    let held = Durable { head: durable, tail: 0, length: source.bytes };
    if let Some(Due { released, fence }) = due(engine, asset.id, held).await? {
        engine.feed(asset.id, Input::Grown { source, durable, released, fence }).await?;
    }
    Ok(())
}

/// What there is to be told to an asset.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// How many tasks of the plan may begin with what is there.
    released: u32,
    /// Of which of the asset's jobs.
    fence: u32,
}

/// What may begin with what is there; nothing where the asset knows it, or has no use for it yet.
pub async fn due(engine: &Engine, id: AssetId, durable: Durable) -> Result<Option<Due>, FinishError> {
    let Some((asset, _)) = engine.assets.get(id).await? else { return Ok(None) };
    if !asset.is_receiving() || durable.bytes() < asset.upload.durable {
        return Ok(None);
    }
    let released = match &asset.stage {
        Stage::Uploading => durable.holds(asset.upload.wants).then_some(0),
        Stage::Processing { job: Job { growth: Some(growth), tasks, .. }, .. } => {
            (durable.prefix() >= growth.goes_on_at && asset.attempt(TaskNumber::INDEX).is_none())
                .then_some(*tasks)
        }
        Stage::Processing { job, .. } => {
            let enough = asset.upload.durable + asset.upload.durable / PARTS_OF_GROWTH;
            if job.released() > 0 && durable.bytes() < enough {
                return Ok(None);
            }
            let plan = engine.plans.get(job.recipe.plan).await.map_err(EngineError::from)?;
            // The last one says that the source was all there.
            let released = plan.released(durable.prefix()).min(job.tasks.saturating_sub(1));
            Some(released).filter(|released| *released > job.released())
        }
        Stage::Queued { .. }
        | Stage::Indexing { .. }
        | Stage::Ready { .. }
        | Stage::Failed { .. }
        | Stage::Deleted { .. } => None,
    };
    Ok(released.map(|released| Due { released, fence: asset.fence }))
}

/// Tells the asset that this much of its source is there.
pub async fn tell(engine: &Engine, id: AssetId, source: Source, due: Due) -> Result<(), FinishError> {
    let Due { released, fence } = due;
    let input = if released == 0 && twins::may_come(engine, id, &source).await? {
        Input::WaitFor { upto: u64::MAX }
    } else {
        let text = Bytes::from(serde_json::to_vec(&source)?);
        let blocks = engine.store.put_blob(BlobKind::Record, text).await?;
        let bytes = source.bytes();
        Input::Grown { source: SourceRef { blocks, bytes }, durable: bytes - source.missing, released, fence }
    };
    engine.feed(id, input).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_known_from_both_ends() {
        let of = |head, tail| Durable { head, tail, length: 100 };
        assert_eq!((of(10, 0).prefix(), of(10, 20).prefix(), of(80, 20).prefix()), (10, 10, 100));
        for (durable, upto, holds) in [
            (of(0, 50), 60, false),
            (of(1, 0), 0, true),
            (of(10, 0), 10, true),
            (of(10, 0), 11, false),
            (of(10, 20), 80, false),
            (of(10, 20), 81, true),
            (of(10, 20), 100, true),
            (of(10, 20), u64::MAX, false),
        ] {
            assert_eq!(durable.holds(upto), holds, "{durable:?} {upto}");
        }
    }
}
