//! Collecting garbage while others put, name and forget the same blobs, and while the store fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use reelmill_coordinator::garbage::{Counts, Cutoff, Marks, collect};
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::store::Store;

/// Blobs that come and go.
const BLOBS: u32 = 24;

fn content(n: u32) -> Bytes {
    Bytes::from(format!("blob {n}"))
}

fn hash(n: u32) -> BlobHash {
    BlobHash::of(&content(n))
}

/// A store in whose every step others may put a blob and name it, or forget one, and which may go away at any step.
#[derive(Debug)]
struct Crowd {
    inner: InMemory,
    named: Mutex<BTreeSet<u32>>,
    random: Mutex<SmallRng>,
    /// One in so many steps is disturbed; 0 for none.
    disturbed: AtomicI64,
    /// Steps until it goes away.
    left: AtomicI64,
    /// Whether a blob comes back from the trash once it was not found in its place.
    restores: AtomicBool,
}

impl std::fmt::Display for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store in a crowd")
    }
}

impl Crowd {
    fn new(seed: u64) -> Arc<Crowd> {
        Arc::new(Crowd {
            inner: InMemory::new(),
            named: Mutex::default(),
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
            disturbed: AtomicI64::new(0),
            left: AtomicI64::new(i64::MAX),
            restores: AtomicBool::new(false),
        })
    }

    async fn step(&self) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(Error::Generic { store: "test", source: "gone away".into() });
        }
        let one_in = self.disturbed.load(Ordering::Relaxed);
        let (comes, n) = {
            let mut random = self.random.lock().unwrap();
            if one_in == 0 || random.random_range(0..one_in) != 0 {
                return Ok(());
            }
            (random.random_bool(0.7), random.random_range(0..BLOBS))
        };
        if comes {
            let key = Path::from(keys::blob(&hash(n), BlobKind::Segment));
            self.inner.put_opts(&key, content(n).into(), PutOptions::default()).await?;
            self.named.lock().unwrap().insert(n);
        } else {
            self.named.lock().unwrap().remove(&n);
        }
        Ok(())
    }

    fn is_named(&self, n: u32) -> bool {
        self.named.lock().unwrap().contains(&n)
    }
}

#[async_trait]
impl ObjectStore for Crowd {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.step().await?;
        let got = self.inner.get_opts(location, options).await;
        if got.is_err() && self.restores.swap(false, Ordering::Relaxed) {
            let trash = Path::from(keys::in_trash(location.as_ref()).unwrap());
            self.inner.rename(&trash, location).await?;
        }
        got
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.step().await?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // Only its steps before and after count: nothing waits inside of a removal.
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.step().await?;
        self.inner.copy_opts(from, to, options).await?;
        // Between the copy and the removal.
        self.step().await
    }
}

