//! A cold blob goes out while it comes in, proven, and is asked for once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, Method, header};
use reelmill_media::keys::BlobKind;
use tokio::sync::Barrier;

use crate::origin::{Fault, Origin};
use crate::world::{
    H3Client, Via, World, assert_problem, noise, path_of, quic_client_with, read_rest, times, tls_client,
};

const GROUP: usize = 64 << 10;

async fn cold(origin: &Arc<Origin>, bytes: &Bytes) -> (World, String) {
    let world = World::with(Some(origin.store()), |_, _| {});
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    (world, path_of(&hash, BlobKind::Segment))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_viewers_of_one_cold_blob_have_bytes_before_the_origin_is_done() {
    const VIEWERS: usize = 1000;
    /// Handshakes at once: all of them in the same moment would not end in time on a small machine.
    const HANDSHAKES: usize = 32;
    const ORIGIN_TAKES: Duration = Duration::from_secs(3);
    let origin = Origin::new();
    let bytes = noise(4 << 20, 11);
    let world = World::with(Some(origin.store()), |settings, _| settings.max_connections = 2 * VIEWERS);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    origin.release(0);
    let connect = async |_| {
        let mut transport = quinn::TransportConfig::default();
        // The first ones wait for the last.
        transport.max_idle_timeout(None);
        let client = quic_client_with(tls_client(&[&world.certificate()], b"h3"), transport);
        H3Client::over(client.connect(world.addresses.listen, "edge.test").unwrap().await.unwrap()).await
    };
    let connections: Vec<H3Client> =
        stream::iter(0..VIEWERS).map(connect).buffered(HANDSHAKES).collect().await;
    let all_have_some = Barrier::new(VIEWERS + 1);
    let begun = Instant::now();
    let viewers = connections.iter().enumerate().map(|(viewer, h3)| {
        let (path, bytes, all_have_some) = (&path, &bytes, &all_have_some);
        async move {
            // Every tenth wants all of it: four gigabytes would only measure this machine.
            let wanted = if viewer % 10 == 0 { 0..bytes.len() } else { viewer..viewer + 2 * GROUP };
            let mut headers = HeaderMap::new();
            let range = format!("bytes={}-{}", wanted.start, wanted.end - 1);
            headers.insert(header::RANGE, range.parse().unwrap());
            let mut stream = h3.begin(Method::GET, path, headers).await.unwrap();
            assert_eq!(stream.recv_response().await.unwrap().status(), 206);
            let mut content = BytesMut::new();
            let mut piece = stream.recv_data().await.unwrap().unwrap();
            let first = begun.elapsed();
            content.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
            all_have_some.wait().await;
            content.extend(read_rest(&mut stream).await.unwrap());
            assert!(content == bytes[wanted]);
            first
        }
    });
    let judge = async {
        // An origin far away, which then stops after three groups until every viewer has something.
        tokio::time::sleep(ORIGIN_TAKES).await;
        origin.release(3 * GROUP as u64 + 5000);
        all_have_some.wait().await;
        assert_eq!(world.metric("fills_total", &[]), 0, "the fill is not complete");
        assert_eq!(world.metric("requests_total", &[("lookup", "origin")]), 1);
        assert_eq!(world.metric("requests_total", &[("lookup", "joined")]), VIEWERS as u64 - 1);
        origin.release(u64::MAX);
    };
    let (mut firsts, ()) = tokio::join!(join_all(viewers), judge);
    firsts.sort();
    println!(
        "first byte of {VIEWERS} viewers: first {:?}, median {:?}, last {:?}, {:.2} times the first; all after {:?}",
        firsts[0],
        firsts[VIEWERS / 2],
        firsts[VIEWERS - 1],
        firsts[VIEWERS - 1].as_secs_f64() / firsts[0].as_secs_f64(),
        begun.elapsed()
    );
    assert_eq!(origin.reads(), [0], "one read from the start");
    world.until_metric("fills_total", &[("outcome", "stored")], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_join_the_fill_and_come_as_soon_as_they_are_proven() {
    let origin = Origin::new();
    let bytes = noise(1 << 20, 12);
    let (world, path) = cold(&origin, &bytes).await;
    origin.release(5 * GROUP as u64);
    let h3 = world.h3().await;
    let range = async |first: usize, last: usize| {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, format!("bytes={first}-{last}").parse().unwrap());
        h3.begin(Method::GET, &path, headers).await.unwrap()
    };
    let mut early = range(GROUP - 10, 3 * GROUP + 9).await;
    assert_eq!(early.recv_response().await.unwrap().status(), 206);
    assert!(read_rest(&mut early).await.unwrap() == bytes[GROUP - 10..3 * GROUP + 10]);
    let mut late = range(1_000_000, 1_048_575).await;
    assert_eq!(late.recv_response().await.unwrap().status(), 206);
    let nothing = tokio::time::timeout(Duration::from_millis(100), late.recv_data()).await;
    assert!(nothing.is_err(), "these bytes are not here yet");
    origin.release(u64::MAX);
    assert!(read_rest(&mut late).await.unwrap() == bytes[1_000_000..]);
    assert_eq!(origin.reads(), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_may_leave() {
    let origin = Origin::new();
    let bytes = noise(1 << 20, 13);
    let (world, path) = cold(&origin, &bytes).await;
    origin.release(2 * GROUP as u64);
    let h3 = world.h3().await;
    let mut leader = h3.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
    leader.recv_response().await.unwrap();
    let mut follower = h3.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
    follower.recv_response().await.unwrap();
    leader.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    drop(leader);
    world.until_metric("aborted_responses_total", &[], 1).await;
    origin.release(u64::MAX);
    assert!(read_rest(&mut follower).await.unwrap() == bytes);
    assert_eq!(origin.reads(), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_midway_is_taken_up_where_it_stopped_once_for_all() {
    let origin = Origin::new();
    let bytes = noise(1 << 20, 14);
    let (world, path) = cold(&origin, &bytes).await;
    origin.plan([Fault::BreakOff { after: 5 * GROUP + 1000 }]);
    let viewers = (0..40).map(|viewer| world.get(Via::ALL[viewer % 4], &path));
    for response in join_all(viewers).await {
        assert!(*response.body() == bytes);
    }
    assert_eq!(origin.reads(), [0, 5 * GROUP as u64]);
    assert_eq!(world.metric("corrupt_blobs_total", &[]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_flipped_bit_gets_through_and_none_is_seen_by_viewers() {
    let origin = Origin::new();
    let mut seen = 0;
    let world = World::with(Some(origin.store()), |_, _| {});
    let flips = times("REELMILL_FLIPS", 3400) as usize;
    let content = noise(200_000 + flips, 100);
    for round in 0..flips {
        let length = [1000, 20_000, 65_536, 65_537, 131_073, 200_000][round % 6];
        let bytes = content.slice(round..round + length);
        let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        let byte = round * 5003 % bytes.len();
        origin.plan([Fault::Flip { byte, bit: round as u8 % 8 }]);
        let response = world.get(Via::ALL[round % 4], &path_of(&hash, BlobKind::Segment)).await;
        assert!(*response.body() == bytes);
        seen += 1;
        assert_eq!(world.metric("corrupt_blobs_total", &[]), seen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_damaged_for_good_ends_before_the_damage() {
    let origin = Origin::new();
    let bytes = noise(1 << 20, 15);
    let (world, path) = cold(&origin, &bytes).await;
    let flip = Fault::Flip { byte: 4 * GROUP, bit: 0 };
    origin.plan([flip, flip]);
    origin.release(GROUP as u64 + 10_000);
    let h3 = world.h3().await;
    let mut stream = h3.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    let mut content = BytesMut::new();
    let ended = loop {
        match stream.recv_data().await {
            Ok(Some(mut piece)) => content.extend_from_slice(&piece.copy_to_bytes(piece.remaining())),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        origin.release(u64::MAX);
    };
    assert!(ended.is_err(), "half a blob must not look whole");
    assert!(content.len() <= 4 * GROUP && content == bytes[..content.len()]);
    assert_eq!(world.metric("corrupt_blobs_total", &[]), 2);
    // The damage is not remembered.
    assert!(*world.get(Via::Http2, &path).await.body() == bytes);

    origin.plan([Fault::Flip { byte: 0, bit: 7 }, Fault::Flip { byte: 1, bit: 7 }]);
    let other = world.store.put_blob(BlobKind::Segment, noise(1 << 20, 16)).await.unwrap();
    assert_problem(&world.get(Via::Http1, &path_of(&other, BlobKind::Segment)).await, 502);
}
