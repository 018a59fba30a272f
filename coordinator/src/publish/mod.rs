//! Publishing: from committed outputs to playlists in the object store.
//!
//! Media playlists and the storyboard first, then the multivariant one, then the typed description: each text names
//! only what is stored before it. After writing, the record is read again: whoever wrote an older text than the record
//! now allows writes again, so that the last text is never an old one.

mod edition;
mod texts;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use moka::future::Cache;
use reelmill_media::captions::Captions;
use reelmill_media::gathered::{Gathered, Misfit};
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys;
use reelmill_media::plan::Plan;
use reelmill_media::presentation::{Edition, Past, Storyboard};
use reelmill_media::task::{Recipe, TaskNumber};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::Bucket;
use reelmill_platform::store::{Store, StoreError};
use tokio::sync::Mutex;

use crate::assets::{ApplyError, Assets};
use crate::metrics::Metrics;
use crate::outputs::{self, OutputRecord};
use crate::plans::{PlanningError, Plans};
use crate::state::{Asset, DoneSet, Input, Stage};
use crate::storyboard::Storyboards;
use crate::twins;

/// Assets whose outputs are kept at hand.
const ACTIVE_ASSETS: u64 = 256;
/// An asset that nobody reports on for so long is dropped from memory.
const ACTIVE_FOR: Duration = Duration::from_secs(600);
/// A typed description is no longer than this, in bytes.
pub(crate) const MAX_PRESENTATION_BYTES: u64 = 256 << 20;
/// Outputs read, or playlists written, at once.
const PARALLEL: usize = 16;

/// Why playlists were not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no such asset.
    #[error("there is no asset {0}")]
    Unknown(AssetId),
    /// A task is done, but its output is not there.
    #[error("output {0} is done but not there")]
    OutputMissing(String),
    /// Committed outputs do not fit together.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The plan is not to be had.
    #[error(transparent)]
    Plan(#[from] PlanningError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record was not changed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The description cannot be written.
    #[error("the presentation cannot be written: {0}")]
    Encode(#[from] serde_json::Error),
}

/// Publishes assets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    bus: Bus,
    store: Store,
    assets: Assets,
    outputs: Bucket<OutputRecord>,
    plans: Plans,
    storyboards: Storyboards,
    active: Cache<AssetId, Arc<Active>>,
    metrics: Metrics,
}

/// An asset that is being published. Forgetting it loses nothing.
#[derive(Debug, Default)]
struct Active {
    /// Calls so far: one rendering serves all that came before it began.
    asked: AtomicU64,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    /// Calls that are served.
    served: u64,
    /// Of which of the asset's jobs the rest speaks, as [`Asset::fence`] has it.
    fence: u32,
    known: DoneSet,
    gathered: Gathered,
    /// Drawn once all is there.
    storyboard: Option<Storyboard>,
    /// The editions before this one that are still there.
    past: Vec<Past>,
    /// What this process last wrote, by key.
    written: HashMap<String, BlobHash>,
}

/// What may be published of an asset at this moment.
enum Allowed {
    Nothing,
    /// What viewers have, with the captions that it has now.
    Captions,
    Done {
        recipe: Recipe,
        done: DoneSet,
    },
    /// It failed or was deleted: what is there must go.
    Gone,
}

impl Publisher {
    /// Over open buckets.
    pub fn new(
        bus: Bus,
        store: Store,
        assets: Assets,
        outputs: Bucket<OutputRecord>,
        plans: Plans,
        metrics: Metrics,
    ) -> Self {
        let active = Cache::builder().max_capacity(ACTIVE_ASSETS).time_to_idle(ACTIVE_FOR).build();
        let storyboards = Storyboards::new(store.clone());
        Self { bus, store, assets, outputs, plans, storyboards, active, metrics }
    }

