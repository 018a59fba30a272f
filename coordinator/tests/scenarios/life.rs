//! From upload to ready, or to a failure that says why.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::SignedDuration;
use m3u8_rs::{AlternativeMediaType, MasterPlaylist, MediaPlaylist, MediaPlaylistType};
use prometheus::Registry;
use reelmill_coordinator::engine::Engine;
use reelmill_coordinator::metrics::Metrics;
use reelmill_coordinator::state::Effect;
use reelmill_media::ids::AssetId;
use reelmill_media::task::{FailureCode, TaskNumber, Work};
use reelmill_platform::topology::BucketName;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Caller;
use crate::machines::{Coordinator, DEADLINE, Machines, until};
use crate::worker::{Act, Worker};

pub fn media_playlist(machines: &Machines, asset: &str, rendition: &str) -> Option<MediaPlaylist> {
    let text = std::fs::read(machines.file(&format!("assets/{asset}/{rendition}.m3u8"))).ok()?;
    Some(m3u8_rs::parse_media_playlist_res(&text).expect("a media playlist"))
}

pub fn multivariant(machines: &Machines, asset: &str) -> Option<MasterPlaylist> {
    let text = std::fs::read(machines.file(&format!("assets/{asset}/index.m3u8"))).ok()?;
    Some(m3u8_rs::parse_master_playlist_res(&text).expect("a multivariant playlist"))
}

/// All texts published for an asset. A kill may leave files behind that were never finished; their names have a `#`.
pub fn texts(machines: &Machines, asset: &str) -> HashMap<String, String> {
    let folder = machines.file(&format!("assets/{asset}"));
    let Ok(entries) = std::fs::read_dir(folder) else { return HashMap::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.to_string_lossy().contains('#'))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap().replace(asset, "ASSET"))
        })
        .collect()
}

/// Checks that what is published is closed, complete and there.
pub fn is_whole(machines: &Machines, asset: &str, seconds: u32) {
    let all = multivariant(machines, asset).expect("a multivariant playlist");
    let heights = |iframes: bool| -> Vec<u64> {
        let of_kind = all.variants.iter().filter(|v| v.is_i_frame == iframes);
        of_kind.map(|v| v.resolution.unwrap().height).collect()
    };
    assert_eq!((heights(false), heights(true)), (vec![360, 480, 720], vec![360]));
    let plain = all.variants.iter().filter(|v| !v.is_i_frame);
    assert!(plain.map(|v| v.codecs.as_deref()).all(|codecs| codecs == Some("avc1.64001f,mp4a.40.2")));
    let sound = all.alternatives.iter().filter(|a| a.media_type == AlternativeMediaType::Audio);
    let sound = sound.map(|a| a.uri.clone().unwrap());
    let folder = machines.file(&format!("assets/{asset}"));
    for uri in all.variants.iter().map(|v| v.uri.clone()).chain(sound) {
        let list = media_playlist(machines, asset, uri.trim_end_matches(".m3u8")).unwrap();
        assert!(list.end_list && list.playlist_type == Some(MediaPlaylistType::Event));
        let length: f32 = list.segments.iter().map(|s| s.duration).sum();
        assert!((length - seconds as f32).abs() < 0.05, "{uri} lasts {length} s");
        names_what_is_there(&folder, &list);
    }
    let storyboard = std::fs::read_to_string(folder.join("storyboard.vtt")).expect("a storyboard");
    let cues: Vec<&str> =
        storyboard.lines().filter_map(|line| line.split_once("#xywh=")).map(|c| c.0).collect();
    // One a second, or half as many, and so on: a hundred at most.
    let every = seconds.div_ceil(100).next_power_of_two();
    assert_eq!(cues.len(), seconds.div_ceil(every) as usize);
    assert!(cues.iter().all(|sheet| folder.join(sheet).is_file()));
}

pub fn names_what_is_there(folder: &Path, list: &MediaPlaylist) {
    let init = list.segments[0].map.as_ref().unwrap();
    for uri in list.segments.iter().map(|s| &s.uri).chain([&init.uri]) {
        assert!(folder.join(uri).is_file(), "{uri} is named but not there");
    }
}

async fn start(
    seconds: u32,
    act: impl Fn(u32) -> Act + Send + Sync + 'static,
) -> (Machines, Coordinator, Worker) {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--retry-after-ms", "20"]).await;
    let worker = Worker::start(&machines, seconds, move |task| {
        let what = act(task.number.0);
        async move { what }
    })
    .await;
    (machines, coordinator, worker)
}

