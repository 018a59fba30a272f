//! An edge does not send a byte that is not its name's.

use reelmill_media::keys::{self, BlobKind};

use crate::world::{Via, World, assert_problem, noise, path_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_refused_counted_and_served_once_repaired() {
    let world = World::new();
    let bytes = noise(500_000, 4);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let file = world.file(&keys::blob(&hash, BlobKind::Segment));
    let path = path_of(&hash, BlobKind::Segment);

    let mut damaged = bytes.to_vec();
    damaged[250_000] ^= 1;
    let mut attempts = 0;
    // Without a hash tree nothing goes out before all of it is proven.
    std::fs::remove_file(world.file(&keys::hash_tree(&hash, BlobKind::Segment))).unwrap();
    for content in [&damaged[..], &bytes[..499_999], &[]] {
        std::fs::write(&file, content).unwrap();
        for via in Via::ALL {
            assert_problem(&world.get(via, &path).await, 502);
            attempts += 2;
            assert_eq!(world.metric("corrupt_blobs_total", &[]), attempts);
        }
    }

    std::fs::write(&file, &bytes).unwrap();
    assert!(*world.get(Via::Http3, &path).await.body() == bytes);
    // What is held was proven when it came in; the disk no longer matters.
    std::fs::write(&file, &damaged).unwrap();
    assert!(*world.get(Via::Http3, &path).await.body() == bytes);
    assert_eq!(world.metric("corrupt_blobs_total", &[]), attempts);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_breaks_is_a_503() {
    let world = World::new();
    let hash = world.store.put_blob(BlobKind::Segment, noise(1000, 5)).await.unwrap();
    let file = world.file(&keys::blob(&hash, BlobKind::Segment));
    std::fs::remove_file(&file).unwrap();
    // A link to itself can be found but not opened.
    std::os::unix::fs::symlink(&file, &file).unwrap();
    assert_problem(&world.get(Via::Http3, &path_of(&hash, BlobKind::Segment)).await, 503);
    assert_eq!(world.metric("fills_total", &[("outcome", "unavailable")]), 1);
}
