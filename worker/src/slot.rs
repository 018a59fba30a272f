//! A slot does one task after another: take, keep alive, do, report, acknowledge. What it does not bring to its end it hands
//! back.
//!
//! The order at the end is what makes a death between any two lines harmless: results are stored, then reported, then
//! the task is acknowledged. A task that comes again is done again, with the same bytes and so the same names.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rand::RngExt;
use reelmill_media::ids::WorkerId;
use reelmill_media::task::{Failure, Outcome, Task, TaskProgress, TaskReport};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::queue::{Delivery, Lease};
use reelmill_platform::topology::KEEP_EVERY;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::child::{Child, Nursery};
use crate::hands::Hands;
use crate::metrics::Metrics;
use crate::perform::Kitchen;
use crate::seat::Seat;

/// Pause after an error of the bus, and twice as long after each one more, so that neither an election of a leader nor a server
/// that has just started is met with a storm.
const BACK_OFF: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(8);

/// The same after a task that failed for no fault of the source's, and twice as long after each one more: a worker at which
/// everything fails must not be the fastest of the fleet.
const REST: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(8);

/// Whoever works on a task says so this often, even when it gets no further.
const SAY_EVERY: Duration = Duration::from_secs(3);

/// A task that others had better do is left to them so many times.
const LEFT_TO_OTHERS: i64 = 4;
/// For so long at first, and twice as long each time.
const LEFT_FOR: Duration = Duration::from_millis(100);

/// Attempts to report a result before the task is left to come again.
const REPORTS: u32 = 10;
/// Between two of them.
const REPORT_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What all slots share.
#[derive(Debug)]
pub struct Worker {
    /// Who.
    pub id: WorkerId,
    /// The bus.
    pub bus: Bus,
    /// Everything a task works with.
    pub kitchen: Kitchen,
    /// Makes children.
    pub nursery: Nursery,
    /// Counters.
    pub metrics: Metrics,
    /// How long a task may go on once the worker drains.
    pub grace: Duration,
    /// Coordinators have it take no tasks.
    pub quarantined: watch::Receiver<bool>,
}

/// Why a task is not brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The worker drains, and the grace is over or too short.
    Drain,
    /// The worker is in quarantine.
    Quarantine,
    /// It was done elsewhere, or nobody wants it any more.
    Over,
}

impl Cut {
    /// For metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Cut::Drain | Cut::Quarantine => "handed_back",
            Cut::Over => "over",
        }
    }
}

/// Works until `stop` is cancelled; then finishes within the grace or gives its task back.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let hands = Hands::new(worker.bus.clone());
    let mut seat = Seat::new(worker.nursery.clone());
    let (mut rest, mut back_off) = (Duration::ZERO, Duration::ZERO);
    loop {
        tokio::select! {
            () = async { worker.freed().await; sleep(rest.max(back_off)).await } => {}
            () = stop.cancelled() => {}
        }
        if stop.is_cancelled() {
            return;
        }
        seat.prepare();
        match worker.take(&hands, &mut seat, &stop).await {
            Ok(None) => (rest, back_off) = (Duration::ZERO, Duration::ZERO),
            Ok(Some(delivery)) => {
                back_off = Duration::ZERO;
                let asset = delivery.message.asset;
                let left_for = worker.better_left_for(&delivery);
                let child = if left_for.is_none() { seat.take(asset) } else { None };
                if let Some(child) = child {
                    let (failed, child) = worker.serve(delivery, child, &stop).await;
                    seat.keep(asset, child);
                    rest = failed.map_or(Duration::ZERO, |_: FailedHere| longer(rest, &REST));
                } else {
                    rest = if left_for.is_none() { longer(rest, &REST) } else { Duration::ZERO };
                    // Unheard, it comes again after the ack wait.
                    let _ = delivery.lease.give_back(left_for.unwrap_or(rest)).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no task could be taken");
                back_off = longer(back_off, &BACK_OFF).mul_f64(rand::rng().random_range(0.75..1.0));
            }
        }
    }
}

/// Twice as long, within these bounds.
fn longer(pause: Duration, bounds: &RangeInclusive<Duration>) -> Duration {
    (pause * 2).clamp(*bounds.start(), *bounds.end())
}

/// A task failed for no fault of the source's.
struct FailedHere;

impl Worker {
    /// The next task; none when it is to take none any more.
    async fn take(
        &self,
        hands: &Hands,
        seat: &mut Seat,
        stop: &CancellationToken,
    ) -> Result<Option<Delivery<Task>>, BusError> {
        if let Some(delivery) = hands.look().await? {
            return Ok(Some(delivery));
        }
        seat.rest();
        let enough = async {
            tokio::select! {
                () = self.put_into_quarantine() => {}
                () = stop.cancelled() => {}
            }
        };
        hands.wait(enough).await
    }

    /// Waits until coordinators let it work.
    async fn freed(&self) {
        // Nobody is left to say anything only when the process ends.
        let _ = self.quarantined.clone().wait_for(|quarantined| !quarantined).await;
    }

    /// How long a task waits for somebody else, where that would be better.
    fn better_left_for(&self, delivery: &Delivery<Task>) -> Option<Duration> {
        let left = delivery.message.avoid.contains(&self.id) && delivery.deliveries <= LEFT_TO_OTHERS;
        left.then(|| LEFT_FOR * (1 << delivery.deliveries.clamp(0, LEFT_TO_OTHERS)))
    }

