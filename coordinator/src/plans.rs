//! From an index to a plan, and plans kept at hand.

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use reelmill_media::ids::BlobHash;
use reelmill_media::index::SourceIndex;
use reelmill_media::keys::BlobKind;
use reelmill_media::plan::{MAX_TASKS, Plan, PlanError};
use reelmill_media::profile::Profile;
use reelmill_media::task::{Class, Failure, FailureCode, Recipe};
use reelmill_platform::store::{Store, StoreError};
use tokio::sync::Semaphore;

use crate::state::{PlanSummary, Planned, RenditionKind, SourceFacts, VideoFacts};

/// Memory for plans at hand, in bytes by a rough count.
const PLANS_BYTES: u64 = 128 << 20;
/// Indexes of long sources are large, so few are open at once.
const PLANNING_AT_ONCE: usize = 2;

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PlanningError {
    /// The source cannot be planned, or the index is unusable: an attempt has failed.
    #[error("{}", .0.reason)]
    Refused(Failure),
    /// The store failed: try again.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl From<StoreError> for PlanningError {
    fn from(error: StoreError) -> Self {
        PlanningError::Store(Arc::new(error))
    }
}

/// Makes and fetches plans. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Plans {
    store: Store,
    cache: Cache<BlobHash, Arc<Plan>>,
    planning: Arc<Semaphore>,
}

impl Plans {
    /// With nothing at hand.
    pub fn new(store: Store) -> Self {
        let cache =
            Cache::builder().max_capacity(PLANS_BYTES).weigher(|_, plan: &Arc<Plan>| weight(plan)).build();
        Self { store, cache, planning: Arc::new(Semaphore::new(PLANNING_AT_ONCE)) }
    }

    /// The stored plan.
    pub async fn get(&self, hash: BlobHash) -> Result<Arc<Plan>, PlanningError> {
        let fetched = self.cache.try_get_with(hash, async {
            let blob = self.store.get_blob(BlobKind::Record, hash).await?;
            postcard::from_bytes(blob.bytes())
                .map(Arc::new)
                .map_err(|e| refused(FailureCode::Internal, format!("plan {hash} cannot be read: {e}")))
        });
        fetched.await.map_err(|e: Arc<PlanningError>| (*e).clone())
    }

    /// Plans a source from its stored index for a fleet of `slots`, and stores the plan. The same index, profile and
    /// fleet give the same plan.
    pub async fn make(
        &self,
        index: BlobHash,
        profile: &Profile,
        slots: u32,
    ) -> Result<PlanSummary, PlanningError> {
        // Never closed, so there is always a permit in the end.
        let _permit = self.planning.acquire().await;
        let blob = match self.store.get_blob(BlobKind::Record, index).await {
            Err(error @ (StoreError::NotFound { .. } | StoreError::Corrupt(_))) => {
                return Err(refused(FailureCode::Internal, format!("the index is not usable: {error}")));
            }
            fetched => fetched?,
        };
        let profile = profile.clone();
        let planned = tokio::task::spawn_blocking(move || plan(blob.bytes(), &profile, slots)).await;
        // An index so strange that planning it panicked.
        let planned = planned.map_err(|_| refused(FailureCode::Internal, "planning broke off".to_owned()))?;
        let (plan, facts) = planned.map_err(PlanningError::Refused)?;
        let bytes = postcard::to_stdvec(&plan)
            .map_err(|e| refused(FailureCode::Internal, format!("the plan cannot be written: {e}")))?;
        let hash = self.store.put_blob(BlobKind::Record, Bytes::from(bytes)).await?;
        let summary = summary(Recipe { index, plan: hash }, &plan, facts);
        self.cache.insert(hash, Arc::new(plan)).await;
        Ok(summary)
    }
}

fn refused(code: FailureCode, reason: String) -> PlanningError {
    PlanningError::Refused(Failure { code, reason })
}

fn plan(index: &[u8], profile: &Profile, slots: u32) -> Result<(Plan, SourceFacts), Failure> {
    let unreadable = |e: postcard::Error| Failure {
        code: FailureCode::Internal,
        reason: format!("the index cannot be read: {e}"),
    };
    let index: SourceIndex = postcard::from_bytes(index).map_err(unreadable)?;
    let refuse = |error: PlanError| {
        let code = match error {
            PlanError::Nothing => FailureCode::NoTracks,
            PlanError::TooLong => FailureCode::TooLarge,
        };
        Failure { code, reason: error.to_string() }
    };
    let plan = Plan::new(&index, profile, slots).map_err(refuse)?;
    if plan.tasks.is_empty() || plan.tasks.len() > MAX_TASKS {
        let reason =
            format!("The video would take {} tasks; 1 to {MAX_TASKS} are possible.", plan.tasks.len());
        return Err(Failure { code: FailureCode::TooLarge, reason });
    }
    let video = index.video.zip(plan.video.as_ref()).map(|(track, video)| {
        let (width, height) = track.picture.display_size();
        let frame_rate = video.frame_rate.per_second() * f64::from(video.every);
        VideoFacts { codec: track.setup.codec, width, height, frame_rate }
    });
    let facts = SourceFacts {
        container: index.container,
        video,
        audio_codecs: index.audio.into_iter().map(|audio| audio.setup.codec).collect(),
        duration_micros: plan.duration_micros(),
    };
    Ok((plan, facts))
}

fn summary(recipe: Recipe, plan: &Plan, facts: SourceFacts) -> PlanSummary {
    let video = plan.ladder.video.iter().map(|rung| Planned {
        id: rung.id.clone(),
        kind: RenditionKind::Video { width: rung.width, height: rung.height },
        language: None,
        segments: plan.video.as_ref().map_or(0, |video| video.segments.len() as u32),
    });
    let audio = plan.audio.iter().map(|audio| Planned {
        id: audio.rung.id.clone(),
        kind: RenditionKind::Audio,
        language: audio.rung.language.clone(),
        segments: audio.segments.len() as u32,
    });
    let urgent = plan.tasks.iter().take_while(|task| task.class == Class::Publish);
    PlanSummary {
        recipe,
        tasks: plan.tasks.len() as u32,
        urgent: urgent.clone().count() as u32,
        cost_ms: plan.tasks.iter().map(|task| task.cost_ms).sum(),
        urgent_cost_ms: urgent.map(|task| task.cost_ms).sum(),
        facts,
        renditions: video.chain(audio).collect(),
    }
}

/// Bytes in memory, roughly.
fn weight(plan: &Plan) -> u32 {
    let rungs = plan.ladder.video.len();
    let pictures = plan.video.as_ref().map_or(0, |video| video.segments.len());
    let segments = pictures + plan.audio.iter().map(|audio| audio.segments.len()).sum::<usize>();
    u32::try_from(512 + segments * 32 + plan.tasks.len() * (96 + rungs * 32)).unwrap_or(u32::MAX)
}
