//! Messages to coordinators: each is applied to its asset, its effects are made durable, then it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt;
use reelmill_media::ids::{AssetId, BlobHash, WorkerId};
use reelmill_media::plan::{Extent, Plan};
use reelmill_media::task::{Failure, FailureCode, Outcome, TaskNumber, TaskReport};
use reelmill_platform::bus::BusError;
use reelmill_platform::queue::{Delivery, Lease, Queue};
use reelmill_platform::topology::{KEEP_REPORT_EVERY, MaxDeliveries};
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;

use crate::assets::ApplyError;
use crate::engine::{Engine, EngineError};
use crate::outputs::{self, CommitError, OutputRecord};
use crate::plans::{Grown, PlanningError, Plans};
use crate::publish::PublishError;
use crate::state::{Input, Stage};

/// Messages in hand at once.
const MESSAGES_AT_ONCE: usize = 32;
/// How long a pull waits at the server: also how long a drain may wait for it.
const PULL_FOR: Duration = Duration::from_secs(5);
/// Pause after the server failed to hand out, at most.
const FAILED_PULL_PAUSE_MS: u64 = 1000;
/// A message that cannot be dealt with comes again after this at most.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Why a message was not dealt with.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Starts the loops that pull messages and the server's notes until `engine.drain`; `tasks` owns them.
pub fn start(engine: &Engine, tasks: &TaskTracker) {
    let reports = engine.bus.reports();
    let advisories = engine.bus.advisories();
    for _ in 0..MESSAGES_AT_ONCE {
        tasks.spawn(pull(reports.clone(), engine.clone(), take_report));
    }
    tasks.spawn(pull(advisories, engine.clone(), give_up));
}

