//! What one client takes too much of, or too slowly, costs others nothing.

use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, Method, header};
use quinn::ConnectionError;
use reelmill_edge::clients::ClientLimits;
use reelmill_media::keys::BlobKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use crate::origin::Origin;
use crate::world::{
    CLIENT, H3Client, Via, World, assert_problem, field, noise, path_of, quic_client, read_rest,
};

const ICON: &str = "/player/icon.svg";
/// RFC 9114 §8.1
const H3_EXCESSIVE_LOAD: u32 = 0x107;

fn limited(client: ClientLimits) -> World {
    World::with(None, |settings, _| settings.client = client)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections() {
    let world = limited(ClientLimits { connections: 4, ..CLIENT });
    let plain = world.addresses.plain_listen.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(plain).await.unwrap());
    }
    let h3 = H3Client::connect(&world).await;
    assert_eq!(h3.send(Method::GET, ICON, HeaderMap::new()).await.unwrap().status(), 200);
    let mut fifth = TcpStream::connect(plain).await.unwrap();
    let closed = timeout(Duration::from_secs(5), fifth.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)));
    assert_eq!(world.metric("excesses_total", &[("what", "connections")]), 1);
    held.clear();
    let begun = std::time::Instant::now();
    while reqwest::get(format!("http://{plain}{ICON}")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the places are free again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_requests_over_all_protocols() {
    let world = limited(ClientLimits { requests_per_second: 10, ..CLIENT });
    let mut refused = 0;
    for number in 0..40 {
        let response = world.get(Via::ALL[number % 4], ICON).await;
        if response.status() == 429 {
            assert_problem(&response, 429);
            assert_eq!(field(&response, header::RETRY_AFTER), "1");
            refused += 1;
        }
    }
    assert!(refused > 5, "{refused} of 40");
    assert_eq!(world.metric("excesses_total", &[("what", "requests")]), refused);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(world.get(Via::Http3, ICON).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_handshakes() {
    let world = limited(ClientLimits { handshakes_per_second: 5, ..CLIENT });
    let plain = world.addresses.plain_listen.unwrap();
    let attempts = join_all((0..30).map(|_| async {
        let mut stream = TcpStream::connect(plain).await.ok()?;
        stream.write_all(format!("GET {ICON} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
        stream.read_exact(&mut [0; 12]).await.ok()
    }));
    let served = attempts.await.into_iter().flatten().count();
    assert!((10..20).contains(&served), "{served} of 30");
    // QUIC clients whose address is only claimed so far are asked to prove it, and then they are served.
    sleep(Duration::from_millis(500)).await;
    let h3 = H3Client::connect(&world).await;
    assert_eq!(h3.send(Method::GET, ICON, HeaderMap::new()).await.unwrap().status(), 200);
}

/// Anybody can put another's address on first packets.
#[tokio::test(flavor = "multi_thread")]
async fn forged_first_packets_take_no_connections_from_who_is_really_there() {
    const CONNECTIONS: usize = 4;
    let world = limited(ClientLimits { connections: CONNECTIONS, ..CLIENT });
    let client = quic_client(&[&world.certificate()]);
    let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    forger.connect(world.addresses.listen).await.unwrap();
    for _ in 0..2 * CONNECTIONS {
        let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let begun = client.connect(nobody.local_addr().unwrap(), "edge.test").unwrap();
        let mut packet = [0; 2048];
        let length = nobody.recv(&mut packet).await.unwrap();
        drop(begun);
        // It goes no further than that.
        forger.send(&packet[..length]).await.unwrap();
        timeout(Duration::from_secs(5), forger.recv(&mut packet)).await.unwrap().unwrap();
    }
    let mut real = Vec::new();
    for _ in 0..CONNECTIONS {
        let h3 = H3Client::connect(&world).await;
        assert_eq!(h3.send(Method::GET, ICON, HeaderMap::new()).await.unwrap().status(), 200);
        real.push(h3);
    }
    let one_more = client.connect(world.addresses.listen, "edge.test").unwrap().await;
    assert!(matches!(one_more, Err(ConnectionError::ConnectionClosed(_))), "{one_more:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_given_up_ends_the_connection() {
    let origin = Origin::new();
    let world = World::with(Some(origin.store()), |settings, _| {
        settings.client = ClientLimits { resets_per_second: 5, ..CLIENT };
    });
    let bytes = noise(1 << 20, 1);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    origin.release(100_000);
    let (honest, hostile) = (H3Client::connect(&world).await, H3Client::connect(&world).await);
    let mut waiting = honest.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
    waiting.recv_response().await.unwrap();
    let flood = async {
        while let Ok(mut stream) = hostile.begin(Method::GET, &path, HeaderMap::new()).await {
            stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
        }
    };
    timeout(Duration::from_secs(10), flood).await.unwrap();
    // The reason may be lost on the way; then the next packet is answered with a stateless reset.
    match hostile.connection.closed().await {
        ConnectionError::ApplicationClosed(close) => assert_eq!(close.error_code, H3_EXCESSIVE_LOAD.into()),
        other => assert_eq!(other, ConnectionError::Reset),
    }
    assert_eq!(world.metric("excesses_total", &[("what", "resets")]), 1);
    origin.release(u64::MAX);
    assert!(read_rest(&mut waiting).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_too_slowly_is_let_go_and_who_waits_for_the_origin_is_not() {
    let origin = Origin::new();
    let world = World::with(Some(origin.store()), |settings, _| {
        let slow_for = Duration::from_secs(2);
        settings.client = ClientLimits { least_bytes_per_second: 100_000, slow_for, ..CLIENT };
    });
    let hash = world.store.put_blob(BlobKind::Segment, noise(48 << 20, 2)).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    // Held in memory first.
    assert_eq!(world.send(Via::Http3, Method::HEAD, &path, &[]).await.status(), 200);
    world.until_metric("fills_total", &[("outcome", "stored")], 1).await;

    let h3 = H3Client::connect(&world).await;
    let mut over_h3 = h3.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
    over_h3.recv_response().await.unwrap();
    let mut over_http1 = TcpStream::connect(world.addresses.plain_listen.unwrap()).await.unwrap();
    over_http1.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let over_h2 = world.download_h2(&path).await;

    origin.release(100_000);
    let cold = noise(1 << 20, 3);
    let waited = world.store.put_blob(BlobKind::Segment, cold.clone()).await.unwrap();
    let patient = H3Client::connect(&world).await;
    let mut stream =
        patient.begin(Method::GET, &path_of(&waited, BlobKind::Segment), HeaderMap::new()).await.unwrap();
    stream.recv_response().await.unwrap();
    world.until_metric("excesses_total", &[("what", "slow")], 3).await;
    assert!(read_rest(&mut over_h3).await.is_err());
    assert!(over_h2.bytes().await.is_err());
    origin.release(u64::MAX);
    assert!(read_rest(&mut stream).await.unwrap() == cold);
}
