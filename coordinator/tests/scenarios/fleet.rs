//! Workers that fail, take long or vanish, and chunks that bring them down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use reelmill_media::ids::WorkerId;
use reelmill_media::task::{Class, FailureCode, Task, TaskNumber, TaskProgress, Way};
use reelmill_platform::workers::WorkerRecord;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::client::{Caller, is_problem};
use crate::life::{is_whole, texts};
use crate::machines::{Machines, OTHER_KEY, until};
use crate::worker::{Act, Worker};

fn worker(n: u64) -> WorkerId {
    WorkerId::from_parts(n, 1)
}

/// Says, as that worker would, that it lives, and goes when it is dropped.
struct Alive(JoinHandle<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn alive(machines: &Machines, id: WorkerId) -> Alive {
    alive_with(machines, id, 4).await
}

async fn alive_with(machines: &Machines, id: WorkerId, slots: u32) -> Alive {
    let mut record = WorkerRecord {
        id,
        host: "test".into(),
        version: "test".into(),
        slots,
        busy: 0,
        started_at: jiff::Timestamp::now(),
        quarantined: false,
        gone: false,
        encoders: Vec::new(),
    };
    let bus = machines.bus().await;
    Alive(tokio::spawn(async move {
        let mut told = Box::pin(bus.hear_quarantined(id).await.unwrap());
        loop {
            bus.say_alive(&record).await.unwrap();
            tokio::select! {
                Some(now) = told.next() => record.quarantined = now,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    }))
}

#[tokio::test]
async fn a_chunk_that_nobody_can_make_is_concealed_and_the_rest_is_published() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--retry-after-ms", "20"]).await;
    let tried = Arc::new(Mutex::new(Vec::new()));
    let note = tried.clone();
    let _worker = Worker::start(&machines, 20, move |task| {
        let poison = task.number == TaskNumber(5);
        if poison {
            note.lock().unwrap().push((task.way, task.avoid.clone()));
        }
        let act = if poison && task.way != Way::Concealed { Act::Fail(FailureCode::Limit) } else { Act::Do };
        async move { act }
    })
    .await;
    let caller = Caller::of(&coordinator);
    let id = caller.put(vec![1; 1000]).await;
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 20);
    let tried = tried.lock().unwrap().clone();
    let ways: Vec<Way> = tried.iter().map(|(way, _)| *way).collect();
    assert_eq!(ways, [Way::Any, Way::Any, Way::Software, Way::Software, Way::Concealed]);
    assert!(tried.iter().all(|(_, avoid)| avoid.is_empty()), "nobody else is there to leave it to");
    let described: Value = serde_json::from_str(&texts(&machines, &id)["presentation.json"]).unwrap();
    assert_eq!(described["complete"], true);
}

#[tokio::test]
async fn a_worker_that_fails_at_what_others_do_is_put_into_quarantine_and_released() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--retry-after-ms", "20", "--operator", "other"]).await;
    let (caller, operator) = (Caller::of(&coordinator), Caller::with_key(&coordinator, OTHER_KEY));
    let (bad, good) = (worker(7), worker(8));
    let _alive = (alive(&machines, bad).await, alive(&machines, good).await);
    // It hands back what it is to avoid, as workers do.
    let _bad = Worker::named(&machines, bad, 60, move |task: Task| async move {
        if task.avoid.contains(&bad) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Act::PutBack;
        }
        Act::Fail(FailureCode::Internal)
    })
    .await;
    let _good = Worker::named(&machines, good, 60, async |_| Act::Do).await;
    let shown = async || -> BTreeMap<String, Value> {
        let answer = operator.request("GET", "/v1/workers").send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let all = answer["workers"].as_array().unwrap().iter();
        all.map(|worker| (worker["id"].as_str().unwrap().to_owned(), worker.clone())).collect()
    };
    let mut ids = Vec::new();
    let held = until("quarantine", async || {
        ids.push(caller.put(vec![ids.len() as u8; 1000]).await);
        caller.reaches(&ids[ids.len() - 1], "ready").await;
        let held = shown().await.remove(&bad.to_string())?;
        held["quarantined_at"].is_string().then_some(held)
    })
    .await;
    assert!(held["blames"].as_array().unwrap().len() >= 3, "{held}");
    let knows = async |quarantined: bool| {
        until("the worker to know", async || {
            (shown().await[&bad.to_string()]["quarantined"] == quarantined).then_some(())
        })
        .await;
    };
    knows(true).await;
    let others = shown().await.remove(&good.to_string()).unwrap();
    assert_eq!(
        (others["quarantined_at"].clone(), others["blames"].clone()),
        (Value::Null, Value::Array(vec![]))
    );
    for id in &ids {
        is_whole(&machines, id, 60);
    }

    let path = format!("/v1/workers/{bad}/quarantine");
    is_problem(caller.request("DELETE", &path).send().await.unwrap(), 403, "forbidden").await;
    is_problem(caller.request("GET", "/v1/workers").send().await.unwrap(), 403, "forbidden").await;
    assert_eq!(operator.request("DELETE", &path).send().await.unwrap().status(), 204);
    assert_eq!(shown().await[&bad.to_string()]["quarantined_at"], Value::Null);
    knows(false).await;
    let again = operator.request("DELETE", &format!("/v1/workers/{}/quarantine", worker(9)));
    is_problem(again.send().await.unwrap(), 404, "unknown_worker").await;
}