#[tokio::test]
async fn an_upload_is_published_as_it_grows_and_closed_when_complete() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--edge-url", "https://edge.example/"]).await;
    // The index, and the tasks that make it playable.
    let gate = Arc::new(Semaphore::new(5));
    let hand = gate.clone();
    let _worker = Worker::start(&machines, 40, move |_| {
        let hand = hand.clone();
        async move {
            hand.acquire().await.unwrap().forget();
            Act::DoTwice
        }
    })
    .await;
    let caller = Caller::of(&coordinator);
    let mut told = Box::pin(machines.bus().await.subscribe_published().await.unwrap());
    let id = caller.put(vec![7; 100_000]).await;

    let growing = until("a playlist that grows", async || {
        let asset = caller.asset(&id).await;
        (asset["playable"] == true).then_some(asset)
    })
    .await;
    assert_eq!(growing["state"], "processing");
    assert_eq!(growing["duration_seconds"], 40.0);
    assert_eq!(growing["source"]["video_codec"], "h264");
    assert_eq!(growing["renditions"].as_array().unwrap().len(), 4);
    assert_eq!(growing["playback"]["url"], format!("https://edge.example/assets/{id}/index.m3u8"));
    let announced = tokio::time::timeout(DEADLINE, told.next()).await.expect("edges are told").unwrap();
    assert_eq!(announced.to_string(), id);
    let before = media_playlist(&machines, &id, "v360").expect("the first rung goes first");
    assert!(!before.end_list && !before.segments.is_empty());
    names_what_is_there(&machines.file(&format!("assets/{id}")), &before);
    assert!(growing["progress"].as_f64().unwrap() < 1.0);

    gate.add_permits(1000);
    let ready = caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 40);
    let closing = tokio::time::timeout(DEADLINE, told.next()).await.expect("edges are told again").unwrap();
    assert_eq!(closing.to_string(), id);
    let after = media_playlist(&machines, &id, "v360").unwrap();
    assert_eq!(after.segments[..before.segments.len()], before.segments[..], "a playlist only grows");
    assert_eq!(ready["progress"], 1.0);
    assert!(ready["renditions"].as_array().unwrap().iter().all(|r| r["progress"] == 1.0));
    for moment in ["received_at", "playable_at", "completed_at"] {
        assert!(ready["timings"][moment].is_string(), "{moment}");
    }
    let described: Value = serde_json::from_str(&texts(&machines, &id)["presentation.json"]).unwrap();
    assert_eq!(described["complete"], true);

    coordinator.counts("assets_total{state=\"ready\"} 1").await;
    coordinator.counts("playable_seconds_count 1").await;
    assert_eq!(coordinator.stop().await, Some(0));
}

#[tokio::test]
async fn a_poisonous_task_fails_its_asset_after_five_attempts() {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = attempts.clone();
    let (machines, coordinator, _worker) = start(20, move |task| {
        if task != 5 {
            return Act::Do;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Act::Fail(FailureCode::Limit)
    })
    .await;
    let caller = Caller::of(&coordinator);
    let began = Instant::now();
    let id = caller.put(vec![1; 1000]).await;
    let failed = caller.reaches(&id, "failed").await;
    assert_eq!(failed["error"]["code"], "limit");
    assert_eq!(failed["error"]["reason"], "as the test wants");
    assert_eq!(failed["playable"], false);
    assert_eq!(attempts.load(Ordering::Relaxed), 5);
    // Pauses of 20, 80, 320 and 1280 ms, give or take a quarter.
    assert!(began.elapsed() > Duration::from_millis(1200), "five attempts in {:?}", began.elapsed());
    until("its playlists to be taken back", async || texts(&machines, &id).is_empty().then_some(())).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_told_at_once() {
    let (_machines, coordinator, _worker) = start(8, |_| Act::Fail(FailureCode::NotMedia)).await;
    let caller = Caller::of(&coordinator);
    let id = caller.put(b"this is no video".to_vec()).await;
    let failed = caller.reaches(&id, "failed").await;
    assert_eq!(failed["error"]["code"], "not_media");
    assert!(failed["timings"]["playable_at"].is_null());
}

#[tokio::test]
async fn output_that_was_not_planned_is_another_failed_attempt() {
    let botched = Arc::new(Mutex::new(Vec::new()));
    let seen = botched.clone();
    let (machines, coordinator, _worker) = start(12, move |task| {
        let mut seen = seen.lock().unwrap();
        if seen.contains(&task) {
            return Act::Do;
        }
        seen.push(task);
        Act::Botch
    })
    .await;
    let caller = Caller::of(&coordinator);
    let id = caller.put(vec![2; 1000]).await;
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 12);
    assert!(botched.lock().unwrap().len() > 3);
}

#[tokio::test]
async fn a_task_that_is_handed_out_in_vain_gets_another_epoch() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let _worker = Worker::start(&machines, 8, async |task| {
        let lost = matches!(task.work, Work::Video { .. }) && task.number == TaskNumber(1) && task.epoch < 3;
        if lost { Act::PutBack } else { Act::Do }
    })
    .await;
    let caller = Caller::of(&coordinator);
    let id = caller.put(vec![3; 1000]).await;
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 8);
    let outputs = machines.bus().await.bucket::<Value>(BucketName::Outputs).await.unwrap();
    let (first, _) = outputs.get(&format!("{id}.1")).await.unwrap().unwrap();
    assert_eq!(first["epoch"], 3);
}

