//! Server-sent events over connections that are cut.

use std::sync::{Arc, Mutex};

use reelmill_media::keys::BlobKind;
use reelmill_media::plan::Plan;
use reelmill_media::task::{FailureCode, Task, TaskProgress};
use reelmill_platform::kv::Bucket;
use reelmill_platform::topology::BucketName;
use reqwest::Response;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::client::{Caller, header};
use crate::machines::{DEADLINE, Machines, until};
use crate::worker::{Act, Worker};

/// Reads one event after the other.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn of(caller: &Caller, asset: &str, last: Option<&str>) -> Events {
        let request = caller.request("GET", &format!("/v1/assets/{asset}/events"));
        let request = last.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        Events { response, text: String::new() }
    }

    /// The next one's id and what it says; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("id: ").zip(field("data: "));
                self.text = rest.to_owned();
                let Some((id, data)) = found else { continue };
                return Some((id, serde_json::from_str(&data).unwrap()));
            }
            let chunk = tokio::time::timeout(DEADLINE, self.response.chunk()).await.expect("in time");
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }
}

fn revision(id: &str) -> u64 {
    id.split_once('-').unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn a_listener_that_comes_back_hears_only_what_is_new() {
    let machines = Machines::start().await;
    let (one, two) = tokio::join!(machines.coordinator(&[]), machines.coordinator(&[]));
    let (caller, other) = (Caller::of(&one), Caller::of(&two));
    let (upload, id) = caller.create(1000).await;
    let (first, said) = Events::of(&caller, &id, None).await.next().await.unwrap();
    assert_eq!((&said["state"], &said["upload"]["bytes"]), (&"uploading".into(), &0.into()));

    // Nothing has happened yet: what comes first is news, and another coordinator tells it as well.
    let mut listeners =
        [Events::of(&caller, &id, Some(&first)).await, Events::of(&other, &id, Some(&first)).await];
    assert_eq!(caller.patch(&upload, 0, &[1; 500]).await.status(), 204);
    let mut last = String::new();
    for listener in &mut listeners {
        let (next, said) = listener.next().await.unwrap();
        assert!(revision(&next) > revision(&first), "{next} after {first}");
        assert_eq!(said["upload"]["bytes"], 500);
        last = next;
    }
    // What happened meanwhile is told at once, and an id that nobody gave is worth nothing.
    for before in [first.as_str(), "nonsense", "999999999-0"] {
        let (again, said) = Events::of(&other, &id, Some(before)).await.next().await.unwrap();
        // The job has begun with what is there, so that more may have happened.
        assert!(revision(&again) >= revision(&last), "{again} after {before}");
        assert_eq!(said["upload"]["bytes"], 500);
    }

    // Cut after each event, from one coordinator to the other: progress never goes back.
    assert_eq!(caller.patch(&upload, 500, &[1; 500]).await.status(), 204);
    let _worker = Worker::diligent(&machines, 60).await;
    let mut steps = vec![0.0];
    let mut connections = 0;
    let ended = loop {
        let caller = if connections % 2 == 0 { &caller } else { &other };
        connections += 1;
        let (next, said) = Events::of(caller, &id, Some(&last)).await.next().await.unwrap();
        assert!(revision(&next) >= revision(&last), "{next} after {last}");
        let progress = said["progress"].as_f64().unwrap();
        // An id holds millionths, rounded up.
        assert!(progress + 1e-6 >= *steps.last().unwrap(), "{progress} after {steps:?}");
        steps.push(progress);
        last = next;
        if said["state"] == "ready" {
            break last;
        }
    };
    assert!(connections >= 3, "{steps:?}");
    // Who knows the end need not come back, and hears it again if its answer was lost.
    let request = caller.request("GET", &format!("/v1/assets/{id}/events")).header("Last-Event-ID", &ended);
    assert_eq!(request.send().await.unwrap().status(), 204);
    let mut listener = Events::of(&other, &id, Some(&first)).await;
    assert_eq!(listener.next().await.unwrap().1["state"], "ready");
    assert_eq!(listener.next().await, None);
}

/// Whole, and of each rendition.
fn progress(said: &Value) -> Vec<f64> {
    let renditions = said["renditions"].as_array().unwrap().iter();
    [said].into_iter().chain(renditions).map(|of| of["progress"].as_f64().unwrap()).collect()
}

#[tokio::test]
async fn progress_is_that_of_the_work_and_never_goes_back() {
    let machines = Machines::start().await;
    let mut coordinator = machines.coordinator(&["--retry-after-ms", "20"]).await;
    let (gate, given) = (Arc::new(Semaphore::new(1)), Arc::new(Mutex::new(Vec::<Task>::new())));
    let (hand, seen) = (gate.clone(), given.clone());
    let _worker = Worker::start(&machines, 100, move |task| {
        let (hand, seen) = (hand.clone(), seen.clone());
        async move {
            // The first to come fails once.
            let fails = task.number.0 == 1 && task.epoch == 1;
            seen.lock().unwrap().push(task);
            hand.acquire().await.unwrap().forget();
            if fails { Act::Fail(FailureCode::Internal) } else { Act::Do }
        }
    })
    .await;
    let id = Caller::of(&coordinator).put(vec![1; 1000]).await;
    let record: Bucket<Value> = machines.bus().await.bucket(BucketName::Assets).await.unwrap();
    let bus = machines.bus().await;
    let plan = until("a plan", async || {
        let (asset, _) = record.get(&id).await.unwrap().unwrap();
        asset["stage"]["job"]["recipe"]["plan"].as_str()?.parse().ok()
    })
    .await;
    let plan = machines.store.get_blob(BlobKind::Record, plan).await.unwrap();
    let plan: Plan = postcard::from_bytes(plan.bytes()).unwrap();
    let whole: u64 = plan.tasks.iter().map(|task| task.cost_ms).sum();

    let (mut last, mut before): (Option<String>, Vec<f64>) = (None, Vec::new());
    for step in 0u16.. {
        // Killed in the midst of it: who listens then has heard of what was in work.
        if step == 3 {
            coordinator.kill().await;
            coordinator = machines.coordinator(&["--retry-after-ms", "20"]).await;
        }
        let caller = Caller::of(&coordinator);
        let (next, said) = Events::of(&caller, &id, None).await.next().await.unwrap();
        if said["state"] == "ready" {
            break;
        }
        // All that are in work get on: as far as the steps are.
        let permille = (100 * (step + 1)).min(900);
        let share = async || {
            let (asset, _) = record.get(&id).await.unwrap().unwrap();
            let Some(job) = asset["stage"]["job"].as_object() else { return 1.0 };
            let in_flight = job["in_flight"].as_array().unwrap();
            let (mut running, mut out) = (0, Vec::new());
            for task in given.lock().unwrap().iter() {
                let is_it = |a: &&Value| {
                    a["number"] == task.number.0 && a["epoch"] == task.epoch && a["not_before"].is_null()
                };
                if in_flight.iter().any(|attempt| is_it(&attempt)) {
                    running += task.cost_ms * u64::from(permille) / 1000;
                    out.push(task.clone());
                }
            }
            for Task { asset, number, epoch, cost_ms, .. } in out {
                let progress = TaskProgress { asset, number, epoch, permille, worker: None, cost_ms };
                bus.publish_progress(&progress).await.unwrap();
            }
            (job["done_cost_ms"].as_u64().unwrap() + running) as f64 / whole as f64
        };
        until("what is told to be what is done", async || {
            let truth = share().await;
            let told = progress(&caller.asset(&id).await)[0];
            ((told - truth).abs() <= 0.05).then_some(())
        })
        .await;
        // Whoever listens all the time, to one coordinator or the other.
        let heard = match &last {
            Some(last) => Events::of(&caller, &id, Some(last)).await.next().await,
            None => Some((next, said)),
        };
        let Some((next, said)) = heard else { break };
        let now = progress(&said);
        // An id holds millionths, rounded up.
        let falls = before.iter().zip(&now).any(|(before, now)| now + 1e-6 < *before);
        assert!(!falls && now.len() >= before.len(), "{now:?} after {before:?}");
        (last, before) = (Some(next), now);
        gate.add_permits(2);
        until("tasks to be begun, or all to be done", async || {
            (gate.available_permits() == 0 || caller.asset(&id).await["state"] == "ready").then_some(())
        })
        .await;
    }
    assert!(before.len() > 3 && before[0] > 0.5, "{before:?}");
    assert!(progress(&Caller::of(&coordinator).reaches(&id, "ready").await).iter().all(|of| *of == 1.0));
}
