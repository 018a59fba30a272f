//! Final uploads: several parts made into one. The final one may be declared before its parts have all their bytes
//! (tus `concatenation-unfinished`), so that its beginning and its end can come first.

use reelmill_media::ids::UploadId;
use reelmill_media::task::{Failure, FailureCode};
use reelmill_platform::kv::Revision;

use super::{AdvanceError, BlockList, Concat, FinishError, Phase, UploadRecord, advance, fold, unfold};
use crate::engine::Engine;
use crate::state::Input;

/// Rounds of marking a part whose bytes are coming in.
const MARK_TRIES: usize = 20;

/// The parts of an open final upload, in order. `None` when one of them is gone: then the asset has failed.
pub(super) async fn read(
    engine: &Engine,
    last: UploadId,
    of: &[UploadId],
) -> Result<Option<Vec<UploadRecord>>, FinishError> {
    let mut parts = Vec::with_capacity(of.len());
    for id in of {
        match engine.uploads.get(&id.to_string()).await? {
            Some((part, _)) if part.phase == Phase::Open => parts.push(part),
            Some(_) | None => {
                if let Some((UploadRecord { asset: Some(asset), .. }, _)) =
                    engine.uploads.get(&last.to_string()).await?
                {
                    let reason = "A part of the upload was taken away.".to_owned();
                    let failure = Failure { code: FailureCode::Incomplete, reason };
                    engine.feed(asset, Input::UploadFailed(failure)).await?;
                }
                return Ok(None);
            }
        }
    }
    Ok(Some(parts))
}

/// The blocks from the first byte on up to the first that is missing, and those after the last that is missing.
pub(super) fn ends(parts: Vec<UploadRecord>) -> (Vec<BlockList>, Vec<BlockList>) {
    let begun = parts.iter().position(|part| !part.is_full()).map_or(parts.len(), |first| first + 1);
    let tail = parts.iter().rposition(|part| !part.is_full()).map_or(parts.len(), |last| last + 1);
    let mut lists: Vec<BlockList> = parts.into_iter().map(|part| part.blocks).collect();
    let tail = lists.split_off(tail);
    lists.truncate(begun);
    (lists, tail)
}

/// Makes each part tell the final upload of its growth.
pub async fn mark(engine: &Engine, last: UploadId, of: &[UploadId]) -> Result<(), FinishError> {
    for id in of {
        for _ in 0..MARK_TRIES {
            let Some((part, seen)) = engine.uploads.get(&id.to_string()).await? else { break };
            let marked = UploadRecord { part_of: Some(last), ..part };
            match advance(&engine.uploads, *id, &marked, seen).await {
                Ok(_) => break,
                Err(AdvanceError::Raced) => {}
                Err(AdvanceError::Bus(error)) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// The record with the blocks of all its parts, once they are all there. Uploads without parts are as they are.
pub(super) async fn joined(
    engine: &Engine,
    id: UploadId,
    record: UploadRecord,
    revision: Revision,
) -> Result<Option<(UploadRecord, Revision)>, FinishError> {
    let Some(Concat::Final { of }) = record.concat.as_ref().filter(|_| !record.is_full()) else {
        return Ok(Some((record, revision)));
    };
    if record.phase != Phase::Open {
        return Ok(None);
    }
    let Some(parts) = read(engine, id, of).await? else { return Ok(None) };
    if !parts.iter().all(UploadRecord::is_full) {
        return Ok(None);
    }
    let blocks = join(engine, &parts).await?;
    let whole = UploadRecord { blocks, ..record };
    match advance(&engine.uploads, id, &whole, revision).await {
        Ok(revision) => Ok(Some((whole, revision))),
        // Whoever raced us finishes it.
        Err(AdvanceError::Raced) => Ok(None),
        Err(AdvanceError::Bus(error)) => Err(error.into()),
    }
}

/// The blocks of full parts as one list.
pub async fn join(engine: &Engine, parts: &[UploadRecord]) -> Result<BlockList, FinishError> {
    let mut joined = BlockList::default();
    for part in parts {
        for block in unfold(&engine.store, &part.blocks).await? {
            joined.push(block);
            fold(&engine.store, &mut joined).await?;
        }
    }
    Ok(joined)
}
