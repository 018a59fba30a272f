//! Applies inputs to assets and does what the machine asks for.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_media::task::{Class, Task, TaskNumber, TaskOver, Work};
use reelmill_platform::bus::{Bus, BusError, Queued};
use reelmill_platform::kv::Bucket;
use reelmill_platform::purge::{Target, Tombstone};
use reelmill_platform::store::Store;
use reelmill_platform::topology::BucketName;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assets::{Applied, ApplyError, Assets};
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::outputs::OutputRecord;
use crate::plans::{PlanningError, Plans};
use crate::publish::{PublishError, Publisher};
use crate::quarantine::Quarantine;
use crate::schedule::INDEX_COST_MS;
use crate::state::{Asset, Effect, Input, Stage};
use crate::twins;
use crate::uploads::{self, FinishError, UploadRecord};

/// Tasks put in their queues at once: they start in the plan's order.
const PUBLISH_AT_ONCE: usize = 8;
/// Growing playlists are published again after so many times what the last time took: about a tenth of the time.
const PACE: u32 = 10;
/// But never later than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Times that a paced publishing is tried before it is left to the next report.
const PACED_TRIES: u32 = 5;

/// Why an input did not have its effects. The message comes again.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The record was not changed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Playlists were not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The plan is not to be had.
    #[error(transparent)]
    Plan(#[from] PlanningError),
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// An upload was not finished.
    #[error(transparent)]
    Finish(#[from] Box<FinishError>),
}

/// All that effects need. Cheap to clone. Holds no truth: any coordinator can go on where another ended.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Messages.
    pub bus: Bus,
    /// Blobs and playlists.
    pub store: Store,
    /// Records of assets.
    pub assets: Assets,
    /// Records of uploads.
    pub uploads: Bucket<UploadRecord>,
    /// What tasks made.
    pub outputs: Bucket<OutputRecord>,
    /// Plans.
    pub plans: Plans,
    /// Playlists.
    pub publisher: Publisher,
    /// Live workers.
    pub fleet: Fleet,
    /// Those of them that take no tasks.
    pub quarantine: Quarantine,
    /// Instruments.
    pub metrics: Metrics,
    /// Owns what runs beside the messages in hand.
    pub background: TaskTracker,
    /// Cancelled when the process drains.
    pub drain: CancellationToken,
    /// Assets with a paced publishing, and whether more was done since it began.
    paced: Paced,
}

type Paced = Arc<Mutex<HashMap<AssetId, bool>>>;

impl Engine {
    /// Opens the buckets. Failed tasks are tried again after `retry_after`; tenants in
    /// `told` are told what becomes of their assets. `background` owns what runs beside the messages in hand, until `drain`.
    pub async fn open(
        bus: Bus,
        store: Store,
        retry_after: SignedDuration,
        told: HashSet<TenantId>,
        metrics: Metrics,
        background: TaskTracker,
        drain: CancellationToken,
    ) -> Result<Engine, BusError> {
        let fleet = Fleet::default();
        let assets = Assets::open(&bus, store.clone(), retry_after, metrics.clone()).await?.telling(told);
        let outputs = bus.bucket(BucketName::Outputs).await?;
        let uploads = bus.bucket(BucketName::Uploads).await?;
        let quarantine = Quarantine::open(&bus, fleet.clone()).await?;
        let plans = Plans::new(store.clone());
        let publisher = Publisher::new(
            bus.clone(),
            store.clone(),
            assets.clone(),
            outputs.clone(),
            plans.clone(),
            metrics.clone(),
        );
        let paced = Paced::default();
        Ok(Engine {
            bus,
            store,
            assets,
            uploads,
            outputs,
            plans,
            publisher,
            fleet,
            quarantine,
            metrics,
            background,
            drain,
            paced,
        })
    }

    /// Applies an input and does what follows from it. On return all of it is durable, so that the message which
    /// brought the input may be forgotten.
    pub async fn feed(&self, id: AssetId, input: Input) -> Result<Asset, EngineError> {
        let Applied { asset, effects, changed, .. } = self.assets.apply(id, input).await?;
        if changed {
            tracing::debug!(asset = %id, stage = ?asset.stage.name(), ?effects, "changed");
        }
        self.perform(&asset, &effects).await?;
        Ok(asset)
    }

