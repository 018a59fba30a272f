//! The right to feed the queues: one coordinator has it at a time. Two by accident are harmless, so that no clock needs to
//! be trusted: handing out is by compare-and-set, and the same task twice is refused by its subject.

use std::time::{Duration, Instant};

use reelmill_platform::bus::BusError;
use reelmill_platform::kv::{Bucket, Written};
use reelmill_platform::topology::LEASE_TTL;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Four tries before it is lost.
const RENEW_EVERY: Duration = Duration::from_millis(500);
/// Its key in the bucket of leases.
const KEY: &str = "feeder";

/// Who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// A number of the process's own.
    id: u64,
}

/// Tries to get and keep the lease until `stop`, says in `held` whether it has it, and gives it back in the end.
pub async fn keep(bucket: Bucket<Holder>, held: watch::Sender<bool>, stop: CancellationToken) {
    let me = Holder { id: rand::random() };
    let mut sure_until = Instant::now();
    while !stop.is_cancelled() {
        let asked = Instant::now();
        match tokio::time::timeout(LEASE_TTL, renew(&bucket, &me)).await {
            Ok(Ok(Renewed::Mine)) => sure_until = asked + LEASE_TTL,
            Ok(Ok(Renewed::Another)) => sure_until = asked,
            // The server may not be able to tell yet, or not answer: it is ours until it has run out.
            Ok(Ok(Renewed::Unclear)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease was not renewed"),
            Err(_) => tracing::debug!("the lease was not renewed in time"),
        }
        let mine = Instant::now() < sure_until;
        if held.send_if_modified(|held| std::mem::replace(held, mine) != mine) {
            tracing::info!(mine, "the right to feed the queues has changed hands");
        }
        tokio::select! {
            () = tokio::time::sleep(RENEW_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
    if held.send_replace(false)
        && let Err(error) = bucket.remove(KEY).await
    {
        tracing::debug!(%error, "the lease was not given back and runs out");
    }
}

enum Renewed {
    Mine,
    Another,
    Unclear,
}

async fn renew(bucket: &Bucket<Holder>, me: &Holder) -> Result<Renewed, BusError> {
    let written = match bucket.get(KEY).await? {
        None => bucket.create(KEY, me).await?,
        Some((holder, revision)) if holder == *me => bucket.update(KEY, me, revision).await?,
        Some(_) => return Ok(Renewed::Another),
    };
    Ok(match written {
        Written::Stored(_) => Renewed::Mine,
        Written::Conflict => Renewed::Unclear,
    })
}