    /// Publishes what is done now. On return everything that was done at the call is published; calls that come
    /// meanwhile share the next rendering. Says how long the rendering took.
    pub async fn publish(&self, id: AssetId) -> Result<Duration, PublishError> {
        let active = self.active.get_with(id, async { Arc::default() }).await;
        let ticket = active.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut turn = active.turn.lock().await;
        if turn.served >= ticket {
            return Ok(Duration::ZERO);
        }
        let serves = active.asked.load(Ordering::Relaxed);
        let started = Instant::now();
        self.render_until_current(id, &mut turn).await?;
        turn.served = serves;
        let took = started.elapsed();
        self.metrics.rendered(took);
        Ok(took)
    }

    /// The same after a change that is no growth: what this process wrote before, others may have replaced since.
    pub async fn publish_anew(&self, id: AssetId) -> Result<Duration, PublishError> {
        let active = self.active.get_with(id, async { Arc::default() }).await;
        active.turn.lock().await.written.clear();
        self.publish(id).await
    }

    /// Takes the playlist of captions away that the asset has no more.
    pub async fn withdraw_captions(&self, id: AssetId, captions: BlobHash) -> Result<(), PublishError> {
        self.store.delete_object(&keys::captions_playlist(id, &captions)).await?;
        // Somebody may have brought the same captions again meanwhile.
        if self.read(id).await?.captions.iter().any(|there| there.hash == captions) {
            self.publish_anew(id).await?;
        }
        Ok(())
    }

    /// Makes sure of what is published of an asset that ended, whatever others wrote last, and forgets its outputs.
    pub async fn close(&self, id: AssetId) -> Result<(), PublishError> {
        let active = self.active.get_with(id, async { Arc::default() }).await;
        let mut turn = active.turn.lock().await;
        turn.written.clear();
        // Before the record is read: what another edition makes comes after.
        let seen = self.outputs.now().await?;
        if !self.read(id).await?.stage.name().is_final() {
            return Ok(());
        }
        self.render_until_current(id, &mut turn).await?;
        self.outputs.remove_all_seen(&format!("{id}.*"), seen).await?;
        drop(turn);
        self.active.invalidate(&id).await;
        Ok(())
    }

    async fn render_until_current(&self, id: AssetId, turn: &mut Turn) -> Result<(), PublishError> {
        let mut asset = self.read(id).await?;
        // Ends: each further round means that a task was done meanwhile, and tasks are finite.
        loop {
            if turn.fence != asset.fence {
                *turn = Turn { served: turn.served, fence: asset.fence, ..Turn::default() };
            }
            let written = match self.allowed(&asset).await? {
                Allowed::Nothing => return Ok(()),
                Allowed::Gone => return self.retract(&asset, turn).await,
                Allowed::Captions => self.write_captions(&asset, turn).await?,
                Allowed::Done { recipe, done } => {
                    let plan = self.plans.get(recipe.plan).await?;
                    match (self.gather(id, &done, turn).await, &asset.stage) {
                        (Ok(()), _) => self.write(&asset, &plan, turn).await?,
                        // They were forgotten when the playlists were sure.
                        (Err(PublishError::OutputMissing(_)), Stage::Ready { .. }) => {
                            self.write_captions(&asset, turn).await?
                        }
                        (Err(error), _) => return Err(error),
                    }
                }
            };
            let now = self.read(id).await?;
            if shown(&now) == shown(&asset) {
                return self.tell(&now, written).await;
            }
            asset = now;
        }
    }

    async fn read(&self, id: AssetId) -> Result<Asset, PublishError> {
        let found = self.assets.get(id).await?;
        found.map(|(asset, _)| asset).ok_or(PublishError::Unknown(id))
    }

