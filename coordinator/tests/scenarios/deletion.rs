//! Assets that their owners take away.

use reelmill_media::ids::AssetId;
use reelmill_media::task::Class;
use reelmill_platform::purge::{Mark, Tombstone};
use reelmill_platform::topology::BucketName;
use serde_json::Value;

use crate::client::{Caller, is_problem};
use crate::life::texts;
use crate::machines::{Machines, OTHER_KEY, until};
use crate::worker::{Act, Worker};

#[tokio::test]
async fn a_deleted_asset_is_gone_at_once_whatever_it_was_doing() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let stranger = Caller::with_key(&coordinator, OTHER_KEY);
    // It becomes playable, and no more.
    let worker = Worker::start(&machines, 40, async |task| match task.class {
        Class::Publish => Act::Do,
        Class::Ladder => std::future::pending().await,
    })
    .await;
    let growing = caller.put(vec![1; 1000]).await;
    until("playlists", async || (caller.asset(&growing).await["playable"] == true).then_some(())).await;
    let blobs = files(&machines.file("blobs"));

    let path = format!("/v1/assets/{growing}");
    is_problem(stranger.request("DELETE", &path).send().await.unwrap(), 404, "unknown_asset").await;
    let events = caller.request("GET", &format!("{path}/events")).send().await.unwrap();
    for _ in 0..2 {
        assert_eq!(caller.request("DELETE", &path).send().await.unwrap().status(), 204);
        assert!(texts(&machines, &growing).is_empty());
    }
    is_problem(caller.request("GET", &path).send().await.unwrap(), 410, "asset_gone").await;
    assert!(events.text().await.unwrap().contains("\"state\":\"deleted\""), "listeners are told");
    assert_eq!(files(&machines.file("blobs")), blobs, "blobs may be shared");
    let page: Value = caller.request("GET", "/v1/assets").send().await.unwrap().json().await.unwrap();
    assert_eq!(page["assets"], Value::Array(Vec::new()));
    // Edges are told to drop it.
    let id: AssetId = growing.parse().unwrap();
    let tombstones = machines.bus().await.bucket::<Tombstone>(BucketName::Tombstones).await.unwrap();
    assert!(tombstones.get(&Mark::Asset(id).to_string()).await.unwrap().is_some());
    // Nobody works on it any more: a new worker finds nothing.
    drop(worker);
    let queue = machines.bus().await.tasks(Class::Ladder);
    assert!(queue.try_next().await.unwrap().is_none());

    // Before its bytes have come, and after everything was made.
    let (upload, early) = caller.create(100).await;
    assert_eq!(caller.request("DELETE", &format!("/v1/assets/{early}")).send().await.unwrap().status(), 204);
    is_problem(caller.patch(&upload, 0, &[0; 100]).await, 410, "upload_gone").await;
    let _worker = Worker::diligent(&machines, 8).await;
    let ready = caller.put(vec![2; 1000]).await;
    caller.reaches(&ready, "ready").await;
    assert_eq!(caller.request("DELETE", &format!("/v1/assets/{ready}")).send().await.unwrap().status(), 204);
    assert!(texts(&machines, &ready).is_empty());
}

fn files(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}
