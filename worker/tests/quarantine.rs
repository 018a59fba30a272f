//! A worker that coordinators put into quarantine hands back what it holds, takes nothing, and works again when it is released.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "harness/product.rs"]
mod product;

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use product::{index_task, put_source};
use reelmill_e2e::fleet::Fleet;
use reelmill_e2e::system::{Signal, children, kill, until};
use reelmill_media::task::{Class, Outcome};
use reelmill_platform::bus::Bus;
use reelmill_platform::config;
use reelmill_platform::store::Store;
use reelmill_platform::workers::WorkerRecord;
use reelmill_worker::child::EXEC;

/// However busy the machine is.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until a worker says something of itself.
async fn says(
    mut said: impl Stream<Item = WorkerRecord> + Unpin,
    right: impl Fn(&WorkerRecord) -> bool,
) -> WorkerRecord {
    let said = async {
        loop {
            let record = said.next().await.unwrap();
            if right(&record) {
                return record;
            }
        }
    };
    tokio::time::timeout(DEADLINE, said).await.expect("the worker to say so")
}

#[test]
fn a_worker_in_quarantine_hands_back_what_it_holds_until_it_is_released() {
    let mut fleet = Fleet::start();
    // The fleet has a runtime of its own, which must not end inside another.
    tokio::runtime::Runtime::new().unwrap().block_on(put_in_and_release(&mut fleet));
}

async fn put_in_and_release(fleet: &mut Fleet) {
    let nats = config::Nats { nats: fleet.nats_url().to_owned(), nats_replicas: 1 };
    let bus = Bus::connect(&nats, "test").await.unwrap();
    let store = Store::open(&fleet.store_url()).unwrap();
    let mut said = pin!(bus.hear_alive().await.unwrap());
    let worker = fleet.worker(&[]);
    let id = says(&mut said, |record| record.slots == 1).await.id;
    // Its next task never ends.
    let waiting = until("a child that waits for a task", DEADLINE, || {
        let is_one = |id: u32| {
            let arguments = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            arguments.split(|b| *b == 0).any(|argument| argument == EXEC.as_bytes())
        };
        children(worker.id()).into_iter().map(|(id, _)| id).find(|id| is_one(*id))
    });
    kill(waiting, Signal::STOP);
    let task = index_task(put_source(&store, Bytes::from_static(b"These bytes are no media.")).await);
    bus.publish_task(&task).await.unwrap();
    until("the task to be taken", DEADLINE, || worker.said().contains("task taken").then_some(()));

    bus.say_quarantined(id, true).await.unwrap();
    let record = says(&mut said, |record| record.quarantined).await;
    assert_eq!(record.slots, 0);
    let queue = bus.tasks(Class::Publish);
    let handed_back = queue.next_within(DEADLINE).await.unwrap().expect("the task to be handed back");
    assert_eq!((handed_back.message, handed_back.deliveries), (task, 2));
    assert!(worker.said().contains("cut=Quarantine"));
    handed_back.lease.give_back(Duration::ZERO).await.unwrap();

    bus.say_quarantined(id, false).await.unwrap();
    assert_eq!(says(&mut said, |record| !record.quarantined).await.slots, 1);
    let report = bus.reports().next_within(DEADLINE).await.unwrap().expect("a report").message;
    assert!(matches!(report.outcome, Outcome::Failed(_)) && report.worker == id, "{report:?}");
}
