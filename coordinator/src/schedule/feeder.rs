//! Feeds the queues: whichever coordinator holds the lease writes into records whose turn it is, and puts those tasks in
//! their queues. Order and amount come from [`super::Schedule`]; the truth is in the records.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use reelmill_media::ids::AssetId;
use reelmill_media::task::TaskNumber;
use reelmill_platform::kv::Bucket;
use reelmill_platform::topology::LEASE_TTL;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::lease::{self, Holder};
use super::races;
use crate::assets::Applied;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::state::{Asset, Effect, Input};

/// Records written at once.
const AT_ONCE: usize = 32;
/// Without news the queues are looked at this often: the fleet may have grown.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Tries to write whose turn it is, and to put in the queues what the record says, before the sweep is left to do it.
const TRIES: u32 = 5;
/// Pause before the next try, in milliseconds.
const TRY_AGAIN_MS: std::ops::RangeInclusive<u64> = 100..=300;
/// What was handed out so recently may not be in its queue when the one who did it has died.
const UNSURE_FOR: SignedDuration = SignedDuration::from_secs(4 * LEASE_TTL.as_secs() as i64);

/// Feeds whenever it is this process's turn, which `held` then says, until the process drains.
pub async fn run(engine: Engine, catalog: Catalog, leases: Bucket<Holder>, held: watch::Sender<bool>) {
    catalog.is_complete(&engine.drain).await;
    let holds = held.subscribe();
    let races = races::run(engine.clone(), catalog.clone(), holds.clone());
    tokio::join!(lease::keep(leases, held, engine.drain.clone()), races, feed(engine, catalog, holds));
}

async fn feed(engine: Engine, catalog: Catalog, mut holds: watch::Receiver<bool>) {
    let mut in_hand = JoinSet::new();
    let mut news = catalog.news();
    let mut sure = false;
    while !engine.drain.is_cancelled() {
        let holding = *holds.borrow_and_update();
        engine.metrics.feeding.set(i64::from(holding));
        if holding && !sure {
            make_sure(&engine, &catalog).await;
        }
        sure = holding;
        news.mark_unchanged();
        if holding {
            let free = AT_ONCE - in_hand.len().min(AT_ONCE);
            for (id, upto) in catalog.schedule(|schedule| schedule.round(engine.fleet.window(), free)) {
                in_hand.spawn(hand_out(engine.clone(), catalog.clone(), id, upto));
            }
        }
        tokio::select! {
            changed = holds.changed() => if changed.is_err() { break },
            _ = news.changed() => {}
            Some(_) = in_hand.join_next() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = engine.drain.cancelled() => {}
        }
    }
    while in_hand.join_next().await.is_some() {}
    engine.metrics.feeding.set(0);
}

async fn hand_out(engine: Engine, catalog: Catalog, id: AssetId, upto: TaskNumber) {
    for _ in 0..TRIES {
        match engine.assets.apply(id, Input::HandOut { upto }).await {
            Ok(Applied { asset, effects, changed, revision }) => {
                catalog.learn(&asset, revision);
                // It said so before: by a write whose answer was lost, or by one who may have died since.
                let effects = if changed { effects } else { unsure_of(&asset) };
                perform(&engine, &asset, &effects).await;
                break;
            }
            Err(error) => tracing::warn!(asset = %id, %error, "it was not written whose turn it is"),
        }
        pause(&engine).await;
    }
    catalog.schedule(|schedule| schedule.settle(id));
}

async fn perform(engine: &Engine, asset: &Asset, effects: &[Effect]) {
    for _ in 0..TRIES {
        match engine.perform(asset, effects).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(asset = %asset.id, %error, "tasks are not in their queues yet"),
        }
        pause(engine).await;
    }
}

async fn pause(engine: &Engine) {
    let pause = Duration::from_millis(rand::rng().random_range(TRY_AGAIN_MS));
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = engine.drain.cancelled() => {}
    }
}

/// Whoever fed before may have died between writing a record and putting its tasks in their queues.
async fn make_sure(engine: &Engine, catalog: &Catalog) {
    stream::iter(catalog.unfinished())
        .for_each_concurrent(AT_ONCE, async |asset| perform(engine, &asset, &unsure_of(&asset)).await)
        .await;
}

/// Puts in their queues again what was handed out lately.
fn unsure_of(asset: &Asset) -> Vec<Effect> {
    let unsure = Timestamp::now() - UNSURE_FOR;
    let attempts = asset.in_flight().iter();
    let unsure = attempts.filter(|attempt| attempt.not_before.is_none() && attempt.published_at > unsure);
    unsure.map(|attempt| Effect::PublishTask { number: attempt.number, epoch: attempt.epoch }).collect()
}
