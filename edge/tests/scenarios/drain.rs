//! A drain finishes what is in flight and takes nothing more.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::Method;
use quinn::{ConnectionError, ReadError};
use reelmill_media::keys::BlobKind;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::origin::Origin;
use crate::priorities::ask;
use crate::relay::relay;
use crate::world::{World, noise, path_of, quic, quic_client_with, read_rest, tls_client};

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
        ConnectionError::ApplicationClosed(close) if close.error_code == 0x100u32.into()
    ));
}

/// RFC 9114 §5.2: a client that does not hear in time goes on asking in vain.
#[tokio::test(flavor = "multi_thread")]
async fn goaway_goes_before_what_is_in_hand() {
    let mut world = World::with_grace(Duration::from_secs(120));
    let hash = world.store.put_blob(BlobKind::Segment, noise(LENGTH, 10)).await.unwrap();
    let relay = relay(world.addresses.listen).await;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window((LENGTH as u32).into());
    let client = quic_client_with(tls_client(&[&world.certificate()], b"h3"), transport);
    let connection = client.connect(relay.address, "edge.test").unwrap().await.unwrap();
    let mut control = connection.accept_uni().await.unwrap();
    // Much more of the answer is in QUIC's hands than the path takes now.
    const IN_HAND: u64 = 1 << 20;
    relay.answers.send_replace(false);
    let mut answer = ask(&connection, &path_of(&hash, BlobKind::Segment), None).await;
    while world.metric("body_bytes_total", &[]) < IN_HAND {
        tokio::task::yield_now().await;
    }
    let over = tokio::spawn(world.begin_drain());
    while TcpStream::connect(world.addresses.listen).await.is_ok() {}
    relay.answers.send_replace(true);
    let (mut said, mut received, mut heard) = (Vec::new(), 0, false);
    while !heard {
        tokio::select! {
            biased;
            chunk = control.read_chunk(usize::MAX, true) => {
                said.extend_from_slice(&chunk.unwrap().unwrap().bytes);
                // After SETTINGS, whose length is in the third byte: type, length, the highest number there is.
                let settings = said.get(2).map_or(0, |length| 3 + usize::from(*length));
                let goaway = [0x07, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc];
                heard = said.get(settings..).is_some_and(|after| after.starts_with(&goaway));
            }
            chunk = answer.read_chunk(usize::MAX, true) => {
                received += chunk.unwrap().unwrap().bytes.len() as u64;
            }
        }
    }
    assert!(received < IN_HAND / 2, "{received} bytes came before GOAWAY");
    drop((control, answer));
    connection.close(0u32.into(), b"");
    timeout(Duration::from_secs(10), over).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_room_for_goaway_holds_nobody_up() {
    let origin = Origin::new();
    let mut world = World::with(Some(origin.store()), |_, _| {});
    let bytes = noise(1 << 20, 11);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let h3 = world.h3().await;
    // SETTINGS fit in, and nothing after them.
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(12u32.into());
    let client = quic_client_with(tls_client(&[&world.certificate()], b"h3"), transport);
    let hostile = client.connect(world.addresses.listen, "edge.test").unwrap().await.unwrap();

    // Both wait for the same first bytes, and neither gets more than a little before the other has as much.
    origin.release(1000);
    let _never_read = ask(&hostile, &path, None).await;
    let mut stream = h3.begin(Method::GET, &path, Default::default()).await.unwrap();
    while origin.reads().is_empty() {
        tokio::task::yield_now().await;
    }
    let over = tokio::spawn(world.begin_drain());
    // As much of it as fits in is on its way, in a frame after that of SETTINGS.
    while hostile.stats().frame_rx.stream < 2 {
        tokio::task::yield_now().await;
    }
    origin.release(u64::MAX);
    stream.recv_response().await.unwrap();
    assert!(timeout(Duration::from_secs(5), read_rest(&mut stream)).await.unwrap().unwrap() == bytes);
    hostile.close(0u32.into(), b"");
    timeout(Duration::from_secs(10), over).await.unwrap().unwrap();
}

/// The highest number that a request's stream can have (RFC 9114 §5.2).
pub const LAST_STREAM: u64 = (1 << 62) - 4;

/// What the edge's GOAWAYs say until it ends the connection in good order.
pub async fn goaways(mut control: quinn::RecvStream) -> Vec<u64> {
    let mut said = Vec::new();
    let end = loop {
        match control.read_chunk(usize::MAX, true).await {
            Ok(chunk) => said.extend_from_slice(&chunk.unwrap().bytes),
            Err(end) => break end,
        }
    };
    let ReadError::ConnectionLost(ConnectionError::ApplicationClosed(end)) = end else { return vec![] };
    assert_eq!(end.error_code, 0x100u32.into());
    // SETTINGS, whose length is in the third byte, then frames of a type, a length and a number (RFC 9000 §16).
    let (mut frames, mut numbers) = (&said[3 + usize::from(said[2])..], Vec::new());
    while let [0x07, length, rest @ ..] = frames {
        let (number, rest) = rest.split_at((*length).into());
        let bytes = [&[0; 8][number.len()..], &[number[0] & 0x3f], &number[1..]].concat();
        numbers.push(u64::from_be_bytes(bytes.try_into().unwrap()));
        frames = rest;
    }
    numbers
}

/// Only who knows which request was the last knows that a later one may be made again elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_under_way_hears_which_request_was_the_last() {
    let mut world = World::new();
    let connection = quic(&world).await;
    ask(&connection, "/player/icon.svg", None).await.read_to_end(100_000).await.unwrap();
    let control = connection.accept_uni().await.unwrap();
    let over = tokio::spawn(world.begin_drain());
    assert_eq!(goaways(control).await, [LAST_STREAM, 4]);
    timeout(Duration::from_secs(10), over).await.unwrap().unwrap();
}
