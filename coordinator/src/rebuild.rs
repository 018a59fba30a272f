//! Makes NATS anew from the store, where blobs, playlists and a record of each asset lie. What was whole is there again at
//! once; what all bytes had come of is made again, and viewers keep what was published of it; uploads that were under way
//! are lost, and their owners are told. Can end anywhere and be done again, also while coordinators run.

use futures_util::StreamExt;
use jiff::Timestamp;
use reelmill_media::ids::AssetId;
use reelmill_media::keys;
use reelmill_media::task::{Failure, FailureCode};
use reelmill_platform::bus::Bus;
use reelmill_platform::store::{Store, StoreError};

use crate::archive::{Archive, ArchiveError};
use crate::assets::{ApplyError, Assets};
use crate::settings::{self, SettingsError};
use crate::state::{Asset, Input, Moment, Stage, StageName, Timings, handle};

/// Assets brought back at once.
const AT_ONCE: usize = 32;

/// Why not all was brought back.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// NATS did not take it.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Policies, profiles or takedowns were not brought back.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// What became of an asset that is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// NATS has it.
    There,
    /// It is as it was.
    Restored,
    /// It is made again.
    Queued,
    /// Not all of its bytes had come.
    Lost,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Assets that NATS had.
    pub there: u64,
    /// Assets that are as they were.
    pub restored: u64,
    /// Assets that are made again.
    pub queued: u64,
    /// Assets whose upload was under way.
    pub lost: Vec<AssetId>,
    /// Policies, profiles and takedowns.
    pub settings: u64,
}

/// Brings back what NATS does not have.
pub async fn rebuild(bus: &Bus, store: &Store, assets: &Assets) -> Result<Rebuilt, RebuildError> {
    // Before anything plays again: who may watch it, and what must not be shown.
    let mut rebuilt = Rebuilt { settings: settings::restore(bus, store).await?, ..Rebuilt::default() };
    let archive = assets.archive();
    let mut fates = archive
        .list()
        .map(async |id| {
            let id = id?;
            Ok::<_, RebuildError>((id, bring_back(store, archive, assets, id).await?))
        })
        .buffer_unordered(AT_ONCE)
        .boxed_local();
    while let Some(fate) = fates.next().await {
        match fate? {
            (_, Fate::There) => rebuilt.there += 1,
            (_, Fate::Restored) => rebuilt.restored += 1,
            (_, Fate::Queued) => rebuilt.queued += 1,
            (id, Fate::Lost) => rebuilt.lost.push(id),
        }
    }
    Ok(rebuilt)
}

async fn bring_back(
    store: &Store,
    archive: &Archive,
    assets: &Assets,
    id: AssetId,
) -> Result<Fate, RebuildError> {
    // Unless it was deleted since it was listed.
    let Some(kept) = archive.get(id).await? else { return Ok(Fate::There) };
    let published = match kept.stage.name() {
        StageName::Queued | StageName::Indexing | StageName::Processing => {
            store.modified(&keys::presentation(id)).await?
        }
        StageName::Uploading | StageName::Ready | StageName::Failed | StageName::Deleted => None,
    };
    let moment = assets.moment(&kept.tenant);
    let (asset, fate) = again(kept, published, moment);
    Ok(if assets.restore(&asset).await? { fate } else { Fate::There })
}

/// An asset as it begins in a NATS that knows nothing of it; something of it plays since `published`.
fn again(kept: Asset, published: Option<Timestamp>, moment: Moment) -> (Asset, Fate) {
    match kept.stage.clone() {
        Stage::Uploading => {
            let reason = "The upload was lost on our side. Send it again.".to_owned();
            let lost = Input::UploadFailed(Failure { code: FailureCode::Incomplete, reason });
            (handle(kept, moment, lost).asset, Fate::Lost)
        }
        Stage::Queued { source } | Stage::Indexing { source, .. } | Stage::Processing { source, .. } => {
            let timings = Timings { playable_at: published, ..kept.timings };
            let stage = Stage::Queued { source };
            let mut asset = Asset { stage, timings, renditions: Vec::new(), ..kept };
            asset.fence_off();
            if asset.standing.is_some() {
                // Of the edition before it something may be published.
                asset.renumber();
            }
            (asset, Fate::Queued)
        }
        Stage::Ready { source, recipe, .. } => {
            (Asset { stage: Stage::Ready { source, recipe, closed: true }, ..kept }, Fate::Restored)
        }
        Stage::Failed { failure, .. } => {
            (Asset { stage: Stage::Failed { failure, closed: true }, ..kept }, Fate::Restored)
        }
        Stage::Deleted { .. } => (kept, Fate::Restored),
    }
}
