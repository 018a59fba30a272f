//! A slot does one task after another: take, keep alive, do, report, acknowledge.
//!
//! The order at the end is what makes a death between any two lines harmless: results are stored, then reported, then
//! the task is acknowledged. A task that comes again is done again, with the same bytes and so the same names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reelmill_media::ids::WorkerId;
use reelmill_media::task::{Class, Outcome, Task, TaskProgress, TaskReport};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::queue::{Delivery, Lease, Queue};
use reelmill_platform::topology::KEEP_EVERY;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::child::{Child, Nursery};
use crate::metrics::Metrics;
use crate::perform::Kitchen;

/// How long an idle slot waits for urgent work before it looks for ordinary work again: what an ordinary task may lose.
const ORDINARY_EVERY: Duration = Duration::from_millis(300);

/// Pause after an error of the bus, so that an election of a leader is not met with a storm.
const BACK_OFF: Duration = Duration::from_millis(500);

/// Attempts to report a result before the task is left to come again.
const REPORTS: u32 = 10;

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
}

/// Works until `stop` is cancelled; then finishes within the grace or gives its task back.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) -> Result<(), BusError> {
    let urgent = worker.bus.tasks(Class::Publish).await?;
    let ordinary = worker.bus.tasks(Class::Ladder).await?;
    // Started ahead of need, so that a task never waits for a process to start.
    let mut child = None;
    while !stop.is_cancelled() {
        if child.is_none() {
            child =
                worker.nursery.start().inspect_err(|error| tracing::error!(%error, "no media process")).ok();
        }
        // Never dropped half-way: a message on its way to a pull that nobody awaits is lost for the whole ack wait.
        let delivery = take(&urgent, &ordinary).await;
        match (delivery, child.take()) {
            (Ok(Some(delivery)), Some(ready)) => worker.serve(delivery, ready, &stop).await,
            (Ok(Some(delivery)), None) => {
                let _ = delivery.lease.give_back(BACK_OFF).await;
                sleep(BACK_OFF).await;
            }
            (Ok(None), ready) => child = ready,
            (Err(error), ready) => {
                child = ready;
                tracing::warn!(%error, "no task could be taken");
                sleep(BACK_OFF).await;
            }
        }
    }
    Ok(())
}

/// Urgent work first. An idle slot waits on the urgent queue: of a job that has just been planned it must not take the
/// last tasks before the first.
async fn take(urgent: &Queue<Task>, ordinary: &Queue<Task>) -> Result<Option<Delivery<Task>>, BusError> {
    if let Some(delivery) = urgent.try_next().await? {
        return Ok(Some(delivery));
    }
    if let Some(delivery) = ordinary.try_next().await? {
        return Ok(Some(delivery));
    }
    urgent.next_within(ORDINARY_EVERY).await
}

impl Worker {
    async fn serve(&self, delivery: Delivery<Task>, child: Child, stop: &CancellationToken) {
        let Delivery { message: task, deliveries, lease } = delivery;
        tracing::info!(asset = %task.asset, task = task.number.0, epoch = task.epoch, deliveries, "task taken");
        self.metrics.busy.inc();
        let started = Instant::now();
        let outcome = tokio::select! {
            outcome = self.work(&task, child, &lease) => Some(outcome),
            () = async { stop.cancelled().await; sleep(self.grace).await } => None,
        };
        match outcome {
            Some(outcome) => {
                let seconds = started.elapsed().as_secs_f64();
                self.metrics.ended(&task, &outcome, seconds);
                if let Outcome::Failed(failure) = &outcome {
                    tracing::warn!(asset = %task.asset, task = task.number.0, code = ?failure.code, reason = failure.reason, "task failed");
                } else {
                    tracing::info!(asset = %task.asset, task = task.number.0, seconds, "task done");
                }
                self.report(&task, outcome, &lease).await;
            }
            None => {
                tracing::info!(asset = %task.asset, task = task.number.0, "task handed back");
                if let Err(error) = lease.give_back(Duration::ZERO).await {
                    tracing::warn!(%error, "the task comes again only after the ack wait");
                }
            }
        }
        self.metrics.busy.dec();
    }

    /// Does the task while telling the queue that it is alive and the world how far it is.
    async fn work(&self, task: &Task, child: Child, lease: &Lease) -> Outcome {
        let (tell, told) = watch::channel(0u16);
        let work = self.kitchen.perform(task, child, |permille| {
            tell.send_replace(permille);
        });
        tokio::select! {
            outcome = work => outcome,
            never = async { tokio::join!(keep_alive(lease), self.say_progress(task, told)).0 } => match never {},
        }
    }

    async fn say_progress(&self, task: &Task, mut told: watch::Receiver<u16>) {
        while told.changed().await.is_ok() {
            let permille = *told.borrow_and_update();
            let progress =
                TaskProgress { asset: task.asset, number: task.number, epoch: task.epoch, permille };
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
            let _ = timeout(BACK_OFF, lease.keep()).await;
            sleep(BACK_OFF).await;
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
