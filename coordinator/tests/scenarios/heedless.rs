//! On an S3 server that makes nothing of conditions, as Garage does, nobody hears of a rival from the store. Nothing rests on
//! that: who is first is settled in NATS, and a blob that is put again is put with the same bytes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use reelmill_e2e::s3::S3;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::store::{Store, StoreError};
use serde_json::Value;

use crate::client::{Caller, uploaded_bytes};
use crate::garbage::block;
use crate::life::{is_whole, texts};
use crate::machines::{Machines, until};
use crate::s3::objects_on;
use crate::uploads::bytes;
use crate::worker::Worker;

/// More than any blob here has.
const MAX_BYTES: u64 = 64 << 20;

#[tokio::test]
async fn it_lets_everybody_win() {
    let folder = tempfile::tempdir().unwrap();
    for heeds in [true, false] {
        let place = folder.path().join(heeds.to_string());
        let server = if heeds { S3::start(&place) } else { S3::heedless(&place) };
        let objects = objects_on(&server);
        let key = Path::from("a/b");
        let put = async |text: &'static str, mode: PutMode| {
            let options = PutOptions { mode, ..PutOptions::default() };
            objects.put_opts(&key, Bytes::from(text).into(), options).await
        };
        let first = put("first", PutMode::Create).await.unwrap();
        let second = put("second", PutMode::Create).await;
        let seen = UpdateVersion { e_tag: first.e_tag, version: None };
        put("third", PutMode::Overwrite).await.unwrap();
        let fourth = put("fourth", PutMode::Update(seen)).await;
        let stands = objects.get(&key).await.unwrap().bytes().await.unwrap();
        if heeds {
            assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
            assert!(matches!(fourth, Err(Error::Precondition { .. })), "{fourth:?}");
            assert_eq!(stands, "third");
        } else {
            assert!(second.is_ok() && fourth.is_ok(), "{second:?}, {fourth:?}");
            assert_eq!(stands, "fourth");
        }
    }
}

/// Every blob that lies in its place, and is not just collected, has the bytes that its name says; gives their keys.
async fn blobs(store: &Store) -> BTreeSet<String> {
    let listed: Vec<String> = store.list("blobs").map_ok(|found| found.key).try_collect().await.unwrap();
    for key in &listed {
        match store.get_object(key, MAX_BYTES).await {
            Ok(bytes) => assert_eq!(Some(BlobHash::of(&bytes)), keys::hash_of(key), "{key} has other bytes"),
            Err(error) => assert!(matches!(error, StoreError::NotFound { .. }), "{key}: {error}"),
        }
    }
    listed.into_iter().collect()
}

/// Everything that is published of an asset can be read, wherever it lies at this moment.
async fn plays(machines: &Machines, asset: &str) {
    let texts = texts(machines, asset);
    assert!(texts.contains_key("index.m3u8"), "{:?}", texts.keys());
    let names: BTreeSet<&str> = texts.values().flat_map(|text| text.split(['"', '\n', '#'])).collect();
    let named = names.into_iter().filter_map(|name| name.strip_prefix("../../"));
    let read = named.map(async |key| {
        let kind = BlobKind::from_extension(key.rsplit('.').next().unwrap()).unwrap();
        let blob = machines.store.get_blob(kind, keys::hash_of(key).unwrap()).await;
        assert!(blob.is_ok(), "{key}: {blob:?}");
    });
    assert!(join_all(read).await.len() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_from_many_at_once_are_stored_once_and_each_has_them() {
    let machines = Machines::on_heedless_s3().await;
    let coordinators = [machines.coordinator(&[]).await, machines.coordinator(&[]).await];
    let callers = coordinators.each_ref().map(Caller::of);
    let _worker = Worker::diligent(&machines, 20).await;
    let sent = bytes(9_000_000);
    let over = AtomicBool::new(false);
    // Whoever reads meanwhile gets what is named, whole.
    let reading = async {
        while !over.load(Ordering::Relaxed) {
            blobs(&machines.store).await;
        }
    };
    let writing = async {
        let uploads = (0..8).map(async |n| {
            let caller = &callers[n % 2];
            if n < 4 {
                return caller.put(sent.clone()).await;
            }
            let (upload, asset) = caller.create(sent.len()).await;
            // The second part comes by way of the other coordinator.
            assert_eq!(caller.patch(&upload, 0, &sent[..8 << 20]).await.status(), 204);
            assert_eq!(callers[1 - n % 2].patch(&upload, 8 << 20, &sent[8 << 20..]).await.status(), 204);
            asset
        });
        let assets = join_all(uploads).await;
        for asset in &assets {
            callers[0].reaches(asset, "ready").await;
        }
        over.store(true, Ordering::Relaxed);
        assets
    };
    let ((), assets) = tokio::join!(reading, writing);

    for asset in &assets {
        is_whole(&machines, asset, 20);
        assert!(uploaded_bytes(&machines, asset).await == sent);
    }
    let page: Value = callers[1].request("GET", "/v1/assets").send().await.unwrap().json().await.unwrap();
    let listed: BTreeSet<&str> =
        page["assets"].as_array().unwrap().iter().map(|asset| asset["id"].as_str().unwrap()).collect();
    assert_eq!(page["assets"].as_array().unwrap().len(), assets.len(), "nothing comes twice");
    assert_eq!(listed, assets.iter().map(String::as_str).collect());
    // One more of the same adds nothing but a record of its own, at most.
    let before = blobs(&machines.store).await;
    let again = callers[0].put(sent.clone()).await;
    callers[0].reaches(&again, "ready").await;
    let sources = |all: &BTreeSet<String>| all.iter().filter(|key| key.ends_with(".block")).count();
    let after = blobs(&machines.store).await;
    assert_eq!(sources(&before), sources(&after));
    plays(&machines, &again).await;
}

#[tokio::test]
async fn what_comes_again_while_it_is_collected_is_there_to_stay() {
    const GRACE: [&str; 2] = ["--garbage-grace-s", "2"];
    let machines = Machines::on_heedless_s3().await;
    let coordinators = [machines.coordinator(&GRACE).await, machines.coordinator(&GRACE).await];
    let callers = coordinators.each_ref().map(Caller::of);
    let _worker = Worker::diligent(&machines, 8).await;
    let sent = bytes(3000);
    let trash = keys::in_trash(&block(&sent)).unwrap();
    let collected = async || machines.store.modified(keys::LAST_COLLECTION).await.unwrap();
    for round in 0..3 {
        let (sender, other) = (&callers[round % 2], &callers[1 - round % 2]);
        let asset = sender.put(sent.clone()).await;
        other.reaches(&asset, "ready").await;
        plays(&machines, &asset).await;
        // Where it has come again, two collections take what they are ever going to take.
        for _ in 0..if round == 0 { 0 } else { 2 } {
            let before = collected().await;
            until("a collection", async || (collected().await > before).then_some(())).await;
        }
        plays(&machines, &asset).await;
        assert!(uploaded_bytes(&machines, &asset).await == sent);
        let path = format!("/v1/assets/{asset}");
        assert_eq!(other.request("DELETE", &path).send().await.unwrap().status(), 204);
        // The same bytes come again as they are moved to the trash, and then as they leave it for good.
        until("its block to move", async || machines.file(&trash).exists().then_some(())).await;
        if round == 1 {
            until("its block to go", async || (!machines.file(&trash).exists()).then_some(())).await;
        }
    }
    blobs(&machines.store).await;
}