#[tokio::test]
async fn two_coordinators_share_the_work() {
    let machines = Machines::start().await;
    let one = machines.coordinator(&[]).await;
    let two = machines.coordinator(&[]).await;
    let _workers = (Worker::diligent(&machines, 60).await, Worker::diligent(&machines, 60).await);
    let (caller, other) = (Caller::of(&one), Caller::of(&two));
    let mut ids = Vec::new();
    for n in 0..4u8 {
        ids.push(if n % 2 == 0 { caller.put(vec![n; 5000]).await } else { other.put(vec![n; 5000]).await });
    }
    for id in &ids {
        caller.reaches(id, "ready").await;
        other.reaches(id, "ready").await;
        is_whole(&machines, id, 60);
    }
    let same: Vec<_> = ids.iter().map(|id| texts(&machines, id)).collect();
    assert!(same.windows(2).all(|pair| pair[0] == pair[1]));

    // Both know all of them, newest first, page by page.
    ids.reverse();
    let listed = until("the list", async || {
        let page: Value =
            other.request("GET", "/v1/assets?limit=3").send().await.unwrap().json().await.unwrap();
        (page["assets"].as_array()?.len() == 3).then_some(page)
    })
    .await;
    let after = listed["next"].as_str().unwrap();
    let rest = other.request("GET", &format!("/v1/assets?limit=3&after={after}")).send().await.unwrap();
    let rest: Value = rest.json().await.unwrap();
    let all =
        [listed["assets"].as_array().unwrap().clone(), rest["assets"].as_array().unwrap().clone()].concat();
    let all: Vec<String> = all.iter().map(|a| a["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(all, ids);
    assert!(rest["next"].is_null());
}

#[tokio::test]
async fn events_tell_of_progress_and_end_with_the_asset() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let id = caller.put(vec![4; 1000]).await;
    let path = format!("/v1/assets/{id}/events");
    let mut response = caller.request("GET", &path).send().await.unwrap();
    assert_eq!(crate::client::header(&response, "content-type"), "text/event-stream");
    let _worker = Worker::diligent(&machines, 60).await;
    let mut text = String::new();
    let whole = tokio::time::timeout(DEADLINE, async {
        while let Some(chunk) = response.chunk().await.unwrap() {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    });
    whole.await.expect("the stream ends with the asset");
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert!(text.contains("event: asset") && text.contains("id: "));
    let steps: Vec<f64> = events.iter().map(|e| e["progress"].as_f64().unwrap()).collect();
    assert!(steps.len() >= 3, "{steps:?}");
    assert!(steps.is_sorted() && steps.iter().any(|p| *p > 0.0 && *p < 1.0), "{steps:?}");
    assert_eq!(events.last().unwrap()["state"], "ready");

    // Asked for after the end, it tells the end and ends.
    let late = caller.request("GET", &path).send().await.unwrap().text().await.unwrap();
    assert_eq!(late.matches("event: asset").count(), 1);
    assert!(id.parse::<AssetId>().is_ok());
}

#[tokio::test]
async fn closing_makes_sure_of_the_playlists_and_forgets_the_records() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let _worker = Worker::diligent(&machines, 20).await;
    let caller = Caller::of(&coordinator);
    let (upload, id) = caller.create(500).await;
    assert_eq!(caller.patch(&upload, 0, &[5; 500]).await.status(), 204);
    caller.reaches(&id, "ready").await;
    let published = texts(&machines, &id);

    // A coordinator that hung for long has written an old text last.
    std::fs::write(machines.file(&format!("assets/{id}/v360.m3u8")), "#EXTM3U\n").unwrap();
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let engine = Engine::open(
        machines.bus().await,
        machines.store.clone(),
        SignedDuration::from_secs(1),
        Default::default(),
        metrics,
        TaskTracker::new(),
        CancellationToken::new(),
    );
    let engine = engine.await.unwrap();
    let asset: AssetId = id.parse().unwrap();
    let (record, _) = engine.assets.get(asset).await.unwrap().unwrap();
    engine.perform(&record, &[Effect::Close]).await.unwrap();
    assert!(texts(&machines, &id) == published);
    let (record, _) = engine.assets.get(asset).await.unwrap().unwrap();
    assert!(record.is_closed());
    assert!(engine.outputs.list(&format!("{id}.*")).await.unwrap().is_empty());
    assert_eq!(caller.tus("HEAD", &upload).send().await.unwrap().status(), 404);

    // Again, by somebody who does not know yet.
    engine.perform(&record, &[Effect::Close]).await.unwrap();
    assert!(texts(&machines, &id) == published);
    assert_eq!(caller.asset(&id).await["state"], "ready");
}
