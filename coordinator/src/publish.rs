//! Publishing: from committed outputs to playlists in the object store.
//!
//! Media playlists and the storyboard first, then the multivariant one, then the typed description: each text names
//! only what is stored before it. After writing, the record is read again: whoever wrote an older text than the record
//! now allows writes again, so that the last text is never an old one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use moka::future::Cache;
use reelmill_media::captions::Captions;
use reelmill_media::gathered::{Gathered, Misfit};
use reelmill_media::hls;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys;
use reelmill_media::plan::Plan;
use reelmill_media::presentation::{Presentation, Storyboard, Track};
use reelmill_media::task::{Recipe, TaskNumber};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::Bucket;
use reelmill_platform::store::{Store, StoreError};
use tokio::sync::Mutex;

use crate::assets::{ApplyError, Assets};
use crate::metrics::Metrics;
use crate::outputs::{self, OutputRecord};
use crate::plans::{PlanningError, Plans};
use crate::state::{Asset, DoneSet, Input, Rendition, Stage};
use crate::storyboard::{StoryboardError, Storyboards};
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
    /// What this process last wrote, by key.
    written: HashMap<String, BlobHash>,
}

/// What may be published of an asset at this moment.
enum Allowed {
    Nothing,
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
        self.render_until_current(id, &mut turn).await?;
        self.outputs.remove_all(&format!("{id}.*")).await?;
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
            let playable = match self.allowed(&asset).await? {
                Allowed::Nothing => return Ok(()),
                Allowed::Gone => return self.retract(&asset, turn).await,
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
                return self.tell(&now, playable).await;
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
        let missing: Vec<u32> = done.positions().filter(|p| !turn.known.contains(*p)).collect();
        let mut found = stream::iter(missing)
            .map(|position| async move {
                let key = outputs::key(id, TaskNumber::planned(position));
                match self.outputs.get(&key).await? {
                    Some((record, _)) => Ok((position, record)),
                    None => Err(PublishError::OutputMissing(key)),
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
        presentation.captions.clone_from(&asset.captions);
        let shown = Shown { playable: presentation.is_playable(plan), complete: presentation.complete };
        let others_wrote = asset.timings.playable_at.is_some() && turn.written.is_empty();
        if others_wrote && self.would_shrink(&presentation).await? {
            return Ok(Shown { playable: true, complete: false });
        }
        self.write_texts(&presentation, shown.playable, turn).await?;
        Ok(shown)
    }

    /// Whether more is published than this: of a job that is done again because NATS was lost. Players keep what they
    /// have until as much is there.
    async fn would_shrink(&self, presentation: &Presentation) -> Result<bool, PublishError> {
        let key = keys::presentation(presentation.asset);
        let text = match self.store.get_object(&key, MAX_PRESENTATION_BYTES).await {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            text => text?,
        };
        let Ok(standing) = serde_json::from_slice::<Presentation>(&text) else { return Ok(false) };
        let has = |track: &Track| {
            presentation.tracks().any(|t| t.id == track.id && t.segments.len() >= track.segments.len())
        };
        Ok(!standing.tracks().all(has) || (standing.complete && !presentation.complete))
    }

    /// Writes what names captions, of an asset of which all else was published for good.
    async fn write_captions(&self, asset: &Asset, turn: &mut Turn) -> Result<Shown, PublishError> {
        if let Some(presentation) = self.published(asset.id).await? {
            let presentation = Presentation { captions: asset.captions.clone(), ..presentation };
            if self.write_index(&presentation, turn).await? {
                self.announce(asset.id).await;
            }
        }
        Ok(Shown { playable: true, complete: true })
    }

    /// Publishes under another asset what was made of the same bytes. Says whether there was anything whole.
    pub async fn publish_again(&self, from: AssetId, to: &Asset) -> Result<bool, PublishError> {
        let Some(presentation) = self.published(from).await? else { return Ok(false) };
        let presentation = Presentation { asset: to.id, captions: to.captions.clone(), ..presentation };
        let active = self.active.get_with(to.id, async { Arc::default() }).await;
        self.write_texts(&presentation, true, &mut *active.turn.lock().await).await?;
        Ok(true)
    }

    async fn write_texts(
        &self,
        presentation: &Presentation,
        playable: bool,
        turn: &mut Turn,
    ) -> Result<(), PublishError> {
        let id = presentation.asset;
        let target = presentation.target_duration;
        let media = presentation
            .tracks()
            .map(|track| (keys::media_playlist(id, &track.id), hls::media_playlist(track, target)));
        let iframes = presentation.video.iter().filter(|rendition| rendition.lowest).map(|rendition| {
            let track = &rendition.track;
            (keys::iframe_playlist(id, &track.id), hls::iframe_playlist(track, target))
        });
        let storyboard = hls::storyboard(presentation).map(|text| (keys::storyboard(id), text));
        let texts = media.chain(iframes).chain(storyboard).map(|(key, text)| (key, Bytes::from(text)));
        let mut changed = self.put_changed(turn, texts.collect()).await?;
        if playable {
            changed |= self.write_index(presentation, turn).await?;
        }
        if changed {
            self.announce(id).await;
        }
        Ok(())
    }

    /// Writes what leads to the media playlists. Says whether there was anything to write.
    async fn write_index(&self, presentation: &Presentation, turn: &mut Turn) -> Result<bool, PublishError> {
        let id = presentation.asset;
        let captions = presentation.captions.iter().map(|captions| {
            let text = hls::captions_playlist(captions, presentation.duration_micros);
            (keys::captions_playlist(id, &captions.hash), Bytes::from(text))
        });
        let index = Bytes::from(hls::multivariant_playlist(presentation));
        let described = Bytes::from(serde_json::to_vec::<Presentation>(presentation)?);
        let mut changed = self.put_changed(turn, captions.collect()).await?;
        changed |= self.put_changed(turn, vec![(keys::multivariant_playlist(id), index)]).await?;
        changed |= self.put_changed(turn, vec![(keys::presentation(id), described)]).await?;
        Ok(changed)
    }

    /// What is published of an asset whose every segment is there.
    async fn published(&self, id: AssetId) -> Result<Option<Presentation>, PublishError> {
        let text = match self.store.get_object(&keys::presentation(id), MAX_PRESENTATION_BYTES).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            text => text?,
        };
        let presentation = serde_json::from_slice::<Presentation>(&text).ok();
        Ok(presentation.filter(|presentation| presentation.asset == id && presentation.complete))
    }

    /// A presentation without a storyboard plays as well as one with it: only a failing store is worth another try.
    async fn draw(
        &self,
        id: AssetId,
        presentation: &Presentation,
    ) -> Result<Option<Storyboard>, PublishError> {
        match self.storyboards.draw(&presentation.thumbnails).await {
            Ok(drawn) => Ok(drawn),
            Err(
                error @ (StoryboardError::Store(
                    StoreError::NotFound { .. } | StoreError::Corrupt(_) | StoreError::TooLarge { .. },
                )
                | StoryboardError::Image(_)
                | StoryboardError::Size
                | StoryboardError::BrokeOff),
            ) => {
                tracing::warn!(asset = %id, %error, "there is no storyboard");
                Ok(None)
            }
            Err(StoryboardError::Store(error)) => Err(error.into()),
        }
    }

    /// Tells edges to look again; without that they do so a little later.
    async fn announce(&self, id: AssetId) {
        if let Err(error) = self.bus.publish_published(id).await {
            tracing::debug!(asset = %id, %error, "nobody was told of new playlists");
        }
    }

    /// Whether there was anything to write.
    async fn put_changed(&self, turn: &mut Turn, texts: Vec<(String, Bytes)>) -> Result<bool, PublishError> {
        let changed: Vec<(String, BlobHash, Bytes)> = texts
            .into_iter()
            .map(|(key, text)| (key, BlobHash::of(&text), text))
            .filter(|(key, hash, _)| turn.written.get(key) != Some(hash))
            .collect();
        let any = !changed.is_empty();
        // Until the store says otherwise it is unknown what lies there.
        for (key, _, _) in &changed {
            turn.written.remove(key);
        }
        let mut puts =
            stream::iter(changed)
                .map(|(key, hash, text)| async move {
                    self.store.put_object(&key, text).await.map(|()| (key, hash))
                })
                .buffer_unordered(PARALLEL);
        while let Some((key, hash)) = puts.try_next().await? {
            turn.written.insert(key, hash);
        }
        Ok(any)
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
        if asset.renditions.is_empty() {
            return Ok(());
        }
        self.withdraw(asset, &asset.renditions).await
    }

    /// Takes all texts about these renditions away.
    pub async fn withdraw(&self, asset: &Asset, renditions: &[Rendition]) -> Result<(), PublishError> {
        let id = asset.id;
        self.store.delete_object(&keys::multivariant_playlist(id)).await?;
        for rendition in renditions {
            let rendition = &rendition.planned.id;
            self.store.delete_object(&keys::media_playlist(id, rendition)).await?;
            self.store.delete_object(&keys::iframe_playlist(id, rendition)).await?;
        }
        for captions in &asset.captions {
            self.store.delete_object(&keys::captions_playlist(id, &captions.hash)).await?;
        }
        self.store.delete_object(&keys::storyboard(id)).await?;
        self.store.delete_object(&keys::presentation(id)).await?;
        self.announce(id).await;
        Ok(())
    }
}

/// What was published.
#[derive(Debug, Clone, Copy)]
struct Shown {
    playable: bool,
    complete: bool,
}

/// What decides the texts: the same for two records means the same texts.
fn shown(asset: &Asset) -> (bool, u32, &[Captions]) {
    let (gone, done) = match &asset.stage {
        Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. } => (false, 0),
        Stage::Processing { job, .. } => (false, job.done.len()),
        Stage::Ready { .. } => (false, u32::MAX),
        Stage::Failed { .. } | Stage::Deleted { .. } => (true, 0),
    };
    (gone, done, &asset.captions)
}
