//! Tenants share the workers, and somebody always feeds the queues.

use std::sync::{Arc, Mutex};

use reelmill_media::task::Class;
use tokio::sync::Semaphore;

use crate::client::Caller;
use crate::life::is_whole;
use crate::machines::{Coordinator, Machines, OTHER_KEY, until};
use crate::worker::{Act, Worker};

/// Ten minutes are about eighty tasks.
const SECONDS: u32 = 600;
/// Tasks that are out at a time for a fleet that nobody has counted yet.
const WINDOW: usize = 4;

#[tokio::test]
async fn a_newcomer_plays_at_once_and_is_done_long_before_what_stood_there() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let (many, few) = (Caller::of(&coordinator), Caller::with_key(&coordinator, OTHER_KEY));
    let begun: Arc<Mutex<Vec<String>>> = Arc::default();
    let gate = Arc::new(Semaphore::new(0));
    let (log, hand) = (begun.clone(), gate.clone());
    let _worker = Worker::start(&machines, SECONDS, move |task| {
        let (log, hand) = (log.clone(), hand.clone());
        async move {
            if task.class == Class::Ladder {
                log.lock().unwrap().push(task.tenant.to_string());
                hand.acquire().await.unwrap().forget();
            }
            Act::Do
        }
    })
    .await;
    let of = |tenant: &str| begun.lock().unwrap().iter().filter(|owner| *owner == tenant).count();

    let mut stood = Vec::new();
    for n in 1..=3 {
        stood.push(many.put(vec![n; 10_000]).await);
    }
    until("the queue to be full", async || (of("demo") == WINDOW).then_some(())).await;
    let id = few.put(vec![9; 10_000]).await;
    until("a playlist that plays", async || (few.asset(&id).await["playable"] == true).then_some(())).await;
    assert_eq!((of("demo"), of("other")), (WINDOW, 0), "nothing else has moved for it");

    gate.add_permits(10_000);
    few.reaches(&id, "ready").await;
    let order = begun.lock().unwrap().clone();
    let last = order.iter().rposition(|owner| owner == "other").unwrap() + 1;
    let own = of("other");
    assert!(own > 50 && last <= 2 * own + 4 * WINDOW, "{own} of its own among the first {last}");
    for id in &stood {
        many.reaches(id, "ready").await;
        is_whole(&machines, id, SECONDS);
    }
}

async fn feeds(coordinator: &Coordinator) -> bool {
    let metrics = reqwest::get(format!("{}/metrics", coordinator.admin)).await.unwrap().text().await.unwrap();
    metrics.contains("reelmill_coordinator_feeding 1\n")
}

#[tokio::test]
async fn when_the_feeder_is_killed_another_coordinator_feeds() {
    let machines = Machines::start().await;
    let (one, other) = (machines.coordinator(&[]).await, machines.coordinator(&[]).await);
    let feeder_is_first = until("a feeder", async || match (feeds(&one).await, feeds(&other).await) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        // Asked one after the other: the lease may have changed hands in between.
        (false, false) | (true, true) => None,
    })
    .await;
    let (feeder, standby) = if feeder_is_first { (one, other) } else { (other, one) };
    let gate = Arc::new(Semaphore::new(10));
    let _worker = Worker::behind(&machines, 90, &gate, &Class::ALL).await;
    let caller = Caller::of(&standby);
    let id = caller.put(vec![1; 10_000]).await;
    until("half of the job", async || (gate.available_permits() == 0).then_some(())).await;
    feeder.kill().await;
    gate.add_permits(1000);
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 90);
    standby.counts("feeding 1").await;
}
