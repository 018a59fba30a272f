//! From an index to a plan, and plans kept at hand.

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use reelmill_media::ids::BlobHash;
use reelmill_media::index::SourceIndex;
use reelmill_media::keys::BlobKind;
use reelmill_media::plan::{Extent, GrowthError, Inflow, MAX_TASKS, Plan, PlanError};
use reelmill_media::profile::Profile;
use reelmill_media::task::{Class, Failure, FailureCode, Recipe};
use reelmill_platform::store::{Store, StoreError};
use tokio::sync::Semaphore;

use crate::state::{Beginning, PlanSummary, Planned, RenditionKind, SourceFacts, VideoFacts};

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

/// What came of planning a source that may not be all there.
#[derive(Debug)]
pub enum Grown {
    /// It is planned as far as its index goes.
    Planned(Box<PlanSummary>),
    /// Too little of it is there; about so many bytes may be enough.
    TooShort {
        /// How many.
        upto: u64,
    },
    /// It is not what the plan before says.
    Differs,
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
        match self.grow(None, index, profile, Extent::Whole { slots }, None).await? {
            Grown::Planned(plan) => Ok(*plan),
            Grown::TooShort { .. } | Grown::Differs => {
                Err(refused(FailureCode::Internal, "a whole source was planned as a part".to_owned()))
            }
        }
    }

    /// The same of as much of the source as the index speaks of, which comes in like this; where there is a plan already, it
    /// goes on from that one.
    pub async fn grow(
        &self,
        before: Option<Recipe>,
        index: BlobHash,
        profile: &Profile,
        extent: Extent,
        inflow: Option<Inflow>,
    ) -> Result<Grown, PlanningError> {
        // Never closed, so there is always a permit in the end.
        let _permit = self.planning.acquire().await;
        let now = self.index(index).await?;
        let before = match before {
            Some(recipe) => Some((self.get(recipe.plan).await?, self.index(recipe.index).await?)),
            None => None,
        };
        let profile = profile.clone();
        let planned = tokio::task::spawn_blocking(move || {
            let now: SourceIndex = read(&now)?;
            let plan = match (before, extent) {
                (None, Extent::Whole { slots }) => {
                    Plan::arriving(&now, &profile, slots, inflow).map_err(GrowthError::from)
                }
                (None, Extent::Beginning { bytes }) => Plan::of_beginning(&now, &profile, bytes, inflow),
                (Some((plan, was)), extent) => plan.continued(&read(&was)?, &now, &profile, extent, inflow),
            };
            Ok((plan, now))
        });
        // An index so strange that planning it panicked.
        let planned =
            planned.await.map_err(|_| refused(FailureCode::Internal, "planning broke off".to_owned()))?;
        let (plan, now) = planned.map_err(PlanningError::Refused)?;
        let plan = match plan {
            Ok(plan) => plan,
            Err(GrowthError::TooShort { upto }) => return Ok(Grown::TooShort { upto }),
            Err(GrowthError::Differs) => return Ok(Grown::Differs),
            Err(GrowthError::Plan(error)) => {
                let code = match error {
                    PlanError::Nothing => FailureCode::NoTracks,
                    PlanError::TooLong => FailureCode::TooLarge,
                };
                return Err(refused(code, error.to_string()));
            }
        };
        if plan.tasks.is_empty() || plan.tasks.len() > MAX_TASKS {
            let reason =
                format!("The video would take {} tasks; 1 to {MAX_TASKS} are possible.", plan.tasks.len());
            return Err(refused(FailureCode::TooLarge, reason));
        }
        let facts = facts(now, &plan);
        let bytes = postcard::to_stdvec(&plan)
            .map_err(|e| refused(FailureCode::Internal, format!("the plan cannot be written: {e}")))?;
        let hash = self.store.put_blob(BlobKind::Record, Bytes::from(bytes)).await?;
        let growth = match extent {
            Extent::Whole { .. } => None,
            Extent::Beginning { bytes } => {
                Some(Beginning { bytes, goes_on_at: plan.goes_on_at(bytes, inflow) })
            }
        };
        let summary = PlanSummary { growth, ..summary(Recipe { index, plan: hash }, &plan, facts) };
        self.cache.insert(hash, Arc::new(plan)).await;
        Ok(Grown::Planned(Box::new(summary)))
    }

    async fn index(&self, hash: BlobHash) -> Result<Bytes, PlanningError> {
        match self.store.get_blob(BlobKind::Record, hash).await {
            Err(error @ (StoreError::NotFound { .. } | StoreError::Corrupt(_))) => {
                Err(refused(FailureCode::Internal, format!("the index is not usable: {error}")))
            }
            fetched => Ok(fetched?.bytes().clone()),
        }
    }
}

fn refused(code: FailureCode, reason: String) -> PlanningError {
    PlanningError::Refused(Failure { code, reason })
}

fn read(index: &[u8]) -> Result<SourceIndex, Failure> {
    postcard::from_bytes(index).map_err(|e| Failure {
        code: FailureCode::Internal,
        reason: format!("the index cannot be read: {e}"),
    })
}

fn facts(index: SourceIndex, plan: &Plan) -> SourceFacts {
    let video = index.video.zip(plan.video.as_ref()).map(|(track, video)| {
        let (width, height) = track.picture.display_size();
        let frame_rate = video.frame_rate.per_second() * f64::from(video.every);
        VideoFacts { codec: track.setup.codec, width, height, frame_rate }
    });
    SourceFacts {
        container: index.container,
        video,
        audio_codecs: index.audio.into_iter().map(|audio| audio.setup.codec).collect(),
        duration_micros: plan.duration_micros(),
    }
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
        growth: None,
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
