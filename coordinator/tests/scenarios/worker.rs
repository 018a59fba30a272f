//! A worker that needs no codec, and does what it is told to each task.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reelmill_media::ids::WorkerId;
use reelmill_media::keys::BlobKind;
use reelmill_media::plan::Plan;
use reelmill_media::source::Source;
use reelmill_media::task::{Class, Failure, FailureCode, Outcome, Task, TaskProgress, TaskReport, Work};
use reelmill_platform::bus::Bus;
use reelmill_platform::queue::Delivery;
use reelmill_platform::store::Store;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::machines::Machines;
use crate::media;

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It is done.
    Do,
    /// It is done twice, and reported twice.
    DoTwice,
    /// It fails.
    Fail(FailureCode),
    /// Segments come out that nobody planned.
    Botch,
    /// It is put back without a word.
    PutBack,
    /// It indexes as much of the source as is there, as one that has its index between its media.
    Begin,
    /// The same, but what it says of the picture does not come true.
    Mislead,
    /// It needs the source up to this byte.
    Wait(u64),
}

/// Works until it is dropped.
pub struct Worker {
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    /// Starts a worker on a source of so many seconds; `act` decides about each task, and may wait.
    pub async fn start<F>(
        machines: &Machines,
        seconds: u32,
        act: impl Fn(Task) -> F + Send + Sync + 'static,
    ) -> Worker
    where
        F: Future<Output = Act> + Send + 'static,
    {
        Worker::named(machines, WorkerId::from_parts(1, 1), seconds, act).await
    }

    /// The same, with a name of its own.
    pub async fn named<F>(
        machines: &Machines,
        id: WorkerId,
        seconds: u32,
        act: impl Fn(Task) -> F + Send + Sync + 'static,
    ) -> Worker
    where
        F: Future<Output = Act> + Send + 'static,
    {
        let bus = machines.bus().await;
        let store = machines.store.clone();
        let queues = Class::ALL.map(|class| bus.tasks(class));
        let act = Arc::new(act);
        let task = tokio::spawn(async move {
            let mut hands = tokio::task::JoinSet::new();
            loop {
                for queue in &queues {
                    let Ok(Some(delivery)) = queue.next_within(Duration::from_millis(30)).await else {
                        continue;
                    };
                    let (bus, store, act) = (bus.clone(), store.clone(), act.clone());
                    hands.spawn(async move {
                        say(&bus, id, &delivery.message, 0).await;
                        let what = act(delivery.message.clone()).await;
                        perform(&bus, &store, id, seconds, delivery, what).await;
                    });
                }
                while hands.try_join_next().is_some() {}
            }
        });
        Worker { task }
    }

    /// A worker that does everything but needs a permit for each task of these classes, for which it is used up.
    pub async fn behind(
        machines: &Machines,
        seconds: u32,
        gate: &Arc<Semaphore>,
        classes: &'static [Class],
    ) -> Worker {
        let gate = gate.clone();
        Worker::start(machines, seconds, move |task| {
            let gate = gate.clone();
            async move {
                if classes.contains(&task.class) {
                    gate.acquire().await.unwrap().forget();
                }
                Act::Do
            }
        })
        .await
    }

    /// A worker that does everything.
    pub async fn diligent(machines: &Machines, seconds: u32) -> Worker {
        Worker::start(machines, seconds, async |_| Act::Do).await
    }
}

async fn say(bus: &Bus, id: WorkerId, task: &Task, permille: u16) {
    let Task { asset, number, epoch, cost_ms, .. } = *task;
    let progress = TaskProgress { asset, number, epoch, permille, worker: Some(id), cost_ms };
    bus.publish_progress(&progress).await.unwrap();
}

async fn perform(bus: &Bus, store: &Store, id: WorkerId, seconds: u32, delivery: Delivery<Task>, act: Act) {
    let task = &delivery.message;
    let report = |outcome| TaskReport {
        asset: task.asset,
        number: task.number,
        epoch: task.epoch,
        worker: id,
        outcome,
    };
    say(bus, id, task, 500).await;
    let outcome = match act {
        Act::PutBack => return delivery.lease.give_back(Duration::ZERO).await.unwrap(),
        Act::Fail(code) => Outcome::Failed(Failure { code, reason: "as the test wants".into() }),
        Act::Wait(upto) => Outcome::Waiting { upto },
        Act::Do | Act::DoTwice => outcome(store, task, seconds).await,
        Act::Begin | Act::Mislead => begun(store, task, seconds, act == Act::Mislead).await,
        Act::Botch => match outcome(store, task, seconds).await {
            Outcome::Made { recipe, mut outputs, images } => {
                outputs[0].segments[0].frames += 1;
                Outcome::Made { recipe, outputs, images }
            }
            other => other,
        },
    };
    let report = report(outcome);
    bus.publish_report(&report).await.unwrap();
    if act == Act::DoTwice {
        // Refused while the first is waiting, and a second message after that.
        bus.publish_report(&report).await.unwrap();
    }
    delivery.lease.done().await.unwrap();
}

/// The index of what is there.
async fn begun(store: &Store, task: &Task, seconds: u32, misleads: bool) -> Outcome {
    let list = store.get_blob(BlobKind::Record, task.source.blocks).await.unwrap();
    let source: Source = serde_json::from_slice(list.bytes()).unwrap();
    if source.missing == 0 {
        return outcome(store, task, seconds).await;
    }
    let bytes = source.gap().start;
    let mut index = media::beginning(seconds, bytes);
    if misleads {
        index.video.as_mut().unwrap().setup.extradata.push(1);
    }
    let index = Bytes::from(postcard::to_stdvec(&index).unwrap());
    Outcome::Indexed { index: store.put_blob(BlobKind::Record, index).await.unwrap(), upto: Some(bytes) }
}

async fn outcome(store: &Store, task: &Task, seconds: u32) -> Outcome {
    if task.work == Work::Index {
        let bytes = postcard::to_stdvec(&media::index(seconds)).unwrap();
        return Outcome::Indexed {
            index: store.put_blob(BlobKind::Record, Bytes::from(bytes)).await.unwrap(),
            upto: None,
        };
    }
    let plan = store.get_blob(BlobKind::Record, task.recipe.unwrap().plan).await.unwrap();
    let plan: Plan = postcard::from_bytes(plan.bytes()).unwrap();
    let outputs = media::make(store, &plan, &task.work).await;
    Outcome::Made {
        recipe: task.source.blocks,
        outputs,
        images: media::stills(store, &plan, &task.work).await,
    }
}
