//! The sweeper: time passes for every asset that is not over, so that nothing lost can hang a job.

use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use rand::RngExt;

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::state::{Asset, Input, handle};

/// Between two sweeps: jitter keeps coordinators from sweeping in step.
const SWEEP_EVERY_MS: RangeInclusive<u64> = 8_000..=12_000;
/// Between two looks for pauses that are over: a look reads the copy at hand only.
const RETRY_EVERY_MS: RangeInclusive<u64> = 150..=350;
/// Assets looked after at once.
const AT_ONCE: usize = 8;

/// Sweeps until the process drains.
pub async fn run(engine: Engine, catalog: Catalog) {
    every(SWEEP_EVERY_MS, &engine, &catalog, |asset| is_due(&engine, asset)).await;
}

/// Hands out tasks whose pause after a failed attempt is over, until the process drains.
pub async fn retry(engine: Engine, catalog: Catalog) {
    let is_over = |asset: &Asset| asset.retry_at().is_some_and(|at| at <= Timestamp::now());
    every(RETRY_EVERY_MS, &engine, &catalog, is_over).await;
}

async fn every(
    pauses_ms: RangeInclusive<u64>,
    engine: &Engine,
    catalog: &Catalog,
    is_due: impl Fn(&Asset) -> bool,
) {
    loop {
        let pause = Duration::from_millis(rand::rng().random_range(pauses_ms.clone()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = engine.drain.cancelled() => return,
        }
        sweep(engine, catalog, &is_due).await;
    }
}

/// Looks once after every unfinished asset for which it is time.
async fn sweep(engine: &Engine, catalog: &Catalog, is_due: impl Fn(&Asset) -> bool) {
    let due = catalog.unfinished().into_iter().filter(|asset| is_due(asset));
    stream::iter(due)
        .for_each_concurrent(AT_ONCE, async |asset| {
            if engine.drain.is_cancelled() {
                return;
            }
            if let Err(error) = engine.feed(asset.id, Input::Tick).await {
                tracing::warn!(asset = %asset.id, %error, "cannot look after an asset now");
            }
        })
        .await;
}

/// Whether time has any effect on it: asked of the copy at hand, so that a sweep of idle assets costs no reads.
fn is_due(engine: &Engine, asset: &Asset) -> bool {
    let next = handle(asset.clone(), engine.assets.moment(&asset.tenant), Input::Tick);
    !next.effects.is_empty() || next.asset != *asset
}
