//! The sweeper: time passes for every asset that is not over, so that nothing lost can hang a job.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rand::RngExt;

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::state::{Asset, Input, handle};

/// Between two sweeps: jitter keeps coordinators from sweeping in step.
const SWEEP_EVERY_MS: std::ops::RangeInclusive<u64> = 8_000..=12_000;
/// Assets looked after at once.
const AT_ONCE: usize = 8;

/// Sweeps until the process drains.
pub async fn run(engine: Engine, catalog: Catalog) {
    loop {
        let pause = Duration::from_millis(rand::rng().random_range(SWEEP_EVERY_MS));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = engine.drain.cancelled() => return,
        }
        sweep(&engine, &catalog).await;
    }
}

/// Looks after every unfinished asset once.
async fn sweep(engine: &Engine, catalog: &Catalog) {
    let due = catalog.unfinished().into_iter().filter(|asset| is_due(engine, asset));
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
    let next = handle(asset.clone(), engine.assets.moment(), Input::Tick);
    !next.effects.is_empty() || next.asset != *asset
}
