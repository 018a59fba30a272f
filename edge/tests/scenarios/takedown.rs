//! A takedown reaches memory, disk, fills and streams, and outlasts any restart.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use reelmill_edge::cache::DiskSettings;
use reelmill_edge::process::Settings;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::bus::Bus;
use reelmill_platform::kv::Revision;
use reelmill_platform::purge::{Target, Tombstone};
use reelmill_platform::receipt::Receipt;
use reelmill_platform::topology::BucketName;
use tokio::time::{sleep, timeout};

use crate::nats::Nats;
use crate::origin::Origin;
use crate::world::{Via, World, assert_problem, asset, noise, path_of, read_rest};

pub async fn take_down(bus: &Bus, target: Target) -> (Tombstone, Revision) {
    let tombstone = Tombstone { target, reason: "test".into(), at: Timestamp::now() };
    let revision = tombstone.publish(bus).await.unwrap();
    (tombstone, revision)
}

async fn receipts(bus: &Bus, (tombstone, revision): &(Tombstone, Revision)) -> Vec<Receipt> {
    let bucket = bus.bucket::<Receipt>(BucketName::Receipts).await.unwrap();
    let begun = Instant::now();
    loop {
        let found = bucket.list(&Receipt::all_for(&tombstone.mark().to_string(), revision.0)).await.unwrap();
        if !found.is_empty() {
            return found.into_iter().map(|(_, receipt)| receipt).collect();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no receipt");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn segment(world: &World, length: usize, seed: u64) -> (BlobHash, Bytes, String) {
    let bytes = noise(length, seed);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    (hash, bytes, path_of(&hash, BlobKind::Segment))
}

fn with_disk(bus: Bus) -> impl FnOnce(&mut Settings, &std::path::Path) {
    move |settings, folder| {
        settings.bus = Some(bus);
        settings.disk = Some(DiskSettings { folder: folder.join("cache"), capacity_bytes: 64 << 20 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reaches_memory_disk_fills_and_streams() {
    let nats = Nats::start();
    let (coordinator, bus) = (nats.bus().await, nats.observer().await);
    let origin = Origin::new();
    let world = World::with(Some(origin.store()), with_disk(bus));
    let (held, bytes, held_path) = segment(&world, 300_000, 1).await;
    assert!(*world.get(Via::Http3, &held_path).await.body() == bytes);
    world.until_metric("disk_writes_total", &[("outcome", "stored")], 1).await;
    let hash = held.to_string();
    let file = world.folder.path().join("cache").join(&hash[..2]).join(format!("{hash}.m4s"));
    assert!(file.exists());

    // One that is being filled, with a viewer waiting for the rest.
    let (filling, _, filling_path) = segment(&world, 1 << 20, 2).await;
    origin.release(200_000);
    let h3 = world.h3().await;
    let mut waiting = h3.begin(Method::GET, &filling_path, HeaderMap::new()).await.unwrap();
    assert_eq!(waiting.recv_response().await.unwrap().status(), 200);
    let begun = Instant::now();
    let first = take_down(&coordinator, Target::Blob { hash: filling }).await;
    let read = timeout(Duration::from_secs(5), read_rest(&mut waiting)).await.unwrap();
    println!("a stream in flight was reset {:?} after the takedown", begun.elapsed());
    assert!(read.is_err());
    assert_eq!(receipts(&coordinator, &first).await[0].dropped, 1);
    world.until_metric("fills_total", &[("outcome", "purged")], 1).await;
    // One that is whole, with a viewer who does not take it.
    origin.release(u64::MAX);
    let (large, _, large_path) = segment(&world, 24 << 20, 3).await;
    let mut slow = h3.begin(Method::GET, &large_path, HeaderMap::new()).await.unwrap();
    assert_eq!(slow.recv_response().await.unwrap().status(), 200);
    world.until_metric("fills_total", &[("outcome", "stored")], 2).await;

    for hash in [held, large] {
        let takedown = take_down(&coordinator, Target::Blob { hash }).await;
        assert_eq!(receipts(&coordinator, &takedown).await[0].edge, "test-edge");
    }
    assert!(read_rest(&mut slow).await.is_err());
    assert!(!file.exists());
    let reads = origin.reads().len();
    for (via, path) in Via::ALL.into_iter().zip([&held_path, &filling_path, &large_path, &held_path]) {
        assert_problem(&world.get(via, path).await, 410);
    }
    assert_eq!(origin.reads().len(), reads, "the origin is not asked for what is taken down");
    assert_eq!(world.metric("takedowns_total", &[]), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_goes_with_its_blobs_and_may_come_back() {
    let nats = Nats::start();
    let (coordinator, bus) = (nats.bus().await, nats.observer().await);
    let world = World::with(None, |settings, _| settings.bus = Some(bus));
    let (hash, bytes, path) = segment(&world, 1000, 4).await;
    let playlist = keys::multivariant_playlist(asset());
    world.store.put_object(&playlist, Bytes::from_static(b"#EXTM3U\n#EXT-X-ENDLIST\n")).await.unwrap();
    let playlist = format!("/{playlist}");
    assert_eq!(world.get(Via::Http3, &playlist).await.status(), 200);
    // One that can never be finished does not hold up others.
    let missing = Target::Asset { asset: AssetId::from_parts(1, 1), blobs: Some(BlobHash::of(b"nowhere")) };
    take_down(&coordinator, missing).await;
    let list = serde_json::to_vec(&[hash]).unwrap();
    let blobs = Some(world.store.put_blob(BlobKind::Record, list.into()).await.unwrap());
    let takedown = take_down(&coordinator, Target::Asset { asset: asset(), blobs }).await;
    receipts(&coordinator, &takedown).await;
    assert_problem(&world.get(Via::Http2, &playlist).await, 410);
    assert_problem(&world.get(Via::Http2, &path).await, 410);

    let bucket = coordinator.bucket::<Tombstone>(BucketName::Tombstones).await.unwrap();
    bucket.remove(&takedown.0.mark().to_string()).await.unwrap();
    let begun = Instant::now();
    while world.get(Via::Http1, &path).await.status() != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(*world.get(Via::Http3, &path).await.body() == bytes);
    assert_eq!(world.get(Via::Http3, &playlist).await.status(), 200);
}

/// What was taken down while an edge was away, and while NATS was away when it came back, is not served from its disk.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_rises_from_the_disk_of_an_edge_that_was_away() {
    let mut nats = Nats::start();
    let coordinator = nats.bus().await;
    let mut world = World::with(None, with_disk(nats.observer().await));
    let (gone, _, gone_path) = segment(&world, 200_000, 5).await;
    let (kept, bytes, kept_path) = segment(&world, 200_000, 6).await;
    for path in [&gone_path, &kept_path] {
        assert_eq!(world.get(Via::Http3, path).await.status(), 200);
    }
    world.until_metric("disk_writes_total", &[("outcome", "stored")], 2).await;
    world.begin_drain().await;
    let takedown = take_down(&coordinator, Target::Blob { hash: gone }).await;
    for hash in [gone, kept] {
        std::fs::remove_file(world.file(&keys::blob(&hash, BlobKind::Segment))).unwrap();
    }
    nats.kill();
    let old = world.folder.path().to_path_buf();
    let bus = nats.observer().await;
    let again = World::with(Some(world.store.clone()), |settings, _| {
        settings.bus = Some(bus);
        settings.disk = Some(DiskSettings { folder: old.join("cache"), capacity_bytes: 64 << 20 });
    });
    // The disk has both, and the edge does not know yet which it may serve, and to whom.
    for path in [&gone_path, &kept_path] {
        assert_problem(&again.get(Via::Http3, path).await, 503);
    }
    nats.restart();
    receipts(&nats.bus().await, &takedown).await;
    let begun = Instant::now();
    while again.get(Via::Http3, &kept_path).await.status() != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(20)).await;
    }
    assert!(*again.get(Via::Http2, &kept_path).await.body() == bytes);
    assert_problem(&again.get(Via::Http3, &gone_path).await, 410);
}

/// One from a newer version, say: nobody knows what it says, but its key names what is meant.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_obeyed_by_its_key_and_has_no_receipt() {
    let nats = Nats::start();
    let (coordinator, bus) = (nats.bus().await, nats.observer().await);
    let world = World::with(None, with_disk(bus));
    let (_, _, kept_path) = segment(&world, 100_000, 1).await;
    let (named, _, named_path) = segment(&world, 100_000, 2).await;
    let (hash, _, hash_path) = segment(&world, 100_000, 3).await;
    let index = keys::multivariant_playlist(asset());
    let text = format!("#EXTM3U\n{}\n", keys::blob_from_playlist(&named, BlobKind::Segment));
    world.store.put_object(&index, Bytes::from(text)).await.unwrap();
    let index_path = format!("/{index}");
    for path in [&kept_path, &named_path, &hash_path, &index_path] {
        assert_eq!(world.get(Via::Http3, path).await.status(), 200);
    }
    let bucket = coordinator.bucket::<serde_json::Value>(BucketName::Tombstones).await.unwrap();
    let unread = serde_json::json!({ "target": { "kind": "of another day" } });
    let marks = [format!("blob.{hash}"), format!("asset.{}", asset()), "galaxy.1".to_owned()];
    for mark in &marks {
        bucket.put(mark, &unread).await.unwrap();
    }
    world.until_metric("unreadable_tombstones_total", &[], marks.len() as u64).await;
    for path in [&hash_path, &index_path, &named_path] {
        assert_problem(&world.get(Via::Http3, path).await, 410);
    }
    assert_eq!(world.get(Via::Http3, &kept_path).await.status(), 200);
    let receipts = coordinator.bucket::<Receipt>(BucketName::Receipts).await.unwrap();
    assert!(receipts.list(">").await.unwrap().is_empty());
    for mark in &marks {
        bucket.remove(mark).await.unwrap();
    }
    let begun = Instant::now();
    while world.get(Via::Http3, &index_path).await.status() != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is still down");
    }
}
