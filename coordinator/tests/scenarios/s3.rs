//! A store on an S3 server of somebody else's is what one in a folder is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use reelmill_e2e::s3::{S3, Temper};
use reelmill_media::ids::{BlobHash, WorkerId};
use reelmill_media::keys::{self, BlobKind};
use reelmill_media::task::{Class, Outcome, TaskReport};
use reelmill_platform::bus::Queued;
use reelmill_platform::queue::Delivery;
use reelmill_platform::store::{Store, StoreError};
use reqwest::Url;

use crate::client::Caller;
use crate::life::is_whole;
use crate::machines::{Machines, until};
use crate::media;
use crate::worker::Worker;

/// The objects on such a server, as the library gives them.
pub fn objects_on(s3: &S3) -> Arc<dyn ObjectStore> {
    let options = s3.environment().map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()));
    let url = Url::parse(&s3.url()).unwrap();
    let (bucket, prefix) = object_store::parse_url_opts(&url, options).unwrap();
    Arc::new(PrefixStore::new(bucket, prefix))
}

/// The store on such a server, for this process.
pub fn store_on(s3: &S3) -> Store {
    Store::over(objects_on(s3))
}

async fn keys_in(store: &Store, folder: &str) -> BTreeSet<String> {
    store.list(folder).map_ok(|found| found.key).try_collect().await.unwrap()
}

/// What everything else is built on.
async fn is_as_it_says(store: Store) {
    store.check().await.unwrap();
    let (key, moved) = ("assets/one/index.m3u8", "trash/a b+c/index.m3u8");
    let get = async |key: &str| store.get_object(key, 100).await;
    let absent = |got: Result<Bytes, StoreError>| matches!(got, Err(StoreError::NotFound { .. }));
    assert!(absent(get(key).await) && store.modified(key).await.unwrap().is_none());
    store.delete_object(key).await.expect("what is not there is gone");
    store.move_object(key, moved).await.expect("what is gone is moved");
    for text in ["first", "and then another"] {
        store.put_object(key, Bytes::from(text)).await.unwrap();
        assert_eq!(get(key).await.unwrap(), text);
    }
    assert!(matches!(
        store.get_object(key, 15).await,
        Err(StoreError::TooLarge { bytes: 16, limit: 15, .. })
    ));
    let mut rest = store.open_object(key, 9, 100).await.unwrap();
    assert_eq!((rest.length(), rest.next().await.unwrap().unwrap()), (16, Bytes::from("another")));
    assert!(rest.next().await.unwrap().is_none());

    let put = store.modified(key).await.unwrap().unwrap();
    store.put_object(moved, Bytes::from("is replaced")).await.unwrap();
    store.move_object(key, moved).await.unwrap();
    assert!(absent(get(key).await));
    assert_eq!(get(moved).await.unwrap(), "and then another");
    let since = store.modified(moved).await.unwrap().unwrap();
    assert!(since >= put, "what is moved is at least as new");
    store.delete_object(moved).await.unwrap();
    assert!(absent(get(moved).await));

    // A blob that lies in the trash is still read.
    let content = Bytes::from_static(b"blob");
    let hash = store.put_blob(BlobKind::SourceBlock, content.clone()).await.unwrap();
    let place = keys::blob(&hash, BlobKind::SourceBlock);
    store.move_object(&place, &keys::in_trash(&place).unwrap()).await.unwrap();
    assert_eq!(store.get_blob(BlobKind::SourceBlock, hash).await.unwrap().bytes(), &content);
    let nobody = store.get_blob(BlobKind::SourceBlock, BlobHash::of(b"nobody's")).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { .. })));

    // More than a server tells at once, and neighbours whose names begin alike.
    let many: BTreeSet<String> = (0..1100).map(|n| format!("records/{n}.json")).collect();
    let puts = many.iter().map(|key| store.put_object(key, Bytes::from_static(b"{}")));
    stream::iter(puts).buffer_unordered(16).try_for_each(async |()| Ok(())).await.unwrap();
    store.put_object("records-2/x.json", Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(keys_in(&store, "records").await, many);
    assert!(keys_in(&store, "nothing").await.is_empty());
}

#[tokio::test]
async fn a_store_on_s3_is_as_one_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    is_as_it_says(Store::open(&format!("file://{}", folder.path().join("store").display())).unwrap()).await;
    for server in [S3::start(&folder.path().join("s3")), S3::heedless(&folder.path().join("heedless"))] {
        is_as_it_says(store_on(&server)).await;
    }
}

#[tokio::test]
async fn who_may_not_use_the_bucket_is_told_so_at_the_start() {
    let machines = Machines::on_s3().await;
    let rebuild = ["rebuild", "--store", &machines.store_url, "--nats", &machines.nats_url];
    let mut stranger = machines.program();
    stranger.args(rebuild).env("AWS_SECRET_ACCESS_KEY", "another");
    let ended = stranger.output().await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("SignatureDoesNotMatch"), "{said}");
}

#[tokio::test]
async fn what_a_coordinator_that_was_killed_had_in_hand_another_deals_with() {
    let machines = Machines::on_s3().await;
    let coordinator = machines.coordinator(&[]).await;
    let id = Caller::of(&coordinator).put(vec![1; 10_000]).await;
    let bus = machines.bus().await;
    let (tasks, reports) = (bus.tasks(Class::Publish), bus.reports());
    let Delivery { message: task, lease, .. } =
        until("the first task", async || tasks.try_next().await.unwrap()).await;
    let index = Bytes::from(postcard::to_stdvec(&media::index(20)).unwrap());
    let index = machines.store.put_blob(BlobKind::Record, index).await.unwrap();
    let outcome = Outcome::Indexed { index, upto: None };
    let worker = WorkerId::from_parts(1, 1);
    let report = TaskReport { asset: task.asset, number: task.number, epoch: task.epoch, worker, outcome };

    // It holds on to the report, since what it makes of it cannot be stored.
    machines.s3().becomes(Temper::Slow(Duration::from_secs(3600)));
    bus.publish_report(&report).await.unwrap();
    lease.done().await.unwrap();
    until("the coordinator to have the report in hand", async || match reports.try_next().await.unwrap() {
        Some(report) => report.lease.give_back(Duration::ZERO).await.map(|()| None).unwrap(),
        None => Some(()),
    })
    .await;
    assert_eq!(bus.publish_report(&report).await.unwrap(), Queued::Already);
    coordinator.kill().await;
    machines.s3().becomes(Temper::Willing);

    let coordinator = machines.coordinator(&[]).await;
    let _worker = Worker::diligent(&machines, 20).await;
    Caller::of(&coordinator).reaches(&id, "ready").await;
    is_whole(&machines, &id, 20);
}
