//! Has others do what a worker is late with, or what nothing is heard of any more: whichever coordinator feeds the queues looks
//! for it. Which tasks these are says [`super::stragglers`].

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use reelmill_media::ids::WorkerId;
use tokio::sync::watch;

use super::stragglers::{Fault, Straggler};
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::state::Input;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Workers that are asked for in one look at most.
const ASKED_FOR: usize = 256;

/// Looks as long as this process `holds` the right to feed, until it drains.
pub async fn run(engine: Engine, catalog: Catalog, holds: watch::Receiver<bool>) {
    let mut connections = engine.bus.connections();
    let mut away = BTreeSet::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = engine.drain.cancelled() => return,
        }
        let reconnected = connections.has_changed().unwrap_or_default();
        connections.mark_unchanged();
        if reconnected || !engine.bus.is_connected() {
            catalog.is_deaf();
            continue;
        }
        if !*holds.borrow() {
            continue;
        }
        let seen_away = away_of(&engine, catalog.quiet(ASKED_FOR)).await;
        // Who is away twice running is not just connecting again.
        for worker in away.intersection(&seen_away) {
            catalog.is_gone(*worker);
            engine.fleet.forget(*worker);
        }
        away = seen_away;
        for straggler in catalog.stragglers(engine.fleet.slots()) {
            race(&engine, straggler).await;
        }
    }
}

/// Those whose connection does not stand now.
async fn away_of(engine: &Engine, quiet: Vec<WorkerId>) -> BTreeSet<WorkerId> {
    // One that has never said that it lives may not listen either.
    let known = quiet.into_iter().filter(|worker| engine.fleet.lives(*worker));
    let asked = known.map(|worker| async move { (!engine.bus.is_listening(worker).await).then_some(worker) });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn race(engine: &Engine, straggler: Straggler) {
    let Straggler { asset, number, epoch, worker, fault } = straggler;
    tracing::info!(%asset, task = number.0, epoch, %worker, ?fault, "another worker is to do a task too");
    let input = match fault {
        Fault::Slow => Input::Straggles { number, epoch, worker },
        Fault::Silent | Fault::Gone => Input::FallsSilent { number, epoch, worker },
    };
    engine.metrics.tasks_raced.inc();
    if let Err(error) = engine.feed(asset, input).await {
        tracing::warn!(%asset, %error, "a straggling task is not raced");
    }
}