    /// Does what the machine asked for.
    pub async fn perform(&self, asset: &Asset, effects: &[Effect]) -> Result<(), EngineError> {
        // Withdrawing comes first: it would take the new attempt as well.
        for effect in effects {
            if let Effect::WithdrawTask { number } = effect {
                self.bus.withdraw_tasks(&asset.tenant, asset.id, Some(*number)).await?;
                self.over(asset, Some(*number)).await;
            }
        }
        let tasks = effects.iter().filter_map(|effect| match effect {
            Effect::PublishTask { number, epoch } => Some((*number, *epoch, false)),
            Effect::RaceTask { number, epoch } => Some((*number, *epoch, true)),
            Effect::Blame { .. }
            | Effect::CheckUpload
            | Effect::WithdrawTask { .. }
            | Effect::RenderPlaylists
            | Effect::RenderCaptions
            | Effect::WithdrawCaptions { .. }
            | Effect::Retract
            | Effect::Close
            | Effect::Forget => None,
        });
        stream::iter(tasks.collect::<Vec<_>>())
            .map(|(number, epoch, race)| self.publish_task(asset, number, epoch, race))
            .buffered(PUBLISH_AT_ONCE)
            .try_collect::<()>()
            .await?;
        for effect in effects {
            match effect {
                Effect::WithdrawTask { .. } | Effect::PublishTask { .. } | Effect::RaceTask { .. } => {}
                Effect::Blame { worker, number } => self.quarantine.blame(*worker, asset.id, *number).await?,
                Effect::CheckUpload => self.check_upload(asset).await?,
                Effect::RenderPlaylists => self.render(asset).await?,
                Effect::RenderCaptions => drop(self.publisher.publish_anew(asset.id).await?),
                Effect::WithdrawCaptions { words } => {
                    self.publisher.withdraw_captions(asset.id, *words).await?;
                }
                Effect::Retract => self.retract(asset).await?,
                Effect::Close => {
                    self.tidy_up(asset).await?;
                    self.assets.apply(asset.id, Input::Closed).await?;
                }
                Effect::Forget => {
                    self.tidy_up(asset).await?;
                    self.assets.forget(asset).await?;
                }
            }
        }
        Ok(())
    }

    async fn retract(&self, asset: &Asset) -> Result<(), EngineError> {
        let deleted = matches!(asset.stage, Stage::Deleted { .. });
        if deleted {
            let target = Target::Asset { asset: asset.id, blobs: None };
            let reason = "deleted by its owner".to_owned();
            // One that stands already may take blobs with it.
            Tombstone { target, reason, at: Timestamp::now() }.publish_first(&self.bus).await?;
        }
        self.bus.withdraw_tasks(&asset.tenant, asset.id, None).await?;
        self.over(asset, None).await;
        self.publisher.publish(asset.id).await?;
        if deleted {
            self.assets.apply(asset.id, Input::Retracted).await?;
        }
        Ok(())
    }

    /// Tells whoever works on it in vain.
    async fn over(&self, asset: &Asset, number: Option<TaskNumber>) {
        let but = number.and_then(|number| asset.epoch(number));
        if let Err(error) = self.bus.publish_over(&TaskOver { asset: asset.id, number, but }).await {
            tracing::debug!(asset = %asset.id, %error, "workers were not told to stop");
        }
    }

    async fn tidy_up(&self, asset: &Asset) -> Result<(), EngineError> {
        self.bus.withdraw_tasks(&asset.tenant, asset.id, None).await?;
        self.publisher.close(asset.id).await?;
        twins::remember(&self.store, asset).await.map_err(PublishError::from)?;
        if let Some(upload) = asset.upload.arrival.upload() {
            self.uploads.remove_all(&upload.to_string()).await?;
        }
        Ok(())
    }

