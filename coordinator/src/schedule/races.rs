//! Has others do what a worker is late with, or what nothing is heard of any more: whichever coordinator feeds the queues looks
//! for it. Which tasks these are says [`super::stragglers`].

use std::time::Duration;

use tokio::sync::watch;

use super::stragglers::{Fault, Straggler};
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
        if !engine.bus.is_connected() {
            catalog.is_deaf();
            continue;
        }
        let due = if *holds.borrow() { catalog.stragglers(engine.fleet.slots()) } else { Vec::new() };
        for Straggler { asset, number, epoch, worker, fault } in due {
            tracing::info!(%asset, task = number.0, epoch, %worker, ?fault, "another worker is to do a task too");
            let input = match fault {
                Fault::Slow => Input::Straggles { number, epoch, worker },
                Fault::Silent => Input::FallsSilent { number, epoch, worker },
            };
            engine.metrics.tasks_raced.inc();
            if let Err(error) = engine.feed(asset, input).await {
                tracing::warn!(%asset, %error, "a straggling task is not raced");
            }
        }
    }
}
