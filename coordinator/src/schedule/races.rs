//! Has stragglers raced: whichever coordinator feeds the queues looks for them. Which they are says
//! [`super::stragglers`].

use std::time::Duration;

use tokio::sync::watch;

use super::stragglers::Straggler;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::state::Input;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks as long as this process `holds` the right to feed, until it drains.
pub async fn run(engine: Engine, catalog: Catalog, holds: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = engine.drain.cancelled() => return,
        }
        let due = if *holds.borrow() { catalog.stragglers() } else { Vec::new() };
        for Straggler { asset, number, epoch, worker } in due {
            tracing::info!(%asset, task = number.0, epoch, %worker, "a task takes long; another worker does it too");
            engine.metrics.tasks_raced.inc();
            if let Err(error) = engine.feed(asset, Input::Straggles { number, epoch, worker }).await {
                tracing::warn!(%asset, %error, "a straggling task is not raced");
            }
        }
    }
}