#[tokio::test]
async fn a_task_that_takes_long_is_given_to_another_worker_and_the_first_is_told_to_stop() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--retry-after-ms", "20"]).await;
    let caller = Caller::of(&coordinator);
    let bus = machines.bus().await;
    let slow = worker(7);
    let taken = Arc::new(Mutex::new(None::<Task>));
    let note = taken.clone();
    // Holds on to one task of the ladder and never ends it; the others are done as they come.
    let _slow = Worker::named(&machines, slow, 60, move |task: Task| {
        let note = note.clone();
        async move {
            let first = {
                let mut taken = note.lock().unwrap();
                let first = taken.is_none() && task.class == Class::Ladder;
                if first {
                    *taken = Some(task);
                }
                first
            };
            if first {
                std::future::pending::<()>().await;
            }
            Act::Do
        }
    })
    .await;
    let id = caller.put(vec![3; 1000]).await;
    let task = until("a task in slow hands", async || taken.lock().unwrap().clone()).await;
    let mut over = Box::pin(bus.subscribe_over(task.asset).await.unwrap());
    // Nothing is heard of it any more.
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 60);
    coordinator.counts("tasks_raced_total 1").await;
    // The first word is of attempts before this one.
    while !over.next().await.unwrap().concerns(&task) {}
}

#[tokio::test]
async fn a_worker_whose_connection_is_gone_is_not_waited_for() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--retry-after-ms", "20"]).await;
    let caller = Caller::of(&coordinator);
    let bus = machines.bus().await;
    let dying = worker(7);
    // Its one slot is busy, so that nothing is raced for being slow.
    let connection = alive_with(&machines, dying, 1).await;
    let taken = Arc::new(Mutex::new(false));
    let note = taken.clone();
    // Holds on to one task of the ladder, and is heard of often enough not to count as silent.
    let _dying = Worker::named(&machines, dying, 60, move |task: Task| {
        let (note, bus) = (note.clone(), bus.clone());
        async move {
            if task.class != Class::Ladder || std::mem::replace(&mut *note.lock().unwrap(), true) {
                return Act::Do;
            }
            let Task { asset, number, epoch, cost_ms, .. } = task;
            let said = TaskProgress { asset, number, epoch, permille: 1, worker: Some(dying), cost_ms };
            loop {
                bus.publish_progress(&said).await.unwrap();
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        }
    })
    .await;
    let id = caller.put(vec![3; 1000]).await;
    until("a task in its hands", async || taken.lock().unwrap().then_some(())).await;
    drop(connection);
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 60);
    coordinator.counts("tasks_raced_total 1").await;
}