/// Collects once, by the names that stand now. Everything counts as old: whatever is unnamed may go at once, which is
/// worse than any clock can make it.
async fn collect_all(crowd: &Crowd, store: &Store) -> std::result::Result<Counts, String> {
    let mut marks = Marks::default();
    crowd.named.lock().unwrap().iter().for_each(|n| marks.add(&hash(*n)).unwrap());
    let always = Timestamp::now() + SignedDuration::from_hours(1);
    let cutoff = Cutoff { put: always, moved: always };
    let mut counts = Counts::default();
    for first in (0..BLOBS).map(|n| hash(n).digest()[0]).collect::<BTreeSet<_>>() {
        let named = marks.beginning(first).unwrap();
        counts.add(collect(store, first, &named, cutoff).await.map_err(|e| e.to_string())?);
    }
    Ok(counts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_named_is_never_lost_whoever_comes_between(
        seed: u64, lives in prop::collection::vec((0i64..6, 1i64..120), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let crowd = Crowd::new(seed);
            let store = Store::over(crowd.clone());
            for n in 0..BLOBS {
                store.put_blob(BlobKind::Segment, content(n)).await.unwrap();
                if n % 3 == 0 {
                    crowd.named.lock().unwrap().insert(n);
                }
            }
            for (disturbed, left) in lives {
                crowd.disturbed.store(disturbed, Ordering::Relaxed);
                crowd.left.store(left, Ordering::Relaxed);
                let ended = collect_all(&crowd, &store).await;
                crowd.disturbed.store(0, Ordering::Relaxed);
                crowd.left.store(i64::MAX, Ordering::Relaxed);
                for n in (0..BLOBS).filter(|n| crowd.is_named(*n)) {
                    let blob = store.get_blob(BlobKind::Segment, hash(n)).await;
                    prop_assert!(blob.is_ok(), "{n} is lost: {blob:?}, after {ended:?}");
                }
            }
            // Left alone, the named ones are in their place and the others are gone.
            for _ in 0..2 {
                collect_all(&crowd, &store).await.unwrap();
            }
            let keys: BTreeSet<String> = store.list("blobs").map(|item| item.unwrap().key).collect().await;
            let named = (0..BLOBS).filter(|n| crowd.is_named(*n));
            prop_assert_eq!(keys, named.map(|n| keys::blob(&hash(n), BlobKind::Segment)).collect());
            let trash = store.list("trash").filter(|item| {
                std::future::ready(!item.as_ref().unwrap().key.ends_with(".since"))
            });
            prop_assert_eq!(trash.count().await, 0);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn what_is_new_stays_and_the_trash_is_kept_as_long() {
    let crowd = Crowd::new(1);
    let store = Store::over(crowd.clone());
    let blob = hash(1);
    let (first, key) = (blob.digest()[0], keys::blob(&blob, BlobKind::Segment));
    let tree = keys::hash_tree(&blob, BlobKind::Segment);
    store.put_blob(BlobKind::Segment, content(1)).await.unwrap();
    store.put_object(&tree, Bytes::from_static(b"its tree")).await.unwrap();
    let named = Marks::default().beginning(first).unwrap();
    let put = store.modified(&tree).await.unwrap().unwrap();
    let (before, after) = (SignedDuration::from_secs(-3600), SignedDuration::from_secs(3600));

    let young = Cutoff { put: put + before, moved: put + after };
    let counts = collect(&store, first, &named, young).await.unwrap();
    assert_eq!(counts, Counts { seen: 2, ..Counts::default() });

    let old = Cutoff { put: put + after, moved: put + after };
    let counts = collect(&store, first, &named, old).await.unwrap();
    assert_eq!((counts.moved, counts.moved_bytes), (2, content(1).len() as u64 + 8));
    assert_eq!(store.modified(&key).await.unwrap(), None);

    // It was moved a moment ago: whoever named it meanwhile may not have said so yet.
    let fresh = Cutoff { moved: put + before, ..old };
    assert_eq!(collect(&store, first, &named, fresh).await.unwrap(), Counts::default());
    assert!(store.get_blob(BlobKind::Segment, blob).await.is_ok(), "read from the trash");

    let counts = collect(&store, first, &named, old).await.unwrap();
    assert_eq!((counts.removed, counts.removed_bytes), (2, content(1).len() as u64 + 8));
    assert!(store.get_blob(BlobKind::Segment, blob).await.is_err());
}

#[tokio::test]
async fn who_reads_a_blob_as_it_comes_back_finds_it() {
    let crowd = Crowd::new(1);
    let store = Store::over(crowd.clone());
    let key = keys::blob(&hash(1), BlobKind::Segment);
    store.put_blob(BlobKind::Segment, content(1)).await.unwrap();
    for opens in [false, true] {
        store.move_object(&key, &keys::in_trash(&key).unwrap()).await.unwrap();
        crowd.restores.store(true, Ordering::Relaxed);
        if opens {
            assert!(store.open_blob(BlobKind::Segment, hash(1), 0).await.is_ok());
        } else {
            assert!(store.get_blob(BlobKind::Segment, hash(1)).await.is_ok());
        }
    }
}
