//! The same bytes again: what was made of them once for a tenant is published under the new asset as well, and nothing is
//! encoded. A hint in the store says which asset has them; only that asset's own record says whether it is still of use.

use bytes::Bytes;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys;
use reelmill_media::source::SourceRef;
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

/// Leaves a hint that a ready asset may serve for others. The newest one counts: it lives the longest.
pub async fn remember(store: &Store, asset: &Asset) -> Result<(), StoreError> {
    let Stage::Ready { source, .. } = &asset.stage else { return Ok(()) };
    // Profiles and ids always serialise.
    let (Ok(key), Ok(hint)) = (key(asset, *source), serde_json::to_vec(&Hint { asset: asset.id })) else {
        return Ok(());
    };
    store.put_object(&key, Bytes::from(hint)).await
}

/// Ends the upload of an asset by what was made before of the same bytes; `None` if nothing was, or if it is over already.
pub async fn reuse(engine: &Engine, id: AssetId, source: SourceRef) -> Result<Option<Asset>, EngineError> {
    let found = engine.assets.get(id).await?.filter(|(asset, _)| asset.stage == Stage::Uploading);
    let Some((asset, _)) = found else { return Ok(None) };
    let Some(twin) = publish(engine, &asset, source).await? else { return Ok(None) };
    let renditions = twin.renditions.clone();
    let asset = engine.feed(id, Input::Reused { source, twin: Box::new(twin) }).await?;
    match asset.stage.name() {
        StageName::Ready => {
            if let Err(error) = remember(&engine.store, &asset).await {
                tracing::debug!(asset = %id, %error, "there is no hint yet that it may serve for others");
            }
        }
        // It was taken away meanwhile.
        StageName::Failed | StageName::Deleted => engine.publisher.withdraw(&asset, &renditions).await?,
        // Somebody else has begun to make it, and will write over what was published here.
        StageName::Uploading | StageName::Queued | StageName::Indexing | StageName::Processing => {}
    }
    Ok(Some(asset))
}

/// Publishes under this asset what was made before of the same bytes.
async fn publish(engine: &Engine, asset: &Asset, source: SourceRef) -> Result<Option<Twin>, EngineError> {
    let Ok(key) = key(asset, source) else { return Ok(None) };
    let hint = match engine.store.get_object(&key, MAX_HINT_BYTES).await {
        Ok(text) => serde_json::from_slice::<Hint>(&text).ok(),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => {
            tracing::warn!(asset = %asset.id, %error, "it is not known whether these bytes came before");
            None
        }
    };
    let Some(hint) = hint.filter(|hint| hint.asset != asset.id) else { return Ok(None) };
    let Some((other, _)) = engine.assets.get(hint.asset).await? else { return Ok(None) };
    let Stage::Ready { source: known, recipe, .. } = other.stage else { return Ok(None) };
    if known != source || other.tenant != asset.tenant || other.profile != asset.profile {
        return Ok(None);
    }
    if !engine.publisher.publish_again(other.id, asset).await? {
        return Ok(None);
    }
    Ok(Some(Twin { recipe, facts: other.facts, renditions: other.renditions }))
}
