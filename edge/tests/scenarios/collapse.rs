//! However many ask for a cold blob, the origin is asked once.

use futures_util::future::join_all;
use http::{Method, header};
use reelmill_media::keys::BlobKind;

use crate::world::{Via, World, noise, path_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_viewers_of_a_cold_blob_cost_one_read() {
    let world = World::new();
    let bytes = noise(4 << 20, 6);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    world.h3().await;
    let viewers = (0..100).map(|viewer| {
        let (world, path) = (&world, &path);
        async move {
            let range = format!("bytes={}-{}", viewer * 1000, viewer * 1000 + 99);
            world.send(Via::ALL[viewer % 4], Method::GET, path, &[(header::RANGE, &range)]).await
        }
    });
    for (viewer, response) in join_all(viewers).await.into_iter().enumerate() {
        assert_eq!(response.status(), 206);
        assert!(*response.body() == bytes[viewer * 1000..viewer * 1000 + 100]);
    }
    assert_eq!(world.metric("origin_reads_total", &[("what", "blob")]), 1);
    assert_eq!(world.metric("requests_total", &[("lookup", "origin")]), 1);
    let waited = world.metric("requests_total", &[("lookup", "joined")]);
    let held = world.metric("requests_total", &[("lookup", "memory")]);
    assert_eq!(waited + held, 99);
    world.until_metric("cache_bytes", &[], 4 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_survives_the_viewer_who_began_it() {
    let world = World::new();
    let hash = world.store.put_blob(BlobKind::Segment, noise(32 << 20, 7)).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let h3 = world.h3().await;
    let mut stream = h3.begin(Method::GET, &path, Default::default()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    drop(stream);
    assert_eq!(world.get(Via::Http2, &path).await.status(), 200);
    assert_eq!(world.metric("origin_reads_total", &[("what", "blob")]), 1);
}