    async fn allowed(&self, asset: &Asset) -> Result<Allowed, PublishError> {
        Ok(match &asset.stage {
            Stage::Queued { .. } | Stage::Indexing { .. } | Stage::Processing { .. }
                if asset.is_behind_another() =>
            {
                Allowed::Captions
            }
            // A job that was given up leaves its renditions, which must go.
            Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. }
                if asset.renditions.is_empty() =>
            {
                Allowed::Nothing
            }
            Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. } => Allowed::Gone,
            Stage::Processing { job, .. } => Allowed::Done { recipe: job.recipe, done: job.done.clone() },
            Stage::Ready { closed: true, .. } => Allowed::Nothing,
            Stage::Ready { recipe, closed: false, .. } => {
                let plan = self.plans.get(recipe.plan).await?;
                Allowed::Done { recipe: *recipe, done: DoneSet::all(plan.tasks.len() as u32) }
            }
            Stage::Failed { .. } | Stage::Deleted { .. } => Allowed::Gone,
        })
    }

    /// Adds the outputs that are done and not known yet.
    async fn gather(&self, id: AssetId, done: &DoneSet, turn: &mut Turn) -> Result<(), PublishError> {
        let fence = turn.fence;
        let missing: Vec<u32> = done.positions().filter(|p| !turn.known.contains(*p)).collect();
        let mut found = stream::iter(missing)
            .map(|position| async move {
                let key = outputs::key(id, TaskNumber::planned(position));
                match self.outputs.get(&key).await? {
                    Some((record, _)) if record.epoch > fence => Ok((position, record)),
                    // Of a job that counts no more.
                    Some(_) | None => Err(PublishError::OutputMissing(key)),
                }
            })
            .buffer_unordered(PARALLEL);
        while let Some((position, record)) = found.try_next().await? {
            turn.gathered.add(&record.outputs, &record.images)?;
            turn.known.insert(position);
        }
        Ok(())
    }

    /// Writes the texts that differ from what was last written. Says whether they play, and whether nothing is missing.
    async fn write(&self, asset: &Asset, plan: &Plan, turn: &mut Turn) -> Result<Shown, PublishError> {
        let mut presentation = turn.gathered.presentation(asset.id, plan);
        if presentation.complete && turn.storyboard.is_none() {
            turn.storyboard = self.draw(asset.id, &presentation).await?;
        }
        presentation.storyboard = turn.storyboard.clone();
        // Their playlists say how long the presentation is, and never say it otherwise.
        if !asset.stage.grows() {
            presentation.captions.clone_from(&asset.captions);
        }
        presentation.edition = asset.edition;
        let shown = Shown { playable: presentation.is_playable(plan), complete: presentation.complete };
        let others_wrote = asset.timings.playable_at.is_some() && turn.written.is_empty();
        if (others_wrote || asset.standing.is_some())
            && let Some(standing) = self.standing(asset.id).await?
        {
            if edition::has_more(&standing, &presentation) {
                return Ok(Shown { playable: true, complete: false });
            }
            turn.past = self.put_aside(standing, asset.edition).await?;
        }
        presentation.past.clone_from(&turn.past);
        self.write_texts(&presentation, shown.playable, turn).await?;
        Ok(shown)
    }

    async fn tell(&self, asset: &Asset, Shown { playable, complete }: Shown) -> Result<(), PublishError> {
        let in_work = matches!(asset.stage, Stage::Processing { .. });
        if in_work && (complete || (playable && asset.timings.playable_at.is_none())) {
            let told = self.assets.apply(asset.id, Input::Published { playable, complete }).await?;
            if let Err(error) = twins::remember(&self.store, &told.asset).await {
                // Said again when it is closed.
                tracing::debug!(asset = %asset.id, %error, "there is no hint yet that it may serve for others");
            }
        }
        Ok(())
    }

    /// Takes the playlists of an asset that failed or was deleted away, the one that players start with first.
    async fn retract(&self, asset: &Asset, turn: &mut Turn) -> Result<(), PublishError> {
        turn.written.clear();
        if asset.renditions.is_empty() && asset.standing.is_none() {
            return Ok(());
        }
        self.withdraw(asset.id).await
    }
}

/// What was published.
#[derive(Debug, Clone, Copy)]
struct Shown {
    playable: bool,
    complete: bool,
}

/// What decides the texts: the same for two records means the same texts.
fn shown(asset: &Asset) -> (bool, Edition, u32, &[Captions]) {
    let (gone, done) = match &asset.stage {
        Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. } => (false, 0),
        Stage::Processing { .. } if asset.is_behind_another() => (false, 0),
        Stage::Processing { job, .. } => (false, job.done.len()),
        Stage::Ready { .. } => (false, u32::MAX),
        Stage::Failed { .. } | Stage::Deleted { .. } => (true, 0),
    };
    (gone, asset.shown_edition(), done, &asset.captions)
}
