//! Indexes and plans, fetched once per asset rather than once per chunk.

use std::sync::Arc;

use moka::future::Cache;
use reelmill_media::ids::BlobHash;
use reelmill_media::index::SourceIndex;
use reelmill_media::keys::BlobKind;
use reelmill_media::plan::Plan;
use reelmill_media::task::{Failure, FailureCode, Recipe};
use reelmill_platform::store::{Store, StoreError};
use serde::de::DeserializeOwned;

use crate::outage;

/// Assets whose recipes are kept: a worker works on few at once.
const KEPT: u64 = 16;

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

/// The cache. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recipes {
    store: Store,
    cache: Cache<Recipe, Arc<Opened>>,
}

impl Recipes {
    /// An empty cache over `store`.
    pub fn new(store: Store) -> Self {
        Self { store, cache: Cache::new(KEPT) }
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
