//! Why a blob was not here.

use std::time::Instant;

use jiff::Timestamp;
use reelmill_platform::purge::{Target, Tombstone};
use reelmill_platform::topology::BucketName;

use crate::nats::Nats;
use crate::origin::Origin;
use crate::pop::{joined, segments};
use crate::world::{Via, World};

#[tokio::test(flavor = "multi_thread")]
async fn each_miss_has_its_reason() {
    let (nats, origin) = (Nats::start(), Origin::new());
    let coordinator = nats.bus().await;
    let (path, _) = segments(&origin.store(), 1, 3100).await.remove(0);
    let misses = |edge: &World| {
        ["cold", "evicted", "purged"].map(|reason| edge.metric("misses_total", &[("reason", reason)]))
    };
    // Room for one of the larger ones, at most.
    let small = World::with(Some(origin.store()), |settings, _| settings.cache_bytes = 400_000);
    let many = segments(&origin.store(), 5, 3200).await;
    let begun = Instant::now();
    while misses(&small)[1] == 0 {
        for (path, _) in &many {
            assert_eq!(small.get(Via::Http3, path).await.status(), 200);
        }
        assert!(begun.elapsed().as_secs() < 10, "nothing had to make room");
    }
    assert_eq!((misses(&small)[0], misses(&small)[2]), (5, 0));

    let edge = joined(origin.store(), &nats, "ams-1").await;
    assert_eq!(edge.get(Via::Http3, &path).await.status(), 200);
    edge.until_metric("fills_total", &[("outcome", "stored")], 1).await;
    let hash = path.rsplit('/').next().unwrap().strip_suffix(".m4s").unwrap().parse().unwrap();
    let tombstone = Tombstone { target: Target::Blob { hash }, reason: "test".into(), at: Timestamp::now() };
    tombstone.publish(&coordinator).await.unwrap();
    edge.until_metric("takedowns_total", &[], 1).await;
    let bucket = coordinator.bucket::<Tombstone>(BucketName::Tombstones).await.unwrap();
    bucket.remove(&tombstone.mark().to_string()).await.unwrap();
    let begun = Instant::now();
    while edge.get(Via::Http3, &path).await.status() != 200 {
        assert!(begun.elapsed().as_secs() < 10, "it is still down");
    }
    assert_eq!(misses(&edge), [1, 0, 1]);
}