    async fn check_upload(&self, asset: &Asset) -> Result<(), EngineError> {
        // Both feed the machine in turn.
        let looked = match asset.upload.arrival.upload() {
            Some(upload) => Box::pin(uploads::look_after(self, upload)).await,
            None => Box::pin(uploads::overlap::planned(self, asset)).await,
        };
        Ok(looked.map_err(Box::new)?)
    }

    async fn publish_task(
        &self,
        asset: &Asset,
        number: TaskNumber,
        epoch: u32,
        race: bool,
    ) -> Result<(), EngineError> {
        let Some(attempt) = asset.attempt(number).filter(|attempt| attempt.epoch == epoch) else {
            return Ok(());
        };
        let (source, recipe, work, class, cost_ms) = match (&asset.stage, number.position()) {
            (Stage::Indexing { source, .. } | Stage::Processing { source, .. }, None) => {
                (source, None, Work::Index, Class::Publish, INDEX_COST_MS)
            }
            (Stage::Processing { source, job }, Some(position)) => {
                let plan = self.plans.get(job.recipe.plan).await?;
                let Some(task) = plan.tasks.get(position as usize) else { return Ok(()) };
                (source, Some(job.recipe), task.work.clone(), job.class_of(position), task.cost_ms)
            }
            (
                Stage::Uploading
                | Stage::Queued { .. }
                | Stage::Indexing { .. }
                | Stage::Ready { .. }
                | Stage::Failed { .. }
                | Stage::Deleted { .. },
                _,
            ) => return Ok(()),
        };
        let mut avoid: Vec<_> =
            attempt.failed_by.iter().chain(attempt.raced.iter().filter(|_| race)).copied().collect();
        // Nobody else is there: it is not to hand back again and again what it must do in the end.
        if !self.fleet.has_others_than(&avoid) {
            avoid.clear();
        }
        let task = Task {
            asset: asset.id,
            tenant: asset.tenant.clone(),
            number,
            epoch,
            // What another worker is late with goes first.
            class: if race { Class::Publish } else { class },
            source: *source,
            recipe,
            work,
            cost_ms,
            way: attempt.way,
            avoid,
            race,
        };
        match self.bus.publish_task(&task).await? {
            Queued::New => self.metrics.task_published(task.class),
            Queued::Already => {}
        }
        Ok(())
    }

    /// What somebody waits for is published at once; growth comes at a pace that the store can bear.
    async fn render(&self, asset: &Asset) -> Result<(), EngineError> {
        if asset.is_behind_another() {
            return Ok(());
        }
        let waited_for = match &asset.stage {
            Stage::Processing { job, .. } => asset.timings.playable_at.is_none() || job.is_done(),
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => true,
        };
        if waited_for {
            self.publisher.publish(asset.id).await?;
            return Ok(());
        }
        match self.paced.lock().unwrap_or_else(PoisonError::into_inner).entry(asset.id) {
            Entry::Occupied(mut more) => {
                more.insert(true);
            }
            Entry::Vacant(new) => {
                new.insert(false);
                self.background.spawn(self.clone().publish_paced(asset.id));
            }
        }
        Ok(())
    }

    async fn publish_paced(self, id: AssetId) {
        let mut failures = 0;
        loop {
            let pause = match self.publisher.publish(id).await {
                Ok(took) => {
                    failures = 0;
                    (took * PACE).min(LONGEST_PAUSE)
                }
                Err(error) => {
                    tracing::warn!(asset = %id, %error, "cannot publish the growth of playlists");
                    failures += 1;
                    LONGEST_PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.drain.cancelled() => {}
            }
            let mut paced = self.paced.lock().unwrap_or_else(PoisonError::into_inner);
            let again = paced.get(&id).copied().unwrap_or(false) || (1..PACED_TRIES).contains(&failures);
            if !again || (failures > 0 && self.drain.is_cancelled()) || failures >= PACED_TRIES {
                paced.remove(&id);
                return;
            }
            paced.insert(id, false);
        }
    }

    /// Whether an asset can still take this upload's bytes.
    pub async fn takes_bytes(&self, id: AssetId) -> Result<bool, BusError> {
        let found = self.assets.get(id).await?;
        Ok(found.is_some_and(|(asset, _)| asset.is_receiving()))
    }
}
