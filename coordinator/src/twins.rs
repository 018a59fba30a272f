//! The same bytes again: what was made of them once for a tenant is published under the new asset as well, and nothing is
//! encoded. A hint in the store says which asset has them; only that asset's own record says whether it is still of use.

use bytes::Bytes;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys::{self, BlobKind};
use reelmill_media::source::{Source, SourceRef};
use reelmill_platform::store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineError};
use crate::state::{Asset, Input, Stage, StageName, Twin};

/// A hint is no longer than this, in bytes.
const MAX_HINT_BYTES: u64 = 1 << 10;

/// Which asset has the bytes that its key names.
#[derive(Debug, Serialize, Deserialize)]
struct Hint {
    asset: AssetId,
}

/// Where the hint lies for these bytes and what is to be made of them.
fn key(asset: &Asset, source: SourceRef) -> Result<String, serde_json::Error> {
    let profile = BlobHash::of(&serde_json::to_vec(&asset.profile)?);
    Ok(keys::twin(&asset.tenant, &source.blocks, &profile))
}

/// The same for all bytes that begin and last as these do.
fn beginning(asset: &Asset, source: &Source) -> Option<String> {
    let first = source.blocks.first()?.hash;
    let like = BlobHash::of(format!("{first} {}", source.bytes()).as_bytes());
    key(asset, SourceRef { blocks: like, bytes: source.bytes() }).ok()
}

/// Whether the bytes that have come so far are those of an asset that is ready: then it is worth waiting for the others.
pub async fn may_come(engine: &Engine, id: AssetId, source: &Source) -> Result<bool, EngineError> {
    let Some((asset, _)) = engine.assets.get(id).await? else { return Ok(false) };
    let Some(key) = beginning(&asset, source) else { return Ok(false) };
    let Some(other) = hinted(engine, &asset, &key).await? else { return Ok(false) };
    Ok(matches!(other.stage, Stage::Ready { source: known, .. } if known.bytes == source.bytes()))
}

/// Leaves hints that a ready asset may serve for others. The newest ones count: they live the longest.
pub async fn remember(store: &Store, asset: &Asset) -> Result<(), StoreError> {
    let Stage::Ready { source, .. } = &asset.stage else { return Ok(()) };
    // Profiles and ids always serialise.
    let (Ok(key), Ok(hint)) = (key(asset, *source), serde_json::to_vec(&Hint { asset: asset.id })) else {
        return Ok(());
    };
    let hint = Bytes::from(hint);
    store.put_object(&key, hint.clone()).await?;
    let list = store.get_blob(BlobKind::Record, source.blocks).await?;
    match serde_json::from_slice(list.bytes()).ok().and_then(|source| beginning(asset, &source)) {
        Some(key) => store.put_object(&key, hint).await,
        None => Ok(()),
    }
}

/// Ends the upload of an asset by what was made before of the same bytes; `None` if nothing was, or if it is over already.
pub async fn reuse(engine: &Engine, id: AssetId, source: SourceRef) -> Result<Option<Asset>, EngineError> {
    let found = engine.assets.get(id).await?.filter(|(asset, _)| asset.stage == Stage::Uploading);
    let Some((asset, _)) = found else { return Ok(None) };
    let Some(twin) = publish(engine, &asset, source).await? else { return Ok(None) };
    let asset = engine.feed(id, Input::Reused { source, twin: Box::new(twin) }).await?;
    match asset.stage.name() {
        StageName::Ready => {
            if let Err(error) = remember(&engine.store, &asset).await {
                tracing::debug!(asset = %id, %error, "there is no hint yet that it may serve for others");
            }
        }
        // It was taken away meanwhile.
        StageName::Failed | StageName::Deleted => engine.publisher.withdraw(asset.id).await?,
        // Somebody else has begun to make it, and will write over what was published here.
        StageName::Uploading | StageName::Queued | StageName::Indexing | StageName::Processing => {}
    }
    Ok(Some(asset))
}

/// Publishes under this asset what was made before of the same bytes.
async fn publish(engine: &Engine, asset: &Asset, source: SourceRef) -> Result<Option<Twin>, EngineError> {
    let Ok(key) = key(asset, source) else { return Ok(None) };
    let Some(other) = hinted(engine, asset, &key).await? else { return Ok(None) };
    let Stage::Ready { source: known, recipe, .. } = other.stage else { return Ok(None) };
    if known != source {
        return Ok(None);
    }
    if !engine.publisher.publish_again(&other, asset).await? {
        return Ok(None);
    }
    Ok(Some(Twin { recipe, facts: other.facts, renditions: other.renditions }))
}

/// The asset that a hint names, if it is of the same tenant and profile.
async fn hinted(engine: &Engine, asset: &Asset, key: &str) -> Result<Option<Asset>, EngineError> {
    let hint = match engine.store.get_object(key, MAX_HINT_BYTES).await {
        Ok(text) => serde_json::from_slice::<Hint>(&text).ok(),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => {
            tracing::warn!(asset = %asset.id, %error, "it is not known whether these bytes came before");
            None
        }
    };
    let Some(hint) = hint.filter(|hint| hint.asset != asset.id) else { return Ok(None) };
    let other = engine.assets.get(hint.asset).await?.map(|(other, _)| other);
    Ok(other.filter(|other| other.tenant == asset.tenant && other.profile == asset.profile))
}
