//! Says every few seconds that this worker lives, and hears whether it may work.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use rand::RngExt;
use reelmill_media::ids::WorkerId;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::workers::{SAY_EVERY, WorkerRecord};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::probe::ready::Encoders;

/// Who is asked together with all others answers within this.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Speaks for the worker until `stop` is cancelled; says in `quarantined` whether it is to take no tasks.
pub async fn run(
    bus: Bus,
    id: WorkerId,
    quarantined: watch::Sender<bool>,
    metrics: Metrics,
    encoders: Encoders,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let started_at = jiff::Timestamp::now();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let record = |quarantined: bool, gone: bool| WorkerRecord {
        id,
        host: host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: if quarantined { 0 } else { metrics.slots.get().try_into().unwrap_or(0) },
        busy: metrics.busy.get().try_into().unwrap_or(0),
        started_at,
        quarantined,
        gone,
        encoders: encoders.advertised(),
    };
    let mut told = pin!(bus.hear_quarantined(id).await?);
    let mut asked = pin!(bus.hear_who_lives().await?);
    let mut say_at = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(say_at) => {}
            Some(()) = asked.next() => {
                let soon = Instant::now() + ANSWER_WITHIN.mul_f64(rand::rng().random());
                say_at = say_at.min(soon);
                continue;
            }
            Some(now) = told.next() => {
                if !quarantined.send_if_modified(|before| std::mem::replace(before, now) != now) {
                    continue;
                }
                tracing::warn!(quarantined = now, "coordinators have decided about this worker");
                metrics.quarantined.set(i64::from(now));
            }
            () = stop.cancelled() => break,
        }
        let inside = *quarantined.borrow();
        let record = record(inside, false);
        if let Err(error) = bus.say_alive(&record).await {
            tracing::warn!(%error, "the fleet cannot be told that this worker lives");
        }
        // A fleet that started together does not speak in step.
        say_at = Instant::now() + SAY_EVERY.mul_f64(rand::rng().random_range(0.8..1.0));
    }
    let inside = *quarantined.borrow();
    if let Err(error) = bus.say_alive(&record(inside, true)).await {
        tracing::debug!(%error, "it takes a while until the fleet finds out that this worker is gone");
    }
    Ok(())
}
