//! Another edition by another profile, while viewers watch.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reelmill_media::task::{Class, FailureCode, Task, Work};
use reelmill_platform::kv::Bucket;
use reelmill_platform::topology::BucketName;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::client::{Caller, is_problem};
use crate::life::{is_whole, media_playlist, multivariant, names_what_is_there, texts};
use crate::machines::{Machines, until};
use crate::rebuild::rebuild;
use crate::worker::{Act, Worker};

const SECONDS: u32 = 40;

fn profile(sides: &[u32]) -> Value {
    json!({"video": [{"codec": "hevc", "short_sides": sides}], "segment_seconds": 2})
}

async fn put(caller: &Caller, asset: &str, profile: &Value) -> (StatusCode, Value) {
    let request = caller.request("PUT", &format!("/v1/assets/{asset}/profile"));
    let response = request.json(profile).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// The media playlists that a player is led to now.
fn led_to(machines: &Machines, asset: &str) -> BTreeSet<String> {
    let index = multivariant(machines, asset).expect("a multivariant playlist");
    let variants = index.variants.iter().map(|variant| variant.uri.clone());
    let others = index.alternatives.iter().filter_map(|media| media.uri.clone());
    variants.chain(others).map(|uri| uri.trim_end_matches(".m3u8").to_owned()).collect()
}

/// What `v720-e2` ends with.
fn edition_of(playlist: &str) -> u32 {
    let playlist = playlist.trim_end_matches("-iframes");
    playlist.rsplit_once("-e").and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Looks again and again, as players do that begin at any moment, and as those who began at any moment before.
struct Viewers {
    task: JoinHandle<BTreeSet<u32>>,
    over: Arc<AtomicBool>,
}

impl Viewers {
    fn watch(machines: &Arc<Machines>, asset: &str) -> Viewers {
        let over = Arc::new(AtomicBool::new(false));
        let (machines, asset, last) = (machines.clone(), asset.to_owned(), over.clone());
        let task = tokio::spawn(async move {
            let (mut seen, mut editions) = (BTreeSet::new(), BTreeSet::new());
            loop {
                let is_last = last.load(Ordering::Relaxed);
                let now = led_to(&machines, &asset);
                let shown: BTreeSet<u32> =
                    now.iter().filter(|name| !name.starts_with("c-")).map(|name| edition_of(name)).collect();
                assert_eq!(shown.len(), 1, "a bit of one and a bit of another: {now:?}");
                editions.extend(shown);
                seen.extend(now);
                for name in &seen {
                    let list = media_playlist(&machines, &asset, name).unwrap_or_else(|| panic!("no {name}"));
                    assert!(list.end_list, "{name} is not whole");
                    if !name.starts_with("c-") {
                        names_what_is_there(&machines.file(&format!("assets/{asset}")), &list);
                    }
                }
                if is_last {
                    return editions;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Viewers { task, over }
    }

    /// The editions that they saw.
    async fn saw(self) -> BTreeSet<u32> {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// A worker for whom each task waits; and the tasks that it was given.
async fn gated(machines: &Machines, act: Act) -> (Worker, Arc<Semaphore>, Arc<Mutex<Vec<Task>>>) {
    let (gate, given) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (hand, seen) = (gate.clone(), given.clone());
    let worker = Worker::start(machines, SECONDS, move |task| {
        let (hand, seen) = (hand.clone(), seen.clone());
        async move {
            seen.lock().unwrap().push(task);
            hand.acquire().await.unwrap().forget();
            act
        }
    })
    .await;
    (worker, gate, given)
}

#[tokio::test]
async fn viewers_have_one_edition_or_the_other_whoever_dies() {
    let machines = Arc::new(Machines::start().await);
    let mut coordinator = machines.coordinator(&[]).await;
    let mut caller = Caller::of(&coordinator);
    let diligent = Worker::diligent(&machines, SECONDS).await;
    let asset = caller.put(vec![1; 1000]).await;
    let captions = format!("/v1/assets/{asset}/captions/en");
    let text = "WEBVTT\n\n00:00.500 --> 00:02.000\nHello\n";
    assert!(caller.request("PUT", &captions).body(text).send().await.unwrap().status().is_success());
    let first = caller.reaches(&asset, "ready").await;
    drop(diligent);

    let viewers = Viewers::watch(&machines, &asset);
    let (worker, gate, given) = gated(&machines, Act::Do).await;
    let wanted = profile(&[240, 480]);
    let (status, begun) = put(&caller, &asset, &wanted).await;
    assert_eq!(
        (status, &begun["state"], &begun["edition"]),
        (StatusCode::ACCEPTED, &json!("processing"), &json!(1))
    );
    assert_eq!((&begun["playable"], &begun["standing"]["profile"]), (&json!(true), &first["profile"]));
    let (status, again) = put(&caller, &asset, &wanted).await;
    assert_eq!((status, &again["edition"]), (StatusCode::OK, &json!(1)), "nothing is begun twice");
    let other = caller.request("PUT", &format!("/v1/assets/{asset}/profile")).json(&profile(&[360]));
    is_problem(other.send().await.unwrap(), 409, "conflict").await;

    // Killed at once, and then again each time a few more tasks were let through.
    for let_through in [0, 2, 3] {
        gate.add_permits(let_through);
        until("the tasks to be begun", async || (gate.available_permits() == 0).then_some(())).await;
        coordinator.kill().await;
        coordinator = machines.coordinator(&[]).await;
        caller = Caller::of(&coordinator);
        assert!(led_to(&machines, &asset).iter().all(|name| edition_of(name) == 0));
    }
    // Captions come to those who watch the one, and stay for those who watch the other.
    let german = format!("/v1/assets/{asset}/captions/de");
    assert_eq!(caller.request("PUT", &german).body(text).send().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(led_to(&machines, &asset).iter().filter(|name| name.starts_with("c-")).count(), 1, "one text");
    assert!(texts(&machines, &asset)["index.m3u8"].contains("LANGUAGE=\"de\""));

    gate.add_permits(1000);
    let ready = caller.reaches(&asset, "ready").await;
    assert_eq!((&ready["edition"], &ready["profile"]["segment_seconds"]), (&json!(1), &json!(2)));
    assert_eq!((&ready["standing"], &ready["abandoned"]), (&Value::Null, &Value::Null));
    assert_eq!(ready["captions"].as_array().unwrap().len(), 2);
    let names: BTreeSet<&str> =
        ready["renditions"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["a0", "v240-hevc", "v480-hevc"].into());
    assert!(texts(&machines, &asset)["index.m3u8"].contains("\nv240-hevc-e1.m3u8\n"));
    assert_eq!(viewers.saw().await, [0, 1].into());
    // A message of the first making, which had the first epoch, may come again.
    let given: Vec<Task> = given.lock().unwrap().iter().filter(|task| task.epoch > 1).cloned().collect();
    assert!(!given.is_empty());
    assert!(given.iter().all(|task| task.work != Work::Index && task.class == Class::Ladder));
    drop(worker);

    // The same bytes again, with that profile, are there at once; with the first one, they would have to be made.
    let query = reqwest::Url::parse_with_params("http://x/", [("profile", wanted.to_string())]).unwrap();
    let upload =
        caller.request("PUT", &format!("/v1/uploads?{}", query.query().unwrap())).body(vec![1; 1000]);
    let twin: Value = upload.send().await.unwrap().json().await.unwrap();
    assert_eq!((&twin["state"], &twin["edition"]), (&json!("ready"), &json!(0)));
    let twin = twin["id"].as_str().unwrap();
    assert!(led_to(&machines, twin).iter().all(|name| edition_of(name) == 0));
}

#[tokio::test]
async fn an_edition_that_cannot_be_made_leaves_the_one_before() {
    let machines = Arc::new(Machines::start().await);
    let coordinator = machines.coordinator(&["--retry-after-ms", "20"]).await;
    let caller = Caller::of(&coordinator);
    let diligent = Worker::diligent(&machines, SECONDS).await;
    let asset = caller.put(vec![1; 1000]).await;
    caller.reaches(&asset, "ready").await;
    drop(diligent);
    let viewers = Viewers::watch(&machines, &asset);
    let before = texts(&machines, &asset);

    // Some of it is made, and the rest cannot be: what plays is not given up for something with a hole in it.
    let failing = Worker::start(&machines, SECONDS, async |task| match task.number.0 {
        ..3 => Act::Do,
        _ => Act::Fail(FailureCode::Limit),
    })
    .await;
    assert_eq!(put(&caller, &asset, &profile(&[240])).await.0, StatusCode::ACCEPTED);
    let left = until("the end of it", async || {
        let asset = caller.asset(&asset).await;
        asset["abandoned"].is_object().then_some(asset)
    })
    .await;
    assert_eq!(
        (&left["state"], &left["edition"], &left["error"]),
        (&json!("ready"), &json!(0), &Value::Null)
    );
    assert_eq!(left["abandoned"]["error"]["code"], "limit");
    assert_eq!(left["abandoned"]["profile"]["segment_seconds"], 2);
    is_whole(&machines, &asset, SECONDS);
    let text = "WEBVTT\n\n00:00.500 --> 00:02.000\nHello\n";
    let captions = caller.request("PUT", &format!("/v1/assets/{asset}/captions/en")).body(text);
    assert_eq!(captions.send().await.unwrap().status(), StatusCode::CREATED);
    assert!(led_to(&machines, &asset).iter().any(|name| name.starts_with("c-")));
    let now = texts(&machines, &asset);
    assert!(
        before.iter().filter(|(name, _)| name.starts_with(['v', 'a'])).all(|(name, text)| now[name] == *text)
    );
    drop(failing);

    // Another try is another edition, and may be taken away in the midst of it.
    let (worker, gate, _) = gated(&machines, Act::Do).await;
    let (status, again) = put(&caller, &asset, &profile(&[240])).await;
    assert_eq!((status, &again["abandoned"]), (StatusCode::ACCEPTED, &Value::Null));
    gate.add_permits(1000);
    let ready = caller.reaches(&asset, "ready").await;
    assert!(ready["edition"].as_u64() > left["abandoned"]["edition"].as_u64());
    assert_eq!(viewers.saw().await.len(), 2);
    gate.forget_permits(usize::MAX);
    assert_eq!(put(&caller, &asset, &profile(&[360])).await.0, StatusCode::ACCEPTED);
    let delete = caller.request("DELETE", &format!("/v1/assets/{asset}"));
    assert_eq!(delete.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert!(texts(&machines, &asset).is_empty(), "nothing of any edition is left");
    gate.add_permits(1000);
    drop(worker);
}

#[tokio::test]
async fn an_edition_goes_on_when_nats_is_lost() {
    let mut machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let diligent = Worker::diligent(&machines, SECONDS).await;
    let asset = caller.put(vec![1; 1000]).await;
    caller.reaches(&asset, "ready").await;
    drop(diligent);
    assert_eq!(put(&caller, &asset, &profile(&[240])).await.0, StatusCode::ACCEPTED);
    coordinator.kill().await;
    machines.lose_nats().await;
    rebuild(&machines).await;

    let machines = Arc::new(machines);
    let viewers = Viewers::watch(&machines, &asset);
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    assert_eq!(caller.asset(&asset).await["playable"], true);
    let _worker = Worker::diligent(&machines, SECONDS).await;
    let ready = caller.reaches(&asset, "ready").await;
    assert_eq!(ready["profile"]["segment_seconds"], 2);
    assert_eq!(viewers.saw().await, [0, ready["edition"].as_u64().unwrap() as u32].into());
}

#[tokio::test]
async fn an_earlier_edition_is_collected_when_nobody_can_be_watching_it() {
    let machines = Arc::new(Machines::start().await);
    let keeps_all = machines.coordinator(&["--garbage-grace-s", "0"]).await;
    let caller = Caller::of(&keeps_all);
    let _worker = Worker::diligent(&machines, SECONDS).await;
    let asset = caller.put(vec![1; 1000]).await;
    caller.reaches(&asset, "ready").await;
    let folder = machines.file(&format!("assets/{asset}"));
    let of_v720 = media_playlist(&machines, &asset, "v720").unwrap();
    assert_eq!(put(&caller, &asset, &profile(&[240])).await.0, StatusCode::ACCEPTED);
    caller.reaches(&asset, "ready").await;
    names_what_is_there(&folder, &of_v720);
    keeps_all.kill().await;
    // As it is two minutes after an edition is whole.
    let outputs: Bucket<Value> = machines.bus().await.bucket(BucketName::Outputs).await.unwrap();
    outputs.remove_all(&format!("{asset}.*")).await.unwrap();

    let _collects = machines.coordinator(&["--garbage-grace-s", "1"]).await;
    until("the earlier edition to go", async || {
        let gone = of_v720.segments.iter().all(|segment| !folder.join(&segment.uri).exists());
        (gone && !folder.join("v720.m3u8").exists()).then_some(())
    })
    .await;
    let names = led_to(&machines, &asset);
    assert!(names.iter().all(|name| edition_of(name) == 1));
    for name in names {
        names_what_is_there(&folder, &media_playlist(&machines, &asset, &name).unwrap());
    }
    let left: Vec<String> =
        texts(&machines, &asset).into_keys().filter(|name| name.starts_with("past")).collect();
    assert_eq!(left, Vec::<String>::new());
}