    /// The child comes back where it may do another task of the same asset.
    async fn serve(
        &self,
        delivery: Delivery<Task>,
        child: Child,
        stop: &CancellationToken,
    ) -> (Option<FailedHere>, Option<Child>) {
        let Delivery { message: task, deliveries, lease, behind: _ } = delivery;
        let Task { asset, number, epoch, way, race, .. } = &task;
        tracing::info!(%asset, task = number.0, epoch, ?way, race, deliveries, "task taken");
        self.metrics.busy.inc();
        let started = Instant::now();
        let (tell, told) = watch::channel(0u16);
        let ended = tokio::select! {
            done = self.work(&task, child, &lease, &tell) => Ok(done),
            () = self.drained(&task, started, told, stop) => Err(Cut::Drain),
            () = self.put_into_quarantine() => Err(Cut::Quarantine),
            () = self.over(&task) => Err(Cut::Over),
        };
        let result = match ended {
            Ok((outcome, child)) => {
                let seconds = started.elapsed().as_secs_f64();
                self.metrics.ended(&task, &outcome, seconds);
                let failed = match &outcome {
                    Outcome::Failed(failure) => {
                        let Failure { code, reason } = failure;
                        tracing::warn!(%asset, task = number.0, ?code, reason, "task failed");
                        code.is_retryable().then_some(FailedHere)
                    }
                    Outcome::Indexed { .. } | Outcome::Made { .. } | Outcome::Waiting { .. } => {
                        tracing::info!(%asset, task = number.0, seconds, "task done");
                        None
                    }
                };
                self.report(&task, outcome, &lease).await;
                (failed, child)
            }
            Err(cut) => {
                tracing::info!(%asset, task = number.0, ?cut, "task not brought to its end here");
                self.metrics.cut(&task, cut);
                let said = match cut {
                    Cut::Drain | Cut::Quarantine => lease.give_back(Duration::ZERO).await,
                    Cut::Over => lease.done().await,
                };
                if let Err(error) = said {
                    tracing::warn!(%error, "the task comes again only after the ack wait");
                }
                (None, None)
            }
        };
        self.metrics.busy.dec();
        result
    }

    /// Waits until the worker drains and the task's grace is over, or will not be enough.
    async fn drained(
        &self,
        task: &Task,
        started: Instant,
        told: watch::Receiver<u16>,
        stop: &CancellationToken,
    ) {
        stop.cancelled().await;
        if time_left(task.cost_ms, started.elapsed(), *told.borrow()) <= self.grace {
            sleep(self.grace).await;
        }
    }

    async fn put_into_quarantine(&self) {
        if self.quarantined.clone().wait_for(|quarantined| *quarantined).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until somebody says that the task is over.
    async fn over(&self, task: &Task) {
        match self.bus.subscribe_over(task.asset).await {
            Ok(said) => {
                let mut said = std::pin::pin!(said);
                while let Some(over) = said.next().await {
                    if over.concerns(task) {
                        return;
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "it will not be heard when this task is over"),
        }
        std::future::pending().await
    }

    /// Does the task while telling the queue that it is alive and the world how far it is.
    async fn work(
        &self,
        task: &Task,
        child: Child,
        lease: &Lease,
        tell: &watch::Sender<u16>,
    ) -> (Outcome, Option<Child>) {
        let work = self.kitchen.perform(task, child, |permille| {
            tell.send_replace(permille);
        });
        tokio::select! {
            done = work => done,
            never = async { tokio::join!(keep_alive(lease), self.say_progress(task, tell.subscribe())).0 } => match never {},
        }
    }

    async fn say_progress(&self, task: &Task, mut told: watch::Receiver<u16>) {
        let mut ticks = interval(SAY_EVERY);
        loop {
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                _ = ticks.tick() => {}
            }
            let permille = *told.borrow_and_update();
            let Task { asset, number, epoch, cost_ms, .. } = *task;
            let progress = TaskProgress { asset, number, epoch, permille, worker: Some(self.id), cost_ms };
            // A hint: nothing is lost with it.
            let _ = self.bus.publish_progress(&progress).await;
        }
    }

    async fn report(&self, task: &Task, outcome: Outcome, lease: &Lease) {
        let report = TaskReport {
            asset: task.asset,
            number: task.number,
            epoch: task.epoch,
            worker: self.id,
            outcome,
        };
        for attempt in 1..=REPORTS {
            match self.bus.publish_report(&report).await {
                Ok(_) => {
                    if let Err(error) = lease.done().await {
                        tracing::warn!(%error, "the task may come again");
                    }
                    return;
                }
                Err(error) => tracing::warn!(%error, attempt, "the result could not be reported"),
            }
            let _ = timeout(REPORT_AGAIN_AFTER, lease.keep()).await;
            sleep(REPORT_AGAIN_AFTER).await;
        }
        tracing::error!(asset = %task.asset, task = task.number.0, "result lost; the task comes again");
    }
}

async fn keep_alive(lease: &Lease) -> std::convert::Infallible {
    let mut ticks = interval(KEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = lease.keep().await {
            tracing::warn!(%error, "the task may be handed to another worker");
        }
    }
}

/// How much longer a task takes: by how far it is, or by its estimate before anything is known.
fn time_left(cost_ms: u64, elapsed: Duration, permille: u16) -> Duration {
    match u32::from(permille) {
        0 => Duration::from_millis(cost_ms).saturating_sub(elapsed),
        done => elapsed * 1000u32.saturating_sub(done) / done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_how_far_it_is() {
        let s = Duration::from_secs;
        assert_eq!(time_left(9000, s(4), 0), s(5));
        assert_eq!(time_left(9000, s(40), 0), s(0));
        assert_eq!(time_left(9000, s(4), 250), s(12));
        assert_eq!(time_left(9000, s(4), 1000), s(0));
    }
}
