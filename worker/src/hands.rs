//! How a free slot comes by its next task.
//!
//! It looks into the queues, the urgent one first. Where they are empty it waits for a hint that something came, of which the
//! server tells one waiting slot each, and looks by itself now and then, since hints may be lost and what comes again comes
//! without one. So ten thousand idle slots cost the server next to nothing, and none of them holds a place in a queue.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use rand::RngExt;
use reelmill_media::task::{Class, Task};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::queue::{Delivery, Queue};
use tokio::time::{Instant, sleep_until};

/// An idle slot looks by itself after this at first...
const LOOK_AFTER: Duration = Duration::from_millis(300);
/// ...and twice as long after each time that it found nothing, up to this.
const LOOK_AT_LEAST_AFTER: Duration = Duration::from_secs(5);
/// What a hint tells of may show in its queue a moment later.
const HINTED_WITHIN: Duration = Duration::from_millis(100);

/// A slot's hands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hands {
    bus: Bus,
    urgent: Queue<Task>,
    ordinary: Queue<Task>,
}

impl Hands {
    /// Over this bus.
    pub fn new(bus: Bus) -> Self {
        Self { urgent: bus.tasks(Class::Publish), ordinary: bus.tasks(Class::Ladder), bus }
    }

    /// The next task if there is one now.
    pub async fn look(&self) -> Result<Option<Delivery<Task>>, BusError> {
        for queue in [&self.urgent, &self.ordinary] {
            if let Some(delivery) = queue.try_next().await? {
                return self.take(delivery).await.map(Some);
            }
        }
        Ok(None)
    }

    /// The next task, waiting for it `until` something else happens.
    pub async fn wait(&self, until: impl Future<Output = ()>) -> Result<Option<Delivery<Task>>, BusError> {
        let mut until = pin!(until);
        let mut hints = self.bus.hear_ready().await?;
        let mut patience = LOOK_AFTER;
        loop {
            // Also the first time: what came before the hints were listened to came without one.
            if let Some(delivery) = self.look().await? {
                self.pass_on(&mut hints).await?;
                return Ok(Some(delivery));
            }
            let look_at = Instant::now() + patience.mul_f64(rand::rng().random_range(0.5..1.0));
            patience = (patience * 2).min(LOOK_AT_LEAST_AFTER);
            loop {
                // Nothing of this is a pull, which must not be dropped half-way.
                let class = tokio::select! {
                    hint = hints.next() => hint,
                    () = sleep_until(look_at) => break,
                    () = &mut until => return self.pass_on(&mut hints).await.map(|()| None),
                };
                let Some(class) = class else { return Ok(None) };
                if let Some(delivery) = self.queue(class).next_within(HINTED_WITHIN).await? {
                    let delivery = self.take(delivery).await?;
                    self.pass_on(&mut hints).await?;
                    return Ok(Some(delivery));
                }
            }
        }
    }

    const fn queue(&self, class: Class) -> &Queue<Task> {
        match class {
            Class::Publish => &self.urgent,
            Class::Ladder => &self.ordinary,
        }
    }

    /// Where more waits, the next slot is told: so no lost hint leaves work lying beside an idle slot for long.
    async fn take(&self, delivery: Delivery<Task>) -> Result<Delivery<Task>, BusError> {
        if delivery.behind > 0 {
            self.bus.say_ready(delivery.message.class).await?;
        }
        Ok(delivery)
    }

    /// Hints that came while this slot found a task are for another.
    async fn pass_on(&self, hints: &mut (impl Stream<Item = Class> + Unpin)) -> Result<(), BusError> {
        while let Some(Some(class)) = hints.next().now_or_never() {
            self.bus.say_ready(class).await?;
        }
        Ok(())
    }
}