async fn pull<T, F>(queue: Queue<T>, engine: Engine, deal: impl Fn(Engine, T) -> F)
where
    T: DeserializeOwned,
    F: Future<Output = Result<(), JobError>>,
{
    let stop = engine.drain.clone();
    while !stop.is_cancelled() {
        let next = tokio::select! {
            next = queue.next_within(PULL_FOR) => next,
            () = stop.cancelled() => return,
        };
        match next {
            Ok(Some(Delivery { message, deliveries, lease, behind: _ })) => {
                settle(&engine, &lease, deliveries, deal(engine.clone(), message)).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot pull");
                let pause = rand::rng().random_range(FAILED_PULL_PAUSE_MS / 4..=FAILED_PULL_PAUSE_MS);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

/// Works on a message, keeps it alive meanwhile, and says how it ended.
async fn settle(
    engine: &Engine,
    lease: &Lease,
    deliveries: i64,
    work: impl Future<Output = Result<(), JobError>>,
) {
    let result = keep_while(lease, work).await;
    let said = match result {
        Ok(()) => lease.done().await,
        Err(JobError::Engine(error)) if is_about_nothing(&error) => {
            tracing::warn!(%error, "dropped a message about an asset that is not there");
            lease.done().await
        }
        Err(error) => {
            let delay = delay(deliveries);
            tracing::warn!(%error, ?delay, "a message could not be dealt with and comes again");
            engine.metrics.messages_given_back.inc();
            lease.give_back(delay).await
        }
    };
    if let Err(error) = said {
        // It comes again after the ack wait, and does nothing then.
        tracing::debug!(%error, "the end of a message was not heard");
    }
}

async fn keep_while<T>(lease: &Lease, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(KEEP_REPORT_EVERY) => {
                if let Err(error) = lease.keep().await {
                    tracing::debug!(%error, "a message was not kept");
                }
            }
        }
    }
}

fn delay(deliveries: i64) -> Duration {
    let exponent = u32::try_from(deliveries.clamp(1, 9)).unwrap_or(9);
    Duration::from_millis(100 << exponent).min(LONGEST_DELAY)
}

fn is_about_nothing(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Apply(ApplyError::Unknown(_))
            | EngineError::Publish(PublishError::Unknown(_) | PublishError::Apply(ApplyError::Unknown(_)))
    )
}

async fn take_report(engine: Engine, report: TaskReport) -> Result<(), JobError> {
    let TaskReport { asset: id, number, epoch, worker, outcome } = report;
    let Some((asset, _)) = engine.assets.get(id).await? else {
        return Err(EngineError::Apply(ApplyError::Unknown(id)).into());
    };
    if asset.epoch(number) != Some(epoch) {
        engine.feed(id, Input::Again { number }).await?;
        return Ok(());
    }
    let input = match outcome {
        Outcome::Failed(failure) => Err(failure),
        Outcome::Indexed { index, upto } => {
            let slots = engine.fleet.slots();
            let extent = upto.map_or(Extent::Whole { slots }, |bytes| Extent::Beginning { bytes });
            let before = asset.stage.job().map(|job| job.recipe);
            let inflow = asset.inflow(upto, Timestamp::now());
            match engine.plans.grow(before, index, &asset.profile, extent, inflow).await {
                Ok(Grown::Planned(plan)) => Ok(Input::Indexed { epoch, plan }),
                Ok(Grown::TooShort { upto }) => Ok(Input::IndexWaits { epoch, upto }),
                Ok(Grown::Differs) => {
                    tracing::info!(asset = %id, "the source is not what its beginning said, and is made anew");
                    Ok(Input::Differs { epoch })
                }
                Err(PlanningError::Refused(failure)) => Err(failure),
                Err(error @ PlanningError::Store(_)) => return Err(EngineError::Plan(error).into()),
            }
        }
        Outcome::Waiting { upto } => Ok(Input::IndexWaits { epoch, upto }),
        Outcome::Made { recipe, outputs, images } => match &asset.stage {
            Stage::Processing { job, .. } => {
                let record = OutputRecord { epoch, recipe, outputs, images };
                commit(&engine, id, number, worker, job.recipe.plan, record).await?
            }
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => Err(internal("segments were made where an index was asked for")),
        },
    };
    let input = input.unwrap_or_else(|failure| Input::TaskFailed { number, epoch, worker, failure });
    match &input {
        Input::TaskFailed { failure, .. } => {
            let Failure { code, reason } = failure;
            tracing::warn!(asset = %id, task = number.0, epoch, %worker, ?code, reason, "an attempt failed");
            engine.metrics.task_failed(*code);
        }
        Input::Indexed { .. } | Input::TaskDone { .. } => engine.metrics.tasks_done.inc(),
        Input::UploadProgress { .. }
        | Input::Grown { .. }
        | Input::WaitFor { .. }
        | Input::IndexWaits { .. }
        | Input::StartOver
        | Input::Differs { .. }
        | Input::UploadComplete { .. }
        | Input::Republish { .. }
        | Input::UploadFailed(_)
        | Input::HandOut { .. }
        | Input::Again { .. }
        | Input::TaskLost { .. }
        | Input::Straggles { .. }
        | Input::FallsSilent { .. }
        | Input::Published { .. }
        | Input::Described(_)
        | Input::Captioned(_)
        | Input::Uncaptioned(_)
        | Input::Deleted
        | Input::Retracted
        | Input::Closed
        | Input::ClaimNotice
        | Input::NoticeTried { .. }
        | Input::Reused { .. }
        | Input::Tick => {}
    }
    engine.feed(id, input).await?;
    Ok(())
}

/// Checks an output against the plan and commits it. The failure, if it is not what was planned.
async fn commit(
    engine: &Engine,
    asset: AssetId,
    number: TaskNumber,
    worker: WorkerId,
    plan: BlobHash,
    record: OutputRecord,
) -> Result<Result<Input, Failure>, JobError> {
    let epoch = record.epoch;
    let plan = plan_of(&engine.plans, plan).await?;
    let task = number.position().and_then(|position| plan.tasks.get(position as usize));
    let Some(task) = task else { return Ok(Err(internal("segments were made that nobody planned"))) };
    if let Err(unplanned) = outputs::check(&plan, number, task, &record.outputs) {
        return Ok(Err(internal(&unplanned.to_string())));
    }
    match outputs::commit(&engine.outputs, &outputs::key(asset, number), record).await {
        Ok(standing) => {
            Ok(Ok(Input::TaskDone { number, epoch, worker, made: outputs::made(task, &standing.outputs) }))
        }
        Err(CommitError::Late) => Ok(Ok(Input::Again { number })),
        Err(error) => Err(error.into()),
    }
}

async fn plan_of(plans: &Plans, hash: BlobHash) -> Result<Arc<Plan>, JobError> {
    Ok(plans.get(hash).await.map_err(EngineError::Plan)?)
}

fn internal(reason: &str) -> Failure {
    Failure { code: FailureCode::Internal, reason: reason.to_owned() }
}

/// A task was handed out too often: whoever takes it dies, or is never heard of.
async fn give_up(engine: Engine, note: MaxDeliveries) -> Result<(), JobError> {
    let Some(task) = engine.bus.task_at(note.stream_seq).await? else { return Ok(()) };
    // Of a race, the first copy may still come to its end.
    if !task.race {
        tracing::warn!(
            asset = %task.asset, task = task.number.0, epoch = task.epoch, deliveries = note.deliveries,
            "a task was handed out too often"
        );
        engine.metrics.task_failed(FailureCode::Internal);
        engine.feed(task.asset, Input::TaskLost { number: task.number, epoch: task.epoch }).await?;
    }
    // Last, for with it goes what the note is about, should it come again.
    Ok(engine.bus.remove_task(note.stream_seq).await?)
}
