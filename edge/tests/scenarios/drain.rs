//! A drain finishes what is in flight and takes nothing more.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::Method;
use reelmill_media::keys::BlobKind;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::world::{World, noise, path_of, read_rest};

const LENGTH: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn downloads_in_flight_are_finished_over_h3_and_h2() {
    // Far longer than the downloads take, also on a busy machine.
    let mut world = World::with_grace(Duration::from_secs(120));
    let bytes = noise(LENGTH, 8);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);

    let h3 = world.h3().await;
    let mut over_h3 = h3.begin(Method::GET, &path, Default::default()).await.unwrap();
    assert_eq!(over_h3.recv_response().await.unwrap().status(), 200);
    let mut over_h2 = world.download_h2(&path).await;
    let (mut got_h3, mut got_h2) = (BytesMut::new(), BytesMut::new());
    got_h2.extend(over_h2.chunk().await.unwrap().unwrap());

    let over = tokio::spawn(world.begin_drain());
    sleep(Duration::from_millis(500)).await;
    assert!(!over.is_finished(), "two downloads are in flight");
    assert!(TcpStream::connect(world.addresses.listen).await.is_err(), "new TCP connections are refused");
    let late = h3.send(Method::GET, "/player/icon.svg", Default::default()).await;
    assert!(late.is_err(), "after GOAWAY there are no new requests");

    while let Some(mut piece) = over_h3.recv_data().await.unwrap() {
        got_h3.extend(piece.copy_to_bytes(piece.remaining()));
    }
    while let Some(piece) = over_h2.chunk().await.unwrap() {
        got_h2.extend(piece);
    }
    assert!(got_h3 == bytes && got_h2 == bytes);
    timeout(Duration::from_secs(10), over).await.unwrap().unwrap();
    assert_eq!(world.metric("aborted_responses_total", &[]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_has_an_end_and_half_a_body_does_not_look_whole() {
    let mut world = World::with_grace(Duration::from_millis(300));
    let hash = world.store.put_blob(BlobKind::Segment, noise(LENGTH, 9)).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let h3 = world.h3().await;
    let mut over_h3 = h3.begin(Method::GET, &path, Default::default()).await.unwrap();
    assert_eq!(over_h3.recv_response().await.unwrap().status(), 200);
    let over_h2 = world.download_h2(&path).await;
    timeout(Duration::from_secs(3), world.begin_drain()).await.unwrap();
    assert!(read_rest(&mut over_h3).await.is_err());
    assert!(over_h2.bytes().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_hold_a_drain_up() {
    let mut world = World::new();
    let h3 = world.h3().await;
    assert_eq!(h3.send(Method::GET, "/player/icon.svg", Default::default()).await.unwrap().status(), 200);
    let _idle = TcpStream::connect(world.addresses.plain_listen.unwrap()).await.unwrap();
    let _h2 = world.download_h2("/player/icon.svg").await.bytes().await.unwrap();
    timeout(Duration::from_secs(3), world.begin_drain()).await.unwrap();
    assert!(matches!(
        h3.connection.closed().await,
        quinn::ConnectionError::ApplicationClosed(close) if close.error_code == 0x100u32.into()
    ));
}
