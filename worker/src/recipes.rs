//! Indexes and plans, fetched once per asset rather than once per chunk.

use std::sync::Arc;

use moka::future::Cache;
use moka::policy::EvictionPolicy;
use reelmill_media::ids::BlobHash;
use reelmill_media::index::{Sample, SourceIndex};
use reelmill_media::keys::BlobKind;
use reelmill_media::plan::{Plan, PlannedTask};
use reelmill_media::task::{Failure, FailureCode, Recipe};
use reelmill_platform::store::{Store, StoreError};
use serde::de::DeserializeOwned;

use crate::outage;

/// Memory of recipes that are kept, in bytes: those of two hours take 22 MiB, and an asset has a new one each time that more of it
/// has come in.
const KEPT_BYTES: u64 = 64 << 20;

/// Why a recipe cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecipeError {
    /// The store did not give it.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// It was written by another version.
    #[error("record {0} cannot be read by this version")]
    Unreadable(BlobHash),
}

impl RecipeError {
    /// The failure of a task that needs it.
    pub fn failure(&self) -> Failure {
        match self {
            RecipeError::Store(error) => outage::failure(error),
            RecipeError::Unreadable(_) => Failure { code: FailureCode::Internal, reason: self.to_string() },
        }
    }
}

/// Index and plan of one asset.
#[derive(Debug)]
pub struct Opened {
    /// The index.
    pub index: SourceIndex,
    /// The plan.
    pub plan: Plan,
}

impl Opened {
    /// About what it takes in memory, in bytes: next to the lists of samples and of tasks all else is small. What is longer than
    /// what may be kept is kept alone, or each of its tasks would fetch it anew.
    fn weight(&self) -> u32 {
        let SourceIndex { video, audio, .. } = &self.index;
        let pictures = video.as_ref().map_or(0, |video| video.samples.len());
        let sounds: usize = audio.iter().map(|audio| audio.samples.len()).sum();
        let bytes =
            (pictures + sounds) * size_of::<Sample>() + self.plan.tasks.len() * size_of::<PlannedTask>();
        bytes.min(KEPT_BYTES as usize) as u32
    }
}

/// The cache. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recipes {
    store: Store,
    cache: Cache<Recipe, Arc<Opened>>,
}

impl Recipes {
    /// An empty cache over `store`.
    pub fn new(store: Store) -> Self {
        let weigh = |_: &Recipe, opened: &Arc<Opened>| opened.weight();
        let cache = Cache::builder().max_capacity(KEPT_BYTES).weigher(weigh);
        // An asset's last recipe is the one that its next tasks have, however often the one before was asked for.
        Self { store, cache: cache.eviction_policy(EvictionPolicy::lru()).build() }
    }

    /// Fetches and decodes, unless it is here.
    pub async fn open(&self, recipe: Recipe) -> Result<Arc<Opened>, RecipeError> {
        // Both: sources that differ only in their bytes share a plan.
        let opened = self.cache.try_get_with(recipe, async {
            let (index, plan) = (self.record(recipe.index).await?, self.record(recipe.plan).await?);
            Ok::<_, RecipeError>(Arc::new(Opened { index, plan }))
        });
        opened.await.map_err(|e: Arc<RecipeError>| (*e).clone())
    }

    async fn record<T: DeserializeOwned>(&self, hash: BlobHash) -> Result<T, RecipeError> {
        let blob = self.store.get_blob(BlobKind::Record, hash).await;
        let blob = blob.map_err(|e| RecipeError::Store(Arc::new(e)))?;
        postcard::from_bytes(blob.bytes()).map_err(|_| RecipeError::Unreadable(hash))
    }
}
